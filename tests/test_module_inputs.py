"""torch.nn's own sample inputs, and its own wrong ones, through the drop-in modules."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.testing._internal.common_modules import ModuleInfo, module_db

import seq2seq_ext

NAMES = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
INFOS = [info for info in module_db if info.module_cls in [getattr(nn, name) for name in NAMES]]
# torch's own hint that oneDNN lacks projections.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for part in value for t in tensors(part)]
    return []


def pair(info: ModuleInfo, arguments: Any, dtype: torch.dtype) -> Iterator[nn.Module]:
    """torch.nn's module and ours from one seed."""
    name = info.module_cls.__name__
    for module_cls in (getattr(nn, name), getattr(seq2seq_ext, name)):
        torch.manual_seed(0)
        yield module_cls(*arguments.args, **{**arguments.kwargs, "dtype": dtype})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.module_cls.__name__)
def test_sample_inputs(info: ModuleInfo, dtype: torch.dtype) -> None:
    samples = [
        sample
        for training in (False, True)
        for sample in info.module_inputs_func(
            info,
            device=torch.get_default_device(),
            dtype=dtype,
            requires_grad=True,
            training=training,
        )
        if not sample.constructor_input.kwargs.get("dropout")
    ]
    assert samples
    for sample in samples:
        theirs, ours = pair(info, sample.constructor_input, dtype)
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        given = sample.forward_input
        inputs = [t for t in tensors([*given.args, *given.kwargs.values()]) if t.requires_grad]
        results = []
        for module in (theirs, ours):
            outputs = tensors(module(*given.args, **given.kwargs))
            leaves = [*inputs, *module.parameters()]
            total = sum(t.sum() for t in outputs)
            results.append([*outputs, *torch.autograd.grad(total, leaves, allow_unused=True)])
        for expected, got in zip(*results, strict=True):
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.module_cls.__name__)
def test_error_inputs(info: ModuleInfo) -> None:
    cases = list(
        info.module_error_inputs_func(
            info,
            device=torch.get_default_device(),
            dtype=torch.float32,
            requires_grad=False,
            training=False,
        )
    )
    assert cases
    for case in cases:
        given = case.module_error_input
        arguments = given.constructor_input
        with pytest.raises(case.error_type):
            module = getattr(seq2seq_ext, info.module_cls.__name__)(
                *arguments.args, **arguments.kwargs
            )
            module(*given.forward_input.args, **given.forward_input.kwargs)
