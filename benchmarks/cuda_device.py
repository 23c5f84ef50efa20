"""Timing on a GPU, and what it can do at most."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from benchmarks.floors import Need, floor
from benchmarks.harness import Comparison, Run, compare


def seconds_of(run: Run) -> float:
    """Of the device, from the first of a contender's kernels to the last."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def _rate(amount: float, run: Run) -> float:
    for _ in range(3):
        run()
    return amount / statistics.median(seconds_of(run) for _ in range(10))


@cache
def bandwidth() -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return _rate(2 * 2**30, lambda: target.copy_(source))


@cache
def matrix_rate(dtype: str) -> float:
    """Operations a second of a large square product."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda").to(getattr(torch, dtype)) for _ in range(2))
    return _rate(2 * size**3, lambda: a @ b)


def peak_memory(run: Callable[[], Any]) -> int:
    """Bytes that a run takes beside what is there."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@dataclass(frozen=True)
class Gpu:
    """Where the table is made, and how it is measured there."""

    device: str = "cuda"
    seconds_of: Callable[[Run], float] = seconds_of
    bandwidth: Callable[[], float] = bandwidth
    matrix_rate: Callable[[str], float] = matrix_rate
    peak_memory: Callable[[Run], int] = peak_memory
    seconds: float = 1.5  # of a comparison, or up to ten times that for:
    samples: int = 20

    def compare(
        self,
        work: str,
        needs: Sequence[Need],
        ours: Run,
        rivals: dict[str, Run],
        *,
        aims: dict[str, float],
        **keywords: Any,
    ) -> Comparison:
        """:func:`harness.compare` with the floor of what the parts of the work need there, and
        what the ratios ought to be."""
        comparison = compare(
            work,
            ours,
            rivals,
            seconds=self.seconds,
            samples=self.samples,
            seconds_of=self.seconds_of,
            **keywords,
        )
        needs = [replace(need, memory="HBM") for need in needs]
        rates = {need.dtype: self.matrix_rate(need.dtype) for need in needs}
        comparison.floor = floor(needs, {**rates, "HBM": self.bandwidth()})
        comparison.aims = aims
        return comparison
