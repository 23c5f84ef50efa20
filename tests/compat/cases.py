"""Random cases for each peer, the same on every machine, and where their results are kept."""

import gzip
import importlib
import json
import random
from pathlib import Path
from typing import Any

from compat.model import RandomModel

PEERS = ("transformers", "fairseq", "opennmt", "ctranslate2", "joeynmt", "carry")
COUNT, CROWDED = 240, 40

Case = dict[str, Any]  # model, sentences, options
Found = list[list[tuple[list[int], float]]]  # n-best tokens and scores of each sentence


# These call one beam greedy search, which knows no options of beam search.
_LEAST_BEAMS = {"transformers": 2, "ctranslate2": 2}


def draw_cases(peer: str, count: int = COUNT, *, crowded: bool = False) -> list[Case]:
    """Models, batches and options; ``crowded``: beams that a vocabulary can't fill."""
    draw = random.Random(f"{peer} {crowded}")
    return [_draw_case(peer, draw, crowded) for _ in range(count)]


def _draw_case(peer: str, draw: random.Random, crowded: bool) -> Case:
    beam_size = draw.randint(5, 8) if crowded else draw.randint(_LEAST_BEAMS.get(peer, 1), 6)
    vocab = 5 if crowded else draw.choice([2 * beam_size + 5, 17, 17, 40])
    max_length = draw.randint(2, 12)
    return {
        "model": {
            "vocab": vocab,
            "seed": draw.randrange(1 << 31),
            "spread": draw.choice([0.7, 1.5, 3.0]),
            "eos_bias": draw.choice([0.0, 1.0, 2.0]),
        },
        "sentences": draw.sample(range(4, vocab), 1 if crowded else draw.randint(1, 3)),
        "options": {
            "beam_size": beam_size,
            "n_best": draw.randint(1, beam_size),
            "max_length": max_length,
            "min_length": draw.choice([0, 0, draw.randint(0, max_length)]),
            **_DRAW_PENALTY[peer](draw),
        },
    }


def _transformers(draw: random.Random) -> dict[str, Any]:
    return {
        "alpha": draw.choice([-1.0, 0.0, 0.5, 1.0, 1.0, 2.0]),
        "early_stopping": draw.choice([True, False, "never"]),
    }


def _fairseq(draw: random.Random) -> dict[str, Any]:
    return {"alpha": draw.choice([-0.5, 0.0, 0.6, 1.0, 1.5])}


def _opennmt(draw: random.Random) -> dict[str, Any]:
    return {
        "length_penalty": draw.choice(["none", "power", "gnmt"]),
        "alpha": draw.choice([0.5, 1.0, 1.5]),
    }


def _ctranslate2(draw: random.Random) -> dict[str, Any]:
    return {
        "alpha": draw.choice([0.0, 0.0, 0.5, 1.0, 2.0]),
        "patience": draw.choice([1.0, 1.5, 2.0]),
    }


def _joeynmt(draw: random.Random) -> dict[str, Any]:
    return {"alpha": draw.choice([0.0, 0.6, 1.0, 2.0])}


def _carry(draw: random.Random) -> dict[str, Any]:
    return {"length_penalty": "gnmt", "alpha": draw.choice([0.0, 0.6, 1.0, 2.0])}


_DRAW_PENALTY = {
    "transformers": _transformers,
    "fairseq": _fairseq,
    "opennmt": _opennmt,
    "ctranslate2": _ctranslate2,
    "joeynmt": _joeynmt,
    "carry": _carry,
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
    cases = {
        "cases": _with_found(peer, draw_cases(peer)),
        "crowded": _with_found(peer, draw_cases(peer, CROWDED, crowded=True)),
    }
    text = json.dumps({"version": version, **cases}, separators=(",", ":"))
    _file(peer).parent.mkdir(exist_ok=True)
    _file(peer).write_bytes(gzip.compress(text.encode(), mtime=0))


def _with_found(peer: str, cases: list[Case]) -> list[Case]:
    def rounded(found: Found) -> Found:
        return [[(tokens, float(f"{score:.8g}")) for tokens, score in each] for each in found]

    return [{**case, "found": rounded(run(peer, case))} for case in cases]


def load(peer: str) -> dict[str, Any]:
    """The package's ``"version"``, ``"cases"`` and ``"crowded"`` ones, with what it ``"found"``."""
    return json.loads(gzip.decompress(_file(peer).read_bytes()))
