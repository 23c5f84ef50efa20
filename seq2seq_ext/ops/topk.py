"""The ops under the searches: log-softmax and top-k of rows in one reading."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops.autograd import call_packed
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.tracing import register_fake


def _fake(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    rows = logits.shape[0]
    return logits.new_empty(rows, k), logits.new_empty(rows, k, dtype=torch.int64)


def _fake_linear(
    input: Tensor, weight: Tensor, bias: Tensor | None, packed: Tensor | None, k: int
) -> tuple[Tensor, Tensor]:
    return _fake(input, k)


def _backward(ctx: Any, *grads: Tensor) -> NoReturn:
    raise RuntimeError(
        "log_softmax_topk: input: expected no gradient to be asked for, got a backward pass; "
        "use torch.log_softmax and torch.topk where the scores are trained"
    )


for _name, _rule in (("log_softmax_topk", _fake), ("linear_log_softmax_topk", _fake_linear)):
    register_fake(f"seq2seq_ext::{_name}", _rule)
    torch.library.register_autograd(f"seq2seq_ext::{_name}", _backward)
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"seq2seq_ext::{_name}", _device, torch.float32)


def log_softmax_topk(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k most probable tokens of each row, without the log-probabilities of all others.

    ``log_prob = min(0, logit - logsumexp(row))``, with the sum in float64. The order is total:
    equal logits by token, the lowest first. A row whose logsumexp is not finite (it holds a NaN
    or +inf, or nothing but -inf) has no probabilities: its log-probs are all -inf.

    Args:
        logits: ``[rows, V]``, float32 or float64; any strides with contiguous rows.
        k: 1 to V.

    Returns:
        ``log_probs [rows, k]`` in the dtype of ``logits``, best first, and ``indices [rows, k]``,
        int64. Not differentiable: a backward pass raises.

    Raises:
        ValueError, TypeError, RuntimeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> log_probs, indices = ops.log_softmax_topk(torch.tensor([[1.0, 3.0, 2.0]]), 2)
        >>> indices
        tensor([[1, 2]])
    """
    if reference_active():
        return reference.log_softmax_topk(logits, k)
    log_probs, indices = torch.ops.seq2seq_ext.log_softmax_topk(logits, k)
    return log_probs, indices


def linear_log_softmax_topk(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    k: int,
    *,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`log_softmax_topk` of ``linear(input, weight, bias)``, bit for bit, but no logits.

    A block of the vocabulary is read while its logits are still in the cache; blocks are shared
    among the threads, so that one row keeps all of them busy.

    Args:
        input: ``[rows, I]``, float32 or float64.
        weight: ``[V, I]``.
        bias: ``[V]``, or None.
        k: 1 to V.
        packed: what :func:`seq2seq_ext.ops.linear_pack` gave for ``weight``.

    Returns:
        ``log_probs [rows, k]``, best first, and ``indices [rows, k]``, int64. Not differentiable.

    Raises:
        ValueError, TypeError, RuntimeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> weight = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
        >>> ops.linear_log_softmax_topk(torch.tensor([[1.0, 0.5]]), weight, None, 2)[1]
        tensor([[1, 2]])
    """
    if reference_active():
        return reference.linear_log_softmax_topk(input, weight, bias, k)
    log_probs, indices = call_packed(
        torch.ops.seq2seq_ext.linear_log_softmax_topk, packed, input, weight, bias, packed, k
    )
    return log_probs, indices
