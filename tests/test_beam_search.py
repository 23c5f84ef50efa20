"""The search against brute force, against the reference, and against itself in any company."""

import itertools
import math
import random
from collections import namedtuple

import pytest
import torch
from prefix_model import BOS, EOS, PAD, PENALTIES, PrefixModel, make_options

from seq2seq_ext import ops, reference
from seq2seq_ext.decoding import BeamSearch, beam_search, greedy_search

INF = float("inf")
RESULT = ("tokens", "lengths", "scores", "log_probs")


def search(model, options, sentences=(0,)):
    sentences = list(sentences)
    state = model.state(sentences, options.beam_size)
    return beam_search(model.step, state, batch_size=len(sentences), options=options)


def search_table(table, options, batch_size=1):
    """A model whose next logits depend on the last token only."""
    return beam_search(
        lambda t, state: (table[t], state), (), batch_size=batch_size, options=options
    )


def assert_equal_results(ours, expected, told=None):
    """The same hypotheses, found the same way; sums up to rounding."""
    for name in ("tokens", "lengths", "reasons", "rows"):
        assert torch.equal(getattr(ours, name), getattr(expected, name)), (
            name,
            getattr(ours, name),
            getattr(expected, name),
            told,
        )
    for name in ("scores", "log_probs", "token_log_probs"):
        torch.testing.assert_close(
            getattr(ours, name), getattr(expected, name), rtol=2e-6, atol=2e-6, msg=f"{name} {told}"
        )


def assert_equals_reference(model, options, sentences):
    ours = search(model, options, sentences)
    expected = reference.beam_search(
        model.step,
        model.state(list(sentences), options.beam_size),
        batch_size=len(sentences),
        options=options,
    )
    assert_equal_results(ours, expected, options)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_equals_brute_force(penalty):
    """With room for every prefix nothing is pruned: 1,008 sentences over all penalties."""
    draw = random.Random(str(penalty))
    for case in range(36):
        vocab, max_length = draw.choice(
            [(2, 1), (2, 5), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5), (4, 3), (4, 4), (5, 3), (5, 2)]
        )
        options = make_options(
            beam_size=(vocab - 1) ** max_length + max_length,
            n_best=draw.randint(1, max_length),
            max_length=max_length,
            min_length=draw.choice([0, 0, draw.randint(0, max_length)]),
            length_penalty=penalty[0],
            alpha=penalty[1],
        )
        model = PrefixModel(vocab, seed=draw.randrange(1 << 30), spread=draw.choice([0.5, 2, 5]))
        result = search(model, options, range(4))
        for sentence, found in enumerate(result.hypotheses):
            best = model.brute_force(sentence, options)[: options.n_best]
            assert [h.tokens for h in found] == [h.tokens for h in best], (case, options)
            for ours, exact in zip(found, best, strict=True):
                assert ours.score == pytest.approx(exact.score, rel=1e-9, abs=1e-12)
                assert ours.log_prob == pytest.approx(exact.log_prob, rel=1e-9, abs=1e-12)


def random_options(draw, vocab):
    beam_size = draw.choice([1, 2, 3, 4, 5, 8, vocab + 3])
    max_length = draw.choice([1, 2, 4, 9, 16])
    penalty, alpha = draw.choice(PENALTIES)
    return make_options(
        beam_size=beam_size,
        n_best=draw.randint(1, beam_size),
        max_length=max_length,
        min_length=draw.choice([0, draw.randint(0, max_length)]),
        length_penalty=penalty,
        alpha=alpha,
    )


@pytest.mark.parametrize("ties", [False, True], ids=["random logits", "tied logits"])
def test_equals_reference(ties):
    """360 sentences each, at beams that prune. Ties included, token for token."""
    draw = random.Random(int(ties))
    for _ in range(120):
        vocab = draw.choice([2, 3, 5, 8, 30])
        model = PrefixModel(
            vocab, draw.randrange(1 << 30), dtype=torch.float32, spread=draw.choice([0.4, 1, 3])
        )
        if ties:
            model.round_logits()
        assert_equals_reference(model, random_options(draw, vocab), [draw.randrange(50), 1, 2])


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("beam_size", [1, 3, 7])
def test_uniform_logits_equal_reference(penalty, beam_size):
    """Everything ties; float32 log-probs add up exactly, so ties stay ties."""
    options = make_options(
        beam_size=beam_size,
        n_best=beam_size,
        max_length=6,
        length_penalty=penalty[0],
        alpha=penalty[1],
    )
    model = PrefixModel(5, 0, dtype=torch.float32, spread=0.0)
    assert_equals_reference(model, options, [0, 1])


