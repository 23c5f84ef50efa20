"""The decoder op against the reference: exactness, gradients, tracing, invariance, errors."""

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
from torch import Tensor

from seq2seq_ext import ops, reference

OPS = torch.ops.seq2seq_ext
KINDS = [
    pytest.param(Case(cell=cell, attention=attention), id=f"{cell}-{attention}")
    for cell, attention in itertools.product(GATES, ATTENTIONS)
]
SIZES = [
    pytest.param(Case(1, 1, 1, 1, 1, 1, 1, 1, masks=False, lengths=False), id="ones"),
    pytest.param(Case(17, 6, 5, 33, 3, 9, 20, 41), id="odd"),
    pytest.param(Case(8, 3, 16, 64, 2, 4, 32, 16, "gru", "dot", masks=False), id="whole panels"),
    pytest.param(Case(13, 4, 2, 40, 1, 7, 8, 9, "gru", lengths=False), id="one layer"),
]


def check_precision(case: Case) -> None:
    """err(ours) <= 2 err(torch float32) + tiny, both against float64, outputs and gradients."""
    inputs = make(case)
    exact = run(reference, inputs.map(Tensor.double))
    theirs, found = run(reference, inputs), run(ops, inputs)
    assert found.keys() == exact.keys()
    for name, expected in exact.items():
        assert found[name].shape == expected.shape, name
        if expected.numel() == 0:
            continue
        # Tiny: a few roundings of sums whose terms are of the result's order.
        tiny = 5e-7 * max(1.0, expected.abs().max())
        allowed = 2 * (theirs[name] - expected).abs().max() + tiny
        assert (found[name] - expected).abs().max() <= allowed, name


