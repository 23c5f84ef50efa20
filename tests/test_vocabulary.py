"""Vocabulary: ids, order, and files."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_ext.text import Vocabulary

AWKWARD = ["<pad>", "<unk>", "<s>", "</s>", "", " ", "a b", "\n", "\r\n", "\u2028", "é", "e\u0301",
           "😀", "\x00", '"', "\\", "\ud800"]  # fmt: skip


def test_special_ids_come_first():
    vocabulary = Vocabulary(["x"])
    assert vocabulary.encode(["x", "y"], bos=True, eos=True) == [2, 4, 1, 3]
    assert vocabulary.decode([0, 1, 2, 3, 4], strip_special=False) == [
        "<pad>", "<unk>", "<s>", "</s>", "x",
    ]  # fmt: skip
    assert vocabulary.decode([2, 4, 1, 3, 0]) == ["x", "<unk>"]
    assert len(vocabulary) == 5
    assert "x" in vocabulary and "y" not in vocabulary and "<pad>" not in vocabulary


def test_build_orders_by_count_then_token():
    sequences = [["b", "a", "c"], ["a", "b"], ["d"]]
    assert Vocabulary.build(sequences).tokens == ["a", "b", "c", "d"]
    assert Vocabulary.build(reversed(sequences)) == Vocabulary.build(sequences)
    assert Vocabulary.build(sequences, min_count=2).tokens == ["a", "b"]
    assert Vocabulary.build(sequences, max_size=7).tokens == ["a", "b", "c"]


@given(st.lists(st.text(), unique=True))
def test_decode_inverts_encode(tokens):
    vocabulary = Vocabulary(tokens)
    assert vocabulary.decode(vocabulary.encode(tokens, bos=True, eos=True)) == tokens


def test_files_keep_every_token(tmp_path):
    vocabulary = Vocabulary(AWKWARD)
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary
    assert [path.name for path in tmp_path.iterdir()] == ["v.json"]


def test_empty_vocabulary_survives_a_file(tmp_path):
    Vocabulary([]).save(tmp_path / "v.json")
    assert len(Vocabulary.load(tmp_path / "v.json")) == 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"tokens": ["a"]}',
        json.dumps({"format": "seq2seq_ext vocabulary 1", "tokens": "ab"}).encode(),
        json.dumps({"format": "seq2seq_ext vocabulary 1", "tokens": ["a", "a"]}).encode(),
        json.dumps({"format": "seq2seq_ext vocabulary 1", "tokens": [1]}).encode(),
    ],
    ids=["empty", "cut", "not utf-8", "list", "no format", "string", "twice", "number"],
)
def test_broken_files_are_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json"):
        Vocabulary.load(path)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Vocabulary("abc"), TypeError, "tokens"),
        (lambda: Vocabulary(5), TypeError, "tokens"),
        (lambda: Vocabulary(["a", 1]), TypeError, "tokens"),
        (lambda: Vocabulary(["a", "a"]), ValueError, "tokens"),
        (lambda: Vocabulary.build("abc"), TypeError, "sequences"),
        (lambda: Vocabulary.build([1]), TypeError, "sequences"),
        (lambda: Vocabulary.build([], min_count=0), ValueError, "min_count"),
        (lambda: Vocabulary.build([], min_count=1.0), TypeError, "min_count"),
        (lambda: Vocabulary.build([], max_size=3), ValueError, "max_size"),
        (lambda: Vocabulary([]).encode(3), TypeError, "tokens"),
        (lambda: Vocabulary([]).decode([4]), ValueError, "ids"),
        (lambda: Vocabulary([]).decode([-1]), ValueError, "ids"),
        (lambda: Vocabulary([]).decode("0"), TypeError, "ids"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=rf"^Vocabulary[.a-z]*: {message}: expected .*got"):
        call()
