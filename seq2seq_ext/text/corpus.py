"""Pairs of a source and a target text: read from files and split."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Pair(NamedTuple):
    """A source and the target text that it should become.

    The source is a text, or float features ``[S, F]`` (speech).
    """

    source: str | Tensor
    target: str


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file, without their ends.

    Raises:
        ValueError: the file isn't UTF-8; the message names the file and the line.
        OSError: the file can't be read.
    """
    return lines_of(Path(path).read_bytes(), str(path))


def lines_of(data: bytes, name: str) -> list[str]:
    """What :func:`read_lines` makes of a file's bytes; ``name`` begins the message."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}: line {line}: not UTF-8 text") from None
    # Not splitlines(): that one also splits at separators that may be part of a text.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def read_tsv(path: str | Path) -> list[Pair]:
    """Reads ``source<TAB>target`` lines.

    Raises:
        ValueError: an empty file, or a line without exactly two columns; the message names the
            file and the line.
        OSError: the file can't be read.
    """
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise ValueError(
                f"{path}: line {number}: expected 2 tab-separated columns (source and target), "
                f"got {len(columns)}"
            )
        pairs.append(Pair(*columns))
    return _not_empty(pairs, path)


def read_parallel(source_path: str | Path, target_path: str | Path) -> list[Pair]:
    """Reads two files whose lines belong together.

    Raises:
        ValueError: an empty file, or different numbers of lines.
        OSError: a file can't be read.
    """
    sources, targets = read_lines(source_path), read_lines(target_path)
    if len(sources) != len(targets):
        raise ValueError(
            f"{target_path}: expected as many lines as {source_path} ({len(sources)}), "
            f"got {len(targets)}"
        )
    return _not_empty([Pair(*pair) for pair in zip(sources, targets, strict=True)], source_path)


def _not_empty(pairs: list[Pair], path: str | Path) -> list[Pair]:
    if not pairs:
        raise ValueError(f"{path}: expected at least one line, got an empty file")
    return pairs


def split_by_hash(pairs: Iterable[Pair], fractions: Sequence[float]) -> list[list[Pair]]:
    """Splits pairs by a hash of their source.

    The part of a pair depends on nothing but its source, so all targets of one source stay
    together and a grown corpus keeps its old split.

    Args:
        pairs: the corpus.
        fractions: the expected share of each part; they sum to 1.

    Raises:
        ValueError: shares that are negative or don't sum to 1.

    Example:
        >>> pairs = [Pair(str(i), "x") for i in range(1000)]
        >>> [len(part) for part in split_by_hash(pairs, (0.9, 0.1))]
        [905, 95]
    """
    if min(fractions, default=-1.0) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(
            f"split_by_hash: fractions: expected shares >= 0 that sum to 1, got {tuple(fractions)}"
        )
    bounds = [sum(fractions[: i + 1]) for i in range(len(fractions) - 1)]
    parts: list[list[Pair]] = [[] for _ in fractions]
    for pair in pairs:
        digest = hashlib.sha256(source_bytes(pair.source)).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        parts[sum(place >= bound for bound in bounds)].append(pair)
    return parts


def source_bytes(source: str | Tensor) -> bytes:
    """What a hash of the source is made of."""
    if isinstance(source, str):
        return source.encode("utf-8", "surrogatepass")
    return source.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()


def group_references(pairs: Iterable[Pair]) -> dict[str | Tensor, list[str]]:
    """All targets of each source, in the order of first appearance.

    Two sources of features are the same only if they are one tensor.

    Example:
        >>> group_references([Pair("read", "R IY D"), Pair("a", "AH"), Pair("read", "R EH D")])
        {'read': ['R IY D', 'R EH D'], 'a': ['AH']}
    """
    references: dict[str | Tensor, list[str]] = {}
    for pair in pairs:
        references.setdefault(pair.source, []).append(pair.target)
    return references
