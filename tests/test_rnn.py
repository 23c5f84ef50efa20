"""The RNN, tanh and relu: op, layer and cell."""

import pytest
import torch
from recurrent_cases import RNN_RELU, RNN_TANH
from recurrent_cell_suite import CellSuite
from recurrent_layer_suite import LayerSuite, generate_options
from recurrent_op_suite import OpSuite, generate_cases
from recurrent_pair_suite import generate_samples
from recurrent_weights_suite import WeightsSuite

from seq2seq_ext import ops


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    generate_cases(metafunc)
    generate_options(metafunc)
    generate_samples(metafunc)


class TestTanhOp(OpSuite):
    kind = RNN_TANH


class TestReluOp(OpSuite):
    kind = RNN_RELU


class TestTanhLayer(LayerSuite):
    kind = RNN_TANH


class TestReluLayer(LayerSuite):
    kind = RNN_RELU


class TestTanhCell(CellSuite):
    kind = RNN_TANH


class TestReluCell(CellSuite):
    kind = RNN_RELU


class TestTanhWeights(WeightsSuite):
    kind = RNN_TANH


class TestReluWeights(WeightsSuite):
    kind = RNN_RELU


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0.8, 1), (1, 2), (2, 10), (-1e-30, 1e-30)])
@pytest.mark.not_emulated("its tanh is that of the C library, and half a million rows take long")
def test_tanh_is_as_exact_as_torchs(low: float, high: float, isa: str) -> None:
    """The function alone, where its error is the whole error: no tiny term."""
    x = torch.empty(500_000).uniform_(low, high)
    weights = [torch.ones(1, 1), torch.zeros(1, 1)]
    found, _ = ops.rnn(x[None, :, None], torch.zeros(1, len(x), 1), weights, has_biases=False)
    exact = torch.tanh(x.double())
    torchs = (torch.tanh(x) - exact).abs().max()
    assert (found.flatten() - exact).abs().max() <= 2 * torchs
