"""Loads the op library; the only place that knows where the shared objects are."""

from importlib.util import find_spec
from pathlib import Path

import torch


def _library() -> Path:
    """The op library lies beside the extension module, in an editable install too."""
    spec = find_spec("seq2seq_ext._C")
    if spec is None or spec.origin is None:
        raise ImportError(
            "seq2seq_ext is not built; build it with 'pip install --no-build-isolation .'"
        )
    return Path(spec.origin).with_name("libseq2seq_ext_ops.so")


def _release(version: str) -> str:
    """The part of a torch version that its C++ ABI follows: 2.13.0+cpu -> 2.13."""
    return ".".join(version.split("+")[0].split(".")[:2])


def _load() -> None:
    library = _library()
    try:
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        built_for = torch.ops.seq2seq_ext.built_for_torch()
    except (OSError, AttributeError) as error:
        raise ImportError(
            f"seq2seq_ext can't load its library with torch {torch.__version__}; build it for this "
            f"torch with 'pip install --no-build-isolation .' ({error})"
        ) from None
    if _release(built_for) != _release(torch.__version__):
        raise ImportError(
            f"seq2seq_ext was built for torch {built_for}, but torch {torch.__version__} is "
            "installed; rebuild it with 'pip install --no-build-isolation .'"
        )
    if reason := torch.ops.seq2seq_ext.isa_load_error():
        raise ImportError(f"SEQ2SEQ_EXT_ISA can't be honoured: {reason}")


_load()
