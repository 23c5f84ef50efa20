"""Packed weights that a module keeps between calls of inference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seq2seq_ext.ops.autograd import needs_grad
from seq2seq_ext.ops.backend import reference_active


@dataclass(frozen=True)
class _Entry:
    key: tuple[Any, ...]
    # Kept alive so that neither an id nor an address in the key can be given out again.
    owners: tuple[Any, ...]
    packed: Any


class PackedCache:
    """One packed tensor a layer, made anew when a weight was replaced, moved or written to.

    Lives on its module as a plain attribute, made at first use; a copy or a pickle of it is
    empty. Autograd's version counter tells of every write except those through ``.data``; of
    these a fingerprint of a few elements tells, if they change more than a few;
    ``flatten_parameters()`` of the layer forgets everything, as does a change of mode.
    """

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedCache, ()

    def get(
        self, layer: int, weights: Sequence[Tensor], pack: Callable[[Sequence[Tensor]], Any]
    ) -> Any:
        """``pack(weights)``, from the last call if it still holds; None if it can't be known."""
        key = _key(weights)
        if key is None:
            return None
        entry = self._entries.get(layer)
        if entry is None or entry.key != key:
            owners = (*weights, *(w.untyped_storage() for w in weights))
            entry = self._entries[layer] = _Entry(key, owners, pack(weights))
        return entry.packed


def packed_weights(
    module: nn.Module,
    layer: int,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    pack: Callable[[Sequence[Tensor]], Tensor],
) -> Tensor | None:
    """What to hand to a layer op as ``packed``: None where gradients are wanted, or where
    nothing would tell of a write to a weight.
    """
    if (
        torch.compiler.is_compiling()
        or reference_active()
        or needs_grad(*inputs, *weights)
        or weights[0].dtype not in (torch.float32, torch.float64)
    ):
        return None
    cache = module.__dict__.setdefault("_packed_cache", PackedCache())
    packed: Tensor | None = cache.get(layer, weights, pack)
    return packed


def forget_packed_weights(module: nn.Module) -> None:
    module.__dict__.pop("_packed_cache", None)


def _key(weights: Sequence[Tensor]) -> tuple[Any, ...] | None:
    try:
        parts = [(id(w), w.data_ptr(), w._version) for w in weights]
        # Another process may write to shared memory, and no counter here would move.
        if any(w.untyped_storage().is_shared() for w in weights):
            return None
        if not all(w.is_contiguous() for w in weights):
            return None
        ops = torch.ops.seq2seq_ext
        return ops.isa(), ops.fingerprint(list(weights)), *parts
    except RuntimeError:  # an inference tensor counts no versions; a traced one has no data
        return None
