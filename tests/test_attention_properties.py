"""What holds for every input of the attention ops: order, padding, NaN, threads."""

import itertools
from typing import Any

import pytest
import torch
from attention_cases import KINDS, call, make, make_lengths, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seq2seq_ext import ops

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
def test_threads_do_not_change_bits(kind, b, isa, threads) -> None:
    tensors, lengths = make(b, 9, 30, 90, 75), make_lengths(b, 30)
    grads = torch.randn(b, 9, 75), torch.randn(b, 9, 30)
    results = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        results.append(run(ops, kind, tensors, lengths, grads))
    for other in results[1:]:
        assert same(other, results[0], " ".join(results[0]))
