"""The linear op against torch's."""

import pytest
import torch
from torch.nn.functional import linear as torch_linear
from weight_cases import DTYPES, ROUNDINGS, rounded_linear

from seq2seq_ext import ops

SHAPES = [(1, 1, 1), (3, 5, 7), (17, 33, 65), (8, 64, 16), (2, 300, 19), (0, 4, 5), (4, 6, 0)]
# Where a tile unit takes one register of rows, two, and more; whole and broken groups of depths.
TILES = [(13, 1030, 33), (16, 32, 32), (31, 64, 70), (33, 127, 96)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
@pytest.mark.cpu_only("packed weights are the CPU's")
def test_is_as_exact_as_torch(rows, inputs, outputs, isa, bias):
    x, w, b = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    b = b if bias else None
    found = ops.linear(x, w, b)
    assert torch.equal(ops.linear(x, w, b, packed=ops.linear_pack(w)), found)
    exact = torch_linear(x.double(), w.double(), None if b is None else b.double())
    if exact.numel():
        torchs = (torch_linear(x, w, b) - exact).abs().max()
        tiny = min(torch.finfo(torch.float32).eps / 2 * exact.abs().max(), 1e-6)  # one rounding
        assert (found - exact).abs().max() <= 2 * torchs + tiny
    assert found.shape == exact.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [*SHAPES, *TILES])
@pytest.mark.cpu_only("packed weights are the CPU's")
def test_reduced_weights_are_exact_on_rounded_factors(dtype, rows, inputs, outputs, weight_isa):
    """Against float64 on the same rounded factors: only the sums' own rounding is left."""
    x, w, b = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    x[:1] *= 1e-3
    found = ops.linear(x, w, b, packed=ops.linear_pack(w, dtype=dtype))
    exact = rounded_linear(dtype)(x.double(), w.double(), b.double())
    assert found.shape == exact.shape
    if dtype == torch.int8:  # the sum is exact: its conversion, two products and the bias round
        allowed = 4 * (exact.abs() + 2 * b.abs())
    else:
        terms = ROUNDINGS[dtype](x.double()).abs() @ ROUNDINGS[dtype](w.double()).abs().t()
        allowed = (inputs + 1) * (terms + b.abs())
    assert ((found - exact).abs() <= torch.finfo(torch.float32).eps / 2 * allowed + 1e-30).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.cpu_only("packed weights are the CPU's")
def test_reduced_weights_give_a_row_the_same_bits_in_any_batch(dtype, weight_isa, threads):
    x, w, b = torch.randn(199, 257), torch.randn(130, 257), torch.randn(130)
    packed = ops.linear_pack(w, dtype=dtype)
    torch.set_num_threads(2)
    together = ops.linear(x, w, b, packed=packed)
    torch.set_num_threads(1)
    for begin, end in ((0, 1), (5, 12), (100, 199)):
        assert torch.equal(ops.linear(x[begin:end], w, b, packed=packed), together[begin:end])


@pytest.mark.cpu_only("packed weights are the CPU's")
def test_int8_sums_are_the_same_integers_on_every_path(weight_isa):
    """The largest products there are, of one sign: no path may saturate."""
    x, w = torch.ones(9, 4096), torch.ones(5, 4096)
    x[1], x[7], w[2] = -1, -1, -1
    found = ops.linear(x, w, packed=ops.linear_pack(w, dtype=torch.int8))
    exact = rounded_linear(torch.int8)(x.double(), w.double())
    assert torch.equal(found, exact.float())
    assert torch.equal(ops.linear(x[:3], w, packed=ops.linear_pack(w, dtype=torch.int8)), found[:3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 3e38, 1e-42, 0.0])
@pytest.mark.cpu_only("packed weights are the CPU's")
def test_reduced_weights_keep_odd_values_in_their_row(dtype, poison, weight_isa):
    x, w = torch.randn(7, 33), torch.randn(40, 33)
    packed = ops.linear_pack(w, dtype=dtype)
    expected = ops.linear(x, w, packed=packed)
    x[3, 5:] = poison
    found = ops.linear(x, w, packed=packed)
    others = [0, 1, 2, 4, 5, 6]
    assert torch.equal(found[others], expected[others])
    if not torch.tensor(poison).isfinite():
        assert not found[3].isfinite().any()
    column = w.clone()
    column[7, 0] = poison
    found = ops.linear(x[others], column, packed=ops.linear_pack(column, dtype=dtype))
    rest = [i for i in range(40) if i != 7]
    assert torch.equal(found[:, rest], expected[others][:, rest])


