"""Every kernel of CUDA once or twice, in sizes that break tiles: what make test-cuda runs under
compute-sanitizer."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import attention_cases
import decoder_cases
import pytest
import seq2seq_cases
import test_linear_cross_entropy as loss_cases
import torch
from cuda_device import tf32
from recorded_cuda import SEARCHES
from recurrent_cases import GRU, LSTM, RNN_TANH, Case, Kind, make_inputs, run_with_gradients
from torch import Tensor

from seq2seq_ext import ops
from seq2seq_ext.models import device_generation
from seq2seq_ext.models.device_generation import generate_on_device, search_on_device

pytestmark = pytest.mark.sanitizer


@pytest.fixture(params=["float32", "tf32", "bfloat16"])
def dtype(request: pytest.FixtureRequest, device: torch.device) -> Iterator[torch.dtype]:
    """Of the tensors, which are made on the device; each has products of its own."""
    with device, tf32() if request.param == "tf32" else nullcontext():
        yield torch.bfloat16 if request.param == "bfloat16" else torch.float32


def assert_finite(tensors: Any) -> None:
    assert all(t.isfinite().all() for t in tensors)


def backward(outputs: Any, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return *outputs, *torch.autograd.grad(sum(o.float().square().sum() for o in outputs), leaves)


LAYERS = {
    "ragged": Case(5, 9, 20, 37, D=2, lengths=[5, 3, 0, 5, 1, 2, 4, 2, 5]),
    "wide": Case(3, 34, 7, 72),
    "one step": Case(1, 5, 12, 37),
}


@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("kind", [LSTM, GRU, RNN_TANH], ids=lambda kind: kind.name)
def test_layers(kind: Kind, case: str, dtype: torch.dtype) -> None:
    told = [LAYERS[case]] + [replace(LAYERS[case], P=11)] * kind.projects
    for each in told:
        inputs = make_inputs(kind, each, dtype).leaves(dtype)
        assert_finite(run_with_gradients(kind, ops, inputs))


@pytest.mark.parametrize("kind", attention_cases.KINDS)
def test_attention(kind: str, dtype: torch.dtype) -> None:
    tensors = [t.requires_grad_() for t in attention_cases.make(3, 6, 41, 37, 19, dtype=dtype)]
    used = [t for i, t in enumerate(tensors) if kind == "additive" or i != 2]
    found = attention_cases.call(ops, kind, tensors, torch.tensor([41, 0, 17]))
    assert_finite(backward(found, used))


@pytest.mark.parametrize("attention", decoder_cases.ATTENTIONS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_attentional_decoder(cell: str, attention: str, dtype: torch.dtype) -> None:
    case = decoder_cases.Case(B=5, H=37, cell=cell, attention=attention)
    rounds = dtype == torch.bfloat16
    with torch.autocast(torch.get_default_device().type, dtype, enabled=rounds):
        assert_finite(decoder_cases.run(ops, decoder_cases.make(case)).values())


def test_loss(dtype: torch.dtype) -> None:
    input, weight, bias, target = loss_cases.make(70, 33, 601, dtype)
    leaves = [t.requires_grad_() for t in (input, weight, bias)]
    assert_finite(backward(loss_cases.our_loss(*leaves, target, 0.1), leaves))


@torch.no_grad()
def test_topk(dtype: torch.dtype) -> None:
    input, weight, bias, _ = loss_cases.make(9, 33, 1030, dtype)
    for k in (1, 12):
        assert_finite(ops.log_softmax_topk(ops.linear(input, weight, bias), k))
        assert_finite(ops.linear_log_softmax_topk(input, weight, bias, k))


RULES = {"no_repeat_ngram_size": 2, "banned": (7, (4, 8)), "repetition_penalty": 1.4}
GROUPS = {"beam_size": 4, "beam_groups": 2, "diversity_penalty": 0.5}


@torch.no_grad()
@pytest.mark.parametrize("rules", [{}, RULES, GROUPS, *SEARCHES.values()], ids=str)
def test_generation(rules: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a graph: none can be captured where every tensor has memory of its own."""
    monkeypatch.setattr(device_generation, "recorded", lambda step: step)
    options = replace(seq2seq_cases.OPTIONS, **rules)
    model = seq2seq_cases.make(dtype, decoder_layers=2)
    src, src_lengths, _, _ = seq2seq_cases.data(model)
    memory = model.encode(src, src_lengths)
    search = search_on_device(model.decoder, src_lengths, [options] * len(src), src.device)
    assert_finite([generate_on_device(model.decoder, memory, search).log_probs])
