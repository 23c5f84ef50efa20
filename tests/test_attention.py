"""Masked attention: ops against float64 reference, gradients, tracing, invariance, errors."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seq2seq_ext import ops, reference
from seq2seq_ext.nn.attention import AdditiveAttention, DotAttention

OPS = torch.ops.seq2seq_ext
KINDS = ("additive", "dot")


def supported_isas() -> list[str]:
    best, supported = OPS.isa(), []
    for isa in ("baseline", "avx2", "avx512"):
        try:
            OPS.set_isa(isa)
        except ValueError:
            continue
        supported.append(isa)
    OPS.set_isa(best)
    return supported


@pytest.fixture(params=supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    best = OPS.isa()
    OPS.set_isa(request.param)
    yield request.param
    OPS.set_isa(best)


def call(where: Any, kind: str, tensors: list[Tensor], lengths: Tensor | None = None) -> Any:
    """The attention of module ``where`` (ops or reference); tensors: query, keys, v, memory."""
    query, keys, v, memory = tensors
    if kind == "additive":
        return where.additive_attention(query, keys, v, memory, lengths)
    return where.dot_attention(query, keys, memory, lengths, 0.5)


def make(
    b: int, t: int, s: int, a: int, m: int, *, magnitude: float = 1.0, dtype=torch.float32
) -> list[Tensor]:
    query, keys = torch.randn(b, t, a) * magnitude, torch.randn(b, s, a) * magnitude
    return [x.to(dtype) for x in (query, keys, torch.randn(a), torch.randn(b, s, m))]


def make_lengths(b: int, s: int) -> Tensor:
    lengths = torch.randint(0, s + 1, (b,))
    lengths[-1] = 0
    lengths[0] = s
    return lengths


def run(
    where: Any,
    kind: str,
    tensors: list[Tensor],
    lengths: Tensor | None,
    grads: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """Outputs and gradients by name."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    outputs = call(where, kind, leaves, lengths)
    found = torch.autograd.grad(outputs, leaves, grads, allow_unused=True)
    names = ("query", "keys", "v", "memory")
    gradients = {f"grad_{n}": g for n, g in zip(names, found, strict=True) if g is not None}
    return {"context": outputs[0].detach(), "weights": outputs[1].detach()} | gradients


def assert_as_good_as_torch(
    kind: str, tensors: list[Tensor], lengths: Tensor | None, dense: list[Tensor] | None = None
) -> None:
    """err(ours) <= 2 err(torch float32) + tiny, both against float64, outputs and gradients.

    ``dense``: the same values as ``tensors``, for the references.
    """
    dense = tensors if dense is None else dense
    b, t, s, m = *tensors[0].shape[:2], *tensors[3].shape[1:]
    grads = torch.randn(b, t, m), torch.randn(b, t, s)
    exact = run(
        reference,
        kind,
        [x.double() for x in dense],
        lengths,
        (grads[0].double(), grads[1].double()),
    )
    theirs, ours = (
        run(where, kind, x, lengths, grads) for where, x in ((reference, dense), (ops, tensors))
    )
    assert ours.keys() == exact.keys()
    for name, expected in exact.items():
        assert ours[name].shape == expected.shape
        if expected.numel() == 0:
            continue
        error = (ours[name] - expected).abs().max()
        # Tiny: a few roundings of the sum's terms, which are of order one here.
        tiny = 5e-7 * max(1.0, expected.abs().max())
        allowed = 2 * (theirs[name] - expected).abs().max() + tiny
        assert error <= allowed, f"{name}: {error:.2e} > {allowed:.2e}"


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
    torch.manual_seed(0)
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
@pytest.mark.parametrize("magnitude", [1e-3, 0.1, 0.4, 3.0, 14.0, 60.0, 1e4])
def test_additive_magnitudes(magnitude, isa) -> None:
    torch.manual_seed(0)
    query, keys, v, memory = make(6, 5, 11, 37, 20, magnitude=magnitude)
    assert_as_good_as_torch("additive", [query, keys, v, memory], make_lengths(6, 11))
    # Each query of a sentence takes its own form.
    query = query / magnitude * torch.tensor([1e-3, 1.0, 30.0, 60.0, 1e4])[:, None]
    assert_as_good_as_torch("additive", [query, keys, v, memory], make_lengths(6, 11))


def test_additive_small_values_keep_their_digits(isa) -> None:
    torch.manual_seed(0)
    query, keys, v, memory = make(3, 4, 9, 37, 20, magnitude=1e-3)
    assert_as_good_as_torch("additive", [query, keys, 1e3 * v, memory], None)


