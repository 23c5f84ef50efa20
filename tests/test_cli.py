"""The command line, as a user meets it."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_translator import unsure_model

from seq2seq_ext.cli import main
from seq2seq_ext.model_folder import save_model
from seq2seq_ext.translator import Translator

ROOT = Path(__file__).parent.parent
SMALL = ["--hidden-size", "16", "--embedding-size", "8", "--batch-size", "16", "--device", "cpu"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words and their letters, spelled backwards."""
    path = tmp_path_factory.mktemp("corpus") / "pairs.tsv"
    words = [f"{a}{b}{c}" for a in "abcd" for b in "abcd" for c in ("", "a", "b", "d")]
    path.write_text("".join(f"{w}\t{' '.join(w.upper()[::-1])}\n" for w in words))
    return path


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    arguments = [
        "--output",
        str(folder),
        "--target-tokens",
        "words",
        "--validation-fraction",
        "0.1",
    ]
    status = main(
        ["train", "--train", str(corpus), *arguments, *SMALL, "--epochs", "25", "--quiet",
         "--learning-rate", "0.02"]
    )  # fmt: skip
    assert status == 0
    return folder


def test_train_writes_a_model(model: Path) -> None:
    assert json.loads((model / "config.json").read_text())["model"]["hidden_size"] == 16
    assert {path.name for path in model.iterdir()} == {
        "checkpoint.pt",
        "config.json",
        "model.safetensors",
        "source.vocabulary.json",
        "target.vocabulary.json",
    }


def test_train_shows_its_progress(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--train", str(corpus), "--validation", str(corpus)]
    assert main([*arguments, "--output", str(tmp_path), *SMALL, "--steps", "5"]) == 0
    shown = capsys.readouterr().err
    assert "tokens/s" in shown and "validation" in shown and "epoch 2" in shown
    assert "5 steps" in shown


def test_parallel_files_give_the_same_model(corpus: Path, tmp_path: Path) -> None:
    rows = [line.split("\t") for line in corpus.read_text().splitlines()]
    for column, name in enumerate(("source", "target")):
        (tmp_path / name).write_text("\n".join(row[column] for row in rows))
    common = [*SMALL, "--steps", "2", "--quiet"]
    parallel = [
        "--train-source",
        str(tmp_path / "source"),
        "--train-target",
        str(tmp_path / "target"),
    ]
    assert main(["train", "--train", str(corpus), "--output", str(tmp_path / "a"), *common]) == 0
    assert main(["train", *parallel, "--output", str(tmp_path / "b"), *common]) == 0
    first, second = ((tmp_path / n / "model.safetensors").read_bytes() for n in "ab")
    assert first == second


def test_evaluate(model: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(model), "--test", str(corpus), "--beam-size", "2"]) == 0
    lines = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["sources"] == "64"
    assert float(lines["token error rate"].rstrip("%")) < 30


