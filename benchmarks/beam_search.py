"""What options of the search cost: nothing where they are off, and each where it is on.

The engine alone, on logits that are there already; then the native decode loop. Where options
differ, so do results, so nothing is compared here; the tests do that.
"""

import torch
from torch import Tensor

from benchmarks import nmt
from benchmarks.harness import Comparison, Run, compare
from seq2seq_ext import BeamSearch, BeamSearchOptions, Decoder, Seq2Seq, ops
from seq2seq_ext.decoding import TokenTrie

BATCH, BEAMS, STEPS, SOURCE = 8, 5, 30, 25
PLAIN = {
    "bos_id": 1,
    "eos_id": 2,
    "pad_id": 0,
    "beam_size": BEAMS,
    "max_length": STEPS,
    "min_length": STEPS,
}
OPTIONS = {
    "length penalty": {"length_penalty": "gnmt"},
    "coverage penalty": {"coverage_penalty": "gnmt", "beta": 0.2},
    "stepwise coverage": {"coverage_penalty": "gnmt", "beta": 0.2, "coverage_stepwise": True},
    "4 beams as 2 groups": {"beam_size": 4, "beam_groups": 2, "diversity_penalty": 0.5},
    "carry": {"finished": "carry"},
    "prefix of 2": {"prefix": [7, 8]},
    "temperature": {"temperature": 1.3},
    "repetition penalty": {"repetition_penalty": 1.2},
    "n-grams": {"no_repeat_ngram_size": 3},
    "100 banned": {"banned": list(range(100, 200))},
    "shortlist of 1,000": {"shortlist": [*range(1, 1000), 2]},
    "trie": {"trie": TokenTrie([range(4, 4 + STEPS)])},
    "2 phrases": {"phrases": [(10, 11), (12,)]},
    "top_k": {"top_k": 50},
    "top_p": {"top_p": 0.9},
    "ancestral sampling": {"sampling": "ancestral"},
    "Gumbel beams": {"sampling": "gumbel"},
    "hook": {"logits_hook": lambda prefixes, logits: logits},
    "on_step": {"on_step": lambda progress: None},
}


def _engine_runs(vocabulary: int) -> dict[str, Run]:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(4, BATCH * BEAMS, vocabulary, generator=generator) * 3
    attention = torch.rand(BATCH * BEAMS, SOURCE, generator=generator)

    def search(fields: dict) -> None:
        options = BeamSearchOptions(**{**PLAIN, **fields})
        engine = BeamSearch(BATCH, options, [SOURCE] * BATCH)
        weights = attention[: engine.rows] if options.needs_attention else None
        while not engine.done:
            engine.advance(table[engine.steps % 4, : engine.rows], weights)

    def rows_alone() -> None:
        for step in range(STEPS):
            ops.log_softmax_topk(table[step % 4], BEAMS + 1)

    def native_calls_alone() -> None:
        """What a search without options can't do without."""
        engine = BeamSearch(BATCH, BeamSearchOptions(**PLAIN))._engine
        for step in range(STEPS):
            log_probs, tokens = ops.log_softmax_topk(table[step % 4], BEAMS + 1)
            engine.advance(log_probs.numpy(), tokens.numpy())

    runs: dict[str, Run] = {
        "no option": lambda: search({}),
        "its native calls alone": native_calls_alone,
        "its row kernel alone": rows_alone,
    }
    return runs | {
        name: lambda fields=fields: search(fields)  # type: ignore[misc]
        for name, fields in OPTIONS.items()
    }


def _decoder_runs(model: Seq2Seq) -> dict[str, Run]:
    decoder = Decoder(model)
    src, lengths = nmt.sources(BATCH, model.config.source_vocabulary_size or 0, SOURCE)

    def decode(fields: dict) -> Tensor:
        options = BeamSearchOptions(**{**PLAIN, "bos_id": 2, "eos_id": 3, **fields})
        return decoder.generate(src, lengths, options).tokens

    runs: dict[str, Run] = {"no option": lambda: decode({})}
    return runs | {
        name: lambda fields=fields: decode(_with_eos(fields))  # type: ignore[misc]
        for name, fields in OPTIONS.items()
    }


def _with_eos(fields: dict) -> dict:
    """A shortlist must hold the decoder's EOS."""
    return fields if "shortlist" not in fields else {"shortlist": [*fields["shortlist"], 3]}


def _compare(work: str, runs: dict[str, Run], seconds: float) -> Comparison:
    runs = dict(runs)
    return compare(work, runs.pop("no option"), runs, seconds=seconds, equal=False)


def run() -> list[Comparison]:
    shape = f"{BATCH} sentences x {BEAMS} beams, {STEPS} steps"
    return [
        _compare(f"Search engine without options, {shape}, V=32k", _engine_runs(32_000), 15),
        _compare(f"Search engine without options, {shape}, V=1k", _engine_runs(1000), 5),
        _compare(f"Decoding without options, {shape}, V=32k", _decoder_runs(nmt.build_model()), 25),
    ]
