"""Other systems with our weights: those that are installed, and why the others are not here."""

import importlib
from types import ModuleType

DECODERS = ("joeynmt", "opennmt", "transformers", "beamgrad")


def load(name: str, *, on_gpu: bool = False) -> ModuleType | None:
    """The module of a rival; None, said aloud, where its package is not installed.

    Nor with ``on_gpu`` where it says ``HAS_CUDA = False``.
    """
    try:
        module = importlib.import_module(f"benchmarks.rivals.{name}")
    except ImportError as error:
        print(f"    without {name}: {error}")
        return None
    if on_gpu and not getattr(module, "HAS_CUDA", True):
        print(f"    without {name}: it was built without CUDA")
        return None
    return module
