"""What a CUDA graph captures of ops and their gradients: nothing of it waits for the device, and
nothing that changes lies on the host. On a GPU where there is one; else calls are played again."""

from collections.abc import Callable
from typing import Any

import attention_cases
import decoder_cases
import pytest
import test_linear_cross_entropy as loss_cases
import torch
from emulated_cuda import emulated_cuda
from recurrent_cases import GRU, LSTM, Kind, make_inputs
from recurrent_cases import Case as Sequence
from test_device_generation import Recording
from torch import Tensor

from seq2seq_ext import ops

# An op on its leaves; lengths and targets are as the op's place has them.
Call = tuple[Callable[..., Any], tuple[Tensor, ...]]


def attention(kind: str) -> Call:
    query, keys, v, memory = attention_cases.make(3, 4, 6, 5, 7)
    lengths = torch.tensor([6, 0, 2])
    if kind == "dot":
        return lambda *x: ops.dot_attention(*x, lengths, 0.5), (query, keys, memory)
    return lambda *x: ops.additive_attention(*x, lengths), (query, keys, v, memory)


def decoder(cell: str, attention: str) -> Call:
    return decoder_cases.of_leaves(
        decoder_cases.make(decoder_cases.Case(cell=cell, attention=attention))
    )


def layer(kind: Kind) -> Call:
    inputs = make_inputs(kind, Sequence(4, 3, 5, 7, D=2, lengths=[4, 0, 3]))

    def run(input: Tensor, *weights: Tensor) -> Any:
        return getattr(ops, kind.name)(input, *inputs.states, weights, lengths=inputs.lengths)

    return run, (inputs.input, *inputs.weights)


def loss() -> Call:
    *tensors, target = loss_cases.make(17, 33, 42)
    return lambda *x: loss_cases.our_loss(*x, target, 0.1), tuple(tensors)


def linear() -> Call:
    return ops.linear, (torch.randn(5, 9), torch.randn(40, 9), torch.randn(40))


def topk() -> Call:
    x, weight = torch.randn(5, 9), torch.randn(600, 9)

    @torch.no_grad()
    def run(x: Tensor) -> Any:
        return *ops.linear_log_softmax_topk(x, weight, None, 4), *ops.log_softmax_topk(x, 3)

    return run, (x,)


CALLS: dict[str, Callable[[], Call]] = {
    "additive": lambda: attention("additive"),
    "dot": lambda: attention("dot"),
    "attentional lstm": lambda: decoder("lstm", "additive"),
    "attentional gru": lambda: decoder("gru", "dot"),
    "lstm": lambda: layer(LSTM),
    "gru": lambda: layer(GRU),
    "loss": loss,
    "linear": linear,
    "topk": topk,
}


def captured(run: Callable[[], list[Tensor]], device: torch.device) -> tuple[list[Tensor], Any]:
    """What ``run`` returns, and a call that makes it anew in the same memory."""
    if device.type == "cpu":
        with emulated_cuda(owns_memory=True), Recording() as recording:
            return run(), recording.replay
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
        function, leaves = CALLS[name]()
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)

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
