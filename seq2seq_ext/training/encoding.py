"""Pairs as a model reads them: checked, and turned into ids by vocabulary, or kept as features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from seq2seq_ext.models import Seq2SeqConfig
from seq2seq_ext.text import Tokenization, Vocabulary
from seq2seq_ext.text.batching import Example
from seq2seq_ext.text.corpus import Pair
from seq2seq_ext.text.features import check_features
from seq2seq_ext.text.tokenization import FEATURES

_SIZES = ("source_vocabulary_size", "source_feature_size", "target_vocabulary_size")


def checked_pairs(
    corpora: Mapping[str, Sequence[Pair]], tokenization: Tokenization
) -> list[list[Pair]]:
    """The pairs of each named corpus; sources of features are float32, and of one size.

    Raises:
        ValueError, TypeError: a pair whose sides aren't what the tokenization says.
    """
    size: int | None = None
    found = []
    for name, pairs in corpora.items():
        if isinstance(pairs, str) or not isinstance(pairs, Sequence):
            raise TypeError(
                f"train: {name}: expected a sequence of Pair, got {type(pairs).__name__}"
            )
        checked = []
        for i, pair in enumerate(pairs):
            place = f"{name}[{i}]"
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise TypeError(f"train: {place}: expected a Pair, got {type(pair).__name__}")
            source, target = pair
            if not isinstance(target, str):
                raise _not_text(f"{place}: target", target)
            if tokenization.source == FEATURES:
                source = check_features("train", f"{place}: source", source, size)
                size = source.size(1)
            elif not isinstance(source, str):
                raise _not_text(f"{place}: source", source)
            checked.append(Pair(source, target))
        found.append(checked)
    return found


def _not_text(place: str, value: object) -> TypeError:
    return TypeError(f"train: {place}: expected a str, got {type(value).__name__}")


@dataclass(frozen=True)
class PairEncoder:
    """The vocabularies of a training corpus, or the size of its features."""

    source: Vocabulary | None
    feature_size: int | None
    target: Vocabulary
    tokenization: Tokenization

    @classmethod
    def of(cls, training: Sequence[Pair], tokenization: Tokenization) -> "PairEncoder":
        target = Vocabulary.build(tokenization.split_target(pair.target) for pair in training)
        if isinstance(first := training[0].source, Tensor):
            return cls(None, first.size(1), target, tokenization)
        texts = (pair.source for pair in training if isinstance(pair.source, str))
        source = Vocabulary.build(map(tokenization.split_source, texts))
        return cls(source, None, target, tokenization)

    def config(self, choices: Mapping[str, Any]) -> Seq2SeqConfig:
        """With the sizes that the corpus decides."""
        if not isinstance(choices, Mapping):
            raise TypeError(f"train: model: expected a mapping, got {type(choices).__name__}")
        known = sorted({field.name for field in fields(Seq2SeqConfig)} - set(_SIZES))
        if unknown := [name for name in choices if name not in known]:
            raise ValueError(f"train: model: expected keys among {known}, got {unknown}")
        return Seq2SeqConfig(
            source_vocabulary_size=None if self.source is None else len(self.source),
            source_feature_size=self.feature_size,
            target_vocabulary_size=len(self.target),
            **choices,
        )

    def encode(self, pair: Pair) -> Example:
        target = self.target.encode(self.tokenization.split_target(pair.target), bos=True, eos=True)
        if self.source is None or isinstance(pair.source, Tensor):
            assert isinstance(pair.source, Tensor)
            return Example(pair.source, target)
        return Example(self.source.encode(self.tokenization.split_source(pair.source)), target)
