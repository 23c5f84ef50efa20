"""The native decode loop: against the step-function search, the reference, and interruptions."""

import os
import signal
import threading
import time

import pytest
import torch
from seq2seq_cases import OPTIONS, SIZES, VARIANTS, data, make, name

from seq2seq_ext import Decoder
from seq2seq_ext.decoding import BeamSearchOptions, beam_search
from seq2seq_ext.ops.encoder_inference import encoder_inference
from seq2seq_ext.reference import seq2seq as reference

IDS = {"bos_id": 2, "eos_id": 3, "pad_id": 0}

# Of so many sources that three threads cut the first steps by rows, and share the searches.
MANY = (5, 0, 7, 1, 3, 7, 2, 4, 6, 7, 5, 3, 7, 1, 0, 6, 2, 7, 4)


@pytest.fixture(autouse=True)
def one_thread(threads):
    """The models are too small to share among threads."""
    torch.set_num_threads(1)


def model_of(seed=4, **fields):
    return make(dtype=torch.float32, seed=seed, **fields).eval()


def fields_of(result):
    return result.tokens, result.lengths, result.scores, result.log_probs


def repeat(state, times):
    """The state of every source for so many beams."""
    if isinstance(state, torch.Tensor):
        return state.repeat_interleave(times, dim=0)
    if isinstance(state, dict):
        return {key: repeat(part, times) for key, part in state.items()}
    return tuple(repeat(part, times) for part in state)


def search_by_steps(decoder, src, src_lengths, options):
    memory = decoder.encode(src, src_lengths)
    return beam_search(
        lambda tokens, state: decoder.step(tokens, state, memory)[:2],
        repeat(memory.state, options.beam_size),
        batch_size=len(src),
        options=options,
    )


def assert_same_bits(decoder, src, src_lengths, options):
    found = decoder.generate(src, src_lengths, options)
    expected = search_by_steps(decoder, src, src_lengths, options)
    for ours, theirs in zip(fields_of(found), fields_of(expected), strict=True):
        assert torch.equal(ours, theirs)
    return found


@pytest.mark.parametrize("sizes", SIZES, ids=name)
@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_has_the_bits_of_the_step_function_search_and_the_reference(variant, sizes):
    model = model_of(**variant, **sizes)
    src, src_lengths, _, _ = data(model)
    decoder = Decoder(model)
    found = assert_same_bits(decoder, src, src_lengths, OPTIONS)
    expected = reference.generate(model.config, model.state_dict(), src, src_lengths, OPTIONS)
    torch.testing.assert_close(fields_of(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"beam_size": 1, "max_length": 12},
        {"beam_size": 9, "n_best": 9, "max_length": 2},
        {"beam_size": 20, "n_best": 20, "max_length": 5},
        {"beam_size": 3, "min_length": 6, "max_length": 8},
        {"beam_size": 5, "n_best": 5, "length_penalty": "gnmt", "alpha": 0.8, "max_length": 40},
        {"beam_size": 5, "n_best": 3, "length_penalty": "power", "alpha": -0.5, "max_length": 40},
    ],
    ids=name,
)
def test_options(isa, fields):
    model = model_of(hidden_size=21, decoder_layers=2)
    src, src_lengths, _, _ = data(model, (5, 0, 7, 1, 3, 3))
    assert_same_bits(Decoder(model), src, src_lengths, BeamSearchOptions(**IDS, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": 70, "embedding_size": 33, "decoder_layers": 2},
        {"target_vocabulary_size": 1100, "hidden_size": 40},
        {"cell": "gru", "attention": "general", "tie_output": True, "hidden_size": 24},
        {"attention": "none", "input_feeding": False, "hidden_size": 24},
    ],
    ids=name,
)
def test_a_source_gets_the_same_bits_in_any_batch(threads, fields):
    decoder = Decoder(model_of(seed=6, **fields))
    src, src_lengths, _, _ = data(model_of(seed=6, **fields), MANY)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(decoder.generate(src, src_lengths, OPTIONS))
    torch.set_num_threads(2)
    for row, length in enumerate(MANY):
        width = max(length, 1)
        alone = decoder.generate(src[row : row + 1, :width], src_lengths[row : row + 1], OPTIONS)
        longest = alone.tokens.size(2)
        for together in results:
            assert torch.equal(together.tokens[row, :, :longest], alone.tokens[0])
            for ours, theirs in zip(fields_of(together)[1:], fields_of(alone)[1:], strict=True):
                assert torch.equal(ours[row], theirs[0])
            if alone.attention is not None:
                attention = together.attention[row, :, :longest, :width]
                assert torch.equal(attention, alone.attention[0])


