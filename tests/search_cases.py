"""Every option of the search, one or a few that belong together at a time."""

from prefix_model import EOS

from seq2seq_ext.decoding import TokenTrie

# For vocabularies of at least 7, BOS 1, EOS 0.
MECHANISMS = {
    "word_reward": {"word_reward": 0.7},
    "average": {"length_penalty": "average"},
    "length_offset": {"length_penalty": "gnmt", "length_offset": 1},
    "count_eos": {"length_penalty": "power", "count_eos": False},
    "coverage": {"coverage_penalty": "gnmt", "beta": 0.4},
    "coverage_summary": {"coverage_penalty": "summary", "beta": 0.4},
    "coverage_stepwise": {"coverage_penalty": "gnmt", "beta": 0.4, "coverage_stepwise": True},
    "heuristic": {"early_stopping": "heuristic", "length_penalty": "power"},
    "first": {"early_stopping": "first"},
    "patience": {"early_stopping": "first", "patience": 1.7},
    "top": {"early_stopping": "top"},
    "top_now": {"early_stopping": "top_now", "finished": "dip"},
    "places": {"early_stopping": "places", "finished": "extend"},
    "extend": {"finished": "extend"},
    "none": {"early_stopping": "none", "length_penalty": "power"},
    "dip": {"finished": "dip"},
    "shrink": {"finished": "shrink"},
    "carry": {"finished": "carry"},
    "carry_by_score": {"finished": "carry", "rank_by": "score", "length_penalty": "gnmt"},
    "eos_in_beam": {"eos_beyond_beam": False},
    "full_pool": {"full_pool": "first", "early_stopping": "first"},
    "force_eos": {"force_eos": True},
    "temperature": {"temperature": 1.7},
    "repetition": {"repetition_penalty": 1.4},
    "ngrams": {"no_repeat_ngram_size": 2},
    "unigrams": {"no_repeat_ngram_size": 1, "rules_see_bos": True},
    "banned": {"banned": [3, (2, 4), (5, 5, 1)]},
    "shortlist": {"shortlist": [EOS, 1, 2, 5]},
    "trie": {"trie": TokenTrie([(1, 2), (1, 2, 3), (4,), (5, 5, 6, 1)])},
    "phrases": {"phrases": [(2, 2), (4,), (2, 5)]},
    "prefix": {"prefix": [3, 1]},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.63},
    "on_log_probs": {"rules_on": "log_probs", "repetition_penalty": 1.3, "banned": [2]},
    "renormalize": {"renormalize": True, "banned": [2, 5], "min_length": 3},
    "groups": {"beam_groups": 2, "diversity_penalty": 0.6},
    "ancestral": {"sampling": "ancestral", "seed": 5},
    "gumbel": {"sampling": "gumbel", "seed": 2**63 + 1},
    "several_eos": {"eos_id": [EOS, 3, 5]},
    "ratio": {"max_length": 2, "max_length_ratio": 1.3},
    "hook": {"logits_hook": lambda seen, x: x * (1 + seen.sum(1, keepdim=True) % 3)},
    "hook_extend": {
        "finished": "extend",
        "logits_hook": lambda seen, x: x * (seen.sum(1)[:, None] % 3),
    },
}
