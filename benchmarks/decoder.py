"""The native decode loop against the same weights in eager PyTorch."""

import torch
from torch import Tensor

from benchmarks import nmt
from benchmarks.harness import Comparison, Run, compare, weight_types
from benchmarks.rivals.eager import EagerSeq2Seq
from seq2seq_ext import Decoder
from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig


class EagerDecoder:
    """Beam search as one writes it in PyTorch: log_softmax, topk, index by parents.

    For searches whose hypotheses all have ``max_length`` tokens, which spares it a pool.
    """

    def __init__(self, model: Seq2Seq, options: BeamSearchOptions, *, compiled: bool) -> None:
        self.model = EagerSeq2Seq(model).eval()
        self.options = options
        self.step = torch.compile(self.model.step, dynamic=False) if compiled else self.model.step

    @torch.inference_mode()
    def __call__(self, src: Tensor, lengths: Tensor) -> Tensor:
        options, batch, beams = self.options, len(src), self.options.beam_size
        source, state = self.model.encode(src, lengths)
        sentences = torch.arange(batch, device=src.device)
        rows = sentences.repeat_interleave(beams)
        source, state = type(source)(*(part[rows] for part in source)), state.rows(rows)
        tokens = torch.full((batch * beams,), options.bos_id, device=src.device)
        sums = torch.full((batch, beams), -torch.inf, device=src.device)
        sums[:, 0] = 0
        found = tokens.new_empty(batch, beams, 0)
        first = sentences[:, None] * beams
        for length in range(1, options.max_length + 1):
            logits, state = self.step(tokens, source, state)
            log_probs = logits.log_softmax(1)
            if length < options.min_length:
                log_probs[:, options.eos_id] = -torch.inf
            size = log_probs.size(1)
            sums, best = (
                (sums[:, :, None] + log_probs.view(batch, beams, size)).flatten(1).topk(beams)
            )
            parents, tokens = (first + best // size).flatten(), (best % size).flatten()
            state = state.rows(parents)
            chosen = tokens.view(batch, beams, 1)
            found = torch.cat((found.flatten(0, 1)[parents].view(batch, beams, -1), chosen), 2)
        return found[:, 0]


def _decode(
    work: str, model: Seq2Seq, options: BeamSearchOptions, batch: int, seconds: float
) -> list[Comparison]:
    src, lengths = nmt.sources(batch, model.config.source_vocabulary_size)
    rivals: dict[str, Run] = {}
    for name, compiled in (("eager PyTorch", False), ("compiled PyTorch", True)):
        rival = EagerDecoder(model, options, compiled=compiled)
        rivals[name] = lambda rival=rival: rival(src, lengths)  # type: ignore[misc]
    comparisons = []
    for dtype in weight_types():
        decoder = Decoder(model, dtype)
        comparisons.append(
            compare(
                f"{work}, B={batch}, {dtype}",
                lambda decoder=decoder: decoder.generate(src, lengths, options).tokens[:, 0],  # type: ignore[misc]
                rivals,
                seconds=seconds,
                equal=dtype == "float32",
            )
        )
    return comparisons


def _small_model() -> Seq2Seq:
    """Of the size of a grapheme-to-phoneme model."""
    torch.manual_seed(0)
    config = Seq2SeqConfig(
        source_vocabulary_size=32,
        target_vocabulary_size=42,
        embedding_size=64,
        hidden_size=256,
    )
    model = Seq2Seq(config).eval()
    with torch.no_grad():
        model.decoder.output.weight.mul_(20)  # type: ignore[union-attr]
        for parameter in model.decoder.layers.parameters():
            parameter.mul_(2)
    return model


def run() -> list[Comparison]:
    model = nmt.build_model()
    options = nmt.search_options(model)
    work = "Decoding: BiLSTM 2x512, LSTM 2x512, additive, input feeding, V=32k, beam 5, 30 steps"
    comparisons = _decode(work, model, options, 1, 8) + _decode(work, model, options, 32, 20)
    model = _small_model()
    options = nmt.search_options(model, 8)
    work = "Decoding: BiLSTM 256, LSTM 256, additive, input feeding, V=42, beam 5, 8 steps"
    return comparisons + _decode(work, model, options, 1, 3) + _decode(work, model, options, 64, 5)
