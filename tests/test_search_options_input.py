"""Every wrong option of the search: a clear error that names it."""

import pytest
import torch
from prefix_model import EOS, make_options

from seq2seq_ext.decoding import TokenTrie, beam_search

BAD = [
    ({"coverage_penalty": "gnmt"}, "source_lengths: expected one a sentence for coverage_penalty"),
    ({"max_length_ratio": 1.0}, "source_lengths: expected one a sentence for max_length_ratio"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_missing_source_lengths(fields, message):
    with pytest.raises(ValueError, match=message):
        beam_search(
            lambda t, s: (torch.zeros(5, 4), s), (), batch_size=1, options=make_options(**fields)
        )


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"beam_size": 5, "beam_groups": 2}, ValueError, "beam_groups: expected a divisor"),
        ({"prefix": [EOS]}, ValueError, "prefix: expected no EOS inside"),
        ({"prefix": [1] * 9, "max_length": 8}, ValueError, "prefix: expected at most 8"),
        ({"phrases": [[]]}, ValueError, "phrases: expected no empty sequence"),
        ({"phrases": [[1]] * 65}, ValueError, "phrases: expected at most 64"),
        ({"banned": "ab"}, TypeError, "banned: expected"),
        ({"shortlist": [3]}, ValueError, "shortlist: expected EOS and the prefix among it"),
        ({"trie": [[1]]}, TypeError, "trie: expected a TokenTrie or None"),
        (
            {"trie": TokenTrie([[2, 4]]), "eos_id": [0, 4]},
            ValueError,
            "trie: expected no EOS inside",
        ),
        ({"temperature": 0.0}, ValueError, "temperature: expected a number from"),
        ({"top_p": 0}, ValueError, "top_p: expected a number from"),
        ({"seed": -1}, ValueError, "seed: expected an int from 0"),
        ({"finished": "heap"}, ValueError, "finished: expected one of"),
        ({"on_step": 3}, TypeError, "on_step: expected a callable or None"),
        ({"sampling": "gumbel", "finished": "carry"}, ValueError, "sampling: expected"),
        ({"sampling": "gumbel", "length_penalty": "power"}, ValueError, "sampling: expected no"),
        ({"finished": "carry", "early_stopping": "first"}, ValueError, "early_stopping: expected"),
        ({"rank_by": "score"}, ValueError, "rank_by: expected"),
        ({"coverage_stepwise": True}, ValueError, "coverage_stepwise: expected"),
        ({"count_eos": 1}, TypeError, "count_eos: expected a bool"),
    ],
)
def test_wrong_options(fields, error, message):
    with pytest.raises(error, match=f"BeamSearchOptions: {message}"):
        make_options(**fields)


def test_normalized_scores_must_not_be_positive():
    options = make_options(normalized=True, max_length=2)
    with pytest.raises(ValueError, match="expected log-probs of at most 0"):
        beam_search(lambda t, s: (torch.ones(5, 4), s), (), batch_size=1, options=options)
