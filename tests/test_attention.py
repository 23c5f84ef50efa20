"""The attention ops: equality with the float64 reference, gradients, tracing, memory, errors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attention_cases import (
    KINDS,
    OPS,
    assert_as_good_as_torch,
    assert_errors,
    call,
    errors_of,
    make,
    make_lengths,
    run,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seq2seq_ext import ops, reference

SHAPES = [
    pytest.param(1, 1, 1, 1, 1, id="ones"),
    pytest.param(2, 1, 5, 16, 16, id="one query"),
    pytest.param(3, 4, 1, 7, 5, id="one key"),
    pytest.param(7, 3, 9, 33, 19, id="odd"),
    pytest.param(8, 7, 13, 40, 70, id="many queries"),
    pytest.param(17, 5, 21, 31, 47, id="wide batch"),
    pytest.param(2, 13, 6, 8, 130, id="several row blocks"),
]


@pytest.mark.parametrize("masked", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize(("b", "t", "s", "a", "m"), SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_reference(kind, b, t, s, a, m, masked, isa) -> None:
    assert_as_good_as_torch(kind, make(b, t, s, a, m), make_lengths(b, s) if masked else None)


@pytest.mark.parametrize("b, t, s, a, m", [(0, 2, 3, 4, 5), (2, 0, 3, 4, 5), (2, 3, 0, 4, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_dims(kind, b, t, s, a, m) -> None:
    tensors = make(b, t, s, a, m)
    result = run(ops, kind, tensors, None, (torch.randn(b, t, m), torch.randn(b, t, s)))
    assert result["context"].shape == (b, t, m) and result["weights"].shape == (b, t, s)
    for name, x in result.items():
        assert not x.any(), name


# 1e-3: tanh form; 3: exponential form; the others reach the plain form in some rows or in all.
@pytest.mark.parametrize("magnitude", [1e-3, 0.1, 0.4, 3.0, 6.0, 7.0, 14.0, 60.0, 1e4])
def test_additive_magnitudes(magnitude, isa) -> None:
    lengths, one, mixed = make_lengths(6, 11), [], []
    for _ in range(16):
        query, keys, v, memory = make(6, 5, 11, 37, 20, magnitude=magnitude)
        one.append(errors_of("additive", [query, keys, v, memory], lengths))
        # Each query of a sentence takes its own form.
        query = query / magnitude * torch.tensor([1e-3, 1.0, 30.0, 60.0, 1e4])[:, None]
        mixed.append(errors_of("additive", [query, keys, v, memory], lengths))
    assert_errors(one)
    assert_errors(mixed)


def test_additive_small_values_keep_their_digits(isa) -> None:
    query, keys, v, memory = make(3, 4, 9, 37, 20, magnitude=1e-3)
    assert_as_good_as_torch("additive", [query, keys, 1e3 * v, memory], None)


@pytest.mark.parametrize("q", [0.999, 1.001, 4.5, 20.99, 21.01, 60.0, 1e4])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_additive_edges_of_the_forms(q, sign, isa) -> None:
    query, keys, v, memory = make(1, 2, 4, 9, 3)
    query[:] = q * sign
    keys[0, :, :3] = torch.tensor([-q, q, -q / 2])
    assert_as_good_as_torch("additive", [query, keys, v, memory], None)


@pytest.mark.parametrize("kind", KINDS)
def test_dense_rows_in_any_layout(kind, isa) -> None:
    b, t, s, a, m = 3, 4, 6, 10, 9
    lengths = torch.tensor([6, 0, 2])
    transposed = [
        torch.randn(t, b, a).transpose(0, 1),
        torch.randn(s, b, a).transpose(0, 1),
        torch.randn(2 * a)[::2],
        torch.randn(s, b, m).transpose(0, 1),
    ]
    assert_as_good_as_torch(kind, transposed, lengths, [x.contiguous() for x in transposed])
    expanded = [
        torch.randn(1, 1, a).expand(b, t, a),
        torch.randn(1, s, a).expand(b, s, a),
        torch.randn(1).expand(a),
        torch.randn(1, s, m).expand(b, s, m),
    ]
    assert_as_good_as_torch(kind, expanded, lengths, [x.contiguous() for x in expanded])
    strided = [torch.randn(b, n, 2 * f)[..., ::2] for n, f in ((t, a), (s, a), (s, m))]
    strided.insert(2, torch.randn(a))
    assert_as_good_as_torch(kind, strided, lengths, [x.contiguous() for x in strided])


@pytest.mark.parametrize("kind", KINDS)
def test_queries_of_equal_keys_have_no_gradient(kind, isa) -> None:
    """Gradients of a row's scores sum to zero, however large what they are made of."""
    query, keys, v, memory = make(3, 4, 50, 16, 8)
    tensors = [query, keys[:, :1].expand_as(keys), v, memory]
    grads = torch.randn(3, 4, 8), 1000 + torch.randn(3, 4, 50)
    assert run(ops, kind, tensors, None, grads)["grad_query"].abs().max() < 1e-5


@pytest.mark.parametrize("masked", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, masked) -> None:
    tensors = make(3, 2, 3, 3, 2, dtype=torch.float64)
    lengths = torch.tensor([3, 0, 2]) if masked else None
    leaves = [x.requires_grad_() for x in tensors]
    if kind == "dot":
        leaves.pop(2)

    def function(*x: Tensor) -> Any:
        return call(ops, kind, list(x) if kind == "additive" else [*x[:2], x[1], x[2]], lengths)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def op_arguments(kind: str, requires_grad: bool) -> tuple[Any, ...]:
    query, keys, v, memory = make(2, 3, 4, 5, 6)
    tensors = [query, keys, v, memory] if kind == "additive" else [query, keys, memory]
    for x in tensors:
        x.requires_grad_(requires_grad)
    extra = () if kind == "additive" else (0.5,)
    return *tensors, torch.tensor([4, 2]), *extra