def test_translate_file_to_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("abc\n\ncab\n")
    arguments = ["translate", str(model), str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    lines = (tmp_path / "out").read_text().split("\n")
    assert len(lines) == 4 and set(lines[0]) <= set("ABCD ")
    assert main([*arguments, "--n-best", "3"]) == 0
    rows = [line.split("\t") for line in (tmp_path / "out").read_text().splitlines()]
    assert [row[0] for row in rows] == ["1"] * 3 + ["2"] * 3 + ["3"] * 3
    scores = [float(row[1]) for row in rows]
    assert scores[0] >= scores[1] >= scores[2] and rows[0][2] == lines[0]


def test_translate_replaces_unknown_tokens(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(folder, *vars(unsure_model()).values())
    (tmp_path / "in").write_text("badge\nface\n")
    (tmp_path / "lexicon").write_text("a\tA!\nf\tF!\n")

    def translate(*more: str) -> str:
        out = tmp_path / "out"
        arguments = ["translate", str(folder), str(tmp_path / "in"), "--output", str(out), *more]
        assert main([*arguments, "--max-length", "8"]) == 0
        return out.read_text()

    texts, lexicon = ["badge", "face"], {"a": "A!", "f": "F!"}
    translator, keywords = Translator(folder), {"max_length": 8, "replace_unknown": True}
    for words, arguments in ((None, []), (lexicon, ["--lexicon", str(tmp_path / "lexicon")])):
        found = translator.translate(texts, lexicon=words, **keywords)
        expected = "".join(f"{n_best[0].text}\n" for n_best in found)
        assert translate("--replace-unknown", *arguments) == expected != translate()
    assert main(["translate", str(folder), str(tmp_path / "in"), "--lexicon", "x"]) == 2


def test_translate_standard_input(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a file: a mark of the byte order is no text, and a bad line is named."""

    def translate(data: bytes) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return main(["translate", str(model), "--scores"])

    assert translate(b"abc\r\nba") == 0
    plain = capsys.readouterr().out
    assert len(plain.splitlines()) == 2
    assert translate(b"\xef\xbb\xbfabc\nba\n") == 0
    assert capsys.readouterr().out == plain
    assert translate(b"abc\n\xff\n") == 2
    assert "standard input: line 2: not UTF-8" in capsys.readouterr().err


def test_plots_are_pictures(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "in").write_text("abc\n\n$d\n")
    plots = tmp_path / "plots"
    arguments = ["translate", str(model), str(tmp_path / "in"), "--output", os.devnull]
    arguments[-1] = str(tmp_path / "out")
    assert main([*arguments, "--plot", str(plots)]) == 0
    assert sorted(path.name for path in plots.iterdir()) == ["000001.png", "000003.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots.iterdir())


def test_info(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "isa" in shown and "hidden_size" in shown and "parameters" in shown


def _mistakes(model: Path, corpus: Path, folder: Path) -> dict[str, tuple[list[str], str]]:
    """Arguments, and what the one line says."""
    (folder / "empty").write_text("")
    (folder / "bad.tsv").write_text("a\tb\nc\n")
    (folder / "file").write_text("x")
    broken = folder / "broken"
    broken.mkdir()
    for path in model.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "source.vocabulary.json").write_bytes((model / "target.vocabulary.json").read_bytes())
    (broken / "model.safetensors").write_bytes(b"no")
    mixed = folder / "mixed"
    mixed.mkdir()
    for path in model.iterdir():
        (mixed / path.name).write_bytes(path.read_bytes())
    vocabulary = json.loads((mixed / "source.vocabulary.json").read_text())
    vocabulary["tokens"].append("extra")
    (mixed / "source.vocabulary.json").write_text(json.dumps(vocabulary))
    torn = folder / "torn"
    torn.mkdir()
    (torn / "checkpoint.pt").write_bytes((model / "checkpoint.pt").read_bytes()[:500])
    train = ["train", "--output", str(folder / "new"), "--train"]
    good = [*train, str(corpus)]
    return {
        "no command": ([], "command"),
        "unknown command": (["fly"], "invalid choice: 'fly'"),
        "unknown option": ([*good, "--wings", "2"], "--wings"),
        "no output": (["train", "--train", str(corpus)], "--output"),
        "no corpus": (train[:-1], "--train: expected a TSV file"),
        "half a corpus": ([*train[:-1], "--train-source", str(corpus)], "--train-target"),
        "missing file": ([*train, str(folder / "none")], "none: No such file"),
        "folder as file": ([*train, str(folder)], "Is a directory"),
        "empty file": ([*train, str(folder / "empty")], "empty: expected at least one line"),
        "columns": ([*train, str(folder / "bad.tsv")], "bad.tsv: line 2: expected 2"),
        "no number": ([*good, "--epochs", "many"], "--epochs"),
        "negative": ([*good, "--steps", "-1"], "steps: expected an int from 1"),
        "dropout": ([*good, "--dropout", "2"], "dropout"),
        "noise": ([*good, "--noise-swap", "2"], "swap: expected a number from"),
        "cell": ([*good, "--cell", "tree"], "cell"),
        "units": ([*good, "--source-tokens", "bytes"], "--source-tokens"),
        "device": ([*good, "--device", "abacus"], "device"),
        "threads": ([*good, "--threads", "0"], "--threads"),
        "share": ([*good, "--validation-fraction", "1.5"], "--validation-fraction"),
        "unwritable": (["train", "--train", str(corpus), "--output", str(folder / "file")], "file"),
        "run there": (
            ["train", "--train", str(corpus), "--output", str(model)],
            "holds a training",
        ),
        "other options": (
            ["train", "--train", str(corpus), "--output", str(model), "--resume"],
            "a resumed run must repeat it",
        ),
        "damaged checkpoint": (
            ["train", "--train", str(corpus), "--output", str(torn), "--resume"],
            "not a checkpoint",
        ),
        "no model": (["translate", str(folder / "none")], "none: no such"),
        "empty model": (["translate", str(folder / "file")], "file"),
        "damaged model": (["info", str(broken)], "model.safetensors"),
        "other vocabulary": (["info", str(mixed)], "source_vocabulary: expected"),
        "n-best": (["translate", str(model), str(corpus), "--n-best", "9"], "n_best"),
        "beam": (["evaluate", str(model), "--test", str(corpus), "--beam-size", "0"], "beam_size"),
        "penalty": (
            ["translate", str(model), str(corpus), "--length-penalty", "x"],
            "length_penalty",
        ),
        "output folder": (
            ["translate", str(model), str(corpus), "--output", str(folder / "no" / "out")],
            "no/out: No such file",
        ),
        "folder as output": (
            ["translate", str(model), str(corpus), "--output", str(folder)],
            f"{folder}: Is a directory",
        ),
    }


def test_a_mistake_is_one_line(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (arguments, message) in _mistakes(model, corpus, tmp_path).items():
        status = main(arguments)
        shown = capsys.readouterr().err
        assert status == 2, name
        assert shown.startswith("seq2seq-ext: error: ") and shown.count("\n") == 1, (name, shown)
        assert message in shown, (name, shown)


def test_ctrl_c_leaves_a_checkpoint_and_resume_goes_on(corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "seq2seq_ext", "train", "--train", str(corpus), *SMALL]
    command += ["--output", str(tmp_path), "--quiet", "--save-every", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--steps", "100000"], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=120)
    assert process.returncode == 130
    assert shown.startswith("seq2seq-ext: interrupted at step") and shown.count("\n") == 1
    assert main([*command[3:], "--resume", "--steps", "1"]) == 0


def test_a_reader_that_leaves_is_no_error(model: Path, corpus: Path) -> None:
    command = f"'{sys.executable}' -m seq2seq_ext translate '{model}' '{corpus}' | true"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
