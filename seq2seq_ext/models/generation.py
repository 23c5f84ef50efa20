"""Beam search over a decoder, and which source positions each hypothesis looked at."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from seq2seq_ext.decoding import BeamSearchOptions, BeamSearchResult, beam_search
from seq2seq_ext.decoding.native_options import changed_options
from seq2seq_ext.decoding.step import Step, reorder
from seq2seq_ext.models.attentional_decoder import AttentionalDecoder, Memory, State

# With attention, unless the model has none.
GenerationResult: TypeAlias = BeamSearchResult


class Stepper(Protocol):
    """A decoder, in whichever way it takes its steps."""

    def step(
        self, tokens: Tensor, state: State, memory: Memory
    ) -> tuple[Tensor, State, Tensor | None]: ...


def generate(
    decoder: Stepper, memory: Memory, options: Sequence[BeamSearchOptions], has_attention: bool
) -> GenerationResult:
    """Beam search from ``memory``, which all beams of a source share."""
    options = changed_options(options, lambda o: replace(o, return_attention=has_attention))
    step, state = search_step(decoder, memory, options)
    return beam_search(
        step,
        state,
        batch_size=len(options),
        options=options,
        source_lengths=memory.lengths,
        device=memory.memory.device,
    )


def search_step(
    decoder: Stepper, memory: Memory, options: Sequence[BeamSearchOptions]
) -> tuple[Step, State]:
    """A step function for the rows of a search, and their state before the first.

    It returns attention if an option needs it. A decoder takes equally many rows of each source:
    where beams differ, it is fed as many as the largest has, the missing ones as copies of their
    source's first.
    """
    device = memory.memory.device
    beams = [each.beam_size for each in options]
    own, fed = _places(beams, device)
    sources = torch.arange(len(beams), device=device)
    state = reorder(memory.state, sources.repeat_interleave(torch.tensor(beams, device=device)))

    needs_attention = any(each.needs_attention for each in options)

    def step(tokens: Tensor, state: State) -> tuple:
        logits, moved, weights = decoder.step(tokens, state, memory)
        has_attention = needs_attention and weights is not None
        return (logits, moved, weights) if has_attention else (logits, moved)

    def padded_step(tokens: Tensor, state: State) -> tuple:
        returned = step(tokens[fed], reorder(state, fed))
        return tuple(reorder(part, own) for part in returned)

    return (step if len(set(beams)) == 1 else padded_step), state


def _places(beams: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each row of the search its place among equally many of each sentence, and back."""
    most, first = max(beams), 0
    own: list[int] = []
    fed: list[int] = []
    for sentence, size in enumerate(beams):
        own += range(sentence * most, sentence * most + size)
        fed += [*range(first, first + size), *[first] * (most - size)]
        first += size
    return torch.tensor(own, device=device), torch.tensor(fed, device=device)


class PackedSteps:
    """The module's own steps, its weights packed once for all of them."""

    def __init__(self, decoder: AttentionalDecoder) -> None:
        self._decoder, self._packed = decoder, decoder.pack()

    def step(
        self, tokens: Tensor, state: State, memory: Memory
    ) -> tuple[Tensor, State, Tensor | None]:
        return self._decoder.step(tokens, state, memory, self._packed)
