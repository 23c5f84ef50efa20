"""Rows 1 to 3 of the table on a GPU: training steps of layers against cuDNN's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import seq2seq_ext
from benchmarks.cuda_device import Gpu
from benchmarks.floors import Need
from benchmarks.harness import Comparison, Run

GATES = {"LSTM": 4, "GRU": 3}
# Of results in 16 bits after hundreds of steps, whose own rounding they differ by.
TOLERANCE = 0.1


@dataclass(frozen=True)
class LayerShape:
    batch: int
    hidden: int  # and the input's size
    layers: int = 1
    both: bool = False  # directions
    steps: int = 512

    def weights(self, gates: int) -> int:
        """Values of the matrices of one direction."""
        directions = 1 + self.both
        later = (self.layers - 1) * gates * self.hidden * (directions + 1) * self.hidden
        return gates * self.hidden * 2 * self.hidden + later

    def __str__(self) -> str:
        return (
            f"{self.batch} x {self.steps}, H={self.hidden}, {self.layers} layers, "
            f"{1 + self.both} directions"
        )


SHAPES = tuple(
    LayerShape(batch, hidden, layers, both)
    for batch, hidden, layers, both in product(
        (16, 64, 128), (512, 768, 1024), (1, 2), (False, True)
    )
)


def cudnn_is_persistent(name: str, shape: LayerShape, dtype: torch.dtype, ragged: bool) -> bool:
    """Whether PyTorch asks cuDNN for its persistent kernel, from compute capability 8.0 on.

    That is what its ``aten/src/ATen/native/cudnn/RNN.cpp`` decides by; it never does so for
    bfloat16, for a GRU or for a packed sequence.
    """
    return (
        name == "LSTM"
        and dtype == torch.float16
        and not ragged
        and not shape.both
        and shape.layers == 1
        and shape.hidden <= 1024
        and shape.hidden % 128 == 0
        and shape.batch <= 128
        and shape.batch % 8 == 0
    )


def aim_over(name: str, shape: LayerShape, dtype: torch.dtype, ragged: bool) -> float | None:
    """How many times faster than cuDNN with this type; None where that is nobody's aim."""
    if cudnn_is_persistent(name, shape, dtype, ragged):
        return 0.8
    if name == "GRU":
        return 1.5
    if ragged:
        return 2.0
    return 1.3 if dtype == torch.bfloat16 else None


def _step(module: nn.Module, x: Tensor, run: Any) -> Run:
    """Forward and backward; returns what padded and packed rows have alike."""

    def step() -> tuple[Any, Tensor | None]:
        module.zero_grad()
        x.grad = None
        output, finals = run()
        output.sum().backward()
        return finals, x.grad

    return step


def _rival(
    name: str, ours: nn.Module, x: Tensor, lengths: Tensor | None, options: dict[str, Any]
) -> Run:
    theirs = getattr(nn, name)(x.size(2), x.size(2), **options).to(x.device, x.dtype)
    theirs.load_state_dict(ours.state_dict())
    if lengths is None:
        return _step(theirs, x, lambda: theirs(x))

    def packed() -> tuple[Tensor, Any]:
        output, finals = theirs(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return output.data, finals

    return _step(theirs, x, packed)


def _row(gpu: Gpu, name: str, shape: LayerShape, ragged: bool) -> Comparison:
    torch.manual_seed(0)
    options = {"num_layers": shape.layers, "bidirectional": shape.both}
    lengths = None
    if ragged:
        lengths = torch.linspace(shape.steps / 10, shape.steps, shape.batch).ceil().long()
    values = torch.randn(shape.steps, shape.batch, shape.hidden, device=gpu.device)
    x = values.bfloat16().requires_grad_()
    ours = getattr(seq2seq_ext, name)(shape.hidden, shape.hidden, **options)
    ours = ours.to(gpu.device, torch.bfloat16)
    rivals: dict[str, Run] = {}
    aims = {}
    for dtype in (torch.bfloat16, torch.float16):
        where = "packed " if ragged else ""
        if cudnn_is_persistent(name, shape, dtype, ragged):
            where = "persistent "
        title = f"nn.{name} {where}{str(dtype).removeprefix('torch.')}"
        theirs_x = x.detach().to(dtype).requires_grad_()
        rivals[title] = _rival(name, ours, theirs_x, lengths, options)
        if (aim := aim_over(name, shape, dtype, ragged)) is not None:
            aims[title] = aim
    tokens = shape.batch * shape.steps if lengths is None else int(lengths.sum())
    operations = 6.0 * tokens * (1 + shape.both) * shape.weights(GATES[name])
    return gpu.compare(
        f"{name} bfloat16 forward + backward, {'lengths 10..100 % of ' if ragged else ''}{shape}",
        [Need(operations, "bfloat16")],
        _step(ours, x, lambda: ours(x, lengths=lengths)),
        rivals,
        aims=aims,
        atol=TOLERANCE,
    )


def rows(gpu: Gpu, shapes: Sequence[LayerShape]) -> Iterator[Any]:
    """What makes each row, by its number."""
    for name, ragged in product(GATES, (False, True)):
        number = 3 if name == "GRU" else 1 + ragged
        for shape in shapes:
            yield number, lambda n=name, s=shape, r=ragged: [_row(gpu, n, s, r)]