@pytest.mark.parametrize("q", [0.999, 1.001, 42.99, 43.01, 60.0, 1e4])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_additive_edges_of_the_forms(q, sign, isa) -> None:
    torch.manual_seed(0)
    query, keys, v, memory = make(1, 2, 4, 9, 3)
    query[:] = q * sign
    keys[0, :, :3] = torch.tensor([-q, q, -q / 2])
    assert_as_good_as_torch("additive", [query, keys, v, memory], None)


@pytest.mark.parametrize("kind", KINDS)
def test_dense_rows_in_any_layout(kind, isa) -> None:
    torch.manual_seed(0)
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


@pytest.mark.parametrize("masked", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, masked) -> None:
    torch.manual_seed(0)
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


def modules() -> dict[str, torch.nn.Module]:
    return {
        "additive": AdditiveAttention(5, 6, 7),
        "general": DotAttention(5, 6, "general"),
        "dot": DotAttention(6, 6, "dot"),
        "scaled_dot": DotAttention(6, 6, "scaled_dot"),
    }


@pytest.mark.parametrize("name", modules())
def test_module(name) -> None:
    torch.manual_seed(0)
    module = modules()[name]
    query, memory = torch.randn(2, 3, module.query_size), torch.randn(2, 4, 6)
    lengths = torch.tensor([4, 2])
    context, weights = module(query, memory, lengths)
    assert context.shape == (2, 3, 6) and weights.shape == (2, 3, 4)
    assert torch.equal(module(query, memory, lengths, module.project_memory(memory))[0], context)
    for t in range(3):
        one_context, one_weights = module(query[:, t], memory, lengths)
        assert torch.equal(one_context, context[:, t]) and torch.equal(one_weights, weights[:, t])
    with torch.no_grad():
        keys = module.project_memory(memory)
        if name == "additive":
            hidden = torch.tanh(module.query_projection(query)[:, :, None] + keys[:, None])
            scores = hidden @ module.v
        else:
            scores = query @ keys.transpose(1, 2) / (6**0.5 if name == "scaled_dot" else 1)
        scores[1, :, 2:] = -torch.inf
    torch.testing.assert_close(weights, scores.softmax(-1))
    torch.testing.assert_close(context, weights @ memory)


def test_module_parameters_and_repr() -> None:
    names = {name: [n for n, _ in m.named_parameters()] for name, m in modules().items()}
    assert names == {
        "additive": ["v", "query_projection.weight", "memory_projection.weight"],
        "general": ["memory_projection.weight"],
        "dot": [],
        "scaled_dot": [],
    }
    assert repr(modules()["dot"]) == "DotAttention(6, 6, score='dot')"
    assert "5, 6, 7" in repr(modules()["additive"])


@pytest.mark.parametrize("name", ["additive", "general"])
def test_compile_and_export(name) -> None:
    torch.manual_seed(0)
    module = modules()[name]
    arguments = torch.randn(2, 3, 5), torch.randn(2, 4, 6), torch.tensor([4, 2])
    expected = module(*arguments)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    actual = compiled(*arguments)
    torch.testing.assert_close(actual, expected)
    gradients = [
        torch.autograd.grad(out[0].sum() + out[1].square().sum(), list(module.parameters()))
        for out in (actual, expected)
    ]
    torch.testing.assert_close(*gradients)
    exported = torch.export.export(module, arguments).module()
    torch.testing.assert_close(exported(*arguments), expected)


