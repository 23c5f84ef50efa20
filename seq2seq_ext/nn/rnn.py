"""RNN (tanh or relu) and RNNCell, drop-in for torch.nn's."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seq2seq_ext import ops
from seq2seq_ext.nn.cell import SizedCell, infer, run_cell
from seq2seq_ext.nn.recurrent import RecurrentLayer

_MODES = {"tanh": "RNN_TANH", "relu": "RNN_RELU"}


class RNN(RecurrentLayer):
    """Elman network; constructor, parameters and results are torch.nn.RNN's.

    Args:
        input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True,
        batch_first=False, dropout=0.0, bidirectional=False, device=None, dtype=None: as
            torch.nn.RNN; float32 or float64 on the CPU.

    Example:
        >>> import torch, seq2seq_ext
        >>> rnn = seq2seq_ext.RNN(3, 4, nonlinearity="relu")
        >>> output, h_n = rnn(torch.randn(5, 2, 3), lengths=torch.tensor([5, 3]))
        >>> output.shape, h_n.shape
        (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("RNN: proj_size: expected none (only LSTM projects)")
        if len(args) > 3:
            nonlinearity, args = args[3], args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in tuple(_MODES):
            raise ValueError(
                f"RNN: nonlinearity: expected one of {tuple(_MODES)}, got {nonlinearity!r}"
            )
        self.nonlinearity: str = nonlinearity
        super().__init__(_MODES[nonlinearity], *args, **kwargs)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Any, Tensor]:
        """As :meth:`seq2seq_ext.LSTM.forward`, with one state ``hx [L*D, B, H]``."""
        output, (h_n,) = self._run(input, None if hx is None else (hx,), lengths)
        return output, h_n

    def _layer(
        self,
        input: Tensor,
        states: Sequence[Tensor],
        weights: Sequence[Tensor],
        lengths: Tensor | None,
        packed: Tensor | None,
    ) -> tuple[Tensor, ...]:
        return ops.rnn(
            input,
            states[0],
            weights,
            nonlinearity=self.nonlinearity,
            lengths=lengths,
            has_biases=self.bias,
            packed=packed,
        )

    def _pack(self, weights: Sequence[Tensor], dtype: torch.dtype | None) -> Tensor:
        return ops.rnn_pack(weights, has_biases=self.bias, dtype=dtype)


class RNNCell(SizedCell, nn.RNNCell):
    """One Elman step; constructor, parameters and results are torch.nn.RNNCell's.

    Example:
        >>> import torch, seq2seq_ext
        >>> seq2seq_ext.RNNCell(3, 4)(torch.randn(2, 3)).shape
        torch.Size([2, 4])
    """

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input ``[B, I]`` or ``[I]``, hx ``[B, H]`` or ``[H]``: the new state."""
        if self.nonlinearity not in tuple(_MODES):
            raise RuntimeError(
                f"RNNCell: nonlinearity: expected one of {tuple(_MODES)}, got {self.nonlinearity!r}"
            )
        if new := infer(self, _MODES[self.nonlinearity], input, hx):
            return new[0]
        states = None if hx is None else {"hx": hx}
        layer = partial(ops.rnn, nonlinearity=self.nonlinearity)
        (h,) = run_cell(self, input, states, 1, layer, ops.rnn_pack)
        return h
