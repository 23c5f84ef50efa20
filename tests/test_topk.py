"""The row kernel under the searches, through its ops."""

import math

import pytest
import torch

from seq2seq_ext import ops, reference

INF = float("inf")


def check(logits, k):
    log_probs, indices = ops.log_softmax_topk(logits, k)
    exact, expected = reference.log_softmax_topk(logits, k)
    assert torch.equal(indices, expected)
    truth = logits.double().log_softmax(1).gather(1, indices)
    torch_error = (logits.log_softmax(1).gather(1, indices) - truth).abs()
    tiny = 1e-7 if logits.dtype == torch.float32 else 1e-14
    assert ((log_probs - truth).abs() <= 2 * torch_error + tiny * (1 + truth.abs())).all()
    assert log_probs.dtype == logits.dtype and (log_probs <= 0).all()
    assert torch.allclose(log_probs, exact, rtol=2e-7, atol=2e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("vocab", [1, 2, 5, 17, 63, 64, 65, 511, 512, 513, 1000, 8192, 20001])
def test_equals_log_softmax_and_topk(isa, vocab, dtype):
    torch.manual_seed(vocab)
    for rows, k in [(1, 1), (3, 6), (7, 65), (2, vocab)]:
        logits = torch.randn(rows, vocab, dtype=dtype) * 4
        check(logits, min(k, vocab))


@pytest.mark.parametrize("k", [1, 6, 64, 3000])
def test_long_rows(k):
    torch.manual_seed(k)
    logits = torch.randn(4, 50_000)
    check(logits, k)
    log_probs, indices = ops.log_softmax_topk(logits, k)
    assert torch.allclose(log_probs, logits.log_softmax(1).topk(k).values, atol=1e-5)
    assert torch.equal(logits.gather(1, indices), logits.topk(k).values)


def test_ties_go_to_the_lowest_tokens(isa):
    torch.manual_seed(0)
    for vocab in (7, 300, 20_000):
        check(torch.zeros(2, vocab), min(vocab, 100))
        check(torch.randn(3, vocab).round(), min(vocab, 100))
    _, indices = ops.log_softmax_topk(torch.zeros(1, 20_000), 50)
    assert indices[0].tolist() == list(range(50))


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_sorted_rows(isa, order):
    row = torch.linspace(-8, 8, 9000)
    check((row if order == "rising" else row.flip(0))[None], 700)


ROWS = {
    "one outlier": lambda: torch.cat([torch.randn(9000), torch.tensor([1e30])]),
    "peaked": lambda: torch.cat([torch.tensor([20.0]), torch.randn(9000)]),
    "steps": lambda: torch.randn(9000).round() * 1000,
    "wide": lambda: torch.randn(9000) * 1e37,
    "mostly banned": lambda: torch.randn(9000).masked_fill(torch.arange(9000) % 40 > 0, -INF),
    "one lane": lambda: torch.randn(9000) - (torch.arange(9000) % 16 > 0) * 50.0,
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("k", [1, 6, 65, 300])
def test_hard_rows(isa, row, k):
    torch.manual_seed(k)
    logits = ROWS[row]()[None]
    for same in (logits, logits.double()):
        assert torch.equal(ops.log_softmax_topk(same, k)[1], reference.log_softmax_topk(same, k)[1])


@pytest.mark.parametrize("place", [0, 5, 511, 512, 8192, 16_999])
@pytest.mark.parametrize("poison", [math.nan, INF])
def test_a_row_without_probabilities_offers_nothing(isa, poison, place):
    logits = torch.randn(3, 17_000)
    clean, clean_indices = ops.log_softmax_topk(logits, 4)
    logits[1, place] = poison
    log_probs, indices = ops.log_softmax_topk(logits, 4)
    assert (log_probs[1] == -INF).all() and indices[1].tolist() == [0, 1, 2, 3]
    assert torch.equal(log_probs[::2], clean[::2])
    assert torch.equal(indices[::2], clean_indices[::2])


@pytest.mark.parametrize("place", [0, 5, 511])
def test_a_nan_among_minus_infinities(isa, place):
    logits = torch.randn(1, 2000)
    logits[0, :512] = -INF
    logits[0, place] = math.nan
    log_probs, indices = ops.log_softmax_topk(logits, 4)
    assert (log_probs == -INF).all() and indices.tolist() == [[0, 1, 2, 3]]


def test_minus_infinity_comes_last(isa):
    logits = torch.full((2, 9000), -INF)
    logits[0, [5, 8500]] = torch.tensor([1.0, 2.0])
    log_probs, indices = ops.log_softmax_topk(logits, 4)
    assert indices.tolist() == [[8500, 5, 0, 1], [0, 1, 2, 3]]
    assert log_probs[0, :2].isfinite().all()
    assert (log_probs[0, 2:] == -INF).all() and (log_probs[1] == -INF).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits(isa, dtype):
    largest = torch.finfo(dtype).max
    log_probs, indices = ops.log_softmax_topk(
        torch.tensor([[-largest, largest, 0.0], [1e4, 1e4, -1e4]], dtype=dtype), 3
    )
    assert indices.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert log_probs[0, 0] == 0
    assert log_probs[1, 0].item() == pytest.approx(-math.log(2), rel=1e-7)


@pytest.mark.parametrize("vocab", [100, 40_000])
def test_a_row_has_the_same_bits_in_any_company(vocab):
    torch.manual_seed(1)
    logits = torch.randn(9, vocab)
    threads = torch.get_num_threads()
    together = ops.log_softmax_topk(logits, 8)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for r in range(9):
                alone = ops.log_softmax_topk(logits[r : r + 1], 8)
                assert torch.equal(alone[0][0], together[0][r])
                assert torch.equal(alone[1][0], together[1][r])
    finally:
        torch.set_num_threads(threads)


def test_strides():
    logits = torch.randn(6, 40)
    expected = ops.log_softmax_topk(logits.contiguous(), 3)
    strided = {
        "columns": logits.t().contiguous().t(),
        "rows": logits.repeat_interleave(2, 0)[::2],
        "padded": torch.cat([logits, logits], 1)[:, :40],
    }
    for name, same in strided.items():
        got = ops.log_softmax_topk(same, 3)
        assert all(map(torch.equal, got, expected)), name
    expanded = ops.log_softmax_topk(logits[:1].expand(4, 40), 3)
    assert torch.equal(expanded[1], expected[1][:1].expand(4, 3))
    assert ops.log_softmax_topk(torch.randn(0, 5), 2)[0].shape == (0, 2)


@pytest.mark.parametrize("vocab", [1, 42, 512, 513, 3001])
@pytest.mark.parametrize("rows", [0, 1, 5, 37])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_has_the_bits_of_linear_and_log_softmax_topk(isa, threads, rows, vocab, bias):
    x, w = torch.randn(rows, 33), torch.randn(vocab, 33)
    b = torch.randn(vocab) if bias else None
    for dtype in (torch.float32, torch.float64):
        x, w, b = x.to(dtype), w.to(dtype), None if b is None else b.to(dtype)
        k = min(vocab, 7)
        expected = ops.log_softmax_topk(ops.linear(x, w, b), k)
        for count in (1, 2):
            torch.set_num_threads(count)
            for packed in (None, ops.linear_pack(w)):
                found = ops.linear_log_softmax_topk(x, w, b, k, packed=packed)
                assert all(map(torch.equal, found, expected))
        if rows > 1:
            alone = ops.linear_log_softmax_topk(x[1:2], w, b, k)
            assert all(torch.equal(a[0], e[1]) for a, e in zip(alone, expected, strict=True))


def test_linear_with_a_row_without_probabilities(isa):
    x, w = torch.randn(3, 5), torch.randn(700, 5)
    x[1, 2] = math.nan
    log_probs, indices = ops.linear_log_softmax_topk(x, w, None, 3)
    assert (log_probs[1] == -INF).all() and indices[1].tolist() == [0, 1, 2]
    assert log_probs[::2].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype):
    torch.library.opcheck(
        torch.ops.seq2seq_ext.log_softmax_topk.default, (torch.randn(3, 11, dtype=dtype), 4)
    )
    x, w, b = (torch.randn(shape, dtype=dtype) for shape in ((3, 4), (11, 4), (11,)))
    torch.library.opcheck(torch.ops.seq2seq_ext.linear_log_softmax_topk.default, (x, w, b, None, 4))


def test_reference_backend_and_autocast():
    logits = torch.randn(3, 11)
    with ops.backend("reference"):
        expected = ops.log_softmax_topk(logits, 2)
    with torch.autocast("cpu", torch.bfloat16):
        got = ops.log_softmax_topk(logits.bfloat16(), 2)
    assert got[0].dtype == torch.float32
    assert torch.equal(ops.log_softmax_topk(logits, 2)[1], expected[1])


def test_backward_says_that_there_is_none():
    x = torch.randn(2, 5, requires_grad=True)
    for log_probs, _ in (
        ops.log_softmax_topk(x, 2),
        ops.linear_log_softmax_topk(x, torch.randn(4, 5), None, 2),
    ):
        with pytest.raises(RuntimeError, match=r"log_softmax_topk: .*gradient"):
            log_probs.sum().backward()


BAD = {
    "dtype": (torch.zeros(2, 3, dtype=torch.int64), 1, TypeError, "logits: expected float32"),
    "one dimension": (torch.zeros(3), 1, ValueError, r"logits: expected 2 dimensions \[rows, V\]"),
    "empty vocabulary": (torch.zeros(2, 0), 1, ValueError, "logits: expected V >= 1"),
    "k of 0": (torch.zeros(2, 3), 0, ValueError, "k: expected 1 to V = 3, got 0"),
    "k beyond V": (torch.zeros(2, 3), 4, ValueError, "k: expected 1 to V = 3, got 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    logits, k, error, message = BAD[case]
    with pytest.raises(error, match=f"log_softmax_topk: {message}"):
        ops.log_softmax_topk(logits, k)


@pytest.mark.cpu_only("CUDA takes halves")
def test_half_is_refused():
    with pytest.raises(TypeError, match="log_softmax_topk: logits: expected float32"):
        ops.log_softmax_topk(torch.zeros(2, 3, dtype=torch.half), 1)


BAD_LINEAR = {
    "one dimension": ((torch.ones(3), torch.ones(4, 3), None, 1), ValueError, "input: expected 2"),
    "features": ((torch.ones(2, 5), torch.ones(4, 3), None, 1), ValueError, "input"),
    "bias": ((torch.ones(2, 3), torch.ones(4, 3), torch.ones(3), 1), ValueError, "bias"),
    "empty vocabulary": ((torch.ones(2, 3), torch.ones(0, 3), None, 1), ValueError, "weight"),
    "k": ((torch.ones(2, 3), torch.ones(4, 3), None, 5), ValueError, "k: expected 1 to V = 4"),
}


@pytest.mark.parametrize("case", BAD_LINEAR)
def test_bad_linear_input(case):
    arguments, error, message = BAD_LINEAR[case]
    with pytest.raises(error, match=f"linear_log_softmax_topk: {message}"):
        ops.linear_log_softmax_topk(*arguments)
