"""The attention ops: score, masked softmax and context in one pass."""

from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops.autograd import double_backward
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.tracing import register_fake


def additive_attention(
    query: Tensor,
    keys: Tensor,
    v: Tensor,
    memory: Tensor,
    memory_lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention whose scores are ``v . tanh(query + keys)``, over each sentence's real keys.

    Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and
    Translate", appendix A.1.2; query and keys are the projected ones. No ``[B, T, S, A]`` tensor
    is made, in backward neither.

    Args:
        query: ``[B, T, A]``, float32 or float64; T queries (beams or target steps) share one
            sentence. Here and below any strides with contiguous features are taken as they are.
        keys: ``[B, S, A]``, same dtype.
        v: ``[A]``, same dtype.
        memory: ``[B, S, M]``, same dtype.
        memory_lengths: int64 ``[B]``, zeros allowed; None means all S. Keys and memory past a
            length are never read.

    Returns:
        ``context [B, T, M]`` and ``weights [B, T, S]``; both zero for an empty sentence.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> keys, memory = torch.randn(2, 7, 4), torch.randn(2, 7, 6)
        >>> context, weights = ops.additive_attention(
        ...     torch.randn(2, 3, 4), keys, torch.randn(4), memory, torch.tensor([7, 5])
        ... )
        >>> context.shape, weights[1, 0, 5:].tolist()
        (torch.Size([2, 3, 6]), [0.0, 0.0])
    """
    if reference_active():
        return reference.additive_attention(query, keys, v, memory, memory_lengths)
    result: tuple[Tensor, Tensor] = torch.ops.seq2seq_ext.additive_attention(
        query, keys, v, memory, memory_lengths
    )
    return result


def dot_attention(
    query: Tensor,
    keys: Tensor,
    memory: Tensor,
    memory_lengths: Tensor | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Attention whose scores are ``scale * query . keys``, over each sentence's real keys.

    Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation",
    section 3.1; with ``scale = 1 / sqrt(A)`` that of Vaswani et al. 2017.

    Args:
        query: ``[B, T, A]``, float32 or float64; T queries (beams or target steps) share one
            sentence. Here and below any strides with contiguous features are taken as they are.
        keys: ``[B, S, A]``, same dtype.
        memory: ``[B, S, M]``, same dtype.
        memory_lengths: int64 ``[B]``, zeros allowed; None means all S. Keys and memory past a
            length are never read.
        scale: factor of the scores.

    Returns:
        ``context [B, T, M]`` and ``weights [B, T, S]``; both zero for an empty sentence.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> memory = torch.randn(2, 7, 4)
        >>> context, weights = ops.dot_attention(torch.randn(2, 3, 4), memory, memory, scale=0.5)
        >>> context.shape, weights.shape
        (torch.Size([2, 3, 4]), torch.Size([2, 3, 7]))
    """
    if reference_active():
        return reference.dot_attention(query, keys, memory, memory_lengths, scale)
    result: tuple[Tensor, Tensor] = torch.ops.seq2seq_ext.dot_attention(
        query, keys, memory, memory_lengths, scale
    )
    return result


class _AttentionOp:
    """Tracing, autograd and autocast of one attention op.

    The op's arguments are its differentiable tensors, the lengths, then plain numbers
    (``extra``).
    """

    def __init__(self, name: str, function: Any, tensors: int) -> None:
        self.name = f"seq2seq_ext::{name}"
        self.function = function
        self.tensors = tensors
        self.run_backward = getattr(torch.ops.seq2seq_ext, f"{name}_backward")

    def register(self) -> None:
        backward = f"{self.name}_backward"
        register_fake(self.name, self.fake)
        register_fake(backward, self.fake_backward)
        torch.library.register_autograd(self.name, self.backward, setup_context=self.save)
        torch.library.register_autograd(
            backward, self.double_backward, setup_context=self.save_backward
        )
        for device in ("cpu", "cuda"):
            torch.library.register_autocast(self.name, device, torch.float32)

    def fake(self, *args: Any) -> tuple[Tensor, Tensor]:
        query, memory = args[0], args[self.tensors - 1]
        rows, source = query.shape[:2], memory.shape[1]
        return query.new_empty(*rows, memory.shape[2]), query.new_empty(*rows, source)

    def fake_backward(self, grad_context: Tensor, grad_weights: Tensor, *args: Any) -> Any:
        return tuple(t.new_empty(t.shape) for t in args[: self.tensors])

    def save(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.lengths = inputs[: self.tensors + 1]
        ctx.extra = inputs[self.tensors + 1 :]
        ctx.save_for_backward(*tensors, output[1])

    def backward(self, ctx: Any, grad_context: Tensor, grad_weights: Tensor) -> Any:
        *tensors, weights = ctx.saved_tensors
        grads = self.run_backward(
            grad_context, grad_weights, *tensors, ctx.lengths, *ctx.extra, weights
        )
        return *grads, None, *(None for _ in ctx.extra)

    def save_backward(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        # Without the weights: the recompute makes them again.
        *tensors, ctx.lengths = inputs[: self.tensors + 3]
        ctx.extra = inputs[self.tensors + 3 : -1]
        ctx.save_for_backward(*tensors)

    def double_backward(self, ctx: Any, *grads: Tensor | None) -> Any:
        grad_outputs, tensors = ctx.saved_tensors[:2], ctx.saved_tensors[2:]
        second = double_backward(
            lambda *inputs: self.function(*inputs, ctx.lengths, *ctx.extra),
            tensors,
            grad_outputs,
            grads,
        )
        inputs, grad_outputs = second[: self.tensors], second[self.tensors :]
        return *grad_outputs, *inputs, None, *(None for _ in ctx.extra), None


_AttentionOp("additive_attention", reference.additive_attention, tensors=4).register()
_AttentionOp("dot_attention", reference.dot_attention, tensors=3).register()
