"""torch's own modules in the types that ours pack their weights in."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

_HOW = {"bfloat16": "in bfloat16", "int8": "in int8 (quantize_dynamic)"}


def names(module: str) -> dict[str, str]:
    """What a module is called in each reduced type."""
    return {dtype: f"{module} {how}" for dtype, how in _HOW.items()}


def convert(module: nn.Module, dtype: str) -> Any:
    """A copy with its weights in the type; int8: activations are quantized as they come."""
    if dtype == "bfloat16":
        return copy.deepcopy(module).bfloat16()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it will move to another package
        whole = nn.Sequential(copy.deepcopy(module))
        return torch.ao.quantization.quantize_dynamic(whole, {type(module)}, torch.qint8)[0]  # type: ignore[no-untyped-call]


def inputs(dtype: str, given: Any) -> Any:
    """Tensors, alone or in tuples, as the converted module takes them."""
    if isinstance(given, Tensor):
        return given.bfloat16() if dtype == "bfloat16" else given
    return tuple(inputs(dtype, each) for each in given)
