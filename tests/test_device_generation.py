"""A model's search that stays on a GPU: on the emulated device, and on a GPU where there is one."""

import itertools
from contextlib import nullcontext
from dataclasses import replace
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest
import torch
from cuda_device import needs_cuda
from emulated_cuda import emulated_cuda
from seq2seq_cases import OPTIONS, data, make
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seq2seq_ext.decoding import BeamSearchOptions, BeamSearchResult, device_search
from seq2seq_ext.decoding.device_search import DeviceBeamSearch
from seq2seq_ext.models import device_generation
from seq2seq_ext.models.attentional_decoder import AttentionalDecoder, Memory, State
from seq2seq_ext.models.device_generation import FixedStep, generate_on_device, search_on_device
from seq2seq_ext.models.generation import generate

MODELS: dict[str, dict[str, Any]] = {
    "lstm": {"decoder_layers": 2},
    "gru": {"cell": "gru", "attention": "general", "tie_output": True},
    "rnn": {"cell": "rnn", "attention": "scaled_dot", "input_feeding": False},
    "no_attention": {"attention": "none", "tie_output": True, "embedding_size": 9},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "long": {"max_length": 20, "min_length": 11},
    "one_step": {"max_length": 1},
    "greedy": {"beam_size": 1, "n_best": 1},
    "rules": {"prefix": (5, 6), "banned": (7, (4, 8)), "force_eos": True},
    "ngrams": {"no_repeat_ngram_size": 1, "length_penalty": "gnmt", "max_length": 12},
    "coverage": {"coverage_penalty": "gnmt", "beta": 0.4, "coverage_stepwise": True},
    "penalty": {"repetition_penalty": 1.4, "temperature": 0.8},
    "top_k": {"top_k": 2, "min_length": 3},
    "ancestral": {"sampling": "ancestral", "temperature": 0.7, "min_length": 3},
    "gumbel": {"sampling": "gumbel", "seed": 3},
    "drawn": {"sampling": "gumbel", "top_k": 5, "seed": 3},
    "top_p": {"top_p": 0.8, "temperature": 1.2},
    "nucleus": {"sampling": "gumbel", "top_p": 0.8, "top_k": 9, "seed": 3},
    "groups": {"beam_size": 6, "beam_groups": 3, "diversity_penalty": 0.4, "n_best": 4},
}


@pytest.fixture(autouse=True)
def no_grad() -> Any:
    with torch.no_grad():
        yield


def start(model: Any, dtype: torch.dtype = torch.float32) -> tuple[AttentionalDecoder, Memory]:
    """A decoder of this type, and sources that were encoded in float64."""
    src, src_lengths, _, _ = data(model)
    memory = model.encode(src, src_lengths)
    state = {
        key: tuple(tuple(t.to(dtype) for t in layer) for layer in part)
        if key == "layers"
        else part.to(dtype)
        for key, part in memory.state.items()
    }
    keys = None if memory.projected is None else memory.projected.to(dtype)
    return model.decoder.to(dtype), Memory(memory.memory.to(dtype), keys, memory.lengths, state)


class Steps:
    """The decoder's steps, with weights as kernels of CUDA take them."""

    def __init__(self, decoder: AttentionalDecoder) -> None:
        self._decoder = decoder

    def step(
        self, tokens: Tensor, state: State, memory: Memory
    ) -> tuple[Tensor, State, Tensor | None]:
        return self._decoder.step(tokens, state, memory, None)


