"""The loss op: equality with torch's in float64, gradients, tracing, memory, errors."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from seq2seq_ext import ops, reference

# (rows, features, vocabulary); stretches of the vocabulary are 512 wide.
SHAPES = [(1, 1, 1), (3, 5, 7), (17, 33, 42), (200, 40, 513), (50, 17, 1600), (1030, 3, 20)]
SMOOTHINGS = [0.0, 0.1, 1.0]
IGNORED = -7


def make(
    rows: int,
    features: int,
    vocabulary: int,
    dtype: torch.dtype = torch.float32,
    ignored: float = 0,
):
    """``ignored``: how many of the rows behind the first, about."""
    weight, bias = torch.randn(vocabulary, features), torch.randn(vocabulary)
    target = torch.randint(0, vocabulary, (rows,))
    if ignored:
        target[1:][torch.rand(rows - 1) < ignored] = IGNORED
    return torch.randn(rows, features).to(dtype), weight.to(dtype), bias.to(dtype), target


def torch_loss(input, weight, bias, target, label_smoothing):
    logits = linear(input, weight, bias)
    return cross_entropy(logits, target, ignore_index=IGNORED, label_smoothing=label_smoothing)


def our_loss(input, weight, bias, target, label_smoothing):
    return ops.linear_cross_entropy(
        input,
        weight,
        target,
        linear_bias=bias,
        label_smoothing=label_smoothing,
        ignore_index=IGNORED,
    )


def run(loss, tensors, target, label_smoothing) -> list[Tensor]:
    """The loss and its gradients."""
    leaves = [t.detach().requires_grad_() for t in tensors if t is not None]
    value = loss(*leaves, *[None] * (3 - len(leaves)), target, label_smoothing)
    return [value.detach(), *torch.autograd.grad(2 * value, leaves)]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_as_exact_as_torch(shape, bias, smoothing, isa):
    input, weight, b, target = make(*shape)
    tensors = [input, weight, b if bias else None]
    exact = run(torch_loss, [None if t is None else t.double() for t in tensors], target, smoothing)
    theirs = run(torch_loss, tensors, target, smoothing)
    ours = run(our_loss, tensors, target, smoothing)
    assert len(ours) == len(exact)
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert a.shape == c.shape
        # Tiny: a few roundings of what the gradients sum, probabilities over the rows.
        tiny = 5e-7 * c.abs().max() + 1e-7 / shape[0]
        assert (a - c).abs().max() <= 2 * (b - c).abs().max() + tiny


@pytest.mark.parametrize("magnitude", [0.0, 1e-3, 1e2, 1e4])
def test_extreme_logits(magnitude, isa):
    input, weight, bias, target = make(9, 5, 700)
    tensors = [input * magnitude, weight, bias]
    exact = run(torch_loss, [t.double() for t in tensors], target, 0.1)
    for a, b in zip(run(our_loss, tensors, target, 0.1), exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_float64_equals_the_reference(isa):
    *tensors, target = make(20, 7, 600, torch.float64)
    expected = run(
        lambda x, w, b, y, e: reference.linear_cross_entropy(
            x, w, y, linear_bias=b, label_smoothing=e
        ),
        tensors,
        target,
        0.2,
    )
    for a, b in zip(run(our_loss, tensors, target, 0.2), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def beside_ignored(shape: tuple[int, int, int]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """The loss and its gradients beside ignored rows of this and that, and without these rows."""
    input, *parameters, target = make(*shape, ignored=0.4)
    counted = target != IGNORED
    expected = run(our_loss, [input[counted], *parameters], target[counted], 0.1)
    for value in (0.0, float("nan"), float("inf")):
        input[~counted] = value
        loss, grad_input, *rest = run(our_loss, [input, *parameters], target, 0.1)
        assert not grad_input[~counted].any()
        yield [loss, grad_input[counted], *rest], expected


@pytest.mark.parametrize("shape", SHAPES)
def test_what_ignored_rows_hold_is_of_no_matter(shape):
    for found, expected in beside_ignored(shape):
        torch.testing.assert_close(found, expected)


@pytest.mark.cpu_only("ignored rows are not left out of its sums")
@pytest.mark.parametrize("shape", SHAPES)
def test_ignored_rows_change_no_bit(shape, isa):
    for found, expected in beside_ignored(shape):
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("ignored", [0.0, 0.6])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradients(bias, smoothing, ignored):
    *tensors, target = make(4, 3, 5, torch.float64, ignored)
    leaves = [t.requires_grad_() for t in tensors[: 2 + bias]]

    def loss(input, weight, bias=None):
        return our_loss(input, weight, bias, target, smoothing)

    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


def test_only_the_wanted_gradients_are_given():
    input, weight, bias, target = make(4, 3, 5)
    our_loss(input, weight.requires_grad_(), bias, target, 0.0).backward()
    assert weight.grad is not None and input.grad is None and bias.grad is None


@pytest.mark.parametrize("factor", [1, 3])
def test_gradients_add_up_and_are_nobody_elses(factor):
    """What forward made of them stays as it was."""
    *leaves, target = make(4, 3, 5)
    expected = run(our_loss, leaves, target, 0.0)[1:]
    for t in leaves:
        t.requires_grad_()
    loss = factor * our_loss(*leaves, target, 0.0)
    loss.backward(retain_graph=True)
    first = [t.grad for t in leaves]
    for g in first:
        g.zero_()
    loss.backward(retain_graph=True)
    loss.backward()
    for t, g in zip(leaves, expected, strict=True):
        torch.testing.assert_close(t.grad, factor * g)  # twice; what is expected is of 2 * loss


def test_threads_and_runs_give_the_same_bits(threads):
    *tensors, target = make(700, 40, 1300)
    torch.set_num_threads(1)
    expected = run(our_loss, tensors, target, 0.1)
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for a, b in zip(run(our_loss, tensors, target, 0.1), expected, strict=True):
            assert torch.equal(a, b)


def test_a_row_has_the_same_bits_beside_any_others():
    input, weight, bias, target = make(64, 33, 600)
    together = run(our_loss, [input, weight, bias], target, 0.1)[1]
    half = run(our_loss, [input[:32], weight, bias], target[:32], 0.1)[1]
    order = torch.randperm(64)
    permuted = run(our_loss, [input[order], weight, bias], target[order], 0.1)[1]
    assert torch.equal(2 * together[:32], half)  # the mean's 1/N is a power of two here
    assert torch.equal(together[order], permuted)


def test_a_nan_row_leaves_the_others_alone(isa):
    input, weight, bias, target = make(8, 5, 600)
    expected = run(our_loss, [input, weight, bias], target, 0.1)[1]
    for bad in (float("nan"), float("inf")):
        spoilt = input.clone()
        spoilt[3, 2] = bad
        loss, grad_input, *_ = run(our_loss, [spoilt, weight, bias], target, 0.1)
        rows = [r for r in range(8) if r != 3]
        assert loss.isnan() and grad_input[3].isnan().all()
        assert torch.equal(grad_input[rows], expected[rows])


def test_no_rows_and_strides():
    input, weight, bias, target = make(6, 4, 9)
    empty = run(our_loss, [input[:0], weight, bias], target[:0], 0.1)
    assert empty[0].isnan() and not any(g.any() for g in empty[1:])
    ignored = run(our_loss, [input, weight, bias], target.fill_(IGNORED), 0.1)
    assert ignored[0].isnan() and not any(g.any() for g in ignored[1:])
    input, weight, bias, target = make(6, 4, 9)
    apart = [torch.stack([t, t], dim=-1)[..., 0] for t in (input, weight, bias, target)]
    for a, b in zip(
        run(our_loss, apart[:3], apart[3], 0.1),
        run(our_loss, [input, weight, bias], target, 0.1),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_registration():
    *tensors, target = make(6, 4, 9)
    op = torch.ops.seq2seq_ext.linear_cross_entropy.default
    torch.library.opcheck(op, (*tensors, target, 0.1, None, None, False))
    for t in tensors:
        t.requires_grad_()
    torch.library.opcheck(op, (*tensors, target, 0.1, int(target[1]), None, True))
    torch.library.opcheck(op, (*tensors[:2], None, target, 0.1, None, torch.bfloat16, True))


@pytest.mark.not_emulated("torch.compile takes no dispatch mode")
def test_compiles_to_one_graph():
    *tensors, target = make(6, 4, 9, ignored=0.5)
    compiled = torch.compile(our_loss, fullgraph=True, backend="aot_eager")
    for a, b in zip(
        run(compiled, tensors, target, 0.1), run(our_loss, tensors, target, 0.1), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("n, h, v", [(1, 1, 1), (5, 7, 3), (70, 33, 1100)])
def test_bfloat16_autocast_is_as_exact_as_torchs(n, h, v, isa):
    *tensors, target = make(n, h, v)
    exact = run(torch_loss, [t.double() for t in tensors], target, 0.1)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        ours, theirs = (run(loss, tensors, target, 0.1) for loss in (our_loss, torch_loss))
    plain = run(our_loss, tensors, target, 0.1)
    assert v == 1 or not torch.equal(ours[2], plain[2])  # it did round
    for got, torchs, expected in zip(ours, theirs, exact, strict=True):
        assert got.dtype == torch.float32
        allowed = 2 * (torchs - expected).abs().max() + 1e-7
        assert (got - expected).abs().max() <= allowed


def test_autocast_casts_inputs_and_leaves_float64():
    input, weight, bias, target = make(6, 4, 9)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        found = our_loss(input.bfloat16(), weight, bias, target, 0.1)
        assert our_loss(input.double(), weight.double(), bias.double(), target, 0.1).dtype == (
            torch.float64
        )
    assert found.dtype == torch.float32


def test_products_of_other_types_are_refused():
    input, weight, bias, target = make(6, 4, 9)
    for given, dtype in ((input, torch.int8), (input.double(), torch.bfloat16)):
        with pytest.raises(ValueError, match="dtype: expected"):
            torch.ops.seq2seq_ext.linear_cross_entropy(
                given, weight.to(given), bias.to(given), target, 0.1, None, dtype, False
            )


@pytest.mark.cpu_only("reads the profile of the CPU's memory")
def test_logits_are_never_all_in_memory():
    input, weight, bias, target = make(4000, 4, 8000)
    for t in (input, weight, bias):
        t.requires_grad_()
    with torch.profiler.profile(profile_memory=True) as profile:
        our_loss(input, weight, bias, target, 0.1).backward()
    allocated = max(e.cpu_memory_usage for e in profile.events())
    assert 0 < allocated < 4 * 4000 * 8000 / 4


GOOD = {
    "input": torch.ones(2, 3),
    "linear_weight": torch.ones(4, 3),
    "target": torch.tensor([0, 3]),
    "linear_bias": torch.ones(4),
    "label_smoothing": 0.1,
    "ignore_index": -1,
}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("input", torch.ones(3), ValueError),
        pytest.param(
            "input",
            torch.ones(2, 3).half(),
            TypeError,
            marks=pytest.mark.cpu_only("CUDA takes halves"),
        ),
        ("linear_weight", torch.ones(4, 2), ValueError),
        ("linear_weight", torch.ones(0, 3), ValueError),
        ("linear_weight", torch.ones(3), ValueError),
        ("linear_weight", torch.ones(4, 3).double(), TypeError),
        ("target", torch.tensor([0]), ValueError),
        ("target", torch.tensor([0, 4]), ValueError),
        ("target", torch.tensor([-2, 0]), ValueError),
        ("target", torch.tensor([0.0, 1.0]), TypeError),
        ("linear_bias", torch.ones(3), ValueError),
        ("linear_bias", torch.ones(4).double(), TypeError),
        ("label_smoothing", 1.5, ValueError),
        ("label_smoothing", float("nan"), ValueError),
    ],
)
def test_wrong_arguments_are_named(name, value, error):
    with pytest.raises(error, match=f"^linear_cross_entropy: {name}: expected .*, got"):
        ops.linear_cross_entropy(**{**GOOD, name: value})
