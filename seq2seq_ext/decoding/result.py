"""What a search found."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Hypothesis:
    """One ended sequence.

    Attributes:
        tokens: EOS kept, no padding; without EOS where ``max_length`` cut it.
        score: ``log_prob`` over the normaliser of the length penalty.
        log_prob: sum of the log-probs of the tokens.
    """

    tokens: list[int]
    score: float
    log_prob: float


@dataclass(frozen=True, eq=False)
class BeamSearchResult:
    """The best hypotheses of B sentences, best first, on the CPU.

    Where a sentence has fewer than ``n_best``, the rest has length 0 and scores of -inf.

    Attributes:
        tokens: int64 ``[B, n_best, L]``, EOS kept, ``pad_id`` behind; L is the longest here.
        lengths: int64 ``[B, n_best]``, EOS counted.
        scores: float64 ``[B, n_best]``, normalised.
        log_probs: float64 ``[B, n_best]``, sums.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    log_probs: Tensor

    @property
    def hypotheses(self) -> list[list[Hypothesis]]:
        """The hypotheses of each sentence, without padding."""
        columns = (self.tokens, self.lengths, self.scores, self.log_probs)
        return [
            [
                Hypothesis(tokens[:length], score, log_prob)
                for tokens, length, score, log_prob in zip(*sentence, strict=True)
                if score > -float("inf")
            ]
            for sentence in zip(*(column.tolist() for column in columns), strict=True)
        ]
