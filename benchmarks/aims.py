"""How many times faster than which rival, and smaller, each work on the CPU is meant to be."""

import re
from dataclasses import dataclass

from benchmarks.harness import Comparison


@dataclass(frozen=True)
class _Aim:
    """Of the works that ``work`` matches, over the rivals whose names begin with ``rival``."""

    work: str
    times: float
    rival: str = ""


def _of_types(work: str, *times: float) -> list[_Aim]:
    """In float32, bfloat16 and int8."""
    found = zip(("float32", "bfloat16", "int8"), times, strict=True)
    return [_Aim(f"{work}, {dtype}", each) for dtype, each in found]


_AIMS = (
    _Aim("LSTM forward, padded .* (float32|bfloat16)", 1.15),
    _Aim("LSTM, 64 rows .*: forward", 2.6, "nn.LSTM packed"),
    _Aim("LSTM, 64 rows .*: training step$", 3, "nn.LSTM packed"),
    _Aim("LSTM, 64 rows .*: (forward|training step)$", 1.6, "nn.LSTM padded"),
    _Aim("GRU, 64 rows .*: forward", 2.5, "nn.GRU packed"),
    _Aim("GRU, 64 rows .*: forward", 4, "nn.GRU padded"),
    _Aim("GRU, 64 rows .*: training step$", 2.8, "nn.GRU packed"),
    *_of_types("LSTM, 20 steps of 2 layers, B=1, H=512", 11, 22, 35),
    *_of_types("LSTM, 20 steps of 2 layers, B=5, H=512", 10, 20, 30),
    *_of_types("LSTM, 20 steps of 2 layers, B=32, H=512", 4, 8, 14),
    _Aim("LSTMCell", 3),
    _Aim("Additive attention step, 32 ", 20, "eager"),
    _Aim("Additive attention step, 32 ", 10, "compiled"),
    _Aim("Additive attention step, 160 ", 8, "eager"),
    _Aim("Additive attention step, 160 ", 4, "compiled"),
    _Aim("Additive attention, .*backward", 6),
    _Aim("Projection .*, 5 rows, .* float32", 4),
    _Aim("Projection .*, 5 rows, .* int8", 12),
    _Aim("Projection .*, 160 rows, .* float32", 3.3),
    _Aim("Projection .*, 160 rows, .* int8", 10),
    *_of_types("Decoding: .* S=25, 30 steps, B=1", 8, 15, 30),
    *_of_types("Decoding: .* S=25, 30 steps, B=32", 5.5, 9, 15),
    _Aim("Decoding: G2P, .* in batches of 1,", 15),
    _Aim("Decoding: G2P, .* in batches of 64,", 8),
    _Aim("Training step: .* 64 of 5..50$", 3),
    _Aim("Training step of that model", 3),
)
_PEAK_AIMS = (
    _Aim("Additive attention, .*backward", 20),
    _Aim("Training step: .* 64 of 5..50$", 3),
)


def add(comparison: Comparison) -> None:
    """Those that are set here, to a comparison of the CPU; one on a GPU has its own."""
    if comparison.aims:
        return
    names = [timing.name for timing in comparison.timings[1:]]
    comparison.aims |= _of(comparison.work, names, _AIMS)
    comparison.peak_aims |= _of(comparison.work, list(comparison.peaks)[1:], _PEAK_AIMS)


def _of(work: str, names: list[str], aims: tuple[_Aim, ...]) -> dict[str, float]:
    found = [aim for aim in aims if re.match(aim.work, work)]
    return {name: aim.times for aim in found for name in names if name.startswith(aim.rival)}
