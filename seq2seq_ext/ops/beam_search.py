"""The op under the searches: log-softmax and top-k of a row in one reading."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops.backend import reference_active

_OP = "seq2seq_ext::log_softmax_topk"


@torch.library.register_fake(_OP)
def _fake(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    rows = logits.shape[0]
    return logits.new_empty(rows, k), logits.new_empty(rows, k, dtype=torch.int64)


def _backward(ctx: Any, *grads: Tensor) -> NoReturn:
    raise RuntimeError(
        "log_softmax_topk: logits: expected no gradient to be asked for, got a backward pass; "
        "use torch.log_softmax and torch.topk where the scores are trained"
    )


torch.library.register_autograd(_OP, _backward)
torch.library.register_autocast(_OP, "cpu", torch.float32)


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
