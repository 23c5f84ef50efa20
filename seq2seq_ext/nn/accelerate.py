"""Swaps torch.nn's recurrent modules for this package's, inside a model that exists."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils import parametrize

from seq2seq_ext.nn.gru import GRU, GRUCell
from seq2seq_ext.nn.lstm import LSTM, LSTMCell
from seq2seq_ext.nn.rnn import RNN, RNNCell
from seq2seq_ext.ops.weight_types import check_weight_type

_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LSTM: LSTM,
    nn.GRU: GRU,
    nn.RNN: RNN,
    nn.LSTMCell: LSTMCell,
    nn.GRUCell: GRUCell,
    nn.RNNCell: RNNCell,
}
_NAMES = {theirs.__name__ for theirs in _OURS}


@dataclass(frozen=True)
class AccelerateReport:
    """What :func:`accelerate` did, by the names of ``module.named_modules()``."""

    swapped: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)  # name -> why

    def __str__(self) -> str:
        lines = [f"swapped {name or '(the module itself)'}" for name in self.swapped]
        lines += [f"left {name or '(the module itself)'}: {why}" for name, why in self.left.items()]
        return "\n".join(lines) or "no recurrent module found"


def accelerate(module: nn.Module, dtype: str | None = None) -> AccelerateReport:
    """Makes every nn.LSTM, GRU, RNN and their cells in ``module`` run on this package's ops.

    In place: each stays the same object with the same Parameters, hooks and mode; only its
    class changes. So optimizers, references held elsewhere and ``module`` itself, if it is
    one of them, all go on working. A second call changes nothing.

    Args:
        module: any model.
        dtype: how all of them, those that were ours before too, store their weights where no
            gradient is wanted: ``"float32"``, ``"bfloat16"`` or ``"int8"``. Sums and states stay
            float32, and so does training. None leaves each as it is. A ``Seq2Seq`` decodes in
            float32 all the same: a :class:`seq2seq_ext.Decoder` has a ``dtype`` of its own.

    Raises:
        TypeError, ValueError: ``module`` is no nn.Module, or another ``dtype``.

    Example:
        >>> import torch, seq2seq_ext
        >>> model = torch.nn.Sequential(torch.nn.LSTM(3, 4))
        >>> seq2seq_ext.accelerate(model)
        AccelerateReport(swapped=['0'], left={})
        >>> type(model[0]) is seq2seq_ext.LSTM
        True
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"accelerate: module: expected a torch.nn.Module, got {type(module).__name__}"
        )
    if dtype is not None:
        check_weight_type("accelerate", dtype)
    report = AccelerateReport()
    for name, candidate in module.named_modules():
        if not _is_recurrent(candidate):
            continue
        why = _why_left(candidate, dtype)
        if why:
            report.left[name] = why
        else:
            candidate.__class__ = _OURS[type(candidate)]
            report.swapped.append(name)
        if dtype is not None and type(candidate) in _OURS.values():
            if dtype == "float32" or next(candidate.parameters()).dtype == torch.float32:
                candidate.inference_dtype = dtype
            else:
                report.left[name] += f"; its weights can't be stored as {dtype}"
    return report


def _is_recurrent(module: nn.Module) -> bool:
    return (
        isinstance(module, (nn.RNNBase, nn.RNNCellBase))
        or type(module).__name__ in _NAMES
        or getattr(module, "original_name", None) in _NAMES
    )


def _why_left(module: nn.Module, dtype: str | None) -> str | None:
    """Why a recurrent module must stay as it is; None if it can be swapped."""
    kind = type(module)
    if kind in _OURS.values():
        return "already of seq2seq_ext"
    if isinstance(module, torch.jit.ScriptModule):
        return "compiled by torch.jit"
    if kind.__module__.startswith(("torch.ao.", "torch.nn.quantized", "torch.nn.quantizable")):
        return "quantized"
    if parametrize.is_parametrized(module):
        return "its weights are parametrized"
    if kind not in _OURS:
        return f"a class of its own, {kind.__qualname__}, which may compute something else"
    if "forward" in vars(module):
        return "its forward is replaced on the instance"
    parameters = [p for p in module._parameters.values() if p is not None]
    if len(parameters) != _expected_parameters(module):
        return "its weights are computed (weight_norm, for instance)"
    for parameter in parameters:
        if parameter.dtype not in (torch.float32, torch.float64):
            return f"its weights are {parameter.dtype}; expected float32 or float64"
        if dtype not in (None, "float32") and parameter.dtype != torch.float32:
            return f"its weights are {parameter.dtype}; expected float32 to store them as {dtype}"
        if parameter.device.type != "cpu":
            return f"its weights are on {parameter.device}; expected on cpu"
    return None


def _expected_parameters(module: nn.Module) -> int:
    if isinstance(module, nn.RNNBase):
        return len(module._flat_weights_names)
    return 4 if module.bias else 2
