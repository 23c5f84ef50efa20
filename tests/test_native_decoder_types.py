"""The native decoder over weights in every type that this build packs."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from seq2seq_cases import OPTIONS, data, make, name
from test_native_decoder import MANY, assert_same_bits

from seq2seq_ext import Decoder, ops
from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.evaluation import error_rates
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
from seq2seq_ext.translator import Translator

G2P = Path(__file__).resolve().parents[1] / "examples" / "g2p.py"


def is_packed(dtype: str) -> bool:
    try:
        ops.linear_pack(torch.ones(1, 1), dtype=getattr(torch, dtype))
    except ValueError:
        return False
    return True


TYPES = [dtype for dtype in ("float32", "bfloat16", "int8") if is_packed(dtype)]
VARIANTS = [
    {"hidden_size": 70, "embedding_size": 33, "decoder_layers": 2, "encoder_layers": 2},
    {"cell": "gru", "attention": "general", "target_vocabulary_size": 1100},
    {"cell": "rnn", "attention": "scaled_dot", "tie_output": True, "input_feeding": False},
]


@pytest.fixture(autouse=True)
def one_thread(threads):
    """The models are too small to share among threads."""
    torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_the_loop_has_the_bits_of_the_step_function_search(isa, dtype, variant):
    model = make(dtype=torch.float32, seed=4, **variant).eval()
    src, src_lengths, _, _ = data(model, (5, 0, 7, 1, 3))
    assert_same_bits(Decoder(model, dtype), src, src_lengths, OPTIONS)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_a_source_gets_the_same_bits_in_any_batch(dtype, variant):
    model = make(dtype=torch.float32, seed=6, **variant).eval()
    src, src_lengths, _, _ = data(model, MANY)
    decoder = Decoder(model, dtype)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(decoder.generate(src, src_lengths, OPTIONS))
    for row, length in enumerate(MANY):
        alone = decoder.generate(
            src[row : row + 1, : max(length, 1)], src_lengths[row : row + 1], OPTIONS
        )
        for together in results:
            assert torch.equal(together.tokens[row, :, : alone.tokens.size(2)], alone.tokens[0])
            assert torch.equal(together.log_probs[row], alone.log_probs[0])


@pytest.mark.parametrize("dtype", TYPES)
def test_a_trained_model_says_the_same(dtype):
    """Every sequence of three out of five symbols, reversed."""
    torch.manual_seed(0)
    model = Seq2Seq(
        Seq2SeqConfig(
            source_vocabulary_size=9, target_vocabulary_size=9, embedding_size=16, hidden_size=32
        )
    )
    src = torch.tensor(list(itertools.product(range(4, 9), repeat=3)))
    src_lengths = torch.full((len(src),), 3)
    ends = torch.ones(len(src), 1, dtype=torch.int64)
    tgt = torch.cat((2 * ends, src.flip(1), 3 * ends), dim=1)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        adam.zero_grad()
        model.loss(src, src_lengths, tgt, torch.full((len(src),), 5)).backward()
        adam.step()
    options = BeamSearchOptions(bos_id=2, eos_id=3, pad_id=0, beam_size=3, max_length=8)
    found = Decoder(model, dtype).generate(src, src_lengths, options)
    assert torch.equal(found.tokens[:, 0], tgt[:, 1:])


@pytest.fixture(scope="module")
def g2p(tmp_path_factory):
    """The demo's model after a minute of training, with the words and sounds of its test set."""
    if not G2P.exists():
        pytest.skip("needs the source tree")
    folder = tmp_path_factory.mktemp("g2p")
    sys.path.insert(0, str(G2P.parent))
    from g2p import load_pairs

    from seq2seq_ext.text.corpus import group_references, split_by_hash

    subprocess.run(
        [sys.executable, str(G2P), "--minutes", "1", "--output", str(folder), "--test-words", "1"],
        check=True,
        capture_output=True,
    )
    _, _, test = split_by_hash(load_pairs(), (0.9, 0.05, 0.05))
    references = group_references(test)
    return (
        folder,
        list(references),
        [[said.split() for said in each] for each in references.values()],
    )


@pytest.mark.slow
def test_on_cmudict_a_weight_type_costs_no_words(g2p):
    """At most 0.2 % of the words, absolute, whichever the type."""
    folder, words, references = g2p
    torch.set_num_threads(2)
    rates = {}
    for dtype in TYPES:
        found = Translator(folder, dtype=dtype, batch_size=128).translate(words, max_length=40)
        rates[dtype] = error_rates([n_best[0].tokens for n_best in found], references)
    for dtype in TYPES:
        lost = rates[dtype].sequence_error_rate - rates["float32"].sequence_error_rate
        assert lost <= 0.002, dtype
