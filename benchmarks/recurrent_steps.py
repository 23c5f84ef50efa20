"""One step of layers and of a cell, with the states of the step before."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import seq2seq_ext
from benchmarks.floors import Need
from benchmarks.harness import Comparison, Run, compare, weight_types
from benchmarks.rivals import reduced

H, LAYERS, STEPS = 512, 2, 20
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.02, "int8": 0.05}
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


def _states(name: str, *shape: int) -> Any:
    h, c = torch.randn(shape) / 4, torch.randn(shape) / 4
    return (h, c) if name == "LSTM" else h


def _repeat(step: Run, times: int) -> Run:
    """Steps in a row, as decoding has them: weights stay in the cache that they fit."""

    def run() -> Any:
        for _ in range(times):
            result = step()
        return result

    return torch.inference_mode()(run)


def _without_mkldnn(run: Run) -> Run:
    def plain() -> Any:
        torch.backends.mkldnn.enabled = False
        try:
            return run()
        finally:
            torch.backends.mkldnn.enabled = True

    return plain


def _cells_of(layers: nn.RNNBase) -> list[nn.RNNCellBase]:
    """torch.nn's cells with the weights of its layers."""
    cells = []
    for weights in layers.all_weights:
        cell = getattr(nn, type(layers).__name__ + "Cell")(H, H)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict(dict(zip(names, weights, strict=True)))
        cells.append(cell.eval())
    return cells


def _stack(cells: Sequence[nn.RNNCellBase], x: Tensor, state: Any) -> Tensor:
    for i, cell in enumerate(cells):
        own = tuple(s[i] for s in state) if isinstance(state, tuple) else state[i]
        new = cell(x, own)
        x = new[0] if isinstance(new, tuple) else new
    return x[None]


def _step(name: str, batch: int, dtype: str) -> Comparison:
    torch.manual_seed(0)
    theirs = getattr(nn, name)(H, H, LAYERS).eval()
    ours = getattr(seq2seq_ext, name)(H, H, LAYERS).eval()
    ours.load_state_dict(theirs.state_dict())
    ours.inference_dtype = dtype
    x, state = torch.randn(1, batch, H), _states(name, LAYERS, batch, H)
    cells = _cells_of(theirs)
    compiled = torch.compile(_stack, dynamic=False)
    values = STEPS * sum(w.numel() for w in theirs.parameters())
    rivals = {
        f"nn.{name}": lambda: theirs(x, state)[0],
        f"nn.{name}Cells": lambda: _stack(cells, x[0], state),
        f"nn.{name}Cells compiled": lambda: compiled(cells, x[0], state),
    }
    runs = {rival: _repeat(step, STEPS) for rival, step in rivals.items()}
    runs[f"nn.{name} without mkldnn"] = _without_mkldnn(runs[f"nn.{name}"])
    if dtype != "float32":
        typed, given = reduced.convert(theirs, dtype), reduced.inputs(dtype, (x, state))
        runs[reduced.names(f"nn.{name}")[dtype]] = _repeat(lambda: typed(*given)[0], STEPS)
    return compare(
        f"{name}, {STEPS} steps of {LAYERS} layers, B={batch}, H={H}, {dtype}",
        _repeat(lambda: ours(x, state)[0], STEPS),
        runs,
        seconds=2,
        atol=TOLERANCE[dtype],
        needs=[Need(2.0 * batch * values, dtype, values * BYTES[dtype])],
    )


def layers(name: str) -> list[Comparison]:
    """Two layers, for one row, a beam and a batch, in every weight type."""
    return [_step(name, batch, dtype) for batch in (1, 5, 32) for dtype in weight_types()]


def cell(name: str) -> Comparison:
    """A small cell and one row, as in rollouts of a policy; a hundred steps a sample."""
    size = 128
    torch.manual_seed(0)
    theirs = getattr(nn, f"{name}Cell")(size, size).eval()
    ours = getattr(seq2seq_ext, f"{name}Cell")(size, size).eval()
    ours.load_state_dict(theirs.state_dict())
    x, state = torch.randn(1, size), _states(name, 1, size)
    compiled = torch.compile(theirs, dynamic=False)

    rivals = {
        f"nn.{name}Cell": _repeat(lambda: theirs(x, state), 100),
        f"nn.{name}Cell compiled": _repeat(lambda: compiled(x, state), 100),
    }
    work = f"{name}Cell, 100 steps of H={size}, B=1"
    return compare(work, _repeat(lambda: ours(x, state), 100), rivals, seconds=1.5)
