"""Beam search over a decoder, and which source positions each hypothesis looked at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from seq2seq_ext.decoding import BeamSearchOptions, BeamSearchResult, beam_search
from seq2seq_ext.models.decoder import Decoder, Memory, State


@dataclass(frozen=True, eq=False)
class GenerationResult(BeamSearchResult):
    """A search's result with its attention.

    Attributes:
        attention: ``[B, n_best, L, S]``: row t holds the weights under which token t was
            predicted, zero past the hypothesis' length; None for a model without attention.
    """

    attention: Tensor | None


@dataclass(frozen=True)
class _StepTrace:
    """What a step saw: the path of every row can be followed through these."""

    parents: Tensor  # [N], the row of the step before that each row continues
    tokens: Tensor  # [N], fed
    weights: Tensor | None  # [N, S]


def generate(decoder: Decoder, memory: Memory, options: BeamSearchOptions) -> GenerationResult:
    """Beam search from ``memory``, which all beams of a source share."""
    sources, beams = memory.lengths.size(0), options.beam_size
    packed = decoder.pack()
    trace: list[_StepTrace] = []
    # The search reorders the state, so the row numbers left there come back as parents.
    rows = torch.arange(sources * beams, device=memory.memory.device)

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        logits, moved, weights = decoder.step(tokens, state["decoder"], memory, packed)
        trace.append(_StepTrace(state["rows"], tokens, weights))
        return logits, {"decoder": moved, "rows": rows}

    start = {"decoder": _repeat(memory.state, beams), "rows": rows}
    found = beam_search(step, start, batch_size=sources, options=options, device=rows.device)
    return GenerationResult(
        found.tokens,
        found.lengths,
        found.scores,
        found.log_probs,
        None if decoder.attention is None else _attention(trace, found, sources),
    )


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


def _attention(trace: list[_StepTrace], found: BeamSearchResult, sources: int) -> Tensor:
    """Follows each hypothesis through the trace and gathers its weights ``[B, n_best, L, S]``.

    A hypothesis' row at step t is the child of its row at t - 1 that was fed its token t - 1.
    Rows with the same parent and token are equal, so any of them will do.
    """
    tokens = found.tokens.to(trace[0].tokens.device)
    batch, n_best, longest = tokens.shape
    sentence = torch.arange(batch, device=tokens.device).unsqueeze(1)
    row = torch.zeros(batch, n_best, dtype=torch.int64, device=tokens.device)  # in its sentence
    gathered = []
    for t in range(longest):
        step = trace[t]
        if t > 0:
            beams = step.tokens.numel() // sources
            parents = step.parents.view(sources, 1, beams) - sentence.unsqueeze(2) * beams
            same_parent = parents == row.unsqueeze(2)
            same_token = step.tokens.view(sources, 1, beams) == tokens[:, :, t - 1].unsqueeze(2)
            row = (same_parent & same_token).to(torch.int64).argmax(dim=2)
        assert step.weights is not None
        by_sentence = step.weights.view(sources, -1, step.weights.size(1))
        gathered.append(by_sentence[sentence, row])  # [B, n_best, S]
    attention = torch.stack(gathered, dim=2)
    real = torch.arange(longest, device=tokens.device) < found.lengths.to(tokens.device)[..., None]
    return attention * real.unsqueeze(3)
