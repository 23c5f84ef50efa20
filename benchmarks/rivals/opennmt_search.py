"""OpenNMT-py's BeamSearch, set up for whoever drives it."""

import sys
from importlib.metadata import version
from typing import Any
from unittest.mock import MagicMock

# Only its data transforms use these.
for _name in ("spacy", "fasttext", "ahocorasick", "rapidfuzz", "pyonmttok"):
    sys.modules.setdefault(_name, MagicMock())
from onmt.translate import GNMTGlobalScorer  # noqa: E402
from onmt.translate.beam_search import BeamSearch  # noqa: E402

VERSION = version("OpenNMT-py")
_LENGTH = {"none": "none", "power": "avg", "gnmt": "wu"}
_COVERAGE = {"none": "none", "gnmt": "wu", "summary": "summary"}


def make_search(
    batch: int,
    *,
    bos: int,
    length_penalty: str = "none",
    alpha: float = 1.0,
    coverage_penalty: str = "none",
    beta: float = 0.0,
    **own: Any,
) -> BeamSearch:
    """A search of a batch; penalties by our names, the rest are its own arguments."""
    scorer = GNMTGlobalScorer(alpha, beta, _LENGTH[length_penalty], _COVERAGE[coverage_penalty])
    defaults = {
        "n_best": 1,
        "return_attention": False,
        "block_ngram_repeat": 0,
        "exclusion_tokens": set(),
        "stepwise_penalty": False,
        "ratio": 0.0,
        "ban_unk_token": False,
    }
    told = {**defaults, **own}
    return BeamSearch(batch_size=batch, bos=bos, start=bos, global_scorer=scorer, **told)