def test_poisoned_rows_equal_reference():
    """NaN, inf and -inf at random places kill rows and tokens, the same ones in both."""
    draw = random.Random(5)
    for seed in range(60):
        model = PrefixModel(6, seed, dtype=torch.float32)
        generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
        for value, share in ((-INF, 0.3), (math.nan, 0.02), (INF, 0.02)):
            model.logits[torch.rand(model.logits.shape, generator=generator) < share] = value
        assert_equals_reference(model, random_options(draw, 6), [0, 1, 2, 3])


def test_log_probs_are_those_of_teacher_forcing():
    model = PrefixModel(20, 3, dtype=torch.float32)
    options = make_options(beam_size=6, n_best=6, max_length=25, length_penalty="gnmt")
    for sentence, found in enumerate(search(model, options, range(5)).hypotheses):
        assert len(found) == 6
        assert len({tuple(h.tokens) for h in found}) == 6
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for hypothesis in found:
            expected = model.log_prob(sentence, hypothesis.tokens)
            assert hypothesis.log_prob == pytest.approx(expected, rel=1e-5)
            ends = hypothesis.tokens[-1] == EOS
            assert ends or len(hypothesis.tokens) == 25
            assert EOS not in hypothesis.tokens[:-1]


def test_stopping_early_never_changes_the_pool():
    """The stop rule against a search that always goes on to max_length."""
    draw = random.Random(11)
    stopped_early = 0
    for seed in range(80):
        model = PrefixModel(6, seed, spread=3.0)
        options = random_options(draw, 6)
        steps = 0

        def count(tokens, state, model=model):
            nonlocal steps
            steps += 1
            return model.step(tokens, state)

        state = model.state([seed], options.beam_size)
        found = beam_search(count, state, batch_size=1, options=options).hypotheses[0]
        expected = search_to_the_end(model, seed, options)
        assert [h.tokens for h in found] == [tokens for tokens, _ in expected], options
        stopped_early += steps < options.max_length
    assert stopped_early > 10


def search_to_the_end(model, sentence, options):
    """Beam search without a stop rule, from teacher-forced sums."""
    live, ended = [()], []
    for length in range(1, options.max_length + 1):
        sums = {
            (*p, t): model.log_prob(sentence, (*p, t)) for p in live for t in range(model.vocab)
        }
        live = []
        for tokens in sorted(sums, key=lambda tokens: -sums[tokens]):
            if tokens[-1] != EOS:
                live.append(tokens)
            ends = tokens[-1] == EOS and length >= options.min_length
            cut = tokens[-1] != EOS and length == options.max_length
            if ends or cut:
                ended.append((list(tokens), sums[tokens] / options.normaliser(length)))
            if len(live) == options.beam_size:
                break
    return sorted(ended, key=lambda each: -each[1])[: options.n_best]


def test_winner_is_at_least_greedy_when_nothing_is_pruned():
    for seed in range(40):
        model = PrefixModel(3, seed)
        options = make_options(beam_size=40, max_length=5)
        greedy = greedy_search(model.step, model.state([seed], 1), batch_size=1, options=options)
        assert search(model, options, [seed]).scores[0, 0] >= greedy.scores[0, 0] - 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sentence_has_the_same_bits_in_any_company(dtype):
    model = PrefixModel(40, 8, dtype=dtype)
    options = make_options(beam_size=5, n_best=5, max_length=12, length_penalty="power", alpha=0.7)
    sentences = list(range(9))
    alone = [search(model, options, [s]).hypotheses[0] for s in sentences]
    assert search(model, options, sentences).hypotheses == alone
    shuffled = random.Random(0).sample(sentences, 9)
    assert search(model, options, shuffled).hypotheses == [alone[s] for s in shuffled]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert search(model, options, sentences).hypotheses == alone
    finally:
        torch.set_num_threads(threads)


