"""The attentional decoder on CUDA: on the emulated device, and on a GPU where there is one."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from decoder_cases import (
    ATTENTIONS,
    GATES,
    OF_ROWS,
    Case,
    Inputs,
    check_nan_row,
    check_padding,
    make,
    of_leaves,
    op_arguments,
    run,
)
from emulated_cuda import emulated_cuda
from torch import Tensor
from torch.nn import Parameter

from seq2seq_ext import ops, reference

KINDS = [
    pytest.param(Case(cell=cell, attention=attention), id=f"{cell}-{attention}")
    for cell, attention in itertools.product(GATES, ATTENTIONS)
]
SIZES = [
    pytest.param(Case(1, 1, 1, 1, 1, 1, 1, 1, masks=False, lengths=False), id="ones"),
    pytest.param(Case(35, 3, 5, 17, 2, 9, 20, 41), id="more rows than a tile"),
    pytest.param(Case(3, 3, 16, 64, 2, 4, 32, 16, "gru", "dot", masks=False), id="whole panels"),
    pytest.param(Case(5, 4, 2, 40, 1, 7, 8, 9, "gru", lengths=False), id="one layer"),
]


def placed(inputs: Inputs, device: torch.device) -> Inputs:
    """Lengths stay on the host."""
    return inputs.map(lambda t: t.to(device))


def check_precision(case: Case, device: torch.device) -> None:
    inputs = placed(make(case), device)
    exact = run(reference, inputs.map(Tensor.double))
    theirs, found = run(reference, inputs), run(ops, inputs)
    for name, expected in exact.items():
        assert found[name].shape == expected.shape, name
        if expected.numel():
            tiny = 5e-7 * max(1.0, expected.abs().max())
            allowed = 2 * (theirs[name] - expected).abs().max() + tiny
            assert (found[name] - expected).abs().max() <= allowed, name


@pytest.mark.parametrize("case", KINDS)
def test_float64_equals_the_reference(case: Case, device: torch.device) -> None:
    for masks, layers in ((False, 1), (True, 3)):
        inputs = placed(make(replace(case, masks=masks, L=layers), torch.float64), device)
        expected = run(reference, inputs)
        for name, value in run(ops, inputs).items():
            torch.testing.assert_close(
                value, expected[name], rtol=1e-11, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("case", SIZES)
def test_is_as_exact_as_torch(case: Case, device: torch.device) -> None:
    check_precision(case, device)


@pytest.mark.parametrize("case", KINDS)
def test_gradients(case: Case, device: torch.device) -> None:
    case = replace(case, B=2, T=2, E=2, H=2, A=2, M=2, S=2)
    inputs = placed(make(case, torch.float64), device)
    inputs.keywords["lengths"] = torch.tensor([2, 1])
    function, leaves = of_leaves(inputs)
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", KINDS)
def test_products_of_halves(case: Case, dtype: torch.dtype) -> None:
    """Rounding both sides of each product is all that happens: a unit, summed over the steps."""
    inputs = make(replace(case, B=5, H=17))
    exact = run(reference, inputs.map(Tensor.double))

    class Rounded:
        @staticmethod
        def attentional_decoder(*args: Any, **keywords: Any) -> Any:
            arguments = op_arguments(Inputs(list(args), {**keywords, "dtype": dtype}), True)
            return torch.ops.seq2seq_ext.attentional_decoder(*arguments)[:2]

    with emulated_cuda():
        found, plain = run(Rounded, inputs), run(ops, inputs)
    assert not torch.equal(found["vectors"], plain["vectors"])
    if case.cell == "rnn_relu":  # gradients jump where a rounding changes a unit's sign
        exact = {name: exact[name] for name in ("vectors", "alignment")}
    for name, expected in exact.items():
        assert found[name].dtype == torch.float32, name
        if expected.numel():
            allowed = 16 * torch.finfo(dtype).eps * expected.norm() + 1e-6
            assert (found[name] - expected).norm() <= allowed, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", [KINDS[0], KINDS[4]])
def test_tensors_of_halves(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    """Their products are of their type; all else is float32, rounded at the end."""
    inputs = placed(make(replace(case, B=5, H=17), dtype), device)
    inputs.args[0] = Parameter(inputs.args[0])  # which knows where it is on either device
    wide = inputs.map(Tensor.float)

    def differentiated(outputs: Any, leaves: list[Tensor]) -> list[Tensor]:
        grads = [o.detach().to(dtype).cos().to(o.dtype) for o in outputs]
        return [*outputs, *torch.autograd.grad(outputs, leaves, grads)]

    def leaves(of: Inputs) -> list[Tensor]:
        return [t.requires_grad_() for t in of.leaves().values()]

    narrow_leaves, wide_leaves = leaves(inputs), leaves(wide)
    found = differentiated(ops.attentional_decoder(*inputs.args, **inputs.keywords), narrow_leaves)
    wide.keywords["dtype"] = dtype
    op = torch.ops.seq2seq_ext.attentional_decoder
    expected = differentiated(op(*op_arguments(wide, True))[:2], wide_leaves)
    for got, want in zip(found, expected, strict=True):
        assert got.dtype == dtype
        assert torch.equal(got, want.to(dtype))


@pytest.mark.parametrize("case", [KINDS[0], KINDS[4], KINDS[8]])
def test_a_row_has_the_same_bits_in_any_batch(case: Case, device: torch.device) -> None:
    inputs = placed(make(replace(case, B=35, H=17, T=3)), device)
    together = run(ops, inputs)
    names = [n for n in OF_ROWS if n in together]
    for row in (0, 16, 34):
        alone = run(ops, inputs.rows(slice(row, row + 1)))
        for name in names:
            assert torch.equal(alone[name][0], together[name][row]), name


def test_padding_is_never_read_and_outputs_are_zero_there(device: torch.device) -> None:
    check_padding(placed(make(Case()), device))


def test_a_nan_row_leaves_the_others_alone(device: torch.device) -> None:
    check_nan_row(placed(make(Case(lengths=False)), device))


def test_lengths_on_the_device_are_not_waited_for() -> None:
    inputs = make(Case())
    inputs.keywords["lengths"] = torch.tensor([5, 2, 0, 3])
    with emulated_cuda():
        expected = run(ops, inputs)
    inputs.keywords["lengths"] = torch.tensor([9, 2, -1, 3])  # clamped, as nobody looks
    with emulated_cuda(owns_memory=True):
        for name, value in run(ops, inputs).items():
            assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("sizes", [{"B": 0}, {"T": 0}, {"S": 0}])
def test_empty_dims(sizes: dict[str, int], device: torch.device) -> None:
    inputs = placed(make(Case(**sizes)), device)  # type: ignore[arg-type]
    expected = run(reference, inputs)
    for name, value in run(ops, inputs).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [{"lengths": torch.tensor([6, 1, 1, 1])}, {"cell": "mamba"}])
def test_wrong_arguments_are_named(change: dict[str, Any]) -> None:
    inputs = make(Case())
    name = next(iter(change))
    with (
        emulated_cuda(),
        pytest.raises(ValueError, match=f"^attentional_decoder: {name}: expected"),
    ):
        ops.attentional_decoder(*inputs.args, **{**inputs.keywords, **change})
