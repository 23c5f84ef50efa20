"""A model's generate under every option, one for all or one for each source."""

import random

import pytest
import torch
from prefix_model import make_options
from search_cases import MECHANISMS
from seq2seq_cases import data, make

import seq2seq_ext
from seq2seq_ext import Decoder
from seq2seq_ext.models.generation import generate

LENGTHS = (5, 0, 7, 1, 3)
IN_PYTHON = ("hook", "hook_extend")


@pytest.fixture(autouse=True)
def one_thread(threads):
    """The models are too small to share among threads, unless a test says so."""
    torch.set_num_threads(1)


def model_of(**fields):
    sizes = {"target_vocabulary_size": 11, "decoder_layers": 2, **fields}
    return make(dtype=torch.float32, seed=7, **sizes).eval()


def options_of(mechanism, draw):
    """For each source, its own beams."""
    options = []
    for _ in LENGTHS:
        beams = draw.choice([2, 4, 6])
        fields = {"n_best": draw.randint(1, beams), "max_length": draw.choice([4, 7])}
        fields["bos_id"] = draw.choice([1, 2, 4])
        options.append(make_options(beam_size=beams, **{**fields, **MECHANISMS[mechanism]}))
    return options


def in_python(decoder, src, src_lengths, options):
    """The same decoder's steps under the step-function search."""
    memory = decoder.encode(src, src_lengths)
    return generate(decoder, memory, options, decoder.config.attention != "none")


def assert_same_bits(found, expected):
    for name, value in vars(expected).items():
        assert torch.equal(getattr(found, name), value), name


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_native_loop_has_the_bits_of_the_python_loop(mechanism):
    draw = random.Random(mechanism)
    model = model_of(attention=draw.choice(["additive", "scaled_dot"]))
    src, src_lengths, _, _ = data(model, LENGTHS)
    decoder = Decoder(model)
    for _ in range(4):
        options = options_of(mechanism, draw)
        found = decoder.generate(src, src_lengths, options)
        assert_same_bits(found, in_python(decoder, src, src_lengths, options))