@pytest.mark.parametrize(
    "fields",
    [
        {"coverage_penalty": "gnmt", "beta": 0.3, "beam_size": 4},
        {"no_repeat_ngram_size": 1, "beam_size": 4, "beam_groups": 2, "diversity_penalty": 0.5},
        {"sampling": "gumbel", "seed": 3, "beam_size": 4, "n_best": 4},
    ],
    ids=name,
)
def test_threads_share_the_searches_of_a_batch(threads, fields):
    decoder = Decoder(model_of(seed=6, hidden_size=70))
    src, src_lengths, _, _ = data(model_of(seed=6, hidden_size=70), MANY)
    options = [
        BeamSearchOptions(**IDS, **fields, max_length=limit)
        for limit in range(3, 3 + len(src_lengths))
    ]
    alone = decoder.generate(src, src_lengths, options)
    for count in (2, 3):
        torch.set_num_threads(count)
        together = decoder.generate(src, src_lengths, options)
        for ours, theirs in zip(fields_of(together), fields_of(alone), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(together.attention, alone.attention)


@pytest.mark.parametrize("attention", ["additive", "scaled_dot", "none"])
def test_attention_is_that_of_the_chosen_path(attention):
    model = model_of(seed=5, attention=attention, decoder_layers=2)
    src, src_lengths, _, _ = data(model)
    decoder = Decoder(model)
    found = decoder.generate(src, src_lengths, OPTIONS)
    if attention == "none":
        assert found.attention is None
        return
    assert found.attention.shape == (*found.tokens.shape, src.size(1))
    for b in range(len(src)):
        memory = decoder.encode(src[b : b + 1], src_lengths[b : b + 1])
        for rank in range(OPTIONS.n_best):
            state, previous, length = memory.state, 2, int(found.lengths[b, rank])
            for t, token in enumerate(found.tokens[b, rank, :length].tolist()):
                _, state, weights = decoder.step(torch.tensor([previous]), state, memory)
                assert torch.equal(found.attention[b, rank, t], weights[0])
                previous = token
            assert not found.attention[b, rank, length:].any()


def test_step_is_the_models(isa):
    for variant in VARIANTS[::4]:
        model = model_of(decoder_layers=2, **variant)
        src, src_lengths, _, _ = data(model)
        decoder = Decoder(model)
        memory = model.encode(src, src_lengths)
        tokens = torch.tensor([2, 5, 6, 7])
        expected, found = (each.step(tokens, memory.state, memory) for each in (model, decoder))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_attention_where_padding_is_a_token_like_any_other():
    model = model_of(target_vocabulary_size=5)
    src, src_lengths, _, _ = data(model)
    options = BeamSearchOptions(**IDS, beam_size=9, n_best=9, max_length=6)
    found = Decoder(model).generate(src, src_lengths, options)
    real = torch.arange(found.tokens.size(2)) < found.lengths[..., None]
    with_source = (src_lengths > 0)[:, None, None]
    torch.testing.assert_close(found.attention.sum(3), (real & with_source).float())


def test_is_a_copy_of_the_weights():
    model = model_of()
    src, src_lengths, _, _ = data(model)
    decoder = Decoder(model)
    before = decoder.generate(src, src_lengths, OPTIONS)
    ours = model.generate(src, src_lengths, OPTIONS)
    assert torch.equal(ours.log_probs, before.log_probs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    after = decoder.generate(src, src_lengths, OPTIONS)
    assert torch.equal(before.log_probs, after.log_probs)
    changed = model.generate(src, src_lengths, OPTIONS)
    assert not torch.equal(changed.log_probs, before.log_probs)
    assert torch.equal(
        changed.log_probs, Decoder(model).generate(src, src_lengths, OPTIONS).log_probs
    )


def test_goes_on_with_the_instruction_set_it_was_made_for():
    model = model_of(hidden_size=33)
    src, src_lengths, _, _ = data(model)
    decoder = Decoder(model)
    expected = decoder.generate(src, src_lengths, OPTIONS)
    encoded = encoder_inference(decoder._encoder, src, src_lengths)
    search, before = decoder._search([OPTIONS] * len(src), src_lengths), torch.ops.seq2seq_ext.isa()
    try:
        torch.ops.seq2seq_ext.set_isa("baseline")
        found = decoder._run(search, src_lengths, *encoded)
    finally:
        torch.ops.seq2seq_ext.set_isa(before)
    assert torch.equal(found.log_probs, expected.log_probs)


def endless():
    """A model that never ends a hypothesis, with a batch for it."""
    model = model_of(hidden_size=64)
    with torch.no_grad():
        model.decoder.output.bias[3] = -1e30
    src, src_lengths, _, _ = data(model)
    return Decoder(model), src, src_lengths


def test_ctrl_c_stops_it():
    decoder, src, src_lengths = endless()
    options = BeamSearchOptions(**IDS, max_length=2**31 - 1)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        decoder.generate(src, src_lengths, options)
    assert time.monotonic() - started < 5
    short = BeamSearchOptions(**IDS, max_length=4)
    assert decoder.generate(src, src_lengths, short).lengths.tolist() == [[4]] * 4


def test_threads_share_a_decoder_without_the_gil():
    decoder, src, src_lengths = endless()
    options = BeamSearchOptions(**IDS, max_length=400)
    expected = decoder.generate(src, src_lengths, options)
    results = []

    def work():
        results.append(decoder.generate(src, src_lengths, options))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    turns = 0
    while any(worker.is_alive() for worker in workers):
        turns += 1
        time.sleep(0.001)
    assert turns > 2
    assert len(results) == 3
    for result in results:
        assert all(map(torch.equal, fields_of(result), fields_of(expected)))


def test_sources_of_no_columns():
    model = model_of()
    none, lengths = torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    decoder = Decoder(model)
    padded = decoder.generate(torch.full((2, 3), 5), lengths, OPTIONS)
    assert torch.equal(decoder.generate(none, lengths, OPTIONS).log_probs, padded.log_probs)


def test_a_source_of_nan_hurts_no_other():
    model = model_of(source_vocabulary_size=None, source_feature_size=6)
    src, src_lengths, _, _ = data(model)
    decoder = Decoder(model)
    clean = decoder.generate(src, src_lengths, OPTIONS)
    src[2, 0] = float("nan")
    found = decoder.generate(src, src_lengths, OPTIONS)
    others = [0, 1, 3]
    assert torch.equal(found.log_probs[others], clean.log_probs[others])
    assert found.lengths[2].tolist() == [0, 0, 0]


BAD = {
    "model": (lambda d, m, s, n: Decoder(torch.nn.Linear(2, 2)), TypeError, "Decoder: model"),
    "dtype": (lambda d, m, s, n: Decoder(m, dtype="float16"), ValueError, "Decoder: dtype"),
    "dtype's type": (lambda d, m, s, n: Decoder(m, torch.int8), TypeError, "Decoder: dtype"),
    "double": (lambda d, m, s, n: Decoder(make()), ValueError, "Decoder: model: .*float64"),
    "src": (lambda d, m, s, n: d.generate(s.float(), n, OPTIONS), TypeError, "generate: src"),
    "ids": (lambda d, m, s, n: d.generate(s + 90, n, OPTIONS), ValueError, "generate: src"),
    "lengths": (lambda d, m, s, n: d.generate(s, n + 9, OPTIONS), ValueError, "src_lengths"),
    "options": (lambda d, m, s, n: d.generate(s, n, {}), TypeError, "options"),
    "eos": (
        lambda d, m, s, n: d.generate(s, n, BeamSearchOptions(bos_id=2, eos_id=99, pad_id=0)),
        ValueError,
        "options: expected eos_id",
    ),
    "bos": (
        lambda d, m, s, n: d.generate(s, n, BeamSearchOptions(bos_id=99, eos_id=3, pad_id=0)),
        ValueError,
        "options: expected bos_id",
    ),
    "tokens": (
        lambda d, m, s, n: d.step(torch.tensor([99] * 4), d.encode(s, n).state, d.encode(s, n)),
        ValueError,
        "tokens",
    ),
    "state": (
        lambda d, m, s, n: d.step(torch.tensor([2] * 8), d.encode(s, n).state, d.encode(s, n)),
        ValueError,
        "state",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arguments_are_named(case):
    call, error, message = BAD[case]
    model = model_of()
    src, src_lengths, _, _ = data(model)
    with pytest.raises(error, match=message):
        call(Decoder(model), model, src, src_lengths)
