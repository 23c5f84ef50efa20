"""Batches, corpora and noise."""

import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from seq2seq_ext.text.batching import Example, LengthBuckets, collate, pad
from seq2seq_ext.text.corpus import (
    Pair,
    group_references,
    read_parallel,
    read_tsv,
    split_by_hash,
)
from seq2seq_ext.text.noise import Noise


def _lengths(seed: int = 0, size: int = 500) -> list[tuple[int, int]]:
    generator = random.Random(seed)
    return [(generator.randint(0, 30), generator.randint(2, 25)) for _ in range(size)]


@pytest.mark.parametrize("unit, batch_size", [("sentences", 16), ("sentences", 1), ("tokens", 200)])
def test_every_example_comes_once_an_epoch(unit: str, batch_size: int) -> None:
    buckets = LengthBuckets(_lengths(), unit=unit)
    for number in range(3):
        batches = buckets.epoch(number, batch_size=batch_size)
        assert all(batches)
        assert Counter(i for batch in batches for i in batch) == Counter(range(500))


def test_sentence_batches_hold_at_most_their_size() -> None:
    batches = LengthBuckets(_lengths()).epoch(0, batch_size=64)
    assert sorted(map(len, batches), reverse=True) == [64] * 7 + [52]


def test_token_batches_hold_at_most_their_size() -> None:
    lengths = [*_lengths(), (900, 3)]
    batches = LengthBuckets(lengths, unit="tokens").epoch(0, batch_size=300)
    sizes = [len(batch) * max(max(lengths[i]) for i in batch) for batch in batches]
    assert sorted(sizes)[-1] == 900 and sorted(sizes)[-2] <= 300
    assert sum(sizes) / len(sizes) > 200


def test_padding_is_bounded() -> None:
    lengths = _lengths()
    targets = [[lengths[i][1] for i in b] for b in LengthBuckets(lengths).epoch(0, batch_size=16)]
    padding = sum(max(batch) * len(batch) - sum(batch) for batch in targets)
    assert padding <= 16 * max(target for _, target in lengths)


def test_epochs_differ_and_repeat() -> None:
    buckets, again = LengthBuckets(_lengths(), seed=1), LengthBuckets(_lengths(), seed=1)
    assert buckets.epoch(3, batch_size=8) == again.epoch(3, batch_size=8)
    assert buckets.epoch(3, batch_size=8) != buckets.epoch(4, batch_size=8)
    other_seed = LengthBuckets(_lengths(), seed=2)
    assert buckets.epoch(3, batch_size=8) != other_seed.epoch(3, batch_size=8)


def test_wrong_batching_arguments() -> None:
    with pytest.raises(ValueError, match=r"unit: expected one of .* got 'words'"):
        LengthBuckets([(1, 2)], unit="words")
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        LengthBuckets([(1, 2)]).epoch(0, batch_size=0)


def test_collate_pads_both_sides() -> None:
    batch = collate([Example([5, 6, 7], [2, 3]), Example([], [2, 9, 3])], pad_id=0)
    assert batch.source.tolist() == [[5, 6, 7], [0, 0, 0]]
    assert batch.source_lengths.tolist() == [3, 0]
    assert batch.target.tolist() == [[2, 3, 0], [2, 9, 3]]
    assert batch.target_tokens == 3
    assert pad([], 0)[0].shape == (0, 1)
    assert pad([[], []], 0)[0].shape == (2, 1) and batch.source.dtype == torch.int64


def test_tsv(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("\ufeffété\tE T E\r\na b\tA\u2028B\n".encode())
    assert read_tsv(path) == [Pair("été", "E T E"), Pair("a b", "A\u2028B")]


@pytest.mark.parametrize(
    "content, message",
    [
        pytest.param(b"", "expected at least one line", id="empty"),
        pytest.param(b"a\tb\nc\n", "line 2: expected 2 tab-separated columns .* got 1", id="one"),
        pytest.param(b"a\tb\tc\n", "line 1: expected 2 .* got 3", id="three"),
        pytest.param(b"a\tb\n\xff\tb\n", "line 2: not UTF-8", id="encoding"),
    ],
)
def test_bad_tsv(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_tsv(path)


def test_parallel_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one two\n\n")
    (tmp_path / "b").write_text("eins zwei\nx")
    assert read_parallel(tmp_path / "a", tmp_path / "b") == [
        Pair("one two", "eins zwei"),
        ("", "x"),
    ]
    (tmp_path / "b").write_text("eins\n")
    with pytest.raises(ValueError, match=r"b: expected as many lines as .*a \(2\), got 1"):
        read_parallel(tmp_path / "a", tmp_path / "b")


def test_split_keeps_sources_together_and_is_stable() -> None:
    pairs = [Pair(f"w{i % 700}", f"t{i}") for i in range(1000)]
    parts = split_by_hash(pairs, (0.8, 0.1, 0.1))
    assert sum(map(len, parts)) == 1000 and 700 < len(parts[0]) < 900
    sources = [{pair.source for pair in part} for part in parts]
    assert not sources[0] & sources[1] and not sources[1] & sources[2]
    assert split_by_hash(pairs[::-1], (0.8, 0.1, 0.1))[1] == parts[1][::-1]
    assert group_references(pairs)["w0"] == ["t0", "t700"]
    with pytest.raises(ValueError, match="fractions: expected shares"):
        split_by_hash(pairs, (0.8, 0.1))


def test_noise_is_a_function_of_its_key() -> None:
    noise = Noise(unknown=0.2, delete=0.2, swap=0.2, duplicate=0.2)
    tokens = list(range(10, 40))
    assert noise(tokens, unk_id=1, key="a") == noise(tokens, unk_id=1, key="a") != tokens
    assert noise(tokens, unk_id=1, key="a") != noise(tokens, unk_id=1, key="b")


@pytest.mark.parametrize(
    "noise, expected",
    [
        pytest.param(Noise(), [4, 5, 6], id="none"),
        pytest.param(Noise(unknown=1), [1, 1, 1], id="unknown"),
        pytest.param(Noise(swap=1), [5, 4, 6], id="swap"),
        pytest.param(Noise(duplicate=1), [4, 4, 5, 5, 6, 6], id="duplicate"),
    ],
)
def test_each_noise(noise: Noise, expected: list[int]) -> None:
    assert noise([4, 5, 6], unk_id=1, key="") == expected


def test_noise_leaves_something() -> None:
    assert len(Noise(delete=1)([4, 5, 6], unk_id=1, key="")) == 1
    assert Noise(delete=1)([], unk_id=1, key="") == []
    with pytest.raises(ValueError, match="Noise: swap: expected a number"):
        Noise(swap=1.5)


def test_noise_has_the_asked_rate() -> None:
    noisy = [Noise(unknown=0.1)(range(5, 25), unk_id=1, key=str(i)) for i in range(200)]
    share = sum(tokens.count(1) for tokens in noisy) / 4000
    assert 0.08 < share < 0.12
