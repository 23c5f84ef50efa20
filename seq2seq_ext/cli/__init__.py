"""The command ``seq2seq-ext``."""

import os
import sys
from collections.abc import Sequence

from seq2seq_ext.cli import evaluate, info, train, translate
from seq2seq_ext.cli.parser import Parser
from seq2seq_ext.training import TrainingInterrupted

_COMMANDS = {"train": train, "evaluate": evaluate, "translate": translate, "info": info}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; a user's mistake is one line on stderr and the exit status 2.

    Args:
        arguments: those behind the program's name; None means the process's own.

    Returns:
        The exit status: 0, 2 for a mistake, 128 + signal for an interruption.
    """
    parser = Parser("seq2seq-ext", description="Recurrent sequence-to-sequence models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in _COMMANDS.items():
        about = command.__doc__ or ""
        help = about.splitlines()[0]
        command.add_arguments(commands.add_parser(name, help=help, description=about))
    try:
        options = parser.parse_args(arguments)
        _COMMANDS[options.command].run(options)
        sys.stdout.flush()
        return 0
    except TrainingInterrupted as interruption:
        print(f"seq2seq-ext: {interruption}", file=sys.stderr)
        return 128 + interruption.signal
    except KeyboardInterrupt:
        print("seq2seq-ext: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader left; Python must not try to flush to it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (ValueError, ImportError) as error:
        return _fail(str(error))


def _fail(message: str) -> int:
    print(f"seq2seq-ext: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
