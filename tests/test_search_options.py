"""Every option of the search: against the reference, brute force, and itself in any company."""

import gc
import itertools
import math
import random

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prefix_model import BOS, EOS, PrefixModel, make_options
from search_cases import MECHANISMS
from test_beam_search import assert_equal_results

import seq2seq_ext
from seq2seq_ext import reference
from seq2seq_ext.decoding import beam_search, greedy_search, native_options, replace_unknown

INF = float("inf")
VOCAB, SOURCE = 7, 5
SOURCE_LENGTHS = [3, 5, 1, 4]


def with_attention(model):
    """The model's step, and weights that depend on the prefix."""

    def step(tokens, state):
        logits, state = model.step(tokens, state)
        weights = torch.stack([state["hash"][0] * p % 11 + 0.5 for p in (3, 5, 7, 9, 13)], dim=1)
        return logits, state, weights / weights.sum(1, keepdim=True)

    return step


def run(model, options, sentences, find=beam_search, lengths=SOURCE_LENGTHS):
    """Search with each sentence's own options."""
    rows = [s for s, o in zip(sentences, options, strict=True) for _ in range(o.beam_size)]
    return find(
        with_attention(model) if any(o.needs_attention for o in options) else model.step,
        model.state(rows, 1),
        batch_size=len(sentences),
        options=options,
        source_lengths=lengths,
    )