@pytest.mark.parametrize("mechanism", ["ngrams", "gumbel", "coverage", "prefix", "groups"])
def test_all_sources_may_share_options(mechanism):
    model = model_of()
    src, src_lengths, _, _ = data(model, LENGTHS)
    options = make_options(beam_size=4, n_best=4, max_length=7, **MECHANISMS[mechanism])
    found = model.generate(src, src_lengths, options)
    assert_same_bits(found, model.generate(src, src_lengths, [options] * len(LENGTHS)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_rules_on_every_weight_type(isa, dtype):
    model, draw = model_of(target_vocabulary_size=300), random.Random(dtype)
    src, src_lengths, _, _ = data(model, LENGTHS)
    decoder = Decoder(model, dtype)
    options = [options_of(name, draw)[0] for name in ("ngrams", "gumbel", "coverage", "top_p")]
    options.append(make_options(beam_size=3))
    found = decoder.generate(src, src_lengths, options)
    assert_same_bits(found, in_python(decoder, src, src_lengths, options))


def mixed_options(draw):
    """Of each source some other mechanism, all in one batch."""
    names = [name for name in MECHANISMS if name not in IN_PYTHON]
    return [options_of(draw.choice(names), draw)[0] for _ in LENGTHS]


@pytest.mark.parametrize("path", ["native", "python", "float64"])
def test_mixed_options_have_the_bits_of_each_source_alone(path):
    """In any batch, order and number of threads."""
    model = model_of()
    decoder, width = Decoder(model), max(LENGTHS)
    run = {
        "native": decoder.generate,
        "python": lambda *arguments: in_python(decoder, *arguments),
        "float64": model_of().double().generate,
    }[path]
    src, src_lengths, _, _ = data(model, LENGTHS)
    draw = random.Random(path)
    for _ in range(12 if path == "native" else 4):
        options = mixed_options(draw)
        order = draw.sample(range(len(LENGTHS)), len(LENGTHS))
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(run(src[order], src_lengths[order], [options[i] for i in order]))
        torch.set_num_threads(1)
        for place, i in enumerate(order):
            alone = run(src[i : i + 1], src_lengths[i : i + 1], [options[i]])
            for together in found:
                assert together.hypotheses[place] == alone.hypotheses[0], options[i]
                n, longest = alone.tokens.shape[1:]
                attention = together.attention[place, :n, :longest, :width]
                assert torch.equal(attention, alone.attention[0])


def test_rules_have_the_same_bits_with_any_number_of_threads():
    """A model whose steps are shared: rows of logits go to several threads."""
    model = model_of(target_vocabulary_size=3000, hidden_size=96)
    decoder, draw = Decoder(model), random.Random(3)
    src, src_lengths, _, _ = data(model, LENGTHS * 3)
    names = ("ngrams", "repetition", "top_p", "gumbel", "ancestral", "phrases", "coverage_stepwise")
    options = [options_of(draw.choice(names), draw)[0] for _ in range(len(LENGTHS) * 3)]
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        found += [decoder.generate(src, src_lengths, options)]
        found += [in_python(decoder, src, src_lengths, options)]
    for other in found[1:]:
        assert_same_bits(other, found[0])


def test_reference_agrees():
    model, draw = model_of(), random.Random(4)
    src, src_lengths, _, _ = data(model, LENGTHS)
    for _ in range(4):
        options = mixed_options(draw)
        found = model.generate(src, src_lengths, options)
        with seq2seq_ext.backend("reference"):
            plain = model.generate(src, src_lengths, options)
        assert torch.equal(found.tokens, plain.tokens)
        assert torch.equal(found.reasons, plain.reasons)
        torch.testing.assert_close(found.scores, plain.scores, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.attention, plain.attention, rtol=1e-5, atol=1e-5)


def test_a_callback_of_one_source_may_stop_it():
    model, seen = model_of(), []

    def watch(progress):
        seen.append((progress.sentence, progress.step, len(progress.live)))
        return progress.step == 2

    fields = {"beam_size": 3, "n_best": 3, "max_length": 9, "min_length": 6}
    free, watched = make_options(**fields), make_options(on_step=watch, **fields)
    src, src_lengths, _, _ = data(model, LENGTHS)
    expected = model.generate(src, src_lengths, free).hypotheses
    found = model.generate(src, src_lengths, [free, free, watched, free, free]).hypotheses
    assert seen == [(2, 1, 3), (2, 2, 3)]
    assert [(len(h.tokens), h.reason) for h in found[2]] == [(2, "stopped")] * 3
    assert [found[i] for i in (0, 1, 3, 4)] == [expected[i] for i in (0, 1, 3, 4)]


BAD = {
    "number": ([make_options()] * 2, ValueError, "options: expected one or batch_size = 5 of them"),
    "kind": ([make_options()] * 4 + [3], TypeError, "options: expected BeamSearchOptions"),
    "none": (None, TypeError, "options: expected BeamSearchOptions, or a list"),
    "eos": (
        [make_options()] * 4 + [make_options(eos_id=11)],
        ValueError,
        "options: expected eos_id below",
    ),
}


@pytest.mark.parametrize("double", [False, True], ids=["native", "python"])
@pytest.mark.parametrize("case", BAD)
def test_wrong_options_are_named(case, double):
    options, error, message = BAD[case]
    model = model_of().double() if double else model_of()
    src, src_lengths, _, _ = data(model, LENGTHS)
    with pytest.raises(error, match=f"generate: {message}"):
        model.generate(src, src_lengths, options)


def test_tokens_outside_the_vocabulary_are_named():
    model, options = model_of(), [make_options()] * 4 + [make_options(prefix=[11])]
    src, src_lengths, _, _ = data(model, LENGTHS)
    with pytest.raises(ValueError, match=r"options: expected tokens below .* 11, got 11"):
        model.generate(src, src_lengths, options)
    with pytest.raises(ValueError, match="expected a vocabulary with token 11 of the options"):
        model.double().generate(src, src_lengths, options)


def test_coverage_wants_attention():
    model = model_of(attention="none")
    src, src_lengths, _, _ = data(model, LENGTHS)
    options = make_options(coverage_penalty="gnmt", beta=0.2)
    with pytest.raises(ValueError, match="generate: coverage_penalty: expected 'none'"):
        model.generate(src, src_lengths, options)
