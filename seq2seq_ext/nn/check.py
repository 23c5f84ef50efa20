"""Checks that the modules share. Types of the errors are those of torch.nn."""

import operator
from typing import Any

import torch
from torch import Tensor


def describe(value: Any) -> str:
    return f"shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)


# What no memory holds; without a limit a constructor would go on until it is killed.
MAX_SIZE, MAX_LAYERS = 2**31 - 1, 2**16


def integer(owner: str, name: str, value: Any, high: int = MAX_SIZE) -> None:
    """An int of at most ``high``; what is too low is torch.nn's to say."""
    try:
        too_high = operator.index(value) > high
    except TypeError:
        raise TypeError(f"{owner}: {name}: expected an int, got {value!r}") from None
    if too_high:
        raise ValueError(f"{owner}: {name}: expected at most {high}, got {value}")


def tensor(owner: str, name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{owner}: {name}: expected a Tensor, got {type(value).__name__}")


def strided(owner: str, name: str, value: Any) -> None:
    tensor(owner, name, value)
    if value.is_nested or value.layout != torch.strided:
        got = "a nested one" if value.is_nested else value.layout
        raise ValueError(f"{owner}: {name}: expected a strided tensor, got {got}")


def device(owner: str, name: str, value: Tensor, weight: Tensor) -> None:
    if value.device != weight.device:
        raise RuntimeError(
            f"{owner}: {name}: expected on {weight.device} like the weights, got {value.device}"
        )


def state(owner: str, name: str, value: Tensor, shape: tuple[int, ...], input: Tensor) -> None:
    """A state of ``shape`` and the dtype and device of ``input``."""
    if value.shape != shape:
        raise RuntimeError(
            f"{owner}: {name}: expected shape {list(shape)}, got {list(value.shape)}"
        )
    if value.dtype != input.dtype and not torch.is_autocast_enabled("cpu"):
        raise RuntimeError(
            f"{owner}: {name}: expected {input.dtype} like the input, got {value.dtype}"
        )
    if value.device != input.device or value.layout != torch.strided:
        raise RuntimeError(
            f"{owner}: {name}: expected a strided tensor on {input.device} like the input, got "
            f"{value.layout} on {value.device}"
        )


def pair(owner: str, hx: Any) -> tuple[Tensor, Tensor] | None:
    """LSTM's (h_0, c_0), or None."""
    if hx is None:
        return None
    if isinstance(hx, Tensor):
        raise RuntimeError(
            f"{owner}: hx: expected a tuple (h_0, c_0), got one tensor of {describe(hx)}"
        )
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise TypeError(
            f"{owner}: hx: expected a tuple (h_0, c_0), got {type(hx).__name__}"
            + (f" of {len(hx)}" if isinstance(hx, (tuple, list)) else "")
        )
    return hx[0], hx[1]
