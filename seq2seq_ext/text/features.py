"""Sources that are float features, such as the frames of speech, in place of a text."""

from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from torch import Tensor

from seq2seq_ext.models.check import plain
from seq2seq_ext.text.corpus import Pair


def check_features(
    where: str,
    name: str,
    value: object,
    size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """``value`` on the CPU in ``dtype``, if it is a source of features: float ``[S, size]``.

    Raises:
        ValueError, TypeError: it isn't; the message begins with ``where`` and ``name``.
    """
    plain(where, name, value)
    assert isinstance(value, Tensor)
    if not value.is_floating_point():
        raise TypeError(f"{where}: {name}: expected float features, got {value.dtype}")
    if value.dim() != 2 or value.size(1) != (size or max(value.size(1), 1)):
        raise ValueError(
            f"{where}: {name}: expected shape [S, {size or 'F'}], got {list(value.shape)}"
        )
    features = value.detach().to("cpu", dtype)
    if not features.isfinite().all():
        raise ValueError(f"{where}: {name}: expected finite {dtype} features, got nan or inf")
    return features


def read_features(path: str | Path, size: int | None = None) -> Tensor:
    """The features that a ``.npy`` file holds, as float32 ``[S, size]``.

    Raises:
        ValueError: the file is something else; the message names it.
        OSError: the file can't be read.
    """
    with open(path, "rb") as file:
        try:
            array = numpy.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # a damaged header raises what it likes
            raise ValueError(f"{path}: expected a .npy file: {error}") from None
    if array.dtype.kind != "f":
        raise ValueError(f"{path}: expected an array of floats, got {array.dtype}")
    with numpy.errstate(over="ignore"):  # inf is refused below
        features = torch.from_numpy(array.astype(numpy.float32))
    return check_features("features", str(path), features, size)


def load_sources(pairs: Sequence[Pair], folder: str | Path) -> list[Pair]:
    """Pairs whose sources are names of ``.npy`` files, with the files' features instead.

    Args:
        pairs: a file that is named twice is read once.
        folder: where a relative name begins.

    Raises:
        ValueError: a file that holds something else, or another size than the first; the
            message names it.
        OSError: a file can't be read.
    """
    paths = [Path(folder, str(pair.source)) for pair in pairs]
    features: dict[Path, Tensor] = {}
    size = None
    for path in paths:
        if path not in features:
            features[path] = read_features(path, size)
            size = features[path].size(1)
    return [Pair(features[path], pair.target) for path, pair in zip(paths, pairs, strict=True)]
