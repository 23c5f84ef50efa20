"""The model's folder: whatever a model is made of comes back, and damage is named."""

import json

import pytest
import torch
from seq2seq_cases import OPTIONS, SIZES, VARIANTS, data, make, name
from test_translator import folder as folder

from seq2seq_ext.model_folder import load_model, save_model
from seq2seq_ext.text import Tokenization, Vocabulary
from seq2seq_ext.translator import Translator


def vocabulary(size):
    return None if size is None else Vocabulary(f"t{i}" for i in range(4, size))


def save(folder, model):
    config = model.config
    of_features = config.source_feature_size is not None
    save_model(
        folder,
        model,
        vocabulary(config.source_vocabulary_size),
        vocabulary(config.target_vocabulary_size),
        Tokenization("features" if of_features else "words", "words"),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=name)
@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_every_model_comes_back(tmp_path, variant, sizes, dtype):
    if variant["attention"] == "none" and not variant["input_feeding"] and sizes == {}:
        save(tmp_path, make(source_vocabulary_size=20))  # an earlier model is replaced
    model = make(dtype, **variant, **sizes).eval()
    save(tmp_path, model)
    loaded = load_model(tmp_path).model
    assert loaded.config == model.config
    weights = loaded.state_dict()
    assert weights.keys() == model.state_dict().keys()
    for key, weight in model.state_dict().items():
        assert weights[key].dtype == dtype and torch.equal(weights[key], weight), key
    src, lengths, tgt, tgt_lengths = data(model)
    assert torch.equal(
        loaded.loss(src, lengths, tgt, tgt_lengths), model.loss(src, lengths, tgt, tgt_lengths)
    )
    found, expected = (m.generate(src, lengths, OPTIONS) for m in (loaded, model))
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.scores, expected.scores)


def test_a_model_of_features_leaves_no_older_vocabulary(tmp_path):
    save(tmp_path, make())
    save(tmp_path, make(source_vocabulary_size=None, source_feature_size=6))
    assert load_model(tmp_path).source_vocabulary is None
    assert not (tmp_path / "source.vocabulary.json").exists()


@pytest.mark.parametrize(
    ("sizes", "parts", "error", "message"),
    [
        ({}, (None, "words"), TypeError, "source_vocabulary: expected a Vocabulary"),
        ({}, (11, "features"), ValueError, "tokenization: expected a source of"),
        (SIZES[-1], (11, "features"), TypeError, "source_vocabulary: expected a NoneType"),
        (SIZES[-1], (None, "words"), ValueError, "tokenization: expected a source of"),
    ],
)
def test_parts_that_do_not_fit_are_named(tmp_path, sizes, parts, error, message):
    size, unit = parts
    with pytest.raises(error, match=message):
        save_model(
            tmp_path, make(**sizes), vocabulary(size), vocabulary(13), Tokenization(unit, "words")
        )
    assert list(tmp_path.iterdir()) == []


def test_shared_weights_come_back(tmp_path):
    model = make(source_vocabulary_size=13)
    model.encoder.embedding.weight = model.decoder.embedding.weight
    save(tmp_path, model)
    loaded = load_model(tmp_path).model.state_dict()
    for key, weight in model.state_dict().items():
        assert torch.equal(loaded[key], weight), key


def test_every_weight_keeps_its_dtype(tmp_path):
    model = make(torch.float32)
    model.bridge.double()
    save(tmp_path, model)
    loaded = load_model(tmp_path).model.state_dict()
    assert {k: w.dtype for k, w in loaded.items()} == {
        k: w.dtype for k, w in model.state_dict().items()
    }


def test_what_cannot_be_saved_harms_no_older_model(tmp_path):
    save(tmp_path, make())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="model: expected weights with values"):
        save(tmp_path, make(source_vocabulary_size=20).to("meta"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def broken_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), r"config\.json"),
        (lambda f: (f / "config.json").write_text("[]"), r"config\.json"),
        (lambda f: broken_config(f, lambda c: c.pop("model")), r"config\.json.*model"),
        (lambda f: broken_config(f, lambda c: c["model"].update(size=3)), r"config\.json.*size"),
        (lambda f: broken_config(f, lambda c: c["model"].pop("target_vocabulary_size")), "target"),
        (lambda f: broken_config(f, lambda c: c["model"].update(cell="lstn")), "cell"),
        (lambda f: broken_config(f, lambda c: c["model"].update(hidden_size=17)), "safetensors"),
        (lambda f: broken_config(f, lambda c: c.update(tokenization={"x": 1})), r"config\.json"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), r"model\.safetensors"),
        (lambda f: Vocabulary(["a", "b"]).save(f / "source.vocabulary.json"), "source_vocabulary"),
    ],
)
def test_broken_folders_are_named(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message):
        Translator(folder)


def test_missing_files_are_named(folder):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Translator(folder / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        Translator(folder)
