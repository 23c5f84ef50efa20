"""The product kernel of CUDA: on the emulated device, and on a GPU where there is one."""

from types import SimpleNamespace

import pytest
import torch
from cuda_device import needs_cuda, tf32
from emulated_cuda import emulated_cuda
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import linear as torch_linear
from torch.utils.flop_counter import FlopCounterMode

from seq2seq_ext import ops
from seq2seq_ext.ops.linear import _backward

SHAPES = [(1, 1, 1), (3, 5, 7), (17, 33, 65), (70, 64, 16), (2, 300, 19), (130, 72, 140)]
EMPTY = [(0, 4, 5), (4, 0, 6), (4, 6, 0)]  # rows, inputs, outputs


def make(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> list[torch.Tensor]:
    shapes = ((rows, inputs), (outputs, inputs), (outputs,))
    return [torch.randn(shape).to(dtype) for shape in shapes]


def check(tensors: list[torch.Tensor], unit: float) -> None:
    """Every factor and result may be rounded by ``unit``; sums are of the accumulator's type."""
    exact = torch_linear(*(t.double() for t in tensors))
    x, w, b = (t.double().abs() for t in tensors)
    found = ops.linear(*tensors)
    assert found.dtype == tensors[0].dtype and found.shape == exact.shape
    assert ((found - exact).abs() <= 2 * unit * torch_linear(x, w, b) + unit * exact.abs()).all()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", SHAPES + EMPTY)
def test_float32_and_float64(shape: tuple[int, int, int], seed: int) -> None:
    with emulated_cuda(seed):
        check(make(*shape, torch.float32), 3e-7)
        check(make(*shape, torch.float64), 1e-15)


@pytest.mark.parametrize("shape", SHAPES)
def test_tensor_cores(shape: tuple[int, int, int]) -> None:
    """Products of halves are exact, so only the result's rounding and the float sum's are left."""
    with emulated_cuda():
        for dtype in (torch.bfloat16, torch.float16):
            tensors = make(*shape, dtype)
            exact = torch_linear(*(t.double() for t in tensors))
            found = ops.linear(*tensors).double()
            unit = torch.finfo(dtype).eps
            assert ((found - exact).abs() <= unit / 2 * exact.abs() + 1e-5 * shape[1]).all()
        with tf32():
            check(make(*shape, torch.float32), 2.0**-11)


def test_tf32_is_off_unless_asked_for() -> None:
    x, w = torch.full((1, 64), 1 + 2.0**-20), torch.ones(8, 64)
    with emulated_cuda():
        assert (ops.linear(x, w) > 64).all()
        with tf32():
            assert (ops.linear(x, w) == 64).all()


def test_tf32_is_asked_for_as_torch_has_it_now() -> None:
    """Who has set ``fp32_precision`` may not even read ``allow_tf32``."""
    x, w = torch.full((1, 64), 1 + 2.0**-20), torch.ones(8, 64)
    told = torch.backends.cuda.matmul
    before = told.fp32_precision
    try:
        for precision, is_rounded in (("tf32", True), ("ieee", False)):
            told.fp32_precision = precision
            with emulated_cuda():
                assert (ops.linear(x, w) == 64).all() == is_rounded
    finally:
        told.fp32_precision = before


def test_strides_that_are_not_aligned() -> None:
    x, w, b = make(9, 40, 24, torch.float32)
    spread = torch.zeros(24, 43)[:, 3:]
    spread[:, :] = torch.cat([w, w], 1)[:, :40]
    with emulated_cuda():
        assert torch.equal(ops.linear(x, spread, b), ops.linear(x, w, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_has_the_same_bits_in_any_batch(dtype: torch.dtype) -> None:
    x, w, b = make(150, 70, 30, dtype)
    with emulated_cuda():
        together = ops.linear(x, w, b)
        for begin, end in ((0, 1), (5, 12), (77, 150)):
            assert torch.equal(ops.linear(x[begin:end], w, b), together[begin:end])


def test_a_nan_stays_in_its_row() -> None:
    x, w, b = make(40, 30, 20, torch.bfloat16)
    with emulated_cuda():
        expected = ops.linear(x, w, b)
        x[7, 29] = torch.nan
        found = ops.linear(x, w, b)
    others = [i for i in range(40) if i != 7]
    assert torch.equal(found[others], expected[others]) and found[7].isnan().all()


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1, 2)])
def test_only_wanted_gradients_are_computed(wanted: tuple[int, ...]) -> None:
    with FakeTensorMode(), FlopCounterMode(display=False) as flops:
        shapes = (5, 9), (40, 9), (40,)
        grad, x, w = (torch.empty(shape, device="cuda") for shape in ((5, 40), *shapes[:2]))
        context = SimpleNamespace(
            saved_tensors=(x, w), needs_input_grad=[i in wanted for i in range(4)]
        )
        found = _backward(context, grad)
    expected = [shapes[i] if i in wanted else None for i in range(3)]
    assert [g if g is None else g.shape for g in found] == [*expected, None]
    assert flops.get_total_flops() == sum(i < 2 for i in wanted) * 2 * 5 * 9 * 40


def test_wrong_arguments_are_named() -> None:
    x, w, b = make(2, 3, 4, torch.float32)
    with emulated_cuda():
        with pytest.raises(TypeError, match=r"^linear: weight: expected float32, float64, bf"):
            ops.linear(x.long(), w.long())
        with pytest.raises(ValueError, match=r"^linear: input: expected .*, got"):
            ops.linear(x[:, 1:], w)
        with pytest.raises(ValueError, match=r"^linear: packed: expected None on CUDA"):
            ops.linear(x, w, b, packed=torch.ones(1))


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("shape", SHAPES + EMPTY)
def test_gpu_equals_reference(shape: tuple[int, int, int]) -> None:
    for dtype, unit in ((torch.float32, 3e-7), (torch.float64, 1e-15), (torch.bfloat16, 2.0**-8)):
        check([t.cuda() for t in make(*shape, dtype)], unit)
    with tf32():
        check([t.cuda() for t in make(*shape, torch.float32)], 2.0**-11)
