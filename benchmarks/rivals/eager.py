"""The model in eager PyTorch, written as one would: packed nn.LSTM, LSTMCell steps."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seq2seq_ext.models import Seq2Seq


class Source(NamedTuple):
    """An encoded batch; the keys of its attention are made once."""

    memory: Tensor  # [B, S, M]
    keys: Tensor  # [B, S, A]
    mask: Tensor  # [B, S], where there is a source


class State(NamedTuple):
    """Of a decoder with L layers."""

    hidden: Tensor  # [N, L, H]
    cell: Tensor  # [N, L, H]
    fed: Tensor  # [N, H]

    def rows(self, index: Tensor) -> "State":
        return State(*(part[index] for part in self))


class EagerSeq2Seq(nn.Module):
    """Takes over the weights of an LSTM ``Seq2Seq`` with additive attention.

    What is a plain Linear or Embedding there is shared; the layers are torch.nn's, where it is.
    """

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        config, decoder = model.config, model.decoder
        if (config.cell, config.attention) != ("lstm", "additive"):
            raise ValueError(f"EagerSeq2Seq: model: expected an additive LSTM, got {config}")
        size = config.hidden_size
        self.input_feeding = config.input_feeding
        self.source_embedding = model.encoder.embedding
        self.encoder = nn.LSTM(
            config.embedding_size,
            size,
            config.encoder_layers,
            batch_first=True,
            bidirectional=True,
        )
        self.encoder.load_state_dict(model.encoder.layers.state_dict())
        self.bridge_hidden, self.bridge_cell = model.bridge.hidden, model.bridge.cell
        self.embedding = decoder.embedding
        first = config.embedding_size + (size if config.input_feeding else 0)
        self.cells = nn.ModuleList(
            nn.LSTMCell(size if layer else first, size) for layer in range(config.decoder_layers)
        )
        weights = decoder.layers.state_dict()
        for layer, cell in enumerate(self.cells):
            cell.load_state_dict({name: weights[f"{name}_l{layer}"] for name in cell.state_dict()})
        self.query, self.key = (
            decoder.attention.query_projection,
            decoder.attention.memory_projection,
        )
        self.v = decoder.attention.v
        self.combine, self.output = decoder.combine, decoder.output
        self.to(self.v).eval()

    def encode(self, src: Tensor, lengths: Tensor) -> tuple[Source, State]:
        packed = pack_padded_sequence(
            self.source_embedding(src), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        packed, finals = self.encoder(packed)
        memory, _ = pad_packed_sequence(packed, batch_first=True, total_length=src.size(1))
        mask = torch.arange(src.size(1), device=src.device) < lengths[:, None]
        return Source(memory, self.key(memory), mask), self.initial_state(*finals)

    def initial_state(self, hidden: Tensor, cell: Tensor) -> State:
        """Bridged from the encoder's final states ``[layers * 2, B, H]``."""

        def bridge(linear: nn.Linear, final: Tensor) -> Tensor:
            both = torch.cat((final[-2], final[-1]), dim=1)
            return torch.tanh(linear(both)).unflatten(1, (len(self.cells), -1))

        first = bridge(self.bridge_hidden, hidden)
        return State(first, bridge(self.bridge_cell, cell), torch.zeros_like(first[:, 0]))

    def step(self, tokens: Tensor, source: Source, state: State) -> tuple[Tensor, State]:
        """Logits ``[N, V]`` of N rows; as many for each sentence, which share its memory."""
        x = self.embedding(tokens)
        if self.input_feeding:
            x = torch.cat((x, state.fed), dim=1)
        hidden, cell = [], []
        for layer, module in enumerate(self.cells):
            x, c = module(x, (state.hidden[:, layer], state.cell[:, layer]))
            hidden.append(x)
            cell.append(c)
        sentences = source.memory.size(0)
        query = self.query(x).view(sentences, -1, 1, self.v.numel())
        scores = torch.tanh(query + source.keys[:, None]) @ self.v
        weights = scores.masked_fill(~source.mask[:, None], -torch.inf).softmax(2)
        context = torch.bmm(weights, source.memory).flatten(0, 1)
        fed = torch.tanh(self.combine(torch.cat((context, x), dim=1)))
        return self.output(fed), State(torch.stack(hidden, 1), torch.stack(cell, 1), fed)
