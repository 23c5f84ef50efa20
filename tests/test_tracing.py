"""What torch.compile's own compiler makes of the ops, and what the meta device does."""

import pytest
import torch
from seq2seq_cases import data, make
from torch import nn
from torch.autograd import forward_ad

import seq2seq_ext
from seq2seq_ext import ops


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()


def with_gradients(function, module, *inputs):
    """Every output and every gradient of a call."""
    module.zero_grad()
    outputs = [t for t in torch.utils._pytree.tree_leaves(function(*inputs)) if t is not None]
    sum(t.square().sum() for t in outputs).backward()
    return [*outputs, *(p.grad.clone() for p in module.parameters() if p.grad is not None)]


def assert_compiles(function, module, *inputs):
    """Inductor, in one graph; our ops give the same bits, what it fuses nearly the same."""
    expected = with_gradients(function, module, *inputs)
    compiled = torch.compile(function, fullgraph=True)
    for got, want in zip(with_gradients(compiled, module, *inputs), expected, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.not_emulated("torch.compile takes no dispatch mode")
def test_lstm_compiles():
    lstm = seq2seq_ext.LSTM(5, 6, num_layers=2, bidirectional=True)
    lengths = torch.tensor([4, 0, 2])
    assert_compiles(lambda x: lstm(torch.tanh(x), lengths=lengths), lstm, torch.randn(4, 3, 5))


@pytest.mark.not_emulated("torch.compile takes no dispatch mode")
def test_attention_compiles():
    attention = seq2seq_ext.AdditiveAttention(4, 6, 5)
    inputs = torch.randn(3, 4), torch.randn(3, 7, 6), torch.tensor([7, 0, 3])
    assert_compiles(attention, attention, *inputs)


@pytest.mark.not_emulated("torch.compile takes no dispatch mode")
def test_a_step_of_the_model_compiles():
    model = make(torch.float32)
    src, src_lengths, tgt, _ = data(model)

    def step(src, src_lengths, tokens):
        memory = model.encode(src, src_lengths)
        logits, state, weights = model.step(tokens, memory.state, memory)
        return logits, state, weights

    assert_compiles(step, model, src, src_lengths, tgt[:, 0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.not_emulated("a trace takes no dispatch mode")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("cell", [False, True])
def test_a_trace_of_torch_jit_gives_the_same_bits(dtype, cell):
    module = seq2seq_ext.LSTMCell(5, 6) if cell else seq2seq_ext.LSTM(5, 6, num_layers=2)
    module.inference_dtype = dtype
    x, other = torch.randn(2, 4, 3, 5).select(1, 0) if cell else torch.randn(2, 4, 3, 5)
    with torch.no_grad():
        module(x)  # it keeps packed weights from now on
        traced = torch.jit.trace(module, (x,))
        assert torch.equal(traced(other)[0], module(other)[0])


OPS = {
    "lstm": lambda x, w: ops.lstm(x, w.new_zeros(1, 2, 4), w.new_zeros(1, 2, 4), lstm_weights(w)),
    "linear": lambda x, w: ops.linear(x, w.new_zeros(4, 3)),
    "dot_attention": lambda x, w: ops.dot_attention(x, x, w.new_zeros(x.shape)),
}


def lstm_weights(like):
    return [p.detach().to(like.device) for p in nn.LSTM(3, 4).parameters()]


TANGENTS = {
    **OPS,
    "lstm": lambda x, w: seq2seq_ext.LSTM(3, 4).requires_grad_(False)(x),
    "additive_attention": lambda x, w: ops.additive_attention(x, x, torch.ones(3), x),
    "log_softmax_topk": lambda x, w: ops.log_softmax_topk(x[0], 2),
    "linear_cross_entropy": lambda x, w: ops.linear_cross_entropy(x[0], x[1], torch.tensor([0, 1])),
}


@pytest.mark.not_emulated("a dual tensor takes no dispatch mode")
@pytest.mark.parametrize("op", TANGENTS)
def test_no_op_loses_a_tangent(op):
    x = torch.randn(5, 2, 3)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(NotImplementedError, match=rf"^{op}: \w+: expected no tangent"):
            TANGENTS[op](dual, torch.empty(0))


@pytest.mark.not_emulated(
    "the device there is the CPU, and its kernels would read the meta device's"
)
@pytest.mark.parametrize("op", OPS)
def test_devices_must_agree(op):
    """The meta device's rules would make something up of two devices."""
    x, on_meta = torch.randn(5, 2, 3), torch.empty(0, device="meta")
    assert torch.utils._pytree.tree_leaves(OPS[op](x.to("meta"), on_meta))[0].is_meta
    with pytest.raises(
        ValueError, match=rf"^{op}: \w+: expected on (cpu|meta|cuda:0) like \w+, got"
    ):
        OPS[op](x, on_meta)
    with pytest.raises(
        ValueError, match=rf"^{op}: \w+: expected on (cpu|meta|cuda:0) like \w+, got"
    ):
        OPS[op](x.to("meta"), x)
