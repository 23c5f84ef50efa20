"""Log-softmax and top-k of rows. Semantics: csrc/kernels/topk.h."""

import math

import torch
from torch import Tensor


def log_softmax_topk(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Log-probs and indices ``[rows, k]`` of each row's best tokens, equals by token."""
    order = logits.sort(dim=1, descending=True, stable=True).indices[:, :k]
    lse = logits.double().logsumexp(dim=1, keepdim=True)
    log_probs = (logits.double().gather(1, order) - lse).clamp(max=0.0)
    log_probs = log_probs.masked_fill(~lse.isfinite(), -math.inf)
    first = torch.arange(k, device=logits.device).expand_as(order)
    return log_probs.to(logits.dtype), order.where(lse.isfinite(), first)


def linear_log_softmax_topk(
    input: Tensor, weight: Tensor, bias: Tensor | None, k: int
) -> tuple[Tensor, Tensor]:
    """As :func:`log_softmax_topk`, of ``input W^T + bias``."""
    return log_softmax_topk(torch.nn.functional.linear(input, weight, bias), k)
