"""How packed weights can be stored, by name."""

import torch

WEIGHT_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


def check_weight_type(where: str, dtype: object) -> None:
    """Refuses what is no key of ``WEIGHT_TYPES``."""
    if not isinstance(dtype, str):
        raise TypeError(f"{where}: dtype: expected a str, got {type(dtype).__name__}")
    if dtype not in WEIGHT_TYPES:
        raise ValueError(f"{where}: dtype: expected one of {sorted(WEIGHT_TYPES)}, got {dtype!r}")
