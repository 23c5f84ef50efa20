"""A model's encoder packed in one weight type."""

from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import ops
from seq2seq_ext.models.recurrent import MODES, pack_layer
from seq2seq_ext.ops.encoder_inference import Linear, PackedEncoder


def pack_encoder(model: Any, dtype: torch.dtype) -> PackedEncoder:
    """Encoder, bridge and the attention's keys of a Seq2Seq, float32, on the CPU: copies.

    Args:
        dtype: how the weights are stored.
    """

    def linear(module: Any) -> Linear:
        if module is None:
            return ()
        weight, bias = module.weight.detach(), module.bias
        packed = ops.linear_pack(weight, dtype=dtype)
        return weight, None if bias is None else bias.detach().clone(), packed

    encoder, config = model.encoder, model.config
    embedding = None
    if encoder.embedding is not None:
        embedding = encoder.embedding.weight.detach().clone()
    directions = iter(encoder.layers.all_weights)
    layers = []
    for forward, reverse in zip(directions, directions, strict=True):
        weights: list[Tensor] = [w.detach() for w in (*forward, *reverse)]
        layers.append(pack_layer(config.cell, weights, dtype))
    return PackedEncoder(
        MODES[config.cell],
        config.hidden_size,
        embedding,
        layers,
        linear(model.bridge.hidden),
        linear(model.bridge.cell),
        linear(encoder.projection),
        linear(getattr(model.decoder.attention, "memory_projection", None)),
        config.input_feeding,
    )
