"""From pairs of texts to a trained model's folder."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from seq2seq_ext.files import remove_temporaries
from seq2seq_ext.model_folder import is_model_folder, save_model
from seq2seq_ext.models import Seq2Seq
from seq2seq_ext.text import Tokenization
from seq2seq_ext.text.corpus import Pair, source_bytes
from seq2seq_ext.training.distributed import World
from seq2seq_ext.training.encoding import PairEncoder, checked_pairs
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
        ValueError, TypeError: a wrong argument, a folder with a run in it, or a checkpoint that
            can't be gone on from.
        OSError: the folder can't be written.
        TrainingInterrupted: Ctrl-C; the checkpoint is written first.
    """
    for name, value, kind in (
        ("folder", folder, (str, os.PathLike)),
        ("tokenization", tokenization, Tokenization),
        ("options", options, TrainingOptions),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"train: {name}: expected {kind}, got {type(value).__name__}")
    folder = Path(folder)
    checkpoint = folder / Trainer.CHECKPOINT
    if not training:
        raise ValueError("train: training: expected at least one pair, got none")
    if (checkpoint.exists() or is_model_folder(folder)) and not resume and not overwrite:
        raise ValueError(f"{folder}: holds a training run; resume it or overwrite it")
    training, validation = checked_pairs(
        {"training": training, "validation": validation}, tokenization
    )
    encoder = PairEncoder.of(training, tokenization)
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
        if world.is_main:  # nothing of an earlier run is lost before all arguments are accepted
            folder.mkdir(parents=True, exist_ok=True)
            remove_temporaries(folder)
            if overwrite and not resume:
                checkpoint.unlink(missing_ok=True)
            if not checkpoint.exists():
                save()  # an unwritable folder shows now, not after the first epoch
        if resume:
            trainer.resume()
        return trainer.train()
    finally:
        world.close()


def _digest(*corpora: Sequence[Pair]) -> str:
    digest = hashlib.sha256()
    for pairs in corpora:
        digest.update(f"{len(pairs)}\n".encode())
        for pair in pairs:
            digest.update(source_bytes(pair.source))
            digest.update(f"\t{pair.target}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
