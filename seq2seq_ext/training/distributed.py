"""Data-parallel training: every process takes its share of each batch."""

import importlib
import os
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

Object = TypeVar("Object")


class World:
    """The processes that train together; one alone, unless torchrun started several.

    Gradients are averaged by one all-reduce of the sum over tokens, so any number of processes
    gives the gradient of the whole batch, however the tokens fall.

    Args:
        device: ``"cpu"``, ``"cuda"`` or None, which takes CUDA where it is. Under torchrun a
            process on CUDA takes the device of its local rank.

    Raises:
        ValueError: a device that is not there.
    """

    def __init__(self, device: str | None = None) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = choose_device(device)
        if self.size > 1:
            # Whoever imports this later gives its functions' defaults the group, close() can't
            # end it, and gloo's threads abort an interpreter on its way out.
            importlib.import_module("torch.distributed.nn")
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, items: list[Object]) -> list[Object]:
        """This process's part of a batch; the parts differ by at most one item."""
        return items[self.rank :: self.size]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Gives every process the main one's values."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def sum(self, *values: float) -> list[float]:
        """The sums of numbers over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def max(self, value: int) -> int:
        """The largest of everyone's number."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)

    def gather(self, item: Object) -> list[Object]:
        """Everyone's item, in the order of ranks."""
        if self.size == 1:
            return [item]
        items: list[Object | None] = [None] * self.size
        dist.all_gather_object(items, item)
        return items  # type: ignore[return-value]

    def average_gradients(self, parameters: Iterable[Parameter], weight: float) -> None:
        """Replaces each gradient by the weighted mean over the processes.

        Args:
            parameters: in the same order everywhere; a missing gradient counts as zeros.
            weight: this process's weight, such as its number of target tokens.
        """
        if self.size == 1:
            return
        parameters = list(parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad * weight for p in parameters]
        (total,) = self.sum(weight)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= total
        parts = torch.split(flat, [p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def close(self) -> None:
        """Leaves the process group."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def choose_device(name: str | None) -> torch.device:
    """The device of that name; None takes CUDA where it is, else the CPU.

    Raises:
        ValueError: a device that is not there.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device: expected a device such as 'cpu', got {name!r}") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device: expected a device that is there, got 'cuda' without CUDA")
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device
