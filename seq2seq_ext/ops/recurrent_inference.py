"""A whole recurrent module in one call, where no gradient is wanted."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_cell = torch.ops.seq2seq_ext.cell_inference.default
_layers = torch.ops.seq2seq_ext.layers_inference.default


def cell_inference(
    cell: str,
    input: Any,
    states: Sequence[Any],
    weights: Sequence[Tensor],
    state: int,
    packed: Tensor,
) -> list[Tensor]:
    """One step of a cell; the kernels, and so the bits, are those of the layer's op.

    Args:
        cell: torch.nn's mode: ``"LSTM"``, ``"GRU"``, ``"RNN_TANH"`` or ``"RNN_RELU"``.
        input: ``[B, I]``.
        states: h, and c of an LSTM, each ``[B, H]``; None for zeros.
        weights: as the layer's op takes them.
        state: what ``weights_state`` gave for ``weights`` when ``packed`` was made of them.
        packed: as the layer's op takes it.

    Returns:
        The new states. Nothing where only the layer's op may judge: a wrong argument, weights
        that have changed, gradients, autocast, tensors that are more than their data.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> weights = [w.detach() for w in torch.nn.LSTM(3, 4)._flat_weights]
        >>> state = torch.ops.seq2seq_ext.weights_state(weights)
        >>> packed = ops.lstm_pack(weights)
        >>> from seq2seq_ext.ops.recurrent_inference import cell_inference
        >>> h, c = cell_inference("LSTM", torch.randn(2, 3), (None, None), weights, state, packed)
        >>> h.shape
        torch.Size([2, 4])
    """
    h, c = states if len(states) == 2 else (states[0], None)
    if not _are_tensors(input, h, c):
        return []
    new: list[Tensor] = _cell(cell, input, h, c, weights, state, packed)
    return new


def layers_inference(
    cell: str,
    input: Any,
    states: Sequence[Any],
    weights: Sequence[Tensor],
    state: int,
    packed: Sequence[Tensor],
    *,
    lengths: Any = None,
    batch_first: bool = False,
) -> list[Tensor]:
    """All layers and directions of a module; the bits are those of the layers' ops.

    Args:
        cell, state: as :func:`cell_inference`'s.
        input: ``[T, B, I]``, or ``[B, T, I]`` if ``batch_first``.
        states: h_0 ``[L*D, B, P]``, and c_0 ``[L*D, B, H]`` of an LSTM; None for zeros.
        weights: those of all layers, as the layer's op takes them, one after the other.
        packed: a tensor a layer.
        lengths: as the layer's op takes them.

    Returns:
        The output and the final states, or nothing, as :func:`cell_inference`.
    """
    h_0, c_0 = states if len(states) == 2 else (states[0], None)
    if not _are_tensors(input, h_0, c_0, lengths):
        return []
    results: list[Tensor] = _layers(
        cell, input, lengths, h_0, c_0, weights, state, packed, batch_first
    )
    return results


def _are_tensors(input: Any, *others: Any) -> bool:
    # A loop: all() of a generator takes twice as long, and a step of a small cell is short.
    for t in others:
        if t is not None and not isinstance(t, Tensor):
            return False
    return isinstance(input, Tensor)
