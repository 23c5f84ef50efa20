"""Greedy search against a plain argmax loop."""

import math
import random

import pytest
import torch
from prefix_model import BOS, EOS, PENALTIES, PrefixModel, make_options, normaliser

from seq2seq_ext.decoding import greedy_search

INF = float("inf")


def search(model, options, sentences):
    state = model.state(sentences, 1)
    return greedy_search(model.step, state, batch_size=len(sentences), options=options)


def argmax_loop(model, options, sentence):
    tokens, state = [], model.state([sentence], 1)
    while len(tokens) < options.max_length and tokens[-1:] != [EOS]:
        logits, state = model.step(torch.tensor([([BOS] + tokens)[-1]]), state)
        row = logits[0].tolist()
        if len(tokens) + 1 < options.min_length:
            row[EOS] = -INF
        tokens.append(row.index(max(row)))
    return tokens


@pytest.mark.parametrize("ties", [False, True])
def test_equals_argmax(ties):
    draw = random.Random(0)
    for seed in range(60):
        model = PrefixModel(draw.choice([2, 3, 7, 30]), seed)
        if ties:
            model.round_logits()
        penalty, alpha = draw.choice(PENALTIES)
        max_length = draw.choice([1, 2, 9])
        options = make_options(
            max_length=max_length,
            min_length=draw.randint(0, max_length),
            length_penalty=penalty,
            alpha=alpha,
        )
        result = search(model, options, [seed, 1, 2])
        assert result.tokens.shape[:2] == (3, 1)
        for sentence, [found] in zip([seed, 1, 2], result.hypotheses, strict=True):
            assert found.tokens == argmax_loop(model, options, sentence)
            log_prob = model.log_prob(sentence, found.tokens)
            assert found.log_prob == pytest.approx(log_prob, rel=1e-9)
            score = log_prob / normaliser(options, len(found.tokens))
            assert found.score == pytest.approx(score, rel=1e-9)


def test_a_sentence_has_the_same_bits_in_any_company():
    model = PrefixModel(50, 3, dtype=torch.float32)
    options = make_options(max_length=20)
    alone = [search(model, options, [s]).hypotheses[0] for s in range(8)]
    assert search(model, options, list(range(8))).hypotheses == alone
    assert search(model, options, list(range(8))[::-1]).hypotheses == alone[::-1]


def test_finished_rows_are_fed_padding():
    fed = []

    def step(tokens, state):
        fed.append(tokens.tolist())
        logits = torch.zeros(2, 4)
        logits[0, EOS] = 5.0
        logits[1, 2] = 5.0
        return logits, state

    options = make_options(pad_id=3, max_length=3)
    result = greedy_search(step, None, batch_size=2, options=options)
    assert fed == [[BOS, BOS], [3, 2], [3, 2]]
    assert result.tokens[:, 0].tolist() == [[EOS, 3, 3], [2, 2, 2]]
    assert result.lengths.tolist() == [[1], [3]]


@pytest.mark.parametrize("poison", [math.nan, INF, -INF])
def test_a_row_without_probabilities_ends_as_it_is(poison):
    model = PrefixModel(6, 1)
    options = make_options(max_length=5, min_length=5)
    expected = search(model, options, [4]).hypotheses[0][0]
    steps = 0

    def step(tokens, state):
        nonlocal steps
        logits, state = model.step(tokens, state)
        logits[1] = poison if steps == 2 else logits[1]
        steps += 1
        return logits, state

    state = model.state([4, 5], 1)
    [[other], [dead]] = greedy_search(step, state, batch_size=2, options=options).hypotheses
    assert other == expected
    assert len(dead.tokens) == 2 and dead.log_prob == pytest.approx(model.log_prob(5, dead.tokens))


def test_everything_dies_at_once():
    result = greedy_search(
        lambda tokens, state: (torch.full((2, 3), math.nan), state),
        (),
        batch_size=2,
        options=make_options(),
    )
    assert result.tokens.shape == (2, 1, 0) and result.scores.tolist() == [[0.0], [0.0]]


def test_only_eos_in_the_vocabulary_and_banned():
    options = make_options(min_length=2, max_length=4)
    result = greedy_search(
        lambda tokens, state: (torch.zeros(1, 1), state), (), batch_size=1, options=options
    )
    assert result.lengths.tolist() == [[0]]


BAD = {
    "step": ({"step": None}, TypeError, "greedy_search: step: expected a callable"),
    "options": ({"options": None}, TypeError, "greedy_search: options: expected BeamSearchOptions"),
    "batch_size": ({"batch_size": 0}, ValueError, "greedy_search: batch_size: .*got 0"),
    "state": ({"state": [torch.zeros(3)]}, ValueError, r"greedy_search: state\[0\]: .* N = 2"),
    "device": ({"device": "nowhere"}, ValueError, "greedy_search: device: .*'nowhere'"),
    "logits": (
        {"step": lambda tokens, state: (torch.zeros(3, 4), state)},
        ValueError,
        r"greedy_search: step: logits: expected shape \[N = 2, V\], got \[3, 4\]",
    ),
    "eos": ({"options": make_options(eos_id=7)}, ValueError, "greedy_search: logits: .*eos_id = 7"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    changes, error, message = BAD[case]
    good = {
        "step": lambda tokens, state: (torch.zeros(2, 4), state),
        "state": (),
        "batch_size": 2,
        "options": make_options(max_length=2),
    }
    arguments = {**good, **changes}
    with pytest.raises(error, match=message):
        greedy_search(arguments.pop("step"), arguments.pop("state"), **arguments)
