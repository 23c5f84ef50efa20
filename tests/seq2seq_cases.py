"""Models and batches for the tests of Seq2Seq."""

import itertools

import torch

from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig

CELLS = ("lstm", "gru", "rnn")
ATTENTIONS = ("additive", "dot", "scaled_dot", "general", "none")
VARIANTS = [
    dict(zip(("cell", "attention", "input_feeding"), values, strict=True))
    for values in itertools.product(CELLS, ATTENTIONS, (True, False))
]
SIZES = [
    {},
    {"encoder_layers": 2, "decoder_layers": 2, "attention_size": 5},
    {"tie_output": True},
    {"tie_output": True, "embedding_size": 9, "hidden_size": 9, "decoder_layers": 3},
    {"source_vocabulary_size": None, "source_feature_size": 6},
]
OPTIONS = BeamSearchOptions(bos_id=2, eos_id=3, pad_id=0, beam_size=4, n_best=3, max_length=9)


def name(fields):
    return "-".join(f"{key}={value}" for key, value in fields.items()) or "default"


def make(dtype=torch.float64, seed=0, **fields):
    """A model whose parameters are large enough for unlike hypotheses."""
    torch.manual_seed(seed)
    sizes = {"source_vocabulary_size": 11, "embedding_size": 7, "hidden_size": 9}
    model = Seq2Seq(Seq2SeqConfig(**{**sizes, "target_vocabulary_size": 13, **fields}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.to(dtype)


def data(model, lengths=(5, 0, 7, 1), width=7, seed=1):
    torch.manual_seed(seed)
    config = model.config
    if config.source_feature_size is not None:
        dtype = model.bridge.hidden.weight.dtype
        src = torch.randn(len(lengths), width, config.source_feature_size, dtype=dtype)
    else:
        src = torch.randint(4, config.source_vocabulary_size, (len(lengths), width))
    tgt_lengths = torch.tensor([(4, 2, 6, 3)[i % 4] for i in range(len(lengths))])
    tgt = torch.randint(4, config.target_vocabulary_size, (len(lengths), 6))
    tgt[:, 0] = config.bos_id
    for row, length in zip(tgt, tgt_lengths, strict=True):
        row[length - 1] = config.eos_id
        row[length:] = config.pad_id
    return src, torch.tensor(lengths), tgt, tgt_lengths
