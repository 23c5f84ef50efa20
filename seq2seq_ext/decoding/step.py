"""The caller's side of a search: its step function and the state that goes around."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from seq2seq_ext.decoding.options import BeamSearchOptions

# Nested tuples, lists and dicts of tensors with leading dimension N; None is an empty place.
State: TypeAlias = Any
# (logits, state), or (logits, state, attention) where an option needs attention.
Step: TypeAlias = Callable[[Tensor, State], tuple]


def leaves(state: State, path: str = "state") -> Iterator[tuple[str, object]]:
    """Every leaf with its path, like ``state['h'][0]``."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(state, (tuple, list)):
        for i, value in enumerate(state):
            yield from leaves(value, f"{path}[{i}]")
    elif state is not None:
        yield path, state


def check_state(where: str, state: State, rows: int) -> None:
    for path, leaf in leaves(state):
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"{where}: {path}: expected a tensor in nested tuples, lists and dicts, got "
                f"{type(leaf).__name__}"
            )
        if leaf.dim() == 0 or leaf.shape[0] != rows:
            raise ValueError(
                f"{where}: {path}: expected leading dimension N = {rows}, got shape "
                f"{list(leaf.shape)}"
            )


def reorder(state: State, parents: Tensor) -> State:
    """The state with row i taken from row parents[i]."""
    if isinstance(state, Tensor):
        return state.index_select(0, parents.to(state.device))
    if isinstance(state, dict):
        moved = copy.copy(state)  # keeps subclasses of dict what they are
        moved.update({key: reorder(value, parents) for key, value in state.items()})
        return moved
    if isinstance(state, (tuple, list)):
        make = getattr(state, "_make", type(state))  # a named tuple wants its own maker
        return make([reorder(value, parents) for value in state])
    return None


def device_of(where: str, state: State, device: torch.device | str | None) -> torch.device:
    """The device asked for, else that of the first tensor in the state, else the CPU."""
    if device is None:
        tensors = (leaf for _, leaf in leaves(state) if isinstance(leaf, Tensor))
        return next((tensor.device for tensor in tensors), torch.device("cpu"))
    try:
        found = torch.device(device)
        torch.empty(0, device=found)  # it is there
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"{where}: device: expected a torch device, got {device!r}") from error
    return found


def check_step(where: str, step: object) -> None:
    if not callable(step):
        raise TypeError(f"{where}: step: expected a callable, got {type(step).__name__}")


def call_step(
    where: str, step: Step, tokens: Tensor, state: State, with_attention: bool | None
) -> tuple[Tensor, State, Tensor | None]:
    """The step's logits, state and attention, all checked; None: with or without attention."""
    returned = step(tokens, state)
    shapes = {2: "(logits, state)", 3: "(logits, state, attention)"}
    if with_attention is not None:
        del shapes[2 if with_attention else 3]
    if not isinstance(returned, tuple) or len(returned) not in shapes:
        got = type(returned).__name__
        if isinstance(returned, tuple):
            got += f" of {len(returned)}"
        expected = " or ".join(shapes.values())
        raise TypeError(f"{where}: step: expected to return {expected}, got {got}")
    logits, state, *rest = returned
    check_logits(f"{where}: step", logits, tokens.shape[0])
    check_state(f"{where}: step", state, tokens.shape[0])
    for attention in rest:
        check_attention(f"{where}: step", attention, tokens.shape[0])
    return logits, state, rest[0] if rest else None


def check_attention(where: str, attention: object, rows: int) -> None:
    if not isinstance(attention, Tensor):
        raise TypeError(f"{where}: attention: expected a tensor, got {type(attention).__name__}")
    if not attention.is_floating_point():
        raise TypeError(f"{where}: attention: expected a floating dtype, got {attention.dtype}")
    if attention.dim() != 2 or attention.shape[0] != rows:
        raise ValueError(
            f"{where}: attention: expected shape [N = {rows}, S], got {list(attention.shape)}"
        )


def check_logits(where: str, logits: object, rows: int) -> None:
    if not isinstance(logits, Tensor):
        raise TypeError(f"{where}: logits: expected a tensor, got {type(logits).__name__}")
    if not logits.is_floating_point():
        raise TypeError(f"{where}: logits: expected a floating dtype, got {logits.dtype}")
    if logits.dim() != 2 or logits.shape[0] != rows or logits.shape[1] == 0:
        raise ValueError(
            f"{where}: logits: expected shape [N = {rows}, V], got {list(logits.shape)}"
        )


def check_vocabulary(
    where: str, vocabulary: int, options: Sequence[BeamSearchOptions], largest_token: int
) -> None:
    """Every token that the options name is one of the V."""
    if largest_token < vocabulary:
        return
    for each in options:
        for eos_id in each.eos_ids:
            if eos_id >= vocabulary:
                raise ValueError(
                    f"{where}: logits: expected a vocabulary with eos_id = {eos_id}, got V = "
                    f"{vocabulary}"
                )
    raise ValueError(
        f"{where}: logits: expected a vocabulary with token {largest_token} of the options, got "
        f"V = {vocabulary}"
    )


def for_search(logits: Tensor) -> Tensor:
    """As the search reads logits: on the CPU, float64 if they are, else float32."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if logits.is_cpu and logits.dtype == dtype and not logits.requires_grad:
        return logits
    return logits.detach().to("cpu", dtype)