def test_a_poisoned_sentence_leaves_others_alone():
    model = PrefixModel(8, 4)
    options = make_options(beam_size=3, n_best=3, max_length=7)
    expected = search(model, options, [5, 6]).hypotheses

    def step(tokens, state):
        logits, state = model.step(tokens, state)
        logits[3:6] = math.nan
        return logits, state

    state = model.state([5, 9, 6], 3)
    found = beam_search(step, state, batch_size=3, options=options).hypotheses
    assert [found[0], found[2]] == expected
    assert [h.tokens for h in found[1]] == [[]] and found[1][0].score == 0


def test_dying_prefixes_end_as_they_are():
    """The second step offers nothing: what the first step chose is the result."""
    table = torch.tensor([[math.nan] * 4, [-INF, 0.0, 1.0, 0.5], [math.nan] * 4, [-INF] * 4])
    table[1, 1] = -INF
    result = search_table(table, make_options(beam_size=3, n_best=3, max_length=9))
    assert result.lengths.tolist() == [[1, 1, 0]]
    assert result.tokens[0, :, 0].tolist() == [2, 3, PAD]
    assert result.scores[0, 2] == -INF and result.log_probs[0, 2] == -INF
    assert len(result.hypotheses[0]) == 2


def test_minus_infinity_is_never_chosen():
    table = torch.full((4, 4), -INF)
    table[1, 2] = table[2, 3] = table[3, EOS] = 0.0
    result = search_table(table, make_options(beam_size=4, n_best=4))
    assert [h.tokens for h in result.hypotheses[0]] == [[2, 3, EOS]]
    assert result.scores.tolist() == [[0.0, -INF, -INF, -INF]]
    assert not result.scores[0, 0].signbit()


def test_eos_at_the_first_step():
    table = torch.zeros(4, 4)
    table[:, EOS] = 9.0
    result = search_table(table, make_options(beam_size=2, n_best=2, max_length=10), batch_size=3)
    assert result.lengths[:, 0].tolist() == [1, 1, 1]
    assert (result.tokens[:, 0, 0] == EOS).all()


def test_min_length_counts_eos():
    table = torch.zeros(4, 4)
    table[:, EOS] = 9.0
    for min_length in range(1, 6):
        options = make_options(beam_size=3, max_length=5, min_length=min_length)
        assert search_table(table, options).lengths.tolist() == [[min_length]]


def test_max_length_of_one():
    table = torch.tensor([[0.0, 2.0, 1.0]]).expand(3, 3)
    result = search_table(table, make_options(beam_size=3, n_best=3, max_length=1))
    assert result.tokens.tolist() == [[[1], [2], [0]]]


def test_length_counts_eos_in_the_score():
    table = torch.tensor([[0.0, 0, 0], [-INF, -INF, 0], [0, -INF, -INF]])
    table[1, EOS] = 1.0
    options = make_options(beam_size=2, n_best=2, length_penalty="power", alpha=1.0)
    result = search_table(table, options)
    log_probs = torch.tensor([1.0, 0.0]).log_softmax(0).double()
    assert result.tokens.tolist() == [[[EOS, PAD], [2, EOS]]]
    assert torch.allclose(result.log_probs[0], log_probs)
    assert torch.allclose(result.scores[0], log_probs / torch.tensor([1.0, 2.0]).double())


def test_beam_beyond_the_vocabulary():
    model = PrefixModel(2, 6, dtype=torch.float32)
    for beam_size in (3, 4, 17):
        options = make_options(beam_size=beam_size, n_best=beam_size, max_length=4)
        assert_equals_reference(model, options, [0, 1, 2])
        assert search(model, options).lengths[0].tolist().count(0) == max(0, beam_size - 5)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_grad_modes(mode):
    weight = torch.randn(4, 4, requires_grad=True)
    options = make_options(beam_size=2, max_length=4)
    expected = search_table(weight.detach(), options).hypotheses
    with mode():
        assert search_table(weight, options).hypotheses == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_logits(dtype):
    model = PrefixModel(12, 2, dtype=dtype)
    same = PrefixModel(12, 2)
    same.logits = model.logits.float()
    options = make_options(beam_size=4, n_best=4, max_length=8)
    assert search(model, options).hypotheses == search(same, options).hypotheses


