"""Weights stored as bfloat16 or int8: what a linear map with them gives, in plain PyTorch."""

from collections.abc import Callable

import torch
from torch import Tensor

Rounding = Callable[[Tensor], Tensor]


def to_bfloat16(rows: Tensor) -> Tensor:
    return rows.float().bfloat16().to(rows.dtype)


def to_int8(rows: Tensor) -> Tensor:
    """Each row to scale * q, q an integer in [-127, 127]."""
    single = rows.float()
    largest = single.abs().amax(-1, keepdim=True) if rows.size(-1) else single.sum(-1, True)
    q = torch.where(largest > 0, single * (127 / largest), 0).round()
    return (q.double() * (largest / 127)).to(rows.dtype)


DTYPES = [torch.bfloat16, torch.int8]
ROUNDINGS: dict[torch.dtype, Rounding] = {torch.bfloat16: to_bfloat16, torch.int8: to_int8}


def rounded_linear(dtype: torch.dtype) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """``input W^T + bias`` with both factors rounded as the kernels round them."""
    rounding = ROUNDINGS[dtype]

    def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return torch.nn.functional.linear(rounding(input), rounding(weight), bias)

    return linear
