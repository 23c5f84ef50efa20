"""Batches of examples of similar length."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

BATCH_UNITS = ("sentences", "tokens")


class Example(NamedTuple):
    """One pair: ``target`` is token ids, from BOS to EOS, ``source`` ids or features ``[S, F]``."""

    source: list[int] | Tensor
    target: list[int]


@dataclass(frozen=True)
class Batch:
    """Padded examples: ids are int64 ``[B, S]`` and ``[B, T]``, lengths int64 ``[B]``.

    A source of features is ``[B, S, F]``.
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor
    target_lengths: Tensor

    @property
    def target_tokens(self) -> int:
        """How many tokens the model predicts: all of the target but BOS."""
        return int(self.target_lengths.sum()) - len(self.target_lengths)

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.source.to(device),
            self.source_lengths.to(device),
            self.target.to(device),
            self.target_lengths.to(device),
        )


def pad(sequences: Sequence[Sequence[int] | Tensor], pad_id: int) -> tuple[Tensor, Tensor]:
    """Sequences of ids as one tensor and their lengths; features are padded with zeros.

    Example:
        >>> pad([[5, 6], [7]], pad_id=0)
        (tensor([[5, 6],
                [7, 0]]), tensor([2, 1]))
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64)
    width = max(map(len, sequences), default=1) or 1  # a batch of empty sources still has a column
    if sequences and isinstance(first := sequences[0], Tensor):
        padded = first.new_zeros(len(sequences), width, first.size(1))
        for row, sequence in zip(padded, sequences, strict=True):
            row[: len(sequence)] = sequence
        return padded, lengths
    rows = [[*sequence, *[pad_id] * (width - len(sequence))] for sequence in sequences]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), width), lengths


def collate(examples: Sequence[Example], pad_id: int = 0) -> Batch:
    """One batch of the given examples, in their order."""
    return Batch(
        *pad([example.source for example in examples], pad_id),
        *pad([example.target for example in examples], pad_id),
    )


class LengthBuckets:
    """Cuts a corpus into batches of examples of similar length, anew each epoch.

    Every example comes exactly once an epoch. Examples are sorted by target length, then source
    length, equal ones in random order; the sorted list is cut into batches, and the batches are
    shuffled. So an epoch pads its targets by at most (batch size) * (longest target) in all,
    whatever the corpus.

    Args:
        lengths: (source length, target length) of each example.
        unit: what a batch size counts: ``"sentences"``, or ``"tokens"``, which are rows times
            the longer padded side.
        seed: with the epoch's number it decides everything random.

    Raises:
        ValueError: a wrong argument.

    Example:
        >>> buckets = LengthBuckets([(3, 4), (9, 9), (3, 5)], seed=0)
        >>> sorted(sorted(batch) for batch in buckets.epoch(0, batch_size=2))
        [[0, 2], [1]]
    """

    def __init__(
        self, lengths: Sequence[tuple[int, int]], *, unit: str = "sentences", seed: int = 0
    ) -> None:
        if unit not in BATCH_UNITS:
            raise ValueError(f"LengthBuckets: unit: expected one of {BATCH_UNITS}, got {unit!r}")
        self.lengths = list(lengths)
        self.unit = unit
        self.seed = seed
        self._sorted = sorted(range(len(self.lengths)), key=self._sort_key)

    def _sort_key(self, index: int) -> tuple[int, int]:
        source, target = self.lengths[index]
        return target, source

    def epoch(self, number: int, *, batch_size: int) -> list[list[int]]:
        """The batches of one epoch, as lists of example indices.

        Args:
            number: which epoch.
            batch_size: how much a batch holds at most; an example that is larger than that many
                tokens is a batch of its own.
        """
        if batch_size < 1:
            raise ValueError(f"LengthBuckets: batch_size: expected at least 1, got {batch_size}")
        generator = random.Random(f"{self.seed}/{number}")
        order: list[int] = []
        for _, same in groupby(self._sorted, key=self._sort_key):
            ties = list(same)
            generator.shuffle(ties)
            order += ties
        batches = self._cut(order, batch_size)
        generator.shuffle(batches)
        return batches

    def _cut(self, order: list[int], batch_size: int) -> list[list[int]]:
        if self.unit == "sentences":
            return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        batches: list[list[int]] = []
        longest = 0
        for index in order:
            longest = max(longest, *self.lengths[index])
            if not batches or (len(batches[-1]) + 1) * longest > batch_size:
                batches.append([])
                longest = max(self.lengths[index])
            batches[-1].append(index)
        return batches
