"""Greedy search over any step function."""

import torch
from torch import Tensor

from seq2seq_ext import ops
from seq2seq_ext.decoding.options import BeamSearchOptions, check_int, check_options
from seq2seq_ext.decoding.result import BeamSearchResult
from seq2seq_ext.decoding.step import (
    State,
    Step,
    call_step,
    check_state,
    check_step,
    check_vocabulary,
    device_of,
    for_search,
)


@torch.no_grad()
def greedy_search(
    step: Step,
    state: State,
    *,
    batch_size: int,
    options: BeamSearchOptions,
    device: torch.device | str | None = None,
) -> BeamSearchResult:
    """The sequence of most probable tokens of each sentence, the lowest of equals.

    Like :func:`beam_search`, but N = batch_size, one hypothesis a sentence, and a sentence stops
    at its first EOS. Its rows are fed ``pad_id`` from then on. A row with no probabilities (see
    :func:`seq2seq_ext.ops.log_softmax_topk`) ends as it is.

    Args:
        step: ``step(tokens [N] int64, state) -> (logits [N, V], state)``.
        state: nested tuples, lists and dicts of tensors with leading dimension N; never
            reordered.
        batch_size: sentences, at least 1.
        options: see :class:`BeamSearchOptions`; ``beam_size`` and ``n_best`` are ignored.
        device: where tokens are made; by default that of the first tensor in ``state``, else
            the CPU.

    Returns:
        A result with n_best = 1.

    Raises:
        ValueError, TypeError: a wrong argument, or a wrong result of ``step``, named in the
            message.

    Example:
        >>> import torch
        >>> from seq2seq_ext.decoding import BeamSearchOptions, greedy_search
        >>> table = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 0], [0, 0, 3, 1]])
        >>> options = BeamSearchOptions(bos_id=1, eos_id=2, pad_id=0)
        >>> result = greedy_search(
        ...     lambda tokens, state: (table[tokens], state), (), batch_size=1, options=options)
        >>> result.hypotheses[0][0].tokens
        [3, 2]
    """
    where = "greedy_search"
    check_step(where, step)
    check_options(where, options)
    check_int(where, "batch_size", batch_size, 1)
    check_state(where, state, batch_size)
    device = device_of(where, state, device)
    tokens = torch.full((batch_size,), options.bos_id, device=device)
    live = torch.ones(batch_size, dtype=torch.bool)
    log_probs = torch.zeros(batch_size, dtype=torch.float64)
    lengths = torch.zeros(batch_size, dtype=torch.int64)
    columns: list[Tensor] = []
    while live.any() and len(columns) < options.max_length:
        logits, state = call_step(where, step, tokens, state)
        check_vocabulary(where, logits, options.eos_id)
        may_end = len(columns) + 1 >= options.min_length
        log_prob, chosen = _best_token(for_search(logits), options.eos_id, may_end)
        live &= log_prob > -float("inf")
        log_probs += log_prob.where(live, 0.0)
        lengths += live
        chosen = chosen.where(live, options.pad_id)
        columns.append(chosen)
        live &= chosen != options.eos_id
        tokens = chosen.where(live, options.pad_id).to(device)
    return _result(columns, lengths, log_probs, options)


def _best_token(logits: Tensor, eos_id: int, may_end: bool) -> tuple[Tensor, Tensor]:
    """Log-prob and token of each row; -inf where there is none to choose."""
    k = 1 if may_end else min(2, logits.shape[1])
    log_probs, indices = ops.log_softmax_topk(logits, k)
    if may_end:
        return log_probs[:, 0].double(), indices[:, 0]
    allowed = log_probs.double().masked_fill(indices == eos_id, -float("inf"))
    best = (indices[:, 0] == eos_id).long().clamp(max=k - 1)[:, None]
    return allowed.gather(1, best)[:, 0], indices.gather(1, best)[:, 0]


def _result(
    columns: list[Tensor], lengths: Tensor, log_probs: Tensor, options: BeamSearchOptions
) -> BeamSearchResult:
    longest = int(lengths.max())
    normalisers = [options.normaliser(length) for length in lengths.tolist()]
    scores = log_probs / torch.tensor(normalisers, dtype=torch.float64)
    tokens = torch.stack(columns, dim=1)[:, :longest]
    return BeamSearchResult(tokens[:, None], lengths[:, None], scores[:, None], log_probs[:, None])
