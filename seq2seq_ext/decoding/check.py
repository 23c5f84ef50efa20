"""Checks of what a search is told; ``where`` begins the message."""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral

MAX_INT = 2**31 - 1


def check_int(where: str, name: str, value: object, low: int, high: int = MAX_INT) -> None:
    """An int in [low, high]; a bool is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{where}: {name}: expected an int, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{where}: {name}: expected an int from {low} to {high}, got {value}")


def check_number(where: str, name: str, value: object, low: float, high: float) -> None:
    """A finite number in [low, high]."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{where}: {name}: expected a number, got {value!r}")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{where}: {name}: expected a number from {low} to {high}, got {value}")


def check_choice(where: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{where}: {name}: expected one of {choices}, got {value!r}")


def check_bool(where: str, name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{where}: {name}: expected a bool, got {value!r}")


def token_tuple(where: str, name: str, value: object) -> tuple[int, ...]:
    """Any sequence of token ids as a tuple of ints."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{where}: {name}: expected a sequence of token ids, got {value!r}")
    tokens = tuple(value)
    for token in tokens:
        if not isinstance(token, Integral) or isinstance(token, bool):
            raise TypeError(f"{where}: {name}: expected token ids, got {token!r}")
        if not 0 <= int(token) <= MAX_INT:
            raise ValueError(
                f"{where}: {name}: expected token ids from 0 to {MAX_INT}, got {token}"
            )
    return tuple(int(token) for token in tokens)


def sequence_tuples(
    where: str, name: str, value: object, forbidden: Sequence[int] = ()
) -> tuple[tuple[int, ...], ...]:
    """Any sequence of nonempty sequences of token ids, none of them forbidden."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{where}: {name}: expected sequences of token ids, got {value!r}")
    sequences = tuple(token_tuple(where, name, each) for each in value)
    for each in sequences:
        if not each:
            raise ValueError(f"{where}: {name}: expected no empty sequence, got {sequences}")
        if used := set(each) & set(forbidden):
            raise ValueError(f"{where}: {name}: expected no EOS inside, got {sorted(used)}")
    return sequences
