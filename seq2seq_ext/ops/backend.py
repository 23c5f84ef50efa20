"""The one explicit switch between the kernels and the plain PyTorch reference."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NAMES = ("kernels", "reference")


class _Active(threading.local):
    """The backend of each thread. Not a ContextVar: torch.compile can't trace one."""

    def __init__(self) -> None:
        self.name = "kernels"


_active = _Active()


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
    outer = _active.name
    _active.name = name
    try:
        yield
    finally:
        _active.name = outer


def reference_active() -> bool:
    """Whether a ``backend("reference")`` block is open here."""
    return _active.name == "reference"
