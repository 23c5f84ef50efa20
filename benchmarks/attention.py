"""Additive attention against eager and compiled PyTorch."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.floors import Need, memory_of
from benchmarks.harness import Comparison, compare
from benchmarks.memory import peak_of
from seq2seq_ext import ops, reference


def _need(query: Tensor, keys: Tensor, memory: Tensor) -> Need:
    """Keys and memory are read; a sum for each score and each value of the context. The tanh of
    every score's terms is left out."""
    size = keys.nbytes + memory.nbytes
    multiplications = query.size(1) * (keys.numel() + memory.numel())
    return Need(2.0 * multiplications, bytes=size, memory=memory_of(size))


def _step(sentences: int, beams: int) -> Comparison:
    torch.manual_seed(0)
    query = torch.randn(sentences, beams, 512)
    keys, memory = torch.randn(sentences, 50, 512), torch.randn(sentences, 50, 1024)
    v, lengths = torch.randn(512) / 20, torch.full((sentences,), 50)
    arguments = query, keys, v, memory, lengths
    compiled = torch.compile(reference.additive_attention, dynamic=False)
    return compare(
        f"Additive attention step, {sentences} memories x {beams} queries, S=50, A=512, M=1024",
        torch.inference_mode()(lambda: ops.additive_attention(*arguments)),
        {
            "eager PyTorch": torch.inference_mode()(
                lambda: reference.additive_attention(*arguments)
            ),
            "compiled PyTorch": torch.inference_mode()(lambda: compiled(*arguments)),
        },
        needs=[_need(query, keys, memory)],
    )


NAMES = ("ours", "eager PyTorch", "compiled PyTorch")


def contender(name: str) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward of T = 50 queries; returns the gradients."""
    torch.manual_seed(0)
    query = torch.randn(32, 50, 256, requires_grad=True)
    keys = torch.randn(32, 50, 256, requires_grad=True)
    memory = torch.randn(32, 50, 512, requires_grad=True)
    v, lengths = torch.randn(256, requires_grad=True), torch.randint(25, 51, (32,))
    inputs = (query, keys, v, memory)
    attend = ops.additive_attention if name == "ours" else reference.additive_attention
    if name == "compiled PyTorch":
        attend = torch.compile(attend, dynamic=False)
    return lambda: torch.autograd.grad(attend(*inputs, lengths)[0].sum(), inputs)


def _training() -> Comparison:
    ours, *rivals = NAMES
    comparison = compare(
        "Additive attention, 32 sentences, T=50, S=50, A=256, M=512: forward + backward",
        contender(ours),
        {name: contender(name) for name in rivals},
        seconds=6,
        atol=1e-3,
    )
    comparison.peaks = {name: peak_of("attention", name) for name in NAMES}
    return comparison


def run() -> list[Comparison]:
    return [_step(32, 5), _step(160, 1), _step(1, 5), _training()]
