"""What options become for a search on a GPU."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from seq2seq_ext.decoding.options import BeamSearchOptions


def group_beams(options: BeamSearchOptions) -> int:
    return options.beam_size // options.beam_groups


def pool_size(options: BeamSearchOptions) -> int:
    """As Group's."""
    beams = group_beams(options)
    if options.sampling == "ancestral":
        return beams
    returned = min(options.n_best, beams)
    if options.early_stopping == "exact":
        return returned
    return max(returned, math.floor(options.patience * beams + 0.5))


def noise_places(options: Sequence[BeamSearchOptions]) -> Tensor:
    """``[N, 2]`` words: the seed, and the step and lane as halves of the other."""
    seeds = [each.seed for each in options for _ in range(each.beam_size)]
    lanes = [lane for each in options for lane in range(each.beam_size)]
    words = [
        (seed - (seed >> 63 << 64), lane << 32) for seed, lane in zip(seeds, lanes, strict=True)
    ]
    return torch.tensor(words, dtype=torch.int64)


def banned_sequences(options: BeamSearchOptions) -> Sequence[Sequence[int]]:
    return cast(Sequence[Sequence[int]], options.banned)  # as options keep them


def by_length(sequences: Sequence[Sequence[int]]) -> Tensor:
    """``[n, 1 + longest]``: each behind its length."""
    longest = max(map(len, sequences), default=0)
    rows = [[len(each), *each, *[0] * (longest - len(each))] for each in sequences]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), 1 + longest)


def score_table(options: BeamSearchOptions) -> Tensor:
    """``[2, max_length + 1, 2]``: reward and normaliser by length, without and with EOS."""

    def entry(length: int, has_eos: bool) -> list[float]:
        counted = length + options.length_offset - (has_eos and not options.count_eos)
        normaliser = 1.0
        if counted >= 1:
            normaliser = {
                "none": lambda: 1.0,
                "power": lambda: math.pow(counted, options.alpha),
                "gnmt": lambda: math.pow((5.0 + counted) / 6.0, options.alpha),
                "average": lambda: float(counted),
            }[options.length_penalty]()
        return [options.word_reward * counted, normaliser]

    lengths = range(options.max_length + 1)
    table = [[entry(length, has_eos) for length in lengths] for has_eos in (False, True)]
    return torch.tensor(table, dtype=torch.float64)
