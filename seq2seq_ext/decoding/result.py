"""What a search found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# What words of the source become; a mapping without an entry leaves one as it is.
Lexicon = Mapping[str, str] | Callable[[str], str]

# What the numbers in BeamSearchResult.reasons stand for.
REASONS = ("eos", "max_length", "dead", "stopped")


@dataclass(frozen=True)
class Hypothesis:
    """One sequence.

    Attributes:
        tokens: EOS kept, no padding; without EOS where something else ended it.
        score: what hypotheses are sorted by; see :class:`BeamSearchOptions`.
        log_prob: sum of the log-probs of the tokens.
        token_log_probs: those of each token.
        reason: why it ended: ``"eos"``, ``"max_length"``, ``"dead"`` (its row offered no
            candidate) or ``"stopped"`` (by ``on_step``; of a live hypothesis, where it is).
    """

    tokens: list[int]
    score: float
    log_prob: float
    token_log_probs: list[float]
    reason: str


@dataclass(frozen=True, eq=False)
class BeamSearchResult:
    """The best hypotheses of B sentences, best first, on the CPU.

    n_best and L are the largest of the batch. Where a sentence has fewer than ``n_best``, the
    rest has length 0 and scores of -inf.

    Attributes:
        tokens: int64 ``[B, n_best, L]``, EOS kept, ``pad_id`` behind; L is the longest here.
        lengths: int64 ``[B, n_best]``, EOS counted.
        scores: float64 ``[B, n_best]``, normalised.
        log_probs: float64 ``[B, n_best]``, sums.
        token_log_probs: float64 ``[B, n_best, L]``, 0 behind the end.
        reasons: int64 ``[B, n_best]``, index into ``REASONS``; -1 where there is no hypothesis.
        rows: int64 ``[B, n_best, L]``: the row of step t whose logits gave token t, so that
            what a step knew of its rows can be gathered; 0 behind the end.
        attention: ``[B, n_best, L, S]``: row t holds the weights under which token t was
            predicted, zero behind the end; on the step's device; None unless asked for.

    Example:
        >>> import torch
        >>> from seq2seq_ext.decoding import BeamSearchOptions, beam_search
        >>> options = BeamSearchOptions(
        ...     bos_id=1, eos_id=2, pad_id=0, n_best=2, max_length=2, return_attention=True)
        >>> logits, weights = torch.tensor([[0.0, 0, 1, 2]]), torch.tensor([[0.1, 0.9]])
        >>> result = beam_search(
        ...     lambda tokens, state: (logits.expand(5, 4), state, weights.expand(5, 2)),
        ...     (), batch_size=1, options=options)
        >>> result.tokens, result.lengths
        (tensor([[[3, 3],
                 [2, 0]]]), tensor([[2, 1]]))
        >>> [each.reason for each in result.hypotheses[0]], result.alignment.tolist()
        (['max_length', 'eos'], [[[1, 1], [1, 0]]])
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    log_probs: Tensor
    token_log_probs: Tensor
    reasons: Tensor
    rows: Tensor
    attention: Tensor | None = None

    @property
    def hypotheses(self) -> list[list[Hypothesis]]:
        """The hypotheses of each sentence, without padding."""
        columns = (
            self.tokens,
            self.lengths,
            self.scores,
            self.log_probs,
            self.token_log_probs,
            self.reasons,
        )
        return [
            [
                Hypothesis(tokens[:length], score, log_prob, each[:length], REASONS[reason])
                for tokens, length, score, log_prob, each, reason in zip(*sentence, strict=True)
                if reason >= 0
            ]
            for sentence in zip(*(column.tolist() for column in columns), strict=True)
        ]

    @property
    def alignment(self) -> Tensor:
        """Int64 ``[B, n_best, L]``: the source position that each token looked at most.

        Raises:
            ValueError: the search was not asked for attention.
        """
        if self.attention is None:
            raise ValueError("BeamSearchResult.alignment: expected a search with return_attention")
        if self.attention.shape[3] == 0:
            return torch.zeros_like(self.tokens)
        return self.attention.argmax(dim=3).to(self.tokens.device)


def gather_attention(steps: Sequence[Tensor], rows: Tensor, lengths: Tensor) -> Tensor:
    """Each hypothesis' attention, by its back-pointers.

    Args:
        steps: of every step, ``[N, S]``.
        rows: int64 ``[B, n_best, L]``, L at most the number of steps.
        lengths: int64 ``[B, n_best]``.

    Returns:
        ``[B, n_best, L, S]``, zero behind the end.
    """
    device = steps[0].device
    places, lengths = rows.to(device), lengths.to(device)
    gathered = [steps[t][places[:, :, t]] for t in range(rows.shape[2])]
    if not gathered:
        return steps[0].new_zeros(*rows.shape, steps[0].shape[1])
    real = torch.arange(rows.shape[2], device=device) < lengths[..., None]
    return torch.stack(gathered, dim=2) * real[..., None]


def replace_unknown(
    tokens: Sequence[str | None],
    alignment: Sequence[int],
    source: Sequence[str],
    unknown: str | None,
    lexicon: Lexicon | None = None,
) -> list[str]:
    """Puts the source's words where a model had no word (Luong et al. 2015).

    Args:
        tokens: of a hypothesis; None is unknown, whatever ``unknown`` is.
        alignment: of each token, a position of the source; as in ``BeamSearchResult.alignment``.
        source: the source's words.
        unknown: the token to replace.
        lexicon: what a source word becomes; without an entry, or without a lexicon, itself.

    Raises:
        ValueError: fewer positions than tokens, or one outside the source.

    Example:
        >>> from seq2seq_ext.decoding import replace_unknown
        >>> replace_unknown(["in", "<unk>"], [0, 1], ["en", "Ulm"], "<unk>")
        ['in', 'Ulm']
    """
    if len(alignment) < len(tokens):
        raise ValueError(
            f"replace_unknown: alignment: expected {len(tokens)} positions like tokens, got "
            f"{len(alignment)}"
        )

    def word(position: int) -> str:
        if not 0 <= position < len(source):
            raise ValueError(
                f"replace_unknown: alignment: expected positions from 0 to {len(source) - 1}, "
                f"got {position}"
            )
        own = source[position]
        if lexicon is None:
            return own
        return lexicon(own) if callable(lexicon) else lexicon.get(own, own)

    return [
        word(int(position)) if token is None or token == unknown else token
        for token, position in zip(tokens, alignment, strict=False)
    ]
