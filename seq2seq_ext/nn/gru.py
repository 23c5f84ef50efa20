"""GRU and GRUCell, drop-in for torch.nn's."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seq2seq_ext import ops
from seq2seq_ext.nn.cell import SizedCell, infer, run_cell
from seq2seq_ext.nn.recurrent import RecurrentLayer


class GRU(RecurrentLayer):
    """Gated recurrent unit; constructor, parameters and results are torch.nn.GRU's.

    Args:
        input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
        bidirectional=False, device=None, dtype=None: as torch.nn.GRU; float32 or float64 on
            the CPU.

    Example:
        >>> import torch, seq2seq_ext
        >>> gru = seq2seq_ext.GRU(3, 4, bidirectional=True)
        >>> output, h_n = gru(torch.randn(5, 2, 3), lengths=torch.tensor([5, 3]))
        >>> output.shape, h_n.shape
        (torch.Size([5, 2, 8]), torch.Size([2, 2, 4]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("GRU: proj_size: expected none (only LSTM projects)")
        super().__init__("GRU", *args, **kwargs)

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
        return ops.gru(
            input, states[0], weights, lengths=lengths, has_biases=self.bias, packed=packed
        )

    def _pack(self, weights: Sequence[Tensor], dtype: torch.dtype | None) -> Tensor:
        return ops.gru_pack(weights, has_biases=self.bias, dtype=dtype)


class GRUCell(SizedCell, nn.GRUCell):
    """One GRU step; constructor, parameters and results are torch.nn.GRUCell's.

    Example:
        >>> import torch, seq2seq_ext
        >>> seq2seq_ext.GRUCell(3, 4)(torch.randn(2, 3)).shape
        torch.Size([2, 4])
    """

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input ``[B, I]`` or ``[I]``, hx ``[B, H]`` or ``[H]``: the new state."""
        if new := infer(self, "GRU", input, hx):
            return new[0]
        states = None if hx is None else {"hx": hx}
        (h,) = run_cell(self, input, states, 1, ops.gru, ops.gru_pack)
        return h