@pytest.mark.parametrize("requires_grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(kind, requires_grad) -> None:
    op = getattr(OPS, f"{kind}_attention")
    torch.library.opcheck(op, op_arguments(kind, requires_grad))


@pytest.mark.parametrize("kind", KINDS)
def test_opcheck_backward(kind) -> None:
    arguments = op_arguments(kind, False)
    weights = getattr(OPS, f"{kind}_attention")(*arguments)[1]
    grads = torch.randn(2, 3, 6), torch.randn(2, 3, 4)
    op = getattr(OPS, f"{kind}_attention_backward")
    torch.library.opcheck(op, (*grads, *arguments, weights))


def test_reference_backend() -> None:
    tensors = make(2, 3, 4, 5, 6)
    for kind in KINDS:
        with ops.backend("reference"):
            actual = call(ops, kind, tensors)
        assert all(map(torch.equal, actual, call(reference, kind, tensors)))


class LargestTensor(TorchDispatchMode):
    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, Tensor):
                self.numel = max(self.numel, x.untyped_storage().nbytes() // x.element_size())
        return result


def test_memory_stays_far_below_every_pair() -> None:
    b, t, s, a, m = 4, 32, 32, 64, 8
    tensors = [x.requires_grad_() for x in make(b, t, s, a, m)]
    with (
        torch.profiler.profile(profile_memory=True, acc_events=True) as profile,
        LargestTensor() as largest,
    ):
        context, weights = call(ops, "additive", tensors)
        (context.sum() + weights.square().sum()).backward()
    # 4 bytes a float; allocations inside the op are the profiler's to see.
    allocated = max(e.cpu_memory_usage for e in profile.events())
    assert 0 < largest.numel <= b * max(t, s) * max(t, s, a, m)
    assert 0 < allocated < 4 * b * t * s * a / 4


def good() -> dict[str, Any]:
    query, keys, v, memory = make(2, 3, 4, 5, 6)
    return {"query": query, "keys": keys, "v": v, "memory": memory, "memory_lengths": None}


BAD = [
    pytest.param("query", lambda x: x[0], ValueError, "3 dimensions", id="query dims"),
    pytest.param(
        *("query", lambda x: x.half(), TypeError, "float32 or float64"),
        id="query dtype",
        marks=pytest.mark.cpu_only("CUDA takes halves"),
    ),
    pytest.param("query", lambda x: x.tolist(), RuntimeError, "list", id="query list"),
    pytest.param("keys", lambda x: x[..., 1:], ValueError, r"\[2, 4, 5\]", id="keys features"),
    pytest.param("keys", lambda x: x[:, 1:], ValueError, r"\[2, 4, 5\]", id="keys source"),
    pytest.param("keys", lambda x: x[0], ValueError, "3 dimensions", id="keys dims"),
    pytest.param("keys", lambda x: x.double(), TypeError, "Float", id="keys dtype"),
    pytest.param("v", lambda x: x[1:], ValueError, r"\[5\]", id="v size"),
    pytest.param("v", lambda x: x[None], ValueError, r"\[5\]", id="v dims"),
    pytest.param("v", lambda x: x.double(), TypeError, "Float", id="v dtype"),
    pytest.param("memory", lambda x: x[1:], ValueError, r"\[2, 4, 6\]", id="memory batch"),
    pytest.param("memory", lambda x: x[0], ValueError, "3 dimensions", id="memory dims"),
    pytest.param("memory", lambda x: x.long(), TypeError, "Float", id="memory dtype"),
    pytest.param("memory", lambda x: None, TypeError, "expected a Tensor", id="memory None"),
    pytest.param(
        *("memory_lengths", lambda x: torch.tensor([5, 1]), ValueError, r"\[0, 4\], got 5"),
        id="long",
        marks=pytest.mark.cpu_only("lengths on a GPU are not read"),
    ),
    pytest.param(
        *("memory_lengths", lambda x: torch.tensor([-1, 1]), ValueError, "got -1"),
        id="negative",
        marks=pytest.mark.cpu_only("lengths on a GPU are not read"),
    ),
    pytest.param("memory_lengths", lambda x: torch.tensor([1]), ValueError, r"\[2\]", id="few"),
    pytest.param(
        "memory_lengths", lambda x: torch.tensor([1.0, 2.0]), TypeError, "int64", id="float"
    ),
    pytest.param("memory_lengths", lambda x: [4, 4], RuntimeError, "list", id="lengths list"),
]


@pytest.mark.parametrize(
    ("kind", "name", "spoil", "error", "expected"),
    [
        pytest.param(kind, *bad.values, id=f"{kind} {bad.id}", marks=bad.marks)
        for kind in KINDS
        for bad in BAD
        if (kind, bad.values[0]) != ("dot", "v")
    ],
)
def test_bad_input_is_named(
    kind: str, name: str, spoil: Callable[[Any], Any], error: type[Exception], expected: str
) -> None:
    arguments = good()
    if kind == "dot":
        del arguments["v"]
    arguments[name] = spoil(arguments[name])
    with pytest.raises(error, match=name) as raised:
        getattr(ops, f"{kind}_attention")(**arguments)
    assert raised.match(expected)
