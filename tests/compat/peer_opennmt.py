"""OpenNMT-py's BeamSearch."""

from typing import Any

import torch
from compat.model import BOS, EOS, PAD, UNK, RandomModel

from benchmarks.rivals.opennmt_search import VERSION as VERSION
from benchmarks.rivals.opennmt_search import make_search

_SCORES = ("length_penalty", "alpha", "coverage_penalty", "beta")


def search(model: RandomModel, sentences: list[int], options: dict[str, Any]) -> list:
    beams, batch = options["beam_size"], len(sentences)
    search = make_search(
        batch,
        beam_size=beams,
        bos=BOS,
        pad=PAD,
        eos=EOS,
        unk=UNK,
        n_best=options["n_best"],
        min_length=max(options["min_length"] - 1, 0),
        max_length=options["max_length"],
        block_ngram_repeat=options.get("no_repeat_ngram_size", 0),
        stepwise_penalty=options.get("coverage_stepwise", False),
        **{name: options[name] for name in _SCORES if name in options},
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
