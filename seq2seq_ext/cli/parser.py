"""Arguments: a parser with one-line errors, and options made from dataclasses."""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

Options = TypeVar("Options")

_CONVERSIONS = {int: int, float: float, str: str, int | None: int, float | None: float}


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line (``--help`` shows the usage)."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        keywords = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter, **keywords}
        super().__init__(*arguments, **{**keywords, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def add_options(
    parser: argparse._ActionsContainer, kind: type, help: Mapping[str, str], prefix: str = ""
) -> None:
    """Adds an argument for each field of a dataclass that ``help`` explains."""
    for field in dataclasses.fields(kind):
        if field.name not in help:
            continue
        name = f"--{prefix}{field.name}".replace("_", "-")
        if field.type is bool:
            parser.add_argument(
                name,
                action=argparse.BooleanOptionalAction,
                default=field.default,
                help=help[field.name],
            )
            continue
        parser.add_argument(
            name,
            type=_CONVERSIONS[field.type],  # type: ignore[index]
            default=field.default,
            choices=field.metadata.get("choices"),
            help=help[field.name],
        )


def field_help(kind: type) -> dict[str, str]:
    """The explanations that a dataclass keeps in its fields."""
    fields = dataclasses.fields(kind)
    return {field.name: field.metadata["help"] for field in fields if "help" in field.metadata}


def chosen(
    arguments: argparse.Namespace, help: Mapping[str, str], prefix: str = ""
) -> dict[str, Any]:
    """What :func:`add_options` parsed, by field."""
    prefix = prefix.replace("-", "_")
    return {name: getattr(arguments, prefix + name) for name in help}


def add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (torch's default)")
    parser.add_argument("--device", default=None, help="cpu or cuda (CUDA where it is)")


_MOST_THREADS = 1024  # far more end the process inside OpenMP


def set_threads(threads: int | None) -> None:
    if threads is None:
        return
    if not 1 <= threads <= _MOST_THREADS:
        raise ValueError(f"--threads: expected 1 to {_MOST_THREADS}, got {threads}")
    torch.set_num_threads(threads)


def add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--beam-size", type=int, default=5, help="hypotheses kept at each step")
    parser.add_argument("--max-length", type=int, default=100, help="longest output, in tokens")
    parser.add_argument(
        "--length-penalty", default="none", help="what divides scores: none, power or gnmt"
    )
    parser.add_argument("--alpha", type=float, default=1.0, help="exponent of the length penalty")
    parser.add_argument("--batch-size", type=int, default=64, help="texts decoded together")
    parser.add_argument(
        "--dtype", default="float32", help="how weights are stored: float32, bfloat16 or int8"
    )


def search_options(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("beam_size", "max_length", "length_penalty", "alpha")
    return {name: getattr(arguments, name) for name in names}


def existing(path: Path) -> Path:
    """The path, if something is there."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    return path
