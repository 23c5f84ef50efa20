"""Other systems with our weights: those that are installed, and why the others are not here."""

import importlib
from types import ModuleType

absent: dict[str, str] = {}  # what load has not found, and why

DECODERS = ("joeynmt", "opennmt", "transformers", "beamgrad")


def load(name: str, *, on_gpu: bool = False) -> ModuleType | None:
    """The module of a rival; None, said aloud, where its package is not installed.

    Nor with ``on_gpu`` where it says ``HAS_CUDA = False``.
    """
    try:
        module = importlib.import_module(f"benchmarks.rivals.{name}")
    except ImportError as error:
        return _without(name, str(error))
    if on_gpu and not getattr(module, "HAS_CUDA", True):
        return _without(name, "it was built without CUDA")
    return module


def _without(name: str, why: str) -> None:
    print(f"    without {name}: {why}")
    absent[name] = why
