"""How time grows with each size: itself against itself, twice as much at a time."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from benchmarks import nmt
from benchmarks.harness import Comparison, Run, measure
from seq2seq_ext import LSTM, Decoder
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig


@dataclass(frozen=True)
class _Sizes:
    B: int = 8
    T: int = 16  # steps of the decoder
    S: int = 32
    V: int = 4_000
    K: int = 4
    H: int = 256
    layers: int = 1


def _decode(sizes: _Sizes) -> Run:
    torch.manual_seed(0)
    config = Seq2SeqConfig(
        source_vocabulary_size=100,
        target_vocabulary_size=sizes.V,
        embedding_size=sizes.H,
        hidden_size=sizes.H,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
    )
    model = Seq2Seq(config)
    decoder = Decoder(model)
    options = replace(nmt.search_options(model, sizes.T), beam_size=sizes.K)
    src, lengths = nmt.sources(sizes.B, 100, sizes.S)
    return lambda: decoder.generate(src, lengths, options)


def _layer(sizes: _Sizes) -> Run:
    torch.manual_seed(0)
    lstm = LSTM(sizes.H, sizes.H, sizes.layers, bidirectional=True).eval()
    x = torch.randn(sizes.T, sizes.B, sizes.H)
    return torch.inference_mode()(lambda: lstm(x))


def _doublings(
    work: str, make: Callable[[_Sizes], Run], dims: str, longest: int
) -> Iterator[Comparison]:
    for dim in dims.split():
        base = getattr(_Sizes(), dim)
        values = [base * 2**i for i in range(longest)]
        runs = {f"{dim}={v}": make(replace(_Sizes(), **{dim: v})) for v in values}
        growth = Comparison(f"Growth of {work} with {dim}", measure(runs, seconds=4))
        first, last = growth.timings[0], growth.timings[-1]
        power = math.log2(last.median / first.median) / (longest - 1)
        print(f"    {growth.work}: {dim}^{power:.2f}")
        yield growth


def run() -> list[Comparison]:
    return [
        *_doublings("a bidirectional LSTM", _layer, "B T H layers", 4),
        *_doublings("a whole decode", _decode, "B T S V K H layers", 4),
    ]
