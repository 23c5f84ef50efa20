"""The recurrent kernels of CUDA: on the emulated device, and on a GPU where there is one."""

from contextlib import nullcontext

import pytest
import torch
from cuda_device import needs_cuda, tf32
from emulated_cuda import emulated_cuda, load
from recurrent_cases import (
    CASES,
    GRU,
    LSTM,
    PROJECTED,
    RNN_RELU,
    RNN_TANH,
    Case,
    Inputs,
    Kind,
    assert_as_exact_as_torch,
    check_case,
    make_inputs,
    run_with_gradients,
)

from seq2seq_ext import ops, reference

KINDS = pytest.mark.parametrize(
    "kind", [LSTM, GRU, RNN_TANH, RNN_RELU], ids=["lstm", "gru", "rnn_tanh", "rnn_relu"]
)
RAGGED = Case(6, 5, 7, 37, D=2, lengths=[4, 6, 0, 1, 3])
# Several tiles of rows; depth and rows on 16 bytes.
ALIGNED = Case(3, 35, 16, 32, D=2, lengths=[3, 1, 0, 2, 3] * 7)
SHAPES = {"ragged": RAGGED, "aligned": ALIGNED, "no_bias": CASES["no_bias"]}
# One step; the deep one has more slabs of weights than a warp fetches ahead.
STEPS = {
    "odd": Case(1, 5, 7, 37, D=2),
    "rows": Case(1, 35, 16, 32),
    "deep": Case(1, 2, 420, 168),
    "no_bias": Case(1, 3, 5, 9, bias=False),
}
# 5 panels a direction and 3 tiles of 16 rows; more depth than registers hold.
HELD = Case(3, 35, 16, 40, D=2, lengths=[3, 1, 0, 2, 3] * 7)
DEEP = Case(2, 3, 8, 392)
# On so many processors as many blocks run together: of one panel or two, of all rows or some.
HELD_BLOCKS = pytest.mark.parametrize("blocks", [10, 6, 18], ids=["narrow", "wide", "wide_groups"])
DEEP_BLOCKS = pytest.mark.parametrize("blocks", [49, 25], ids=["narrow", "wide"])
# For a GPU only. The second fits a device in 16 bits where blocks of two panels hold registers too.
LARGE = {"many_blocks": Case(20, 64, 100, 256, D=2), "full": Case(5, 48, 64, 1024, D=2)}
# Either all stages in one launch, or one launch each.
RESIDENT = pytest.mark.parametrize("processors", [1000, 0], ids=["persistent", "stepwise"])


def check(kind: Kind, case: Case) -> None:
    """Forward and backward."""
    check_case(kind, case)
    doubles = make_inputs(kind, case, torch.float64).leaves(torch.float64)
    ours, torchs = (run_with_gradients(kind, where, doubles) for where in (ops, reference))
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def rows_of(inputs: Inputs, rows: list[int]) -> Inputs:
    lengths = None if inputs.lengths is None else inputs.lengths[rows]
    states = tuple(s[:, rows] for s in inputs.states)
    return Inputs(inputs.input[:, rows], states, inputs.weights, lengths, inputs.has_biases)


@RESIDENT
@KINDS
@pytest.mark.parametrize("name", SHAPES)
def test_equals_reference(kind: Kind, name: str, processors: int) -> None:
    with emulated_cuda(processors=processors):
        check(kind, SHAPES[name])


def test_more_rows_and_steps_than_a_block_orders() -> None:
    for case in (Case(2, 300, 2, 3, lengths=[2, 0, 1] * 100), Case(300, 2, 2, 3, lengths=[290, 7])):
        inputs = make_inputs(RNN_TANH, case, torch.float64)
        expected = RNN_TANH.run(reference, inputs)
        with emulated_cuda():
            torch.testing.assert_close(RNN_TANH.run(ops, inputs), expected)


@pytest.mark.parametrize("name", ["one_of_everything", "all_zero_lengths", "no_rows", "no_steps"])
@KINDS
def test_edges(kind: Kind, name: str) -> None:
    with emulated_cuda():
        check(kind, CASES[name])


@RESIDENT
@pytest.mark.parametrize("name", PROJECTED)
def test_projections(name: str, processors: int) -> None:
    with emulated_cuda(processors=processors):
        check(LSTM, PROJECTED[name])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_order_of_threads(seed: int) -> None:
    with emulated_cuda(seed):
        check(LSTM, ALIGNED)
        check(LSTM, STEPS["rows"])