def over_steps(decoder: AttentionalDecoder, memory: Memory, options: Any) -> BeamSearchResult:
    """What the search finds that gets logits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeviceBeamSearch, "runs", lambda device, options: True)
        options = [options] * len(memory.lengths)
        return generate(Steps(decoder), memory, options, decoder.attention is not None)


def on_device(decoder: AttentionalDecoder, memory: Memory, options: Any) -> BeamSearchResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AttentionalDecoder, "logits", None)  # nobody makes any
        told = [options] * len(memory.lengths)
        search = search_on_device(decoder, memory.lengths, told, memory.memory.device)
        return generate_on_device(decoder, memory, search)


def assert_same_bits(found: BeamSearchResult, expected: BeamSearchResult) -> None:
    for name, value in vars(expected).items():
        other = getattr(found, name)
        assert value is other is None or torch.equal(other, value), name


def options_of(search: str) -> BeamSearchOptions:
    return replace(OPTIONS, **SEARCHES[search])


@pytest.mark.parametrize(
    ("name", "search"),
    [(m, s) for m in MODELS for s in SEARCHES if (m, s) != ("no_attention", "coverage")],
)
def test_has_the_bits_of_the_search_over_logits(name: str, search: str) -> None:
    model, options = make(**MODELS[name]), options_of(search)
    expected_on_cpu = model.generate(*data(model)[:2], options)
    decoder, memory = start(model)
    with emulated_cuda():
        expected = over_steps(decoder, memory, options)
        assert_same_bits(on_device(decoder, memory, options), expected)
    assert torch.equal(expected.tokens, expected_on_cpu.tokens)
    torch.testing.assert_close(expected.scores, expected_on_cpu.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_source_has_the_same_bits_beside_any_options(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Some are searched on the device, one of them by two options alike, the others on the host."""
    seen = []
    options = [
        OPTIONS,
        replace(OPTIONS, temperature=0.7, top_p=0.9, max_length=11, pad_id=1),
        replace(OPTIONS, beam_size=2, n_best=1, max_length=14),
        replace(OPTIONS),
        replace(OPTIONS, on_step=lambda progress: seen.append(progress.sentence)),
        options_of("rules"),
        replace(OPTIONS, sampling="ancestral", seed=5),
        replace(OPTIONS, sampling="ancestral", seed=6),
        options_of("groups"),
        options_of("groups"),
    ]
    model = make(torch.float32, **MODELS[name])
    src, src_lengths, _, _ = data(model, (5, 0, 7, 1, 4, 6, 3, 3, 7, 4))
    on_cpu = model.generate(src, src_lengths, options)
    monkeypatch.setattr(DeviceBeamSearch, "runs", lambda _, told: DeviceBeamSearch.knows(told))
    with emulated_cuda():
        together = model.generate(src, src_lengths, options)
        for i, each in enumerate(options):
            alone = model.generate(src[i : i + 1], src_lengths[i : i + 1], each)
            assert together.hypotheses[i] == alone.hypotheses[0]
            if name != "no_attention":
                _, count, longest, _ = alone.attention.shape
                assert torch.equal(together.attention[i, :count, :longest], alone.attention[0])
    for field in ("tokens", "lengths", "reasons", "rows"):
        assert torch.equal(getattr(together, field), getattr(on_cpu, field)), field
    assert {0, 4} == set(seen)  # alone, and in both batches


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_type_has_the_bits_of_the_search_over_logits(dtype: torch.dtype) -> None:
    decoder, memory = start(make(decoder_layers=2, tie_output=True), dtype)
    with emulated_cuda():
        expected = over_steps(decoder, memory, OPTIONS)
        assert_same_bits(on_device(decoder, memory, OPTIONS), expected)


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_questions_may_come_at_any_step(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    options = options_of("long")
    decoder, memory = start(make())
    with emulated_cuda():
        expected = on_device(decoder, memory, options)
        monkeypatch.setattr(DeviceBeamSearch, "steps_between_questions", steps)
        assert_same_bits(on_device(decoder, memory, options), expected)


@pytest.mark.parametrize("search", ["plain", "ngrams", "ancestral", "gumbel", "groups"])
@pytest.mark.parametrize("name", MODELS)
def test_steps_past_the_end_change_nothing(name: str, search: str) -> None:
    options = options_of(search)
    decoder, memory = start(make(**MODELS[name]))
    searches = [DeviceBeamSearch(4, options, torch.device("cpu")) for _ in range(2)]
    with emulated_cuda():
        for extra, each in zip((0, 23), searches, strict=True):
            step = FixedStep(decoder, memory, each)
            for _ in range(options.max_length + extra):
                step()
    assert_same_bits(*(each.result() for each in searches))
    for part in ("_sums", "_counters", "_pool", "_nodes"):
        assert torch.equal(*(getattr(each, part) for each in searches)), part


def test_the_host_looks_at_an_answer_behind_the_next_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Told(device_search._Answer):
        def __init__(self, value: Tensor) -> None:
            happened.append("ask")
            super().__init__(value)

        def wait(self) -> bool:
            happened.append("look")
            return super().wait()

    step = FixedStep.__call__
    monkeypatch.setattr(device_search, "_Answer", Told)
    monkeypatch.setattr(FixedStep, "__call__", lambda self: happened.append("step") or step(self))
    decoder, memory = start(make())
    decoder.output_layer()[1][OPTIONS.eos_id] += 1
    options = replace(OPTIONS, min_length=10, max_length=100)
    with emulated_cuda():
        on_device(decoder, memory, replace(options, early_stopping="first"))
    chunk = ["step"] * DeviceBeamSearch.steps_between_questions
    taken, rest = divmod(happened.count("step"), len(chunk))
    assert happened == [*chunk, "ask", *[*chunk, "ask", "look"] * (taken - 1)] and not rest
    assert 3 < taken < 20


def test_the_default_device_is_of_no_matter() -> None:
    decoder, memory = start(make())
    told = [OPTIONS] * len(memory.lengths)
    search = search_on_device(decoder, memory.lengths, told, memory.memory.device)
    with emulated_cuda():
        expected = generate_on_device(decoder, memory, search)
    with torch.device("meta"):
        found = search.result()
    assert_same_bits(replace(found, attention=expected.attention), expected)


def test_tokens_outside_the_vocabulary_are_named() -> None:
    decoder, memory = start(make())
    for fields in ({"prefix": (13,)}, {"banned": (4, (5, 13))}):
        options = replace(OPTIONS, **fields)
        with emulated_cuda(), pytest.raises(ValueError, match=r"^generate: .* token 13 of the opt"):
            on_device(decoder, memory, options)


def test_the_host_reads_nothing_but_the_answers() -> None:
    """Not even how long sources are."""
    decoder, memory = start(make())
    with emulated_cuda():
        expected = on_device(decoder, memory, OPTIONS)
    with emulated_cuda(owns_memory=True):
        assert_same_bits(on_device(decoder, memory, OPTIONS), expected)


class Recording(TorchDispatchMode):
    """What a graph would do: the same calls with the same tensors, into the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, before in self._calls:
            result = func(*args, **kwargs)
            for place, value in zip(tree_leaves(before), tree_leaves(result), strict=True):
                if isinstance(place, Tensor):
                    place.copy_(value)


@pytest.mark.parametrize("search", ["ngrams", "ancestral", "gumbel", "groups", "nucleus"])
@pytest.mark.parametrize("name", MODELS)
def test_a_recorded_step_is_every_step(name: str, search: str) -> None:
    """Nothing that changes from step to step lies in Python."""
    options = replace(options_of(search), return_attention=name != "no_attention")
    decoder, memory = start(make(**MODELS[name]))
    searches = [DeviceBeamSearch(4, options, torch.device("cpu")) for _ in range(2)]
    steps = [FixedStep(decoder, memory, search) for search in searches]
    with emulated_cuda():
        for _ in range(options.max_length):
            steps[0]()
        steps[1]()
        with Recording() as recording:
            steps[1]()
        for _ in range(options.max_length - 2):
            recording.replay()
    assert_same_bits(*(search.result() for search in searches))
    assert torch.equal(steps[0].attention, steps[1].attention)


class Graph:
    """What CUDA answers to captures; a step that failed has broken its own."""

    pools: ClassVar[list[Any]] = []

    def capture_begin(self, pool: Any, capture_error_mode: str) -> None:
        self.pools.append(pool)

    def capture_end(self) -> None:
        if len(self.pools) == 3:
            raise RuntimeError("the capture is invalid")

    def replay(self) -> None: ...


def test_graphs_of_a_thread_share_a_pool_until_a_step_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = itertools.count()
    monkeypatch.setattr(Graph, "pools", [])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "MemPool", lambda: SimpleNamespace(id=next(ids)))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock)
    monkeypatch.setattr(device_generation, "_idle", device_generation._Idle())
    record = device_generation.recorded
    record(list)
    record(list)
    with pytest.raises(ZeroDivisionError):
        record(lambda: 1 / 0)
    record(list)
    thread = Thread(target=record, args=(list,))
    thread.start()
    thread.join()
    record(list)
    assert Graph.pools == [0, 0, 0, 1, 2, 1]


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
def test_gpu_finds_the_n_best_of_the_cpu(name: str, dtype: torch.dtype) -> None:
    model = make(**MODELS[name])
    src, src_lengths, _, _ = data(model)
    for options in map(options_of, SEARCHES):
        expected = model.generate(src, src_lengths, options)
        on_gpu = make(dtype, **MODELS[name]).cuda()
        found = on_gpu.generate(src.cuda(), src_lengths.cuda(), options)
        assert torch.equal(found.tokens, expected.tokens)
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-4)


@needs_cuda
@pytest.mark.cuda
def test_gpu_searches_keep_no_more_memory_than_the_first_two() -> None:
    model = make().cuda()
    src, src_lengths, _, _ = data(model)
    reserved = []
    for _ in range(6):
        model.generate(src.cuda(), src_lengths.cuda(), OPTIONS)
        reserved.append(torch.cuda.memory_reserved())
    assert max(reserved) == reserved[1]


@needs_cuda
@pytest.mark.cuda
def test_gpu_search_waits_for_nothing_but_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its result is fetched: torch refuses whatever else would wait."""
    result = DeviceBeamSearch.result

    def fetch(search: DeviceBeamSearch) -> BeamSearchResult:
        torch.cuda.set_sync_debug_mode("default")
        return result(search)

    monkeypatch.setattr(DeviceBeamSearch, "result", fetch)
    options = options_of("long")
    model = make().cuda()
    src, src_lengths, _, _ = (each.cuda() for each in data(model))
    expected = model.generate(src, src_lengths, options)
    memory = model.encode(src, src_lengths)
    told = [options] * len(src_lengths)
    search = search_on_device(model.decoder, src_lengths, told, src.device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = generate_on_device(model.decoder, memory, search)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same_bits(found, expected)


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_gpu_graph_has_the_bits_of_the_search_over_logits(name: str, dtype: torch.dtype) -> None:
    model = make(**MODELS[name]).cuda()
    src, src_lengths, _, _ = data(model)
    for options in map(options_of, SEARCHES):
        cast = model.to(dtype)
        found = cast.generate(src.cuda(), src_lengths.cuda(), options)
        memory = cast.encode(src.cuda(), src_lengths.cuda())
        assert_same_bits(found, over_steps(cast.decoder, memory, options))
