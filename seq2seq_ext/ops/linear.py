"""The linear op: a row's product never depends on the rows beside it."""

from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops.autograd import (
    call_packed,
    double_backward,
    needs_grad,
    product_dtype,
    widened,
)
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.tracing import register_fake


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, packed: Tensor | None = None
) -> Tensor:
    """``input W^T + bias``, as torch.nn.functional.linear.

    A row's bits are the same alone, in any batch and with any number of threads. Under bfloat16
    autocast both sides of the products, backward's too, are rounded to bfloat16; sums, result and
    gradients stay float32.

    Args:
        input: ``[..., I]``, float32 or float64; on CUDA bfloat16 and float16 too.
        weight: ``[O, I]``.
        bias: ``[O]``, or None.
        packed: what :func:`linear_pack` gave for ``weight``; saves packing in inference. If it
            is stored as bfloat16 or int8, so is what meets it: rows of ``input`` are rounded to
            the same type (int8: to integers of [-127, 127] times a scale of the row's own), and
            no gradient may be wanted. None on CUDA, where weights are read as they are.

    Returns:
        ``[..., O]``.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> ops.linear(torch.ones(2, 3), torch.ones(4, 3)).tolist()
        [[3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0]]
    """
    if reference_active():
        return reference.linear(input, weight, bias)
    op = torch.ops.seq2seq_ext.linear
    parameters = [weight] if bias is None else [weight, bias]
    are_tensors = isinstance(input, Tensor) and isinstance(weight, Tensor)  # else the op refuses
    is_reduced = are_tensors and isinstance(packed, Tensor) and packed.dtype != weight.dtype
    if is_reduced and needs_grad(input, *parameters):
        raise ValueError(
            f"linear: packed: expected {weight.dtype} where gradients are wanted, got "
            f"{packed.dtype}"  # type: ignore[union-attr]
        )
    rounds = are_tensors and packed is None and input.is_cpu
    dtype = product_dtype(input) if rounds else None
    if dtype is None:
        plain: Tensor = call_packed(op, packed, input, weight, bias, packed)
        return plain
    with torch.autocast("cpu", enabled=False):
        input, weight = widened(input), widened(weight)
        rounded = torch.ops.seq2seq_ext.linear_pack(weight.detach(), dtype)
        output: Tensor = op(input, weight, widened(bias), rounded)
    return output


def linear_pack(weight: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """A weight ``[O, I]`` as the kernel reads it, for :func:`linear`'s ``packed``.

    A copy: valid until the weight changes, and for the ISA in force.

    Args:
        weight: ``[O, I]``.
        dtype: how to store it: ``torch.bfloat16`` or ``torch.int8`` (a scale for each row of
            ``weight``, the largest value is 127) of a float32 weight; None means as it is.

    Returns:
        An opaque tensor of that dtype.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> weight = torch.ones(4, 3)
        >>> packed = ops.linear_pack(weight, dtype=torch.int8)
        >>> ops.linear(torch.ones(1, 3), weight, packed=packed).tolist()
        [[3.0, 3.0, 3.0, 3.0]]
    """
    packed: Tensor = torch.ops.seq2seq_ext.linear_pack(weight, dtype)
    return packed


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, _, packed = inputs
    ctx.dtype = None if packed is None else packed.dtype
    ctx.save_for_backward(input, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    input, weight = ctx.saved_tensors
    wanted = ctx.needs_input_grad[:3]
    if grad.is_cuda:
        rows = grad.reshape(-1, grad.size(-1))
        return (
            grad @ weight if wanted[0] else None,
            rows.t() @ input.reshape(-1, input.size(-1)) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
            None,
        )
    gradients = torch.ops.seq2seq_ext.linear_backward(grad, input, weight, ctx.dtype, wanted)
    return *(g if w else None for g, w in zip(gradients, wanted, strict=True)), None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, input, weight, _, ctx.wanted = inputs
    ctx.save_for_backward(grad, input, weight)


def _double_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    grad, input, weight = ctx.saved_tensors
    wanted = [g if w else None for g, w in zip(grads, ctx.wanted, strict=True)]
    bias = weight.new_zeros(weight.size(0))
    d_input, d_weight, _, d_grad = double_backward(
        lambda *tensors: (reference.linear(*tensors),), (input, weight, bias), (grad,), wanted
    )
    return d_grad, d_input, d_weight, None, None


def _fake_backward(
    grad: Tensor, input: Tensor, weight: Tensor, dtype: torch.dtype | None, wanted: list[bool]
) -> tuple[Tensor, ...]:
    return (
        input.new_empty(input.shape if wanted[0] else (0,)),
        input.new_empty(weight.size(0) if wanted[1] else 0, weight.size(1)),
        input.new_empty(weight.size(0) if wanted[2] else 0),
    )


def _fake(input: Tensor, weight: Tensor, bias: Tensor | None, packed: Tensor | None) -> Tensor:
    return input.new_empty(*input.shape[:-1], weight.size(0))


def _fake_pack(weight: Tensor, dtype: torch.dtype | None) -> Tensor:
    stored = dtype or weight.dtype
    # A weight's shape is fixed where it is traced: int() guards on it.
    outputs, inputs = (int(n) for n in weight.shape)
    shape = torch.ops.seq2seq_ext.linear_packed_shape(outputs, inputs, stored)
    return weight.new_empty(shape, dtype=stored)


register_fake("seq2seq_ext::linear", _fake)
register_fake("seq2seq_ext::linear_backward", _fake_backward)
register_fake("seq2seq_ext::linear_pack", _fake_pack)
torch.library.register_autograd("seq2seq_ext::linear", _backward, setup_context=_save)
torch.library.register_autograd(
    "seq2seq_ext::linear_backward", _double_backward, setup_context=_save_backward
)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("seq2seq_ext::linear", _device, torch.float32)
