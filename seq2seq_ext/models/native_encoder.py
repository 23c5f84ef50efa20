"""From a source to its memory, over packed weights."""

from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import ops
from seq2seq_ext.models.attentional_decoder import Memory, State
from seq2seq_ext.models.recurrent import pack_layer, run_layer


class PackedLinear:
    """A linear layer over a packed copy of its weight."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight = weight.detach()
        self.bias = None if bias is None else bias.detach().clone()
        self.packed = ops.linear_pack(self.weight, dtype=dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias, packed=self.packed)


class NativeEncoder:
    """Encoder, bridge and the attention's keys of a model, packed in one weight type.

    Args:
        model: a Seq2Seq, float32, on the CPU.
        dtype: how the weights are stored.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        def linear(module: Any) -> PackedLinear:
            return PackedLinear(module.weight, module.bias, dtype)

        encoder, config = model.encoder, model.config
        self.config = config
        embeds = encoder.embedding is not None
        self.embedding = encoder.embedding.weight.detach().clone() if embeds else None
        self.layers = []
        directions = iter(encoder.layers.all_weights)
        for forward, reverse in zip(directions, directions, strict=True):
            weights = [w.detach() for w in (*forward, *reverse)]
            self.layers.append((weights, pack_layer(config.cell, weights, dtype)))
        projects = encoder.projection is not None
        self.projection = linear(encoder.projection) if projects else None
        self.bridges = [linear(m) for m in (model.bridge.hidden, model.bridge.cell) if m]
        to_keys = getattr(model.decoder.attention, "memory_projection", None)
        self.keys = None if to_keys is None else linear(to_keys)

    def __call__(self, src: Tensor, lengths: Tensor) -> Memory:
        """As :meth:`seq2seq_ext.models.Seq2Seq.encode`, unchecked."""
        x = src if self.embedding is None else self.embedding[src]
        x = x.transpose(0, 1)
        finals: tuple[Tensor, ...] = ()
        zeros = x.new_zeros(2, x.size(1), self.config.hidden_size)
        for weights, packed in self.layers:
            x, *last = run_layer(self.config.cell, x, zeros, weights, lengths, packed)
            finals = tuple(last)
        memory = x.transpose(0, 1)
        if self.projection is not None:
            memory = self.projection(memory)
        memory = memory.contiguous()
        keys = None
        if self.config.attention != "none":
            keys = memory if self.keys is None else self.keys(memory)
        return Memory(memory, keys, lengths, self._initial_state(finals))

    def _initial_state(self, finals: tuple[Tensor, ...]) -> State:
        parts = []
        for final, bridge in zip(finals, self.bridges, strict=True):
            both = torch.cat((final[0], final[1]), dim=1)
            parts.append(torch.tanh(bridge(both)).chunk(self.config.decoder_layers, dim=1))
        state: State = {"layers": tuple(zip(*parts, strict=True))}
        if self.config.input_feeding:
            state["attentional"] = torch.zeros_like(parts[0][0])
        return state
