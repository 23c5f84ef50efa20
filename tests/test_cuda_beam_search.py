"""The search kernel of CUDA: on the emulated device, and on a GPU where there is one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from cuda_device import needs_cuda
from device_search_cases import EOS, OPTIONS, PLAIN, RULES, SOURCE_LENGTHS
from emulated_cuda import emulated_cuda
from torch import Tensor

from seq2seq_ext import ops
from seq2seq_ext.decoding import (
    BeamSearch,
    BeamSearchOptions,
    BeamSearchResult,
    beam_search,
)
from seq2seq_ext.decoding.device_search import Candidates, DeviceBeamSearch


def candidates(rows: int, vocabulary: int, width: int) -> tuple[Tensor, Tensor]:
    """Of random logits; log-probs are rounded, so that sums of several rows are equal."""
    logits = torch.randn(rows, vocabulary) * 2
    logits[torch.rand(rows) < 0.3, EOS] = 4.0
    log_probs, tokens = ops.log_softmax_topk(logits, width)
    return (log_probs * 2).round() / 2, tokens


def attention_of(rows: int) -> Tensor:
    """Of rows that look at little else but one position; rounded, so that terms are equal."""
    return ((torch.randn(rows, max(SOURCE_LENGTHS)) * 4).softmax(1) * 4).round() / 4


def perturbed_order(
    log_probs: Tensor, tokens: Tensor, options: BeamSearchOptions
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As a sampling search would be offered them."""
    if options.sampling == "none":
        return log_probs, tokens, None
    perturbed = log_probs.double() - torch.rand(log_probs.shape).log().neg().log()
    perturbed, order = perturbed.sort(1, descending=True)
    return log_probs.gather(1, order), tokens.gather(1, order), perturbed


def check(options: BeamSearchOptions, batch: int, vocabulary: int, device: str = "cpu") -> None:
    """Steps side by side with the host's engine, until that is done and once more."""
    lengths = SOURCE_LENGTHS[:batch]
    host = BeamSearch(batch, options, lengths)
    ours = DeviceBeamSearch(batch, options, torch.device(device), lengths)
    width = min(vocabulary, options.beam_size + len(options.eos_ids))
    while not host.done:
        log_probs, tokens, perturbed = perturbed_order(
            *candidates(ours.rows, vocabulary, width), options
        )
        noisy = None if perturbed is None else perturbed.numpy()
        attention = attention_of(ours.rows) if options.needs_attention else None
        weights = None if attention is None else attention.double().numpy()
        expected = host._engine.advance(log_probs.double().numpy(), tokens.numpy(), noisy, weights)
        shown = None if attention is None else attention.to(device)
        offered = Candidates(
            *(c if c is None else c.to(device) for c in (log_probs, tokens, perturbed))
        )
        found = ours.choose(offered, shown)
        for theirs, got in zip(expected, found, strict=True):
            assert torch.equal(torch.from_numpy(theirs), got.cpu())
    tokens, parents = ours.choose(offered, shown)
    assert (tokens == options.pad_id).all()
    assert torch.equal(parents.cpu(), torch.arange(ours.rows))
    theirs, got = host.result(), ours.result()
    for name in ("tokens", "lengths", "scores", "log_probs", "token_log_probs", "reasons", "rows"):
        assert torch.equal(getattr(theirs, name), getattr(got, name)), name


def offers(
    values: Tensor, tokens: Tensor, row: int, without: tuple[int, ...] = ()
) -> dict[int, float]:
    pairs = zip(tokens[row].tolist(), values[row].tolist(), strict=True)
    return {t: value for t, value in pairs if value > -torch.inf and t not in without}


