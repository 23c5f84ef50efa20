"""What a search is told."""

import math
from dataclasses import dataclass

LENGTH_PENALTIES = ("none", "power", "gnmt")

# Far beyond any use, and small enough that no normaliser leaves the range of float64.
_MAX_ALPHA = 10.0
_MAX_INT = 2**31 - 1


def check_int(where: str, name: str, value: object, low: int, high: int = _MAX_INT) -> None:
    """An int in [low, high]; a bool is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{where}: {name}: expected an int, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{where}: {name}: expected an int from {low} to {high}, got {value}")


@dataclass(frozen=True, kw_only=True)
class BeamSearchOptions:
    """Options of :func:`beam_search` and :func:`greedy_search`.

    Attributes:
        bos_id: the token before the first.
        eos_id: the token that ends a hypothesis; must be in the model's output vocabulary.
        pad_id: fills results behind their ends, and is what rows without a hypothesis are fed,
            so it must be a valid index of the model's embedding.
        beam_size: hypotheses kept at each step; may exceed the vocabulary. Greedy search
            ignores it.
        n_best: hypotheses returned for each sentence, at most ``beam_size``. Greedy search
            returns one.
        max_length: longest hypothesis, EOS counted; one that gets there ends as it is.
        min_length: EOS is not chosen where it would end a hypothesis shorter than this, EOS
            counted; ``max_length`` still cuts.
        length_penalty: what divides a sum S of log-probs of L tokens, EOS counted: ``"none"``
            1, ``"power"`` L**alpha, ``"gnmt"`` ((5 + L) / 6)**alpha (Wu et al. 2016, eq. 14).
        alpha: exponent of the length penalty; above 0 longer hypotheses gain, below 0 they lose.

    Raises:
        ValueError, TypeError: a wrong field, named in the message.

    Example:
        >>> from seq2seq_ext.decoding import BeamSearchOptions
        >>> BeamSearchOptions(bos_id=1, eos_id=2, pad_id=0, length_penalty="gnmt").normaliser(7)
        2.0
    """

    bos_id: int
    eos_id: int
    pad_id: int
    beam_size: int = 5
    n_best: int = 1
    max_length: int = 100
    min_length: int = 0
    length_penalty: str = "none"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        where = type(self).__name__
        for name in ("bos_id", "eos_id", "pad_id"):
            check_int(where, name, getattr(self, name), 0)
        check_int(where, "beam_size", self.beam_size, 1)
        check_int(where, "n_best", self.n_best, 1, self.beam_size)
        check_int(where, "max_length", self.max_length, 1)
        check_int(where, "min_length", self.min_length, 0, self.max_length)
        if self.length_penalty not in LENGTH_PENALTIES:
            raise ValueError(
                f"{where}: length_penalty: expected one of {LENGTH_PENALTIES}, got "
                f"{self.length_penalty!r}"
            )
        if not isinstance(self.alpha, (int, float)) or isinstance(self.alpha, bool):
            raise TypeError(f"{where}: alpha: expected a number, got {self.alpha!r}")
        if not math.fabs(self.alpha) <= _MAX_ALPHA:
            raise ValueError(
                f"{where}: alpha: expected a number from {-_MAX_ALPHA} to {_MAX_ALPHA}, got "
                f"{self.alpha}"
            )

    def normaliser(self, length: int) -> float:
        """What divides the sum of a hypothesis of ``length`` tokens."""
        if length == 0 or self.length_penalty == "none":
            return 1.0
        base = length if self.length_penalty == "power" else (5 + length) / 6
        return math.pow(base, self.alpha)


def check_options(where: str, options: object) -> None:
    """Duck-typed options would fail late and unclearly."""
    if not isinstance(options, BeamSearchOptions):
        raise TypeError(f"{where}: options: expected BeamSearchOptions, got {options!r}")
