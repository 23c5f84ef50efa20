"""Modules on CUDA: their kernels on the emulated device, and all on a GPU where there is one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cuda_device import needs_cuda
from emulated_cuda import CUDA, emulated_cuda, load
from recurrent_cases import GRU, LSTM, RNN_RELU, RNN_TANH, Case, Inputs, Kind, make_inputs
from seq2seq_cases import ATTENTIONS, CELLS, OPTIONS, data, make
from test_cuda_graphs import CALLS
from torch import Tensor
from torch.autograd import forward_ad, gradcheck

import seq2seq_ext
from seq2seq_ext import ops

KINDS = pytest.mark.parametrize(
    "kind", [LSTM, GRU, RNN_TANH, RNN_RELU], ids=["lstm", "gru", "rnn_tanh", "rnn_relu"]
)
SMALL = Case(2, 3, 2, 3, D=2, lengths=[2, 0, 1])


def on_gpu(test: Callable[..., None]) -> Callable[..., None]:
    return needs_cuda(pytest.mark.cuda(test))  # type: ignore[no-any-return]


@KINDS
def test_gradcheck(kind: Kind, device: torch.device) -> None:
    inputs = make_inputs(kind, SMALL).map(lambda t: t.to(device)).leaves(torch.float64)
    n = 1 + kind.states

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        parts = Inputs(tensors[0], tensors[1:n], list(tensors[n:]), inputs.lengths, True)
        return kind.run(ops, parts)

    assert gradcheck(function, inputs.tensors(), fast_mode=True)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_layers_are_torchs(name: str, device: torch.device) -> None:
    """Two bidirectional layers, forward and backward."""
    arguments = {"num_layers": 2, "bidirectional": True, "dtype": torch.float64, "device": device}
    theirs = getattr(torch.nn, name)(3, 5, **arguments)
    ours = getattr(seq2seq_ext, name)(3, 5, **arguments)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 3, 3, dtype=torch.float64, device=device)
    expected, found = (module(x)[0] for module in (theirs, ours))
    torch.testing.assert_close(found, expected)
    for output in (expected, found):
        output.cos().sum().backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells_are_torchs(name: str, device: torch.device) -> None:
    """Two steps, forward and backward."""
    arguments = {"dtype": torch.float64, "device": device}
    theirs = getattr(torch.nn, name)(3, 5, **arguments)
    ours = getattr(seq2seq_ext, name)(3, 5, **arguments)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 3, dtype=torch.float64, device=device)
    for module in (theirs, ours):
        state = module(x[1], module(x[0]))
        h = state[0] if isinstance(state, tuple) else state
        h.cos().sum().backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_weights_are_not_stored_in_other_types(name: str, device: torch.device) -> None:
    module = getattr(seq2seq_ext, name)(3, 5, device=device)
    x = torch.randn(4, 3, device=device)
    for dtype in ("bfloat16", "int8"):
        module.inference_dtype = dtype
        expected = f"^{name}.inference_dtype: expected 'float32' on CUDA, got '{dtype}'$"
        with torch.no_grad(), pytest.raises(ValueError, match=expected):
            module(x)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_model_trains(cell: str, attention: str, device: torch.device) -> None:
    """Decoder and loss are the reference's."""
    model = make(cell=cell, attention=attention, dropout=0.0)
    src, src_lengths, tgt, tgt_lengths = data(model, lengths=(3, 2))

    def gradients() -> list[Tensor]:
        inputs = [t.to(device) for t in (src, src_lengths, tgt, tgt_lengths)]
        loss = model.loss(*inputs, label_smoothing=0.1)
        found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        return [loss.detach(), *(g for g in found if g is not None)]

    model = model.to(device)
    with ops.backend("reference"):
        expected = gradients()
    for a, b in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(a, b)


NAMED = ["additive", "dot", "attentional lstm", "lstm", "gru", "rnn", "one step", "loss", "linear"]


