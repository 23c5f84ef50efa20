"""How a module's weights are stored in inference."""

from torch import nn

from seq2seq_ext.ops.weight_types import check_weight_type


class InferenceDtype:
    """A checked attribute of a module, ``"float32"`` until set; copied and pickled with it."""

    def __get__(self, module: nn.Module | None, owner: type) -> str:
        dtype: str = "float32" if module is None else module.__dict__.get("_dtype", "float32")
        return dtype

    def __set__(self, module: nn.Module, dtype: str) -> None:
        check_weight_type(f"{type(module).__name__}.inference_dtype", dtype)
        module.__dict__["_dtype"] = dtype
