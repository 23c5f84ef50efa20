"""The attention kernels of CUDA: on the emulated device, and on a GPU where there is one."""

from typing import Any

import pytest
import torch
from attention_cases import KINDS, assert_as_good_as_torch, call, make, make_lengths, run
from cuda_device import needs_cuda
from emulated_cuda import emulated_cuda

from seq2seq_ext import ops, reference

SHAPES = [(1, 1, 1, 1, 1), (2, 1, 5, 16, 16), (3, 9, 11, 33, 19), (2, 17, 140, 5, 300)]
SHAPES += [(2, 3, 9, 300, 7)]  # b, t, s, a, m


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_reference(kind: str, shape: Any, seed: int) -> None:
    with emulated_cuda(seed):
        assert_as_good_as_torch(kind, make(*shape), make_lengths(shape[0], shape[2]))


@pytest.mark.parametrize("shape", [(0, 2, 3, 4, 5), (2, 0, 3, 4, 5), (2, 3, 0, 4, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_dims(kind: str, shape: Any) -> None:
    b, t, s, _, m = shape
    with emulated_cuda():
        grads = torch.randn(b, t, m), torch.randn(b, t, s)
        result = run(ops, kind, make(*shape), None, grads)
    assert all(not x.any() for x in result.values())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    leaves = [x.requires_grad_() for x in make(2, 2, 3, 3, 2, dtype=torch.float64)]
    if kind == "dot":
        leaves.pop(2)

    def function(*x: Any) -> Any:
        tensors = list(x) if kind == "additive" else [*x[:2], x[1], x[2]]
        return call(ops, kind, tensors, torch.tensor([3, 2]))

    with emulated_cuda():
        assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_computes_in_float32(kind: str, dtype: torch.dtype) -> None:
    tensors = [x.to(dtype) for x in make(2, 5, 9, 33, 19)]
    lengths = make_lengths(2, 9)
    grads = torch.randn(2, 5, 19).to(dtype), torch.randn(2, 5, 9).to(dtype)
    exact = run(
        reference,
        kind,
        [x.double() for x in tensors],
        lengths,
        (grads[0].double(), grads[1].double()),
    )
    with emulated_cuda():
        got = run(ops, kind, tensors, lengths, grads)
    for name, expected in exact.items():
        assert got[name].dtype == dtype
        # Gradients start from weights that were rounded; results are rounded once more.
        tolerance = 3 * torch.finfo(dtype).eps * expected.abs().max()
        assert (got[name] - expected).abs().max() <= tolerance, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentence_has_the_same_bits_in_any_batch(kind: str) -> None:
    tensors, lengths = make(4, 11, 13, 40, 70), torch.tensor([13, 5, 0, 9])
    with emulated_cuda():
        context, weights = call(ops, kind, tensors, lengths)
        for b in range(4):
            one = [x if x.dim() == 1 else x[b : b + 1] for x in tensors]
            alone = call(ops, kind, one, lengths[b : b + 1])
            assert torch.equal(alone[0][0], context[b]) and torch.equal(alone[1][0], weights[b])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_never_read(kind: str) -> None:
    tensors, lengths = make(3, 4, 9, 20, 30), torch.tensor([9, 4, 0])
    grads = torch.randn(3, 4, 30), torch.randn(3, 4, 9)
    poisoned = [x.clone() for x in tensors]
    for x in (poisoned[1], poisoned[3]):
        for b, length in enumerate(lengths.tolist()):
            x[b, length:] = torch.nan
    with emulated_cuda():
        for same, got in zip(
            run(ops, kind, tensors, lengths, grads).values(),
            run(ops, kind, poisoned, lengths, grads).values(),
            strict=True,
        ):
            assert torch.equal(same, got)


def test_strides_may_span_more_than_2_31_elements() -> None:
    # Untouched pages of a huge mapping cost nothing.
    far = 2**31 + 8
    storage = torch.empty(far + 64, dtype=torch.float32)
    dense = make(2, 1, 2, 4, 3)
    spread = [dense[0], torch.as_strided(storage, (2, 2, 4), (far, 4, 1)), dense[2]]
    spread[1].copy_(dense[1])
    spread.append(torch.as_strided(storage, (2, 2, 3), (far, 3, 1), 16))
    spread[3].copy_(dense[3])
    with emulated_cuda():
        for kind in KINDS:
            assert_as_good_as_torch(kind, spread, None, dense)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_wrong_types_raise(dtype: torch.dtype) -> None:
    tensors = [x.to(dtype) for x in make(2, 1, 2, 4, 3)]
    with emulated_cuda(), pytest.raises(TypeError, match="query: expected float32, float64, bf"):
        torch.ops.seq2seq_ext.dot_attention(tensors[0], tensors[1], tensors[3], None, 1.0)


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_equals_reference(kind: str, shape: Any) -> None:
    tensors = [x.cuda() for x in make(*shape)]
    with torch.device("cuda"):
        assert_as_good_as_torch(kind, tensors, make_lengths(shape[0], shape[2]).cuda())


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_graph_capture(kind: str) -> None:
    tensors = [x.cuda() for x in make(3, 5, 9, 40, 30)]
    lengths = torch.tensor([9, 4, 0], device="cuda")
    expected = call(ops, kind, tensors, lengths)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call(ops, kind, tensors, lengths)
    graph.replay()
    assert all(map(torch.equal, captured, expected))
