"""Prints what searches of two lengths take of malloc, for every option: run by a test.

Of the last of several runs, so that what a decoder keeps for the next has its size.
"""

import ctypes
import json
import sys
from typing import Any

import torch

from seq2seq_ext import BeamSearchOptions, Decoder, Seq2Seq, Seq2SeqConfig
from seq2seq_ext.decoding import TokenTrie

SENTENCES, VOCABULARY = 16, 40


def tokens(steps: int, factor: int) -> list[int]:
    return [4 + i * factor % (VOCABULARY - 4) for i in range(steps)]


def cases(steps: int) -> dict[str, dict[str, Any]]:
    """Fields of searches that take this many steps."""
    return {
        "plain": {"beam_size": 5, "n_best": 3},
        "length_ratio": {"max_length": steps - 5, "max_length_ratio": 1.0, "min_length": steps - 5},
        "scores": {
            "length_penalty": "gnmt",
            "alpha": 0.6,
            "word_reward": 0.1,
            "length_offset": 1,
            "count_eos": False,
            "patience": 2.0,
            "early_stopping": "heuristic",
            "full_pool": "first",
        },
        "coverage": {"coverage_penalty": "gnmt", "beta": 0.2},
        "stepwise": {"coverage_penalty": "summary", "beta": 0.2, "coverage_stepwise": True},
        "groups": {"beam_size": 6, "beam_groups": 3, "diversity_penalty": 0.5},
        "carry": {"finished": "carry", "rank_by": "score", "length_penalty": "average"},
        "extend": {
            "finished": "extend",
            "early_stopping": "none",
            "eos_beyond_beam": False,
            "min_length": 0,
        },
        "temperature": {"temperature": 0.7},
        "repetition": {"repetition_penalty": 1.2, "rules_see_bos": True},
        "ngrams": {"no_repeat_ngram_size": 3},
        "banned": {"banned": [[5, 6], [7]], "rules_on": "log_probs"},
        "shortlist": {"shortlist": list(range(30))},
        "trie": {"trie": TokenTrie([tokens(steps - 1, factor) for factor in (1, 5, 7)])},
        "phrases": {"phrases": [tokens(4, 5), tokens(6, 7)]},
        "prefix": {"prefix": tokens(steps - 1, 7), "force_eos": True},
        "top_k": {"top_k": 10, "renormalize": True},
        "top_p": {"top_p": 0.9},
        "ancestral": {"sampling": "ancestral", "seed": 3},
        "gumbel": {"sampling": "gumbel", "seed": 3},
    }


def counts(decoder: Decoder, steps: int) -> dict[str, int]:
    count = ctypes.CDLL(None).malloc_count
    count.restype = ctypes.c_long
    src, lengths = torch.randint(4, 9, (SENTENCES, 5)), torch.full((SENTENCES,), 5)
    found = {}
    for name, fields in cases(steps).items():
        given = {"bos_id": 2, "eos_id": 3, "pad_id": 0, "min_length": steps, "max_length": steps}
        options = BeamSearchOptions(**{**given, **fields})
        for _ in range(3):
            before = count()
            result = decoder.generate(src, lengths, options)
            found[name] = count() - before
        assert result.lengths.max() == steps, name
    return found


if __name__ == "__main__":
    torch.manual_seed(0)
    config = Seq2SeqConfig(
        source_vocabulary_size=9,
        target_vocabulary_size=VOCABULARY,
        embedding_size=8,
        hidden_size=16,
    )
    decoder = Decoder(Seq2Seq(config).eval())
    print(json.dumps([counts(decoder, int(steps)) for steps in sys.argv[1:]]))
