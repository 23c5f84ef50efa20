"""Each preset against the system it is named after: as recorded, and live where it is installed.

``tests/compat`` holds a driver for each system, and what it found for random models, batches and
options (``python -m compat.record`` made it; the files name the package's version).
"""

import warnings

import pytest
from compat.cases import COUNT, PEERS, draw_cases, load, run
from compat.model import BOS, EOS, PAD, UNK, RandomModel

import seq2seq_ext
from seq2seq_ext.decoding import BeamSearchOptions, beam_search


def like(peer, **options):
    return BeamSearchOptions.like(peer, bos_id=BOS, eos_id=EOS, pad_id=PAD, **options)


def search(peer, case):
    options = like(peer, **case["options"])
    model, sentences = RandomModel(**case["model"]), case["sentences"]
    return beam_search(
        model.step,
        model.state(sentences, options.beam_size),
        batch_size=len(sentences),
        options=options,
    ).hypotheses


def is_made_up(hypothesis):
    """JoeyNMT fills missing hypotheses with an unknown word. We return fewer."""
    return hypothesis == ([UNK], -1.0)


def assert_equals(peer, case, found):
    for ours, theirs in zip(search(peer, case), found, strict=True):
        theirs = [(tokens, score) for tokens, score in theirs]
        if peer == "joeynmt":
            theirs = [each for each in theirs if not is_made_up(each)]
        assert [h.tokens for h in ours] == [tokens for tokens, _ in theirs], (case, ours, theirs)
        for hypothesis, (_, score) in zip(ours, theirs, strict=True):
            assert hypothesis.score == pytest.approx(score, rel=1e-5, abs=1e-5), case


@pytest.mark.parametrize("peer", PEERS)
def test_equals_recorded(peer):
    recorded = load(peer)["cases"]
    assert len(recorded) == COUNT >= 200
    for drawn, case in zip(draw_cases(peer), recorded, strict=True):
        assert drawn == {name: case[name] for name in drawn}, "record anew"
        assert_equals(peer, case, case["found"])


@pytest.mark.parametrize("peer", PEERS)
def test_equals_live(peer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(f"compat.peer_{peer}", exc_type=ImportError)
        for case in draw_cases(peer):
            assert_equals(peer, case, run(peer, case))


def is_junk(hypothesis):
    """Goes on behind its EOS, is scored as nothing can be, or is made up."""
    tokens, score = hypothesis
    return EOS in tokens[:-1] or score < -1e4 or is_made_up((tokens, score))


@pytest.mark.parametrize("peer", PEERS)
def test_bugs_are_not_copied(peer):
    """Beams that a vocabulary can't fill: places without a hypothesis, masked by a large number
    there, end and are returned by fairseq, OpenNMT-py, CTranslate2 and JoeyNMT.
    """
    recorded = load(peer)["crowded"]
    theirs = [tuple(each) for case in recorded for found in case["found"] for each in found]
    assert any(map(is_junk, theirs)) == (peer not in ("transformers", "carry"))
    for case in recorded:
        for found in search(peer, case):
            hypotheses = [(h.tokens, h.score) for h in found]
            assert not any(map(is_junk, hypotheses)), case
            assert len({tuple(tokens) for tokens, _ in hypotheses}) == len(hypotheses), case
    if peer == "carry":
        for case in recorded:
            assert_equals(peer, case, case["found"])


@pytest.mark.parametrize("peer", PEERS)
def test_reference_agrees(peer):
    recorded = load(peer)
    for case in [*recorded["cases"][:25], *recorded["crowded"][:10]]:
        ours = search(peer, case)
        with seq2seq_ext.backend("reference"):
            plain = search(peer, case)
        for a, b in zip(ours, plain, strict=True):
            assert [h.tokens for h in a] == [h.tokens for h in b], case
            assert [h.score for h in a] == pytest.approx([h.score for h in b], rel=1e-9)


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        ("marian", {}, "system: expected one of"),
        ("transformers", {"early_stopping": "first"}, "early_stopping: expected True, False"),
        ("transformers", {"early_stopping": 1.5}, "early_stopping: expected True, False"),
        ("fairseq", {"banned": 7}, "banned"),
        ("fairseq", {"beam_size": 0}, "beam_size"),
    ],
)
def test_wrong_arguments(system, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        like(system, **options)
