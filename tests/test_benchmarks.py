"""What a run of the benchmarks keeps."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__, aims, floors, harness, processes, rivals, table
from benchmarks.floors import Floor
from benchmarks.harness import Comparison, Timing, compare


def run() -> Iterator[Comparison]:
    assert rivals.load("abacus") is None
    yield compare("Nothing", lambda: None, {"the same": lambda: None}, seconds=0)
    raise SystemExit("one is left out")


def test_json_tells_machine_versions_and_who_was_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"2 threads": {"float32": 1e12, "DRAM": 1e10}}
    monkeypatch.setattr(floors, "machine", lambda: rates)
    monkeypatch.setitem(sys.modules, "benchmarks.topk", SimpleNamespace(run=run))
    monkeypatch.setattr(rivals, "absent", {})
    monkeypatch.setattr(processes, "alone", lambda work, *arguments: work(*arguments))
    monkeypatch.setattr(sys, "argv", ["", "topk", "--json", str(tmp_path / "kept.json")])
    with pytest.raises(SystemExit, match="one is left out"):
        __main__.main()
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["machine"] == rates
    assert kept["system"]["cpu"] and kept["system"]["python"]
    assert kept["info"]["isa"] and kept["info"]["torch"]
    assert "abacus" in kept["absent"]["abacus"]
    assert "without abacus" in capsys.readouterr().out
    (row,) = kept["rows"]
    assert [timing["name"] for timing in row["timings"]] == ["ours", "the same"]
    assert all(t["lower"] <= t["median"] <= t["upper"] for t in row["timings"])


def two_then_an_end(first: int) -> Iterator[tuple[int, int]]:
    yield first, os.getpid()
    yield first + 1, os.getpid()
    raise SystemExit(3)


def test_a_benchmark_has_a_process_of_its_own() -> None:
    found = processes.alone(two_then_an_end, 7)
    (one, process), (two, same) = next(found), next(found)
    assert (one, two) == (7, 8)
    assert process == same != os.getpid()
    with pytest.raises(SystemExit, match="7: its process ended with 3"):
        next(found)


# A short run is made twice.
@pytest.mark.parametrize(("seconds", "samples"), [(1 / 64, 48), (0.25, 20), (1.0, 15), (60.0, 5)])
def test_how_often_a_run_is_timed(
    seconds: float, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For long enough, or 20 times where that takes no more than ten times as long."""
    clock = [0.0]
    monkeypatch.setattr(harness, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def work() -> None:
        clock[0] += seconds

    (timing,) = harness.measure({"ours": work}, 1.5, harness.seconds_of, samples=20)
    assert timing == Timing("ours", seconds, seconds, seconds, samples)


def timings(**medians: float) -> list[Timing]:
    return [Timing(name, m, m, m, 5) for name, m in medians.items()]


def test_each_aim_and_each_type_has_its_best_rival_in_the_table() -> None:
    step = "LSTM, 20 steps of 2 layers, B=5, H=512"
    rivals = {"nn.LSTM": 8.0, "nn.LSTMCells": 6.0, "nn.LSTM in int8": 4.0}
    ragged = "LSTM, 64 rows of 5..50, bidirectional, H=512: forward"
    found = [
        Comparison(f"{step}, int8", timings(ours=2.0, **rivals), Floor(1.0, {}, 0.5)),
        Comparison(
            ragged, timings(**{"ours": 0.001, "nn.LSTM packed": 0.003, "nn.LSTM padded": 0.1234})
        ),
        Comparison("Growth of a decode with B", timings(ours=1.0, two=2.0)),
    ]
    for comparison in found:
        aims.add(comparison)
    _, _, *rows = table.markdown(found).splitlines()
    assert rows == [
        f"| {step}, int8 | 2.00 s | nn.LSTM in int8 4.00 s | 2x | 30x | 4x | 50% | 25% |",
        f"| {step}, int8 | 2.00 s | nn.LSTMCells 6.00 s | 3x | 30x | 6x | 50% | 25% |",
        f"| {ragged} | 1 ms | nn.LSTM packed 3 ms | 3x | 2.6x |  |  |  |",
        f"| {ragged} | 1 ms | nn.LSTM padded 123 ms | 123x | 1.6x |  |  |  |",
    ]


def test_memory_has_a_row_a_rival() -> None:
    work = "Training step: a model, 64 of 5..50"
    step = Comparison(work, timings(ours=1.0, eager=2.0))
    step.peaks = {"ours": 2 << 20, "eager": 7 << 20}
    aims.add(step)
    assert table.markdown([step]).splitlines()[-1] == (
        f"| {work}, memory | 2 MiB | eager 7 MiB | 3.5x | 3x |  |  |  |"
    )
