"""beamgrad's search over the eager model."""

import copy
from typing import Any

import beamgrad
import torch
from torch import Tensor

from benchmarks.rivals.eager import EagerSeq2Seq
from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.models import Seq2Seq

HAS_CUDA = beamgrad.cuda_available()
VERSION = f"beamgrad {beamgrad.__version__}"
NAME = f"{VERSION} + eager PyTorch"


class Decoder:
    """Best hypotheses of a batch; options as far as this system has them."""

    def __init__(
        self, model: Seq2Seq, options: BeamSearchOptions, dtype: torch.dtype | None = None
    ) -> None:
        eager = EagerSeq2Seq(model)
        self.model = eager if dtype is None else copy.deepcopy(eager).to(dtype)
        self.options = options
        self.beam = beamgrad.BeamOptions(
            beam_size=options.beam_size,
            eos_token=options.eos_id,
            min_length=options.min_length,
            validate_inputs=False,
        )

    @torch.inference_mode()
    def __call__(self, src: Tensor, lengths: Tensor) -> list[list[int]]:
        batch, beams = src.size(0), self.options.beam_size
        source, state = self.model.encode(src, lengths)
        sentences = torch.arange(batch, device=src.device)
        first = sentences[:, None] * beams
        state = state.rows(sentences.repeat_interleave(beams))

        def step(beam: beamgrad.BeamState) -> Tensor:
            nonlocal state
            tokens = torch.full((batch * beams,), self.options.bos_id, device=src.device)
            if beam.step > 0:
                tokens = beam.tokens.clamp(min=0).flatten()
                state = state.rows((first + beam.parents.clamp(min=0)).flatten())
            logits, state = self.model.step(tokens, source, state)
            return logits.float().log_softmax(1).view(batch, beams, -1)

        found = beamgrad.beam_search(
            step, self.beam, max_steps=self.options.max_length, batch_size=batch
        )
        best = zip(found.sequences[:, 0], found.lengths[:, 0].tolist(), strict=True)
        return [tokens[:length].tolist() for tokens, length in best]


class TopRows:
    """The best tokens of each row of ``logits``: one step of its search, without a model.

    Attributes:
        logits: ``[rows, vocabulary]``, for the caller to fill.
    """

    def __init__(self, rows: int, vocabulary: int, k: int, **where: Any) -> None:
        # At step 0 it reads the first beam only, of all that it wants to see.
        self._steps = torch.zeros(rows, 1, k, vocabulary, **where)
        self._options = beamgrad.BeamOptions(beam_size=k, validate_inputs=False)
        self.logits = self._steps[:, 0, 0]

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        found = beamgrad.decode(self._steps, self._options, from_logits=True)
        scores: Tensor = found.final_raw_scores.to(self.logits.dtype)
        return scores
