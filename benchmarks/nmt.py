"""The translation model of the benchmarks of whole systems, and what it is fed."""

import torch
from torch import Tensor

from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig

VOCABULARY, SIZE, STEPS, SOURCE_LENGTH = 32_000, 512, 30, 25


def build_model(size: int = SIZE, vocabulary: int = VOCABULARY) -> Seq2Seq:
    """BiLSTM 2x512, LSTM 2x512 with additive attention and input feeding, V = 32k; random.

    Weights larger than at the start of training: as in a trained model, the best of the tokens
    stand apart, so that different sums still find the same hypotheses. Nothing in it would
    choose padding, BOS or an unknown word, which some systems forbid.
    """
    torch.manual_seed(0)
    config = Seq2SeqConfig(
        source_vocabulary_size=vocabulary,
        target_vocabulary_size=vocabulary,
        embedding_size=size,
        hidden_size=size,
        encoder_layers=2,
        decoder_layers=2,
        attention="additive",
        input_feeding=True,
    )
    model = Seq2Seq(config).eval()
    with torch.no_grad():
        for layers in (model.encoder.layers, model.decoder.layers):
            for parameter in layers.parameters():
                parameter.mul_(2)
        model.decoder.combine.weight.mul_(2)
        model.decoder.output.weight.mul_(8)
        model.decoder.output.bias[[config.pad_id, config.bos_id, config.unk_id]] = -100
    return model


def sources(
    batch: int, vocabulary: int = VOCABULARY, length: int = SOURCE_LENGTH
) -> tuple[Tensor, Tensor]:
    """Source ids and lengths, all of them ``length``."""
    generator = torch.Generator().manual_seed(1)
    src = torch.randint(4, vocabulary, (batch, length), generator=generator)
    return src, torch.full((batch,), length)


def search_options(model: Seq2Seq, steps: int = STEPS) -> BeamSearchOptions:
    """Beam 5; no hypothesis ends before ``steps``, so that every system takes as many."""
    config = model.config
    return BeamSearchOptions(
        bos_id=config.bos_id,
        eos_id=config.eos_id,
        pad_id=config.pad_id,
        beam_size=5,
        max_length=steps,
        min_length=steps,
    )


def training_batch(batch: int, longest: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sources and targets (BOS ... EOS) of 5 to ``longest`` tokens, with their lengths."""
    generator = torch.Generator().manual_seed(2)

    def side() -> tuple[Tensor, Tensor]:
        lengths = torch.randint(5, longest + 1, (batch,), generator=generator)
        lengths[0] = longest
        tokens = torch.randint(4, VOCABULARY, (batch, longest), generator=generator)
        return tokens.masked_fill(torch.arange(longest) >= lengths[:, None], 0), lengths

    (src, src_lengths), (tgt, tgt_lengths) = side(), side()
    tgt[:, 0] = 2
    tgt[torch.arange(batch), tgt_lengths - 1] = 3
    return src, src_lengths, tgt, tgt_lengths
