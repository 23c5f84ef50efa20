"""Beam search, as plainly as it can be written. Semantics: csrc/kernels/beam_search.h."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from seq2seq_ext.reference.logit_rules import candidates, is_complete, progress
from seq2seq_ext.reference.sampling import conditioned

State = Any
_REASONS = ("eos", "max_length", "dead", "stopped")


class Result(NamedTuple):
    """As :class:`seq2seq_ext.decoding.BeamSearchResult` has them."""

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    log_probs: Tensor
    token_log_probs: Tensor
    reasons: Tensor
    rows: Tensor
    attention: Tensor | None


@dataclass
class _Hypothesis:
    tokens: list[int] = field(default_factory=list)
    token_log_probs: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)
    log_prob: float = 0.0
    key: float = 0.0
    score: float = 0.0
    reason: str = ""
    lane: int = 0
    is_spent: bool = False  # there is an EOS in it: nothing that goes on from it ends


class _Choice(NamedTuple):
    key: float
    beam: int
    token: int
    log_prob: float


class _Group:
    """A beam and its pool: ``beam_size / beam_groups`` rows of a sentence."""

    def __init__(self, options: Any, limit: int, source_length: int, first_row: int) -> None:
        self.options, self.limit, self.source_length = options, limit, source_length
        self.first_row = first_row
        self.beams = self.slots = options.beam_size // options.beam_groups
        lanes = self.beams if options.sampling == "ancestral" else 1
        self.live = [_Hypothesis(lane=lane) for lane in range(lanes)]
        self.pool: list[_Hypothesis] = []
        self.offered, self.length = 0, 0
        self.best_ends = self.best_has_ended = False
        self.place_has_ended = [False] * self.beams

    def pool_size(self) -> int:
        options = self.options
        if options.finished == "carry" or options.sampling == "ancestral":
            return self.beams
        returned = min(options.n_best, self.beams)
        if options.early_stopping == "exact":
            return returned
        return max(returned, math.floor(options.patience * self.beams + 0.5))

    def advance(
        self, logits: Tensor, attention: Tensor | None, used: Counter[int]
    ) -> list[tuple[int, int]]:
        """One step of this beam's rows; the (token, parent) of each survivor."""
        options = self.options
        self.length += 1
        choices = [
            choice
            for beam, live in enumerate(self.live)
            for choice in self._choices(beam, live, logits[beam], attention, used)
        ]
        if options.sampling == "ancestral":
            taken = {choice.beam: choice for choice in reversed(choices)}
            choices = [taken[beam] for beam in sorted(taken)]
        else:
            choices.sort(key=lambda choice: -choice.key)  # stable
        if options.phrases:
            choices = self._interleave_banks(choices)
        survivors: list[_Hypothesis] = []
        chosen: list[tuple[int, int]] = []
        met = ended = 0
        self.best_ends = False
        for choice in choices:
            parent = self.live[choice.beam]
            is_eos = not parent.reason and choice.token in options.eos_ids
            if is_eos and (
                self.length < options.min_length or not is_complete(options, parent.tokens)
            ):
                continue
            ends = is_eos and not parent.is_spent
            in_beam = met < self.slots
            met += 1
            self.best_ends |= ends and met == 1
            child = parent if parent.reason else self._extend(choice, attention)
            child.reason = "eos" if ends else child.reason
            carries, extends = options.finished == "carry", options.finished == "extend"
            is_cut = not ends and not child.is_spent and self.length == self.limit
            if (ends or is_cut) and not carries and (in_beam or options.eos_beyond_beam):
                self.end(child, "max_length")
                ended += ends
            if extends and is_eos:
                child = replace(child, reason="", is_spent=True)
                self.place_has_ended[len(survivors)] = True
            if not ends or carries or extends:
                if options.sampling != "ancestral":
                    child = replace(child, lane=len(survivors))
                survivors.append(child)
                chosen.append((options.pad_id if child.reason else choice.token, choice.beam))
            taken_places = len(survivors) if options.finished == "pool" else met
            if options.sampling != "ancestral" and taken_places >= self.slots:
                break
        if not survivors and not self.pool:
            for dying in self.live:
                self.end(dying, "dead")
        self.live = survivors
        self.best_has_ended |= self.best_ends
        for place in range(len(survivors), self.beams):
            self.place_has_ended[place] = True
        if options.finished == "shrink":
            self.slots -= ended
        used.update(
            token for (token, _), live in zip(chosen, survivors, strict=True) if not live.reason
        )
        if self._is_settled():
            if options.finished == "carry":
                self.stop("max_length")
            self.live = []
        return chosen if self.live else []

    def stop(self, reason: str) -> None:
        """What is live ends as it is."""
        for live in self.live:
            if not live.is_spent:
                self.end(live, reason)
        self.live = []

    def end(self, hypothesis: _Hypothesis, reason: str) -> None:
        """Into the pool, unless a constraint is not fulfilled."""
        if not is_complete(self.options, self._words(hypothesis)):
            return
        self.offered += 1
        if self.options.full_pool == "first" and len(self.pool) == self.pool_size():
            return
        score, reason = self.score(hypothesis), hypothesis.reason or reason
        self.pool.append(replace(hypothesis, score=score, reason=reason))
        self.pool.sort(key=lambda ended: -ended.score)
        del self.pool[self.pool_size() :]

    def score(self, hypothesis: _Hypothesis) -> float:
        if self.options.sampling == "gumbel":
            return hypothesis.key
        length = len(hypothesis.tokens)
        ends_with_eos = hypothesis.reason == "eos"
        by_length = self._length_score(hypothesis.log_prob, length, ends_with_eos)
        return by_length + self._coverage_term(hypothesis.attention)

    def _choices(
        self,
        beam: int,
        live: _Hypothesis,
        logits: Tensor,
        attention: Tensor | None,
        used: Counter[int],
    ) -> list[_Choice]:
        """A row's candidates in the order of their keys."""
        options = self.options
        if live.reason:
            by_score = options.rank_by == "score"
            key = self.score(live) if by_score else live.log_prob
            return [_Choice(key, beam, options.pad_id, 0.0)]
        found = candidates(options, self.limit, live.tokens, live.lane, logits)
        largest = live.log_prob + max((perturbed for *_, perturbed in found), default=0.0)
        choices = []
        for log_prob, token, perturbed in found:
            key = live.log_prob + log_prob
            if options.rank_by == "score":
                key = self._length_score(key, self.length, token in options.eos_ids)
            if options.coverage_stepwise and attention is not None:
                key += self._coverage_term([*live.attention, attention[beam]])
            if options.sampling == "ancestral":
                key = perturbed
            if options.sampling == "gumbel":
                key = conditioned(live.log_prob + perturbed, largest, live.key)
            key -= options.diversity_penalty * used[token]
            choices.append(_Choice(key, beam, token, log_prob))
        return sorted(choices, key=lambda choice: -choice.key)

    def _interleave_banks(self, choices: list[_Choice]) -> list[_Choice]:
        """The first of each bank, the furthest bank first, then the second of each, ..."""
        turns: Counter[int] = Counter()
        places = []
        for choice in choices:
            tokens = self.live[choice.beam].tokens
            if choice.token not in self.options.eos_ids:
                tokens = [*tokens, choice.token]
            bank = progress(self.options, tokens)
            places.append((turns[bank], -bank))
            turns[bank] += 1
        order = sorted(range(len(choices)), key=lambda i: places[i])
        return [choices[i] for i in order]

    def _extend(self, choice: _Choice, attention: Tensor | None) -> _Hypothesis:
        parent = self.live[choice.beam]
        return _Hypothesis(
            [*parent.tokens, choice.token],
            [*parent.token_log_probs, choice.log_prob],
            [*parent.rows, self.first_row + choice.beam],
            parent.attention if attention is None else [*parent.attention, attention[choice.beam]],
            parent.log_prob + choice.log_prob,
            choice.key,
            lane=parent.lane,
            is_spent=parent.is_spent,
        )

    def _words(self, hypothesis: _Hypothesis) -> list[int]:
        return hypothesis.tokens[:-1] if hypothesis.reason == "eos" else hypothesis.tokens

    def _length_score(self, total: float, length: int, ends_with_eos: bool) -> float:
        options = self.options
        counted = length + options.length_offset - (ends_with_eos and not options.count_eos)
        return (total + options.word_reward * counted) / options.normaliser(counted)

    def _coverage_term(self, attention: list[Tensor]) -> float:
        options = self.options
        if options.coverage_penalty == "none":
            return 0.0
        mass = [0.0] * self.source_length
        for weights in attention:
            mass = [m + w for m, w in zip(mass, weights.tolist(), strict=False)]
        if options.coverage_penalty == "gnmt":
            return options.beta * sum(math.log(max(min(m, 1.0), 1e-10)) for m in mass)
        return options.beta * sum(1 - max(m, 1.0) for m in mass)

    def _is_settled(self) -> bool:
        options = self.options
        if not self.live or self.length == self.limit:
            return True
        if options.finished == "carry":
            return all(live.reason for live in self.live)
        if options.sampling == "ancestral":
            return False
        if options.early_stopping in ("exact", "heuristic"):
            if len(self.pool) < self.pool_size():
                return False
            return max(map(self._best_in_reach, self.live)) <= self.pool[-1].score
        if options.early_stopping == "first":
            return self.offered >= self.pool_size()
        if options.early_stopping == "top":
            return self.best_has_ended and self.offered >= options.n_best
        if options.early_stopping == "top_now":
            return self.best_ends and self.offered >= options.n_best
        if options.early_stopping == "places":
            return all(self.place_has_ended)
        return False

    def _best_in_reach(self, live: _Hypothesis) -> float:
        """No hypothesis that goes on from here scores more (nor this one, by the heuristic)."""
        if self.options.sampling == "gumbel":
            return live.key
        if self.options.early_stopping == "heuristic":
            return self._length_score(live.log_prob, self.length, False)
        lengths = range(self.length + self.options.count_eos, self.limit + 1)
        return max(self._length_score(live.log_prob, length, False) for length in lengths)


