"""The RNN, tanh and relu: op, layer and cell."""

import pytest
from recurrent_cases import RNN_RELU, RNN_TANH
from recurrent_cell_suite import CellSuite
from recurrent_layer_suite import LayerSuite, generate_options
from recurrent_op_suite import OpSuite, generate_cases
from recurrent_pair_suite import generate_samples
from recurrent_weights_suite import WeightsSuite


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
