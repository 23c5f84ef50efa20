"""What other systems got wrong, one test a bug, where no other file has it already.

Elsewhere: states that aren't reordered (transformers), test_beam_search's
test_any_nesting_of_state_is_reordered; per-token values of the wrong row (CTranslate2),
test_log_probs_are_those_of_teacher_forcing; attention of the wrong beam (GNMT, CTranslate2),
test_attention_follows_the_back_pointers; a coverage penalty that isn't applied or is infinite
where sources are padded (CTranslate2, OpenNMT-py), the coverage options of test_search_brute_force
and test_search_options; results that depend on the batch (nearly all), every test of a sentence
alone and in company; junk where the vocabulary can't fill the beam, n-gram blocking and several
EOS (fairseq, OpenNMT-py, CTranslate2, JoeyNMT), test_presets.
"""

import pytest
import torch
from prefix_model import BOS, PrefixModel
from test_beam_search import assert_equals_reference, search

from seq2seq_ext.decoding import BeamSearchOptions, beam_search

VOCAB, PAD_ID = 7, 0


def options(**fields) -> BeamSearchOptions:
    defaults = {"bos_id": BOS, "eos_id": 3, "pad_id": PAD_ID, "beam_size": 4, "n_best": 4}
    return BeamSearchOptions(**{**defaults, "max_length": 8, **fields})


@pytest.mark.parametrize("seed", range(8))
def test_padding_with_id_zero_is_padding(seed):
    """transformers pads with EOS where the pad id is 0."""
    found = search(PrefixModel(VOCAB, seed), options(), range(3))
    assert found.lengths.unique().numel() > 1
    past = torch.arange(found.tokens.size(2), device="cpu") >= found.lengths[:, :, None]
    assert past.any() and found.tokens[past].eq(PAD_ID).all()


@pytest.mark.parametrize("penalty", ["power", "gnmt", "average"])
def test_an_unfinished_hypothesis_is_normalised_too(penalty):
    """GNMT leaves what reaches the greatest length with its plain sum."""
    length = 5
    chosen = options(max_length=length, length_penalty=penalty, alpha=0.7, early_stopping="none")
    found = search(PrefixModel(VOCAB, 3), chosen, range(6))
    whole = found.lengths.eq(length) & found.tokens[:, :, length - 1].ne(3)
    norm = {"power": length**0.7, "gnmt": ((5 + length) / 6) ** 0.7, "average": length}[penalty]
    assert whole.any()
    torch.testing.assert_close(found.scores[whole], found.log_probs[whole] / norm)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("force_eos", [False, True])
def test_there_is_one_eos_and_it_is_last(seed, force_eos):
    """ESPnet adds a second EOS at the greatest length, ParlAI goes on behind the first."""
    found = search(PrefixModel(VOCAB, seed), options(max_length=3, force_eos=force_eos), range(4))
    for sentence in found.hypotheses:
        for hypothesis in sentence:
            assert 3 not in hypothesis.tokens[:-1] and len(hypothesis.tokens) <= 3
            assert hypothesis.tokens[-1] == 3 or not force_eos


@pytest.mark.parametrize("seed", range(4))
def test_many_finished_beams(seed):
    """ONNX Runtime ran over its buffer when many beams end at once, and was wrong for rows > 0."""
    model = PrefixModel(40, seed)
    model.logits[:, 3:20] += 6  # most candidates are EOS of some kind
    chosen = options(beam_size=12, n_best=12, eos_id=list(range(3, 20)), early_stopping="none")
    assert_equals_reference(model, chosen, range(5))


@pytest.mark.parametrize("beam_size", [64, 1000])
def test_a_beam_far_beyond_the_vocabulary_ends(beam_size):
    """TensorRT-LLM never ends with large beams."""
    chosen = options(beam_size=beam_size, n_best=beam_size, max_length=4)
    assert_equals_reference(PrefixModel(5, 1), chosen, range(2))


def test_a_stop_token_need_not_be_the_eos_that_others_have():
    """TensorRT-LLM crashes where a stop token isn't its EOS."""
    table = torch.full((VOCAB, VOCAB), -20.0)
    table[BOS, 4] = table[4, 5] = table[5, 6] = 0.0
    found = beam_search(
        lambda tokens, state: (table[tokens], state),
        (),
        batch_size=1,
        options=options(eos_id=[3, 6], n_best=1),
    )
    assert found.tokens[0, 0].tolist() == [4, 5, 6] and found.hypotheses[0][0].reason == "eos"
