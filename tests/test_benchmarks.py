"""What a run of the benchmarks keeps."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__, floors, rivals
from benchmarks.harness import Comparison, compare


def run() -> list[Comparison]:
    assert rivals.load("abacus") is None
    return [compare("Nothing", lambda: None, {"the same": lambda: None}, seconds=0)]


def test_json_tells_machine_versions_and_who_was_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"2 threads": {"float32": 1e12, "DRAM": 1e10}}
    monkeypatch.setattr(floors, "machine", lambda: rates)
    monkeypatch.setitem(sys.modules, "benchmarks.topk", SimpleNamespace(run=run))
    monkeypatch.setattr(rivals, "absent", {})
    monkeypatch.setattr(sys, "argv", ["", "topk", "--json", str(tmp_path / "kept.json")])
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
