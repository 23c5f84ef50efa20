"""Corpora on the command line: one TSV file, or two parallel text files."""

import argparse
from pathlib import Path

from seq2seq_ext.text.corpus import Pair, read_parallel, read_tsv
from seq2seq_ext.text.features import load_sources


def add_corpus(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    """Adds ``--name`` (TSV), ``--name-source`` and ``--name-target`` (parallel)."""
    parser.add_argument(f"--{name}", type=Path, help=f"{about}: source<TAB>target lines")
    parser.add_argument(f"--{name}-source", type=Path, help=f"{about}: source lines")
    parser.add_argument(f"--{name}-target", type=Path, help=f"{about}: target lines")


def read_corpus(arguments: argparse.Namespace, name: str, *, features: bool = False) -> list[Pair]:
    """The pairs that the arguments name; none if they name nothing.

    With ``features`` a source is the name of a ``.npy`` file, from the corpus's folder on, and
    becomes what that holds.

    Raises:
        ValueError, TypeError: arguments that don't belong together, or a wrong file.
    """
    tsv, source, target = (getattr(arguments, name + end) for end in ("", "_source", "_target"))
    if (source is None) != (target is None) or (tsv is not None and source is not None):
        raise ValueError(f"--{name}: expected one TSV file, or --{name}-source and --{name}-target")
    if (path := source if tsv is None else tsv) is None:
        return []
    pairs = read_parallel(source, target) if tsv is None else read_tsv(tsv)
    return load_sources(pairs, path.parent) if features else pairs
