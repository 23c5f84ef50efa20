"""Beam search of a model whose whole step stays on a GPU, which a CUDA graph replays."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from seq2seq_ext.decoding import BeamSearchOptions, BeamSearchResult
from seq2seq_ext.decoding.device_search import DeviceBeamSearch
from seq2seq_ext.decoding.native_options import changed_options
from seq2seq_ext.decoding.result import gather_attention
from seq2seq_ext.decoding.step import leaves, reorder
from seq2seq_ext.models.attentional_decoder import AttentionalDecoder, Memory, State


def search_on_device(
    decoder: AttentionalDecoder,
    source_lengths: Tensor,
    options: Sequence[BeamSearchOptions],
    device: torch.device,
) -> DeviceBeamSearch:
    """What :func:`generate_on_device` searches with, under options that the device knows.

    Made before the encoder runs: what is copied to the device waits for all that it has to do.
    """
    has_attention = decoder.attention is not None
    told = changed_options(options, lambda each: replace(each, return_attention=has_attention))
    search = DeviceBeamSearch(len(source_lengths), told, device, source_lengths)
    search.check_vocabulary("generate", decoder.config.target_vocabulary_size)
    return search


def generate_on_device(
    decoder: AttentionalDecoder, memory: Memory, search: DeviceBeamSearch
) -> BeamSearchResult:
    """What :func:`beam_search` finds from ``memory``.

    The host launches a few steps and a question, whether all sentences have stopped; it looks at
    the answer when as many steps more are under way.
    """
    told = search.options[0]
    step = FixedStep(decoder, memory, search)
    attention: list[Tensor] = []
    with torch.cuda.device_of(memory.memory):  # type: ignore[no-untyped-call]
        step()
        run = recorded(step) if memory.memory.is_cuda and told.max_length > 1 else step
        for taken in range(1, told.max_length + 1):
            if taken % step.places == 0 or taken == told.max_length:
                attention += step.attention.clone()  # behind the last step nobody looks
                if taken == told.max_length or search.had_stopped():
                    break
            run()
    result = search.result()
    if not told.return_attention:
        return result
    return replace(result, attention=gather_attention(attention, result.rows, result.lengths))


class _Idle(threading.local):
    """A thread's memory pool and stream of each device, for its next graph.

    A graph's own pool would be given back only by ``torch.cuda.empty_cache()``. Graphs that share
    one must not run at once: a thread waits for each of its searches.
    """

    def __init__(self) -> None:
        self.of_device: dict[int, tuple[torch.cuda.MemPool, torch.cuda.Stream]] = {}


_idle = _Idle()


def recorded(step: Callable[[], object]) -> Callable[[], None]:
    """``step``, which has run before, as a CUDA graph; all that it keeps must stay in its place."""
    graph, device = torch.cuda.CUDAGraph(), torch.cuda.current_device()
    kept = _idle.of_device.pop(device, None)
    pool, stream = kept or (torch.cuda.MemPool(), torch.cuda.Stream())  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        graph.capture_begin(pool=pool.id, capture_error_mode="thread_local")  # type: ignore[arg-type]
        try:
            step()
        except BaseException:
            with suppress(RuntimeError):  # of a capture that the step's error has broken
                graph.capture_end()
            raise
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
    _idle.of_device[device] = pool, stream  # not after an error: a capture may still own them
    return graph.replay


class FixedStep:
    """One step of decoder and search: what it reads and writes is where it was before.

    Attributes:
        attention: ``[places, N, S]`` of the last steps, from 0 on again after ``places`` of them.
            S is 0 where nobody wants it.
    """

    def __init__(
        self, decoder: AttentionalDecoder, memory: Memory, search: DeviceBeamSearch
    ) -> None:
        told, device = search.options[0], memory.memory.device
        self._decoder, self._search = decoder, search
        # Lengths on the host would be copied in every step.
        self._memory = replace(memory, lengths=memory.lengths.to(device))
        sources = torch.arange(len(search.options), device=device)
        self._tokens = torch.full((search.rows,), told.bos_id, device=device)
        self._state = reorder(memory.state, sources.repeat_interleave(told.beam_size))
        self.places = search.steps_between_questions
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        positions = memory.memory.size(1) if told.return_attention else 0
        self.attention = memory.memory.new_zeros(self.places, search.rows, positions)

    def __call__(self) -> None:
        vectors, moved, attention = self._decoder.advance(self._tokens, self._state, self._memory)
        weight, bias = self._decoder.output_layer()
        tokens, parents = self._search.choose(
            self._search.linear_candidates(self._decoder.project(vectors), weight, bias), attention
        )
        self._tokens.copy_(tokens)
        for kept, new in zip(_tensors(self._state), _tensors(moved), strict=True):
            torch.index_select(new, 0, parents, out=kept)
        if attention is not None and self.attention.size(2):
            self.attention.index_copy_(0, self._place, attention.unsqueeze(0))
        self._place.add_(1).remainder_(self.places)


def _tensors(state: State) -> list[Tensor]:
    return [leaf for _, leaf in leaves(state) if isinstance(leaf, Tensor)]