@pytest.mark.parametrize("ties", [False, True], ids=["random logits", "tied logits"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_equals_reference(mechanism, ties):
    """Each mechanism, at beams that prune, with and without ties, token for token."""
    draw = random.Random(mechanism)
    for _ in range(6):
        model = PrefixModel(VOCAB, draw.randrange(1 << 30), dtype=torch.float32)
        if ties:
            model.round_logits()
        options = []
        for _ in range(4):
            beams = draw.choice([2, 4, 6])
            fields = {"n_best": draw.randint(1, beams), "max_length": draw.choice([4, 7])}
            options.append(make_options(beam_size=beams, **{**fields, **MECHANISMS[mechanism]}))
        sentences = [draw.randrange(99) for _ in range(4)]
        ours = run(model, options, sentences)
        expected = run(model, options, sentences, reference.beam_search)
        assert_equal_results(ours, expected, options)


def compatible(fields):
    try:
        return make_options(**fields)
    except ValueError:
        return None


@st.composite
def random_options(draw):
    """Up to three mechanisms at once."""
    beams = draw(st.sampled_from([1, 2, 4]))
    fields = {"beam_size": beams, "n_best": draw(st.integers(1, beams)), "max_length": 6}
    chosen = draw(st.lists(st.sampled_from(sorted(MECHANISMS)), max_size=3, unique=True))
    for name in chosen:
        fields = {**fields, **MECHANISMS[name]}
    return compatible(fields) or make_options(beam_size=beams)


# Two that only the host knows, one of them with rules; one that it need not search.
UNLIKE = [make_options(max_length=6, **MECHANISMS[n]) for n in ("shrink", "on_log_probs", "banned")]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@example([UNLIKE[0], *UNLIKE], 2, False)
@given(st.lists(random_options(), min_size=4, max_size=4), st.integers(0, 1 << 20), st.booleans())
def test_mixed_options_equal_the_reference_and_each_sentence_alone(options, seed, ties):
    model = PrefixModel(VOCAB, seed, dtype=torch.float32)
    if ties:
        model.round_logits()
    sentences = [seed % 97, 5, 6, 7]
    together = run(model, options, sentences)
    assert_equal_results(together, run(model, options, sentences, reference.beam_search), options)
    for i in range(4):
        alone = run(model, [options[i]], [sentences[i]], lengths=[SOURCE_LENGTHS[i]])
        assert together.hypotheses[i] == alone.hypotheses[0]  # bit for bit
    order = [2, 0, 3, 1]
    moved = run(
        model,
        [options[i] for i in order],
        [sentences[i] for i in order],
        lengths=[SOURCE_LENGTHS[i] for i in order],
    )
    assert moved.hypotheses == [together.hypotheses[i] for i in order]


@pytest.mark.cpu_only("the default device is another on purpose")
def test_hooks_get_tokens_from_where_logits_are_whatever_the_default_device_is():
    table = torch.randn(VOCAB, VOCAB)

    def hook(seen, logits):
        return logits.scatter(1, seen, -5.0)

    def search():
        options = make_options(beam_size=3, max_length=5, logits_hook=hook)
        return beam_search(lambda t, s: (table[t], s), (), batch_size=2, options=options)

    expected = search()
    with torch.device("meta"):
        assert torch.equal(search().tokens, expected.tokens)
        with seq2seq_ext.backend("reference"):
            assert torch.equal(search().tokens, expected.tokens)


def holds(tokens, phrase):
    return any(tuple(tokens[i : i + len(phrase)]) == phrase for i in range(len(tokens)))


def test_the_winner_is_monotone_in_patience():
    for seed in range(30):
        model = PrefixModel(VOCAB, seed, spread=1.0)
        best = -INF
        for patience in (0.25, 0.5, 1, 2, 4, 8):
            options = make_options(
                early_stopping="first", patience=patience, length_penalty="average", max_length=12
            )
            [[found]] = run(model, [options], [seed], lengths=None).hypotheses
            assert found.score >= best
            best = found.score


def test_greedy_takes_every_option():
    """Greedy search is a beam of one, so the reference is the same."""
    model = PrefixModel(VOCAB, 3, dtype=torch.float32)
    for name in ("banned", "prefix", "trie", "ancestral", "ngrams", "temperature", "phrases"):
        options = make_options(beam_size=4, max_length=8, **MECHANISMS[name])
        state = model.state([1, 2, 3], 1)
        found = greedy_search(model.step, state, batch_size=3, options=options)
        assert found.tokens.shape[:2] == (3, 1)
        for [each] in found.hypotheses:
            if name == "prefix":
                assert each.tokens[:2] == [3, 1]
            if name == "banned":
                assert 3 not in each.tokens


@pytest.mark.parametrize("name", ["banned", "ngrams", "prefix", "trie", "phrases", "groups"])
def test_sums_are_those_of_teacher_forcing(name):
    model = PrefixModel(VOCAB, 11)
    options = make_options(beam_size=4, n_best=4, max_length=8, **MECHANISMS[name])
    for sentence, found in enumerate(run(model, [options] * 4, range(4)).hypotheses):
        assert found
        for each in found:
            assert each.log_prob == pytest.approx(model.log_prob(sentence, each.tokens))
            assert sum(each.token_log_probs) == pytest.approx(each.log_prob)


def test_rules_hold():
    model = PrefixModel(VOCAB, 5, spread=1.0)
    fields = {"beam_size": 4, "n_best": 4, "max_length": 9}
    for name, rule in {
        "ngrams": lambda t: len(set(itertools.pairwise(t))) == len(t) - 1,
        "banned": lambda t: 3 not in t and not holds(t, (2, 4)) and not holds(t, (5, 5, 1)),
        "shortlist": lambda t: set(t) <= {EOS, 1, 2, 5},
        "phrases": lambda t: all(holds(t, p) for p in [(2, 2), (4,), (2, 5)]),
        "prefix": lambda t: t[:2] == [3, 1],
        "force_eos": lambda t: t[-1] == EOS,
    }.items():
        options = make_options(**{**fields, **MECHANISMS[name]})
        found = run(model, [options] * 4, range(4)).hypotheses
        assert all(each for each in found), name
        assert all(rule(h.tokens) for each in found for h in each), name


def test_on_step_sees_partial_hypotheses_and_stops():
    model = PrefixModel(VOCAB, 2)
    seen = []

    def watch(progress):
        seen.append((progress.sentence, progress.step, progress.done))
        assert len(progress.live) <= 3 and all(len(h.tokens) for h in progress.live)
        assert progress.live == sorted(progress.live, key=lambda h: -h.score)
        prefix = progress.stable_prefix
        assert all(h.tokens[: len(prefix)] == prefix for h in [*progress.live, *progress.ended])
        return progress.step == 2

    fields = {"beam_size": 3, "n_best": 3, "max_length": 9, "min_length": 5}
    stopped = make_options(on_step=watch, **fields)
    free = make_options(**fields)
    found = run(model, [stopped, free], [1, 2], lengths=None).hypotheses
    assert seen == [(0, 1, False), (0, 2, False)]
    assert {(len(h.tokens), h.reason) for h in found[0]} == {(2, "stopped")}
    assert found[1] == run(model, [free], [2], lengths=None).hypotheses[0]


def test_attention_follows_the_back_pointers():
    model = PrefixModel(VOCAB, 4)
    step = with_attention(model)
    options = make_options(beam_size=4, n_best=4, max_length=7, return_attention=True)
    found = run(model, [options] * 3, [5, 6, 7], lengths=None)
    for b, n in itertools.product(range(3), range(4)):
        state, fed, length = model.state([5 + b], 1), BOS, int(found.lengths[b, n])
        for t, token in enumerate(found.tokens[b, n, :length].tolist()):
            _, state, weights = step(torch.tensor([fed]), state)
            assert torch.equal(found.attention[b, n, t], weights[0])
            assert found.alignment[b, n, t] == weights[0].argmax()
            fed = token
        assert not found.attention[b, n, length:].any()


def test_unknown_words_are_replaced():
    assert replace_unknown(["a", "?"], [1, 0], ["x", "y"], "?") == ["a", "x"]
    assert replace_unknown(["?"], [0], ["x"], "?", {"x": "ex"}) == ["ex"]
    assert replace_unknown(["?"], [0], ["x"], "?", str.upper) == ["X"]
    with pytest.raises(ValueError, match="alignment: expected positions from 0 to 0, got 3"):
        replace_unknown(["?"], [3], ["x"], "?")


def test_a_hypothesis_without_tokens_has_covered_nothing():
    """Dead at once: no mass anywhere counts as 1e-10 each."""
    options = make_options(coverage_penalty="gnmt", beta=0.5, beam_size=2, max_length=3)

    def step(tokens, state):
        return torch.full((len(tokens), 4), -INF), state, torch.ones(len(tokens), 3)

    for find in (beam_search, reference.beam_search):
        found = find(step, (), batch_size=1, options=[options], source_lengths=[3])
        assert found.scores.item() == pytest.approx(0.5 * 3 * math.log(1e-10))


def test_reasons():
    table = torch.full((4, 4), -INF)
    table[BOS, 2] = table[2, 3] = 0.0
    options = make_options(beam_size=2, max_length=5)
    [[dead]] = beam_search(lambda t, s: (table[t], s), (), batch_size=1, options=options).hypotheses
    assert (dead.tokens, dead.reason) == ([2, 3], "dead")
    cut_short = make_options(max_length=1)
    [[cut]] = run(PrefixModel(4, 1), [cut_short], [0], lengths=None).hypotheses
    assert cut.reason == ("eos" if cut.tokens == [EOS] else "max_length")


def test_the_engines_options_are_made_once_and_live_as_long_as_pythons():
    options = make_options(max_length=3)
    [first] = native_options.native_options("test", [options], None)
    [again, other] = native_options.native_options("test", [options, make_options(seed=1)], None)
    assert again is first
    assert other is not first
    key = id(options)
    assert key in native_options._made
    del options
    gc.collect()
    assert key not in native_options._made
