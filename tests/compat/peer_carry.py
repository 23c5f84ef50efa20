"""beamgrad, in which finished hypotheses keep their places in the beam."""

from typing import Any

import beamgrad
import torch
from compat.model import EOS, RandomModel

VERSION = beamgrad.__version__


def search(model: RandomModel, sentences: list[int], options: dict[str, Any]) -> list:
    beams, batch = options["beam_size"], len(sentences)
    state = model.state(sentences, beams)

    def step(beam: beamgrad.BeamState) -> torch.Tensor:
        nonlocal state
        tokens = torch.zeros(batch * beams, dtype=torch.int64)
        if beam.step > 0:
            first = torch.arange(batch)[:, None] * beams
            parents = (first + beam.parents.clamp(min=0)).flatten()
            state = {name: part[parents] for name, part in state.items()}
            tokens = beam.tokens.clamp(min=0).flatten()
        logits, state = model.step(tokens, state)
        return logits.log_softmax(1).view(batch, beams, -1)

    found = beamgrad.beam_search(
        step,
        beamgrad.BeamOptions(
            beam_size=beams,
            eos_token=_tuple(options.get("eos_id", EOS)),
            banned_tokens=tuple(options.get("banned", ())) or None,
            no_repeat_ngram_size=options.get("no_repeat_ngram_size", 0),
            repetition_penalty=options.get("repetition_penalty", 1.0),
            min_length=options["min_length"],
            length_penalty_alpha=options["alpha"] if options["length_penalty"] == "gnmt" else 0.0,
        ),
        max_steps=options["max_length"],
        batch_size=batch,
    )
    return [
        [
            (found.sequences[b, k, : found.lengths[b, k]].tolist(), float(found.scores[b, k]))
            for k in range(options["n_best"])
        ]
        for b in range(batch)
    ]


def _tuple(eos_ids: int | list[int]) -> int | tuple[int, ...]:
    return eos_ids if isinstance(eos_ids, int) else tuple(eos_ids)
