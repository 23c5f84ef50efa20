"""The probes that benchmarks hold their times against."""

import pytest
import torch
from weight_cases import DTYPES

from benchmarks import floors
from benchmarks.floors import Need, Probe
from benchmarks.needs import Decoding, training
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig

probes = torch.ops.seq2seq_ext


@pytest.mark.parametrize("dtype", [torch.float32, *DTYPES])
def test_operations_are_counted(dtype, weight_isa, threads):
    torch.set_num_threads(1)
    one = probes.floor_multiply(dtype, 1)
    torch.set_num_threads(2)
    assert one > 0
    assert probes.floor_multiply(dtype, 10) == 20 * one
    assert probes.floor_multiply(dtype, 0) == 0


@pytest.mark.parametrize("dtype", [torch.float32, *DTYPES])
def test_operations_of_brgemm_are_counted(dtype, threads):
    torch.set_num_threads(2)
    operations = 2 * 2 * 64 * 64 * 1024
    has_it = dtype == torch.float32 or probes.floor_brgemm(dtype, 1)
    assert probes.floor_brgemm(dtype, 3) == (3 * operations if has_it else 0)


def test_bytes_are_counted(isa):
    assert probes.floor_read(torch.ones(2, 3072, dtype=torch.uint8), 5) == 2 * 3072 * 5


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"^floor_multiply: dtype: expected .*, got Double"):
        probes.floor_multiply(torch.float64, 1)
    with pytest.raises(ValueError, match=r"^floor_brgemm: dtype: expected .*, got Double"):
        probes.floor_brgemm(torch.float64, 1)
    with pytest.raises(TypeError, match=r"^floor_read: buffer: expected Byte on cpu, got Float"):
        probes.floor_read(torch.ones(2, 1024), 1)
    for wrong in (torch.ones(2, 1000), torch.ones(1024, 2).t()):
        with pytest.raises(ValueError, match=r"^floor_read: buffer: expected contiguous rows"):
            probes.floor_read(wrong.byte(), 1)
    with pytest.raises(ValueError, match=r"^floor_read: buffer: expected 2 dimensions"):
        probes.floor_read(torch.ones(1024).byte(), 1)


def test_parts_that_follow_one_another_add_up():
    one, two = Need(1e9), Need(2e9, bytes=1e3)
    probe = Probe(one, two)
    probe.sample()
    floor = probe.floor()
    assert floor.seconds == pytest.approx(3e9 / floor.rates["float32"])
    assert floor.brgemm_seconds == pytest.approx(3e9 / floor.rates["float32 brgemm"])


def test_without_brgemm_there_is_no_floor_of_it():
    rates = {"float32": 1e9, "int8": 4e9, "float32 brgemm": 5e8, "int8 brgemm": 0.0, "L3": 1e9}
    products, both = Need(1e9, bytes=3e9), Need(1e9, "int8")
    assert floors.floor([products], rates) == floors.Floor(3.0, rates, 3.0)
    assert floors.floor([Need(1e9)], rates).brgemm_seconds == 2.0
    assert floors.floor([products, both], rates).brgemm_seconds is None


def test_needs_of_a_small_model():
    """H = 2, E = 3: one bidirectional layer, one decoder layer fed with 2 values, V = 7."""
    model = Seq2Seq(
        Seq2SeqConfig(
            source_vocabulary_size=5,
            target_vocabulary_size=7,
            embedding_size=3,
            hidden_size=2,
            encoder_layers=1,
            decoder_layers=1,
        )
    )
    source = 2 * 8 * (3 + 2) + 2 * 4  # both directions' gates; the keys
    step = 8 * (3 + 2 + 2) + 2 * 2 + 2 * (2 + 4)  # gates; the query; attention's vector
    attention = 2 + 4
    decoding = Decoding.of([[(4, 3), (2, 1)], [(5, 2)]], beams=2)
    assert decoding == Decoding(source_tokens=11, rows=5 + 1 + 3, steps=5, pairs=20 + 2 + 15)
    encoder, decoder, scores = decoding.needs(model, "int8")
    assert encoder == Need(2.0 * 11 * source, "int8")
    assert decoder == Need(2.0 * 9 * (step + 14), "int8", 5 * (step + 14), "L3")
    assert scores == Need(2.0 * 37 * attention)
    products, scores = training(model, torch.tensor([4, 2]), torch.tensor([3, 2]), "bfloat16")
    assert products == Need(6.0 * (6 * source + 3 * (step + 14)), "bfloat16")
    assert scores == Need(6.0 * (8 + 2) * attention)
