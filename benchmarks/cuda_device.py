"""Timing on a GPU, and what it can do at most."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
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


def compare_with_floor(
    work: str, needs: Sequence[Need], ours: Run, rivals: dict[str, Run], **keywords: Any
) -> Comparison:
    """:func:`compare` on a GPU, with the floor of what the parts of the work need there."""
    comparison = compare(work, ours, rivals, seconds_of=seconds_of, **keywords)
    needs = [replace(need, memory="HBM") for need in needs]
    rates = {need.dtype: matrix_rate(need.dtype) for need in needs}
    comparison.floor = floor(needs, {**rates, "HBM": bandwidth()})
    return comparison


def peak_memory(run: Callable[[], Any]) -> int:
    """Bytes that a run takes beside what is there."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
