"""Packed weights kept for inference: used only where they can't be stale."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recurrent_pair_suite import Calls
from torch import nn

import seq2seq_ext

PACK = "seq2seq_ext.lstm_pack"


@pytest.fixture
def layer() -> seq2seq_ext.LSTM:
    return seq2seq_ext.LSTM(3, 20, num_layers=2).eval()


def packs(module: nn.Module, x: torch.Tensor) -> int:
    """How many layers a call packs."""
    with torch.no_grad(), Calls() as calls:
        module(x)
    return calls.names.count(PACK)


def check_against_torch(layer: Any, x: torch.Tensor) -> None:
    twin = nn.LSTM(3, 20, num_layers=2, dtype=x.dtype)
    twin.load_state_dict(layer.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[0], twin(x)[0])


def test_packs_once(layer: seq2seq_ext.LSTM) -> None:
    x = torch.randn(4, 2, 3)
    assert packs(layer, x) == 2
    assert packs(layer, x) == packs(layer, torch.randn(1, 7, 3)) == 0
    assert "_packed_cache" not in layer.state_dict()


def add_in_place(layer: Any) -> None:
    with torch.no_grad():
        layer.weight_hh_l1.add_(1)


def optimizer_step(layer: Any) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.randn(2, 1, 3))[0].sum().backward()
    optimizer.step()


def load_other_weights(layer: Any) -> None:
    layer.load_state_dict({n: 2 * w for n, w in layer.state_dict().items()})


def replace_parameter(layer: Any) -> None:
    layer.weight_ih_l0 = nn.Parameter(torch.ones_like(layer.weight_ih_l0))


def replace_data(layer: Any) -> None:
    layer.weight_ih_l0.data = torch.ones_like(layer.weight_ih_l0)


def replace_data_twice(layer: Any) -> None:
    # The second tensor may get the first one's address.
    for _ in range(2):
        layer.weight_ih_l0.data = layer.weight_ih_l0.data * 2


def write_to_data(layer: Any) -> None:
    layer.weight_ih_l0.data.mul_(2)


def forget_bias(layer: Any) -> None:
    layer.bias_hh_l1.data[20:40] = 1


def write_to_data_and_tell(layer: Any) -> None:
    layer.weight_ih_l0.data.mul_(2)
    layer.flatten_parameters()


def write_to_data_in_training(layer: Any) -> None:
    layer.train()
    layer.weight_ih_l0.data.mul_(2)
    layer.eval()


def there_and_back(layer: Any) -> None:
    layer.double()
    layer.float()
    layer.weight_hh_l0.data.mul_(2)
    layer.flatten_parameters()


def share_a_weight(layer: Any) -> None:
    layer.weight_hh_l1 = layer.weight_hh_l0


@pytest.mark.parametrize(
    "change",
    [
        add_in_place,
        optimizer_step,
        load_other_weights,
        replace_parameter,
        replace_data,
        replace_data_twice,
        write_to_data,
        forget_bias,
        write_to_data_and_tell,
        write_to_data_in_training,
        there_and_back,
        share_a_weight,
    ],
    ids=lambda f: f.__name__,
)
def test_a_change_of_weights_shows(layer: Any, change: Callable[[Any], None]) -> None:
    x = torch.randn(4, 2, 3)
    assert packs(layer, x) == 2
    change(layer)
    check_against_torch(layer, x)


def test_another_dtype(layer: seq2seq_ext.LSTM) -> None:
    x = torch.randn(4, 2, 3)
    packs(layer, x)
    check_against_torch(layer.double(), x.double())


def test_another_isa(layer: seq2seq_ext.LSTM) -> None:
    x, ops = torch.randn(4, 2, 3), torch.ops.seq2seq_ext
    before = ops.isa()
    packs(layer, x)
    try:
        ops.set_isa("baseline")
        check_against_torch(layer, x)
    finally:
        ops.set_isa(before)
    check_against_torch(layer, x)


def test_a_copy_packs_for_itself(layer: seq2seq_ext.LSTM) -> None:
    x = torch.randn(4, 2, 3)
    packs(layer, x)
    twin = copy.deepcopy(layer)
    assert packs(twin, x) == 2
    add_in_place(twin)
    check_against_torch(twin, x)
    assert packs(layer, x) == 0


def test_never_kept_where_it_could_be_stale(layer: seq2seq_ext.LSTM) -> None:
    x = torch.randn(4, 2, 3)
    with Calls() as calls:
        layer(x)[0].sum().backward()  # gradients
    assert PACK not in calls.names
    assert packs(layer.share_memory(), x) == 0
    with torch.inference_mode():
        born_here = seq2seq_ext.LSTM(3, 20, num_layers=2).eval()
        assert packs(born_here, x) == 0


def test_frozen_weights_are_kept_with_gradients_on(layer: seq2seq_ext.LSTM) -> None:
    layer.requires_grad_(False)
    x = torch.randn(4, 2, 3)
    layer(x)
    with Calls() as calls:
        layer(x)
        assert PACK not in calls.names
        layer(x.requires_grad_())[0].sum().backward()
    assert x.grad is not None
    assert PACK not in calls.names


def test_a_cell_packs_once() -> None:
    cell, x = seq2seq_ext.LSTMCell(3, 20).eval(), torch.randn(2, 3)
    assert packs(cell, x) == 1
    assert packs(cell, x) == 0
    with torch.no_grad():
        cell.bias_ih.add_(1)
        expected = nn.LSTMCell(3, 20)
        expected.load_state_dict(cell.state_dict())
        torch.testing.assert_close(cell(x), expected(x))
