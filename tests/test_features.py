"""Sources of features: from .npy files through training to texts."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from seq2seq_ext.cli import main
from seq2seq_ext.model_folder import load_model
from seq2seq_ext.text import Tokenization
from seq2seq_ext.text.corpus import Pair, split_by_hash
from seq2seq_ext.text.features import check_features, load_sources, read_features
from seq2seq_ext.text.noise import Noise
from seq2seq_ext.training import TrainingOptions, train
from seq2seq_ext.translator import Translator

FRAME = {"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0), "c": (0.0, 0.0, 1.0)}
WORDS = [f"{a}{b}{c}" for a in "abc" for b in "abc" for c in ("", "a", "b", "c")]


def spoken(word: str) -> torch.Tensor:
    """Two noisy frames for each letter."""
    generator = torch.Generator().manual_seed(int.from_bytes(word.encode(), "big"))
    frames = torch.tensor([FRAME[letter] for letter in word for _ in range(2)])
    return frames + 0.1 * torch.randn(frames.shape, generator=generator)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    for word in WORDS:
        numpy.save(folder / f"{word}.npy", spoken(word).numpy())
    (folder / "pairs.tsv").write_text("".join(f"{w}.npy\t{w.upper()}\n" for w in WORDS))
    return folder / "pairs.tsv"


@pytest.fixture(scope="module")
def model(corpus: Path) -> Path:
    folder = corpus.parent / "model"
    status = main(
        ["train", "--train", str(corpus), "--output", str(folder), "--source-tokens", "features",
         "--validation-fraction", "0.1", "--hidden-size", "16", "--embedding-size", "8",
         "--batch-size", "16", "--learning-rate", "0.02", "--epochs", "40", "--device", "cpu",
         "--quiet"]
    )  # fmt: skip
    assert status == 0
    return folder


def test_training_learns_and_the_folder_knows(
    model: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = load_model(model)
    assert parts.model.config.source_feature_size == 3 and parts.source_vocabulary is None
    assert parts.tokenization == Tokenization("features", "characters")
    assert main(["evaluate", str(model), "--test", str(corpus), "--beam-size", "2"]) == 0
    lines = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["sources"] == str(len(WORDS))
    assert float(lines["token error rate"].rstrip("%")) < 10


def test_translate_reads_the_named_files(model: Path, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = corpus.parent / "names"
    names.write_text("abc.npy\nca.npy\n")
    arguments = ["translate", str(model), str(names), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--plot", str(tmp_path / "plots")]) == 0
    found = Translator(model).translate([spoken("abc"), spoken("ca")])
    assert (tmp_path / "out").read_text() == "".join(f"{n_best[0].text}\n" for n_best in found)
    assert len(list((tmp_path / "plots").iterdir())) == 2


def test_a_result_depends_on_no_other_source(model: Path) -> None:
    sources = [spoken(word) for word in WORDS[:9]] + [torch.zeros(0, 3)]
    translator = Translator(model)
    together = translator.translate(sources, n_best=2)
    for source, n_best in zip(sources, together, strict=True):
        alone = translator.translate([source], n_best=2)[0]
        assert [(t.text, t.score) for t in alone] == [(t.text, t.score) for t in n_best]
        assert alone[0].attention is not None and len(source) == alone[0].attention.size(1)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_other_weight_types(model: Path, dtype: str) -> None:
    sources = [spoken(word) for word in WORDS]
    expected = Translator(model).translate(sources)
    found = Translator(model, dtype=dtype).translate(sources)
    equal = sum(a[0].text == b[0].text for a, b in zip(expected, found, strict=True))
    assert equal >= 0.9 * len(WORDS)


def test_resume_is_bit_for_bit(tmp_path: Path) -> None:
    pairs = [Pair(spoken(word), word) for word in WORDS]
    training, validation = split_by_hash(pairs, (0.8, 0.2))

    def run(folder: Path, steps: int, **more: bool) -> bytes:
        train(
            folder, training, validation, tokenization=Tokenization("features"),
            model={"hidden_size": 8, "embedding_size": 4}, device="cpu", quiet=True,
            options=TrainingOptions(steps=steps, schedule="constant", warmup=0.0, batch_size=8),
            **more,
        )  # fmt: skip
        return (folder / "model.safetensors").read_bytes()

    whole = run(tmp_path / "whole", 9)
    run(tmp_path / "parts", 4)
    assert run(tmp_path / "parts", 9, resume=True) == whole
    changed = [Pair(training[0].source + 1, training[0].target), *training[1:]]  # type: ignore[operator]
    training[:] = changed
    with pytest.raises(ValueError, match="data"):
        run(tmp_path / "parts", 12, resume=True)


def test_a_file_named_twice_is_one_source(corpus: Path) -> None:
    pairs = load_sources([Pair("ab.npy", "x"), Pair("ab.npy", "y")], corpus.parent)
    assert pairs[0].source is pairs[1].source


def _train(folder: Path, pairs: list, **more: Any) -> None:
    unit, noise = more.pop("unit", "features"), more.pop("noise", 0.0)
    arguments = {
        "validation": [],
        "tokenization": Tokenization(unit) if unit else None,
        "options": TrainingOptions(steps=1, noise=Noise(swap=noise)),
        "quiet": True,
    }
    train(folder, pairs, **{**arguments, **more})


@pytest.mark.parametrize(
    ("pairs", "more", "error", "message"),
    [
        ([Pair("ab", "x")], {}, TypeError, r"training\[0\]: source: expected a Tensor"),
        ([Pair(spoken("a"), "x")], {"unit": "words"}, TypeError, r"source: expected a str"),
        ([Pair(spoken("a").long(), "x")], {}, TypeError, "expected float"),
        ([Pair(spoken("a")[0], "x")], {}, ValueError, r"expected shape \[S, F\]"),
        (
            [Pair(spoken("a"), "x"), Pair(spoken("a")[:, :2], "x")],
            {},
            ValueError,
            r"training\[1\]: source: expected shape \[S, 3\]",
        ),
        ([Pair(spoken("a") / 0, "x")], {}, ValueError, "finite"),
        ([Pair(spoken("a").double() * 1e300, "x")], {}, ValueError, "finite"),
        ([Pair(spoken("a"), None)], {}, TypeError, r"training\[0\]: target: expected a str"),
        ([spoken("a")], {}, TypeError, r"training\[0\]: expected a Pair"),
        ([Pair(spoken("a"), "x")], {"unit": None}, TypeError, "tokenization"),
        ([Pair(spoken("a"), "x")], {"model": {"foo": 3}}, ValueError, "model: expected keys"),
        ([Pair(spoken("a"), "x")], {"validation": None}, TypeError, "validation"),
        ([Pair(spoken("a"), "x")], {"noise": 0.5}, ValueError, "expected no noise"),
    ],
)
def test_wrong_sources_are_named(
    tmp_path: Path, pairs: list[Pair], more: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _train(tmp_path / "new", pairs, **more)
    assert not (tmp_path / "new").exists()


def test_any_float_tensor_is_a_source(tmp_path: Path) -> None:
    x = spoken("abc")
    sources = [x.bfloat16(), x.half(), x.double().requires_grad_(), x.T.contiguous().T, x[:0]]
    _train(tmp_path, [Pair(source, "x") for source in sources])
    assert len(Translator(tmp_path).translate(sources, max_length=3)) == 5


def _header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n"


def test_a_wrong_file_is_one_line(
    corpus: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numpy.save(tmp_path / "ints.npy", numpy.zeros((2, 3), numpy.int16))
    numpy.save(tmp_path / "wide.npy", numpy.zeros((2, 4), numpy.float32))
    numpy.save(tmp_path / "large.npy", numpy.full((2, 3), 1e300))
    (tmp_path / "damaged.npy").write_bytes(_header("{'descr': ['<f4', (((("))
    numpy.save(tmp_path / "good.npy", numpy.zeros((2, 3), numpy.float16))
    for name in ("ints", "wide", "large", "damaged"):
        (tmp_path / "pairs.tsv").write_text(f"good.npy\tx\n{name}.npy\tx\n")
        (tmp_path / "names").write_text(f"{name}.npy\n")
        for arguments in (
            ["train", "--train", str(tmp_path / "pairs.tsv"), "--output", str(tmp_path / "new"),
             "--source-tokens", "features"],
            ["evaluate", str(model), "--test", str(tmp_path / "pairs.tsv")],
            ["translate", str(model), str(tmp_path / "names")],
        ):  # fmt: skip
            assert main(arguments) == 2
            shown = capsys.readouterr().err
            assert shown.count("\n") == 1 and f"{name}.npy: expected" in shown


def test_a_refused_command_loses_nothing(
    model: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    train = ["train", "--train", str(corpus), "--output", str(model), "--source-tokens", "features"]
    for more in (["--overwrite", "--noise-swap", "0.1"], []):
        assert main([*train, *more]) == 2
        assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    (model / "checkpoint.pt").unlink()
    assert main(train) == 2 and "holds a training run" in capsys.readouterr().err
    (model / "checkpoint.pt").write_bytes(before["checkpoint.pt"])


def test_wrong_files_are_named(tmp_path: Path) -> None:
    arrays = {"ints": numpy.zeros((2, 3), int), "flat": numpy.zeros(3), "words": numpy.array(["a"])}
    for name, array in arrays.items():
        numpy.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(ValueError, match=rf"{name}\.npy: expected"):
            read_features(tmp_path / f"{name}.npy")
    size = "(10000000000000000000000000, 3)"
    contents = {
        "text": b"abc",
        "empty": b"",
        "torn": b"\x93NUMPY\x01\x00",
        "zip": b"PK\x03\x04 no zip",
        "header": _header("{'descr': ['<f4', (((("),
        "huge": _header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {size}}}"),
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.npy").write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.npy: expected a \.npy file"):
            read_features(tmp_path / f"{name}.npy")
    numpy.savez(tmp_path / "many.npz", a=numpy.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"many\.npz: expected a \.npy file"):
        read_features(tmp_path / "many.npz")


def test_translator_names_what_it_cannot_read(model: Path) -> None:
    translator = Translator(model)
    for source, error, message in (
        ("abc", TypeError, r"texts\[0\]: expected a Tensor"),
        (torch.zeros(4, 3).to_sparse(), ValueError, r"texts\[0\]: expected a strided"),
        (torch.zeros(4, 3, device="meta"), ValueError, r"texts\[0\]: expected a strided"),
        (torch.zeros(4, 2), ValueError, r"texts\[0\]: expected shape \[S, 3\]"),
    ):
        with pytest.raises(error, match=message):
            translator.translate([source])
    with pytest.raises(ValueError, match="source is text"):
        translator.translate([torch.zeros(4, 3)], replace_unknown=True)
    with pytest.raises(ValueError, match="text: expected none"):
        translator.parts.tokenization.split_source("abc")
    assert check_features("a test", "x", torch.zeros(0, 3)).shape == (0, 3)
