"""The attentional decoder (Luong, Pham and Manning 2015), with input feeding."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import dropout

from seq2seq_ext import ops
from seq2seq_ext.models.config import Seq2SeqConfig
from seq2seq_ext.models.recurrent import (
    LayerState,
    decoder_cell,
    pack_layer,
    stack,
    step_layer,
)
from seq2seq_ext.nn.attention import AdditiveAttention, DotAttention

# "layers": a LayerState for each layer; "attentional" [N, H] with input feeding.
State = dict[str, Any]

IGNORED = -100  # a target that is no token


@dataclass(frozen=True)
class Memory:
    """An encoded batch of sources, stored once however many beams read it.

    Attributes:
        memory: ``[B, S, M]``.
        projected: ``[B, S, A]``, the attention's keys; None without attention.
        lengths: int64 ``[B]``.
        state: the decoder's initial state; its tensors have leading dimension B.
    """

    memory: Tensor
    projected: Tensor | None
    lengths: Tensor
    state: State


@final
@dataclass(frozen=True)
class PackedDecoder:
    """The decoder's weights as the kernels read them: valid until a weight or the ISA changes."""

    layers: tuple[Tensor, ...]
    combine: Tensor
    projection: Tensor | None
    output: Tensor


class AttentionalDecoder(torch.nn.Module):
    """Embedding, stacked layers, attention, attentional vector, output layer.

    For each step, with s the top layer's state::

        s = layers([embedding; last attentional vector])
        attentional vector = tanh(W [attention(s, memory); s])
        logits = W_o attentional vector + b_o
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        hidden, embedding = config.hidden_size, config.embedding_size
        vocabulary = config.target_vocabulary_size
        self.embedding = torch.nn.Embedding(vocabulary, embedding, padding_idx=config.pad_id)
        fed = hidden if config.input_feeding else 0
        self.layers = stack(config, embedding + fed, config.decoder_layers, bidirectional=False)
        self.attention = _attention(config)
        context = 0 if self.attention is None else config.memory_size
        self.combine = torch.nn.Linear(context + hidden, hidden, bias=False)
        self.projection: torch.nn.Linear | None = None
        self.output: torch.nn.Linear | None = None
        if config.tie_output:
            torch.nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
            with torch.no_grad():
                self.embedding.weight[config.pad_id].zero_()
            self.output_bias = torch.nn.Parameter(torch.zeros(vocabulary))
            if hidden != embedding:
                self.projection = torch.nn.Linear(hidden, embedding, bias=False)
        else:
            self.output = torch.nn.Linear(hidden, vocabulary)

    def start(self, memory: Tensor, lengths: Tensor, layers: tuple[LayerState, ...]) -> Memory:
        """What is computed once for a source: keys and the initial state."""
        state: State = {"layers": layers}
        if self.config.input_feeding:
            state["attentional"] = torch.zeros_like(layers[0][0])
        keys = None if self.attention is None else self.attention.project_memory(memory)
        return Memory(memory, keys, lengths, state)

    def forward(self, tokens: Tensor, memory: Memory, lengths: Tensor | None = None) -> Tensor:
        """Teacher forcing: input tokens ``[B, T]`` -> attentional vectors ``[B, T, H]``.

        Rows past ``lengths`` (int64 ``[B]``) hold values without meaning.
        """
        x = self._dropout(self.embedding(tokens))
        if self.config.input_feeding:
            return self._forward_fed(x, memory, lengths)
        state = tuple(torch.stack(part) for part in zip(*memory.state["layers"], strict=True))
        top, _ = self.layers(x, state if len(state) > 1 else state[0], lengths=lengths)
        return self._dropout(self._attend(top, memory, None)[0])

    def _forward_fed(self, x: Tensor, memory: Memory, lengths: Tensor | None) -> Tensor:
        """All steps in one op: each is fed the vector of the one before."""
        layers, hidden = self.config.decoder_layers, self.config.hidden_size
        attention: dict[str, Any] = {}
        if self.attention is not None:
            attention = {"memory": memory.memory, "keys": memory.projected}
            attention |= {"memory_lengths": memory.lengths, **self.attention.score_arguments()}
        vectors, _ = ops.attentional_decoder(
            x,
            memory.state["attentional"],
            [torch.stack(part) for part in zip(*memory.state["layers"], strict=True)],
            [w for layer in self.layers.all_weights for w in layer],
            self.combine.weight,
            cell=decoder_cell(self.config.cell),
            lengths=lengths,
            layer_masks=self._mask(x, layers - 1, *x.shape[:2], hidden),
            vector_mask=self._mask(x, *x.shape[:2], hidden),
            **attention,
        )
        return vectors

    def _mask(self, like: Tensor, *shape: int) -> Tensor | None:
        """Dropout as factors, from torch's generator; None where nothing is dropped."""
        if not self.training or self.config.dropout == 0:
            return None
        return dropout(like.new_ones(shape), self.config.dropout)

    def step(
        self, tokens: Tensor, state: State, memory: Memory, packed: PackedDecoder | None
    ) -> tuple[Tensor, State, Tensor | None]:
        """One step of N = B*K rows, K for each source, as ``Seq2Seq.step`` says."""
        vectors, state, weights = self.advance(tokens, state, memory, packed)
        return self.logits(vectors, packed), state, weights

    def logits(self, vectors: Tensor, packed: PackedDecoder | None = None) -> Tensor:
        """Attentional vectors ``[..., H]`` -> ``[..., V]``."""
        read = self.project(vectors, packed)
        return ops.linear(read, *self.output_layer(), packed=packed and packed.output)

    def project(self, vectors: Tensor, packed: PackedDecoder | None = None) -> Tensor:
        """Attentional vectors ``[..., H]`` as the output layer reads them."""
        if self.projection is None:
            return vectors
        return ops.linear(vectors, self.projection.weight, packed=packed and packed.projection)

    def loss(self, vectors: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross-entropy of attentional vectors ``[B, T, H]`` for tokens ``[B, T]``.

        Those that are ``IGNORED`` do not count.
        """
        weight, bias = self.output_layer()
        return ops.linear_cross_entropy(
            self.project(vectors).flatten(0, 1),
            weight,
            target.flatten(),
            linear_bias=bias,
            label_smoothing=label_smoothing,
            ignore_index=IGNORED,
        )

    def pack(self) -> PackedDecoder | None:
        """Packs the weights for many steps; None on CUDA, where ops take them as they are."""
        if self.combine.weight.is_cuda:
            return None
        projection = self.projection
        return PackedDecoder(
            tuple(pack_layer(self.config.cell, w) for w in self.layers.all_weights),
            ops.linear_pack(self.combine.weight),
            None if projection is None else ops.linear_pack(projection.weight),
            ops.linear_pack(self.output_layer()[0]),
        )

    def advance(
        self, tokens: Tensor, state: State, memory: Memory, packed: PackedDecoder | None = None
    ) -> tuple[Tensor, State, Tensor | None]:
        """:meth:`step` without the output layer: attentional vectors ``[N, H]``, state, weights."""
        x = self.embedding(tokens)
        if self.config.input_feeding:
            x = torch.cat((x, state["attentional"]), dim=1)
        layers = []
        for i, weights in enumerate(self.layers.all_weights):
            x = x if i == 0 else self._dropout(x)
            packed_layer = packed.layers[i] if packed else None
            x, layer = step_layer(self.config.cell, x, state["layers"][i], weights, packed_layer)
            layers.append(layer)
        sources = memory.memory.size(0)
        queries = x.view(sources, x.size(0) // sources, x.size(1))
        vectors, alignment = self._attend(queries, memory, packed)
        vector = self._dropout(vectors.reshape(x.shape))
        new_state: State = {"layers": tuple(layers)}
        if self.config.input_feeding:
            new_state["attentional"] = vector
        return vector, new_state, None if alignment is None else alignment.flatten(0, 1)

    def _attend(
        self, top: Tensor, memory: Memory, packed: PackedDecoder | None
    ) -> tuple[Tensor, Tensor | None]:
        """Top states ``[B, T, H]`` -> attentional vectors ``[B, T, H]``, weights ``[B, T, S]``."""
        weights = None
        if self.attention is not None:
            context, weights = self.attention(top, memory.memory, memory.lengths, memory.projected)
            top = torch.cat((context, top), dim=2)
        product = ops.linear(top, self.combine.weight, packed=packed and packed.combine)
        return torch.tanh(product), weights

    def output_layer(self) -> tuple[Tensor, Tensor]:
        if self.output is None:
            return self.embedding.weight, self.output_bias
        return self.output.weight, self.output.bias

    def _dropout(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)


def _attention(config: Seq2SeqConfig) -> Any:
    hidden, memory = config.hidden_size, config.memory_size
    if config.attention == "none":
        return None
    if config.attention == "additive":
        return AdditiveAttention(hidden, memory, config.attention_size or hidden)
    return DotAttention(hidden, memory, score=config.attention)
