"""Other systems with our weights: those that are installed, and why the others are not here."""

import importlib
from types import ModuleType

DECODERS = ("joeynmt", "opennmt", "transformers", "beamgrad")


def load(name: str) -> ModuleType | None:
    """The module of a rival; None, said aloud, where its package is not installed."""
    try:
        return importlib.import_module(f"benchmarks.rivals.{name}")
    except ImportError as error:
        print(f"    without {name}: {error}")
        return None
