"""beamgrad's search over the eager model."""

import beamgrad
import torch
from torch import Tensor, nn

from benchmarks.rivals.eager import EagerSeq2Seq
from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.models import Seq2Seq

NAME = f"beamgrad {beamgrad.__version__} + eager PyTorch"


class Decoder:
    """Best hypotheses of a batch; options as far as this system has them."""

    def __init__(self, model: Seq2Seq, options: BeamSearchOptions) -> None:
        self.model = EagerSeq2Seq(model)
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
        first = torch.arange(batch)[:, None] * beams
        state = state.rows(torch.arange(batch).repeat_interleave(beams))

        def step(beam: beamgrad.BeamState) -> Tensor:
            nonlocal state
            tokens = torch.full((batch * beams,), self.options.bos_id)
            if beam.step > 0:
                tokens = beam.tokens.clamp(min=0).flatten()
                state = state.rows((first + beam.parents.clamp(min=0)).flatten())
            logits, state = self.model.step(tokens, source, state)
            return logits.log_softmax(1).view(batch, beams, -1)

        found = beamgrad.beam_search(
            step, self.beam, max_steps=self.options.max_length, batch_size=batch
        )
        best = zip(found.sequences[:, 0], found.lengths[:, 0].tolist(), strict=True)
        return [tokens[:length].tolist() for tokens, length in best]


class TopRows:
    """The best tokens of each row of a linear layer: one step of its search, without a model."""

    def __init__(self, layer: nn.Linear, rows: int, k: int) -> None:
        self.weight, self.bias = layer.weight.detach().t(), layer.bias.detach()
        # At step 0 it reads the first beam only, of all that it wants to see.
        self.logits = torch.zeros(rows, 1, k, layer.out_features)
        self.options = beamgrad.BeamOptions(beam_size=k, validate_inputs=False)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        torch.addmm(self.bias, x, self.weight, out=self.logits[:, 0, 0])
        found = beamgrad.decode(self.logits, self.options, from_logits=True)
        scores: Tensor = found.final_raw_scores
        return scores
