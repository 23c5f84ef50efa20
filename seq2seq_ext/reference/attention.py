"""Masked attention in plain PyTorch. Dims: B batch, T queries, S source, A attention, M memory."""

import torch
from torch import Tensor


def additive_attention(
    query: Tensor,  # [B, T, A]
    keys: Tensor,  # [B, S, A]
    v: Tensor,  # [A]
    memory: Tensor,  # [B, S, M]
    memory_lengths: Tensor | None = None,  # [B]
) -> tuple[Tensor, Tensor]:
    """Same signature and results as :func:`seq2seq_ext.ops.additive_attention`."""
    scores = torch.tanh(query[:, :, None] + _masked(keys, memory_lengths)[:, None]) @ v
    return _attend(scores, memory, memory_lengths)


def dot_attention(
    query: Tensor,  # [B, T, A]
    keys: Tensor,  # [B, S, A]
    memory: Tensor,  # [B, S, M]
    memory_lengths: Tensor | None = None,  # [B]
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Same signature and results as :func:`seq2seq_ext.ops.dot_attention`."""
    scores = scale * (query @ _masked(keys, memory_lengths).transpose(1, 2))
    return _attend(scores, memory, memory_lengths)


def _attend(scores: Tensor, memory: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    if lengths is None:
        weights = torch.softmax(scores, dim=-1)
    else:
        past_end = _past_end(lengths, scores.shape[-1])[:, None]  # [B, 1, S]
        # An empty row gets a finite softmax, then zeros: no NaN, in its gradient either.
        lowest = torch.finfo(scores.dtype).min
        weights = torch.softmax(scores.masked_fill(past_end, lowest), dim=-1)
        weights = weights.masked_fill(past_end, 0.0)
    return weights @ _masked(memory, lengths), weights


def _masked(rows: Tensor, lengths: Tensor | None) -> Tensor:
    """Zeros past each length, so that padding may hold anything, NaN too."""
    if lengths is None:
        return rows
    return rows.masked_fill(_past_end(lengths, rows.shape[1])[:, :, None], 0.0)


def _past_end(lengths: Tensor, size: int) -> Tensor:
    return torch.arange(size, device=lengths.device) >= lengths[:, None]  # [B, S]
