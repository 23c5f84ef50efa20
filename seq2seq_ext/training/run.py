"""From pairs of texts to a trained model's folder."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext.model_folder import save_model
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
from seq2seq_ext.text import Tokenization, Vocabulary
from seq2seq_ext.text.batching import Example
from seq2seq_ext.text.corpus import Pair, source_bytes
from seq2seq_ext.text.features import check_features
from seq2seq_ext.text.tokenization import FEATURES
from seq2seq_ext.training.distributed import World
from seq2seq_ext.training.options import TrainingOptions
from seq2seq_ext.training.trainer import Trainer, TrainingResult


def train(
    folder: str | os.PathLike[str],
    training: Sequence[Pair],
    validation: Sequence[Pair],
    *,
    tokenization: Tokenization,
    options: TrainingOptions,
    model: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> TrainingResult:
    """Trains a model on pairs of texts, or of features and texts.

    The folder receives the model with the lowest validation loss, as
    :class:`~seq2seq_ext.translator.Translator` reads it, and ``checkpoint.pt``. Under torchrun
    the processes share each batch, and the first one writes.

    Args:
        folder: where to write; made if need be.
        training: pairs to learn; the vocabularies are theirs, and the size of their features.
        validation: pairs that decide which weights are kept; without any, the last are.
        tokenization: units of both sides; the source's are ``"features"`` if it is no text.
        options: see :class:`TrainingOptions`.
        model: fields of :class:`~seq2seq_ext.models.Seq2SeqConfig` but the vocabulary and feature
            sizes.
        resume: go on from the folder's checkpoint, if there is one; data and options must be
            the same.
        overwrite: forget the folder's earlier run.
        device: ``"cpu"`` or ``"cuda"``; None takes CUDA where it is.
        quiet: show nothing.

    Raises:
        ValueError: a wrong argument, a folder with a run in it, or a checkpoint that can't be
            gone on from.
        OSError: the folder can't be written.
        TrainingInterrupted: Ctrl-C; the checkpoint is written first.
    """
    folder = Path(folder)
    checkpoint = folder / Trainer.CHECKPOINT
    if not training:
        raise ValueError("train: training: expected at least one pair, got none")
    if checkpoint.exists() and not resume and not overwrite:
        raise ValueError(f"{folder}: holds a training run; resume it or overwrite it")
    _check_sources({"training": training, "validation": validation}, tokenization)
    encoder = _Encoder.of(training, tokenization)
    config = encoder.config(model or {})
    world = World(device)
    try:
        torch.manual_seed(options.seed)
        network = Seq2Seq(config)
        encoded, encoded_validation = (
            [encoder.encode(pair) for pair in pairs] for pairs in (training, validation)
        )

        def save() -> None:
            save_model(folder, network, encoder.source, encoder.target, tokenization)

        if world.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            if overwrite and not resume:
                checkpoint.unlink(missing_ok=True)
            if not checkpoint.exists():
                save()  # an unwritable folder shows now, not after the first epoch
        trainer = Trainer(
            network,
            encoded,
            encoded_validation,
            options,
            folder=folder,
            save_model=save,
            identity={
                "data": _digest(training, validation),
                "model": repr(config),
                "tokenization": repr(tokenization),
            },
            world=world,
            quiet=quiet,
        )
        if resume:
            trainer.resume()
        return trainer.train()
    finally:
        world.close()


@dataclass(frozen=True)
class _Encoder:
    """Turns pairs into what a model reads: ids by vocabulary, features as they are."""

    source: Vocabulary | None
    feature_size: int | None
    target: Vocabulary
    tokenization: Tokenization

    @classmethod
    def of(cls, training: Sequence[Pair], tokenization: Tokenization) -> "_Encoder":
        """The vocabularies, or the size of the features, of the training pairs."""
        target = Vocabulary.build(tokenization.split_target(pair.target) for pair in training)
        if isinstance(first := training[0].source, Tensor):
            return cls(None, first.size(1), target, tokenization)
        texts = (pair.source for pair in training if isinstance(pair.source, str))
        source = Vocabulary.build(map(tokenization.split_source, texts))
        return cls(source, None, target, tokenization)

    def config(self, fields: Mapping[str, Any]) -> Seq2SeqConfig:
        return Seq2SeqConfig(
            source_vocabulary_size=None if self.source is None else len(self.source),
            source_feature_size=self.feature_size,
            target_vocabulary_size=len(self.target),
            **fields,
        )

    def encode(self, pair: Pair) -> Example:
        target = self.target.encode(self.tokenization.split_target(pair.target), bos=True, eos=True)
        if self.source is None or isinstance(pair.source, Tensor):
            return Example(torch.as_tensor(pair.source, dtype=torch.float32), target)
        return Example(self.source.encode(self.tokenization.split_source(pair.source)), target)


def _check_sources(corpora: Mapping[str, Sequence[Pair]], tokenization: Tokenization) -> None:
    """Every source is a text, or every one is features of one size, as the tokenization says."""
    size = None
    for name, pairs in corpora.items():
        for i, pair in enumerate(pairs):
            place = f"{name}[{i}]: source"
            if tokenization.source == FEATURES:
                size = check_features("train", place, pair.source, size).size(1)
            elif not isinstance(pair.source, str):
                raise TypeError(f"train: {place}: expected a str, got {type(pair.source).__name__}")


def _digest(*corpora: Sequence[Pair]) -> str:
    digest = hashlib.sha256()
    for pairs in corpora:
        digest.update(f"{len(pairs)}\n".encode())
        for pair in pairs:
            digest.update(source_bytes(pair.source))
            digest.update(f"\t{pair.target}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