def check_rules(told: BeamSearchOptions, vocabulary: int, device: str) -> None:
    """The candidates of live rows are the host's, in every step, and noise the same number."""
    options = [replace(told, seed=told.seed and told.seed - i) for i in range(3)]
    host = BeamSearch(3, options)
    ours = DeviceBeamSearch(3, options, torch.device(device))
    while not host.done:
        # Few likely tokens, and few that end but too early: what comes again is what was said.
        logits = torch.randn(ours.rows, vocabulary)
        logits[:, 4:8] += 4
        logits[:, EOS] += 5 if host.steps + 1 < told.min_length else -3
        offered = host._engine.choose(logits.numpy())
        log_probs, tokens, perturbed = (torch.as_tensor(c) for c in offered)
        found = ours.candidates(logits.to(device))
        for row in host.live_rows.nonzero().flatten().tolist():
            # EOS that comes too early may be banned or passed over.
            leaves_out = told.sampling != "none" or told.top_k or told.top_p < 1
            is_early = host.steps + 1 < told.min_length and not leaves_out
            without = told.eos_ids if is_early else ()
            expected_row = offers(log_probs, tokens, row, without)
            got_row = offers(*found[:2], row, without)
            assert list(got_row)[: len(expected_row)] == list(expected_row)[: len(got_row)]
            if not without and len(expected_row) < tokens.size(1):  # the host found no more
                assert len(got_row) <= len(expected_row)
            for token in got_row.keys() & expected_row.keys():
                assert got_row[token] == pytest.approx(expected_row[token], abs=1e-6)
            assert len(got_row) >= min(len(expected_row), told.beam_size, ours._width())
            if told.sampling == "gumbel":
                noisy = offers(perturbed, tokens, row)
                assert found.perturbed is not None
                assert offers(found.perturbed, found.tokens, row) == pytest.approx(noisy, abs=1e-6)
        expected = host._engine.advance(log_probs.numpy(), tokens.numpy(), perturbed.numpy(), None)
        host.steps += 1
        same = (c.to(device) for c in (log_probs, tokens, perturbed))
        chosen = ours.choose(Candidates(*same))
        for theirs, mine in zip(expected, chosen, strict=True):
            assert torch.equal(torch.from_numpy(theirs), mine.cpu())


@pytest.mark.parametrize("name", RULES)
def test_rules_hold_as_on_the_host(name: str) -> None:
    options = replace(PLAIN, **RULES[name])
    assert DeviceBeamSearch.knows([options])
    for seed in range(3):
        torch.manual_seed(seed)
        with emulated_cuda(seed):
            check_rules(options, 11, "cpu")


def test_candidates_of_a_linear_layer_are_those_of_its_logits() -> None:
    """Banned ones too, and those that are penalised, bit for bit."""
    options = replace(
        PLAIN, no_repeat_ngram_size=1, repetition_penalty=1.5, temperature=0.8, max_length=12
    )
    search = DeviceBeamSearch(2, options, torch.device("cpu"))
    weight, bias = torch.randn(150, 6), torch.randn(150)
    with emulated_cuda():
        for step in range(4):
            vectors = torch.randn(search.rows, 6)
            found = search.linear_candidates(vectors, weight, bias)
            expected = search.candidates(ops.linear(vectors, weight, bias))
            for a, b in zip(found, expected, strict=True):
                assert a is b is None or torch.equal(a, b)
            assert search._rules()[0][:, 0].max() == search._rules()[1][:, 0].max() == step
            search.choose(found)


def emulated_check(options: BeamSearchOptions, batch: int, vocabulary: int, seed: int) -> None:
    with emulated_cuda(seed):
        check(options, batch, vocabulary)


@pytest.mark.parametrize("name", OPTIONS)
def test_takes_the_steps_of_the_host(name: str) -> None:
    options = replace(PLAIN, **OPTIONS[name])
    assert DeviceBeamSearch.knows([options])
    for seed in range(1 if options.beam_size > 10 else 6):
        torch.manual_seed(seed)
        emulated_check(options, 3, 11, seed)


def test_a_vocabulary_smaller_than_the_beam() -> None:
    emulated_check(replace(PLAIN, beam_size=6), 2, 3, 0)


@pytest.mark.parametrize("told", [{}, {"coverage_penalty": "gnmt", "beta": 0.3}], ids=str)
@pytest.mark.parametrize("poison", [torch.nan, -torch.inf])
def test_rows_that_offer_nothing_die(poison: float, told: dict[str, Any]) -> None:
    """As they are: what they would have looked at next does not count."""
    options, lengths = replace(PLAIN, **told), SOURCE_LENGTHS[:2]
    host = BeamSearch(2, options, lengths)
    ours, step = DeviceBeamSearch(2, options, torch.device("cpu"), lengths), 0
    with emulated_cuda():
        while not host.done:
            log_probs, tokens = candidates(ours.rows, 11, 5)
            if step == 2:
                log_probs[:4] = poison
            step += 1
            attention = attention_of(ours.rows) if told else None
            expected = host._engine.advance(
                log_probs.double().numpy(),
                tokens.numpy(),
                None,
                None if attention is None else attention.double().numpy(),
            )
            found = ours.choose(Candidates(log_probs, tokens), attention)
            for theirs, got in zip(expected, found, strict=True):
                assert torch.equal(torch.from_numpy(theirs), got)
    assert host.result().hypotheses == ours.result().hypotheses


