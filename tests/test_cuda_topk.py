"""The top-k kernels of CUDA: on the emulated device, and on a GPU where there is one."""

import pytest
import torch
from cuda_device import needs_cuda, tf32
from emulated_cuda import emulated_cuda
from test_topk import ROWS, check
from torch import Tensor

from seq2seq_ext import ops, reference
from seq2seq_ext.reference.sampling import gumbel

INF = float("inf")
SIZES = [(1, 1), (63, 65), (513, 6), (2049, 3), (20_001, 11), (140_000, 2)]  # V, k


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("vocabulary", "k"), SIZES)
def test_equals_log_softmax_and_topk(
    vocabulary: int, k: int, dtype: torch.dtype, seed: int
) -> None:
    with emulated_cuda(seed):
        check(torch.randn(2, vocabulary, dtype=dtype) * 4, min(k, vocabulary))


@pytest.mark.parametrize("vocabulary", [7, 300, 5000])
def test_ties_go_to_the_lowest_tokens(vocabulary: int) -> None:
    with emulated_cuda():
        check(torch.zeros(2, vocabulary), min(vocabulary, 40))
        check(torch.randn(3, vocabulary).round(), min(vocabulary, 40))


@pytest.mark.parametrize("row", ROWS)
def test_hard_rows(row: str) -> None:
    logits = ROWS[row]()[None]
    expected = reference.log_softmax_topk(logits, 65)[1]
    with emulated_cuda():
        assert torch.equal(ops.log_softmax_topk(logits, 65)[1], expected)


