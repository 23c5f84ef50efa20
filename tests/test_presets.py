"""Each preset against the system it is named after: as recorded, and live where it is installed.

``tests/compat`` holds a driver for each system, and what it found for random models, batches and
options (``compat/record.py`` made it; the files name the package's version).
"""

import itertools
import math
import warnings

import pytest
import torch
from compat.cases import COUNTS, PEERS, draw_cases, load, run
from compat.model import BOS, EOS, PAD, UNK, RandomModel

import seq2seq_ext
from seq2seq_ext.decoding import BeamSearchOptions, beam_search


def like(peer, **options):
    ids = {"bos_id": BOS, "eos_id": EOS, "pad_id": PAD}
    return BeamSearchOptions.like(peer, **{**ids, **options})


def search(peer, case, **changes):
    return result_of(peer, case, **changes).hypotheses


def result_of(peer, case, **changes):
    options = like(peer, **{**case["options"], **changes})
    model, sentences = RandomModel(**case["model"]), case["sentences"]

    def step(tokens, state):
        logits, state = model.step(tokens, state)
        if options.needs_attention:
            return logits, state, model.attention(state)
        return logits, state

    return beam_search(
        step,
        model.state(sentences, options.beam_size),
        batch_size=len(sentences),
        options=options,
        source_lengths=[model.SOURCE] * len(sentences),
    )


def is_made_up(hypothesis):
    """JoeyNMT fills missing hypotheses with an unknown word. We return fewer."""
    return hypothesis == ([UNK], -1.0)


def goes_on(tokens, case):
    """Behind an EOS, as CTranslate2 may with several (compat.cases says when)."""
    eos_id = case["options"].get("eos_id", EOS)
    return bool(set(tokens[:-1]) & set(eos_id if isinstance(eos_id, list) else [eos_id]))


def assert_equals(peer, case, found):
    for ours, theirs in zip(search(peer, case), found, strict=True):
        theirs = [(tokens, score) for tokens, score in theirs]
        if peer == "ctranslate2" and any(goes_on(tokens, case) for tokens, _ in theirs):
            continue
        if peer == "joeynmt":
            theirs = [each for each in theirs if not is_made_up(each)]
        assert [h.tokens for h in ours] == [tokens for tokens, _ in theirs], (case, ours, theirs)
        for hypothesis, (_, score) in zip(ours, theirs, strict=True):
            assert hypothesis.score == pytest.approx(score, rel=1e-5, abs=1e-5), case


@pytest.mark.parametrize("peer", PEERS)
def test_equals_recorded(peer):
    recorded = load(peer)["cases"]
    assert len(recorded) == COUNTS["cases"] >= 200
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


def repeats_a_bigram(tokens):
    return len(set(itertools.pairwise(tokens))) < len(tokens) - 1


def test_fairseq_s_ngram_blocking_is_not_copied():
    recorded = load("fairseq")["broken"]
    assert any(repeats_a_bigram(tokens) for c in recorded for f in c["found"] for tokens, _ in f)
    for case in recorded:
        for found in search("fairseq", case):
            assert found and not any(repeats_a_bigram(h.tokens) for h in found), case


def test_opennmt_s_ngram_blocking_of_a_batch_is_not_copied():
    """What it finds for each sentence alone is what we find, in a batch too."""
    recorded, differs = load("opennmt")["broken"], False
    for batch, *each in zip(*(recorded[i::4] for i in range(4)), strict=True):
        alone = [case["found"][0] for case in each]
        differs |= alone != batch["found"]
        assert_equals("opennmt", batch, alone)
    assert differs


def test_ctranslate2_s_several_eos_are_not_copied():
    recorded = load("ctranslate2")["broken"]
    assert any(goes_on(tokens, c) for c in recorded for f in c["found"] for tokens, _ in f)
    skipped = sum(
        goes_on(t, c) for c in load("ctranslate2")["cases"] for f in c["found"] for t, _ in f
    )
    assert skipped <= 2
    for case in recorded:
        assert not any(
            goes_on(h.tokens, case) for found in search("ctranslate2", case) for h in found
        )


def subtract_from_used(amount):
    """A hook: from the log-probs of the tokens used before."""

    def hook(prefixes, logits):
        used = torch.zeros_like(logits).scatter_(1, prefixes, amount)
        return logits.log_softmax(1) - used

    return hook


def test_beamgrad_s_repetition_penalty_is_a_hook():
    recorded = load("carry")["restated"]
    assert len(recorded) == COUNTS["restated"]
    for case in recorded:
        hook = subtract_from_used(math.log(case["options"]["repetition_penalty"]))
        changes = {"repetition_penalty": 1.0, "logits_hook": hook, "normalized": True}
        ours = search("carry", case, **changes)
        for found, theirs in zip(ours, case["found"], strict=True):
            assert [h.tokens for h in found] == [tokens for tokens, _ in theirs], case
            scores = [score for _, score in theirs]
            assert [h.score for h in found] == pytest.approx(scores, rel=1e-5, abs=1e-5)


def penalised(hypotheses, groups, penalty):
    """(tokens, sum less the penalties) of each: a penalty for each token of an earlier group at
    the same place.
    """
    ordered = [hypotheses[i] for i in sorted(range(len(groups)), key=lambda i: groups[i])]
    found = []
    for g, each in enumerate(ordered):
        uses = sum(a == b for o in ordered[:g] for a, b in zip(o.tokens, each.tokens, strict=True))
        found.append((each.tokens, each.log_prob - penalty * uses))
    return sorted(found)


def test_fairseq_s_groups_of_one_beam():
    recorded = load("fairseq")["restated"]
    assert len(recorded) == COUNTS["restated"]
    for case in recorded:
        ours, penalty = result_of("fairseq", case), case["options"]["diversity_penalty"]
        for found, rows, theirs in zip(
            ours.hypotheses, ours.rows[:, :, 0].tolist(), case["found"], strict=True
        ):
            expected = sorted((tokens, score) for tokens, score in theirs)
            got = penalised(found, rows, penalty)
            assert [tokens for tokens, _ in got] == [tokens for tokens, _ in expected], case
            sums = [score for _, score in expected]
            assert [total for _, total in got] == pytest.approx(sums, rel=1e-5, abs=1e-5)


RULES = ("eos_id", "no_repeat_ngram_size", "repetition_penalty", "banned", "coverage_penalty")


def test_rules_are_among_the_recorded():
    """Each rule that a system has, in at least 20 of its cases."""
    for peer, rules in {
        "transformers": RULES[:4],
        "fairseq": ("temperature", "prefix"),
        "opennmt": ("no_repeat_ngram_size", "coverage_penalty", "coverage_stepwise"),
        "ctranslate2": RULES[:4],
        "joeynmt": ("no_repeat_ngram_size", "repetition_penalty"),
        "carry": ("eos_id", "no_repeat_ngram_size", "banned"),
    }.items():
        plain = vars(like(peer))
        for rule in rules:
            used = [c for c in draw_cases(peer) if c["options"].get(rule) not in ([], None)]
            used = [c for c in used if c["options"][rule] != plain[rule]]
            assert len(used) >= 20, (peer, rule, len(used))


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
