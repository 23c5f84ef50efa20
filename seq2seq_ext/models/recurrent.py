"""The recurrent layers of a model, by the name of their cell."""

from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import nn, ops
from seq2seq_ext.models.config import Seq2SeqConfig

_MODULES: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_OPS: dict[str, Any] = {"lstm": ops.lstm, "gru": ops.gru, "rnn": ops.rnn}
MODES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN_TANH"}  # torch.nn's names
_PACKS: dict[str, Any] = {"lstm": ops.lstm_pack, "gru": ops.gru_pack, "rnn": ops.rnn_pack}

# The state of one layer: (h,), or (h, c) of an LSTM; each [N, H].
LayerState = tuple[Tensor, ...]


def stack(config: Seq2SeqConfig, input_size: int, layers: int, *, bidirectional: bool) -> Any:
    """Stacked layers of the config's cell, batch first."""
    return _MODULES[config.cell](
        input_size,
        config.hidden_size,
        layers,
        batch_first=True,
        dropout=config.dropout if layers > 1 else 0.0,
        bidirectional=bidirectional,
    )


def step_layer(
    cell: str, input: Tensor, state: LayerState, weights: list[Tensor], packed: Tensor | None
) -> tuple[Tensor, LayerState]:
    """One step ``[N, I]`` of one layer: (output ``[N, H]``, new state)."""
    before = (s.unsqueeze(0) for s in state)
    output, *after = _OPS[cell](input.unsqueeze(0), *before, weights, packed=packed)
    return output.squeeze(0), tuple(s.squeeze(0) for s in after)


def decoder_cell(cell: str) -> str:
    """The name that ops.attentional_decoder knows a cell by."""
    return "rnn_tanh" if cell == "rnn" else cell


def pack_layer(cell: str, weights: list[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """What :func:`step_layer` takes as ``packed``, stored in ``dtype`` or as the weights are."""
    packed: Tensor = _PACKS[cell](weights, dtype=dtype)
    return packed
