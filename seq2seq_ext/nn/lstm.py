"""LSTM and LSTMCell, drop-in for torch.nn's."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seq2seq_ext import ops
from seq2seq_ext.nn import check
from seq2seq_ext.nn.cell import SizedCell, infer, run_cell
from seq2seq_ext.nn.recurrent import RecurrentLayer


class LSTM(RecurrentLayer):
    """Long short-term memory; constructor, parameters and results are torch.nn.LSTM's.

    Args:
        input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
        bidirectional=False, proj_size=0, device=None, dtype=None: as torch.nn.LSTM;
            float32 or float64 on the CPU.

    Example:
        >>> import torch, seq2seq_ext
        >>> lstm = seq2seq_ext.LSTM(3, 4, num_layers=2, bidirectional=True)
        >>> output, (h_n, c_n) = lstm(torch.randn(5, 2, 3), lengths=torch.tensor([5, 3]))
        >>> output.shape, h_n.shape
        (torch.Size([5, 2, 8]), torch.Size([4, 2, 4]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Runs the layers over whole sequences.

        Args:
            input: ``[T, B, I]``, ``[B, T, I]`` if ``batch_first``, ``[T, I]``, or a
                PackedSequence.
            hx: ``(h_0 [L*D, B, P], c_0 [L*D, B, H])``; None means zeros.
            lengths: int64 ``[B]`` on the CPU, any order, zeros allowed. Outputs past the end
                are zero; final states are those of the last real step; the reverse direction
                starts there.

        Returns:
            ``output [T, B, D*P]`` in the layout of ``input``, and ``(h_n, c_n)`` in the shape
            of ``hx``.

        Raises:
            ValueError, TypeError, RuntimeError: a wrong argument, named in the message.
        """
        output, (h_n, c_n) = self._run(input, check.pair(self._name, hx), lengths)
        return output, (h_n, c_n)

    def _layer(
        self,
        input: Tensor,
        states: Sequence[Tensor],
        weights: Sequence[Tensor],
        lengths: Tensor | None,
        packed: Tensor | None,
    ) -> tuple[Tensor, ...]:
        h_0, c_0 = states
        return ops.lstm(
            input, h_0, c_0, weights, lengths=lengths, has_biases=self.bias, packed=packed
        )

    def _pack(self, weights: Sequence[Tensor], dtype: torch.dtype | None) -> Tensor:
        return ops.lstm_pack(weights, has_biases=self.bias, dtype=dtype)


class LSTMCell(SizedCell, nn.LSTMCell):
    """One LSTM step; constructor, parameters and results are torch.nn.LSTMCell's.

    Example:
        >>> import torch, seq2seq_ext
        >>> h, c = seq2seq_ext.LSTMCell(3, 4)(torch.randn(2, 3))
        >>> h.shape, c.shape
        (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """input ``[B, I]`` or ``[I]``, hx ``(h, c)`` each ``[B, H]`` or ``[H]``: new (h, c)."""
        pair = check.pair(type(self).__name__, hx)
        h, c = pair or (None, None)
        if new := infer(self, "LSTM", input, h, c):
            return new[0], new[1]
        states = None if pair is None else {"hx[0]": pair[0], "hx[1]": pair[1]}
        h, c = run_cell(self, input, states, 2, ops.lstm, ops.lstm_pack)
        return h, c
