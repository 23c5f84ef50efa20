"""The probes that benchmarks hold their times against."""

import pytest
import torch
from weight_cases import DTYPES

import seq2seq_ext  # noqa: F401  loads the ops

probes = torch.ops.seq2seq_ext


@pytest.mark.parametrize("dtype", [torch.float32, *DTYPES])
def test_operations_are_counted(dtype, weight_isa, threads):
    torch.set_num_threads(1)
    one = probes.floor_multiply(dtype, 1)
    torch.set_num_threads(2)
    assert one > 0
    assert probes.floor_multiply(dtype, 10) == 20 * one
    assert probes.floor_multiply(dtype, 0) == 0


def test_bytes_are_counted(isa):
    assert probes.floor_read(torch.ones(2, 3072, dtype=torch.uint8), 5) == 2 * 3072 * 5


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"^floor_multiply: dtype: expected .*, got Double"):
        probes.floor_multiply(torch.float64, 1)
    with pytest.raises(TypeError, match=r"^floor_read: buffer: expected Byte on cpu, got Float"):
        probes.floor_read(torch.ones(2, 1024), 1)
    for wrong in (torch.ones(2, 1000), torch.ones(1024, 2).t()):
        with pytest.raises(ValueError, match=r"^floor_read: buffer: expected contiguous rows"):
            probes.floor_read(wrong.byte(), 1)
    with pytest.raises(ValueError, match=r"^floor_read: buffer: expected 2 dimensions"):
        probes.floor_read(torch.ones(1024).byte(), 1)