Pair = namedtuple("Pair", "h c")


def test_any_nesting_of_state_is_reordered():
    model = PrefixModel(9, 7)
    options = make_options(beam_size=4, n_best=4, max_length=10)

    def step(tokens, state):
        inner = {"hash": [state["pair"].h], "length": (state["pair"].c,)}
        logits, inner = model.step(tokens, inner)
        copies = [{"deep": (state["rest"][0]["deep"][0] + logits[:, :1],)}, None]
        assert torch.equal(state["pair"].h, state["twin"])
        return logits, {
            "pair": Pair(inner["hash"][0], inner["length"][0]),
            "rest": copies,
            "twin": inner["hash"][0].clone(),
        }

    start = model.state([0, 1], 4)
    nested = {
        "pair": Pair(start["hash"][0], start["length"][0]),
        "twin": start["hash"][0],
        "rest": [{"deep": (torch.zeros(8, 1),)}, None],
    }
    found = beam_search(step, nested, batch_size=2, options=options)
    assert found.hypotheses == search(model, options, [0, 1]).hypotheses


@pytest.mark.parametrize("told", [{}, {"finished": "shrink"}], ids=["a GPU's too", "the host's"])
def test_by_hand_equals_beam_search(told):
    model = PrefixModel(9, 1)
    options = make_options(beam_size=3, n_best=3, max_length=8, length_penalty="power", **told)
    engine = BeamSearch(2, options)
    tokens, state = torch.full((engine.rows,), BOS), model.state([3, 4], 3)
    while not engine.done:
        logits, state = model.step(tokens, state)
        tokens, parents = engine.advance(logits)
        assert tokens.dtype == parents.dtype == torch.int64
        assert (parents // 3).tolist() == [0, 0, 0, 1, 1, 1]
        state = {"hash": [state["hash"][0][parents]], "length": (state["length"][0][parents],)}
    by_hand, expected = engine.result(), search(model, options, [3, 4])
    assert_equal_results(by_hand, expected)
    for name in RESULT if told else ():  # both are searches of the host
        assert torch.equal(getattr(by_hand, name), getattr(expected, name))


def test_rows_without_hypothesis_are_fed_padding_to_themselves():
    options = make_options(pad_id=3, beam_size=3, max_length=4)
    engine = BeamSearch(2, options)
    logits = torch.full((6, 4), -INF)
    logits[0, EOS] = 0.0
    logits[3, [1, 2]] = 0.0
    tokens, parents = engine.advance(logits)
    assert tokens.tolist() == [3, 3, 3, 1, 2, 3]
    assert parents.tolist() == [0, 1, 2, 3, 3, 5]


def test_reference_backend():
    model = PrefixModel(7, 9, dtype=torch.float32)
    options = make_options(beam_size=3, n_best=2, max_length=6)
    expected = search(model, options, [0, 1])
    with ops.backend("reference"):
        result = search(model, options, [0, 1])
    assert torch.equal(result.tokens, expected.tokens)
    assert torch.allclose(result.scores, expected.scores, atol=1e-6)


def test_an_interrupt_gets_through():
    def step(tokens, state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        beam_search(step, (), batch_size=1, options=make_options())


def test_result_shapes():
    model = PrefixModel(7, 9)
    options = make_options(beam_size=4, n_best=3, max_length=6)
    result = search(model, options, range(5))
    assert result.tokens.shape == (5, 3, int(result.lengths.max()))
    for name in RESULT[1:]:
        assert getattr(result, name).shape == (5, 3)
    for b, n in itertools.product(range(5), range(3)):
        length = int(result.lengths[b, n])
        assert (result.tokens[b, n, length:] == PAD).all()
        assert result.hypotheses[b][n].tokens == result.tokens[b, n, :length].tolist()
