"""Inputs of the attentional decoder's tests, and what every comparison runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import ops

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
ATTENTIONS = ("additive", "dot", "none")
TENSORS = ("memory", "keys", "query_weight", "v", "layer_masks", "vector_mask")
OF_ROWS = ("vectors", "alignment", "grad of input", "grad of vector_0", "grad of memory")


@dataclass(frozen=True)
class Case:
    B: int = 4
    T: int = 5
    E: int = 3
    H: int = 7
    L: int = 2
    S: int = 6
    A: int = 4
    M: int = 5
    cell: str = "lstm"
    attention: str = "additive"
    masks: bool = True
    lengths: bool = True


@dataclass
class Inputs:
    """Positional and keyword arguments of ops.attentional_decoder."""

    args: list[Any]
    keywords: dict[str, Any]

    def map(self, function: Any) -> "Inputs":
        args = [[function(t) for t in a] if isinstance(a, list) else function(a) for a in self.args]
        keywords = {n: function(t) if n in TENSORS else t for n, t in self.keywords.items()}
        return Inputs(args, keywords)

    def leaves(self) -> dict[str, Tensor]:
        """The differentiable tensors, by name."""
        input, vector_0, states, weights, combine = self.args
        found = {"input": input, "vector_0": vector_0, "combine_weight": combine}
        found |= {f"state {i}": s for i, s in enumerate(states)}
        found |= {f"weight {i}": w for i, w in enumerate(weights)}
        return found | {n: self.keywords[n] for n in TENSORS[:4] if n in self.keywords}

    def rows(self, rows: Any) -> "Inputs":
        input, vector_0, states, weights, combine = self.args
        keywords = dict(self.keywords)
        for name in ("lengths", "memory", "keys", "memory_lengths", "vector_mask"):
            if name in keywords:
                keywords[name] = keywords[name][rows]
        if "layer_masks" in keywords:
            keywords["layer_masks"] = keywords["layer_masks"][:, rows]
        args = [input[rows], vector_0[rows], [s[:, rows] for s in states], weights, combine]
        return Inputs(args, keywords)


def make(case: Case, dtype: torch.dtype = torch.float32) -> Inputs:
    def random(*shape: int) -> Tensor:
        return (torch.randn(*shape) * 0.5).to(dtype)

    def weight(*shape: int) -> Tensor:
        """As large as a model's: larger ones make a sequence chaotic."""
        return (torch.randn(*shape) * shape[-1] ** -0.5).to(dtype)

    def mask(*shape: int) -> Tensor:
        return (torch.rand(shape) < 0.7).to(dtype) / 0.7

    c, rows = case, GATES[case.cell] * case.H
    weights = []
    for layer in range(c.L):
        features = c.H + (c.E if layer == 0 else 0)
        weights += [weight(rows, features), weight(rows, c.H), random(rows), random(rows)]
    keywords: dict[str, Any] = {"cell": c.cell}
    if c.lengths:
        keywords["lengths"] = torch.randint(0, c.T + 1, (c.B,))
    if c.attention != "none":
        width = c.A if c.attention == "additive" else c.H
        keywords |= {"memory": random(c.B, c.S, c.M), "keys": random(c.B, c.S, width)}
        keywords["memory_lengths"] = torch.randint(0, c.S + 1, (c.B,))
    if c.attention == "additive":
        keywords |= {"query_weight": weight(c.A, c.H), "v": random(c.A)}
    if c.attention == "dot":
        keywords["scale"] = 0.7
    if c.masks:
        keywords["layer_masks"] = mask(c.L - 1, c.B, c.T, c.H)
        keywords["vector_mask"] = mask(c.B, c.T, c.H)
    states = [random(c.L, c.B, c.H) for _ in range(2 if c.cell == "lstm" else 1)]
    combined = c.H + (0 if c.attention == "none" else c.M)
    args = [random(c.B, c.T, c.E), random(c.B, c.H), states, weights, weight(c.H, combined)]
    return Inputs(args, keywords)


