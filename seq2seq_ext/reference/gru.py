"""GRU in plain PyTorch. Dims: T time, B batch, I input, H hidden, D directions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seq2seq_ext.reference.recurrent import State, linear, recurrent_layer


def gru(
    input: Tensor,  # [T, B, I]
    h_0: Tensor,  # [D, B, H]
    weights: Sequence[Tensor],
    *,
    lengths: Tensor | None = None,  # [B]
    has_biases: bool = True,
) -> tuple[Tensor, Tensor]:
    """Same signature and results as :func:`seq2seq_ext.ops.gru`."""

    def step(x: Tensor, state: State, w: Sequence[Tensor]) -> State:
        (h,) = state
        weight_ih, weight_hh, *rest = w
        bias_ih, bias_hh = rest if has_biases else (None, None)
        x_r, x_z, x_n = linear(x, weight_ih, bias_ih).chunk(3, dim=1)
        h_r, h_z, h_n = linear(h, weight_hh, bias_hh).chunk(3, dim=1)
        r = torch.sigmoid(x_r + h_r)
        z = torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * h_n)
        return ((1 - z) * n + z * h,)

    output, (h_n,) = recurrent_layer(step, input, (h_0,), weights, lengths)
    return output, h_n