@pytest.mark.parametrize("name", ["additive", "general"])
def test_autocast(name) -> None:
    module = modules()[name]
    query, memory = torch.randn(2, 5), torch.randn(2, 4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        context, weights = module(query, memory)
    assert context.dtype == weights.dtype == torch.float32
    torch.testing.assert_close(context, module(query, memory)[0], atol=0.05, rtol=0.05)
    (context.sum() + weights.square().sum()).backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_reference_backend() -> None:
    tensors = make(2, 3, 4, 5, 6)
    for kind in KINDS:
        with ops.backend("reference"):
            actual = call(ops, kind, tensors)
        assert all(map(torch.equal, actual, call(reference, kind, tensors)))


sizes = st.tuples(*(st.integers(1, n) for n in (6, 5, 9, 20, 20)))
cases = given(
    shape=sizes,
    seed=st.integers(0, 2**16),
    kind=st.sampled_from(KINDS),
    magnitude=st.sampled_from([0.1, 3.0, 30.0]),
)


def draw(shape, seed, magnitude) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(seed)
    return make(*shape, magnitude=magnitude), make_lengths(shape[0], shape[2])


def rows_of(tensors: list[Tensor], rows: Any) -> list[Tensor]:
    query, keys, v, memory = tensors
    return [query[rows], keys[rows], v, memory[rows]]


def same(actual: dict[str, Tensor], expected: dict[str, Tensor], names: str) -> bool:
    return all(torch.equal(actual[name], expected[name]) for name in names.split())


ROW_RESULTS = "context weights grad_query grad_keys grad_memory"


def run_random_grads(kind, tensors, lengths) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
    b, t, s, m = *tensors[0].shape[:2], *tensors[3].shape[1:]
    grads = torch.randn(b, t, m), torch.randn(b, t, s)
    return run(ops, kind, tensors, lengths, grads), grads


@settings(deadline=None, max_examples=40)
@cases
def test_rows_are_bit_identical_in_any_batch(shape, seed, kind, magnitude) -> None:
    tensors, lengths = draw(shape, seed, magnitude)
    together, grads = run_random_grads(kind, tensors, lengths)
    order = torch.randperm(shape[0])
    permuted = run(
        ops, kind, rows_of(tensors, order), lengths[order], (grads[0][order], grads[1][order])
    )
    for name in ROW_RESULTS.split():
        assert torch.equal(permuted[name], together[name][order]), name
    for b in range(shape[0]):
        rows = slice(b, b + 1)
        alone = run(
            ops, kind, rows_of(tensors, rows), lengths[rows], (grads[0][rows], grads[1][rows])
        )
        for name in ROW_RESULTS.split():
            assert torch.equal(alone[name], together[name][rows]), name


@settings(deadline=None, max_examples=40)
@cases
def test_a_query_is_bit_identical_alone(shape, seed, kind, magnitude) -> None:
    tensors, lengths = draw(shape, seed, magnitude)
    together, (grad_context, grad_weights) = run_random_grads(kind, tensors, lengths)
    for t in range(shape[1]):
        query, *rest = tensors
        alone = run(
            ops,
            kind,
            [query[:, t : t + 1], *rest],
            lengths,
            (grad_context[:, t : t + 1], grad_weights[:, t : t + 1]),
        )
        for name in ("context", "weights", "grad_query"):
            assert torch.equal(alone[name][:, 0], together[name][:, t]), name


@settings(deadline=None, max_examples=40)
@cases
def test_padding_is_never_read(shape, seed, kind, magnitude) -> None:
    (query, keys, v, memory), lengths = draw(shape, seed, magnitude)
    b, s, extra = shape[0], shape[2], 3
    plain, (grad_context, grad_weights) = run_random_grads(kind, [query, keys, v, memory], lengths)
    nan = torch.full((b, extra, 1), torch.nan)
    past_end = (torch.arange(s) >= lengths[:, None])[:, :, None]
    padded = [
        query,
        torch.cat([keys.masked_fill(past_end, torch.nan), nan.expand(-1, -1, keys.shape[2])], 1),
        v,
        torch.cat(
            [memory.masked_fill(past_end, torch.nan), nan.expand(-1, -1, memory.shape[2])], 1
        ),
    ]
    longer = run(
        ops,
        kind,
        padded,
        lengths,
        (grad_context, torch.nn.functional.pad(grad_weights, (0, extra), value=torch.nan)),
    )
    assert same(longer, plain, "context grad_query")
    assert not longer["weights"][:, :, s:].any()
    assert torch.equal(longer["weights"][:, :, :s], plain["weights"])
    for name in ("grad_keys", "grad_memory"):
        assert torch.equal(longer[name][:, :s], plain[name]) and not longer[name][:, s:].any()
    for name in plain:
        assert not plain[name].isnan().any(), name
    empty = lengths == 0
    assert not plain["context"][empty].any() and not plain["weights"][empty].any()


@settings(deadline=None, max_examples=20)
@cases
def test_full_lengths_are_no_lengths(shape, seed, kind, magnitude) -> None:
    tensors, _ = draw(shape, seed, magnitude)
    full, grads = run_random_grads(kind, tensors, torch.full((shape[0],), shape[2]))
    none = run(ops, kind, tensors, None, grads)
    assert same(none, full, " ".join(full))


@settings(deadline=None, max_examples=20)
@cases
def test_nan_stays_in_its_row(shape, seed, kind, magnitude) -> None:
    tensors, _ = draw((shape[0] + 1, shape[1] + 1, *shape[2:]), seed, magnitude)
    clean = call(ops, kind, tensors)
    for where, value in itertools.product((0, 1, 3), (torch.nan, torch.inf)):
        dirty = [x.clone() for x in tensors]
        dirty[where][0, 0, 0] = value
        result = call(ops, kind, dirty)
        for x, y in zip(result, clean, strict=True):
            assert torch.equal(x[1:], y[1:])
            if where == 0:
                assert torch.equal(x[0, 1:], y[0, 1:])
            if where == 0 and value is torch.nan:
                assert x[0, 0].isnan().all()


@pytest.mark.parametrize("b", [1, 3, 17])
@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_bits(kind, b, isa) -> None:
    torch.manual_seed(0)
    tensors, lengths = make(b, 9, 30, 90, 75), make_lengths(b, 30)
    grads = torch.randn(b, 9, 75), torch.randn(b, 9, 30)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(ops, kind, tensors, lengths, grads))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert same(other, results[0], " ".join(results[0]))


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
    with torch.profiler.profile(profile_memory=True) as profile, LargestTensor() as largest:
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
    pytest.param("query", lambda x: x.half(), TypeError, "float32 or float64", id="query dtype"),
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
    pytest.param("memory", lambda x: None, ValueError, "3 dimensions", id="memory None"),
    pytest.param(
        "memory_lengths", lambda x: torch.tensor([5, 1]), ValueError, r"\[0, 4\], got 5", id="long"
    ),
    pytest.param(
        "memory_lengths", lambda x: torch.tensor([-1, 1]), ValueError, "got -1", id="negative"
    ),
    pytest.param("memory_lengths", lambda x: torch.tensor([1]), ValueError, r"\[2\]", id="few"),
    pytest.param(
        "memory_lengths", lambda x: torch.tensor([1.0, 2.0]), TypeError, "int64", id="float"
    ),
    pytest.param("memory_lengths", lambda x: [4, 4], RuntimeError, "list", id="lengths list"),
]


