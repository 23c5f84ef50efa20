"""Ensembles and shallow fusion: real models, against every sequence there is."""

import itertools

import pytest
import torch
from seq2seq_cases import data, make

import seq2seq_ext
from seq2seq_ext import Decoder
from seq2seq_ext.decoding import BeamSearchOptions, beam_search, ensemble, shallow_fusion

PAD, UNK, BOS, EOS = range(4)
VOCAB, LIMIT = 6, 4
LENGTHS = (5, 2, 7)
# Every sequence that can be returned.
SEQUENCES = [
    (*words, EOS)
    for n in range(LIMIT)
    for words in itertools.product([PAD, UNK, BOS, 4, 5], repeat=n)
] + list(itertools.product([PAD, UNK, BOS, 4, 5], repeat=LIMIT))


def options_of(**fields):
    ids = {"bos_id": BOS, "eos_id": EOS, "pad_id": PAD}
    return BeamSearchOptions(
        **{**ids, "beam_size": 700, "n_best": 9, "max_length": LIMIT, **fields}
    )


def models(dtype=torch.float64):
    """Of different cells and attentions, over one vocabulary."""
    return (
        make(dtype, seed=1, target_vocabulary_size=VOCAB).eval(),
        make(dtype, seed=2, target_vocabulary_size=VOCAB, cell="gru", attention="general").eval(),
    )


