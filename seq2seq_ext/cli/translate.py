"""Translates lines of text, or the .npy files that they name if the model reads features.

With --n-best 1 an output line holds a translation; with more, or with --scores, it holds the
number of the input line, the score and the translation, separated by tabs.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from seq2seq_ext.cli.parser import add_machine, add_search, existing, search_options, set_threads
from seq2seq_ext.files import atomic_write
from seq2seq_ext.plotting import plot_alignment, require_matplotlib
from seq2seq_ext.text.corpus import lines_of, read_lines, read_tsv
from seq2seq_ext.text.features import read_features
from seq2seq_ext.training.distributed import choose_device
from seq2seq_ext.translator import Translation, Translator

# Lines decoded before their results are written: a pipe sees progress, sorting by length pays.
_CHUNK = 2048
# Frames of features from one number under a picture to the next.
_FRAMES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("input", nargs="?", type=Path, help="text file (standard input)")
    parser.add_argument("--output", type=Path, help="file to write (standard output)")
    parser.add_argument("--n-best", type=int, default=1, help="translations of each line")
    parser.add_argument("--scores", action="store_true", help="write scores with --n-best 1 too")
    parser.add_argument(
        "--replace-unknown",
        action="store_true",
        help="put the source's token that the model looked at where it had none",
    )
    parser.add_argument(
        "--lexicon", type=Path, help="what these become: a file of lines source TAB target"
    )
    parser.add_argument("--plot", type=Path, help="folder for heatmaps of the attention (PNG)")
    add_search(parser)
    add_machine(parser)


def run(arguments: argparse.Namespace) -> None:
    set_threads(arguments.threads)
    if arguments.plot is not None:
        require_matplotlib()
        arguments.plot.mkdir(parents=True, exist_ok=True)
    translator = load_translator(arguments)
    if arguments.input is None or str(arguments.input) == "-":
        lines = lines_of(sys.stdin.buffer.read(), "standard input")
    else:
        lines = read_lines(arguments.input)
    if arguments.lexicon is not None and not arguments.replace_unknown:
        raise ValueError("--lexicon: expected --replace-unknown with it")
    lexicon = None
    if arguments.lexicon is not None:
        lexicon = {str(source): target for source, target in read_tsv(arguments.lexicon)}
    results = _translate(translator, lines, lexicon, arguments)
    if arguments.output is None:
        for text in results:
            print(text)
        return
    with atomic_write(arguments.output) as file:
        file.writelines(f"{text}\n" for text in results)


def load_translator(arguments: argparse.Namespace) -> Translator:
    """The model that the arguments name, on their device."""
    translator = Translator(
        existing(arguments.model), batch_size=arguments.batch_size, dtype=arguments.dtype
    )
    translator.parts.model.to(choose_device(arguments.device))
    return translator


def _translate(
    translator: Translator,
    lines: list[str],
    lexicon: dict[str, str] | None,
    arguments: argparse.Namespace,
) -> Iterator[str]:
    for begin in range(0, len(lines), _CHUNK):
        chunk = _sources(translator, lines[begin : begin + _CHUNK], arguments.input)
        translations = translator.translate(
            chunk,
            n_best=arguments.n_best,
            replace_unknown=arguments.replace_unknown,
            lexicon=lexicon,
            **search_options(arguments),
        )
        for number, (source, n_best) in enumerate(
            zip(chunk, translations, strict=True), start=begin + 1
        ):
            if not n_best:
                raise ValueError(f"line {number}: no hypothesis: the model's scores are no numbers")
            if arguments.plot is not None:
                _plot(arguments.plot / f"{number:06d}.png", translator, source, n_best[0])
            if arguments.n_best == 1 and not arguments.scores:
                yield n_best[0].text
                continue
            for translation in n_best:
                yield f"{number}\t{translation.score:.6f}\t{translation.text}"


def _sources(
    translator: Translator, lines: list[str], names: Path | None
) -> Sequence[str | Tensor]:
    """The lines, or the features in the files that they name, from their own folder on."""
    if translator.parts.source_vocabulary is not None:
        return lines
    folder = Path() if names is None else names.parent
    size = translator.parts.model.config.source_feature_size
    return [read_features(folder / line, size) for line in lines]


def _plot(
    path: Path, translator: Translator, source: str | Tensor, translation: Translation
) -> None:
    if translation.attention is None:
        raise ValueError("--plot: expected a model with attention")
    if isinstance(source, str):
        columns = translator.parts.tokenization.split_source(source)
    else:
        columns = [str(frame) if frame % _FRAMES == 0 else "" for frame in range(len(source))]
    if not columns:
        return
    # One row more than tokens if the hypothesis ended with EOS.
    ends = translation.attention.size(0) > len(translation.tokens)
    target = [*translation.tokens, "</s>"] if ends else translation.tokens
    plot_alignment(path, translation.attention, columns, target)
