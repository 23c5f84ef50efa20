"""Checkpoints: one file, whole or absent, checked when it is read."""

import io
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext.files import atomic_write

# What torch.load raises at a damaged file.
_DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
FORMAT = "seq2seq_ext checkpoint 1"


class CheckpointError(ValueError):
    """A file that is no checkpoint, or one of another run."""


@dataclass
class Checkpoint:
    """What it takes to go on as if nothing had happened."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: dict[str, Any]
    random: list[dict[str, Tensor]]
    """The states of torch's generators, for each process."""
    identity: dict[str, str]
    """What must be the same when the run goes on: options, data, model."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Replaces ``path`` in one step; a kill at any moment leaves the old checkpoint.

        Raises:
            OSError: the folder can't be written.
        """
        with atomic_write(path, "wb") as file:
            torch.save({"format": FORMAT, **vars(self)}, file)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Checkpoint":
        """Reads a checkpoint; nothing in the file is executed.

        Raises:
            CheckpointError: the file is damaged or something else.
            OSError: the file can't be read.
        """
        data = io.BytesIO(Path(path).read_bytes())
        try:
            content = torch.load(data, map_location="cpu", weights_only=True)
            if content.pop("format") != FORMAT:
                raise KeyError("format")
            return Checkpoint(**content)
        except _DAMAGE as error:
            raise CheckpointError(
                f"{Path(path)}: not a checkpoint of seq2seq_ext, or damaged "
                f"({type(error).__name__})"
            ) from None

    def check_identity(self, identity: dict[str, str], path: str | os.PathLike[str]) -> None:
        """Compares what the checkpoint belongs to with what is about to go on.

        Raises:
            CheckpointError: the first difference.
        """
        for name in sorted(self.identity.keys() | identity.keys()):
            was, now = self.identity.get(name), identity.get(name)
            if was != now:
                raise CheckpointError(
                    f"{Path(path)}: written with {name} = {was}, now {name} = {now}; "
                    "a resumed run must repeat it"
                )
