"""Prints a model's error rates on pairs of texts.

All targets of one source are its references; the closest one counts.
"""

import argparse
from pathlib import Path

from seq2seq_ext.cli.data import add_corpus, read_corpus
from seq2seq_ext.cli.parser import add_machine, add_search, search_options, set_threads
from seq2seq_ext.cli.translate import load_translator
from seq2seq_ext.evaluation import evaluate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="folder of the model")
    add_corpus(parser, "test", "test pairs")
    add_search(parser)
    add_machine(parser)


def run(arguments: argparse.Namespace) -> None:
    set_threads(arguments.threads)
    translator = load_translator(arguments)
    pairs = read_corpus(arguments, "test", features=translator.parts.source_vocabulary is None)
    if not pairs:
        raise ValueError("--test: expected a TSV file, or --test-source and --test-target")
    rates = evaluate(translator, pairs, **search_options(arguments))
    print(f"sources              {rates.sequences}")
    print(f"token error rate     {rates.token_error_rate:.2%}")
    print(f"sequence error rate  {rates.sequence_error_rate:.2%}")