@pytest.mark.parametrize("name", NAMED)
def test_a_missing_tensor_is_named(name: str) -> None:
    function, leaves = CALLS[name](None)
    with (
        emulated_cuda(),
        pytest.raises(TypeError, match=r"(query|input): expected a Tensor, got N"),
    ):
        function(None, *leaves[1:])


@pytest.mark.parametrize("op", ["lstm", "linear", "dot_attention", "linear_cross_entropy"])
def test_a_tangent_is_refused(op: str) -> None:
    """As the kernel would lose it. Past the modes, which a dual tensor does not take."""
    load()
    x, state = torch.randn(2, 3, 4), torch.zeros(1, 3, 5)
    rest: dict[str, tuple[Any, ...]] = {
        "lstm": (None, state, state, [torch.randn(20, 4), torch.randn(20, 5)], False),
        "linear": (torch.randn(5, 4), None),
        "dot_attention": (x, x, None, 1.0),
        "linear_cross_entropy": (torch.randn(5, 4), None, torch.zeros(6).long(), 0.0),
    }
    tail = {"lstm": (None, False), "linear": (None,), "linear_cross_entropy": (None, None, False)}
    called = getattr(torch.ops.seq2seq_ext, op).default
    with forward_ad.dual_level():
        value = x.flatten(0, 1) if op == "linear_cross_entropy" else x
        dual = forward_ad.make_dual(value, torch.ones_like(value))
        with pytest.raises(NotImplementedError, match=r"(query|input): expected no tangent"):
            called.redispatch(CUDA, dual, *rest[op], *tail.get(op, ()))


@on_gpu
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_model_on_a_gpu_is_the_one_on_the_cpu(cell: str, attention: str) -> None:
    """N-best and losses."""
    model = make(cell=cell, attention=attention)
    inputs = data(model)
    expected = model.generate(*inputs[:2], OPTIONS)
    loss = model.loss(*inputs)
    model = model.cuda()
    on_device = [t.cuda() for t in inputs]
    found = model.generate(*on_device[:2], OPTIONS)
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(model.loss(*on_device).cpu(), loss)


@on_gpu
@KINDS
def test_opcheck(kind: Kind) -> None:
    inputs = make_inputs(kind, SMALL).map(torch.Tensor.cuda).leaves(torch.float64)
    extras = tuple(kind.keywords.values())
    call = (inputs.input, inputs.lengths, *inputs.states, inputs.weights, True, *extras)
    torch.library.opcheck(getattr(torch.ops.seq2seq_ext, kind.name).default, (*call, None, True))


@on_gpu
@KINDS
def test_compiles(kind: Kind) -> None:
    inputs = make_inputs(kind, SMALL).map(torch.Tensor.cuda)
    compiled = torch.compile(lambda: kind.run(ops, inputs), fullgraph=True)
    for a, b in zip(compiled(), kind.run(ops, inputs), strict=True):
        torch.testing.assert_close(a, b)


@on_gpu
@KINDS
def test_a_graph_captures_it(kind: Kind) -> None:
    """Lengths on the device; replayed with other inputs."""
    inputs = make_inputs(kind, SMALL).map(torch.Tensor.cuda)
    inputs.lengths = inputs.lengths.cuda() if inputs.lengths is not None else None
    kind.run(ops, inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = kind.run(ops, inputs)
    inputs.input.copy_(torch.randn_like(inputs.input))
    graph.replay()
    for a, b in zip(captured, kind.run(ops, inputs), strict=True):
        assert torch.equal(a, b)


@on_gpu
@KINDS
def test_the_caller_s_stream_is_kept(kind: Kind) -> None:
    inputs = make_inputs(kind, SMALL).map(torch.Tensor.cuda)
    expected = kind.run(ops, inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        inputs.input.mul_(2)  # seen only by what runs behind it on the same stream
        found = kind.run(ops, inputs)
    stream.synchronize()
    inputs.input.div_(2)
    assert not torch.equal(found[0], expected[0])
    for a, b in zip(kind.run(ops, inputs), expected, strict=True):
        assert torch.equal(a, b)
