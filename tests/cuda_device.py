"""The mark of tests that need a GPU, and its settings."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

import seq2seq_ext


def _missing() -> str | None:
    if not torch.cuda.is_available():
        return "no GPU"
    return None if seq2seq_ext.info()["cuda"] != "not built" else "built without CUDA kernels"


needs_cuda = pytest.mark.skipif(_missing() is not None, reason=_missing() or "")


@contextmanager
def tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before
