"""What LSTMCell, GRUCell and RNNCell share: one step is a layer of one time step."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seq2seq_ext.nn import check
from seq2seq_ext.nn.inference_dtype import InferenceDtype
from seq2seq_ext.nn.packed_cache import kept_inference, packed_weights


class SizedCell(nn.RNNCellBase):
    """A cell of torch.nn whose constructor names a wrong size.

    Attributes:
        inference_dtype: as a layer's (:class:`seq2seq_ext.nn.recurrent.RecurrentLayer`).
    """

    inference_dtype = InferenceDtype()

    def __init__(self, input_size: int, hidden_size: int, *args: Any, **kwargs: Any) -> None:
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            check.integer(type(self).__name__, name, size)
            if size < 0:
                raise RuntimeError(
                    f"{type(self).__name__}: {name}: expected at least 0, got {size}"
                )
        super().__init__(input_size, hidden_size, *args, **kwargs)


_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_WITHOUT_BIASES = _WEIGHTS[:2]


def infer(cell: nn.RNNCellBase, mode: str, input: Any, h: Any, c: Any = None) -> Any:
    """The new states by the fast way; nothing where :func:`run_cell` must do it.

    A small cell's step takes a few microseconds, and a check in Python half of one.
    """
    kept = kept_inference(cell, mode, _WEIGHTS if cell.bias else _WITHOUT_BIASES)
    return kept and kept.step(cell._parameters, input, h, c)


def run_cell(
    cell: nn.RNNCellBase,
    input: Tensor,
    hx: dict[str, Tensor] | None,
    states: int,
    layer: Callable[..., tuple[Tensor, ...]],
    pack: Callable[..., Tensor],
) -> tuple[Tensor, ...]:
    """One step of ``layer``, an op of :mod:`seq2seq_ext.ops`.

    Args:
        input: ``[B, I]`` or ``[I]``.
        hx: each state by the name that errors use, ``[B, H]`` or ``[H]``; None for zeros.
        states: how many states the cell has.
        pack: the op that packs the weights.

    Returns:
        the new states, of the shape of the old ones.
    """
    name = type(cell).__name__
    _check_dims(name, "input", input)
    for state_name, state in (hx or {}).items():
        _check_dims(name, state_name, state)
    batched = input.dim() == 2
    rows = input if batched else input.unsqueeze(0)
    _check_input(cell, name, rows)
    shape = (rows.size(0), cell.hidden_size)
    if hx is None:
        old = [rows.new_zeros(shape)] * states
    else:
        expected = shape if batched else shape[1:]
        for state_name, state in hx.items():
            check.state(name, state_name, state, expected, input)
        old = [s if batched else s.unsqueeze(0) for s in hx.values()]
    weights: list[Tensor] = [cell.weight_ih, cell.weight_hh]
    if cell.bias:
        weights += [cell.bias_ih, cell.bias_hh]

    def pack_weights(weights: Sequence[Tensor], dtype: torch.dtype | None) -> Tensor:
        return pack(weights, has_biases=bool(cell.bias), dtype=dtype)

    (packed,) = packed_weights(cell, (rows, *old), [weights], pack_weights)
    keywords: dict[str, Any] = {"has_biases": bool(cell.bias), "packed": packed}
    _, *new = layer(rows.unsqueeze(0), *(s.unsqueeze(0) for s in old), weights, **keywords)
    return tuple(s[0] if batched else s[0, 0] for s in new)


def _check_dims(owner: str, name: str, value: Tensor) -> None:
    check.tensor(owner, name, value)
    if value.dim() not in (1, 2):
        raise ValueError(
            f"{owner}: {name}: expected 1 dimension (unbatched) or 2, got {value.dim()}"
        )


def _check_input(cell: nn.RNNCellBase, name: str, input: Tensor) -> None:
    weight = cell.weight_ih
    if input.size(1) != cell.input_size:
        raise RuntimeError(
            f"{name}: input: expected input.size(-1) == input_size == {cell.input_size}, got "
            f"{input.size(1)}"
        )
    if input.dtype != weight.dtype and not torch.is_autocast_enabled("cpu"):
        raise RuntimeError(
            f"{name}: input: expected {weight.dtype} like the weights, got {input.dtype}"
        )
    check.device(name, "input", input, weight)