@pytest.mark.parametrize("case", KINDS)
def test_float64_equals_the_reference(case, isa):
    for masks, layers in ((False, 1), (True, 3)):
        inputs = make(replace(case, masks=masks, L=layers), torch.float64)
        expected = run(reference, inputs)
        for name, value in run(ops, inputs).items():
            torch.testing.assert_close(
                value, expected[name], rtol=1e-11, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("case", SIZES)
def test_is_as_exact_as_torch(case, isa):
    check_precision(case)


@pytest.mark.slow
@pytest.mark.parametrize("H", [1, 16, 37, 100])
@pytest.mark.parametrize("B", [1, 2, 3, 7, 8, 17])
@pytest.mark.parametrize("kind", KINDS)
def test_sweep(kind, B, H, isa):
    check_precision(replace(kind, B=B, H=H, A=H, T=9, S=11))


@pytest.mark.parametrize("case", KINDS)
def test_gradients(case):
    inputs = make(replace(case, B=2, T=2, E=2, H=2, A=2, M=2, S=2), torch.float64)
    inputs.keywords["lengths"] = torch.tensor([2, 1])
    if case.attention != "none":
        inputs.keywords["memory_lengths"] = torch.tensor([1, 2])
    function, leaves = of_leaves(inputs)
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


def test_gradient_of_one_output_alone():
    for chosen in (0, 1):
        inputs = make(Case(), torch.float64).map(Tensor.requires_grad_)
        leaves = list(inputs.leaves().values())
        found, expected = (
            torch.autograd.grad(
                where.attentional_decoder(*inputs.args, **inputs.keywords)[chosen].square().sum(),
                leaves,
                allow_unused=True,
                materialize_grads=True,
            )
            for where in (ops, reference)
        )
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("case", [KINDS[0], KINDS[4], KINDS[8]])
def test_registration(case):
    case = replace(case, B=2, T=2, H=3, L=2)
    inputs = make(case).map(Tensor.requires_grad_)
    torch.library.opcheck(OPS.attentional_decoder.default, op_arguments(inputs, True))
    plain = make(case)
    torch.library.opcheck(OPS.attentional_decoder.default, op_arguments(plain, False))
    output, alignment, saved = OPS.attentional_decoder(*op_arguments(plain, True))
    torch.library.opcheck(
        OPS.attentional_decoder_backward.default,
        (
            torch.randn_like(output),
            torch.randn_like(alignment),
            *op_arguments(plain, True)[:-1],
            alignment,
            saved,
        ),
    )


@pytest.mark.not_emulated("torch.compile takes no dispatch mode")
def test_compiles_to_one_graph():
    inputs = make(Case())
    compiled = torch.compile(ops.attentional_decoder, fullgraph=True, backend="aot_eager")

    class Compiled:
        attentional_decoder = staticmethod(compiled)

    expected = run(ops, inputs)
    for name, value in run(Compiled, inputs).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("case", KINDS)
def test_bfloat16_autocast_is_as_exact_as_torchs(case, isa):
    inputs = make(replace(case, B=9, H=37))
    exact = run(reference, inputs.map(torch.Tensor.double))
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        ours, theirs = run(ops, inputs), run(reference, inputs)
    assert not torch.equal(ours["vectors"], run(ops, inputs)["vectors"])  # it did round
    if case.cell == "rnn_relu":  # gradients jump where a rounding changes a unit's sign
        exact = {name: exact[name] for name in ("vectors", "alignment")}
    for name, expected in exact.items():
        assert ours[name].dtype == torch.float32, name
        error, torchs = ((x[name] - expected).norm() for x in (ours, theirs))
        assert error <= 1.5 * torchs + 1e-6, name


def test_autocast_casts_inputs():
    inputs = make(Case())
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        vectors, _ = ops.attentional_decoder(
            inputs.args[0].bfloat16(), *inputs.args[1:], **inputs.keywords
        )
    assert vectors.dtype == torch.float32


def test_threads_and_runs_give_the_same_bits(threads):
    for cell in GATES:
        inputs = make(Case(24, 7, 40, 130, 2, 20, 70, 90, cell=cell))
        torch.set_num_threads(1)
        expected = run(ops, inputs)
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for name, value in run(ops, inputs).items():
                assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("case", KINDS)
def test_a_row_has_the_same_bits_in_any_batch(case, isa):
    inputs = make(replace(case, B=17, H=37))
    together = run(ops, inputs)
    names = [n for n in OF_ROWS if n in together]
    order = torch.randperm(17)
    permuted = run(ops, inputs.rows(order))
    for row in range(17):
        alone = run(ops, inputs.rows(slice(row, row + 1)))
        for name in names:
            assert torch.equal(alone[name][0], together[name][row]), name
    for name in names:
        assert torch.equal(permuted[name], together[name][order]), name


def test_padding_is_never_read_and_outputs_are_zero_there():
    check_padding(make(Case()))


def test_a_nan_row_leaves_the_others_alone():
    check_nan_row(make(Case(lengths=False)))


def test_strides():
    inputs = make(Case())
    expected = run(ops, inputs)
    apart = inputs.map(lambda t: torch.stack([t, t], dim=-1)[..., 0])
    transposed = inputs.map(
        lambda t: t.transpose(0, 1).contiguous().transpose(0, 1) if t.dim() > 1 else t
    )
    for strided in (apart, transposed):
        for name, value in run(ops, strided).items():
            assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("sizes", [{"B": 0}, {"T": 0}, {"S": 0}])
def test_empty_dims(sizes):
    inputs = make(Case(**sizes))
    expected = run(reference, inputs)
    for name, value in run(ops, inputs).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_reference_backend():
    inputs = make(Case())
    with ops.backend("reference"):
        found = run(ops, inputs)
    for name, value in run(reference, inputs).items():
        assert torch.equal(found[name], value), name


def change(inputs: Inputs, name: str, value: Any) -> None:
    places = {"input": 0, "vector_0": 1, "states": 2, "weights": 3, "combine_weight": 4}
    if name in places:
        inputs.args[places[name]] = value(inputs.args[places[name]])
    else:
        inputs.keywords[name] = value(inputs.keywords.get(name))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("input", lambda t: t[0], ValueError),
        pytest.param(
            "input", lambda t: t.half(), TypeError, marks=pytest.mark.cpu_only("CUDA takes halves")
        ),
        ("vector_0", lambda t: t[0], ValueError),
        ("vector_0", lambda t: t[1:], ValueError),
        ("vector_0", lambda t: t.double(), TypeError),
        ("states", lambda t: t[:1], ValueError),
        ("states", lambda t: [t[0], t[1][:, 1:]], ValueError),
        ("weights", lambda t: t[:-1], ValueError),
        ("weights", lambda t: [], ValueError),
        ("weights", lambda t: [t[0][1:], *t[1:]], ValueError),
        ("weights", lambda t: [t[0].double(), *t[1:]], TypeError),
        ("combine_weight", lambda t: t[1:], ValueError),
        ("cell", lambda t: "transformer", ValueError),
        pytest.param(
            "lengths",
            lambda t: torch.tensor([6, 1, 1, 1]),
            ValueError,
            marks=pytest.mark.cpu_only("lengths on a GPU are not read"),
        ),
        ("lengths", lambda t: torch.tensor([1.0] * 4), TypeError),
        ("memory", lambda t: t[:, 1:], ValueError),
        ("memory", lambda t: t[..., :0], ValueError),
        ("memory", lambda t: None, ValueError),
        ("keys", lambda t: t[..., 1:], ValueError),
        ("keys", lambda t: None, ValueError),
        pytest.param(
            "memory_lengths",
            lambda t: torch.tensor([7, 1, 1, 1]),
            ValueError,
            marks=pytest.mark.cpu_only("lengths on a GPU are not read"),
        ),
        ("query_weight", lambda t: t[:, 1:], ValueError),
        ("v", lambda t: t[1:], ValueError),
        ("v", lambda t: None, ValueError),
        ("layer_masks", lambda t: t[:, 1:], ValueError),
        ("vector_mask", lambda t: t[1:], ValueError),
    ],
)
def test_wrong_arguments_are_named(name, value, error):
    inputs = make(Case())
    change(inputs, name, value)
    with pytest.raises(error, match=r"^attentional_decoder: [a-z_0]+( \([a-z_]+\))?: expected"):
        ops.attentional_decoder(*inputs.args, **inputs.keywords)
