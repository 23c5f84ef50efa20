"""Searches with room for every prefix against all sequences there are, scored from the formulas."""

import itertools
import math
import random

import pytest
import torch
from prefix_model import BOS, EOS, PrefixModel, make_options
from test_search_options import holds, run, with_attention

from seq2seq_ext.decoding import TokenTrie

pytestmark = pytest.mark.not_emulated("beams of 130 take long there")

VOCAB, LIMIT, SOURCE = 4, 4, 3
ROOM = 130  # for all prefixes

SCORES = {
    "none": {},
    "power": {"length_penalty": "power", "alpha": 0.7},
    "power_negative": {"length_penalty": "power", "alpha": -0.6},
    "gnmt": {"length_penalty": "gnmt", "alpha": 1.2},
    "average": {"length_penalty": "average"},
    "reward": {"word_reward": 0.8},
    "punished": {"word_reward": -0.8, "length_penalty": "gnmt"},
    "reward_power": {"word_reward": 1.5, "length_penalty": "power", "alpha": 0.6},
    "offset": {"length_penalty": "power", "length_offset": 2},
    "offset_down": {"length_penalty": "power", "length_offset": -2},
    "no_eos": {"length_penalty": "gnmt", "count_eos": False},
    "coverage": {"coverage_penalty": "gnmt", "beta": 0.5, "length_penalty": "gnmt"},
    "summary": {"coverage_penalty": "summary", "beta": 0.5, "length_penalty": "average"},
    "stepwise": {"coverage_penalty": "summary", "beta": 0.7, "coverage_stepwise": True},
    "phrases": {"phrases": [(2, 1), (2,)], "length_penalty": "average"},
    "trie": {"trie": TokenTrie([(1,), (1, 2), (2, 2, 1), (2, 1, 1)])},
    "prefix": {"prefix": [2, 1]},
    "min": {"min_length": 3, "length_penalty": "average"},
}
FINDS = {
    "carry": {"finished": "carry"},
    "carry_average": {"finished": "carry", "length_penalty": "average"},
    "carry_by_score": {"finished": "carry", "rank_by": "score", "length_penalty": "gnmt"},
    "carry_coverage": {"finished": "carry", "coverage_penalty": "gnmt", "beta": 0.5},
    "several_eos": {"eos_id": [EOS, 3], "length_penalty": "power"},
    "ratio": {"max_length": 1, "max_length_ratio": 1.0},
    "force_eos": {"force_eos": True, "length_penalty": "average"},
    "banned": {"banned": [3, (1, 2), (2, 2, 1)]},
    "ngrams": {"no_repeat_ngram_size": 2},
    "unigrams": {"no_repeat_ngram_size": 1},
    "temperature": {"temperature": 1.7},
    "repetition": {"repetition_penalty": 1.6},
    "shortlist": {"shortlist": [EOS, 1, 3]},
    "renormalized": {"banned": [2], "renormalize": True},
    "hook": {"logits_hook": lambda seen, logits: logits * 0.5},
    "heuristic": {"early_stopping": "none", "length_penalty": "power", "alpha": -0.4},
}
BRUTE = {**SCORES, **FINDS}


def sequences(options):
    """All that can be returned, the rules aside that look at log-probs."""
    limit = options.length_limit(SOURCE)
    words = [token for token in range(VOCAB) if token not in options.eos_ids]
    ended = (
        (*prefix, eos)
        for n in range(limit)
        for prefix in itertools.product(words, repeat=n)
        for eos in options.eos_ids
    )
    cut = itertools.product(words, repeat=limit)
    return filter(lambda tokens: fits(options, tokens), itertools.chain(ended, cut))


def fits(options, tokens):
    ends = tokens[-1] in options.eos_ids
    words, n = (tokens[:-1] if ends else tokens), options.no_repeat_ngram_size
    ngrams = [tokens[i : i + n] for i in range(len(tokens) - n + 1)] if n else []
    return (
        (len(tokens) >= options.min_length or not ends)
        and (ends or not options.force_eos)
        and words[: len(options.prefix)] == tuple(options.prefix)
        and (options.trie is None or words in options.trie)
        and all(holds(words, phrase) for phrase in options.phrases)
        and not any(holds(tokens, phrase) for phrase in options.banned)
        and len(set(ngrams)) == len(ngrams)
        and (options.shortlist is None or set(tokens) <= set(options.shortlist))
    )


def log_prob_of(model, sentence, tokens, options):
    """Teacher forcing, with what changes the distribution written once more."""
    step, state, total = model.step, model.state([sentence], 1), 0.0
    for t, (fed, token) in enumerate(zip([BOS, *tokens], tokens, strict=False)):
        logits, state = step(torch.tensor([fed]), state)
        row = logits[0].double().tolist()
        if options.shortlist is not None:
            row = [x if i in options.shortlist else -math.inf for i, x in enumerate(row)]
        if options.logits_hook is not None:
            row = [0.5 * x for x in row]
        row = [x / options.temperature for x in row]
        for used in set(tokens[:t]):
            penalty = options.repetition_penalty
            row[used] = row[used] / penalty if row[used] > 0 else row[used] * penalty
        kept = row
        if options.renormalize:
            kept = [x for i, x in enumerate(row) if (i,) not in options.banned]
        total += row[token] - math.log(sum(map(math.exp, kept)))
    return total


