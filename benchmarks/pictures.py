"""Pictures of the figures: bars against the rivals, curves of growth."""

import re
from pathlib import Path

from benchmarks.harness import Comparison
from seq2seq_ext.files import atomic_write
from seq2seq_ext.plotting import require_matplotlib

_GROWTH = re.compile(r"Growth of (.+) with (\w+)")


def draw(comparisons: list[Comparison], folder: Path) -> None:
    """Writes ``rivals.png`` and ``growth.png``, each if there is something for it.

    Raises:
        ImportError: matplotlib isn't installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    growth = [c for c in comparisons if _GROWTH.match(c.work)]
    against = [c for c in comparisons if not _GROWTH.match(c.work) and len(c.timings) > 1]
    if against:
        _bars(against, folder / "rivals.png")
    if growth:
        _curves(growth, folder / "growth.png")


def _bars(comparisons: list[Comparison], path: Path) -> None:
    bars = [(c, rival) for c in comparisons for rival in c.timings[1:]]
    figure = require_matplotlib().Figure(figsize=(11, 1 + 0.22 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    ratios = [comparison.ratio(rival) for comparison, rival in bars]
    axes.barh(range(len(bars)), ratios)
    names = [f"{comparison.work[:70]}: {rival.name[:40]}" for comparison, rival in bars]
    axes.set_yticks(range(len(bars)), names, fontsize=6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("times faster than (1: as fast)")
    axes.invert_yaxis()
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=130)


def _curves(comparisons: list[Comparison], path: Path) -> None:
    """Time relative to the smallest size against the size relative to it."""
    figure = require_matplotlib().Figure(figsize=(11, 5), layout="constrained")
    works = dict.fromkeys(_GROWTH.match(c.work)[1] for c in comparisons)  # type: ignore[index]
    for place, work in enumerate(works):
        axes = figure.add_subplot(1, len(works), place + 1, title=work)
        for comparison in comparisons:
            found, dim = _GROWTH.match(comparison.work).groups()  # type: ignore[union-attr]
            if found != work:
                continue
            sizes = [int(t.name.partition("=")[2]) for t in comparison.timings]
            times = [comparison.ratio(t) for t in comparison.timings]
            axes.plot([s / sizes[0] for s in sizes], times, marker="o", label=dim)
        axes.plot([1, 8], [1, 8], linestyle=":", color="black", label="linear")
        axes.set(xscale="log", yscale="log", xlabel="size (1: smallest)", ylabel="time")
        axes.legend()
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=130)
