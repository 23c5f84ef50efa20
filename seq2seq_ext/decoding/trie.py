"""Sets of sequences that a search may be held to."""

from collections.abc import Iterable, Iterator

from seq2seq_ext import _C
from seq2seq_ext.decoding.check import token_tuple


class TokenTrie:
    """The sequences of tokens that a hypothesis may be, EOS aside; shared by many searches.

    Args:
        sequences: of token ids, without EOS. The empty one allows EOS at once.

    Raises:
        ValueError, TypeError: no sequences, or wrong ones.

    Example:
        >>> from seq2seq_ext.decoding import TokenTrie
        >>> sorted(TokenTrie([[4, 5], [4, 6, 7]]))
        [(4, 5), (4, 6, 7)]
    """

    def __init__(self, sequences: Iterable[Iterable[int]]) -> None:
        where = "TokenTrie"
        if isinstance(sequences, (str, bytes)) or not isinstance(sequences, Iterable):
            raise TypeError(f"{where}: sequences: expected sequences of ids, got {sequences!r}")
        self._sequences = frozenset(token_tuple(where, "sequences", each) for each in sequences)
        if not self._sequences:
            raise ValueError(f"{where}: sequences: expected at least one, got none")
        self.tokens = frozenset(token for each in self._sequences for token in each)
        self.native = _C.TokenTrie([list(each) for each in self._sequences])

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: object) -> bool:
        return sequence in self._sequences
