"""The one explicit switch between the kernels and the plain PyTorch reference."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NAMES = ("kernels", "reference")
_active: ContextVar[str] = ContextVar("seq2seq_ext_backend", default="kernels")


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Runs every op of this package on ``name`` inside the ``with`` block.

    Args:
        name: ``"kernels"`` (the default outside any block) or ``"reference"``, the plain
            PyTorch functions of :mod:`seq2seq_ext.reference`, slow and readable.

    Raises:
        ValueError: another name.

    Example:
        >>> import torch, seq2seq_ext
        >>> gru, x = seq2seq_ext.GRU(3, 4), torch.randn(5, 2, 3)
        >>> with seq2seq_ext.backend("reference"):
        ...     expected, _ = gru(x)
        >>> torch.allclose(gru(x)[0], expected, atol=1e-6)
        True
    """
    if name not in _NAMES:
        raise ValueError(f"backend: name: expected one of {_NAMES}, got {name!r}")
    token = _active.set(name)
    try:
        yield
    finally:
        _active.reset(token)


def reference_active() -> bool:
    """Whether a ``backend("reference")`` block is open here."""
    return _active.get() == "reference"
