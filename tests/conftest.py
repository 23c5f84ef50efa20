"""Fixtures and options that all tests share."""

from collections.abc import Iterator

import pytest
import torch

import seq2seq_ext  # noqa: F401  (loads the ops)

ISAS = torch.ops.seq2seq_ext.available_isas()


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of this CPU in turn; the one in force comes back afterwards."""
    before = torch.ops.seq2seq_ext.isa()
    torch.ops.seq2seq_ext.set_isa(request.param)
    yield request.param
    torch.ops.seq2seq_ext.set_isa(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Brings the thread count back after a test that changes it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
