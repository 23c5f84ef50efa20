"""A trained model in a folder."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from seq2seq_ext.files import atomic_write
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
from seq2seq_ext.text import Tokenization, Vocabulary
from seq2seq_ext.text.tokenization import FEATURES, UNITS

_FORMAT = "seq2seq_ext model 1"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_SOURCE, _TARGET = "source.vocabulary.json", "target.vocabulary.json"


@dataclass(frozen=True)
class TextModel:
    """A model that writes texts, with what it takes to feed it; what :func:`load_model` reads.

    Attributes:
        model: of token ids, or of float features (speech).
        source_vocabulary: of a model of token ids; None for one of features.
        target_vocabulary: of what the model writes.
        tokenization: its ``source`` is ``"features"`` for a model of features.

    Raises:
        ValueError, TypeError: parts that don't fit together.
    """

    model: Seq2Seq
    source_vocabulary: Vocabulary | None
    target_vocabulary: Vocabulary
    tokenization: Tokenization

    def __post_init__(self) -> None:
        for name, kind in (
            ("model", Seq2Seq),
            ("target_vocabulary", Vocabulary),
            ("tokenization", Tokenization),
        ):
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(
                    f"TextModel: {name}: expected a {kind.__name__}, got {type(value).__name__}"
                )
        self._check_source()
        config = self.model.config
        _check_size("target_vocabulary", self.target_vocabulary, config.target_vocabulary_size)
        ids = (config.pad_id, config.unk_id, config.bos_id, config.eos_id)
        if ids != (0, 1, 2, 3):
            raise ValueError(
                "TextModel: model: expected a config with pad, unk, bos and eos ids (0, 1, 2, 3) "
                f"like Vocabulary, got {ids}"
            )

    def _check_source(self) -> None:
        size, vocabulary = self.model.config.source_vocabulary_size, self.source_vocabulary
        expected = type(None) if size is None else Vocabulary
        if not isinstance(vocabulary, expected):
            raise TypeError(
                f"TextModel: source_vocabulary: expected a {expected.__name__} for a model of "
                f"{'features' if size is None else 'ids'}, got {type(vocabulary).__name__}"
            )
        if vocabulary is not None and size is not None:
            _check_size("source_vocabulary", vocabulary, size)
        unit, units = self.tokenization.source, (FEATURES,) if size is None else UNITS
        if unit not in units:
            raise ValueError(
                f"TextModel: tokenization: expected a source of {units} like the model's, got "
                f"{unit!r}"
            )


def _check_size(name: str, vocabulary: Vocabulary, size: int) -> None:
    if len(vocabulary) != size:
        raise ValueError(
            f"TextModel: {name}: expected {size} ids like the model's config, got {len(vocabulary)}"
        )


def save_model(
    folder: str | os.PathLike[str],
    model: Seq2Seq,
    source_vocabulary: Vocabulary | None,
    target_vocabulary: Vocabulary,
    tokenization: Tokenization,
) -> None:
    """Writes a model as a folder: config.json, model.safetensors and its vocabularies.

    The arguments are the parts of a :class:`TextModel`. Each file is replaced whole; the config,
    without which a folder is none, comes last.

    Raises:
        ValueError, TypeError: parts that don't fit together.
        OSError: the folder can't be written.
    """
    TextModel(model, source_vocabulary, target_vocabulary, tokenization)
    weights = safetensors.torch.save(_tensors(model))  # what can't be written shows before a file
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if source_vocabulary is None:
        (folder / _SOURCE).unlink(missing_ok=True)
    else:
        source_vocabulary.save(folder / _SOURCE)
    target_vocabulary.save(folder / _TARGET)
    with atomic_write(folder / _WEIGHTS, "wb") as file:
        file.write(weights)
    config = {
        "format": _FORMAT,
        "model": model.config.to_dict(),
        "tokenization": tokenization.to_dict(),
    }
    with atomic_write(folder / _CONFIG) as file:
        file.write(json.dumps(config, indent=2) + "\n")


def _tensors(model: Seq2Seq) -> dict[str, Tensor]:
    """A model's weights, each in memory of its own: parameters may be shared."""
    tensors: dict[str, Tensor] = {}
    seen = set()
    for name, weight in model.state_dict().items():
        if weight.is_meta:
            raise ValueError(f"save_model: model: expected weights with values, got meta {name!r}")
        place = weight.untyped_storage().data_ptr()
        tensors[name] = weight.detach().clone() if place in seen else weight.detach().contiguous()
        seen.add(place)
    return tensors


def is_model_folder(folder: Path) -> bool:
    """Whether :func:`save_model` wrote there."""
    return (folder / _CONFIG).exists()


def load_model(folder: str | os.PathLike[str]) -> TextModel:
    """Reads what :func:`save_model` wrote; the model is in eval mode.

    Raises:
        ValueError: a file that is broken or doesn't fit; the message names it.
        FileNotFoundError: no such folder, or a file missing.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"load_model: folder: expected a path, got {folder!r}")
    folder = Path(folder)
    config = _read_config(folder / _CONFIG)
    try:
        model = Seq2Seq(Seq2SeqConfig.from_dict(config["model"]))
        tokenization = Tokenization.from_dict(config["tokenization"])
    except (TypeError, ValueError, RuntimeError) as error:  # the last: no memory for its sizes
        raise ValueError(f"{folder / _CONFIG}: {error}") from None
    _load_weights(model, folder / _WEIGHTS)
    of_features = model.config.source_vocabulary_size is None
    source = None if of_features else Vocabulary.load(folder / _SOURCE)
    target = Vocabulary.load(folder / _TARGET)
    try:
        return TextModel(model.eval(), source, target, tokenization)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected a model's config in JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise ValueError(f'{path}: expected a config with "format": "{_FORMAT}"')
    if missing := [key for key in ("model", "tokenization") if key not in config]:
        raise ValueError(f"{path}: expected the keys {missing}")
    return config


def _load_weights(model: Seq2Seq, path: Path) -> None:
    try:
        weights = safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file: {error}") from None
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise ValueError(f"{path}: expected float weights, got {weight.dtype} for {name!r}")
    try:
        model.load_state_dict(weights, assign=True)  # each in the dtype it was saved in
    except RuntimeError as error:
        raise ValueError(f"{path}: expected the weights of its config: {error}") from None
