"""Sources that are float features, such as the frames of speech, in place of a text."""

from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from torch import Tensor

from seq2seq_ext.models.check import plain
from seq2seq_ext.text.corpus import Pair


def check_features(where: str, name: str, value: object, size: int | None = None) -> Tensor:
    """``value``, if it is a source of features: float ``[S, size]``.

    Raises:
        ValueError, TypeError: it isn't; the message begins with ``where`` and ``name``.
    """
    plain(where, name, value)
    assert isinstance(value, Tensor)
    if not value.is_floating_point():
        raise TypeError(f"{where}: {name}: expected float features, got {value.dtype}")
    if value.dim() != 2 or value.size(1) != (size or value.size(1)):
        raise ValueError(
            f"{where}: {name}: expected shape [S, {size or 'F'}], got {list(value.shape)}"
        )
    if not value.isfinite().all():
        raise ValueError(f"{where}: {name}: expected finite features, got nan or inf")
    return value


def read_features(path: str | Path) -> Tensor:
    """The features that a ``.npy`` file holds, as float32 ``[S, F]``.

    Raises:
        ValueError, TypeError: the file is something else; the message names it.
        OSError: the file can't be read.
    """
    try:
        array = numpy.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected a .npy file: {error}") from None
    if not isinstance(array, numpy.ndarray) or array.dtype.kind != "f":
        got = f"{array.dtype}" if isinstance(array, numpy.ndarray) else "an archive"
        raise TypeError(f"{path}: expected an array of floats, got {got}")
    return check_features("read_features", str(path), torch.from_numpy(array.astype(numpy.float32)))


def load_sources(pairs: Sequence[Pair], folder: str | Path) -> list[Pair]:
    """Pairs whose sources are names of ``.npy`` files, with the files' features instead.

    Args:
        pairs: a file that is named twice is read once.
        folder: where a relative name begins.

    Raises:
        ValueError, TypeError: a file that holds something else; the message names it.
        OSError: a file can't be read.
    """
    features = {pair.source: Tensor() for pair in pairs}
    for name in features:
        features[name] = read_features(Path(folder, str(name)))
    return [Pair(features[pair.source], pair.target) for pair in pairs]
