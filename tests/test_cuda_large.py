"""Kernels of CUDA on tensors of more than 2^31 elements.

On the emulated device the last blocks of a launch run; of the rest no page is touched.
"""

import os
from dataclasses import replace

import decoder_cases
import pytest
import torch
from attention_cases import KINDS
from cuda_device import needs_cuda
from emulated_cuda import emulated_cuda, load
from torch.nn.functional import cross_entropy, linear

from seq2seq_ext import ops, reference

LIMIT = 2**31


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    assert torch.Size(shape).numel() > LIMIT
    return torch.empty(shape, dtype=dtype)


def spread(rows: torch.Tensor) -> torch.Tensor:
    """The same, so far apart that the last of them begins behind the limit."""
    apart = LIMIT // (len(rows) - 1) + 8
    storage = torch.empty(apart * (len(rows) - 1) + rows[0].numel(), dtype=rows.dtype)
    return torch.as_strided(storage, rows.shape, (apart, *rows.stride()[1:])).copy_(rows)


def test_linear() -> None:
    x, weight = empty(2**26 + 3, 40), torch.randn(40, 40).bfloat16()
    x[-3:] = torch.randn(3, 40)
    with emulated_cuda(last_blocks=1):
        found = ops.linear(x, weight)
    torch.testing.assert_close(found[-3:], linear(x[-3:], weight))


def test_linear_of_many_columns() -> None:
    x, weight = torch.randn(40, 40).bfloat16(), empty(2**26 + 3, 40)
    weight[-3:] = torch.randn(3, 40)
    with emulated_cuda(last_blocks=1):
        found = ops.linear(x, weight)
    torch.testing.assert_close(found[:, -3:], linear(x, weight[-3:]))


