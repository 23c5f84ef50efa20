"""The GRU: op, layer and cell."""

from recurrent_cases import GRU
from recurrent_op_suite import OpSuite
from recurrent_op_suite import pytest_generate_tests_for_cases as pytest_generate_tests  # noqa: F401


class TestOp(OpSuite):
    kind = GRU
