"""The loss op: a linear layer's cross-entropy without its logits in memory."""

from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops import autograd
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.tracing import register_fake

_OP = "seq2seq_ext::linear_cross_entropy"


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> Tensor:
    """Mean cross-entropy of ``input W^T + bias``, as torch.nn.functional.linear_cross_entropy.

    Rows go by a block at a time: no ``[N, V]`` tensor is made, in backward neither. Where
    gradients are wanted they are made in the same pass, so that the logits are made once.
    Under autocast both sides of the products are rounded to bfloat16 (on CUDA: to autocast's
    type); sums, loss and gradients stay float32.

    Args:
        input: ``[N, H]``, float32 or float64; on CUDA bfloat16 and float16 too.
        linear_weight: ``[V, H]``, same dtype.
        target: int64 ``[N]`` in [0, V). On a GPU its values are not checked, as that would wait
            for it: where one is outside, the loss and the row's gradient are NaN.
        linear_bias: ``[V]``, same dtype, or None.
        label_smoothing: in [0, 1], as in torch.nn.functional.cross_entropy (Szegedy et al.
            2016, "Rethinking the Inception Architecture for Computer Vision", section 7).
        ignore_index: rows of this target, whatever they hold, are no part of the mean, and their
            gradients are zero. The CPU passes them by; a GPU, which nobody asks how many there
            are, takes their products too.

    Returns:
        A scalar; NaN for no rows, as the mean of nothing.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> weight, target = torch.zeros(8, 3), torch.tensor([1, 5])
        >>> ops.linear_cross_entropy(torch.randn(2, 3), weight, target)  # ln 8
        tensor(2.0794)
    """
    if reference_active():
        return reference.linear_cross_entropy(
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
        )
    parameters = (linear_weight,) if linear_bias is None else (linear_weight, linear_bias)
    save = autograd.needs_grad(input, *parameters)
    loss: Tensor = torch.ops.seq2seq_ext.linear_cross_entropy(
        input,
        linear_weight,
        linear_bias,
        target,
        label_smoothing,
        ignore_index,
        autograd.product_dtype(input),
        save,
    )[0]
    return loss


def _fake(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    label_smoothing: float,
    ignore_index: int | None,
    dtype: torch.dtype | None,
    save: bool,
) -> tuple[Tensor, ...]:
    rows, hidden = input.shape
    vocabulary = weight.size(0)
    return (
        input.new_empty(()),
        input.new_empty(rows if save else 0, hidden),
        weight.new_empty(vocabulary if save else 0, hidden),
        weight.new_empty(vocabulary if save and bias is not None else 0),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, weight, bias, target, ctx.label_smoothing, ctx.ignore_index, *_ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(input, weight, bias, target, *output[1:])


def _backward(ctx: Any, grad_loss: Tensor | None, *second: Tensor | None) -> tuple[Any, ...]:
    input, weight, bias, target, *gradients = ctx.saved_tensors
    wanted = ctx.needs_input_grad[:3]
    total: list[Tensor | None] = [None] * 3
    if grad_loss is not None:
        total = [g * grad_loss if w else None for w, g in zip(wanted, gradients, strict=True)]
    if any(g is not None for g in second):
        for i, more in enumerate(_second_order(ctx, (input, weight, bias), target, second)):
            first = total[i]
            total[i] = more if first is None else first if more is None else first + more
    return *total, None, None, None, None, None


def _second_order(
    ctx: Any,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    target: Tensor,
    grads: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """What the gradients among the outputs pass on to the inputs."""

    def loss(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor]:
        value = reference.linear_cross_entropy(
            input,
            weight,
            target,
            linear_bias=bias,
            label_smoothing=ctx.label_smoothing,
            ignore_index=ctx.ignore_index,
        )
        return (value,)

    given = [t for t in inputs if t is not None]
    one = given[0].new_ones(())
    return autograd.double_backward(loss, given, (one,), grads[: len(given)])[: len(given)]


register_fake(_OP, _fake)
torch.library.register_autograd(_OP, _backward, setup_context=_save)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast(_OP, _device, torch.float32)