def test_topk() -> None:
    logits = empty(2**13 + 1, 2**18)
    logits[-1] = torch.randn(2**18)
    with emulated_cuda(last_blocks=2**18 // 2048):  # those of a row
        found = ops.log_softmax_topk(logits, 3)
    expected = reference.log_softmax_topk(logits[-1:], 3)
    torch.testing.assert_close([f[-1:] for f in found], list(expected))


def test_nucleus() -> None:
    logits = empty(2**13 + 1, 2**18, dtype=torch.float32)
    logits[-1] = torch.randn(2**18)
    told = None, None, 1.0, 1.0, 0, 0.6
    with emulated_cuda(last_blocks=1):
        floors = torch.ops.seq2seq_ext.beam_search_nucleus(logits, *told)
    with emulated_cuda():
        expected = torch.ops.seq2seq_ext.beam_search_nucleus(logits[-1:], *told)
    assert torch.equal(floors[-1:], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_attention(kind: str) -> None:
    batch, queries, source, size = 2**15 + 1, 9, 2**13, 4
    query = torch.randn(1, queries, size).bfloat16().expand(batch, -1, -1)
    keys = torch.randn(1, source, size).bfloat16().expand(batch, -1, -1)
    v = [torch.randn(size).bfloat16()] if kind == "additive" else []
    with emulated_cuda(last_blocks=2):  # those of a sentence
        found = getattr(ops, f"{kind}_attention")(query, keys, *v, keys)
    assert found[1].numel() > LIMIT
    expected = getattr(reference, f"{kind}_attention")(query[-1:], keys[-1:], *v, keys[-1:])
    torch.testing.assert_close([f[-1:] for f in found], list(expected), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_backward(kind: str) -> None:
    """As many queries as keys: what is launched for either has the blocks of a sentence last."""
    batch, size, other = 2**23 + 1, 16, 4

    def all_alike(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape).expand(batch, *shape)

    grads = all_alike(size, other), all_alike(size, size)
    query, keys, memory = (all_alike(size, other) for _ in range(3))
    v = [torch.randn(other)] if kind == "additive" else []
    options = [None] if v else [None, 1.0]
    last = [t[-1:].clone().requires_grad_() for t in (query, keys, memory)]
    outputs = getattr(reference, f"{kind}_attention")(*last[:2], *v, last[2])
    weights = torch.empty(batch, size, size)
    weights[-1] = outputs[1].detach()
    assert weights.numel() > LIMIT
    with emulated_cuda(last_blocks=2):
        found = getattr(torch.ops.seq2seq_ext, f"{kind}_attention_backward")(
            *grads, query, keys, *v, memory, *options, weights
        )
    expected = torch.autograd.grad(outputs, last, [g[-1:] for g in grads])
    for got, want in zip((found[0], found[1], found[-1]), expected, strict=True):
        torch.testing.assert_close(got[-1:], want)


def test_loss() -> None:
    rows, vocabulary = 2**10 + 1, 2**21
    logits, target = empty(rows, vocabulary, dtype=torch.float32), torch.full((rows,), 7)
    last = torch.randn(1, vocabulary)
    logits[-1] = last
    last = last.double().requires_grad_()
    with emulated_cuda(last_blocks=1):
        losses = load().loss(target, 0.1, logits)
    expected = cross_entropy(last, target[-1:], label_smoothing=0.1)
    torch.testing.assert_close(losses[-1], expected.detach())
    [gradient] = torch.autograd.grad(expected, last)
    torch.testing.assert_close(logits[-1:].double(), gradient, rtol=1e-4, atol=1e-11)


def test_rows_of_a_decoder_step() -> None:
    rows, weight = torch.randn(3, 20), torch.randn(24, 20)
    found = spread(torch.zeros(3, 24))
    with emulated_cuda():
        load().decoder_product(spread(rows), weight, found)
    torch.testing.assert_close(found, linear(rows, weight))


def test_memory_of_a_decoder() -> None:
    inputs = decoder_cases.make(decoder_cases.Case())
    inputs.keywords["memory_lengths"][-1] = inputs.keywords["memory"].size(1)
    inputs.keywords["lengths"][-1] = 5
    far = decoder_cases.Inputs(inputs.args, dict(inputs.keywords))
    for name in ("memory", "keys"):
        far.keywords[name] = spread(inputs.keywords[name])
    with emulated_cuda():
        found, expected = (decoder_cases.run(ops, each) for each in (far, inputs))
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def needs_memory(gigabytes: int) -> pytest.MarkDecorator:
    there = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return pytest.mark.skipif(there < gigabytes, reason=f"needs {gigabytes} GB of free memory")


def all_alike(inputs: decoder_cases.Inputs, batch: int, steps: int) -> decoder_cases.Inputs:
    """One sentence's inputs of one step for every row and step."""

    def alike(t: torch.Tensor) -> torch.Tensor:
        return t.expand(batch, steps, -1)

    input, vector_0, states, weights, combine = inputs.args
    keywords = dict(inputs.keywords)
    for name in ("memory", "keys"):
        if name in keywords:
            keywords[name] = keywords[name].expand(batch, -1, -1)
    states = [s.expand(-1, batch, -1) for s in states]
    return decoder_cases.Inputs(
        [alike(input), vector_0.expand(batch, -1), states, weights, combine], keywords
    )


PLAIN = decoder_cases.Case(B=1, T=1, L=1, masks=False, lengths=False)


@pytest.mark.slow
@needs_memory(12)
def test_what_a_decoder_saves() -> None:
    """Its forward: contexts are nearly all that it saves, and those of the last sentences run."""
    batch, steps, size = 2**13 + 128, 16, 2**14 - 64
    case = replace(PLAIN, E=3, H=7, S=2, A=4, M=size)
    inputs = decoder_cases.make(case)
    del inputs.keywords["memory_lengths"]
    arguments = decoder_cases.op_arguments(all_alike(inputs, batch, steps), True)
    with emulated_cuda(last_blocks=64):
        found = torch.ops.seq2seq_ext.attentional_decoder(*arguments)
    assert found[2].numel() > LIMIT
    with emulated_cuda():
        arguments = decoder_cases.op_arguments(all_alike(inputs, 1, steps), True)
        expected = torch.ops.seq2seq_ext.attentional_decoder(*arguments)
    for got, want in zip(found, expected, strict=True):
        assert torch.equal(got[-1:], want)


@pytest.mark.slow
@needs_memory(12)
def test_what_a_decoder_saved() -> None:
    """Its backward, of the last tile of rows."""
    batch, steps, size = 2**14, 171, 256
    case = replace(PLAIN, H=size, cell="rnn_tanh", attention="none")
    inputs = decoder_cases.make(case)
    inputs.keywords["dtype"] = torch.bfloat16  # of products: half the memory
    few = decoder_cases.op_arguments(all_alike(inputs, 32, steps), True)
    with emulated_cuda():
        vectors, alignment, saved = torch.ops.seq2seq_ext.attentional_decoder(*few)
    grads = torch.empty(batch, steps, size)
    grads[-32:] = vectors.cos()
    large = torch.empty(batch, *saved.shape[1:])
    large[-32:] = saved
    assert large.numel() > LIMIT
    many = decoder_cases.op_arguments(all_alike(inputs, batch, steps), True)[:-1]
    backward = torch.ops.seq2seq_ext.attentional_decoder_backward
    with emulated_cuda():
        expected = backward(vectors.cos(), None, *few[:-1], alignment, saved)
    with emulated_cuda(last_blocks=64):
        found = backward(grads, None, *many, alignment.new_empty(batch, steps, 0), large)
    for i, dim in ((0, 0), (1, 0), (2, 1)):  # of the input, of vector_0, of h_0
        assert torch.equal(found[i].narrow(dim, batch - 32, 32), expected[i])


def test_a_barrier_counts_past_2_32() -> None:
    """As of blocks that take very many steps."""
    has_reached, end = load().has_reached, 2**32
    assert has_reached(5, 5) and has_reached(6, 5) and not has_reached(4, 5)
    assert has_reached(3, end - 2) and not has_reached(end - 2, 3)


def test_places_of_recurrent_kernels() -> None:
    """States, rows of [D, B, size] and packed weights, as numbers alone."""
    places, far = load(), 3 * LIMIT
    for s in (0, 5):
        assert places.state_place(0, s, 7, 9, far, far + 1, 40) == s * far + 7 * (far + 1)
        after = (8 - s) * far + 7 * (far + 1) + 40  # the second direction begins at the end
        assert places.state_place(1, s, 7, 9, far, far + 1, 40) == after
    assert places.row_place(1, LIMIT, far, 1024) == (far + LIMIT) * 1024
    hidden = 2**16
    assert places.forward_bytes(hidden) == 4 * (4 * hidden * hidden + 2 * 4 * hidden)
    assert places.backward_bytes(hidden) == 4 * 4 * hidden * hidden


def test_input_of_a_recurrent_layer() -> None:
    """Its rows lie where the caller has them."""
    dense = torch.randn(3, 2, 4)
    far = torch.as_strided(torch.empty(LIMIT + 64), (3, 2, 4), (4, LIMIT + 8, 1))
    far.copy_(dense)
    weights = [torch.randn(20, 4), torch.randn(20, 5)]
    state = torch.zeros(1, 2, 5)
    with emulated_cuda():
        call = (state, state, weights)
        found, expected = (ops.lstm(x, *call, has_biases=False) for x in (far, dense))
    assert all(map(torch.equal, found, expected))


@needs_cuda
@pytest.mark.cuda
def test_gpu() -> None:
    """About 25 GB at a time."""
    if torch.cuda.mem_get_info()[0] < 40 * 2**30:
        pytest.skip("needs 40 GB")
    weight = torch.randn(40, 40, device="cuda").bfloat16()
    x = torch.randn(2**26 + 3, 40, device="cuda", dtype=torch.bfloat16)
    torch.testing.assert_close(ops.linear(x, weight)[-3:], linear(x[-3:], weight))
    del x
    logits = torch.randn(2**13 + 1, 2**18, device="cuda", dtype=torch.bfloat16)
    found = ops.log_softmax_topk(logits, 3)
    torch.testing.assert_close(
        [f[-1:] for f in found], list(reference.log_softmax_topk(logits[-1:], 3))
    )
    del logits
    steps, batch, size = 2**12, 2**8, 2**10
    x = torch.randn(steps, batch, size, device="cuda", dtype=torch.bfloat16)
    weights = [torch.randn(4 * size, size, device="cuda").bfloat16() / 32 for _ in range(2)]
    state = torch.zeros(1, batch, size, device="cuda", dtype=torch.bfloat16)
    whole = ops.lstm(x, state, state, weights, has_biases=False)  # 2^32 gates of the input
    last = ops.lstm(x[:, -1:], state[:, -1:], state[:, -1:], weights, has_biases=False)
    assert all(torch.equal(w[:, -1:], one) for w, one in zip(whole, last, strict=True))
