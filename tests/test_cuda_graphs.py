"""What a CUDA graph captures of ops, modules and models: nothing of it waits for the device, and
nothing that changes lies on the host. On a GPU where there is one; else calls are played again."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import attention_cases
import decoder_cases
import pytest
import seq2seq_cases
import test_linear_cross_entropy as loss_cases
import torch
from cuda_device import needs_cuda
from emulated_cuda import emulated_cuda
from recurrent_cases import GRU, LSTM, RNN_RELU, Kind, make_inputs
from recurrent_cases import Case as Sequence
from test_device_generation import Recording
from torch import Tensor

from seq2seq_ext import nn, ops
from seq2seq_ext.decoding import beam_search
from seq2seq_ext.decoding.step import reorder
from seq2seq_ext.ops import tracing

aten = torch.ops.aten

# A function of its leaves, and these. Lengths lie where they are told to; all else where torch
# makes it.
Call = tuple[Callable[..., Any], tuple[Tensor, ...]]
Place = torch.device | None


def attention(kind: str, at: Place) -> Call:
    query, keys, v, memory = attention_cases.make(3, 4, 6, 5, 7)
    lengths = torch.tensor([6, 0, 2], device=at)
    if kind == "dot":
        return lambda *x: ops.dot_attention(*x, lengths, 0.5), (query, keys, memory)
    return lambda *x: ops.additive_attention(*x, lengths), (query, keys, v, memory)


def decoder(cell: str, attention: str, at: Place) -> Call:
    inputs = decoder_cases.make(decoder_cases.Case(cell=cell, attention=attention))
    for name in ("lengths", "memory_lengths"):
        inputs.keywords[name] = inputs.keywords[name].to(at)
    return decoder_cases.of_leaves(inputs)


def layer(kind: Kind, case: Sequence, at: Place) -> Call:
    inputs = make_inputs(kind, case)
    lengths = None if case.lengths is None else torch.tensor(case.lengths, device=at)

    def run(input: Tensor, *weights: Tensor) -> Any:
        keywords = {"lengths": lengths, "has_biases": case.bias, **kind.keywords}
        return getattr(ops, kind.name)(input, *inputs.states, weights, **keywords)

    return run, (inputs.input, *inputs.weights)


def loss(at: Place) -> Call:
    *tensors, target = loss_cases.make(17, 33, 42)
    return lambda *x: loss_cases.our_loss(*x, target, 0.1), tuple(tensors)


def linear(at: Place) -> Call:
    return ops.linear, (torch.randn(5, 9), torch.randn(40, 9), torch.randn(40))


def topk(at: Place) -> Call:
    x, weight = torch.randn(5, 9), torch.randn(600, 9)

    @torch.no_grad()
    def run(x: Tensor) -> Any:
        return *ops.linear_log_softmax_topk(x, weight, None, 4), *ops.log_softmax_topk(x, 3)

    return run, (x,)


def moved(at: Place) -> Call:
    parents = torch.tensor([1, 1, 0])
    return lambda *x: tuple(reorder([*x], parents)), (torch.randn(3, 4), torch.randn(3, 2, 5))


def module(made: torch.nn.Module, *input: Tensor, **keywords: Any) -> Call:
    """Its outputs, flat."""
    count = len(input)

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.utils._pytree.tree_leaves(made(*leaves[:count], **keywords)))

    return run, (*input, *made.parameters())


def cell(made: torch.nn.Module, states: int) -> Call:
    function, leaves = module(made, torch.randn(3, 5), *torch.randn(states, 3, 7).unbind())
    if states == 1:
        return function, leaves
    return lambda x, h, c, *_: made(x, (h, c)), leaves


def stacked(kind: type, at: Place) -> Call:
    made = kind(5, 7, 2, bidirectional=True, batch_first=True)
    return module(made, torch.randn(3, 4, 5), lengths=torch.tensor([4, 0, 3], device=at))


def attending(made: torch.nn.Module, at: Place) -> Call:
    lengths = torch.tensor([6, 0, 2], device=at)
    return module(made, torch.randn(3, 4, 5), torch.randn(3, 6, 5), memory_lengths=lengths)


def model(method: str, at: Place, **fields: Any) -> Call:
    made = seq2seq_cases.make(torch.float32, **fields)
    src, lengths, tgt, tgt_lengths = seq2seq_cases.data(made)
    lengths, tgt_lengths = lengths.to(at), tgt_lengths.to(at)

    def step() -> tuple[Tensor, ...]:
        memory = made.encode(src, lengths)
        logits, state, weights = made.step(tgt[:, 0], memory.state, memory)
        return logits, *state["layers"][0], weights

    methods: dict[str, Callable[[], Any]] = {
        "forward": lambda: made(src, lengths, tgt),
        "loss": lambda: made.loss(src, lengths, tgt, tgt_lengths, 0.1),
        "step": step,
    }
    return lambda *_: methods[method](), tuple(made.parameters())


RAGGED = Sequence(4, 3, 5, 7, D=2, lengths=[4, 0, 3])
WITH_LENGTHS: dict[str, Callable[[Place], Call]] = {
    "additive": lambda at: attention("additive", at),
    "dot": lambda at: attention("dot", at),
    "attentional lstm": lambda at: decoder("lstm", "additive", at),
    "attentional gru": lambda at: decoder("gru", "dot", at),
    "lstm": lambda at: layer(LSTM, RAGGED, at),
    "projected lstm": lambda at: layer(LSTM, replace(RAGGED, P=3), at),
    "gru": lambda at: layer(GRU, RAGGED, at),
    "rnn": lambda at: layer(RNN_RELU, RAGGED, at),
    "LSTM": lambda at: stacked(nn.LSTM, at),
    "GRU": lambda at: stacked(nn.GRU, at),
    "RNN": lambda at: stacked(nn.RNN, at),
    "AdditiveAttention": lambda at: attending(nn.AdditiveAttention(5, 5, 4), at),
    "DotAttention": lambda at: attending(nn.DotAttention(5, 5, score="general"), at),
    "Seq2Seq": lambda at: model("forward", at),
    "Seq2Seq.loss": lambda at: model("loss", at),
    "Seq2Seq.loss without attention": lambda at: model(
        "loss", at, attention="none", cell="gru", input_feeding=False, tie_output=True
    ),
    "Seq2Seq.step": lambda at: model("step", at),
}
CALLS: dict[str, Callable[[Place], Call]] = {
    **WITH_LENGTHS,
    "lstm of full rows": lambda at: layer(LSTM, replace(RAGGED, lengths=None), at),
    "one step": lambda at: layer(GRU, Sequence(1, 3, 5, 7), at),
    "LSTMCell": lambda at: cell(nn.LSTMCell(5, 7), 2),
    "GRUCell": lambda at: cell(nn.GRUCell(5, 7), 1),
    "RNNCell": lambda at: cell(nn.RNNCell(5, 7), 1),
    "loss": loss,
    "linear": linear,
    "topk": topk,
    "reorder": moved,
}


class Capture(Recording):
    """Refuses what would wait for a device."""

    WAITS = (
        aten._local_scalar_dense,
        aten.equal,
        aten.is_nonzero,
        aten.masked_select,
        aten.nonzero,
        aten.repeat_interleave.Tensor,
        aten._unique2,
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = func is aten.index.Tensor and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )
        if by_mask or func in self.WAITS or func.overloadpacket in self.WAITS:
            raise AssertionError(f"{func} waits for the device")
        return super().__torch_dispatch__(func, types, args, kwargs)


def captured(run: Callable[[], list[Tensor]], device: torch.device) -> tuple[list[Tensor], Any]:
    """What ``run`` returns, and a call that makes it anew in the same memory."""
    if device.type == "cpu":
        with emulated_cuda(owns_memory=True, captures=True), Capture() as capture:
            return run(), capture.replay
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        return run(), graph.replay


@pytest.mark.parametrize("name", CALLS)
def test_a_replay_reads_its_inputs_anew(name: str, device: torch.device) -> None:
    with device:
        function, leaves = CALLS[name](device)
    leaves = tuple(leaf.requires_grad_() for leaf in leaves)

    def run() -> list[Tensor]:
        outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        total = sum(o.square().sum() for o in outputs if o.requires_grad)
        gradients = torch.autograd.grad(total, leaves) if isinstance(total, Tensor) else ()
        return [o.detach() for o in (*outputs, *gradients)]

    found, replay = captured(run, device)
    before = [t.clone() for t in found]
    with torch.no_grad():
        for leaf in leaves:
            leaf.mul_(-0.5)
        replay()
    for again, first, expected in zip(found, before, run(), strict=True):
        assert not torch.equal(again, first)
        assert torch.equal(again, expected)


def test_a_replay_takes_other_lengths(device: torch.device) -> None:
    with device:
        made = seq2seq_cases.make(torch.float32)
        src, lengths, tgt, tgt_lengths = seq2seq_cases.data(made)

    def run() -> list[Tensor]:
        loss = made.loss(src, lengths, tgt, tgt_lengths)
        return [loss.detach(), *torch.autograd.grad(loss, tuple(made.parameters()))]

    found, replay = captured(run, device)
    before = found[0].clone()
    lengths.copy_(torch.tensor([0, 7, 2, 6]))
    tgt_lengths.copy_(torch.tensor([2, 3, 6, 6]))
    with torch.no_grad():
        replay()
    assert not torch.equal(found[0], before)
    assert all(map(torch.equal, found, run()))


@pytest.mark.parametrize("name", WITH_LENGTHS)
def test_lengths_on_the_host_are_refused(name: str) -> None:
    function, leaves = WITH_LENGTHS[name](None)
    with (
        emulated_cuda(captures=True),
        pytest.raises(ValueError, match=r"lengths: expected on .* while a CUDA graph is captured"),
    ):
        function(*leaves)


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("name", WITH_LENGTHS)
def test_gpu_refuses_lengths_on_the_host(name: str) -> None:
    with torch.device("cuda"):
        function, leaves = WITH_LENGTHS[name](torch.device("cpu"))
    with (
        torch.cuda.graph(torch.cuda.CUDAGraph()),
        pytest.raises(ValueError, match=r"lengths: expected on .* while a CUDA graph is captured"),
    ):
        function(*leaves)


def test_searches_are_refused(device: torch.device) -> None:
    with device:
        made = seq2seq_cases.make(torch.float32)
        src, lengths, _, _ = seq2seq_cases.data(made)
        state = torch.zeros(8, 1)
    options = seq2seq_cases.OPTIONS
    captures: Any = emulated_cuda(captures=True)
    if device.type == "cuda":
        captures = torch.cuda.graph(torch.cuda.CUDAGraph())
    with captures:
        with pytest.raises(RuntimeError, match=r"^Seq2Seq\.generate: expected .* capture"):
            made.generate(src, lengths, options)
        with pytest.raises(RuntimeError, match=r"^beam_search: expected .* capture"):
            beam_search(lambda *_: pytest.fail("called"), state, batch_size=2, options=options)


def test_what_compiles_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo refuses the question."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: pytest.fail("asked"))
    assert not tracing.is_captured(SimpleNamespace(is_cuda=True))
