"""backend(): the explicit switch to the reference."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import seq2seq_ext
from seq2seq_ext import backend
from seq2seq_ext.ops.backend import reference_active


def test_switches_and_comes_back() -> None:
    assert not reference_active()
    with backend("reference"):
        assert reference_active()
        with backend("kernels"):
            assert not reference_active()
        assert reference_active()
    assert not reference_active()


def test_comes_back_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="inside"), backend("reference"):
        raise RuntimeError("inside")
    assert not reference_active()


def test_belongs_to_its_thread() -> None:
    with backend("reference"), ThreadPoolExecutor(1) as pool:
        assert not pool.submit(reference_active).result()


@pytest.mark.parametrize("name", ["", "torch", "Reference", None, 1])
def test_wrong_name(name: object) -> None:
    with pytest.raises(ValueError, match="backend: name: expected"), backend(name):  # type: ignore[arg-type]
        pass


def test_a_compiled_module_follows() -> None:
    gru, x = seq2seq_ext.GRU(3, 4), torch.randn(2, 2, 3)
    compiled = torch.compile(gru, fullgraph=True, backend="eager")
    expected = compiled(x)[0]
    with backend("reference"):
        torch.testing.assert_close(compiled(x)[0], expected)
