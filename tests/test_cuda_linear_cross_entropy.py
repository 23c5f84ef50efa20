"""The loss kernel of CUDA: on the emulated device, and on a GPU where there is one."""

from typing import Any

import pytest
import torch
from emulated_cuda import emulated_cuda
from test_linear_cross_entropy import IGNORED, SMOOTHINGS, make, our_loss, run, torch_loss
from torch import Tensor

from seq2seq_ext import ops

# Rows, features, vocabulary: odd ones, and more rows than one block of them.
SHAPES = [(1, 1, 1), (3, 5, 7), (17, 33, 42), (40, 20, 513), (1030, 3, 20)]


def run_emulated(tensors: list[Any], target: Tensor, smoothing: float) -> list[Tensor]:
    with emulated_cuda():
        return run(our_loss, tensors, target, smoothing)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_as_exact_as_torch(shape: Any, bias: bool, smoothing: float) -> None:
    input, weight, b, target = make(*shape)
    tensors = [input, weight, b if bias else None]
    exact = run(torch_loss, [None if t is None else t.double() for t in tensors], target, smoothing)
    theirs = run(torch_loss, tensors, target, smoothing)
    ours = run_emulated(tensors, target, smoothing)
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert a.shape == c.shape
        tiny = 5e-7 * c.abs().max() + 1e-7 / shape[0]
        assert (a - c).abs().max() <= 2 * (b - c).abs().max() + tiny


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    *tensors, target = make(20, 33, 140, dtype)
    exact = run(torch_loss, [t.double() for t in tensors], target, 0.1)
    theirs = run(torch_loss, tensors, target, 0.1)
    ours = run_emulated(tensors, target, 0.1)
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert a.dtype == dtype
        allowed = 2 * (b - c).abs().max() + torch.finfo(dtype).eps * c.abs().max()
        assert (a - c).abs().max() <= allowed


def test_autocast_rounds_the_products_alone() -> None:
    *tensors, target = make(20, 33, 140)
    exact = run(torch_loss, [t.double() for t in tensors], target, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = run(torch_loss, tensors, target, 0.1)
        ours = run_emulated(tensors, target, 0.1)
    assert not torch.equal(ours[2], run_emulated(tensors, target, 0.1)[2])
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - c).abs().max() <= 2 * (b - c).abs().max() + 1e-7


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradients(bias: bool, smoothing: float) -> None:
    *tensors, target = make(4, 3, 5, torch.float64)
    leaves = [t.requires_grad_() for t in tensors[: 2 + bias]]

    def loss(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return our_loss(input, weight, bias, target, smoothing)

    with emulated_cuda():
        assert torch.autograd.gradcheck(loss, leaves)
        assert torch.autograd.gradgradcheck(loss, leaves)


@pytest.mark.parametrize("magnitude", [0.0, 1e2, 1e4])
def test_extreme_logits(magnitude: float) -> None:
    input, weight, bias, target = make(9, 5, 300)
    tensors = [input * magnitude, weight, bias]
    exact = run(torch_loss, [t.double() for t in tensors], target, 0.1)
    for a, b in zip(run_emulated(tensors, target, 0.1), exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_a_row_has_the_same_bits_beside_any_others() -> None:
    input, weight, bias, target = make(64, 33, 300)
    together = run_emulated([input, weight, bias], target, 0.1)[1]
    half = run_emulated([input[:32], weight, bias], target[:32], 0.1)[1]
    assert torch.equal(2 * together[:32], half)  # the mean's 1/N is a power of two here


def test_a_nan_row_leaves_the_others_alone() -> None:
    input, weight, bias, target = make(8, 5, 300)
    expected = run_emulated([input, weight, bias], target, 0.1)[1]
    rows = [r for r in range(8) if r != 3]
    for bad in (float("nan"), float("inf")):
        spoilt = input.clone()
        spoilt[3, 2] = bad
        loss, grad_input, *_ = run_emulated([spoilt, weight, bias], target, 0.1)
        assert loss.isnan() and grad_input[3].isnan().all()
        assert torch.equal(grad_input[rows], expected[rows])


@pytest.mark.parametrize("bad", [-1, 300, 2**40])
def test_a_target_that_the_host_cannot_see_reads_nothing_outside(bad: int) -> None:
    input, weight, bias, target = make(8, 5, 300)
    expected = run_emulated([input, weight, bias], target, 0.1)[1]
    target[3] = bad
    with emulated_cuda(owns_memory=True):
        loss, grad_input, *_ = run(our_loss, [input, weight, bias], target, 0.1)
    rows = [r for r in range(8) if r != 3]
    assert loss.isnan() and grad_input[3].isnan().all()
    assert torch.equal(grad_input[rows], expected[rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_ignored_rows_hold_is_of_no_matter(shape: Any, dtype: torch.dtype) -> None:
    input, *parameters, target = make(*shape, dtype, ignored=0.4)
    counted = target != IGNORED
    expected = run_emulated([input[counted], *parameters], target[counted], 0.1)
    for value in (0.0, float("nan"), float("inf")):
        input[~counted] = value
        loss, grad_input, *rest = run_emulated([input, *parameters], target, 0.1)
        assert not grad_input[~counted].any()
        torch.testing.assert_close([loss, grad_input[counted], *rest], expected)


def test_no_rows() -> None:
    input, weight, bias, target = make(6, 4, 9)
    empty = run_emulated([input[:0], weight, bias], target[:0], 0.1)
    ignored = run_emulated([input, weight, bias], target.fill_(IGNORED), 0.1)
    for found in (empty, ignored):
        assert found[0].isnan() and not any(g.any() for g in found[1:])


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("input", torch.ones(2, 3).long(), TypeError),
        ("input", torch.ones(3), ValueError),
        ("linear_weight", torch.ones(4, 2), ValueError),
        ("target", torch.tensor([0, 4]), ValueError),
        ("linear_bias", torch.ones(3), ValueError),
        ("label_smoothing", 1.5, ValueError),
    ],
)
def test_wrong_arguments_are_named(name: str, value: Any, error: type[Exception]) -> None:
    good = {
        "input": torch.ones(2, 3),
        "linear_weight": torch.ones(4, 3),
        "target": torch.tensor([0, 3]),
        "linear_bias": torch.ones(4),
        "label_smoothing": 0.1,
    }
    with (
        emulated_cuda(),
        pytest.raises(error, match=f"^linear_cross_entropy: {name}: expected .*, got"),
    ):
        ops.linear_cross_entropy(**{**good, name: value})


def test_products_of_other_types_are_refused() -> None:
    input, weight, bias, target = make(6, 4, 9)
    op = torch.ops.seq2seq_ext.linear_cross_entropy
    for given, dtype in ((input, torch.int8), (input.double(), torch.bfloat16)):
        with emulated_cuda(), pytest.raises(ValueError, match="dtype: expected"):
            op(given, weight.to(given), bias.to(given), target, 0.1, None, dtype, False)
