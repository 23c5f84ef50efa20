"""What the autograd formulas of all ops share."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def needs_grad(*tensors: Tensor) -> bool:
    """Whether a call on these tensors must save something for backward."""
    return torch.is_grad_enabled() and any(getattr(t, "requires_grad", False) for t in tensors)


def product_dtype(input: Tensor) -> torch.dtype | None:
    """What autocast wants the products of ``input`` rounded to; None for its own.

    That is bfloat16, or float16 on CUDA.
    """
    is_cuda = getattr(input, "is_cuda", False)
    device = "cuda" if is_cuda else "cpu"
    halves = (torch.bfloat16, torch.float16) if is_cuda else (torch.bfloat16,)
    if not torch.is_autocast_enabled(device) or input.dtype not in (torch.float32, *halves):
        return None
    dtype = torch.get_autocast_dtype(device)
    return dtype if dtype in halves else None


def call_packed(op: Callable[..., Any], packed: Any, *args: Any) -> Any:
    """``op(*args)``, ``packed`` among them, which autocast must leave as it is.

    An op's autocast rule makes float32 of every bfloat16 tensor, of opaque ones too.
    """
    is_bfloat16 = isinstance(packed, Tensor) and packed.dtype == torch.bfloat16
    if not (is_bfloat16 and torch.is_autocast_enabled("cpu")):
        return op(*args)
    with torch.autocast("cpu", enabled=False):
        return op(*(a if a is packed else widened(a) for a in args))


def widened(value: Any, narrow: Sequence[torch.dtype] = (torch.bfloat16,)) -> Any:
    """Tensors of ``narrow`` types, in a list too, as float32; everything else as it is."""
    if isinstance(value, (list, tuple)):
        return [widened(v, narrow) for v in value]
    return value.float() if isinstance(value, Tensor) and value.dtype in narrow else value


def double_backward(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients of a backward op, by a differentiable recompute of the forward.

    Args:
        function: plain PyTorch forward, called with ``inputs``; its outputs match
            ``grad_outputs``.
        inputs: the forward's differentiable inputs.
        grad_outputs: what the backward op got.
        grads: gradients of what the backward op returned, one for each input; None where
            there is none.

    Returns:
        Gradients for ``inputs`` and then ``grad_outputs``; None where nothing depends.
    """
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in (*inputs, *grad_outputs)]
        outputs = function(*leaves[: len(inputs)])
        first = torch.autograd.grad(
            outputs,
            leaves[: len(inputs)],
            leaves[len(inputs) :],
            create_graph=True,
            allow_unused=True,
        )
        pairs = [
            (f, g)
            for f, g in zip(first, grads, strict=True)
            if f is not None and g is not None and f.requires_grad
        ]
        if not pairs:
            return [None] * len(leaves)
        second: Any = torch.autograd.grad(
            [f for f, _ in pairs], leaves, [g for _, g in pairs], allow_unused=True
        )
    return list(second)
