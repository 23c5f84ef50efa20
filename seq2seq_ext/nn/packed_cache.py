"""Packed weights that a module keeps between calls of inference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seq2seq_ext import _C
from seq2seq_ext.ops.autograd import needs_grad, product_dtype
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.weight_types import WEIGHT_TYPES

# A layer's weights, how to store them (None: as they are) -> the packed ones.
Pack = Callable[[Sequence[Tensor], torch.dtype | None], Tensor]


@dataclass(frozen=True)
class _Entry:
    state: int
    kind: Any
    # Kept alive so that no address in the state can be given out again.
    owners: tuple[Any, ...]
    value: Any


class PackedCache:
    """What was made of some weights, made anew when one was replaced, moved or written to.

    Lives on its module as a plain attribute, made at first use; a copy or a pickle of it is
    empty. Autograd's version counter tells of every write except those through ``.data``; of
    these a fingerprint of a few elements tells, if they change more than a few;
    ``flatten_parameters()`` of the layer forgets everything, as does a change of mode.
    """

    def __init__(self) -> None:
        self.entry: _Entry | None = None
        self.inference: _C.RecurrentInference | None = None  # of the entry, and
        self.made_for: tuple[str, Sequence[str]] = ("", ())  # of this mode, these names

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedCache, ()

    def get(self, weights: Sequence[Tensor], kind: Any, make: Callable[[], Any]) -> Any:
        """``make()``, or what it gave last if the weights and ``kind`` are still the same.

        None where nothing would tell of a write to a weight.
        """
        try:
            state = torch.ops.seq2seq_ext.weights_state(weights)
        except RuntimeError:  # a traced tensor has no data
            return None
        if state is None:
            return None
        entry = self.entry
        if entry is None or entry.state != state or entry.kind != kind:
            storages = tuple(w.untyped_storage() for w in weights)
            # Another process may write to shared memory, and no counter here would move.
            if any(s.is_shared() for s in storages):
                return None
            entry = self.entry = _Entry(state, kind, (*weights, *storages), make())
            self.inference = None
        return entry.value


def packed_weights(
    module: nn.Module, inputs: Sequence[Tensor], layers: Sequence[Sequence[Tensor]], pack: Pack
) -> Sequence[Tensor | None]:
    """What to hand to each layer's op as ``packed``; None lets the op pack the weights as they are.

    They are stored as ``module.inference_dtype`` says (float32 in the type that autocast wants),
    except where gradients are wanted.
    """
    weights = [w for layer in layers for w in layer]
    plain: list[Tensor | None] = [None] * len(layers)
    own = weights[0].dtype
    if reference_active() or own not in (torch.float32, torch.float64):
        return plain
    if needs_grad(*inputs, *weights):
        return plain
    kind: Any = module.inference_dtype
    if kind == "float32" and weights[0].is_cpu and product_dtype(weights[0]):
        kind = "bfloat16"
    stored = WEIGHT_TYPES[kind]
    dtype = None if stored == torch.float32 else stored
    if weights[0].is_cuda:  # ops take them there as they are
        if dtype is not None:
            where = f"{type(module).__name__}.inference_dtype"
            raise ValueError(f"{where}: expected 'float32' on CUDA, got {kind!r}")
        return plain

    def make() -> list[Tensor]:
        return [pack(layer, dtype) for layer in layers]

    if not _is_traced():
        cache = module.__dict__.get("_packed_cache")
        if cache is None:
            cache = module.__dict__["_packed_cache"] = PackedCache()
        packed: list[Tensor] | None = cache.get(weights, kind, make)
        if packed is not None:
            return packed
    return make() if dtype else plain


def kept_inference(
    module: nn.Module, mode: str, names: Sequence[str]
) -> _C.RecurrentInference | None:
    """The module's fast way where no gradient is wanted, over the weights that it has packed.

    None before the first call of inference, and where every op must show: in a trace, with the
    reference.
    """
    if _is_traced() or reference_active():
        return None
    attributes = module.__dict__
    cache: PackedCache | None = attributes.get("_packed_cache")
    if cache is None or (entry := cache.entry) is None:
        return None
    if entry.kind != attributes.get("_dtype", "float32"):
        return None
    if cache.inference is None or cache.made_for != (mode, names):
        found = (module._parameters.get(name) for name in names)
        weights = tuple(weight for weight in found if weight is not None)
        if len(weights) < len(names):  # some are computed by something else
            return None
        cache.made_for = mode, names
        cache.inference = _C.RecurrentInference(
            mode, tuple(names), weights, entry.state, entry.value
        )
    return cache.inference


def _is_traced() -> bool:
    """Whether what runs now is kept, and run again without this module: every op must show."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def forget_packed_weights(module: nn.Module) -> None:
    module.__dict__.pop("_packed_cache", None)
