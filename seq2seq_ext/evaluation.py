"""Error rates of hypotheses against one or several references."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from seq2seq_ext.text.corpus import Pair, group_references
from seq2seq_ext.translator import Translator


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The least number of insertions, deletions and substitutions between two sequences.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(second, start=1):
            substituted = diagonal + (left != right)
            diagonal = row[j]
            row[j] = min(substituted, row[j] + 1, row[j - 1] + 1)
    return row[-1]


@dataclass(frozen=True)
class ErrorRates:
    """Counts over a test set, and the two rates they make."""

    edits: int
    reference_tokens: int
    wrong_sequences: int
    sequences: int

    @property
    def token_error_rate(self) -> float:
        """Edits over reference tokens (PER for phones, CER for characters)."""
        return self.edits / max(self.reference_tokens, 1)

    @property
    def sequence_error_rate(self) -> float:
        """The share of sequences that match no reference (WER for pronunciations)."""
        return self.wrong_sequences / max(self.sequences, 1)


def error_rates(
    hypotheses: Sequence[Sequence[Hashable]],
    references: Sequence[Sequence[Sequence[Hashable]]],
) -> ErrorRates:
    """Scores each hypothesis against the closest of its references.

    The closest reference has the fewest edits and, among those, the most tokens: the standard
    scoring of grapheme-to-phoneme conversion.

    Args:
        hypotheses: one sequence of tokens for each source.
        references: for each source, one or more sequences of tokens.

    Raises:
        ValueError: another number of references than hypotheses, or a source without reference.

    Example:
        >>> rates = error_rates(["R EH D".split()], [["R IY D".split(), "R EH D".split()]])
        >>> rates.token_error_rate, rates.sequence_error_rate
        (0.0, 0.0)
    """
    if len(hypotheses) != len(references):
        raise ValueError(
            f"error_rates: references: expected {len(hypotheses)} lists, one for each hypothesis, "
            f"got {len(references)}"
        )
    edits = reference_tokens = wrong = 0
    for number, (hypothesis, choices) in enumerate(zip(hypotheses, references, strict=True)):
        if not choices:
            raise ValueError(f"error_rates: references[{number}]: expected at least one, got none")
        distance, length = min((edit_distance(hypothesis, r), -len(r)) for r in choices)
        edits += distance
        reference_tokens -= length
        wrong += distance > 0
    return ErrorRates(edits, reference_tokens, wrong, len(hypotheses))


def evaluate(translator: Translator, pairs: Iterable[Pair], **search: Any) -> ErrorRates:
    """Translates every source once and scores the best hypotheses.

    Args:
        translator: the model.
        pairs: the test set; all targets of one source are its references.
        **search: as for :meth:`Translator.translate`.

    Raises:
        ValueError: a source without a hypothesis.
    """
    references = group_references(pairs)
    split = translator.parts.tokenization.split_target
    translations = translator.translate(list(references), **search)
    for number, n_best in enumerate(translations, start=1):
        if not n_best:
            raise ValueError(
                f"evaluate: source {number}: no hypothesis: the model's scores are no numbers"
            )
    return error_rates(
        [n_best[0].tokens for n_best in translations],
        [[split(target) for target in targets] for targets in references.values()],
    )
