"""Fixtures and options that all tests share."""

from collections.abc import Iterator

import pytest
import torch

import seq2seq_ext  # noqa: F401  (loads the ops)

ISAS = torch.ops.seq2seq_ext.available_isas()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: a longer sweep; runs with --runslow or -m slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow") or config.getoption("-m"):
        return
    skip = pytest.mark.skip(reason="slow: needs --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


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
