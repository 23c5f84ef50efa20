"""Beam search, as plainly as it can be written. Semantics: csrc/kernels/beam_search.h."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext.reference.topk import log_softmax_topk

State = Any
Arrays = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass
class _Hypothesis:
    tokens: list[int]
    log_prob: float
    score: float = 0.0


@dataclass
class _Sentence:
    live: list[_Hypothesis] = field(default_factory=lambda: [_Hypothesis([], 0.0)])
    pool: list[_Hypothesis] = field(default_factory=list)


def beam_search(
    step: Callable[[Tensor, State], tuple[Tensor, State]],
    state: State,
    *,
    batch_size: int,
    options: Any,
    device: torch.device | str | None = None,
) -> Arrays:
    """``tokens [B, n_best, L]``, ``lengths``, ``scores`` and ``log_probs [B, n_best]``."""
    beams = options.beam_size
    sentences = [_Sentence() for _ in range(batch_size)]
    tokens = torch.full((batch_size * beams,), options.bos_id, device=device)
    while any(sentence.live for sentence in sentences):
        logits, state = step(tokens, state)
        width = min(beams + 1, logits.shape[1])
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        log_probs, indices = log_softmax_topk(logits.to("cpu", dtype), width)
        next_tokens, parents = [], []
        for s, sentence in enumerate(sentences):
            own = slice(s * beams, (s + 1) * beams)
            chosen = _advance(sentence, log_probs[own].tolist(), indices[own].tolist(), options)
            chosen += [(options.pad_id, beam) for beam in range(len(chosen), beams)]
            next_tokens += [token for token, _ in chosen]
            parents += [s * beams + parent for _, parent in chosen]
        tokens = torch.tensor(next_tokens, device=device)
        state = _reorder(state, torch.tensor(parents))
    return _to_arrays([sentence.pool for sentence in sentences], options)


def _advance(
    sentence: _Sentence, log_probs: list[list[float]], tokens: list[list[int]], options: Any
) -> list[tuple[int, int]]:
    """One step of one sentence: the (token, parent) of each survivor."""
    # Python's sort is stable: equals stay in the order of parents, then of logits, then tokens.
    candidates = sorted(
        (
            (parent.log_prob + log_prob, beam, token)
            for beam, parent in enumerate(sentence.live)
            for log_prob, token in zip(log_probs[beam], tokens[beam], strict=True)
            if parent.log_prob + log_prob > -math.inf
        ),
        key=lambda candidate: -candidate[0],
    )
    survivors: list[_Hypothesis] = []
    chosen: list[tuple[int, int]] = []
    for log_prob, beam, token in candidates:
        hypothesis = _Hypothesis([*sentence.live[beam].tokens, token], log_prob)
        length = len(hypothesis.tokens)
        if token == options.eos_id:
            if length >= options.min_length:
                _end(sentence.pool, hypothesis, options)
            continue
        if length == options.max_length:
            _end(sentence.pool, hypothesis, options)
        survivors.append(hypothesis)
        chosen.append((token, beam))
        if len(survivors) == options.beam_size:
            break
    if not survivors and not sentence.pool:
        for dying in sentence.live:
            _end(sentence.pool, dying, options)
    sentence.live = [] if _is_settled(survivors, sentence.pool, options) else survivors
    return chosen if sentence.live else []


def _normaliser(length: int, options: Any) -> float:
    if length == 0 or options.length_penalty == "none":
        return 1.0
    base = length if options.length_penalty == "power" else (5 + length) / 6
    return math.pow(base, options.alpha)


def _end(pool: list[_Hypothesis], hypothesis: _Hypothesis, options: Any) -> None:
    hypothesis.score = hypothesis.log_prob / _normaliser(len(hypothesis.tokens), options)
    pool.append(hypothesis)
    pool.sort(key=lambda ended: -ended.score)
    del pool[options.beam_size :]


def _is_settled(survivors: list[_Hypothesis], pool: list[_Hypothesis], options: Any) -> bool:
    if not survivors or len(survivors[0].tokens) == options.max_length:
        return True
    if len(pool) < options.beam_size:
        return False
    lengths = range(len(survivors[0].tokens) + 1, options.max_length + 1)
    best = max(_normaliser(length, options) for length in lengths)
    return survivors[0].log_prob / best <= pool[-1].score


def _reorder(state: State, parents: Tensor) -> State:
    if isinstance(state, Tensor):
        return state[parents.to(state.device)]
    if isinstance(state, dict):
        return {key: _reorder(value, parents) for key, value in state.items()}
    if isinstance(state, (tuple, list)):
        make = getattr(state, "_make", type(state))
        return make([_reorder(value, parents) for value in state])
    return state


def _to_arrays(pools: list[list[_Hypothesis]], options: Any) -> Arrays:
    missing = _Hypothesis([], -math.inf, -math.inf)
    n = options.n_best
    found = [(pool + [missing] * n)[:n] for pool in pools]
    lengths = torch.tensor([[len(each.tokens) for each in row] for row in found])
    tokens = torch.full((*lengths.shape, int(lengths.max())), options.pad_id)
    for b, row in enumerate(found):
        for i, each in enumerate(row):
            tokens[b, i, : len(each.tokens)] = torch.tensor(each.tokens, dtype=torch.int64)
    scores = torch.tensor([[each.score for each in row] for row in found], dtype=torch.float64)
    log_probs = [[each.log_prob for each in row] for row in found]
    return tokens, lengths, scores, torch.tensor(log_probs, dtype=torch.float64)
