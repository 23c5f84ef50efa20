"""A row's candidates under the rules of csrc/kernels/search/logit_rules.h."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext.reference.sampling import gumbel

# log-prob, token, and the log-prob plus noise under sampling.
Candidate = tuple[float, int, float]


def candidates(
    options: Any, limit: int, tokens: list[int], lane: int, logits: Tensor
) -> list[Candidate]:
    """Of a row ``[V]`` behind the prefix ``tokens``, the best first; ``limit`` is max_length."""
    length, seen = len(tokens), tokens
    if options.rules_see_bos:
        seen = [options.bos_id, *tokens]
    if options.shortlist is not None:
        logits = _keep_only(logits, options.shortlist)
    lse = _log_sum_exp(logits)
    if not math.isfinite(lse):
        return []
    sees_log_probs = options.rules_on == "log_probs" and _has_rules(options, limit, length)
    on_log_probs = options.normalized or sees_log_probs
    if sees_log_probs and not options.normalized:
        logits = _log_probs(logits, lse)
    logits = _adjust(options, seen, logits)
    lse = 0.0 if on_log_probs else _log_sum_exp(logits)
    if length < len(options.prefix):
        logits = _keep_only(logits, [options.prefix[length]])
    else:
        logits = _ban(options, limit, tokens, seen, logits)
    logits = _truncate(options, logits)
    if options.renormalize:
        lse = _log_sum_exp(logits)
    if not math.isfinite(lse):
        return []
    log_probs = _log_probs(logits, lse).tolist()
    ranked = logits.double().tolist()
    if options.sampling != "none":
        ranked = [
            value + gumbel(options.seed, length, lane, token)
            for token, value in enumerate(log_probs)
        ]
    order = sorted(range(len(ranked)), key=lambda token: (-ranked[token], token))
    best = order[: options.beam_size + len(options.eos_ids)]
    best += [token for token in advancing(options, tokens) if token not in best]
    return [(log_probs[t], t, ranked[t]) for t in best if log_probs[t] > -math.inf]


def _has_rules(options: Any, limit: int, length: int) -> bool:
    """Whether anything changes the row of a prefix of this length."""
    changes = (
        options.shortlist is not None,
        options.normalized,
        options.temperature != 1,
        options.repetition_penalty != 1,
        options.no_repeat_ngram_size > 0,
        options.banned,
        options.trie is not None,
        options.phrases,
        options.top_k > 0,
        options.top_p < 1,
        options.sampling != "none",
        length < len(options.prefix),
        options.force_eos and length + 1 == limit,
        options.renormalize and length + 1 < options.min_length,
    )
    return any(changes)


def is_complete(options: Any, tokens: list[int]) -> bool:
    """Whether a hypothesis may end here."""
    if options.trie is not None and tuple(tokens) not in options.trie:
        return False
    return all(_holds(tokens, phrase) for phrase in options.phrases)


def progress(options: Any, tokens: list[int]) -> int:
    """Tokens of the phrases met, and of the longest beginning of one that is not."""
    met = [phrase for phrase in options.phrases if _holds(tokens, phrase)]
    begun = [_begun(tokens, phrase)[-1] for phrase in options.phrases if phrase not in met]
    return sum(map(len, met)) + max(begun, default=0)


def advancing(options: Any, tokens: list[int]) -> list[int]:
    """The tokens that carry a beginning of an unmet phrase on."""
    unmet = [phrase for phrase in options.phrases if not _holds(tokens, phrase)]
    return sorted({phrase[n] for phrase in unmet for n in _begun(tokens, phrase)})


def _holds(tokens: list[int], phrase: tuple[int, ...]) -> bool:
    n = len(phrase)
    return any(tuple(tokens[i : i + n]) == phrase for i in range(len(tokens) - n + 1))


def _begun(tokens: list[int], phrase: tuple[int, ...]) -> list[int]:
    """How many tokens of the phrase the hypothesis may be said to end with, ascending."""
    counts = range(min(len(tokens), len(phrase) - 1) + 1)
    return [n for n in counts if tuple(tokens[len(tokens) - n :]) == phrase[:n]]


def _adjust(options: Any, seen: list[int], logits: Tensor) -> Tensor:
    if options.temperature != 1:
        logits = logits / torch.tensor(options.temperature, dtype=logits.dtype)
    if options.repetition_penalty != 1 and seen:
        penalty = torch.tensor(options.repetition_penalty, dtype=logits.dtype)
        used = torch.tensor(sorted(set(seen)))
        values = logits[used]
        logits = logits.index_copy(
            0, used, torch.where(values > 0, values / penalty, values * penalty)
        )
    return logits


def _ban(options: Any, limit: int, tokens: list[int], seen: list[int], logits: Tensor) -> Tensor:
    length, banned = len(tokens), set()
    if length + 1 < options.min_length or not is_complete(options, tokens):
        banned.update(options.eos_ids)
    for sequence in options.banned:
        if len(sequence) == 1 or tuple(seen[-(len(sequence) - 1) :]) == sequence[:-1]:
            banned.add(sequence[-1])
    if n := options.no_repeat_ngram_size:
        last = seen[len(seen) - (n - 1) :] if len(seen) >= n - 1 else None
        banned.update(
            seen[i + n - 1] for i in range(len(seen) - n + 1) if seen[i : i + n - 1] == last
        )
    if banned:
        logits = logits.index_fill(0, torch.tensor(sorted(banned)), -math.inf)
    if options.trie is not None:
        allowed = {
            sequence[length]
            for sequence in options.trie
            if len(sequence) > length and list(sequence[:length]) == tokens
        }
        if is_complete(options, tokens):
            allowed.update(options.eos_ids)
        logits = _keep_only(logits, sorted(allowed))
    if options.force_eos and length + 1 == limit:
        logits = _keep_only(logits, options.eos_ids)
    return logits


def _truncate(options: Any, logits: Tensor) -> Tensor:
    order = logits.sort(descending=True, stable=True).indices
    if 0 < options.top_k < len(order):
        logits = _keep_only(logits, order[: options.top_k].tolist())
    if options.top_p < 1:
        shares = _log_probs(logits, _log_sum_exp(logits))[order].double().exp()
        before = shares.cumsum(0) - shares
        logits = _keep_only(logits, order[before < options.top_p].tolist())
    return logits


def _keep_only(logits: Tensor, allowed: Iterable[int]) -> Tensor:
    places = torch.tensor(list(allowed), dtype=torch.int64)
    return torch.full_like(logits, -math.inf).index_copy(0, places, logits[places])


def _log_sum_exp(logits: Tensor) -> float:
    return logits.double().logsumexp(dim=0).item()


def _log_probs(logits: Tensor, lse: float) -> Tensor:
    return (logits.double() - lse).clamp(max=0.0).to(logits.dtype)
