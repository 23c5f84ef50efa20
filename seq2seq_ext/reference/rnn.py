"""Elman RNN in plain PyTorch. Dims: T time, B batch, I input, H hidden, D directions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seq2seq_ext.reference.recurrent import State, linear, recurrent_layer


def rnn(
    input: Tensor,  # [T, B, I]
    h_0: Tensor,  # [D, B, H]
    weights: Sequence[Tensor],
    *,
    nonlinearity: str = "tanh",
    lengths: Tensor | None = None,  # [B]
    has_biases: bool = True,
) -> tuple[Tensor, Tensor]:
    """Same signature and results as :func:`seq2seq_ext.ops.rnn`."""
    activation = {"tanh": torch.tanh, "relu": torch.relu}[nonlinearity]

    def step(x: Tensor, state: State, w: Sequence[Tensor]) -> State:
        weight_ih, weight_hh, *rest = w
        bias_ih, bias_hh = rest if has_biases else (None, None)
        return (activation(linear(x, weight_ih, bias_ih) + linear(state[0], weight_hh, bias_hh)),)

    output, (h_n,) = recurrent_layer(step, input, (h_0,), weights, lengths)
    return output, h_n
