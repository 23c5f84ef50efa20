"""The GRU: op, layer and cell."""

import pytest
from recurrent_cases import GRU
from recurrent_cell_suite import CellSuite
from recurrent_layer_suite import LayerSuite, generate_options
from recurrent_op_suite import OpSuite, generate_cases
from recurrent_pair_suite import generate_samples
from recurrent_weights_suite import WeightsSuite


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    generate_cases(metafunc)
    generate_options(metafunc)
    generate_samples(metafunc)


class TestOp(OpSuite):
    kind = GRU


class TestLayer(LayerSuite):
    kind = GRU


class TestCell(CellSuite):
    kind = GRU


class TestWeights(WeightsSuite):
    kind = GRU