def test_what_it_does_not_know_is_left_to_the_host() -> None:
    known = {"return_attention": True, "early_stopping": "first", "banned": [3], "temperature": 2}
    assert DeviceBeamSearch.knows([replace(PLAIN, **known)] * 2)
    assert DeviceBeamSearch.knows([replace(PLAIN, sampling="gumbel", seed=i) for i in range(2)])
    assert not DeviceBeamSearch.knows([PLAIN, replace(PLAIN, beam_size=2)])
    for other in (
        {"no_repeat_ngram_size": 2, "max_length": 5000},
        {"banned": [3], "max_length": 5000},
        {"finished": "carry"},
        {"early_stopping": "top"},
        {"repetition_penalty": 1.2, "max_length": 5000},
        {"rules_on": "log_probs"},
        {"sampling": "gumbel", "top_k": 5000},
        {"shortlist": [2, 3]},
        {"on_step": print},
    ):
        assert not DeviceBeamSearch.knows([replace(PLAIN, **other)]), other


def test_wrong_state_is_refused() -> None:
    search = DeviceBeamSearch(2, PLAIN, torch.device("cpu"))
    log_probs, tokens = candidates(8, 11, 5)
    with emulated_cuda():
        with pytest.raises(ValueError, match=r"^beam_search_step: log_probs: expected shape"):
            search.choose(Candidates(log_probs[:3], tokens[:3]))
        with pytest.raises(TypeError, match=r"^beam_search_step: candidates: expected Long"):
            search.choose(Candidates(log_probs, tokens.int()))
        search._counters = search._counters[:1]
        with pytest.raises(ValueError, match=r"^beam_search_step: counters: expected shape"):
            search.choose(Candidates(log_probs, tokens))


def test_attention_that_is_too_short_is_refused() -> None:
    options = replace(PLAIN, coverage_penalty="gnmt", beta=0.2)
    search = DeviceBeamSearch(2, options, torch.device("cpu"), [6, 4])
    logits = torch.randn(search.rows, 11)
    with emulated_cuda():
        with pytest.raises(TypeError, match=r"^BeamSearch.advance: attention: expected a tensor"):
            search.advance(logits)
        with pytest.raises(ValueError, match=r"attention: expected shape \[N = 8, 6 or more\]"):
            search.advance(logits, torch.rand(8, 5))


def search_table(device: str, options: BeamSearchOptions) -> BeamSearchResult:
    """Three sentences of a model whose state is a token, with attention."""
    table = torch.randn(50, 50, generator=torch.Generator().manual_seed(0)).to(device) * 3

    def step(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return table[tokens] + table[state], tokens, table[tokens, :5]

    bos = torch.tensor([1, 3, 4], device=device).repeat_interleave(options.beam_size)
    return beam_search(step, bos, batch_size=3, options=options, source_lengths=[5, 0, 3])


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"coverage_penalty": "summary", "beta": 0.2},
        {"beam_groups": 2, "diversity_penalty": 0.5, "n_best": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("steps", [1, 8])
def test_a_whole_search_finds_the_same(
    monkeypatch: pytest.MonkeyPatch, steps: int, told: dict[str, Any]
) -> None:
    """The loop of a GPU, its steps in vain included."""
    options = replace(PLAIN, max_length=30, return_attention=True, **told)
    expected = search_table("cpu", options)
    monkeypatch.setattr(DeviceBeamSearch, "steps_between_questions", steps)
    monkeypatch.setattr(DeviceBeamSearch, "runs", lambda device, options: True)
    with emulated_cuda():
        found = search_table("cpu", options)
    assert torch.equal(found.tokens, expected.tokens) and found.tokens.shape[2] < 30
    assert torch.equal(found.attention, expected.attention)
    torch.testing.assert_close(found.scores, expected.scores)


EXACT = {name for name in OPTIONS if name != "coverage" and not name.startswith("gumbel")}


# Bit for bit, which the logarithms of a GPU are not.
@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("name", sorted(EXACT))
def test_gpu_takes_the_steps_of_the_host(name: str) -> None:
    check(replace(PLAIN, **OPTIONS[name]), 3, 11, "cuda")


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("name", RULES)
def test_gpu_keeps_rules_as_the_host(name: str) -> None:
    check_rules(replace(PLAIN, **RULES[name]), 11, "cuda")


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize(
    "told",
    [
        {},
        {"beam_groups": 2, "diversity_penalty": 0.5, "n_best": 4},
        {"coverage_penalty": "gnmt", "beta": 0.3},
        {"sampling": "gumbel", "n_best": 4, "seed": 7},
        {"sampling": "ancestral", "n_best": 4, "top_k": 9},
        {"sampling": "ancestral", "n_best": 4, "top_p": 0.8},
    ],
    ids=str,
)
def test_gpu_finds_what_the_cpu_finds(told: dict[str, Any]) -> None:
    """A search over a step function, n-best and all."""
    options = replace(PLAIN, **told)
    on_cpu, on_gpu = (search_table(device, options) for device in ("cpu", "cuda"))
    assert torch.equal(on_cpu.tokens, on_gpu.tokens)
    torch.testing.assert_close(on_cpu.scores, on_gpu.scores)