def run(where: Any, inputs: Inputs) -> dict[str, Tensor]:
    """Outputs and gradients by name; the outputs' gradients depend on their values only."""
    inputs = inputs.map(lambda t: t.detach().requires_grad_())
    vectors, alignment = where.attentional_decoder(*inputs.args, **inputs.keywords)
    leaves = inputs.leaves()
    loss = (vectors * vectors.detach().cos()).sum() + alignment.square().sum()
    loss = loss + sum(0 * leaf.sum() for leaf in leaves.values())  # unused: zero
    found = torch.autograd.grad(loss, list(leaves.values()))
    gradients = {f"grad of {name}": g for name, g in zip(leaves, found, strict=True)}
    return {"vectors": vectors.detach(), "alignment": alignment.detach()} | gradients


def op_arguments(inputs: Inputs, save: bool) -> tuple[Any, ...]:
    """As torch.ops.seq2seq_ext.attentional_decoder takes them."""
    input, vector_0, states, weights, combine = inputs.args
    k = {"scale": 1.0, **inputs.keywords}
    rest = [k.get(n) for n in ("memory", "keys", "memory_lengths", "query_weight", "v", "scale")]
    masks = k.get("layer_masks"), k.get("vector_mask")
    first = (input, k.get("lengths"), vector_0, states, weights, k["cell"], combine)
    return *first, *rest, *masks, k.get("dtype"), save


def of_leaves(inputs: Inputs) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    """The op as a function of its differentiable tensors, and these, for gradcheck."""
    leaves = {name: t.requires_grad_() for name, t in inputs.leaves().items()}

    def function(*tensors: Tensor) -> Any:
        given = dict(zip(leaves, tensors, strict=True))
        args = [
            given["input"],
            given["vector_0"],
            [t for n, t in given.items() if n.startswith("state")],
            [t for n, t in given.items() if n.startswith("weight")],
            given["combine_weight"],
        ]
        keywords = {n: given.get(n, t) for n, t in inputs.keywords.items()}
        vectors, alignment = ops.attentional_decoder(*args, **keywords)
        return (vectors, alignment) if "memory" in inputs.keywords else vectors

    return function, tuple(leaves.values())


def check_padding(inputs: Inputs) -> None:
    """Padding is never read, and what is given there is zero; inputs of ``Case()``."""
    device = inputs.args[0].device
    inputs.keywords["lengths"] = torch.tensor([5, 2, 0, 3])
    inputs.keywords["memory_lengths"] = torch.tensor([6, 1, 0, 4])
    past = (torch.arange(5) >= inputs.keywords["lengths"][:, None]).to(device)
    past_source = (torch.arange(6) >= inputs.keywords["memory_lengths"][:, None]).to(device)
    expected = run(ops, inputs)
    assert not expected["vectors"][past].any() and not expected["alignment"][past].any()
    assert not expected["grad of input"][past].any()
    assert not expected["grad of memory"][past_source].any()
    spoilt = inputs.map(torch.clone)
    nan = float("nan")
    spoilt.args[0][past] = nan
    spoilt.keywords["vector_mask"][past] = nan
    spoilt.keywords["layer_masks"][:, past] = nan
    spoilt.keywords["memory"][past_source] = nan
    spoilt.keywords["keys"][past_source] = nan
    for name, value in run(ops, spoilt).items():
        assert torch.equal(value, expected[name]), name


def check_nan_row(inputs: Inputs) -> None:
    """A NaN in one of four rows reaches no other."""
    expected = run(ops, inputs)
    inputs.args[0][2, 1] = float("nan")
    found = run(ops, inputs)
    others = torch.tensor([0, 1, 3], device=inputs.args[0].device)
    for name in OF_ROWS:
        assert torch.equal(found[name][others], expected[name][others]), name