def test_any_leading_dimensions_and_strides():
    x, w = torch.randn(3, 5, 4).transpose(0, 2), torch.randn(3, 6).t()
    torch.testing.assert_close(ops.linear(x, w), torch_linear(x, w))
    torch.testing.assert_close(ops.linear(x[0, 0], w), torch_linear(x[0, 0], w))
    row = x[0, :1].expand(5, 3)
    torch.testing.assert_close(ops.linear(row, w), torch_linear(row, w))


def test_a_row_has_the_same_bits_in_any_batch(threads):
    x, w, b = torch.randn(199, 257), torch.randn(130, 257), torch.randn(130)
    torch.set_num_threads(2)
    together = ops.linear(x, w, b)
    torch.set_num_threads(1)
    for begin, end in ((0, 1), (5, 12), (100, 199)):
        assert torch.equal(ops.linear(x[begin:end], w, b), together[begin:end])


def test_gradients():
    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    for arguments in ((leaf(2, 3, 4), leaf(5, 4), leaf(5)), (leaf(3, 4), leaf(5, 4))):
        assert torch.autograd.gradcheck(ops.linear, arguments)
        assert torch.autograd.gradgradcheck(ops.linear, arguments)


@pytest.mark.cpu_only("packed weights are the CPU's")
def test_registration():
    x, w, b = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5)
    for tensor in (x, w, b):
        tensor.requires_grad_()
    torch.library.opcheck(torch.ops.seq2seq_ext.linear.default, (x, w, b, None))
    torch.library.opcheck(torch.ops.seq2seq_ext.linear.default, (x, w, None, None))
    grad = torch.randn(3, 5, requires_grad=True)
    for wanted in ([True] * 3, [False, True, False]):
        call = (grad, x, w, None, wanted)
        torch.library.opcheck(torch.ops.seq2seq_ext.linear_backward.default, call)
    for dtype in (None, *DTYPES):
        pack = (w.detach(), dtype)
        torch.library.opcheck(torch.ops.seq2seq_ext.linear_pack.default, pack)
        packed = torch.ops.seq2seq_ext.linear_pack(*pack)
        call = (x.detach(), w.detach(), b.detach(), packed)
        torch.library.opcheck(torch.ops.seq2seq_ext.linear.default, call)


@pytest.mark.cpu_only("packed weights are the CPU's")
def test_reduced_weights_compile():
    w = torch.randn(5, 4)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def run(x):
        return ops.linear(x, w, packed=ops.linear_pack(w, dtype=torch.int8))

    x = torch.randn(3, 4)
    assert torch.equal(run(x), ops.linear(x, w, packed=ops.linear_pack(w, dtype=torch.int8)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.uint8])
@pytest.mark.cpu_only("packed weights are the CPU's")
def test_a_wrong_storage_is_named(dtype):
    with pytest.raises(ValueError, match=r"^linear_pack: dtype: expected .*bfloat16 or int8, got"):
        ops.linear_pack(torch.ones(2, 3), dtype=dtype)
    with pytest.raises(ValueError, match=r"^linear_pack: dtype: expected Double, got"):
        ops.linear_pack(torch.ones(2, 3).double(), dtype=torch.int8)


@pytest.mark.cpu_only("packed weights are the CPU's")
def test_reduced_weights_give_no_gradients():
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    packed = ops.linear_pack(w, dtype=torch.bfloat16)
    with pytest.raises(
        ValueError, match=r"^linear: packed: expected torch.float32 where gradients"
    ):
        ops.linear(x, w, packed=packed)
    with torch.no_grad():
        assert ops.linear(x, w, packed=packed).shape == (3, 5)


@pytest.mark.cpu_only("packed weights are the CPU's")
def test_int8_depth_is_limited():
    with pytest.raises(ValueError, match=r"^linear_pack: dtype: expected at most 131072 inputs"):
        ops.linear_pack(torch.ones(1, 131073), dtype=torch.int8)