def beam_search(
    step: Callable[[Tensor, State], tuple],
    state: State,
    *,
    batch_size: int,
    options: Any,
    source_lengths: Sequence[int] | None = None,
    device: torch.device | str | None = None,
) -> Result:
    """Same arguments and results as :func:`seq2seq_ext.decoding.beam_search`."""
    told = list(options) if isinstance(options, (list, tuple)) else [options] * batch_size
    sentences: list[list[_Group]] = []
    row = 0
    for b, each in enumerate(told):
        source = 0 if source_lengths is None else source_lengths[b]
        beams = each.beam_size // each.beam_groups
        firsts = range(row, row + each.beam_size, beams)
        sentences.append([_Group(each, each.length_limit(source), source, f) for f in firsts])
        row += each.beam_size
    groups = [group for sentence in sentences for group in sentence]
    first = [each.bos_id for each in told for _ in range(each.beam_size)]
    tokens = torch.tensor(first, device="cpu")
    tensors = (leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor))
    device = device or next((each.device for each in tensors), "cpu")
    keeps_attention = any(each.return_attention for each in told)
    width = 0
    while any(group.live for group in groups):
        logits, state, *rest = step(tokens.to(device), state)
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        logits = logits.to("cpu", dtype)
        attention = rest[0].detach().cpu() if rest else None
        width = 0 if attention is None else attention.shape[1]
        with torch.device("cpu"):  # whatever the caller's default is
            tokens, parents = _choose(sentences, logits, attention)
        state = _reorder(state, parents)
    found = [
        sorted((e for g in sentence for e in g.pool), key=lambda ended: -ended.score)[
            : sentence[0].options.n_best
        ]
        for sentence in sentences
    ]
    with torch.device("cpu"):
        return _to_result(found, told, width if keeps_attention else None)


