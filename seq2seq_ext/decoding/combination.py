"""Step functions made of others: several models as one, or a model with a scorer beside it."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seq2seq_ext.decoding.check import check_choice, check_number
from seq2seq_ext.decoding.step import State, Step, call_step, check_step


def ensemble(
    steps: Sequence[Step], weights: Sequence[float] | None = None, *, mean: str = "arithmetic"
) -> Step:
    """One step function whose probabilities are the mean of several.

    Its state is the tuple of theirs. It returns attention where some of them do: the mean of
    theirs.

    Args:
        steps: step functions over one vocabulary.
        weights: of each, above 0; equal without. Those of an arithmetic mean are divided by
            their sum.
        mean: ``"arithmetic"``: log(sum of weight * p); ``"geometric"``: sum of weight * log(p),
            which under ``normalized=True`` adds up as it is, else is normalised again.

    Raises:
        ValueError, TypeError: a wrong argument, or a wrong result of a step, named in the
            message.

    Example:
        >>> import torch
        >>> from seq2seq_ext.decoding import ensemble
        >>> step = ensemble([
        ...     lambda tokens, state: (torch.tensor([[0.9, 0.1]]).log(), state),
        ...     lambda tokens, state: (torch.tensor([[0.5, 0.5]]).log(), state)])
        >>> logits, states = step(torch.tensor([0]), ((), ()))
        >>> logits.exp()
        tensor([[0.7000, 0.3000]])
    """
    where = "ensemble"
    if not isinstance(steps, (list, tuple)) or not steps:
        raise TypeError(f"{where}: steps: expected a list of step functions, got {steps!r}")
    for each in steps:
        check_step(where, each)
    shares = _weights(where, weights, len(steps))
    check_choice(where, "mean", mean, ("arithmetic", "geometric"))
    combine = _mean_of_probabilities if mean == "arithmetic" else _weighted_sum

    def step(tokens: Tensor, states: State) -> tuple:
        if not isinstance(states, (list, tuple)) or len(states) != len(steps):
            raise TypeError(f"{where}: state: expected a tuple of {len(steps)}, one for each step")
        pairs = zip(steps, states, strict=True)
        log_probs, moved, seen = zip(*(_call(where, *pair, tokens) for pair in pairs), strict=True)
        _check_shapes(where, "logits", log_probs)
        logits = combine(log_probs, shares)
        known = [(each, w) for each, w in zip(seen, shares, strict=True) if each is not None]
        if not known:
            return logits, moved
        attention, own_shares = zip(*known, strict=True)
        _check_shapes(where, "attention", attention)
        return logits, moved, _weighted_sum(attention, own_shares) / sum(own_shares)

    return step


def shallow_fusion(step: Step, scorer: Step, weight: float) -> Step:
    """A step function with a scorer beside it, a language model say (Gulcehre et al. 2015).

    Its logits are log p + weight * log p of the scorer: with ``normalized=True`` in the options
    hypotheses are summed and ranked by that; without, it is normalised again at each step. Its
    state is the pair of theirs, its attention that of ``step``.

    Args:
        step: of the model.
        scorer: any step function over the same vocabulary.
        weight: at least 0.

    Raises:
        ValueError, TypeError: a wrong argument, or a wrong result of a step, named in the
            message.

    Example:
        >>> import torch
        >>> from seq2seq_ext.decoding import shallow_fusion
        >>> fused = shallow_fusion(
        ...     lambda tokens, state: (torch.tensor([[0.5, 0.5]]).log(), state),
        ...     lambda tokens, state: (torch.tensor([[0.8, 0.2]]).log(), state), weight=2.0)
        >>> fused(torch.tensor([0]), ((), ()))[0].exp()
        tensor([[0.3200, 0.0200]])
    """
    where = "shallow_fusion"
    check_step(where, step)
    if not callable(scorer):
        raise TypeError(f"{where}: scorer: expected a callable, got {type(scorer).__name__}")
    check_number(where, "weight", weight, 0.0, 1e6)

    def fused(tokens: Tensor, states: State) -> tuple:
        if not isinstance(states, (list, tuple)) or len(states) != 2:
            raise TypeError(f"{where}: state: expected a pair, that of step and that of scorer")
        log_probs, moved, attention = _call(where, step, states[0], tokens)
        scores, scorer_moved, _ = _call(f"{where}: scorer", scorer, states[1], tokens)
        _check_shapes(where, "logits", (log_probs, scores))
        result = _weighted_sum((log_probs, scores), (1.0, weight)), (moved, scorer_moved)
        return result if attention is None else (*result, attention)

    return fused


def _call(
    where: str, step: Step, state: State, tokens: Tensor
) -> tuple[Tensor, State, Tensor | None]:
    """Log-probs, state, and the attention if there is one."""
    logits, moved, attention = call_step(where, step, tokens, state, None)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.log_softmax(1, dtype=dtype), moved, attention


def _check_shapes(where: str, name: str, tensors: Sequence[Tensor]) -> None:
    shapes = [list(each.shape) for each in tensors]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"{where}: {name}: expected one shape of all steps, got {shapes}")


def _mean_of_probabilities(log_probs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """As a log; at most 0, whatever rounding says."""
    total = sum(weights)
    terms = [p + math.log(w / total) for p, w in zip(log_probs, weights, strict=True)]
    return torch.stack(terms).logsumexp(0).clamp(max=0)


def _weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """A weight of 0 takes its tensor out, infinities included."""
    terms = [each * w for each, w in zip(tensors, weights, strict=True) if w > 0]
    return functools.reduce(torch.add, terms)


def _weights(where: str, weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1 / count] * count
    if not isinstance(weights, (list, tuple)):
        raise TypeError(f"{where}: weights: expected a list of numbers, got {weights!r}")
    if len(weights) != count:
        raise ValueError(f"{where}: weights: expected {count} like steps, got {len(weights)}")
    for weight in weights:
        check_number(where, "weights", weight, 1e-9, 1e6)
    return list(weights)