def coverage_of(model, sentence, tokens, options):
    if options.coverage_penalty == "none":
        return 0.0
    step, state = with_attention(model), model.state([sentence], 1)
    mass = torch.zeros(5, dtype=torch.float64)
    for fed in [BOS, *tokens[:-1]]:
        _, state, weights = step(torch.tensor([fed]), state)
        mass += weights[0].double()
    mass = mass[:SOURCE]
    if options.coverage_penalty == "summary":
        return options.beta * (1 - mass.clamp(min=1)).sum().item()
    return options.beta * mass.clamp(1e-10, 1).log().sum().item()


def brute_force(model, sentence, options):
    """(score, tokens) of all sequences, the best first."""
    scored = []
    for tokens in sequences(options):
        counted = len(tokens) + options.length_offset
        counted -= tokens[-1] in options.eos_ids and not options.count_eos
        total = log_prob_of(model, sentence, tokens, options) + options.word_reward * counted
        score = total / options.normaliser(counted)
        scored.append((score + coverage_of(model, sentence, tokens, options), tokens))
    return sorted(scored, key=lambda each: -each[0])


def draw_search(draw, **fields):
    model = PrefixModel(VOCAB, draw.randrange(1 << 30), spread=draw.choice([0.5, 2, 4]))
    told = {"beam_size": ROOM, "n_best": draw.randint(1, 4), "max_length": LIMIT, **fields}
    return model, draw.randrange(99), make_options(**told)


@pytest.mark.parametrize("name", BRUTE)
def test_equals_brute_force(name):
    """Nothing is pruned: the exact stop must not come before the n best are found."""
    draw = random.Random(name)
    for _ in range(8):
        model, sentence, options = draw_search(draw, **BRUTE[name])
        best = brute_force(model, sentence, options)[: options.n_best]
        [found] = run(model, [options], [sentence], lengths=[SOURCE]).hypotheses
        assert [tuple(h.tokens) for h in found] == [tokens for _, tokens in best]
        assert [h.score for h in found] == pytest.approx([score for score, _ in best])


@pytest.mark.parametrize("diversity", [0.0, 0.7])
@pytest.mark.parametrize("score", ["none", "gnmt", "summary", "phrases"])
def test_diverse_groups_equal_brute_force(score, diversity):
    """Diversity ranks and prunes: with room for everything each group finds the best."""
    draw = random.Random(score)
    for _ in range(4):
        fields = {"beam_groups": 2, "diversity_penalty": diversity, **BRUTE[score]}
        model, sentence, options = draw_search(draw, beam_size=2 * ROOM, **fields)
        best = brute_force(model, sentence, options)
        expected = [each for each in best for _ in range(2)][: options.n_best]
        [found] = run(model, [options], [sentence], lengths=[SOURCE]).hypotheses
        assert [tuple(h.tokens) for h in found] == [tokens for _, tokens in expected]
        assert [h.score for h in found] == pytest.approx([score for score, _ in expected])


def test_diverse_groups_equal_a_search_group_by_group():
    """One beam a group, by hand: each takes the best token less what the earlier ones used."""
    draw = random.Random(9)
    for _ in range(20):
        fields = {"beam_groups": 3, "diversity_penalty": draw.choice([0.3, 1.0, 9.0])}
        model = PrefixModel(9, draw.randrange(1 << 30), spread=1.0)
        model.logits[:, EOS] = -math.inf
        sentence = draw.randrange(99)
        told = {"beam_size": 3, "n_best": 3, "max_length": 5, **fields}
        options = make_options(**told)
        prefixes = [[], [], []]
        for _ in range(5):
            used = []
            for prefix in prefixes:
                gains = {
                    token: model.log_prob(sentence, [*prefix, token])
                    - options.diversity_penalty * used.count(token)
                    for token in range(1, 9)
                }
                best = max(gains, key=lambda token: gains[token])
                prefix.append(best)
                used.append(best)
        [found] = run(model, [options], [sentence], lengths=None).hypotheses
        sums = [model.log_prob(sentence, prefix) for prefix in prefixes]
        expected = sorted(zip(sums, prefixes, strict=True), key=lambda each: -each[0])
        assert sorted(h.log_prob for h in found)[::-1] == pytest.approx([s for s, _ in expected])


def test_gumbel_beams_with_room_hold_every_sequence_once():
    draw = random.Random(1)
    for seed in range(8):
        fields = {"sampling": "gumbel", "seed": seed, "max_length": 3}
        model, sentence, options = draw_search(draw, **{**fields, "n_best": ROOM})
        [found] = run(model, [options], [sentence], lengths=None).hypotheses
        expected = dict(map(reversed, brute_force(model, sentence, options)))
        assert len(found) == len(expected)
        for each in found:
            assert each.log_prob == pytest.approx(expected[tuple(each.tokens)])
        assert sum(math.exp(h.log_prob) for h in found) == pytest.approx(1)


@pytest.mark.parametrize("penalty", SCORES)
def test_the_exact_stop_changes_nothing(penalty):
    """At beams that prune: the same n best as a search that goes on to max_length."""
    draw = random.Random(penalty)
    for _ in range(15):
        model = PrefixModel(7, draw.randrange(1 << 30), spread=3.0)
        fields = {"beam_size": 4, "n_best": draw.randint(1, 4), "max_length": 9, **SCORES[penalty]}
        sentences = [draw.randrange(99) for _ in range(4)]
        stops, goes_on = (
            run(model, [make_options(early_stopping=rule, **fields)] * 4, sentences).hypotheses
            for rule in ("exact", "none")
        )
        assert stops == goes_on
