"""LSTM in plain PyTorch. Dims: T time, B batch, I input, H hidden, P output, D directions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seq2seq_ext.reference.recurrent import State, linear, recurrent_layer


def lstm(
    input: Tensor,  # [T, B, I]
    h_0: Tensor,  # [D, B, P]
    c_0: Tensor,  # [D, B, H]
    weights: Sequence[Tensor],
    *,
    lengths: Tensor | None = None,  # [B]
    has_biases: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Same signature and results as :func:`seq2seq_ext.ops.lstm`."""

    def step(x: Tensor, state: State, w: Sequence[Tensor]) -> State:
        h, c = state
        weight_ih, weight_hh, *rest = w
        bias_ih, bias_hh = rest[:2] if has_biases else (None, None)
        gates = linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)  # [B, 4H]
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        if len(w) % 2:
            h = linear(h, w[-1], None)  # weight_hr
        return h, c

    output, (h_n, c_n) = recurrent_layer(step, input, (h_0, c_0), weights, lengths)
    return output, h_n, c_n
