"""The kinds of recurrent layers, named shapes for them, and how to run each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import ops, reference


@dataclass(frozen=True)
class Kind:
    """One recurrent cell: its op, its modules, and what tells it from the others."""

    name: str  # the op's and the reference's
    module: str  # torch.nn's and ours; the cell's is this and "Cell"
    gates: int
    states: int = 1
    keywords: dict[str, Any] = field(default_factory=dict)  # of op and module

    @property
    def projects(self) -> bool:
        return self.name == "lstm"

    def run(self, where: Any, inputs: "Inputs", **keywords: Any) -> tuple[Tensor, ...]:
        """The function of this name in ``ops`` or ``reference`` on ``inputs``."""
        function: Callable[..., tuple[Tensor, ...]] = getattr(where, self.name)
        return function(
            inputs.input,
            *inputs.states,
            inputs.weights,
            lengths=inputs.lengths,
            has_biases=inputs.has_biases,
            **self.keywords,
            **keywords,
        )


LSTM = Kind("lstm", "LSTM", gates=4, states=2)
GRU = Kind("gru", "GRU", gates=3)
RNN_TANH = Kind("rnn", "RNN", gates=1, keywords={"nonlinearity": "tanh"})
RNN_RELU = Kind("rnn", "RNN", gates=1, keywords={"nonlinearity": "relu"})


@dataclass(frozen=True)
class Case:
    T: int
    B: int
    I: int
    H: int
    D: int = 1
    bias: bool = True
    lengths: Sequence[int] | None = None
    P: int = 0  # proj_size; LSTM only


CASES = {
    "one_of_everything": Case(1, 1, 1, 1),
    "one_step": Case(1, 3, 5, 16, D=2),
    "tiny_hidden": Case(4, 2, 3, 5, D=2, lengths=[4, 2]),
    "odd_hidden": Case(6, 8, 16, 37, D=2, lengths=[6, 3, 1, 5, 6, 2, 4, 2]),
    "no_bias": Case(5, 7, 9, 37, D=2, bias=False, lengths=[5, 5, 1, 2, 3, 4, 1]),
    "zero_lengths": Case(5, 3, 7, 20, D=2, lengths=[0, 5, 0]),
    "all_zero_lengths": Case(3, 2, 4, 16, D=2, lengths=[0, 0]),
    "full_lengths": Case(3, 2, 4, 16, D=2, lengths=[3, 3]),
    "short_lengths": Case(6, 3, 4, 17, D=2, lengths=[2, 1, 2]),
    "many_rows": Case(7, 17, 33, 64),
    "wide": Case(3, 7, 19, 100, D=2, lengths=[1, 2, 3, 0, 3, 2, 1]),
    "no_rows": Case(3, 0, 4, 5, D=2),
    "no_steps": Case(0, 2, 4, 5, D=2),
}
PROJECTED = {
    "projected": Case(5, 8, 16, 37, D=2, lengths=[5, 3, 0, 5, 1, 2, 4, 2], P=11),
    "projected_no_bias": Case(4, 3, 5, 20, bias=False, P=19),
    "projected_to_one": Case(3, 2, 4, 16, D=2, P=1),
}


def cases_of(kind: Kind) -> dict[str, Case]:
    return {**CASES, **PROJECTED} if kind.projects else CASES


@dataclass
class Inputs:
    input: Tensor
    states: tuple[Tensor, ...]
    weights: list[Tensor]
    lengths: Tensor | None
    has_biases: bool

    def map(self, change: Callable[[Tensor], Tensor]) -> "Inputs":
        return Inputs(
            change(self.input),
            tuple(change(s) for s in self.states),
            [change(w) for w in self.weights],
            self.lengths,
            self.has_biases,
        )

    def leaves(self, dtype: torch.dtype) -> "Inputs":
        return self.map(lambda t: t.detach().to(dtype).requires_grad_())

    def tensors(self) -> list[Tensor]:
        return [self.input, *self.states, *self.weights]


def make_inputs(kind: Kind, case: Case, dtype: torch.dtype = torch.float32) -> Inputs:
    """Random inputs; weights as large as torch.nn makes them."""
    size, rows = case.P or case.H, kind.gates * case.H
    shapes = [(rows, case.I), (rows, size)]
    shapes += [(rows,)] * 2 if case.bias else []
    shapes += [(case.P, case.H)] if case.P else []
    scale = case.H**-0.5
    return Inputs(
        torch.randn(case.T, case.B, case.I, dtype=dtype),
        tuple(torch.randn(case.D, case.B, n, dtype=dtype) for n in (size, case.H)[: kind.states]),
        [torch.empty(s, dtype=dtype).uniform_(-scale, scale) for s in shapes * case.D],
        None if case.lengths is None else torch.tensor(case.lengths, dtype=torch.int64),
        case.bias,
    )


def run_with_gradients(kind: Kind, where: Any, inputs: Inputs) -> list[Tensor]:
    """Outputs, then gradients of all inputs for fixed random gradients of the outputs."""
    outputs = kind.run(where, inputs)
    generator = torch.Generator(torch.get_default_device()).manual_seed(1)
    given = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]
    pairs = [(o, g) for o, g in zip(outputs, given, strict=True) if o.requires_grad]
    used, grads = zip(*pairs, strict=True)
    gradients = torch.autograd.grad(used, inputs.tensors(), grads, allow_unused=True)
    zeros = [torch.zeros_like(t) for t in inputs.tensors()]
    return [*outputs, *(z if g is None else g for g, z in zip(gradients, zeros, strict=True))]


def assert_as_exact_as_torch(
    ours: Sequence[Tensor], torchs: Sequence[Tensor], exact: Sequence[Tensor]
) -> None:
    """err(ours) <= 2 err(torch) + tiny, each against float64."""
    assert len(ours) == len(torchs) == len(exact)
    for i, (got, other, true) in enumerate(zip(ours, torchs, exact, strict=True)):
        assert got.shape == true.shape, i
        if true.numel() == 0:
            continue
        error = (got.double() - true).abs().max()
        allowed = 2 * (other.double() - true).abs().max()
        tiny = 4 * torch.finfo(torch.float32).eps * max(1.0, true.abs().max().item())
        assert error <= allowed + tiny, f"tensor {i}: error {error:.3g}, torch's {allowed / 2:.3g}"


def check_case(kind: Kind, case: Case) -> None:
    """float32 on the ops against the reference in float64, forward and backward.

    The largest error of a few values is luck, torch's too: a tensor of one value is often off
    by next to nothing. So a small case is drawn until each of its tensors has 32 values, and
    the largest errors of all draws are compared.
    """
    runs: list[list[list[Tensor]]] = [[], [], []]
    least = min((t.numel() for t in make_inputs(kind, case).tensors() if t.numel()), default=32)
    for _ in range(max(1, -(-32 // least))):
        inputs = make_inputs(kind, case)
        for run, where, dtype in zip(
            runs,
            (ops, reference, reference),
            (torch.float32, torch.float32, torch.float64),
            strict=True,
        ):
            run.append(run_with_gradients(kind, where, inputs.leaves(dtype)))
    assert_as_exact_as_torch(*([torch.stack(t) for t in zip(*r, strict=True)] for r in runs))
