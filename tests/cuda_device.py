"""The mark of tests that need a GPU."""

import pytest
import torch

import seq2seq_ext


def _missing() -> str | None:
    if not torch.cuda.is_available():
        return "no GPU"
    return None if seq2seq_ext.info()["cuda"] != "not built" else "built without CUDA kernels"


needs_cuda = pytest.mark.skipif(_missing() is not None, reason=_missing() or "")
