"""Wrong values for an argument, by what it should be: for the tests of bad input."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

HUGE = 10**12


@dataclass(frozen=True)
class Wanted:
    """What an argument should be: one value that fits, and many that don't."""

    good: Any
    bad: dict[str, Any]


def tensor(
    good: Tensor,
    *,
    free: tuple[int, ...] = (),
    optional: bool = False,
    but: tuple[str, ...] = (),
) -> Wanted:
    """A floating tensor whose dimensions have fixed sizes, all but ``free``.

    What ``but`` names is not wrong here.
    """
    bad = {
        "list": good.tolist(),
        "str": "x",
        "number": 1.5,
        "array": good.numpy(),
        "int64": good.long(),
        "bool": good.bool(),
        "half": good.half(),
        "complex": good.to(torch.complex64),
        "sparse": good.to_sparse(),
        "meta": good.to("meta"),
        "nested": _nested(good),
        "0-d": good.new_ones(()),
        **dict(_wrong_shapes(good, free)),
    }
    bad = bad if optional else {"None": None, **bad}
    return Wanted(good, {what: wrong for what, wrong in bad.items() if what not in but})


def _nested(good: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.nested is a prototype
        return torch.nested.nested_tensor([good, good])


def ids(good: Tensor, *, free: tuple[int, ...] = (), vocabulary: int) -> Wanted:
    """int64 token ids below ``vocabulary``."""
    bad = {
        "None": None,
        "list": good.tolist(),
        "int": 3,
        "float": good.float(),
        "int32": good.int(),
        "nan": good * float("nan"),
        "negative": good - vocabulary,
        "too large": good + vocabulary,
        "huge": good + HUGE,
        "0-d": good.new_ones(()),
        **dict(_wrong_shapes(good, free)),
    }
    return Wanted(good, bad)


def lengths(good: Tensor, *, low: int, high: int) -> Wanted:
    """int64 lengths in [low, high]; None is allowed."""
    bad = {
        "list": good.tolist(),
        "int": 3,
        "str": "all",
        "array": good.numpy(),
        "float": good.float(),
        "nan": good * float("nan"),
        "int32": good.int(),
        "bool": good.bool(),
        "too low": torch.full_like(good, low - 1),
        "too high": torch.full_like(good, high + 1),
        "huge": torch.full_like(good, HUGE),
        "lowest int64": torch.full_like(good, -(2**63)),
        "sparse": good.to_sparse(),
        "meta": good.to("meta"),
        "0-d": good[0],
        **dict(_wrong_shapes(good, ())),
    }
    return Wanted(good, bad)


def tensors(good: list[Tensor]) -> Wanted:
    """A list of floating tensors, each with a shape of its own."""
    bad: dict[str, Any] = {
        "None": None,
        "int": 7,
        "str": "abc",
        "one tensor": good[0],
        "empty": [],
        "too few": good[:-1],
        "too many": [*good, good[-1], good[-1]],
        "of None": [None] * len(good),
        "of numbers": [1.0] * len(good),
    }
    for i, each in enumerate(good):
        for name, change in _WEIGHTS.items():
            bad[f"{name} at {i}"] = [*good[:i], change(each), *good[i + 1 :]]
    return Wanted(good, bad)


_WEIGHTS: dict[str, Callable[[Tensor], Any]] = {
    "None": lambda w: None,
    "float64": lambda w: w.double(),
    "half": lambda w: w.half(),
    "meta": lambda w: w.to("meta"),
    "sparse": lambda w: w.to_sparse(),
    "row less": lambda w: w[:-1],
    "deeper": lambda w: w[None],
    "empty": lambda w: w[:0],
}


def integer(good: int, *, low: int = 1, high: int = HUGE - 1) -> Wanted:
    """An int in [low, high]."""
    bad = {
        "None": None,
        "str": str(good),
        "float": good + 0.5,
        "nan": float("nan"),
        "list": [good],
        "tensor": torch.tensor([good, good]),
        "too low": low - 1,
        "negative": -HUGE,
        "too high": high + 1,
        "beyond int64": 10**30,
    }
    return Wanted(good, bad)


def number(good: float, *, low: float, high: float) -> Wanted:
    """A finite number in [low, high]."""
    bad = {
        "None": None,
        "str": str(good),
        "list": [good],
        "nan": float("nan"),
        "inf": float("inf"),
        "too low": low - 0.01 * max(1, abs(low)),
        "too high": high + 0.01 * max(1, abs(high)),
        "huge": 1e300,
    }
    return Wanted(good, bad)


def choice(good: str) -> Wanted:
    """One of a few strings."""
    bad = {"None": None, "empty": "", "int": 1, "other": "neither", "list": [good], "b": b"x"}
    return Wanted(good, bad)


def flag(good: bool) -> Wanted:
    return Wanted(good, {"None": None, "str": "yes", "int": 2, "list": [good]})


def instance(good: Any, **bad: Any) -> Wanted:
    """An object of one class, or what ``bad`` does not name."""
    return Wanted(good, {"None": None, "int": 3, "str": "x", "dict": {}, "class": object, **bad})


def path(good: Any, **bad: Any) -> Wanted:
    return Wanted(good, {"None": None, "int": 3, "list": [good], **bad})


def _wrong_shapes(good: Tensor, free: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    yield "deeper", good[None]
    if good.dim() > 1:
        yield "flat", good.flatten()
    for dim in range(good.dim()):
        if dim in free:
            continue
        yield f"longer at {dim}", torch.cat([good, good.narrow(dim, 0, 1)], dim)
        yield f"empty at {dim}", good.narrow(dim, 0, 0)
        if good.size(dim) > 2:
            yield f"shorter at {dim}", good.narrow(dim, 0, good.size(dim) - 1)


@dataclass(frozen=True)
class Call:
    """A public call and what each of its arguments should be."""

    function: Callable[..., Any]
    arguments: dict[str, Wanted]

    def run(self, **changes: Any) -> Any:
        values = {name: wanted.good for name, wanted in self.arguments.items()}
        return self.function(**{**values, **changes})


def cases(calls: dict[str, Call]) -> Iterator[tuple[str, str, str]]:
    """(call, argument, what is wrong) for pytest.mark.parametrize."""
    for name, call in calls.items():
        for argument, wanted in call.arguments.items():
            for what in wanted.bad:
                yield name, argument, what
