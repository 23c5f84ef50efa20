"""accelerate(): what it swaps, what it leaves and why."""

import pickle
from typing import Any

import pytest
import torch
from recurrent_pair_suite import Calls, flatten
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

import seq2seq_ext
from seq2seq_ext import accelerate

NAMES = ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"]


class Own(nn.LSTM):
    def forward(self, input: Any, hx: Any = None) -> Any:
        return super().forward(input * 2, hx)


@pytest.mark.parametrize("name", NAMES)
def test_swaps_in_place(name: str) -> None:
    model = nn.ModuleDict({"a": getattr(nn, name)(3, 4), "other": nn.Linear(3, 4)})
    before, parameters, x = model["a"], list(model.parameters()), torch.randn(2, 3)
    expected = flatten(before(x))
    report = accelerate(model)
    assert report.swapped == ["a"]
    assert report.left == {}
    assert type(model["a"]) is getattr(seq2seq_ext, name)
    assert model["a"] is before
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    with Calls() as calls:
        torch.testing.assert_close(flatten(model["a"](x)), expected)
    assert any(n.startswith("seq2seq_ext.") for n in calls.names)


def test_the_root_itself() -> None:
    lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)
    report = accelerate(lstm)
    assert type(lstm) is seq2seq_ext.LSTM
    assert report.swapped == [""]
    assert str(report) == "swapped (the module itself)"


def test_keeps_hooks_mode_options_and_optimizer() -> None:
    lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.5).eval()
    seen: list[Any] = []
    lstm.register_forward_hook(lambda *args: seen.append(args))
    optimizer = torch.optim.SGD(lstm.parameters(), lr=0.1)
    before = lstm.weight_ih_l0.detach().clone()
    accelerate(lstm)
    lstm(torch.randn(5, 2, 3))[0].sum().backward()
    optimizer.step()
    assert len(seen) == 1
    assert not lstm.training
    assert lstm.dropout == 0.5
    assert not torch.equal(lstm.weight_ih_l0, before)
    assert type(pickle.loads(pickle.dumps(accelerated_copy()))) is seq2seq_ext.LSTM


def accelerated_copy() -> nn.Module:
    module = nn.LSTM(3, 4)
    accelerate(module)
    return module


def test_a_module_used_twice_is_one_module() -> None:
    shared = nn.GRU(3, 4)
    model = nn.ModuleList([shared, nn.Sequential(shared)])
    assert accelerate(model).swapped == ["0"]
    assert model[0] is model[1][0]


def test_a_second_call_changes_nothing() -> None:
    model = nn.ModuleList([nn.LSTM(3, 4), nn.GRUCell(3, 4)])
    accelerate(model)
    report = accelerate(model)
    assert report.swapped == []
    assert report.left == dict.fromkeys(["0", "1"], "already of seq2seq_ext")


def replaced_forward() -> nn.Module:
    module = nn.GRU(3, 4)
    module.forward = lambda x: x  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Own(3, 4), "a class of its own, Own"),
        (replaced_forward, "its forward is replaced"),
        (lambda: nn.LSTM(3, 4, dtype=torch.bfloat16), "torch.bfloat16"),
        (lambda: nn.GRU(3, 4, device="meta"), "on meta"),
        (lambda: weight_norm(nn.LSTM(3, 4), "weight_hh_l0"), "its weights are computed"),
        (
            lambda: parametrizations.weight_norm(nn.GRUCell(3, 4), "weight_hh"),
            "its weights are parametrized",
        ),
        (lambda: torch.jit.script(nn.LSTM(3, 4)), "compiled by torch.jit"),
        (
            lambda: torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(3, 4)))[0],
            "quantized",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_leaves_and_says_why(make: Any, why: str) -> None:
    model = nn.Sequential()
    model.add_module("odd", make())
    kind = type(model.odd)
    report = accelerate(model)
    assert report.swapped == []
    assert why in report.left["odd"]
    assert type(model.odd) is kind
    assert "left odd: " in str(report)


def test_nothing_to_do() -> None:
    report = accelerate(nn.Linear(2, 2))
    assert report == seq2seq_ext.nn.AccelerateReport()
    assert str(report) == "no recurrent module found"


@pytest.mark.parametrize("wrong", [None, 3, nn.LSTM, [nn.LSTM(1, 1)]])
def test_wrong_argument(wrong: Any) -> None:
    with pytest.raises(TypeError, match="accelerate: module: expected"):
        accelerate(wrong)
