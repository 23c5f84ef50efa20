"""Samples against the reference, number by number, and against exact probabilities."""

import itertools
import math
from collections import Counter

import pytest
import torch
from prefix_model import PrefixModel, make_options
from test_search_options import run

from seq2seq_ext import reference
from seq2seq_ext.decoding import BeamSearchResult, beam_search

SAMPLED = {
    "ancestral": {"sampling": "ancestral"},
    "gumbel": {"sampling": "gumbel"},
    "top_k": {"sampling": "ancestral", "top_k": 9},
    "top_p": {"sampling": "gumbel", "top_p": 0.8},
    "shortlist": {"sampling": "gumbel", "shortlist": [*range(0, 200, 3)]},
    "temperature": {"sampling": "ancestral", "temperature": 0.4},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", SAMPLED)
def test_equals_reference(isa, name, dtype):
    """Vocabularies of whole and broken blocks, flat and peaked, far from 0 and with holes."""
    for vocab, spread, shift in [(201, 0.0, 0.0), (256, 3.0, 50.0), (515, 60.0, -900.0)]:
        model = PrefixModel(vocab, vocab, dtype=dtype, spread=spread)
        model.logits += shift
        model.logits[::3, 5::2] = -math.inf
        fields = {"beam_size": 3, "n_best": 3, "max_length": 2, **SAMPLED[name]}
        options = [make_options(seed=seed, **fields) for seed in (0, 2**64 - 1)]
        ours = run(model, options, [4, 9], lengths=None).hypotheses
        found = run(model, options, [4, 9], reference.beam_search, lengths=None)
        expected = BeamSearchResult(*found).hypotheses
        for a, b in zip(itertools.chain(*ours), itertools.chain(*expected), strict=True):
            assert a.tokens == b.tokens
            assert a.score == pytest.approx(b.score, rel=1e-6, abs=1e-6)


@pytest.mark.not_emulated("beams of 300 take a minute each there")
@pytest.mark.parametrize("top_p", [1e-6, 0.301, 0.501, 0.901, 0.991, 0.9999, 1 - 1e-9])
@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
def test_top_p_keeps_the_fewest(top_p, spread):
    """Every token that is kept is drawn as a candidate of a beam as wide as the vocabulary.

    No top_p is a sum of equal shares but for roundings.
    """
    logits = PrefixModel(300, 1, spread=spread).logits[:1]
    order = logits[0].sort(descending=True, stable=True).indices
    shares = logits[0].softmax(0)[order].cumsum(0)
    count = min(int((shares < top_p).sum()) + 1, 300)
    options = make_options(beam_size=300, n_best=300, max_length=1, top_p=top_p)
    [found] = beam_search(
        lambda t, s: (logits.expand(len(t), -1), s), (), batch_size=1, options=options
    ).hypotheses
    assert [h.tokens[0] for h in found] == order[:count].tolist()


def assert_drawn_from(probs, draws):
    """Pearson's chi-square at 1 in 1,000; outcomes expected less than 5 times count as one."""
    counts, total = Counter(draws), len(draws)
    assert set(counts) <= set(probs)
    rare = [each for each, p in probs.items() if p * total < 5]
    cells = [(counts[each], p * total) for each, p in probs.items() if each not in rare]
    if rare:
        cells.append((sum(counts[e] for e in rare), max(sum(probs[e] for e in rare) * total, 1)))
    freedom = len(cells) - 1
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    wide = 2 / (9 * freedom)  # Wilson and Hilferty 1931
    assert statistic < freedom * (1 - wide + 3.09 * math.sqrt(wide)) ** 3, (statistic, freedom)


def sequence_probs(model, sentence, options):
    """Of every sequence under the rules, by the definitions."""
    found = {}

    def grow(tokens, prob):
        if tokens and (tokens[-1] in options.eos_ids or len(tokens) == options.max_length):
            found[tokens] = prob
            return
        logs = [model.log_prob(sentence, [*tokens, t]) for t in range(model.vocab)]
        weights = [math.exp((x - max(logs)) / options.temperature) for x in logs]
        order = sorted(range(model.vocab), key=lambda t: -weights[t])
        if options.top_k:
            order = order[: options.top_k]
        total, kept, share = sum(weights[t] for t in order), [], 0.0
        for token in order:
            if share < options.top_p:
                kept.append(token)
                share += weights[token] / total
        total = sum(weights[t] for t in kept)
        for token in kept:
            grow((*tokens, token), prob * weights[token] / total)

    grow((), 1.0)
    return found


MANY_NUCLEI = pytest.mark.not_emulated("60,000 nuclei take minutes there")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 1.8},
        {"top_k": 2},
        pytest.param({"top_p": 0.7}, marks=MANY_NUCLEI),
        pytest.param({"top_k": 3, "top_p": 0.8}, marks=MANY_NUCLEI),
    ],
    ids=["plain", "temperature", "top_k", "top_p", "both"],
)
def test_ancestral_samples_follow_exact_probabilities(fields):
    """Whole sequences: 20,000 of each set of options, from 400 seeds and 50 lanes."""
    model = PrefixModel(4, 3, spread=1.0)
    told = {"sampling": "ancestral", "beam_size": 50, "n_best": 50, "max_length": 3, **fields}
    options = [make_options(seed=7000 + s, **told) for s in range(400)]
    found = run(model, options, [5] * 400, lengths=None).hypotheses
    draws = [tuple(h.tokens) for beam in found for h in beam]
    assert len(draws) == 20_000
    assert_drawn_from(sequence_probs(model, 5, options[0]), draws)


@pytest.mark.parametrize("fields", [{}, {"top_k": 2}], ids=["plain", "top_k"])
def test_gumbel_beams_follow_exact_probabilities(fields):
    """Ordered beams of 3: each is drawn from what those before it have left (Kool et al. 2019).

    Under top_k log-probs stay those of the whole row, so prefixes keep their weight.
    """
    model = PrefixModel(3, 11, spread=0.8)
    told = {"sampling": "gumbel", "beam_size": 3, "n_best": 3, "max_length": 2, **fields}
    if fields:
        told["renormalize"] = True
    options = [make_options(seed=90_000 + s, **told) for s in range(8000)]
    found = run(model, options, [2] * 8000, lengths=None).hypotheses
    single = sequence_probs(model, 2, options[0])
    probs = {}
    for beam in itertools.permutations(single, 3):
        left, prob = 1.0, 1.0
        for each in beam:
            prob *= single[each] / left
            left -= single[each]
        probs[beam] = prob
    assert sum(probs.values()) == pytest.approx(1)
    assert_drawn_from(probs, [tuple(tuple(h.tokens) for h in beam) for beam in found])


def test_lanes_and_seeds_are_independent():
    """First tokens of two lanes of one seed, and of one lane of neighbouring seeds."""
    model = PrefixModel(3, 4, spread=0.5)
    told = {"sampling": "ancestral", "beam_size": 2, "n_best": 2, "max_length": 1}
    found = beam_search(
        model.step,
        model.state([6] * 8000, 2),
        batch_size=8000,
        options=[make_options(seed=s, **told) for s in range(8000)],
    )
    single = {t: math.exp(model.log_prob(6, [t])) for t in range(3)}
    pairs = {(a, b): single[a] * single[b] for a in single for b in single}
    lanes = found.rows[:, :, 0] % 2
    tokens = found.tokens[:, :, 0].gather(1, lanes.argsort(1))
    assert_drawn_from(pairs, [tuple(pair) for pair in tokens.tolist()])
    first = tokens[:, 0].tolist()
    assert_drawn_from(pairs, list(zip(first[::2], first[1::2], strict=True)))
