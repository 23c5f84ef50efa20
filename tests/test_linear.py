"""The linear op against torch's."""

import pytest
import torch
from torch.nn.functional import linear as torch_linear

from seq2seq_ext import ops

SHAPES = [(1, 1, 1), (3, 5, 7), (17, 33, 65), (8, 64, 16), (2, 300, 19), (0, 4, 5), (4, 6, 0)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_is_as_exact_as_torch(rows, inputs, outputs, isa, bias):
    x, w, b = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    b = b if bias else None
    found = ops.linear(x, w, b)
    assert torch.equal(ops.linear(x, w, b, packed=ops.linear_pack(w)), found)
    exact = torch_linear(x.double(), w.double(), None if b is None else b.double())
    if exact.numel():
        torchs = (torch_linear(x, w, b) - exact).abs().max()
        assert (found - exact).abs().max() <= 2 * torchs + 1e-6
    assert found.shape == exact.shape


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


def test_registration():
    x, w, b = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5)
    for tensor in (x, w, b):
        tensor.requires_grad_()
    torch.library.opcheck(torch.ops.seq2seq_ext.linear.default, (x, w, b, None))
    torch.library.opcheck(torch.ops.seq2seq_ext.linear.default, (x, w, None, None))
    torch.library.opcheck(torch.ops.seq2seq_ext.linear_pack.default, (w.detach(), None))


def test_autocast_computes_in_float32():
    x, w = torch.randn(2, 3), torch.randn(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ops.linear(x.bfloat16().float(), w), torch.ops.seq2seq_ext.linear(
            x.bfloat16(), w, None, None))  # fmt: skip


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
