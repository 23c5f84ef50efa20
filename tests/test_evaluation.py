"""Error rates."""

import random
from functools import cache

import pytest

from seq2seq_ext.evaluation import edit_distance, error_rates


def _recursive(first: str, second: str) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
            distance(i - 1, j - 1) + (first[i - 1] != second[j - 1]),
        )

    return distance(len(first), len(second))


def test_edit_distance_equals_the_definition() -> None:
    generator = random.Random(0)
    for _ in range(300):
        first, second = ("".join(generator.choices("abc", k=generator.randint(0, 8))) for _ in "xy")
        assert edit_distance(first, second) == _recursive(first, second)


def test_rates_of_one_reference() -> None:
    rates = error_rates(["abc", "xy", ""], [["abd"], ["xy"], ["q"]])
    assert rates.token_error_rate == 2 / 6
    assert rates.sequence_error_rate == 2 / 3


def test_the_closest_reference_counts() -> None:
    rates = error_rates([list("abcd")], [[list("xyz"), list("abc"), list("abcde")]])
    assert (rates.edits, rates.reference_tokens, rates.wrong_sequences) == (1, 5, 1)


def test_nothing_to_score() -> None:
    assert error_rates([], []).token_error_rate == 0.0


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"references: expected 1 lists.* got 0"):
        error_rates(["a"], [])
    with pytest.raises(ValueError, match=r"references\[0\]: expected at least one, got none"):
        error_rates(["a"], [[]])
