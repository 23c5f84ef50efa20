"""Interleaved medians of contenders that give equal results."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.floors import Floor, Need, Probe
from seq2seq_ext import ops

Run = Callable[[], Any]

_SHORT = 0.5  # seconds; far longer than threads spin
_FEWEST = 5  # samples, however long they take
_PATIENCE = 10  # times the seconds told, for as many samples as are wanted


@dataclass
class Timing:
    """Seconds of one contender: median and quartiles of its samples."""

    name: str
    median: float
    lower: float
    upper: float
    samples: int

    def __str__(self) -> str:
        quartiles = f"[{self.lower * 1e3:.3f}, {self.upper * 1e3:.3f}]"
        return f"{self.median * 1e3:.3f} ms {quartiles} of {self.samples}"


@dataclass
class Comparison:
    """Ours first, then the rivals.

    Attributes:
        peaks: bytes at the peak of a step, by contender.
        aims, peak_aims: the ratios of times and of peaks that are aimed at, by rival.
    """

    work: str
    timings: list[Timing]
    floor: Floor | None = None
    peaks: dict[str, int] = field(default_factory=dict)
    aims: dict[str, float] = field(default_factory=dict)
    peak_aims: dict[str, float] = field(default_factory=dict)

    def ratio(self, timing: Timing) -> float:
        """How many times ours is faster."""
        return timing.median / self.timings[0].median

    def of_floor(self) -> float | None:
        """The part of our time that no program could spare."""
        return self.floor and self.floor.seconds / self.timings[0].median

    def of_brgemm(self) -> float | None:
        """The same at the rate of torch's own micro-kernel."""
        if not self.floor or not self.floor.brgemm_seconds:
            return None
        return self.floor.brgemm_seconds / self.timings[0].median

    def lines(self) -> list[str]:
        ours, *rivals = self.timings
        lines = [f"{self.work}: {ours}"]
        if self.floor:
            lines.append(f"    {self.of_floor():6.0%} of the floor: {self.floor}")
            if self.of_brgemm():
                lines.append(f"    {self.of_brgemm():6.0%} of the rate of torch's brgemm")
        lines += [
            f"    {self.ratio(rival):6.2f}x{_aim(self.aims, rival.name)} over {rival.name}: {rival}"
            for rival in rivals
        ]
        return lines + [
            f"    peak memory of {name}: {peak / 2**20:.1f} MiB, "
            f"{peak / self.peaks[ours.name]:.2f}x ours{_aim(self.peak_aims, name)}"
            for name, peak in self.peaks.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _aim(aims: dict[str, float], name: str) -> str:
    return f" (aim {aims[name]:g}x)" if name in aims else ""


def weight_types() -> list[str]:
    """Those that this build packs weights in."""
    found = []
    for name in ("float32", "bfloat16", "int8"):
        try:
            ops.linear_pack(torch.ones(1, 1), dtype=getattr(torch, name))
        except ValueError:
            continue
        found.append(name)
    return found


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, (tuple, list)):
        return [t for part in result for t in _tensors(part)]
    return []


def seconds_of(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(
    work: str,
    ours: Run,
    rivals: dict[str, Run],
    *,
    seconds: float = 3.0,
    samples: int = _FEWEST,
    atol: float = 1e-4,
    equal: bool = True,
    seconds_of: Callable[[Run], float] = seconds_of,
    needs: Sequence[Need] = (),
) -> Comparison:
    """Checks that all give the same tensors, then times them in turn.

    Args:
        work: what is measured, for the report.
        ours, rivals: each returns its result; what only one of them returns is not compared.
        seconds, samples: how long to measure, and how often, about; see :func:`measure`.
        atol: how far results may lie apart.
        equal: False where a rival's result can't be compared (smaller weights, say, that choose
            other tokens).
        seconds_of: runs a contender once and times it.
        needs: what the parts of the work can't do without; their floor is then measured in the
            same rounds.
    """
    contenders = {"ours": ours, **rivals}
    results = {name: _tensors(run()) for name, run in contenders.items()}
    if equal:
        _check_equal(work, results, atol)
    probes = [Probe(*needs)] if needs else []
    timings = measure(contenders, seconds, seconds_of, probes, samples)
    return Comparison(work, timings, *(probe.floor() for probe in probes))


def compare_types(
    work: str,
    ours: dict[str, Run],
    rivals: dict[str, Run],
    needs: dict[str, Need],
    *,
    reduced: dict[str, Run],
    seconds: float = 3.0,
) -> list[Comparison]:
    """The same with several of ours, by weight type, and with the need of each: one run of all, a
    comparison each. ``reduced`` are rivals in other types than float32. Results are compared with
    float32's, those of the other types loosely."""
    contenders = {**ours, **rivals, **reduced}
    found = {name: _tensors(run()) for name, run in contenders.items()}
    _check_equal(work, {name: found[name] for name in ("float32", *rivals)}, atol=1e-4)
    _check_equal(work, {name: found[name] for name in (*ours, *reduced)}, atol=0.1)
    probes = [Probe(needs[dtype]) for dtype in ours]
    timings = measure(contenders, seconds, probes=probes)
    theirs, others = timings[len(ours) :][: len(rivals)], timings[len(ours) + len(rivals) :]
    return [
        Comparison(
            f"{work}, {dtype}",
            [own, *theirs, *(() if dtype == "float32" else others)],
            probe.floor(),
        )
        for dtype, own, probe in zip(ours, timings, probes, strict=False)
    ]


def _check_equal(work: str, results: dict[str, list[Tensor]], atol: float) -> None:
    """All against the first."""
    expected = next(iter(results.values()))
    for name, got in results.items():
        for a, b in zip(expected, got, strict=False):
            if not torch.allclose(a, b.to(a.dtype), atol=atol, rtol=1e-3):
                raise AssertionError(f"{work}: {name} differs by {(a - b).abs().max():.2e}")


def measure(
    contenders: dict[str, Run],
    seconds: float,
    seconds_of: Callable[[Run], float] = seconds_of,
    probes: Sequence[Probe] = (),
    samples: int = _FEWEST,
) -> list[Timing]:
    """Times all in turn for about ``seconds``, at least five times; probes have their turn too.
    For ``samples`` of each it goes on up to ten times as long.

    A short run is made twice and timed the second time: the first finds another's data in the
    caches, and another's threads, which spin for a while, on the cores.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    start, rounds = time.perf_counter(), 0

    def is_enough() -> bool:
        wanted = seconds * (_PATIENCE if rounds < samples else 1)
        return rounds >= _FEWEST and time.perf_counter() - start >= wanted

    while not is_enough():
        rounds += 1
        for probe in probes:
            probe.sample()
        for name, run in contenders.items():
            first = seconds_of(run)
            found[name].append(seconds_of(run) if first < _SHORT else first)
    return [_timing(name, values) for name, values in found.items()]


def _timing(name: str, values: Sequence[float]) -> Timing:
    lower, median, upper = statistics.quantiles(values, n=4)
    return Timing(name, median, lower, upper, len(values))
