"""Linear layer and cross-entropy in plain PyTorch."""

import torch
from torch import Tensor


def linear_cross_entropy(
    input: Tensor,  # [N, H]
    linear_weight: Tensor,  # [V, H]
    target: Tensor,  # [N]
    *,
    linear_bias: Tensor | None = None,  # [V]
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> Tensor:
    """Same signature and result as :func:`seq2seq_ext.ops.linear_cross_entropy`."""
    if ignore_index is not None:
        counted = target != ignore_index
        input, target = input[counted], target[counted]
    log_probs = torch.log_softmax(torch.nn.functional.linear(input, linear_weight, linear_bias), 1)
    likely = log_probs.gather(1, target[:, None]).squeeze(1)
    losses = (label_smoothing - 1) * likely - label_smoothing * log_probs.mean(1)
    return losses.mean()
