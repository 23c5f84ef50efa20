"""Tokens and their ids."""

import json
import operator
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seq2seq_ext.files import atomic_write

PAD_ID, UNK_ID, BOS_ID, EOS_ID = range(4)
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")
_FORMAT = "seq2seq_ext vocabulary 1"


class Vocabulary:
    """Ids 0..3 are padding, unknown, begin and end; the tokens follow, in their order.

    A token may be any string, one that looks like a special token too: specials have ids, no
    text, so the two are never taken for each other.

    Args:
        tokens: different strings; the first gets id 4.

    Raises:
        ValueError, TypeError: a token that is there twice, or no string.

    Example:
        >>> vocabulary = Vocabulary.build(["hello", "hall"])
        >>> vocabulary.tokens
        ['l', 'h', 'a', 'e', 'o']
        >>> vocabulary.encode("hex", bos=True, eos=True)
        [2, 5, 7, 1, 3]
        >>> vocabulary.decode([2, 5, 7, 1, 3])
        ['h', 'e', '<unk>']
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        _check_tokens("Vocabulary", tokens)
        self.tokens = list(tokens)
        _check_strings("Vocabulary", "tokens", self.tokens)
        self._ids: dict[str, int] = {}
        for token in self.tokens:
            if token in self._ids:
                raise ValueError(
                    f"Vocabulary: tokens: expected different tokens, got {token!r} twice"
                )
            self._ids[token] = len(SPECIAL_TOKENS) + len(self._ids)

    @classmethod
    def build(
        cls,
        sequences: Iterable[Iterable[str]],
        min_count: int = 1,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """The tokens of ``sequences``, the most frequent first, equals in string order.

        Args:
            sequences: sequences of tokens; a string is one of characters.
            min_count: rarer tokens are left out.
            max_size: the largest length of the vocabulary, special tokens counted.

        Raises:
            ValueError, TypeError: a wrong argument.
        """
        where = "Vocabulary.build"
        _check_tokens(where, sequences, "sequences", "sequences of tokens")
        _check_int(where, "min_count", min_count, 1)
        if max_size is not None:
            _check_int(where, "max_size", max_size, len(SPECIAL_TOKENS))
        counts: Counter[str] = Counter()
        for sequence in sequences:
            if not isinstance(sequence, Iterable):
                raise TypeError(
                    f"{where}: sequences: expected sequences of tokens, got {sequence!r}"
                )
            tokens = list(sequence)
            _check_strings(where, "sequences", tokens)
            counts.update(tokens)
        kept = sorted((t for t in counts if counts[t] >= min_count), key=lambda t: (-counts[t], t))
        return cls(kept if max_size is None else kept[: max_size - len(SPECIAL_TOKENS)])

    def encode(self, tokens: Iterable[str], *, bos: bool = False, eos: bool = False) -> list[int]:
        """Ids of ``tokens``, unknown ones as ``UNK_ID``; BOS and EOS around them if asked."""
        if not isinstance(tokens, Iterable):
            raise TypeError(f"Vocabulary.encode: tokens: expected strings, got {tokens!r}")
        tokens = list(tokens)
        _check_strings("Vocabulary.encode", "tokens", tokens)
        for name, value in (("bos", bos), ("eos", eos)):
            if not isinstance(value, bool):
                raise TypeError(f"Vocabulary.encode: {name}: expected a bool, got {value!r}")
        ids = [self._ids.get(token, UNK_ID) for token in tokens]
        return [BOS_ID] * bos + ids + [EOS_ID] * eos

    def decode(self, ids: Iterable[int], *, strip_special: bool = True) -> list[str]:
        """Tokens of ``ids``.

        Args:
            ids: in [0, len(self)).
            strip_special: leave out padding, BOS and EOS. Unknown tokens stay, as ``<unk>``.

        Raises:
            ValueError, TypeError: an id outside, or no ids.
        """
        if isinstance(ids, str) or not isinstance(ids, Iterable):
            raise TypeError(f"Vocabulary.decode: ids: expected ints, got {ids!r}")
        tokens = []
        for each in ids:
            try:
                id_ = operator.index(each)
            except TypeError:
                raise TypeError(f"Vocabulary.decode: ids: expected ints, got {each!r}") from None
            if not 0 <= id_ < len(self):
                raise ValueError(
                    f"Vocabulary.decode: ids: expected ids in [0, {len(self)}), got {id_}"
                )
            if id_ >= len(SPECIAL_TOKENS):
                tokens.append(self.tokens[id_ - len(SPECIAL_TOKENS)])
            elif id_ == UNK_ID or not strip_special:
                tokens.append(SPECIAL_TOKENS[id_])
        return tokens

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file, one token a line, whole or not at all.

        Raises:
            OSError: the file can't be written.
        """
        # json's ASCII escapes: a lone surrogate or a line separator comes back as it was.
        lines = ",\n".join(json.dumps(token) for token in self.tokens)
        with atomic_write(path) as file:
            file.write(f'{{"format": "{_FORMAT}", "tokens": [\n{lines}\n]}}\n')

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """Reads what :meth:`save` wrote.

        Raises:
            ValueError: the file is something else; the message names it.
            OSError: the file can't be read.
        """
        try:
            data: Any = json.loads(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: expected a vocabulary in JSON: {error}") from None
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise ValueError(f'{path}: expected a vocabulary with "format": "{_FORMAT}"')
        if not isinstance(data.get("tokens"), list):
            raise ValueError(f'{path}: expected a list "tokens"')
        try:
            return cls(data["tokens"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None

    def __len__(self) -> int:
        return len(SPECIAL_TOKENS) + len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and token in self._ids

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self.tokens == other.tokens

    __hash__ = None  # type: ignore[assignment]  # mutable, like a list

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} ids)"


def _check_tokens(
    where: str, value: object, name: str = "tokens", expected: str = "strings"
) -> None:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{where}: {name}: expected {expected}, got {value!r}")


def _check_strings(where: str, name: str, tokens: list[str]) -> None:
    for token in tokens:
        if not isinstance(token, str):
            raise TypeError(f"{where}: {name}: expected strings as tokens, got {token!r}")


def _check_int(where: str, name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{where}: {name}: expected an int, got {value!r}")
    if value < low:
        raise ValueError(f"{where}: {name}: expected at least {low}, got {value}")
