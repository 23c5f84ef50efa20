"""Random cases for each peer, the same on every machine, and where their results are kept."""

import gzip
import importlib
import json
import random
from pathlib import Path
from typing import Any

from compat.model import EOS, RandomModel

PEERS = ("transformers", "fairseq", "opennmt", "ctranslate2", "joeynmt", "carry")
# How many of each kind: ordinary ones; beams that a vocabulary can't fill; rules that a peer has
# but does not keep; rules that mean something else there, and that ours can be told.
COUNTS = {"cases": 240, "crowded": 80, "broken": 40, "restated": 40}

Case = dict[str, Any]  # model, sentences, options
Found = list[list[tuple[list[int], float]]]  # n-best tokens and scores of each sentence


# These call one beam greedy search, which knows no options of beam search.
_LEAST_BEAMS = {"transformers": 2, "ctranslate2": 2}


def draw_cases(peer: str, kind: str = "cases") -> list[Case]:
    """Models, batches and options."""
    if kind in _SPECIAL and peer not in _SPECIAL[kind]:
        return []
    draw = random.Random(f"{peer} {kind}")
    if (peer, kind) == ("opennmt", "broken"):
        return [c for _ in range(COUNTS[kind] // 4) for c in _with_each_alone(peer, draw, kind)]
    return [_draw_case(peer, draw, kind) for _ in range(COUNTS[kind])]


def _with_each_alone(peer: str, draw: random.Random, kind: str) -> list[Case]:
    """A batch of three, and each of them in a batch of its own."""
    case = _draw_case(peer, draw, kind)
    sentences = draw.sample(range(4, case["model"]["vocab"]), 3)
    return [{**case, "sentences": s} for s in (sentences, *([each] for each in sentences))]


def _draw_case(peer: str, draw: random.Random, kind: str) -> Case:
    crowded = kind == "crowded"
    beam_size = draw.randint(5, 8) if crowded else draw.randint(_LEAST_BEAMS.get(peer, 1), 6)
    vocab = 5 if crowded else draw.choice([2 * beam_size + 9, 21, 21, 40])
    max_length = draw.randint(2, 12)
    draw_penalty, draw_rules = _DRAW[peer]
    options = {
        "beam_size": beam_size,
        "n_best": draw.randint(1, beam_size),
        "max_length": max_length,
        "min_length": draw.choice([0, 0, draw.randint(0, max_length)]),
        **draw_penalty(draw),
    }
    if kind in _SPECIAL:
        options |= _SPECIAL[kind][peer](draw, options)
    # Rules would crowd a small vocabulary in ways of their own.
    elif not crowded and draw.random() < 0.6:
        options |= draw_rules(draw)
        if "prefix" in options:
            options["prefix"] = options["prefix"][: max_length - 1]
    is_alone = crowded or (peer == "opennmt" and options.get("no_repeat_ngram_size", 0) > 0)
    return {
        "model": {
            "vocab": vocab,
            "seed": draw.randrange(1 << 31),
            "spread": draw.choice([0.7, 1.5, 3.0]),
            "eos_bias": draw.choice([0.0, 1.0, 2.0]),
        },
        "sentences": draw.sample(range(4, vocab), 1 if is_alone else draw.randint(1, 3)),
        "options": options,
    }


def _ngram(draw: random.Random) -> int:
    return draw.choice([0, 0, 2, 3])


def _transformers(draw: random.Random) -> dict[str, Any]:
    return {
        "alpha": draw.choice([-1.0, 0.0, 0.5, 1.0, 1.0, 2.0]),
        "early_stopping": draw.choice([True, False, "never"]),
    }


def _transformers_rules(draw: random.Random) -> dict[str, Any]:
    return {
        "eos_id": draw.choice([EOS, [EOS, 4], [EOS, 4, 5]]),
        "no_repeat_ngram_size": _ngram(draw),
        "repetition_penalty": draw.choice([1.0, 1.0, 1.4, 0.8]),
        "banned": draw.choice([[], [[6], [7, 8]]]),
    }


def _fairseq(draw: random.Random) -> dict[str, Any]:
    return {"alpha": draw.choice([-0.5, 0.0, 0.6, 1.0, 1.5])}


def _fairseq_rules(draw: random.Random) -> dict[str, Any]:
    return {
        "temperature": draw.choice([1.0, 1.0, 0.7, 1.8]),
        "prefix": draw.choice([[], [], [5], [7, 4]]),
    }


def _opennmt(draw: random.Random) -> dict[str, Any]:
    return {
        "length_penalty": draw.choice(["none", "power", "gnmt"]),
        "alpha": draw.choice([0.5, 1.0, 1.5]),
    }


def _opennmt_rules(draw: random.Random) -> dict[str, Any]:
    """Its stepwise penalty is divided by the length penalty, and gnmt's counts from the second
    step on: comparable for "summary" without a length penalty.
    """
    coverage: dict[str, Any] = {}
    if draw.random() < 0.7:
        kind = draw.choice(["gnmt", "summary"])
        coverage = {"coverage_penalty": kind, "beta": draw.choice([0.2, 0.8])}
        if kind == "summary" and draw.random() < 0.6:
            coverage |= {"coverage_stepwise": True, "length_penalty": "none"}
    return {"no_repeat_ngram_size": _ngram(draw), **coverage}


def _ctranslate2(draw: random.Random) -> dict[str, Any]:
    return {
        "alpha": draw.choice([0.0, 0.0, 0.5, 1.0, 2.0]),
        "patience": draw.choice([1.0, 1.5, 2.0]),
    }


def _ctranslate2_rules(draw: random.Random) -> dict[str, Any]:
    return {
        "eos_id": draw.choice([EOS, EOS, [EOS, 4]]),
        "no_repeat_ngram_size": _ngram(draw),
        "repetition_penalty": draw.choice([1.0, 1.0, 1.4]),
        "banned": draw.choice([[], [[6], [7, 8]]]),
    }


def _joeynmt(draw: random.Random) -> dict[str, Any]:
    return {"alpha": draw.choice([0.0, 0.6, 1.0, 2.0])}


def _joeynmt_rules(draw: random.Random) -> dict[str, Any]:
    return {
        "no_repeat_ngram_size": _ngram(draw),
        "repetition_penalty": draw.choice([1.0, 1.0, 1.4]),
    }


def _carry(draw: random.Random) -> dict[str, Any]:
    return {"length_penalty": "gnmt", "alpha": draw.choice([0.0, 0.6, 1.0, 2.0])}


def _carry_rules(draw: random.Random) -> dict[str, Any]:
    return {
        "eos_id": draw.choice([EOS, [EOS, 4], [EOS, 4, 5]]),
        "no_repeat_ngram_size": draw.choice([0, 0, 1, 2]),
        "banned": draw.choice([[], [6, 7]]),
    }


# fairseq's n-gram blocking compares, on a CPU, the padding behind a hypothesis instead of its
# end. OpenNMT-py's mixes sentences up once one of a batch is done. CTranslate2 takes 2 * beam_size
# candidates with several EOS too: where more than beam_size of them end, one goes on.
_BROKEN = {
    "fairseq": lambda draw, options: {"no_repeat_ngram_size": 2},
    "opennmt": lambda draw, options: {"no_repeat_ngram_size": 2},
    "ctranslate2": lambda draw, options: {"eos_id": [EOS, 4, 5]},
}


def _groups(draw: random.Random, options: dict[str, Any]) -> dict[str, Any]:
    """fairseq's groups share one pool, and its scores hold the penalties: comparable where each
    is one beam and all end at the same step.
    """
    return {
        "alpha": 0.0,
        "min_length": options["max_length"],
        "n_best": options["beam_size"],
        "beam_groups": options["beam_size"],
        "diversity_penalty": draw.choice([0.3, 0.8, 2.0]),
    }


def _repetition(draw: random.Random, options: dict[str, Any]) -> dict[str, Any]:
    """beamgrad subtracts the penalty's logarithm: for us a hook."""
    return {"repetition_penalty": draw.choice([1.2, 1.5, 3.0])}


_RESTATED = {"fairseq": _groups, "carry": _repetition}
_SPECIAL = {"broken": _BROKEN, "restated": _RESTATED}

_DRAW = {
    "transformers": (_transformers, _transformers_rules),
    "fairseq": (_fairseq, _fairseq_rules),
    "opennmt": (_opennmt, _opennmt_rules),
    "ctranslate2": (_ctranslate2, _ctranslate2_rules),
    "joeynmt": (_joeynmt, _joeynmt_rules),
    "carry": (_carry, _carry_rules),
}


def run(peer: str, case: Case) -> Found:
    """What the installed package finds."""
    module = importlib.import_module(f"compat.peer_{peer}")
    return module.search(RandomModel(**case["model"]), case["sentences"], case["options"])


def _file(peer: str) -> Path:
    return Path(__file__).parent / "recorded" / f"{peer}.json.gz"


def record(peer: str) -> None:
    """Keeps what the installed package finds."""
    version = importlib.import_module(f"compat.peer_{peer}").VERSION
    cases = {kind: _with_found(peer, draw_cases(peer, kind)) for kind in COUNTS}
    text = json.dumps({"version": version, **cases}, separators=(",", ":"))
    _file(peer).parent.mkdir(exist_ok=True)
    _file(peer).write_bytes(gzip.compress(text.encode(), mtime=0))


def _with_found(peer: str, cases: list[Case]) -> list[Case]:
    def rounded(found: Found) -> Found:
        return [[(tokens, float(f"{score:.8g}")) for tokens, score in each] for each in found]

    return [{**case, "found": rounded(run(peer, case))} for case in cases]


def load(peer: str) -> dict[str, Any]:
    """The package's ``"version"``, and its cases of each kind with what it ``"found"``."""
    return json.loads(gzip.decompress(_file(peer).read_bytes()))
