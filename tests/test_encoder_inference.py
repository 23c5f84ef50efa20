"""The whole encoder in one call: same bits as its single ops, wrong arguments by name."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from seq2seq_ext import ops
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
from seq2seq_ext.models.native_encoder import pack_encoder
from seq2seq_ext.models.recurrent import pack_layer
from seq2seq_ext.ops.encoder_inference import PackedEncoder, encoder_inference

LENGTHS = torch.tensor([7, 3, 0, 5])
LAYERS: dict[str, Any] = {"lstm": ops.lstm, "gru": ops.gru, "rnn": ops.rnn}

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stacked": {"encoder_layers": 3, "decoder_layers": 2},
    "gru": {"cell": "gru", "encoder_layers": 2},
    "rnn": {"cell": "rnn", "attention": "general"},
    "dot": {"attention": "dot"},
    "alone": {"attention": "none", "input_feeding": False},
    "features": {"source_vocabulary_size": None, "source_feature_size": 11},
}


def make(**fields: Any) -> Seq2Seq:
    sizes = {"source_vocabulary_size": 20, "embedding_size": 9, "hidden_size": 24}
    torch.manual_seed(0)
    return Seq2Seq(Seq2SeqConfig(**{**sizes, "target_vocabulary_size": 15, **fields})).eval()


def source(model: Seq2Seq) -> Tensor:
    features = model.config.source_feature_size
    if features is not None:
        return torch.randn(4, 7, features)
    return torch.randint(4, 20, (4, 7))


def by_single_ops(model: Any, src: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Memory, keys and state of a Seq2Seq, an op after the other over weights packed in dtype."""

    def linear(module: Any, x: Tensor) -> Tensor:
        packed = ops.linear_pack(module.weight, dtype=dtype)
        return ops.linear(x, module.weight, module.bias, packed=packed)

    config, encoder = model.config, model.encoder
    x = (src if encoder.embedding is None else encoder.embedding(src)).transpose(0, 1)
    zeros = [torch.zeros(2, 4, config.hidden_size)] * (2 if config.cell == "lstm" else 1)
    both = iter(encoder.layers.all_weights)
    for weights in ([*forward, *reverse] for forward, reverse in zip(both, both, strict=True)):
        packed = pack_layer(config.cell, weights, dtype)
        x, *finals = LAYERS[config.cell](x, *zeros, weights, lengths=LENGTHS, packed=packed)
    memory = x.transpose(0, 1)
    if encoder.projection is not None:
        memory = linear(encoder.projection, memory)
    parts = []
    for final, bridge in zip(finals, (model.bridge.hidden, model.bridge.cell), strict=False):
        state = torch.tanh(linear(bridge, torch.cat((final[0], final[1]), 1)))
        parts += state.chunk(config.decoder_layers, 1)
    if config.input_feeding:
        parts.append(torch.zeros(4, config.hidden_size))
    projection = getattr(model.decoder.attention, "memory_projection", None)
    keys = memory if projection is None else linear(projection, memory)
    return [memory, keys, torch.stack(parts)]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS)
def test_same_bits_as_single_ops(fields: dict[str, Any], dtype: torch.dtype) -> None:
    model = make(**fields)
    src = source(model)
    found = encoder_inference(pack_encoder(model, dtype), src, LENGTHS)
    for got, expected in zip(found, by_single_ops(model, src, dtype), strict=True):
        assert torch.equal(got, expected)
    assert (found[0][1, 3:] == 0).all() or model.encoder.projection is not None


def test_no_gradient_and_no_inference_tensor_comes_out() -> None:
    model = make(source_vocabulary_size=None, source_feature_size=11)
    found = encoder_inference(
        pack_encoder(model, torch.float32), source(model).requires_grad_(), LENGTHS
    )
    assert not any(t.requires_grad or t.is_inference() for t in found)


def test_an_empty_source() -> None:
    weights = pack_encoder(make(), torch.float32)
    empty = torch.zeros(2, 0, dtype=torch.int64)
    memory, _, state = encoder_inference(weights, empty, torch.tensor([0, 0]))
    assert memory.shape == (2, 0, 48)
    other = encoder_inference(weights, torch.ones(2, 1, dtype=torch.int64), torch.tensor([0, 0]))
    assert torch.equal(state, other[2])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cell": "LSTMS"}, ValueError, "cell: expected a mode of torch.nn, got LSTMS"),
        ({"layers": []}, ValueError, "layers, hidden_size: expected at least 1, got 0, 24"),
        ({"layers": [torch.zeros(2, 5)]}, ValueError, "layers: expected .* bytes packed"),
        ({"hidden_size": 23}, ValueError, "layers: expected .* bytes packed"),
        (
            {"embedding": torch.ones(20, 9).double()},
            TypeError,
            "embedding: expected float32 on cpu",
        ),
        ({"bridge": ()}, ValueError, "bridge: expected weight, bias or None, packed; got 0"),
        ({"keys": (None, None, None)}, ValueError, "keys: expected weight, bias or None, packed"),
    ],
)
def test_wrong_weights(change: dict[str, Any], error: type[Exception], message: str) -> None:
    weights = replace(pack_encoder(make(), torch.float32), **change)
    with pytest.raises(error, match=f"encoder_inference: {message}"):
        encoder_inference(weights, torch.ones(4, 7, dtype=torch.int64), LENGTHS)


@pytest.mark.parametrize(
    ("src", "lengths", "error", "message"),
    [
        (torch.full((4, 7), 20), LENGTHS, IndexError, "out of range"),
        (torch.ones(4, dtype=torch.int64), LENGTHS, ValueError, "src: expected 2 dimensions"),
        (torch.ones(4, 7, dtype=torch.int32), LENGTHS, TypeError, "src: expected int64 on cpu"),
        (torch.full((4, 7), -1), LENGTHS, IndexError, "out of range: expected 0 to 19, got -1"),
        (torch.ones(4, 7, dtype=torch.int64), LENGTHS[:3], ValueError, "lengths: expected shape"),
        (torch.ones(4, 7, dtype=torch.int64), LENGTHS + 1, ValueError, "lengths: expected values"),
    ],
)
def test_wrong_source(src: Tensor, lengths: Tensor, error: type[Exception], message: str) -> None:
    weights: PackedEncoder = pack_encoder(make(), torch.float32)
    with pytest.raises(error, match=message):
        encoder_inference(weights, src, lengths)
