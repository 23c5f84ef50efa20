"""Layers whose weights are stored as bfloat16 or int8 in inference."""

import copy
import pickle
from typing import Any

import pytest
import torch
from recurrent_pair_suite import flatten
from torch import nn

import seq2seq_ext
from seq2seq_ext import accelerate, ops

LAYERS = ["LSTM", "GRU", "RNN"]
DTYPES = {"bfloat16": torch.bfloat16, "int8": torch.int8}


def make(name: str, **keywords: Any) -> Any:
    torch.manual_seed(0)
    return getattr(seq2seq_ext, name)(9, 20, **keywords).eval()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_ops_on_reduced_weights(name: str, dtype: str, isa: str) -> None:
    layer = make(name, num_layers=2, bidirectional=True)
    layer.inference_dtype = dtype
    x, lengths = torch.randn(6, 5, 9), torch.tensor([6, 1, 0, 4, 6])
    op, pack = getattr(ops, name.lower()), getattr(ops, f"{name.lower()}_pack")
    state = [torch.zeros(2, 5, 20)] * (2 if name == "LSTM" else 1)
    with torch.no_grad():
        found = flatten(layer(x, lengths=lengths))
        expected, finals = x, []
        for i in (0, 2):
            weights = [w for direction in layer.all_weights[i : i + 2] for w in direction]
            packed = pack(weights, dtype=DTYPES[dtype])
            expected, *final = op(expected, *state, weights, lengths=lengths, packed=packed)
            finals.append(final)
    assert torch.equal(found[0], expected)
    for a, b in zip(found[1:], zip(*finals, strict=True), strict=True):
        assert torch.equal(a, torch.cat(b))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [f"{name}Cell" for name in LAYERS])
def test_a_cell_is_one_step_of_its_layer(name: str, dtype: str) -> None:
    cell, layer, x = make(name), make(name[:-4]), torch.randn(3, 9)
    layer.load_state_dict({f"{n}_l0": w for n, w in cell.state_dict().items()})
    cell.inference_dtype = layer.inference_dtype = dtype
    with torch.no_grad():
        assert torch.equal(flatten(cell(x))[0], layer(x[None])[0][0])


def test_gradients_are_those_of_float32() -> None:
    layer, plain, x = make("LSTM"), make("LSTM"), torch.randn(4, 2, 9)
    layer.inference_dtype = "int8"
    for module in (layer, plain):
        module(x)[0].sum().backward()
    for a, b in zip(layer.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_the_same_bits_in_any_batch(dtype: str, isa: str) -> None:
    layer, x = make("GRU", num_layers=2, bidirectional=True), torch.randn(5, 17, 9)
    layer.inference_dtype = dtype
    with torch.no_grad():
        together = layer(x)[0]
        for row in (0, 7, 16):
            assert torch.equal(layer(x[:, row : row + 1])[0][:, 0], together[:, row])


def test_a_change_of_weights_or_dtype_shows() -> None:
    layer, x = make("LSTM"), torch.randn(4, 2, 9)
    with torch.no_grad():
        plain = layer(x)[0]
        layer.inference_dtype = "int8"
        rounded = layer(x)[0]
        assert not torch.equal(rounded, plain)
        layer.weight_ih_l0.mul_(2)
        assert not torch.equal(layer(x)[0], rounded)
        layer.weight_ih_l0.div_(2)
        layer.inference_dtype = "float32"
        assert torch.equal(layer(x)[0], plain)


def test_goes_with_copies_and_pickles_and_not_with_the_state_dict() -> None:
    layer = make("LSTM")
    layer.inference_dtype = "bfloat16"
    assert copy.deepcopy(layer).inference_dtype == "bfloat16"
    assert pickle.loads(pickle.dumps(layer)).inference_dtype == "bfloat16"
    assert layer.state_dict().keys() == nn.LSTM(9, 20).state_dict().keys()
    assert make("LSTM").inference_dtype == "float32"


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_cannot_be_kept_are_packed_at_each_call(dtype: str) -> None:
    layer, x = make("LSTM"), torch.randn(4, 2, 9)
    layer.inference_dtype = dtype
    with torch.no_grad():
        expected = layer(x)[0]
        assert torch.equal(layer.share_memory()(x)[0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiles(dtype: str) -> None:
    layer, x = make("LSTM"), torch.randn(4, 2, 9)
    layer.inference_dtype = dtype
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x)[0], layer(x)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*LAYERS, *(f"{name}Cell" for name in LAYERS)])
def test_autocast_leaves_kept_weights_as_they_are(name: str, dtype: str) -> None:
    module, x = make(name), torch.randn(4, 9).bfloat16().float()
    module.inference_dtype = dtype
    with torch.no_grad():
        expected = flatten(module(x))
        with torch.autocast("cpu", torch.bfloat16):
            for input in (x, x.bfloat16()):
                assert all(map(torch.equal, flatten(module(input)), expected))


@pytest.mark.parametrize("dtype", DTYPES)
def test_autocast_leaves_the_ops_packed_weights_as_they_are(dtype: str) -> None:
    x, w = torch.randn(4, 9).bfloat16(), torch.randn(5, 9)
    packed = ops.linear_pack(w, dtype=DTYPES[dtype])
    expected = ops.linear(x.float(), w, packed=packed)
    best = ops.linear_log_softmax_topk(x.float(), w, None, 2, packed=packed)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ops.linear(x, w, packed=packed), expected)
        found = ops.linear_log_softmax_topk(x, w, None, 2, packed=packed)
    assert all(map(torch.equal, found, best))


def test_accelerate_sets_it() -> None:
    double = nn.LSTM(9, 20).double()
    model = nn.ModuleDict(
        {
            "theirs": nn.LSTM(9, 20),
            "ours": make("GRUCell"),
            "float64": double,
            "d": make("RNN").double(),
        }
    )
    report = accelerate(model, "int8")
    assert report.swapped == ["theirs"]
    assert model["theirs"].inference_dtype == model["ours"].inference_dtype == "int8"
    assert type(model["float64"]) is nn.LSTM and "float64" in report.left["float64"]
    assert model["d"].inference_dtype == "float32" and "int8" in report.left["d"]
    accelerate(model)
    assert model["theirs"].inference_dtype == "int8"
    accelerate(model, dtype="float32")
    assert model["theirs"].inference_dtype == "float32"


@pytest.mark.parametrize("wrong, error", [("int4", ValueError), (torch.int8, TypeError)])
def test_wrong_dtype(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="dtype: expected"):
        accelerate(nn.LSTM(1, 1), wrong)
    with pytest.raises(error, match=r"LSTM.inference_dtype: dtype: expected"):
        make("LSTM").inference_dtype = wrong