@pytest.mark.parametrize("name", STEPS)
@KINDS
def test_one_step_equals_reference(kind: Kind, name: str) -> None:
    with emulated_cuda():
        check(kind, STEPS[name])


def test_one_step_is_projected() -> None:
    with emulated_cuda():
        check(LSTM, Case(1, 18, 6, 20, D=2, P=7))
        check(LSTM, Case(1, 3, 5, 9, bias=False, P=4))


@KINDS
def test_one_step_is_the_layer_s(kind: Kind, device: torch.device) -> None:
    """As with lengths, which take the way of many steps, and as four steps of it."""
    case = Case(4, 5, 7, 20)
    inputs = make_inputs(kind, case).map(lambda t: t.to(device))
    outputs, *finals = kind.run(ops, inputs)
    states, found = inputs.states, []
    for t in range(case.T):
        one = Inputs(inputs.input[t : t + 1], states, inputs.weights, None, True)
        output, *states = kind.run(ops, one)
        found.append(output)
    torch.testing.assert_close(torch.cat(found), outputs)
    torch.testing.assert_close(list(states), finals)
    assert torch.equal(output[0], states[0][0])
    one.lengths = torch.ones(case.B, dtype=torch.int64)
    torch.testing.assert_close(kind.run(ops, one)[0], output)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@KINDS
def test_one_step_of_a_row_has_the_same_bits_in_any_batch(kind: Kind, dtype: torch.dtype) -> None:
    """Saved or not, whatever its neighbours and strides are."""
    inputs = make_inputs(kind, STEPS["rows"]).map(lambda t: t.to(dtype))
    with emulated_cuda():
        expected = kind.run(ops, inputs)
        assert all(map(torch.equal, kind.run(ops, inputs.leaves(dtype)), expected))
    with emulated_cuda(seed=1):
        for rows in ([0], [34], [3, 1, 2, 20]):
            some = rows_of(inputs, rows)
            some.input = torch.cat((some.input, some.input), dim=2)[..., : STEPS["rows"].I]
            got = kind.run(ops, some)
            assert all(torch.equal(g, e[:, rows]) for g, e in zip(got, expected, strict=True))
        inputs.input[0, 7] = torch.nan
        got = kind.run(ops, inputs)
    rows = [b for b in range(STEPS["rows"].B) if b != 7]
    assert all(torch.equal(g[:, rows], e[:, rows]) for g, e in zip(got, expected, strict=True))


@KINDS
def test_one_step_in_tf32(kind: Kind) -> None:
    inputs = make_inputs(kind, STEPS["rows"])
    with emulated_cuda():
        exact = kind.run(ops, inputs)
        with tf32():
            found = kind.run(ops, inputs)
    assert not torch.equal(found[0], exact[0])
    torch.testing.assert_close(found, exact, rtol=0, atol=4e-3)


