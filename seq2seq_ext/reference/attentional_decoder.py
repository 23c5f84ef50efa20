"""The attentional decoder under teacher forcing in plain PyTorch.

Dims: B batch, T steps, E embedding, H hidden, L layers, S source, A attention, M memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext.reference.attention import additive_attention, dot_attention
from seq2seq_ext.reference.gru import gru
from seq2seq_ext.reference.lstm import lstm
from seq2seq_ext.reference.rnn import rnn

_LAYERS: dict[str, Callable[..., Any]] = {
    "lstm": lstm,
    "gru": gru,
    "rnn_tanh": rnn,
    "rnn_relu": lambda *inputs: rnn(*inputs, nonlinearity="relu"),
}


def attentional_decoder(
    input: Tensor,  # [B, T, E]
    vector_0: Tensor,  # [B, H]
    states: Sequence[Tensor],  # [L, B, H] each
    weights: Sequence[Tensor],
    combine_weight: Tensor,  # [H, M + H]
    *,
    cell: str = "lstm",
    lengths: Tensor | None = None,  # [B]
    memory: Tensor | None = None,  # [B, S, M]
    keys: Tensor | None = None,  # [B, S, A]
    memory_lengths: Tensor | None = None,  # [B]
    query_weight: Tensor | None = None,  # [A, H]
    v: Tensor | None = None,  # [A]
    scale: float = 1.0,
    layer_masks: Tensor | None = None,  # [L - 1, B, T, H]
    vector_mask: Tensor | None = None,  # [B, T, H]
) -> tuple[Tensor, Tensor]:
    """Same signature and results as :func:`seq2seq_ext.ops.attentional_decoder`."""
    batch, steps, _ = input.shape
    layers = [tuple(s[i] for s in states) for i in range(len(weights) // 4)]
    fed, outputs, alignments = vector_0, [], []
    for t in range(steps):
        x = torch.cat((input[:, t], fed), dim=1)  # [B, E + H]
        for i, state in enumerate(layers):
            if i > 0 and layer_masks is not None:
                x = x * layer_masks[i - 1, :, t]
            own = weights[4 * i : 4 * i + 4]
            output, *after = _LAYERS[cell](x[None], *(s[None] for s in state), own)
            x, layers[i] = output[0], tuple(s[0] for s in after)
        combined = x
        if memory is not None and keys is not None:
            context, alignment = _attend(x, memory, keys, memory_lengths, query_weight, v, scale)
            combined = torch.cat((context, x), dim=1)
            alignments.append(alignment)
        vector = torch.tanh(combined @ combine_weight.t())
        fed = vector if vector_mask is None else vector * vector_mask[:, t]
        outputs.append(fed)
    source = 0 if memory is None else memory.shape[1]
    stacked = (
        _stack(outputs, input.new_zeros(batch, 0, vector_0.shape[1])),
        _stack(alignments, input.new_zeros(batch, steps if memory is None else 0, source)),
    )
    if lengths is None:
        return stacked
    past_end = (torch.arange(steps, device=input.device) >= lengths[:, None])[:, :, None]
    return stacked[0].masked_fill(past_end, 0.0), stacked[1].masked_fill(past_end, 0.0)


def _attend(
    top: Tensor,
    memory: Tensor,
    keys: Tensor,
    memory_lengths: Tensor | None,
    query_weight: Tensor | None,
    v: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    if query_weight is not None and v is not None:
        query = (top @ query_weight.t())[:, None]
        context, weights = additive_attention(query, keys, v, memory, memory_lengths)
    else:
        context, weights = dot_attention(top[:, None], keys, memory, memory_lengths, scale)
    return context[:, 0], weights[:, 0]


def _stack(steps: list[Tensor], empty: Tensor) -> Tensor:
    return torch.stack(steps, dim=1) if steps else empty