@pytest.mark.parametrize(("name", "spoil", "error", "expected"), BAD)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_named(
    kind: str, name: str, spoil: Callable[[Any], Any], error: type[Exception], expected: str
) -> None:
    if kind == "dot" and name == "v":
        pytest.skip("dot attention has no v")
    arguments = good()
    arguments[name] = spoil(arguments[name])
    if kind == "dot":
        del arguments["v"]
    with pytest.raises(error, match=name) as raised:
        getattr(ops, f"{kind}_attention")(**arguments)
    assert raised.match(expected)


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        pytest.param(lambda q, m: (q[..., 1:], m), ValueError, "query", id="query features"),
        pytest.param(lambda q, m: (q[0, 0], m), ValueError, "query", id="query dims"),
        pytest.param(lambda q, m: (q.double(), m), TypeError, "query", id="query dtype"),
        pytest.param(lambda q, m: (q.long(), m), TypeError, "query", id="query integers"),
        pytest.param(lambda q, m: (q[1:], m), ValueError, "query", id="query batch"),
        pytest.param(lambda q, m: (q.tolist(), m), TypeError, "query", id="query list"),
        pytest.param(lambda q, m: (q, m[..., 1:]), ValueError, "memory", id="memory features"),
        pytest.param(lambda q, m: (q, m[0]), ValueError, "memory", id="memory dims"),
        pytest.param(lambda q, m: (q, m.double()), TypeError, "memory", id="memory dtype"),
        pytest.param(lambda q, m: (q, m, [1, 2]), RuntimeError, "memory_lengths", id="list"),
        pytest.param(
            lambda q, m: (q, m, torch.tensor([9, 1])), ValueError, "memory_lengths", id="long"
        ),
        pytest.param(
            lambda q, m: (q, m, None, m), ValueError, "projected_memory", id="unprojected"
        ),
        pytest.param(
            lambda q, m: (q, m, None, q), ValueError, "projected_memory", id="projected source"
        ),
    ],
)
@pytest.mark.parametrize("module", [AdditiveAttention(5, 6, 5), DotAttention(5, 6, "general")])
def test_bad_module_input_is_named(module, arguments, error, name) -> None:
    with pytest.raises(error, match=name):
        module(*arguments(torch.randn(2, 3, 5), torch.randn(2, 4, 6)))


def test_bad_constructor_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="score: expected one of .* got 'cosine'"):
        DotAttention(4, 4, "cosine")
    for score in ("dot", "scaled_dot"):
        with pytest.raises(ValueError, match="memory_size: expected query_size 4"):
            DotAttention(4, 5, score)