@pytest.mark.parametrize("poison", [torch.nan, INF])
def test_a_row_without_probabilities_offers_nothing(poison: float) -> None:
    logits = torch.randn(3, 5000)
    with emulated_cuda():
        clean = ops.log_softmax_topk(logits, 4)
        logits[1, 3001] = poison
        log_probs, indices = ops.log_softmax_topk(logits, 4)
    assert (log_probs[1] == -INF).all() and indices[1].tolist() == [0, 1, 2, 3]
    assert torch.equal(log_probs[::2], clean[0][::2])
    assert torch.equal(indices[::2], clean[1][::2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rules_change_logits_before_they_count(dtype: torch.dtype) -> None:
    """Temperature, then the penalty of each token once, however often it is named; bit for bit."""
    logits = torch.randn(4, 700, dtype=dtype) * 4
    counts, tokens = torch.tensor([0, 1, 30, 40]), torch.randint(700, (4, 20)).repeat(1, 2)
    expected = logits / 0.7
    for row, count in enumerate(counts):
        named = tokens[row, :count].unique()
        before = expected[row, named]
        expected[row, named] = torch.where(before > 0, before / 1.6, before * 1.6)
    seen = torch.cat([counts[:, None], tokens], 1)
    with emulated_cuda():
        ruled = torch.ops.seq2seq_ext.log_softmax_topk.ruled
        found = ruled(logits, None, seen, 0.7, 1.6, None, None, 12)[:2]
        assert all(map(torch.equal, found, ops.log_softmax_topk(expected, 12)))
        with pytest.raises(ValueError, match=r"^log_softmax_topk: temperature: expected above 0"):
            ruled(logits, None, seen, 0.0, 1.6, None, None, 12)
        with pytest.raises(ValueError, match=r"^log_softmax_topk: seen: expected contiguous \[4"):
            ruled(logits, None, seen[1:], 0.7, 1.6, None, None, 12)
        with pytest.raises(ValueError, match=r"^log_softmax_topk: places: expected contiguous \[4"):
            ruled(logits, None, None, 0.7, 1.6, None, torch.zeros(3, 2, dtype=torch.int64), 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("vocabulary", "k"), [(7, 7), (700, 12), (9000, 3)])
def test_noise_decides_which_are_best(vocabulary: int, k: int, dtype: torch.dtype) -> None:
    """That of the reference, on every row's own log-probs; a banned token comes last."""
    logits = torch.randn(3, vocabulary, dtype=dtype) * 2
    logits[1, ::2] = -INF
    listed = torch.tensor([[1, vocabulary - 1]] * 3)
    seeds, steps, lanes = (5, 2**64 - 1, 2**63), (0, 3, 9), (4, 0, 1)
    words = [
        (s - (s >> 63 << 64), t | i << 32) for s, t, i in zip(seeds, steps, lanes, strict=True)
    ]
    noise = [
        [gumbel(*place, token) for token in range(vocabulary)]
        for place in zip(seeds, steps, lanes, strict=True)
    ]
    with emulated_cuda():
        ruled = torch.ops.seq2seq_ext.log_softmax_topk.ruled
        log_probs, tokens, perturbed = ruled(
            logits, listed, None, 0.5, 1.0, None, torch.tensor(words), k
        )
    expected = (logits / 0.5).double().log_softmax(1)
    expected[:, vocabulary - 1] = -INF
    best = (expected + torch.tensor(noise, dtype=torch.float64)).sort(
        dim=1, descending=True, stable=True
    )
    assert torch.equal(tokens, best.indices[:, :k])
    torch.testing.assert_close(perturbed, best.values[:, :k], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_probs.double(), expected.gather(1, tokens), rtol=0, atol=1e-5)


def kept_by_hand(logits: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """How many of each row's best tokens, and where they are."""
    best = logits.sort(dim=1, descending=True, stable=True)
    values = best.values.clone()
    values[:, top_k or logits.shape[1] :] = -INF
    shares = values.log_softmax(1, dtype=torch.float64).to(logits.dtype).double().exp()
    return (shares.cumsum(1) < top_p).sum(1), best.indices


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("top_k", [0, 5, 60])
@pytest.mark.parametrize(
    ("vocabulary", "top_p"), [(2, 0.4), (19, 1e-6), (700, 0.3), (700, 0.9), (5000, 0.999)]
)
def test_a_nucleus_is_the_fewest_that_reach_a_share(
    vocabulary: int, top_p: float, top_k: int, dtype: torch.dtype
) -> None:
    """Of equals, zeros of either sign too, the first; behind what rules make of the logits."""
    logits = (torch.randn(4, vocabulary, dtype=dtype) * 4).round() / 2
    seen = torch.tensor([[2, 1, 1]] * 4)
    banned = torch.tensor([[1, 0]] * 4)
    expected = logits / 2
    named = expected[:, 1]
    expected[:, 1] = torch.where(named > 0, named / 1.5, named * 1.5)
    expected[:, 0] = -INF
    count, order = kept_by_hand(expected, top_k, top_p)
    with emulated_cuda():
        nucleus = torch.ops.seq2seq_ext.beam_search_nucleus
        floors = nucleus(logits, banned, seen, 2.0, 1.5, top_k, top_p)
        ruled = torch.ops.seq2seq_ext.log_softmax_topk.ruled
        told = (logits, banned, seen, 2.0, 1.5)
        k = min(70, vocabulary)
        found = ruled(*told, floors, None, k)
        every = ruled(*told, None, None, k)
    last = order.gather(1, count[:, None])
    assert torch.equal(floors[:, 1:], last)
    assert torch.equal(floors[:, :1].view(torch.float64), expected.gather(1, last).double() + 0)
    is_kept = torch.arange(k) <= count[:, None]
    assert torch.equal(found[0], every[0].where(is_kept, torch.full_like(every[0], -INF)))
    assert torch.equal(found[1].where(is_kept, 0), every[1].where(is_kept, 0))


def test_a_nucleus_of_equals_and_of_nothing() -> None:
    """Where there is a choice of equals the first are kept; where nothing is left, nothing is."""
    logits = torch.zeros(4, 300)
    logits[0, ::2] = -0.0
    logits[1] = -INF
    logits[2, 7] = torch.nan
    logits[3, 7] = INF
    with emulated_cuda():
        nucleus = torch.ops.seq2seq_ext.beam_search_nucleus
        floors = nucleus(logits, None, None, 1.0, 1.0, 0, 0.305)
        ruled = torch.ops.seq2seq_ext.log_softmax_topk.ruled
        log_probs, tokens, _ = ruled(logits, None, None, 1.0, 1.0, floors, None, 100)
        few = nucleus(logits[:1], torch.tensor([[-2, 250, 11]]), None, 1.0, 1.0, 0, 0.6)
    assert floors[0].tolist() == [0, 91] and few[0, 1] == 250
    assert log_probs[0].isfinite().sum() == 92 and tokens[0, :92].tolist() == [*range(92)]
    assert log_probs[1:].eq(-INF).all()


def test_a_wrong_nucleus_is_refused() -> None:
    logits = torch.randn(2, 9)
    with emulated_cuda():
        nucleus = torch.ops.seq2seq_ext.beam_search_nucleus
        with pytest.raises(ValueError, match=r"^beam_search_nucleus: top_p: expected above 0 and"):
            nucleus(logits, None, None, 1.0, 1.0, 0, 0.0)
        with pytest.raises(ValueError, match=r"^beam_search_nucleus: top_k: expected at least 0"):
            nucleus(logits, None, None, 1.0, 1.0, -1, 0.5)
        with pytest.raises(TypeError, match=r"^beam_search_nucleus: logits: expected float32 or"):
            nucleus(logits.half(), None, None, 1.0, 1.0, 0, 0.5)
        ruled = torch.ops.seq2seq_ext.log_softmax_topk.ruled
        with pytest.raises(ValueError, match=r"^log_softmax_topk: floors: expected contiguous \[2"):
            ruled(logits, None, None, 1.0, 1.0, torch.zeros(3, 2, dtype=torch.int64), None, 3)


def test_minus_infinity_comes_last() -> None:
    logits = torch.full((2, 9000), -INF)
    logits[0, [5, 8500]] = torch.tensor([1.0, 2.0])
    with emulated_cuda():
        log_probs, indices = ops.log_softmax_topk(logits, 4)
    assert indices.tolist() == [[8500, 5, 0, 1], [0, 1, 2, 3]]
    assert log_probs[0, :2].isfinite().all()
    assert (log_probs[0, 2:] == -INF).all() and (log_probs[1] == -INF).all()


def test_a_row_has_the_same_bits_in_any_company() -> None:
    logits = torch.randn(5, 5000)
    with emulated_cuda():
        together = ops.log_softmax_topk(logits, 8)
        for r in range(5):
            alone = ops.log_softmax_topk(logits[r : r + 1], 8)
            assert all(torch.equal(a[0], t[r]) for a, t in zip(alone, together, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    logits = (torch.randn(2, 5000) * 4).to(dtype)
    log_probs, indices = reference.log_softmax_topk(logits.float(), 9)
    with emulated_cuda():
        found = ops.log_softmax_topk(logits, 9)
    assert torch.equal(found[1], indices)
    assert torch.allclose(found[0].float(), log_probs, rtol=torch.finfo(dtype).eps)


def test_rows_may_lie_more_than_2_31_elements_apart() -> None:
    # Untouched pages of a huge mapping cost nothing.
    logits = torch.as_strided(torch.empty(2**31 + 600), (2, 500), (2**31 + 8, 1))
    logits.copy_(torch.randn(2, 500))
    with emulated_cuda():
        check(logits, 5)


@pytest.mark.parametrize("k", [0, 8])
def test_wrong_k_raises(k: int) -> None:
    with emulated_cuda(), pytest.raises(ValueError, match="k: expected 1 to V = 7"):
        ops.log_softmax_topk(torch.randn(2, 7), k)


LINEAR = [(1, 5, 7, 3), (70, 33, 200, 9), (3, 16, 1000, 70), (130, 40, 129, 1)]  # rows, I, V, k
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def check_linear(shape: tuple[int, int, int, int], tensors: list[torch.Tensor]) -> None:
    found = ops.linear_log_softmax_topk(*tensors, shape[3])
    expected = ops.log_softmax_topk(ops.linear(*tensors), shape[3])
    assert all(map(torch.equal, found, expected))


def make_linear(shape: tuple[int, int, int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    rows, inputs, vocabulary, _ = shape
    shapes = ((rows, inputs), (vocabulary, inputs), (vocabulary,))
    return [torch.randn(s).to(dtype) for s in shapes]


@pytest.mark.parametrize("shape", LINEAR, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_that_never_get_to_memory_give_the_same_bits(
    dtype: torch.dtype, shape: tuple[int, int, int, int]
) -> None:
    tensors = make_linear(shape, dtype)
    with emulated_cuda(seed=1):
        check_linear(shape, tensors)
        check_linear(shape, [*tensors[:2], None])
        if dtype == torch.float32:
            with tf32():
                check_linear(shape, tensors)
    log_probs, indices = reference.linear_log_softmax_topk(*(t.double() for t in tensors), shape[3])
    with emulated_cuda():
        found = ops.linear_log_softmax_topk(*tensors, shape[3])
    size = tensors[0].double().abs().max() * tensors[1].double().abs().max() * shape[1]
    tolerance = float(2 * torch.finfo(dtype).eps * size)
    torch.testing.assert_close(found[0].double(), log_probs, rtol=0, atol=tolerance)
    if dtype == torch.float64:
        assert torch.equal(found[1], indices)


def test_a_row_of_a_product_stands_alone() -> None:
    x, w, b = make_linear((70, 33, 200, 5), torch.bfloat16)
    with emulated_cuda():
        together = ops.linear_log_softmax_topk(x, w, b, 5)
        alone = ops.linear_log_softmax_topk(x[66:67], w, b, 5)
        assert all(torch.equal(a[0], t[66]) for a, t in zip(alone, together, strict=True))
        x[3, 2] = torch.nan
        poisoned = ops.linear_log_softmax_topk(x, w, b, 5)
    others = [i for i in range(70) if i != 3]
    assert all(torch.equal(p[others], t[others]) for p, t in zip(poisoned, together, strict=True))
    assert (poisoned[0][3] == -INF).all()


def test_wrong_arguments_of_a_product_are_named() -> None:
    x, w, b = make_linear((2, 3, 4, 1), torch.float32)
    op = "^linear_log_softmax_topk: "
    with emulated_cuda():
        with pytest.raises(ValueError, match=op + r"k: expected 1 to V = 4, got 5"):
            ops.linear_log_softmax_topk(x, w, b, 5)
        with pytest.raises(ValueError, match=op + r"weight: expected V >= 1"):
            ops.linear_log_softmax_topk(x, w[:0], None, 1)
        with pytest.raises(ValueError, match=op + r"packed: expected None on CUDA"):
            ops.linear_log_softmax_topk(x, w, b, 1, packed=torch.ones(1))


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize(("vocabulary", "k"), SIZES)
def test_gpu_equals_reference(vocabulary: int, k: int) -> None:
    check(torch.randn(2, vocabulary, device="cuda") * 4, min(k, vocabulary))


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("shape", LINEAR, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gpu_logits_never_get_to_memory(
    dtype: torch.dtype, shape: tuple[int, int, int, int]
) -> None:
    check_linear(shape, [t.cuda() for t in make_linear(shape, dtype)])
