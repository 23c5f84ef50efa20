"""From the encoder's final states to the decoder's initial ones."""

import torch
from torch import Tensor

from seq2seq_ext import ops
from seq2seq_ext.models.config import Seq2SeqConfig
from seq2seq_ext.models.recurrent import LayerState


class Bridge(torch.nn.Module):
    """tanh(W s + b) of both directions' final states, for h (and c) of every decoder layer."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        sizes = 2 * config.hidden_size, config.decoder_layers * config.hidden_size
        self.layers = config.decoder_layers
        self.hidden = torch.nn.Linear(*sizes)
        self.cell = torch.nn.Linear(*sizes) if config.cell == "lstm" else None

    def forward(self, finals: LayerState) -> tuple[LayerState, ...]:
        """``(h,)`` or ``(h, c)``, each ``[B, 2H]`` -> for each layer the same, each ``[B, H]``."""
        parts = [self._initial(self.hidden, finals[0])]
        if self.cell is not None:
            parts.append(self._initial(self.cell, finals[1]))
        return tuple(zip(*parts, strict=True))

    def _initial(self, linear: torch.nn.Linear, final: Tensor) -> tuple[Tensor, ...]:
        return torch.tanh(ops.linear(final, linear.weight, linear.bias)).chunk(self.layers, dim=1)
