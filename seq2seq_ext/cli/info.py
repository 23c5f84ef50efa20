"""Prints what this build runs on, and what a model is made of."""

import argparse
from pathlib import Path

from seq2seq_ext.cli.parser import existing
from seq2seq_ext.info import info
from seq2seq_ext.model_folder import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", type=Path, help="folder of a model")


def run(arguments: argparse.Namespace) -> None:
    lines: dict[str, object] = dict(info())
    if arguments.model is not None:
        parts = load_model(existing(arguments.model))
        lines |= parts.model.config.to_dict()
        lines |= {f"{side}_tokens": getattr(parts.tokenization, side) for side in _SIDES}
        lines["parameters"] = f"{sum(p.numel() for p in parts.model.parameters()):,}"
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:{width}}  {value}")


_SIDES = ("source", "target")
