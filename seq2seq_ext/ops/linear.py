"""The linear op: a row's product never depends on the rows beside it."""

from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.tracing import register_fake


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, packed: Tensor | None = None
) -> Tensor:
    """``input W^T + bias``, as torch.nn.functional.linear.

    A row's bits are the same alone, in any batch and with any number of threads.

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
    output: Tensor = torch.ops.seq2seq_ext.linear(input, weight, bias, packed)
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
    if packed is not None and packed.dtype != weight.dtype:
        raise ValueError(
            f"linear: packed: expected {weight.dtype} where gradients are wanted, got "
            f"{packed.dtype}"
        )
    ctx.save_for_backward(input, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    input, weight = ctx.saved_tensors
    needs_input, needs_weight, needs_bias, _ = ctx.needs_input_grad
    rows = grad.reshape(-1, grad.size(-1))
    grad_input = grad @ weight if needs_input else None
    grad_weight = rows.t() @ input.reshape(-1, input.size(-1)) if needs_weight else None
    return grad_input, grad_weight, rows.sum(0) if needs_bias else None, None


def _fake(input: Tensor, weight: Tensor, bias: Tensor | None, packed: Tensor | None) -> Tensor:
    return input.new_empty(*input.shape[:-1], weight.size(0))


def _fake_pack(weight: Tensor, dtype: torch.dtype | None) -> Tensor:
    stored = dtype or weight.dtype
    # A weight's shape is fixed where it is traced: int() guards on it.
    outputs, inputs = (int(n) for n in weight.shape)
    shape = torch.ops.seq2seq_ext.linear_packed_shape(outputs, inputs, stored)
    return weight.new_empty(shape, dtype=stored)


register_fake("seq2seq_ext::linear", _fake)
register_fake("seq2seq_ext::linear_pack", _fake_pack)
torch.library.register_autograd("seq2seq_ext::linear", _backward, setup_context=_save)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("seq2seq_ext::linear", _device, torch.float32)
