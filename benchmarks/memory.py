"""How much memory a contender's step takes at its peak."""

import ctypes
import gc
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def peak_of(module: str, name: str) -> int:
    """Bytes that a step of a contender of ``benchmarks.module`` adds to a fresh process' peak."""
    run = (sys.executable, "-m", "benchmarks.memory", module, name)
    return int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def peak(step: Callable[[], Any]) -> int:
    """Of a step that keeps nothing. What only the first ones need, code and compilers, is left
    out, and what the allocator keeps of them is given back."""
    for _ in range(2):
        step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """Of this process alone; the peak that getrusage tells begins with the parent's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) * 1024


if __name__ == "__main__":
    module, name = sys.argv[1:]
    print(peak(importlib.import_module(f"benchmarks.{module}").contender(name)))
