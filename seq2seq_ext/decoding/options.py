"""What a search is told."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from seq2seq_ext.decoding.check import (
    check_bool,
    check_choice,
    check_int,
    check_number,
    sequence_tuples,
    token_tuple,
)
from seq2seq_ext.decoding.presets import preset
from seq2seq_ext.decoding.trie import TokenTrie

if TYPE_CHECKING:
    from seq2seq_ext.decoding.progress import SearchProgress

LogitsHook = Callable[[Tensor, Tensor], Tensor]
OnStep = Callable[["SearchProgress"], object]

_CHOICES = {
    "length_penalty": ("none", "power", "gnmt", "average"),
    "coverage_penalty": ("none", "gnmt", "summary"),
    "early_stopping": ("exact", "heuristic", "first", "top", "top_now", "places", "none"),
    "finished": ("pool", "dip", "shrink", "carry", "extend"),
    "rank_by": ("sum", "score"),
    "full_pool": ("best", "first"),
    "rules_on": ("logits", "log_probs"),
    "sampling": ("none", "ancestral", "gumbel"),
}
_INTS = {
    "bos_id": 0,
    "pad_id": 0,
    "beam_size": 1,
    "beam_groups": 1,
    "max_length": 1,
    "min_length": 0,
    "length_offset": -(2**20),
    "no_repeat_ngram_size": 0,
    "top_k": 0,
}
# Far beyond any use, and small enough that no normaliser leaves the range of float64.
_NUMBERS = {
    "patience": (1e-3, 1e3),
    "alpha": (-10.0, 10.0),
    "word_reward": (-1e6, 1e6),
    "beta": (0.0, 1e6),
    "max_length_ratio": (0.0, 1e6),
    "temperature": (1e-6, 1e6),
    "repetition_penalty": (1e-6, 1e6),
    "diversity_penalty": (0.0, 1e6),
    "top_p": (1e-6, 1.0),
}
_BOOLS = (
    "count_eos",
    "coverage_stepwise",
    "eos_beyond_beam",
    "force_eos",
    "rules_see_bos",
    "renormalize",
    "normalized",
    "return_attention",
)


@dataclass(frozen=True, kw_only=True)
class BeamSearchOptions:
    """Options of :func:`beam_search` and :func:`greedy_search`, of a batch or of one sentence.

    Sequences may come as any iterable and are kept as tuples. An option that is off costs
    nothing; one that needs the whole row of logits is marked (row).

    Ids and sizes:
        bos_id: the token before the first.
        eos_id: the token, or several, that ends a hypothesis; in the model's output vocabulary.
        pad_id: fills results behind their ends, and is what rows without a hypothesis are fed,
            so it must be a valid index of the model's embedding.
        beam_size: hypotheses kept at each step; may exceed the vocabulary. Greedy search
            ignores it.
        n_best: hypotheses returned, at most ``beam_size``. Greedy search returns one.
        max_length: longest hypothesis, EOS counted; one that gets there ends as it is.
        max_length_ratio: is multiplied by the source's length, rounded down and added to
            ``max_length``; above 0 it needs ``source_lengths``.
        min_length: EOS is not chosen where it would end a hypothesis shorter than this, EOS
            counted; ``max_length`` still cuts.

    Scores: ``score = (S + word_reward * L) / normaliser(L) + coverage``, where S is the sum of
    the log-probs and L the number of tokens, EOS counted:
        length_penalty: the normaliser: ``"none"`` 1, ``"power"`` L**alpha, ``"gnmt"``
            ((5 + L) / 6)**alpha (Wu et al. 2016, eq. 14), ``"average"`` L.
        alpha: exponent of the length penalty; above 0 longer hypotheses gain, below 0 they lose.
        word_reward: for each token.
        length_offset: added to L.
        count_eos: whether EOS counts in L.
        coverage_penalty: of the mass c_i of attention that each position of the source has had:
            ``"gnmt"`` beta * sum log min(c_i, 1) (Wu et al. 2016; c_i at least 1e-10),
            ``"summary"`` beta * sum (1 - max(c_i, 1)); needs attention from the step.
        beta: weight of the coverage penalty, at least 0.
        coverage_stepwise: whether live hypotheses are ranked with it too.

    When a sentence stops:
        early_stopping: ``"exact"`` when nothing live can still be among the ``n_best``;
            ``"heuristic"`` when the pool is full and nothing live would enter it as it is;
            ``"first"`` when as many as the pool holds have ended; ``"top"`` when ``n_best``
            have ended, and once the best candidate of a step did; ``"top_now"`` when they have
            and that of this step does; ``"places"`` when every place of the beam has once held
            an EOS, or nothing; ``"none"`` at the end.
        patience: the pool holds ``round(patience * beam_size)`` hypotheses, unless the stop is
            exact, which is the same for any pool (Kasai et al. 2022).

    What others do differently:
        finished: what a hypothesis that ends does: it goes to a ``"pool"`` and the next
            candidate takes its place; its place is empty for one step (``"dip"``) or for good
            (``"shrink"``); or it keeps its place and competes for it (``"carry"``), or goes on
            there like any other, but nothing behind its EOS ends (``"extend"``).
        rank_by: under ``"carry"``, compete by ``"sum"`` or by ``"score"``.
        eos_beyond_beam: whether a candidate may end that ``beam_size`` others precede.
        full_pool: whether a full pool keeps the ``"best"`` or those that came ``"first"``.
        force_eos: whether the token at ``max_length`` must be EOS, its log-prob counted.

    Rules on logits; log-probs of tokens that are not concerned stay what they are (row):
        temperature: divides the logits.
        repetition_penalty: divides positive logits of tokens used before, multiplies the others
            (Keskar et al. 2019).
        no_repeat_ngram_size: no n-gram appears twice; 0 for no rule.
        banned: tokens, or sequences of tokens, that may not appear.
        shortlist: the only tokens there are; the softmax is over these.
        trie: a :class:`TokenTrie`: the hypothesis, EOS aside, is one of its sequences.
        phrases: sequences, at most 64, that must all appear, each in one piece. A hypothesis
            that breaks this or the trie is never returned.
        prefix: the tokens that the hypothesis begins with; no other rule bans them.
        top_k: only the best k tokens of a row are candidates; 0 for all.
        top_p: only the fewest tokens whose probabilities reach this sum.
        rules_on: what rules see: ``"logits"``, or ``"log_probs"`` that are not normalised again.
        renormalize: whether the softmax is over what the rules leave.
        rules_see_bos: whether ``bos_id`` counts as a token used before.
        normalized: whether the step returns log-probs, or weighted sums of them, none above 0.
        logits_hook: ``logits_hook(prefixes [k, t], logits [k, V]) -> [k, V]`` for a sentence's k
            live rows, before all other rules.

    Diversity and sampling:
        beam_groups: groups of ``beam_size / beam_groups`` beams, each with its own pool, which
            choose one after the other (Vijayakumar et al. 2018).
        diversity_penalty: taken from a candidate's rank, not from its sum, for each use of its
            token by an earlier group in the same step.
        sampling: ``"ancestral"``: ``beam_size`` independent samples; ``"gumbel"``: a sample
            without replacement, ranked and scored by perturbed log-probs (Kool et al. 2019)
            (row).
        seed: random numbers are a function of seed, step, beam and token alone, so sentences
            that shall differ need seeds of their own.

    Results:
        return_attention: whether the result holds the attention of each token.
        on_step: called with a :class:`SearchProgress` after every step of the sentence; the
            sentence stops if it returns True.

    Raises:
        ValueError, TypeError: a wrong field, named in the message.

    Example:
        >>> from seq2seq_ext.decoding import BeamSearchOptions
        >>> BeamSearchOptions(bos_id=1, eos_id=2, pad_id=0, length_penalty="gnmt").normaliser(7)
        2.0
    """

    bos_id: int
    eos_id: int | Sequence[int]
    pad_id: int
    beam_size: int = 5
    n_best: int = 1
    max_length: int = 100
    max_length_ratio: float = 0.0
    min_length: int = 0
    length_penalty: str = "none"
    alpha: float = 1.0
    word_reward: float = 0.0
    length_offset: int = 0
    count_eos: bool = True
    coverage_penalty: str = "none"
    beta: float = 0.0
    coverage_stepwise: bool = False
    early_stopping: str = "exact"
    patience: float = 1.0
    finished: str = "pool"
    rank_by: str = "sum"
    eos_beyond_beam: bool = True
    full_pool: str = "best"
    force_eos: bool = False
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    banned: Sequence[int | Sequence[int]] = ()
    shortlist: Sequence[int] | None = None
    trie: TokenTrie | None = None
    phrases: Sequence[Sequence[int]] = ()
    prefix: Sequence[int] = ()
    top_k: int = 0
    top_p: float = 1.0
    rules_on: str = "logits"
    renormalize: bool = False
    rules_see_bos: bool = False
    normalized: bool = False
    logits_hook: LogitsHook | None = None
    beam_groups: int = 1
    diversity_penalty: float = 0.0
    sampling: str = "none"
    seed: int = 0
    return_attention: bool = False
    on_step: OnStep | None = None

    @classmethod
    def like(cls, system: str, **options: Any) -> "BeamSearchOptions":
        """Options under which the search finds what another system finds.

        Args:
            system: ``"transformers"``, ``"fairseq"``, ``"opennmt"``, ``"ctranslate2"``,
                ``"joeynmt"``, or ``"carry"`` (finished hypotheses keep their places, as in
                beamgrad, AllenNLP and TensorFlow Addons).
            options: fields, which go before the system's. They count as everywhere here:
                ``max_length`` and ``min_length`` with EOS, ``alpha`` is the exponent. For
                transformers ``early_stopping`` is True, False (its default) or ``"never"``.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.

        Example:
            >>> from seq2seq_ext.decoding import BeamSearchOptions
            >>> options = BeamSearchOptions.like(
            ...     "transformers", early_stopping=True, bos_id=1, eos_id=2, pad_id=0, alpha=0.6)
            >>> options.length_penalty, options.early_stopping
            ('power', 'first')
        """
        return cls(**preset(system, options))

    def __post_init__(self) -> None:
        where = type(self).__name__
        for name, low in _INTS.items():
            check_int(where, name, getattr(self, name), low)
        check_int(where, "n_best", self.n_best, 1, self.beam_size)
        check_int(where, "seed", self.seed, 0, 2**64 - 1)
        if self.max_length_ratio == 0:
            check_int(where, "min_length", self.min_length, 0, self.max_length)
        for name, (lowest, highest) in _NUMBERS.items():
            check_number(where, name, getattr(self, name), lowest, highest)
        for name in _BOOLS:
            check_bool(where, name, getattr(self, name))
        for name, choices in _CHOICES.items():
            check_choice(where, name, getattr(self, name), choices)
        for name in ("logits_hook", "on_step"):
            if (value := getattr(self, name)) is not None and not callable(value):
                raise TypeError(f"{where}: {name}: expected a callable or None, got {value!r}")
        self._check_tokens(where)
        self._check_combinations(where)

    def _check_tokens(self, where: str) -> None:
        if not isinstance(self.eos_id, (tuple, list)):
            check_int(where, "eos_id", self.eos_id, 0)
        else:
            self._keep("eos_id", token_tuple(where, "eos_id", self.eos_id))
        eos = self.eos_ids
        if not eos or len(set(eos)) < len(eos):
            raise ValueError(f"{where}: eos_id: expected one or several that differ, got {eos}")
        if self.trie is not None and not isinstance(self.trie, TokenTrie):
            raise TypeError(f"{where}: trie: expected a TokenTrie or None, got {self.trie!r}")
        if self.trie is not None and (used := set(eos) & self.trie.tokens):
            raise ValueError(f"{where}: trie: expected no EOS inside, got {sorted(used)}")
        self._keep("banned", self._banned(where))
        self._keep("phrases", sequence_tuples(where, "phrases", self.phrases, eos))
        if len(self.phrases) > 64:
            raise ValueError(
                f"{where}: phrases: expected at most 64, got {len(self.phrases)} of them"
            )
        self._keep("prefix", token_tuple(where, "prefix", self.prefix))
        if used := set(self.prefix) & set(eos):
            raise ValueError(f"{where}: prefix: expected no EOS inside, got {sorted(used)}")
        if self.max_length_ratio == 0 and len(self.prefix) + self.force_eos > self.max_length:
            raise ValueError(
                f"{where}: prefix: expected at most {self.max_length - self.force_eos} tokens "
                f"under this max_length, got {len(self.prefix)}"
            )
        if self.shortlist is not None:
            shortlist = sorted(set(token_tuple(where, "shortlist", self.shortlist)))
            self._keep("shortlist", tuple(shortlist))
            if missing := {*eos, *self.prefix} - set(shortlist):
                raise ValueError(
                    f"{where}: shortlist: expected EOS and the prefix among it, got none of "
                    f"{sorted(missing)}"
                )

    def _banned(self, where: str) -> tuple[tuple[int, ...], ...]:
        """Each as a sequence."""
        if not isinstance(self.banned, (tuple, list)):
            return tuple((token,) for token in token_tuple(where, "banned", self.banned))
        sequences = [each if isinstance(each, (tuple, list)) else [each] for each in self.banned]
        return sequence_tuples(where, "banned", sequences)

    def _check_combinations(self, where: str) -> None:
        def forbid(name: str, expected: str, is_wrong: bool) -> None:
            if is_wrong:
                raise ValueError(
                    f"{where}: {name}: expected {expected}, got {getattr(self, name)!r}"
                )

        forbid("beam_groups", "a divisor of beam_size", self.beam_size % self.beam_groups != 0)
        is_sampled = self.sampling != "none"
        special = self.finished != "pool" or self.beam_groups > 1 or bool(self.phrases)
        forbid(
            "sampling", 'finished="pool", one group and no phrases with it', is_sampled and special
        )
        is_default = self.early_stopping == "exact"
        fixed = self.finished == "carry" or self.sampling == "ancestral"
        forbid(
            "early_stopping",
            '"exact" where a beam goes on until all have ended ("carry", "ancestral")',
            fixed and not is_default,
        )
        constrained = self.trie is not None or bool(self.phrases)
        forbid(
            "finished",
            "no trie and no phrases with it",
            self.finished == "extend" and constrained,
        )
        forbid(
            "early_stopping",
            'finished="extend" with it',
            self.early_stopping == "places" and self.finished != "extend",
        )
        forbid(
            "rank_by",
            '"sum" unless finished is "carry"',
            self.rank_by == "score" and self.finished != "carry",
        )
        scored = self.length_penalty != "none" or self.coverage_penalty != "none"
        forbid(
            "sampling",
            "no length or coverage penalty and no word reward with it",
            self.sampling == "gumbel" and (scored or self.word_reward != 0),
        )
        forbid(
            "coverage_stepwise",
            "a coverage_penalty with it",
            self.coverage_stepwise and self.coverage_penalty == "none",
        )

    def _keep(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """All tokens that end a hypothesis."""
        return (self.eos_id,) if isinstance(self.eos_id, int) else tuple(self.eos_id)

    @property
    def needs_attention(self) -> bool:
        """Whether the step must return its attention."""
        return self.return_attention or self.coverage_penalty != "none"

    @property
    def needs_source_length(self) -> bool:
        """Whether the search must be told how long the source is."""
        return self.max_length_ratio > 0 or self.coverage_penalty != "none"

    def without_seed(self) -> "BeamSearchOptions":
        """What else it is told."""
        return replace(self, seed=0) if self.seed else self

    def length_limit(self, source_length: int) -> int:
        """The longest hypothesis for a source of this length."""
        return self.max_length + math.floor(self.max_length_ratio * source_length)

    def normaliser(self, length: int) -> float:
        """What divides the sum of a hypothesis whose tokens count as ``length``."""
        if length < 1 or self.length_penalty == "none":
            return 1.0
        if self.length_penalty == "average":
            return float(length)
        base = length if self.length_penalty == "power" else (5 + length) / 6
        return math.pow(base, self.alpha)


def check_options(where: str, options: object) -> None:
    """Duck-typed options would fail late and unclearly."""
    if not isinstance(options, BeamSearchOptions):
        raise TypeError(f"{where}: options: expected BeamSearchOptions, got {options!r}")