def with_gradients(function, *tensors):
    """The result and the gradients of all tensors."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    output = function(*leaves)
    weight = torch.arange(output.numel()).view_as(output).cos()
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), leaves)]


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [*SHAPES, (300, 70, 130)])
def test_gradients_are_as_exact_as_torchs(rows, inputs, outputs, isa):
    tensors = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    exact = with_gradients(torch_linear, *(t.double() for t in tensors))
    ours, theirs = with_gradients(ops.linear, *tensors), with_gradients(torch_linear, *tensors)
    for got, torchs, expected in zip(ours, theirs, exact, strict=True):
        assert got.shape == expected.shape
        if expected.numel():
            tiny = 4 * torch.finfo(torch.float32).eps * expected.abs().max()
            allowed = 2 * (torchs - expected).abs().max() + tiny
            assert (got - expected).abs().max() <= allowed


def test_gradients_have_the_same_bits_with_any_number_of_threads(threads):
    tensors = torch.randn(20, 30, 257), torch.randn(131, 257), torch.randn(131)
    for context in (torch.autocast("cpu", enabled=False), torch.autocast("cpu", torch.bfloat16)):
        with context:
            torch.set_num_threads(1)
            alone = with_gradients(ops.linear, *tensors)
            torch.set_num_threads(2)
            together = with_gradients(ops.linear, *tensors)
        assert all(map(torch.equal, together, alone))


def test_only_wanted_gradients_are_made():
    x, w, b = torch.randn(6, 4), torch.randn(5, 4), torch.randn(5)
    *_, grad_x, grad_w, grad_b = with_gradients(ops.linear, x, w, b)
    for wanted, expected in ((0, grad_x), (1, grad_w), (2, grad_b)):
        tensors = [x.clone(), w.clone(), b.clone()]
        output = ops.linear(*(t.requires_grad_(i == wanted) for i, t in enumerate(tensors)))
        output.backward(torch.arange(output.numel()).view_as(output).cos())
        assert [t.grad is not None for t in tensors] == [i == wanted for i in range(3)]
        assert torch.equal(tensors[wanted].grad, expected)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(3, 5, 7), (70, 33, 110)])
@pytest.mark.cpu_only("packed weights are the CPU's")
def test_bfloat16_autocast_is_as_exact_as_torchs(rows, inputs, outputs, isa):
    tensors = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    exact = with_gradients(torch_linear, *(t.double() for t in tensors))
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = with_gradients(ops.linear, *tensors), with_gradients(torch_linear, *tensors)
        cast = ops.linear(tensors[0].bfloat16(), *tensors[1:])
        assert ops.linear(*(t.double() for t in tensors)).dtype == torch.float64
    assert cast.dtype == torch.float32 and torch.equal(cast, ours[0])
    for got, plain in list(zip(ours, with_gradients(ops.linear, *tensors), strict=True))[:3]:
        assert not torch.equal(got, plain)  # it did round
    for got, torchs, expected in zip(ours, theirs, exact, strict=True):
        assert got.dtype == torch.float32
        assert (got - expected).norm() <= 1.5 * (torchs - expected).norm() + 1e-6


@pytest.mark.parametrize(
    ("x", "w", "b", "packed", "error", "argument"),
    [
        (torch.ones(2, 3), torch.ones(4), None, None, ValueError, "weight"),
        (torch.ones(2, 3), torch.ones(4, 3, dtype=torch.int64), None, None, TypeError, "weight"),
        (torch.ones(2, 3), torch.ones(4, 5), None, None, ValueError, "input"),
        (torch.ones(2, 3).double(), torch.ones(4, 3), None, None, TypeError, "input"),
        (torch.tensor(1.0), torch.ones(4, 3), None, None, ValueError, "input"),
        (torch.ones(2, 3), torch.ones(4, 3), torch.ones(3), None, ValueError, "bias"),
        (torch.ones(2, 3), torch.ones(4, 3), torch.ones(4).double(), None, TypeError, "bias"),
        (torch.ones(2, 3), torch.ones(4, 3), None, torch.ones(4, 3), ValueError, "packed"),
    ],
)
def test_wrong_arguments_are_named(x, w, b, packed, error, argument):
    with pytest.raises(error, match=f"^linear: {argument}: expected .*, got"):
        ops.linear(x, w, b, packed=packed)