@pytest.mark.parametrize("case", [ALIGNED, STEPS["deep"]], ids=["layer", "step"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@KINDS
def test_half_precision_is_as_exact_as_torch(kind: Kind, dtype: torch.dtype, case: Case) -> None:
    inputs = make_inputs(kind, case).map(lambda t: t.to(dtype)).leaves(dtype)
    exact = run_with_gradients(kind, reference, inputs.leaves(torch.float64))
    torchs = run_with_gradients(kind, reference, inputs)
    with emulated_cuda():
        ours = run_with_gradients(kind, ops, inputs)
    for got, other, true in zip(ours, torchs, exact, strict=True):
        assert got.dtype == dtype
        error, allowed = ((t.double() - true).abs().max() for t in (got, other))
        assert error <= 2 * allowed


def row_gradients(kind: Kind, inputs: Inputs, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of what belongs to rows: input and states, for the gradients ``cos(outputs)``."""
    leaves = inputs.leaves(inputs.input.dtype)
    found = kind.run(ops, leaves)
    return list(
        torch.autograd.grad(found, [leaves.input, *leaves.states], [o.cos() for o in outputs])
    )


@KINDS
def test_every_way_gives_the_same_bits(kind: Kind) -> None:
    """Alone, in any batch, in one launch or many, saved or not."""
    inputs = make_inputs(kind, ALIGNED)
    with emulated_cuda():
        expected = kind.run(ops, inputs)
        gradients = row_gradients(kind, inputs, expected)
        saving = kind.run(ops, inputs.leaves(torch.float32))
    assert all(map(torch.equal, saving, expected))
    with emulated_cuda(seed=1, processors=0):
        assert all(map(torch.equal, kind.run(ops, inputs), expected))
        assert all(map(torch.equal, row_gradients(kind, inputs, expected), gradients))
    with emulated_cuda(processors=8):  # blocks take several tiles of rows
        assert all(map(torch.equal, kind.run(ops, inputs), expected))
        assert all(map(torch.equal, row_gradients(kind, inputs, expected), gradients))
        for rows in ([0], [34], [3, 1, 2, 20]):
            some = rows_of(inputs, rows)
            got = kind.run(ops, some)
            assert all(torch.equal(g, e[:, rows]) for g, e in zip(got, expected, strict=True))
            got = row_gradients(kind, some, [e[:, rows] for e in expected])
            assert all(torch.equal(g, e[:, rows]) for g, e in zip(got, gradients, strict=True))


def check_held(kind: Kind, inputs: Inputs, blocks: int) -> None:
    """The same bits from panels that blocks hold as from those that are read at every step."""
    with emulated_cuda(processors=0):
        expected = kind.run(ops, inputs)
        gradients = row_gradients(kind, inputs, expected)
    with emulated_cuda(seed=1, processors=blocks):
        assert all(map(torch.equal, kind.run(ops, inputs), expected))
        assert load().together() == blocks
        assert all(map(torch.equal, row_gradients(kind, inputs, expected), gradients))
        assert load().together() == blocks


@HELD_BLOCKS
@pytest.mark.parametrize("math", ["tf32", "bfloat16", "float16"])
@KINDS
def test_held_panels_give_the_same_bits(kind: Kind, math: str, blocks: int) -> None:
    dtype = torch.float32 if math == "tf32" else getattr(torch, math)
    with tf32() if math == "tf32" else nullcontext():
        check_held(kind, make_inputs(kind, HELD).map(lambda t: t.to(dtype)), blocks)


@DEEP_BLOCKS
def test_deep_panels_give_the_same_bits(blocks: int) -> None:
    with tf32():
        check_held(LSTM, make_inputs(LSTM, DEEP), blocks)


# Processors and KiB of shared memory; what step_product.cuh says of them.
H100, A100 = (132, 227), (108, 163)


@pytest.mark.parametrize(
    ("device", "hidden", "directions", "math", "blocks"),
    [
        (H100, 2048, 1, "bfloat16", 128),
        (H100, 1024, 2, "bfloat16", 128),
        (H100, 1024, 2, "tf32", 128),
        (H100, 2120, 1, "bfloat16", 0),  # a panel too many
        (H100, 1152, 1, "tf32", 0),  # panels too deep for two in a block, and too many for one
        (A100, 768, 2, "float16", 96),
        (A100, 1792, 1, "float16", 0),
    ],
    ids=str,
)
def test_what_fits_a_device(
    device: tuple[int, int], hidden: int, directions: int, math: str, blocks: int
) -> None:
    """Of one step only, and of its blocks the last: they need not wait for each other."""
    dtype = torch.float32 if math == "tf32" else getattr(torch, math)
    x = torch.zeros(1, 1, 8, dtype=dtype)
    state = torch.zeros(directions, 1, hidden, dtype=dtype)
    weight = torch.zeros(4 * hidden, hidden, dtype=dtype)
    weights = [torch.zeros(4 * hidden, 8, dtype=dtype), weight] * directions
    processors, kib = device
    told = emulated_cuda(processors=processors, shared_bytes=kib * 1024, last_blocks=1)
    with told, tf32() if math == "tf32" else nullcontext():
        ops.lstm(x, state, state, weights, lengths=torch.ones(1).long(), has_biases=False)
        assert load().together() == blocks


@pytest.mark.parametrize(("room", "blocks"), [(18, 18), (17, 10), (9, 0)])
def test_less_room_than_the_device_tells(room: int, blocks: int) -> None:
    """Where a launch is refused, the next narrower form runs, at last one launch a step."""
    inputs = make_inputs(LSTM, HELD)
    with tf32():
        with emulated_cuda(processors=0):
            expected = LSTM.run(ops, inputs)
        with emulated_cuda(processors=18, room=room):
            assert all(map(torch.equal, LSTM.run(ops, inputs), expected))
            assert load().together() == blocks


@KINDS
def test_saves_what_the_cpu_saves(kind: Kind) -> None:
    inputs = make_inputs(kind, RAGGED)
    op = getattr(torch.ops.seq2seq_ext, kind.name)
    extras = tuple(kind.keywords.values())
    call = (inputs.input, inputs.lengths, *inputs.states, inputs.weights, True, *extras, None, True)
    expected = op(*call)[-1]
    with emulated_cuda():
        torch.testing.assert_close(op(*call)[-1], expected)


@KINDS
def test_padding_is_never_read(kind: Kind) -> None:
    inputs = make_inputs(kind, RAGGED)
    with emulated_cuda():
        expected = run_with_gradients(kind, ops, inputs.leaves(torch.float32))
        for row, length in enumerate(RAGGED.lengths or ()):
            inputs.input[length:, row] = torch.nan
        found = run_with_gradients(kind, ops, inputs.leaves(torch.float32))
    assert all(map(torch.equal, found, expected))


@KINDS
def test_lengths_on_the_device_are_not_read_by_the_host(kind: Kind) -> None:
    """There is room for all T * B packed rows then, and lengths out of range are clamped."""
    inputs = make_inputs(kind, RAGGED).leaves(torch.float32)
    with emulated_cuda():
        expected = run_with_gradients(kind, ops, inputs)
    assert inputs.lengths is not None
    inputs.lengths[inputs.lengths == RAGGED.T] += 3
    with emulated_cuda(owns_memory=True):
        found = run_with_gradients(kind, ops, inputs)
    of_rows = 2 * (1 + kind.states)
    assert all(map(torch.equal, found[:of_rows], expected[:of_rows]))
    torch.testing.assert_close(found[of_rows:], expected[of_rows:])  # sums of zeros too


def test_wrong_arguments_are_named() -> None:
    inputs = make_inputs(LSTM, RAGGED)
    with emulated_cuda():
        with pytest.raises(ValueError, match=r"^lstm: packed: expected None on CUDA"):
            LSTM.run(ops, inputs, packed=torch.ones(1))
        with pytest.raises(ValueError, match=r"^lstm: lengths: expected values in \[0, 6\], got 7"):
            inputs.lengths = torch.tensor([7, 1, 1, 1, 1])
            LSTM.run(ops, inputs)
        with pytest.raises(TypeError, match=r"^lstm: input: expected float32, float64, bfloat16"):
            LSTM.run(ops, inputs.map(torch.Tensor.long))


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("case", [*SHAPES.values(), *STEPS.values(), *LARGE.values()], ids=str)
@KINDS
def test_gpu_equals_reference(kind: Kind, case: Case) -> None:
    inputs = make_inputs(kind, case)
    exact = run_with_gradients(kind, reference, inputs.leaves(torch.float64))
    torchs = run_with_gradients(kind, reference, inputs.leaves(torch.float32))
    on_gpu = inputs.map(torch.Tensor.cuda).leaves(torch.float32)
    ours = run_with_gradients(kind, ops, on_gpu)
    assert_as_exact_as_torch([t.cpu() for t in ours], torchs, exact)
    if inputs.lengths is not None:  # lengths on the GPU are not waited for
        expected = kind.run(ops, on_gpu)
        on_gpu.lengths = inputs.lengths.cuda()
        assert all(map(torch.equal, kind.run(ops, on_gpu), expected))


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("case", [HELD, *LARGE.values()], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@KINDS
def test_gpu_is_as_exact_as_torch_in_half_precision(
    kind: Kind, dtype: torch.dtype, case: Case
) -> None:
    inputs = make_inputs(kind, case).map(lambda t: t.to(dtype)).leaves(dtype)
    exact = run_with_gradients(kind, reference, inputs.leaves(torch.float64))
    torchs = run_with_gradients(kind, reference, inputs)
    ours = run_with_gradients(kind, ops, inputs.map(torch.Tensor.cuda).leaves(dtype))
    for got, other, true in zip(ours, torchs, exact, strict=True):
        error, allowed = ((t.cpu().double() - true).abs().max() for t in (got, other))
        assert error <= 2 * allowed


@needs_cuda
@pytest.mark.cuda
@KINDS
def test_gpu_gives_a_row_the_same_bits_in_any_batch(kind: Kind) -> None:
    """Batches of one tile and of many take other grids and other blocks."""
    inputs = make_inputs(kind, LARGE["full"]).map(lambda t: t.bfloat16().cuda())
    expected = kind.run(ops, inputs)
    gradients = row_gradients(kind, inputs, expected)
    for rows in ([0], [3, 1, 2, 20], list(range(17))):
        some = rows_of(inputs, rows)
        got = kind.run(ops, some)
        assert all(torch.equal(g, e[:, rows]) for g, e in zip(got, expected, strict=True))
        got = row_gradients(kind, some, [e[:, rows] for e in expected])
        assert all(torch.equal(g, e[:, rows]) for g, e in zip(got, gradients, strict=True))
