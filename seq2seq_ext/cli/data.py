"""Corpora on the command line: one TSV file, or two parallel text files."""

import argparse
from pathlib import Path

from seq2seq_ext.text.corpus import Pair, read_parallel, read_tsv


def add_corpus(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    """Adds ``--name`` (TSV), ``--name-source`` and ``--name-target`` (parallel)."""
    parser.add_argument(f"--{name}", type=Path, help=f"{about}: source<TAB>target lines")
    parser.add_argument(f"--{name}-source", type=Path, help=f"{about}: source lines")
    parser.add_argument(f"--{name}-target", type=Path, help=f"{about}: target lines")


def read_corpus(arguments: argparse.Namespace, name: str) -> list[Pair]:
    """The pairs that the arguments name; none if they name nothing.

    Raises:
        ValueError: arguments that don't belong together, or a wrong file.
    """
    tsv, source, target = (getattr(arguments, name + end) for end in ("", "_source", "_target"))
    if (source is None) != (target is None) or (tsv is not None and source is not None):
        raise ValueError(f"--{name}: expected one TSV file, or --{name}-source and --{name}-target")
    if tsv is not None:
        return read_tsv(tsv)
    return [] if source is None else read_parallel(source, target)
