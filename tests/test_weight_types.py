"""The names of the weight types are those that the pack ops know."""

import pytest
import torch

from seq2seq_ext import ops
from seq2seq_ext.ops.weight_types import WEIGHT_TYPES, check_weight_type


@pytest.mark.parametrize("name", WEIGHT_TYPES)
def test_packs_in_each(name: str) -> None:
    check_weight_type("here", name)
    assert ops.linear_pack(torch.ones(2, 3), dtype=WEIGHT_TYPES[name]).dtype == WEIGHT_TYPES[name]


@pytest.mark.parametrize("wrong, error", [("float16", ValueError), (torch.int8, TypeError)])
def test_refuses_others(wrong: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="here: dtype: expected"):
        check_weight_type("here", wrong)
