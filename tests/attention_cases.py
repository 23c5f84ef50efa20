"""Inputs of the attention tests, and what every comparison runs."""

from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import ops, reference

OPS = torch.ops.seq2seq_ext
KINDS = ("additive", "dot")


def call(where: Any, kind: str, tensors: list[Tensor], lengths: Tensor | None = None) -> Any:
    """The attention of module ``where`` (ops or reference); tensors: query, keys, v, memory."""
    query, keys, v, memory = tensors
    if kind == "additive":
        return where.additive_attention(query, keys, v, memory, lengths)
    return where.dot_attention(query, keys, memory, lengths, 0.5)


def make(
    b: int,
    t: int,
    s: int,
    a: int,
    m: int,
    *,
    magnitude: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    query, keys = torch.randn(b, t, a) * magnitude, torch.randn(b, s, a) * magnitude
    return [x.to(dtype) for x in (query, keys, torch.randn(a), torch.randn(b, s, m))]


def make_lengths(b: int, s: int) -> Tensor:
    lengths = torch.randint(0, s + 1, (b,))
    lengths[-1] = 0
    lengths[0] = s
    return lengths


def run(
    where: Any,
    kind: str,
    tensors: list[Tensor],
    lengths: Tensor | None,
    grads: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """Outputs and gradients by name."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    outputs = call(where, kind, leaves, lengths)
    found = torch.autograd.grad(outputs, leaves, grads, allow_unused=True)
    names = ("query", "keys", "v", "memory")
    gradients = {f"grad_{n}": g for n, g in zip(names, found, strict=True) if g is not None}
    return {"context": outputs[0].detach(), "weights": outputs[1].detach()} | gradients


def errors_of(
    kind: str, tensors: list[Tensor], lengths: Tensor | None, dense: list[Tensor] | None = None
) -> dict[str, Tensor]:
    """Of each output and gradient: our largest error against float64, torch's, the largest value.

    ``dense``: the same values as ``tensors``, for the references.
    """
    dense = tensors if dense is None else dense
    b, t, s, m = *tensors[0].shape[:2], *tensors[3].shape[1:]
    grads = torch.randn(b, t, m), torch.randn(b, t, s)
    exact = run(
        reference,
        kind,
        [x.double() for x in dense],
        lengths,
        (grads[0].double(), grads[1].double()),
    )
    theirs, ours = (
        run(where, kind, x, lengths, grads) for where, x in ((reference, dense), (ops, tensors))
    )
    assert ours.keys() == exact.keys()
    errors = {}
    for name, expected in exact.items():
        assert ours[name].shape == expected.shape
        if expected.numel():
            values = (ours[name] - expected, theirs[name] - expected, expected)
            errors[name] = torch.stack([x.double().abs().max() for x in values])
    return errors


def assert_errors(draws: list[dict[str, Tensor]]) -> None:
    """err(ours) <= 2 err(torch float32) + tiny, the largest of all draws.

    Several draws where a tensor is small: the largest error of one draw is luck, torch's too.
    """
    for name in draws[0]:
        ours, theirs, largest = torch.stack([draw[name] for draw in draws]).amax(0).tolist()
        # Tiny: a few roundings of the sum's terms, which are of order one here.
        allowed = 2 * theirs + 4 * torch.finfo(torch.float32).eps * max(1.0, largest)
        assert ours <= allowed, f"{name}: {ours:.2e} > {allowed:.2e}"


def assert_as_good_as_torch(
    kind: str, tensors: list[Tensor], lengths: Tensor | None, dense: list[Tensor] | None = None
) -> None:
    """:func:`assert_errors` of one draw."""
    assert_errors([errors_of(kind, tensors, lengths, dense)])
