"""The figures of a run as a table in Markdown: what the README shows."""

from collections.abc import Iterable, Iterator

from benchmarks.harness import Comparison, Timing

_HEAD = ("work", "ours", "rival", "ratio", "aim", "at the floor", "of the floor", "of brgemm")
_OWN = ("Growth of ", "Search engine ", "Decoding without ")  # ours against itself


def markdown(comparisons: Iterable[Comparison]) -> str:
    """A row for the best rival of each comparison, and for the best that has each aim of its own;
    where that is in another type, one for the best in float32 too. Then what memory they take.

    ``at the floor`` is the ratio of a program that took no longer than the floor, ``of brgemm``
    the part of our time that torch's own micro-kernel would take for the products alone.
    """
    rows = [row for each in comparisons if not each.work.startswith(_OWN) for row in _rows(each)]
    rule = ["---"] * len(_HEAD)
    return "".join(f"| {' | '.join(row)} |\n" for row in (_HEAD, rule, *rows))


def _rows(comparison: Comparison) -> Iterator[list[str]]:
    for rival in _rivals(comparison):
        ratio, aim = comparison.ratio(rival), comparison.aims.get(rival.name)
        part = comparison.of_floor()
        yield [
            comparison.work,
            _time(comparison.timings[0]),
            f"{rival.name} {_time(rival)}",
            _times(ratio),
            _times(aim),
            _times(part and ratio / part),
            _percent(part),
            _percent(comparison.of_brgemm()),
        ]
    ours, *rivals = comparison.peaks or [""]
    for name in rivals:
        ratio = comparison.peaks[name] / comparison.peaks[ours]
        sizes = (f"{comparison.peaks[each] / 2**20:.0f} MiB" for each in (ours, name))
        own, theirs = sizes
        aim = comparison.peak_aims.get(name)
        work = f"{comparison.work}, memory"
        yield [work, own, f"{name} {theirs}", _times(ratio), _times(aim), "", "", ""]


def _rivals(comparison: Comparison) -> list[Timing]:
    best: dict[tuple[float | None, bool], Timing] = {}
    for rival in sorted(comparison.timings[1:], key=lambda timing: timing.median):
        best.setdefault((comparison.aims.get(rival.name), _is_reduced(rival)), rival)
    quickest = min((timing.median for timing in best.values()), default=0.0)
    return [
        timing for (_, reduced), timing in best.items() if not reduced or timing.median == quickest
    ]


def _is_reduced(rival: Timing) -> bool:
    return "in bfloat16" in rival.name or "in int8" in rival.name


def _time(timing: Timing) -> str:
    seconds = timing.median
    return f"{seconds:.2f} s" if seconds >= 1 else f"{_digits(seconds * 1e3)} ms"


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _times(ratio: float | None) -> str:
    return f"{_digits(ratio)}x" if ratio else ""


def _percent(part: float | None) -> str:
    return f"{part:.0%}" if part else ""
