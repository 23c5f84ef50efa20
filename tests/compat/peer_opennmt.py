"""OpenNMT-py's BeamSearch."""

import sys
from importlib.metadata import version
from typing import Any
from unittest.mock import MagicMock

import torch
from compat.model import BOS, EOS, PAD, UNK, RandomModel

# Only its data transforms use these.
for _name in ("spacy", "fasttext", "ahocorasick", "rapidfuzz", "pyonmttok"):
    sys.modules.setdefault(_name, MagicMock())
from onmt.translate import GNMTGlobalScorer  # noqa: E402
from onmt.translate.beam_search import BeamSearch  # noqa: E402

VERSION = version("OpenNMT-py")
_PENALTIES = {"none": "none", "power": "avg", "gnmt": "wu"}
_COVERAGE = {"none": "none", "gnmt": "wu", "summary": "summary"}


def search(model: RandomModel, sentences: list[int], options: dict[str, Any]) -> list:
    beams, batch = options["beam_size"], len(sentences)
    search = BeamSearch(
        beams,
        batch,
        pad=PAD,
        bos=BOS,
        eos=EOS,
        unk=UNK,
        start=BOS,
        n_best=options["n_best"],
        global_scorer=GNMTGlobalScorer(
            options["alpha"],
            options.get("beta", 0.0),
            _PENALTIES[options["length_penalty"]],
            _COVERAGE[options.get("coverage_penalty", "none")],
        ),
        min_length=max(options["min_length"] - 1, 0),
        max_length=options["max_length"],
        return_attention=False,
        block_ngram_repeat=options.get("no_repeat_ngram_size", 0),
        exclusion_tokens=set(),
        stepwise_penalty=options.get("coverage_stepwise", False),
        ratio=0.0,
        ban_unk_token=False,
    )
    lengths = torch.full((batch,), model.SOURCE)
    search.initialize(torch.zeros(batch, model.SOURCE, 1), lengths)
    state = model.state(sentences, beams)
    for _ in range(options["max_length"]):
        logits, state = model.step(search.current_predictions, state)
        search.advance(logits.log_softmax(1), model.attention(state)[:, None])
        if any(any(finished) for finished in search.is_finished_list):
            search.update_finished()
            if search.done:
                break
        state = {name: part[search.select_indices] for name, part in state.items()}
    return [
        [(tokens.tolist(), float(score)) for tokens, score in zip(found, scores, strict=True)]
        for found, scores in zip(search.predictions, search.scores, strict=True)
    ]