class LanguageModel(torch.nn.Module):
    """A recurrent scorer, which knows no source."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(3)
        self.embedding = torch.nn.Embedding(VOCAB, 5)
        self.cell, self.output = torch.nn.LSTMCell(5, 8), torch.nn.Linear(8, VOCAB)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.8)
        self.to(dtype)

    def start(self, rows):
        zeros = self.output.weight.new_zeros(rows, 8)
        return zeros, zeros

    def step(self, tokens, state):
        h, c = self.cell(self.embedding(tokens), state)
        return self.output(h), (h, c)

    def forward(self, tgt):
        state, logits = self.start(len(tgt)), []
        for tokens in tgt.unbind(1):
            row, state = self.step(tokens, state)
            logits.append(row)
        return torch.stack(logits, 1)


def teacher_forced(model, src, src_lengths):
    """[sequences, LIMIT, V] log-probs of a model behind every prefix, without any step."""
    fed = torch.full((len(SEQUENCES), LIMIT), PAD)
    fed[:, 0] = BOS
    for row, tokens in zip(fed, SEQUENCES, strict=True):
        row[1 : len(tokens)] = torch.tensor(tokens[:-1])
    if isinstance(model, LanguageModel):
        return model(fed).log_softmax(2)
    rows = src.expand(len(SEQUENCES), *src.shape), src_lengths.expand(len(SEQUENCES))
    return model(*rows, fed).log_softmax(2)


def brute_force(log_probs):
    """All sequences with their sums, the best first."""
    sums = [
        sum(row[t, token].item() for t, token in enumerate(tokens))
        for row, tokens in zip(log_probs, SEQUENCES, strict=True)
    ]
    order = sorted(range(len(sums)), key=lambda i: -sums[i])
    return [list(SEQUENCES[i]) for i in order], [sums[i] for i in order]


def assert_finds(log_probs, found, options):
    tokens, sums = brute_force(log_probs)
    assert [h.tokens for h in found] == tokens[: options.n_best]
    assert [h.score for h in found] == pytest.approx(sums[: options.n_best], rel=1e-5, abs=1e-5)


def combined(pair, src, src_lengths, options, combine, *more_states):
    steps, states = zip(*(m.search_step(src, src_lengths, options) for m in pair), strict=True)
    return beam_search(
        combine(steps),
        (*states, *more_states),
        batch_size=len(src),
        options=options,
        source_lengths=src_lengths,
    )


MEANS = {
    "arithmetic": (
        {},
        lambda a, b: (a.exp() * 0.3 + b.exp() * 0.7).log(),
    ),
    "geometric": (
        {"normalized": True},
        lambda a, b: 0.3 * a + 0.7 * b,
    ),
    "geometric, normalised again": (
        {},
        lambda a, b: (0.3 * a + 0.7 * b).log_softmax(2),
    ),
}


@torch.no_grad()
@pytest.mark.not_emulated("beams of 700 take minutes there")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["modules", "native steps"])
@pytest.mark.parametrize("mean", MEANS)
def test_an_ensemble_equals_brute_force(mean, dtype):
    fields, formula = MEANS[mean]
    pair, options = models(dtype), options_of(**fields)
    src, src_lengths, _, _ = data(pair[0], LENGTHS)
    name, _, _ = mean.partition(",")
    found = combined(
        pair, src, src_lengths, options, lambda s: ensemble(s, [0.3, 0.7], mean=name)
    ).hypotheses
    for b in range(len(src)):
        forced = [teacher_forced(m, src[b], src_lengths[b]) for m in models()]
        assert_finds(formula(*forced), found[b], options)


@torch.no_grad()
@pytest.mark.not_emulated("beams of 700 take minutes there")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["modules", "native steps"])
def test_shallow_fusion_equals_brute_force(dtype):
    model, scorer, options = models(dtype)[0], LanguageModel(dtype), options_of(normalized=True)
    src, src_lengths, _, _ = data(model, LENGTHS)
    step, state = model.search_step(src, src_lengths, options)
    fused = shallow_fusion(step, scorer.step, 0.4)
    both = (state, scorer.start(len(src) * options.beam_size))
    found = beam_search(fused, both, batch_size=len(src), options=options).hypotheses
    language = teacher_forced(LanguageModel(), None, None)
    for b in range(len(src)):
        alone = teacher_forced(models()[0], src[b], src_lengths[b])
        assert_finds(alone + 0.4 * language, found[b], options)


@torch.no_grad()
@pytest.mark.cpu_only("the scorer is torch's cell, whose bits depend on the batch there")
def test_an_ensemble_with_a_scorer_and_every_kind_of_option():
    """Beams that prune: the reference, and each source alone, bit for bit, with any threads."""
    pair, scorer = models(torch.float32), LanguageModel(torch.float32)
    src, src_lengths, _, _ = data(pair[0], LENGTHS)
    told = [
        options_of(beam_size=4, n_best=4, no_repeat_ngram_size=2, normalized=True),
        options_of(beam_size=2, n_best=1, length_penalty="gnmt", normalized=True, max_length=9),
        options_of(beam_size=3, n_best=2, coverage_penalty="gnmt", beta=0.2, normalized=True),
    ]

    def run(rows):
        options = [told[i] for i in rows]
        lm = scorer.start(sum(each.beam_size for each in options))

        steps, states = zip(
            *(m.search_step(src[rows], src_lengths[rows], options) for m in pair), strict=True
        )
        return beam_search(
            shallow_fusion(ensemble(steps), scorer.step, 0.3),
            (states, lm),
            batch_size=len(rows),
            options=options,
            source_lengths=src_lengths[rows],
        )

    together = run([0, 1, 2])
    with seq2seq_ext.backend("reference"):
        plain = run([0, 1, 2])
    assert torch.equal(together.tokens, plain.tokens)
    torch.testing.assert_close(together.scores, plain.scores, rtol=1e-5, atol=1e-5)
    for i in range(3):
        assert run([i]).hypotheses[0] == together.hypotheses[i]
    assert run([2, 0, 1]).hypotheses == [together.hypotheses[i] for i in (2, 0, 1)]
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        assert run([0, 1, 2]).hypotheses == together.hypotheses
    torch.set_num_threads(before)


@torch.no_grad()
@pytest.mark.cpu_only("a Decoder is the CPU's")
def test_one_model_twice_is_itself():
    model = models(torch.float32)[0]
    src, src_lengths, _, _ = data(model, LENGTHS)
    options = options_of(beam_size=4, n_best=4, max_length=8, return_attention=True)
    expected = model.generate(src, src_lengths, options)
    decoder = Decoder(model)
    for pair in ((model, model), (model, decoder), (decoder,)):
        found = combined(pair, src, src_lengths, options, ensemble)
        assert torch.equal(found.tokens, expected.tokens)
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.attention, expected.attention, rtol=1e-5, atol=1e-6)
    step, state = model.search_step(src, src_lengths, options)
    never = LanguageModel(torch.float32)
    fused = shallow_fusion(step, lambda t, s: (never.step(t, s)[0] * -torch.inf, s), 0.0)
    both = (state, never.start(len(src) * 4))
    found = beam_search(fused, both, batch_size=len(src), options=options)
    assert torch.equal(found.tokens, expected.tokens)


@torch.no_grad()
def test_attention_is_the_mean_of_those_that_have_it():
    pair = (*models(), make(seed=4, target_vocabulary_size=VOCAB, attention="none").eval())
    src, src_lengths, _, _ = data(pair[0], LENGTHS)
    options = options_of(beam_size=1, n_best=1, return_attention=True)
    steps, states = zip(*(m.search_step(src, src_lengths, options) for m in pair), strict=True)
    tokens = torch.full((len(src),), BOS)
    first, second = (steps[i](tokens, states[i])[2] for i in range(2))
    logits, _, found = ensemble(steps, [1.0, 3.0, 2.0])(tokens, states)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(len(src)).double())
    torch.testing.assert_close(found, 0.25 * first + 0.75 * second)


def fixed(vocab=4, attention=None):
    def step(tokens, state):
        result = torch.zeros(len(tokens), vocab), state
        return result if attention is None else (*result, torch.ones(len(tokens), attention))

    return step


TOKENS = torch.zeros(2, dtype=torch.int64)
BAD = {
    "no steps": (lambda: ensemble([]), TypeError, "ensemble: steps: expected a list"),
    "a step": (lambda: ensemble(fixed()), TypeError, "ensemble: steps: expected a list"),
    "no step": (lambda: ensemble([fixed(), 3]), TypeError, "ensemble: step: expected a callable"),
    "weights": (lambda: ensemble([fixed()], 3), TypeError, "weights: expected a list"),
    "few weights": (lambda: ensemble([fixed()], []), ValueError, "weights: expected 1 like"),
    "zero": (lambda: ensemble([fixed()], [0.0]), ValueError, "weights: expected a number from"),
    "text": (lambda: ensemble([fixed()], ["1"]), TypeError, "weights: expected a number"),
    "mean": (lambda: ensemble([fixed()], mean="median"), ValueError, "mean: expected one of"),
    "state": (lambda: ensemble([fixed()])(TOKENS, ()), TypeError, "state: expected a tuple of 1"),
    "vocabulary": (
        lambda: ensemble([fixed(), fixed(5)])(TOKENS, ((), ())),
        ValueError,
        "ensemble: logits: expected one shape of all steps",
    ),
    "attention": (
        lambda: ensemble([fixed(attention=2), fixed(attention=3)])(TOKENS, ((), ())),
        ValueError,
        "ensemble: attention: expected one shape",
    ),
    "result": (
        lambda: ensemble([lambda t, s: t])(TOKENS, ((),)),
        TypeError,
        "ensemble: step: expected to return",
    ),
    "fused step": (lambda: shallow_fusion(3, fixed(), 1.0), TypeError, "step: expected a callable"),
    "scorer": (lambda: shallow_fusion(fixed(), 3, 1.0), TypeError, "scorer: expected a callable"),
    "weight": (lambda: shallow_fusion(fixed(), fixed(), -1.0), ValueError, "weight: expected a"),
    "fused state": (
        lambda: shallow_fusion(fixed(), fixed(), 1.0)(TOKENS, ()),
        TypeError,
        "shallow_fusion: state: expected a pair",
    ),
    "scorer's vocabulary": (
        lambda: shallow_fusion(fixed(), fixed(5), 1.0)(TOKENS, ((), ())),
        ValueError,
        "shallow_fusion: logits: expected one shape",
    ),
    "scorer's result": (
        lambda: shallow_fusion(fixed(), lambda t, s: s, 1.0)(TOKENS, ((), ())),
        TypeError,
        "shallow_fusion: scorer: step: expected to return",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arguments_are_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
