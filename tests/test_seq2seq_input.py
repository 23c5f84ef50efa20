"""Wrong arguments of Seq2Seq and its config are named."""

import pytest
import torch
from seq2seq_cases import OPTIONS, make

from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig

IDS = torch.tensor([[4, 5], [6, 7]])
LENGTHS = torch.tensor([2, 1])
TARGET = torch.tensor([[2, 5, 3], [2, 3, 0]])
TARGET_LENGTHS = torch.tensor([3, 2])
FEATURES = torch.zeros(2, 3, 6)


def speech(src):
    model = make(torch.float32, source_vocabulary_size=None, source_feature_size=6)
    return model.encode(src, LENGTHS)


@pytest.mark.parametrize(
    ("call", "error", "argument"),
    [
        (lambda m: Seq2Seq({}), TypeError, "config"),
        (lambda m: m.encode([[4]], LENGTHS), TypeError, "src"),
        (lambda m: m.encode(IDS.float(), LENGTHS), TypeError, "src"),
        (lambda m: m.encode(IDS.int(), LENGTHS), TypeError, "src"),
        (lambda m: m.encode(IDS[0], LENGTHS), ValueError, "src"),
        (lambda m: m.encode(IDS + 10, LENGTHS), ValueError, "src"),
        (lambda m: m.encode(IDS - 10, LENGTHS), ValueError, "src"),
        (lambda m: m.encode(IDS[:0], LENGTHS[:0]), ValueError, "src"),
        (lambda m: m.encode(IDS, None), TypeError, "src_lengths"),
        (lambda m: m.encode(IDS, LENGTHS.float()), TypeError, "src_lengths"),
        (lambda m: m.encode(IDS, LENGTHS[:1]), ValueError, "src_lengths"),
        (lambda m: m.encode(IDS, LENGTHS + 1), ValueError, "src_lengths"),
        (lambda m: m.encode(IDS, LENGTHS - 2), ValueError, "src_lengths"),
        (lambda m: speech(IDS), TypeError, "src"),
        (lambda m: speech(FEATURES.double()), TypeError, "src"),
        (lambda m: speech(FEATURES[0]), ValueError, "src"),
        (lambda m: speech(FEATURES[:, :, :5]), ValueError, "src"),
        (lambda m: m(IDS, LENGTHS, TARGET.float()), TypeError, "tgt"),
        (lambda m: m(IDS, LENGTHS, TARGET[:, :0]), ValueError, "tgt"),
        (lambda m: m(IDS, LENGTHS, TARGET[:1]), ValueError, "tgt"),
        (lambda m: m(IDS, LENGTHS, TARGET + 11), ValueError, "tgt"),
        (lambda m: m.loss(IDS, LENGTHS, TARGET[:, :1], TARGET_LENGTHS), ValueError, "tgt"),
        (lambda m: m.loss(IDS, LENGTHS, TARGET, [3, 2]), TypeError, "tgt_lengths"),
        (lambda m: m.loss(IDS, LENGTHS, TARGET, TARGET_LENGTHS + 1), ValueError, "tgt_lengths"),
        (lambda m: m.loss(IDS, LENGTHS, TARGET, TARGET_LENGTHS - 1), ValueError, "tgt_lengths"),
        (lambda m: m.loss(IDS, LENGTHS, TARGET, TARGET_LENGTHS, 2), ValueError, "label_smoothing"),
        (lambda m: m.loss(IDS, LENGTHS, TARGET, TARGET_LENGTHS, "a"), TypeError, "label_smoothing"),
        (lambda m: m.generate(IDS, LENGTHS, None), TypeError, "options"),
        (lambda m: m.generate(IDS, LENGTHS + 1, OPTIONS), ValueError, "src_lengths"),
        (lambda m: step(m, TARGET), ValueError, "tokens"),
        (lambda m: step(m, TARGET[0]), ValueError, "tokens"),
        (lambda m: step(m, TARGET[:0, 0]), ValueError, "tokens"),
        (lambda m: step(m, torch.tensor([0, 13])), ValueError, "tokens"),
        (lambda m: step(m, torch.tensor([0, 1, 2, 3])), ValueError, "state"),
        (lambda m: step(m, LENGTHS, state={}), ValueError, "state"),
        (lambda m: step(m, LENGTHS, state=None), TypeError, "state"),
        (lambda m: step(m, LENGTHS, memory=IDS), TypeError, "memory"),
        (lambda m: step(m, LENGTHS, packed=IDS), TypeError, "packed"),
    ],
)
def test_wrong_arguments_are_named(call, error, argument):
    with pytest.raises(error, match=rf"^Seq2Seq(\.\w+)?: {argument}: expected .*got"):
        call(make(torch.float32))


def step(model, tokens, **arguments):
    memory = model.encode(IDS, LENGTHS)
    return model.step(tokens, **{"state": memory.state, "memory": memory, **arguments})


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"source_vocabulary_size": None}, ValueError, "source_vocabulary_size"),
        ({"source_feature_size": 5}, ValueError, "source_feature_size"),
        ({"source_vocabulary_size": 0}, ValueError, "source_vocabulary_size"),
        ({"target_vocabulary_size": 2.5}, TypeError, "target_vocabulary_size"),
        ({"target_vocabulary_size": 3}, ValueError, "eos_id"),
        ({"hidden_size": 0}, ValueError, "hidden_size"),
        ({"embedding_size": True}, TypeError, "embedding_size"),
        ({"encoder_layers": 0}, ValueError, "encoder_layers"),
        ({"decoder_layers": "1"}, TypeError, "decoder_layers"),
        ({"attention_size": -1}, ValueError, "attention_size"),
        ({"cell": "LSTM"}, ValueError, "cell"),
        ({"attention": None}, ValueError, "attention"),
        ({"input_feeding": 1}, TypeError, "input_feeding"),
        ({"dropout": 1.0}, ValueError, "dropout"),
        ({"dropout": float("nan")}, ValueError, "dropout"),
        ({"dropout": "0.1"}, TypeError, "dropout"),
        ({"tie_output": "yes"}, TypeError, "tie_output"),
        ({"pad_id": -1}, ValueError, "pad_id"),
        ({"bos_id": 3}, ValueError, "bos_id"),
    ],
)
def test_wrong_config_fields_are_named(fields, error, field):
    values = {"source_vocabulary_size": 11, "target_vocabulary_size": 13}
    with pytest.raises(error, match=rf"^Seq2SeqConfig: .*\b{field}\b.*: expected .*got"):
        Seq2SeqConfig(**{**values, **fields})


def test_config_as_a_dict():
    config = make(dropout=0.25).config
    assert Seq2SeqConfig.from_dict(config.to_dict()) == config
    for values in ({**config.to_dict(), "units": 3}, {}):
        with pytest.raises(ValueError, match="Seq2SeqConfig: values: expected"):
            Seq2SeqConfig.from_dict(values)
