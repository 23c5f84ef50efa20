"""The machine's best rates, and the least time that a piece of work can take on it."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

import seq2seq_ext  # noqa: F401  loads the ops

BYTES_OF = {"float32": 4, "bfloat16": 2, "int8": 1}  # a weight

# Of each thread: past its own caches but within the shared one; past every cache.
_BYTES = {"L3": 4 << 20, "DRAM": 256 << 20}
_DTYPES = tuple(BYTES_OF)


@dataclass(frozen=True)
class Need:
    """What work, or a part of it, can't do without; it takes no less than the slowest of them.

    Attributes:
        operations: multiplications and additions of its products.
        dtype: the type of the products.
        bytes: what has to be read at least once.
        memory: where that lies, ``"L3"`` or ``"DRAM"``; on a GPU it is the GPU's own.
    """

    operations: float
    dtype: str = "float32"
    bytes: float = 0.0
    memory: str = "L3"


@dataclass
class Floor:
    """What a need takes at least, and the rates a second that say so.

    Attributes:
        seconds: at the rate of the instructions that products are made of.
        brgemm_seconds: at the rate of torch's own micro-kernel; none where that was not measured.
    """

    seconds: float
    rates: dict[str, float]
    brgemm_seconds: float | None = None

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate / 1e9:.0f} G/s" for name, rate in self.rates.items())
        return f"{self.seconds * 1e3:.3f} ms ({rates})"


def floor(needs: Sequence[Need], rates: dict[str, float]) -> Floor:
    """Of parts that follow one another."""

    def seconds(products: dict[str, float]) -> float:
        parts = (
            (need.operations / products[need.dtype], need.bytes and need.bytes / rates[need.memory])
            for need in needs
        )
        return sum(max(part) for part in parts)

    brgemm = {need.dtype: rates.get(_brgemm(need.dtype), 0.0) for need in needs}
    return Floor(seconds(rates), rates, seconds(brgemm) if all(brgemm.values()) else None)


def _brgemm(dtype: str) -> str:
    return f"{dtype} brgemm"


class Probe:
    """Measures the rates that needs ask for, a sample at a time, with torch's threads.

    Several needs are those of parts that follow one another.
    """

    def __init__(self, *needs: Need) -> None:
        self._needs = needs
        self._rates: dict[str, list[float]] = {need.dtype: [] for need in needs}
        self._buffers = {need.memory: _buffer(need.memory) for need in needs if need.bytes}
        self._rates |= {_brgemm(need.dtype): [] for need in needs}
        self._rates |= {memory: [] for memory in self._buffers}

    def sample(self) -> None:
        for name, rates in self._rates.items():
            dtype, _, brgemm = name.partition(" ")
            if name in self._buffers:
                rates.append(_read_rate(self._buffers[name]))
            else:
                rates.append(_brgemm_rate(dtype) if brgemm else _product_rate(dtype))

    def floor(self) -> Floor:
        # The best: threads of a rival that still spin only take away from it.
        return floor(self._needs, {name: max(samples) for name, samples in self._rates.items()})


@cache
def _cache_size() -> int:
    """Bytes of the shared cache; where the system does not tell, what few have more of."""
    told = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    return int(told.read_text().rstrip("K\n")) << 10 if told.exists() else 48 << 20


def memory_of(size: float) -> str:
    """Where weights of so many bytes are in the long run."""
    return "DRAM" if size > _cache_size() else "L3"


def system() -> dict[str, str]:
    """What the figures are measured on, and under."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cpus": str(os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def machine() -> dict[str, dict[str, float]]:
    """Every rate, of one thread and of all that torch uses: operations or bytes a second."""
    threads = torch.get_num_threads()
    rates = {}
    for name, count in (("one thread", 1), (f"{threads} threads", threads)):
        torch.set_num_threads(count)
        probes = [Probe(Need(1.0, dtype)) for dtype in _DTYPES]
        probes += [Probe(Need(1.0, bytes=1.0, memory=memory)) for memory in _BYTES]
        for _ in range(9):
            for probe in probes:
                probe.sample()
        rates[name] = {k: v for probe in probes for k, v in probe.floor().rates.items()}
    torch.set_num_threads(threads)
    return rates


def _product_rate(dtype: str) -> float:
    steps = 200_000  # a millisecond or two
    start = time.perf_counter()
    operations = torch.ops.seq2seq_ext.floor_multiply(getattr(torch, dtype), steps)
    return operations / (time.perf_counter() - start)


def _brgemm_rate(dtype: str) -> float:
    """0 where torch has no such kernel for the type."""
    start = time.perf_counter()
    operations = torch.ops.seq2seq_ext.floor_brgemm(getattr(torch, dtype), 200)
    return operations / (time.perf_counter() - start)


def _buffer(memory: str) -> Tensor:
    return torch.ones(torch.get_num_threads(), _BYTES[memory], dtype=torch.uint8)


def _read_rate(buffer: Tensor) -> float:
    times = max(1, (64 << 20) // buffer.size(1))
    start = time.perf_counter()
    read = torch.ops.seq2seq_ext.floor_read(buffer, times)
    return read / (time.perf_counter() - start)
