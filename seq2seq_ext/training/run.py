"""From pairs of texts to a trained model's folder."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
from seq2seq_ext.text import Tokenization, Vocabulary
from seq2seq_ext.text.batching import Example
from seq2seq_ext.text.corpus import Pair
from seq2seq_ext.training.distributed import World
from seq2seq_ext.training.options import TrainingOptions
from seq2seq_ext.training.trainer import Trainer, TrainingResult
from seq2seq_ext.translator import save_model


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
    """Trains a model on pairs of texts.

    The folder receives the model with the lowest validation loss, as
    :class:`~seq2seq_ext.translator.Translator` reads it, and ``checkpoint.pt``. Under torchrun
    the processes share each batch, and the first one writes.

    Args:
        folder: where to write; made if need be.
        training: pairs to learn; the vocabularies are theirs.
        validation: pairs that decide which weights are kept; without any, the last are.
        tokenization: units of both sides.
        options: see :class:`TrainingOptions`.
        model: fields of :class:`~seq2seq_ext.models.Seq2SeqConfig` but the vocabulary sizes.
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
    source = Vocabulary.build(tokenization.split_source(pair.source) for pair in training)
    target = Vocabulary.build(tokenization.split_target(pair.target) for pair in training)
    config = Seq2SeqConfig(
        source_vocabulary_size=len(source), target_vocabulary_size=len(target), **(model or {})
    )
    world = World(device)
    try:
        torch.manual_seed(options.seed)
        network = Seq2Seq(config)
        encoded, encoded_validation = (
            [_encode(pair, tokenization, source, target) for pair in pairs]
            for pairs in (training, validation)
        )

        def save() -> None:
            save_model(folder, network, source, target, tokenization)

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


def _encode(
    pair: Pair, tokenization: Tokenization, source: Vocabulary, target: Vocabulary
) -> Example:
    return Example(
        source.encode(tokenization.split_source(pair.source)),
        target.encode(tokenization.split_target(pair.target), bos=True, eos=True),
    )


def _digest(*corpora: Sequence[Pair]) -> str:
    digest = hashlib.sha256()
    for pairs in corpora:
        digest.update(f"{len(pairs)}\n".encode())
        for pair in pairs:
            digest.update(f"{pair.source}\t{pair.target}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
