"""What tracing and the meta device share: rules that stand in for kernels; what capture forbids."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def register_fake(op: str, rule: Callable[..., Any]) -> None:
    """Makes ``rule`` the op's fake kernel, for tensors that are all on one device.

    A kernel checks that itself; a rule would make a result of what no kernel takes.
    Lengths may be on the CPU.
    """
    name = op.removeprefix("seq2seq_ext::")
    arguments = [a.name for a in getattr(torch.ops.seq2seq_ext, name).default._schema.arguments]

    def checked(*values: Any) -> Any:
        tensors = list(_tensors(arguments, values))
        first, like = tensors[0]
        for argument, tensor in tensors:
            if tensor.device != like.device and not (
                argument.endswith("lengths") and tensor.device.type == "cpu"
            ):
                raise ValueError(
                    f"{name}: {argument}: expected on {like.device} like {first}, got "
                    f"{tensor.device}"
                )
        return rule(*values)

    torch.library.register_fake(op, checked)


def is_captured(tensor: Tensor) -> bool:
    """Whether what is done with it goes into a CUDA graph: the host cannot read its values.

    What compiles cannot ask, and captures nothing yet.
    """
    if torch.compiler.is_compiling():
        return False
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def refuse_capture(where: str, tensor: Tensor) -> None:
    """Of a search: the host reads what it finds, and how long it takes nobody knows before."""
    if is_captured(tensor):
        raise RuntimeError(
            f"{where}: expected to run outside a CUDA graph's capture, as no graph can hold a "
            f"search, got a stream that is captured"
        )


def _tensors(names: list[str], values: tuple[Any, ...]) -> Iterator[tuple[str, Tensor]]:
    for name, value in zip(names, values, strict=False):
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, Tensor):
                yield name, each
