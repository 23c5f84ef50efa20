"""Beam search over a decoder, and which source positions each hypothesis looked at."""

from dataclasses import replace
from typing import Protocol, TypeAlias

from torch import Tensor

from seq2seq_ext.decoding import BeamSearchOptions, BeamSearchResult, beam_search
from seq2seq_ext.models.decoder import Decoder, Memory, State

# With attention, unless the model has none.
GenerationResult: TypeAlias = BeamSearchResult


class Stepper(Protocol):
    """A decoder, in whichever way it takes its steps."""

    def step(
        self, tokens: Tensor, state: State, memory: Memory
    ) -> tuple[Tensor, State, Tensor | None]: ...


def generate(
    decoder: Stepper, memory: Memory, options: BeamSearchOptions, has_attention: bool
) -> GenerationResult:
    """Beam search from ``memory``, which all beams of a source share."""

    def step(tokens: Tensor, state: State) -> tuple:
        logits, moved, weights = decoder.step(tokens, state, memory)
        return (logits, moved) if weights is None else (logits, moved, weights)

    return beam_search(
        step,
        _repeat(memory.state, options.beam_size),
        batch_size=memory.lengths.size(0),
        options=replace(options, return_attention=has_attention),
        source_lengths=memory.lengths,
        device=memory.memory.device,
    )


class PackedSteps:
    """The module's own steps, its weights packed once for all of them."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self._packed = decoder, decoder.pack()

    def step(
        self, tokens: Tensor, state: State, memory: Memory
    ) -> tuple[Tensor, State, Tensor | None]:
        return self._decoder.step(tokens, state, memory, self._packed)


def _repeat(state: State, times: int) -> State:
    """Every row ``times`` times; small, unlike the memory."""
    repeated: State = {
        "layers": tuple(
            tuple(part.repeat_interleave(times, dim=0) for part in layer)
            for layer in state["layers"]
        )
    }
    if "attentional" in state:
        repeated["attentional"] = state["attentional"].repeat_interleave(times, dim=0)
    return repeated