def _choose(
    sentences: list[list[_Group]], logits: Tensor, attention: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Tokens and parents of all rows."""
    tokens, parents = [], []
    for sentence in sentences:
        used: Counter[int] = Counter()
        for group in sentence:
            chosen = []
            if group.live:
                own = slice(group.first_row, group.first_row + group.beams)
                weights = None if attention is None else attention[own]
                chosen = group.advance(_hooked(group, logits[own]), weights, used)
            chosen += [(group.options.pad_id, b) for b in range(len(chosen), group.beams)]
            tokens += [token for token, _ in chosen]
            parents += [group.first_row + parent for _, parent in chosen]
    return torch.tensor(tokens), torch.tensor(parents)


def _hooked(group: _Group, logits: Tensor) -> Tensor:
    """The rows of a group as its sentence's hook leaves them."""
    hook = group.options.logits_hook
    rows = [beam for beam, live in enumerate(group.live) if not live.reason]
    if hook is None or not rows:
        return logits
    prefixes = torch.tensor([group.live[beam].tokens for beam in rows], dtype=torch.int64)
    changed = hook(prefixes.reshape(len(rows), -1), logits[rows]).to(logits.dtype)
    return logits.index_copy(0, torch.tensor(rows), changed)


def _reorder(state: State, parents: Tensor) -> State:
    if isinstance(state, Tensor):
        return state[parents.to(state.device)]
    if isinstance(state, dict):
        return {key: _reorder(value, parents) for key, value in state.items()}
    if isinstance(state, (tuple, list)):
        make = getattr(state, "_make", type(state))
        return make([_reorder(value, parents) for value in state])
    return state


def _to_result(found: list[list[_Hypothesis]], told: list[Any], width: int | None) -> Result:
    batch, n = len(found), max(each.n_best for each in told)
    longest = max(len(each.tokens) for row in found for each in row) if any(found) else 0
    pads = torch.tensor([each.pad_id for each in told])
    result = Result(
        tokens=pads[:, None, None].expand(batch, n, longest).clone(),
        lengths=torch.zeros(batch, n, dtype=torch.int64),
        scores=torch.full((batch, n), -math.inf, dtype=torch.float64),
        log_probs=torch.full((batch, n), -math.inf, dtype=torch.float64),
        token_log_probs=torch.zeros(batch, n, longest, dtype=torch.float64),
        reasons=torch.full((batch, n), -1),
        rows=torch.zeros(batch, n, longest, dtype=torch.int64),
        attention=None if width is None else torch.zeros(batch, n, longest, width),
    )
    for b, row in enumerate(found):
        for i, each in enumerate(row):
            length = len(each.tokens)
            result.tokens[b, i, :length] = torch.tensor(each.tokens, dtype=torch.int64)
            result.rows[b, i, :length] = torch.tensor(each.rows, dtype=torch.int64)
            result.token_log_probs[b, i, :length] = torch.tensor(each.token_log_probs).double()
            result.lengths[b, i] = length
            result.scores[b, i] = each.score
            result.log_probs[b, i] = each.log_prob
            result.reasons[b, i] = _REASONS.index(each.reason)
            if result.attention is not None and length:
                result.attention[b, i, :length] = torch.stack(each.attention)
    return result
