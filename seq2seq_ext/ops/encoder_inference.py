"""A model's whole encoder in one call, where no gradient is wanted."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

# A linear layer's weight [O, I], bias [O] or None, and packed weight; empty where there is none.
Linear = Sequence[Tensor | None]

_encode = torch.ops.seq2seq_ext.encoder_inference.default


@dataclass(frozen=True)
class PackedEncoder:
    """The weights of encoder, bridge and keys, as :func:`encoder_inference` reads them.

    Attributes:
        cell: torch.nn's mode: ``"LSTM"``, ``"GRU"``, ``"RNN_TANH"`` or ``"RNN_RELU"``.
        hidden_size: H, of each direction.
        embedding: ``[V, E]``; None where sources are features.
        layers: what each bidirectional layer's pack op gave, all of one dtype.
        projection: memory ``[.., 2H]`` -> ``[.., M]``.
        bridge: final h of both directions ``[B, 2H]`` -> ``[B, N*H]`` for N decoder layers.
        cell_bridge: the same for c; of an LSTM only.
        keys: memory -> ``[.., A]``; without them the keys are the memory.
        feeds: whether the decoder's state ends with its attentional vector.
    """

    cell: str
    hidden_size: int
    embedding: Tensor | None
    layers: Sequence[Tensor]
    bridge: Linear
    cell_bridge: Linear = field(default=())
    projection: Linear = field(default=())
    keys: Linear = field(default=())
    feeds: bool = False


def encoder_inference(
    weights: PackedEncoder, src: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Memory, keys and the decoder's initial state; the kernels are those of the single ops.

    Args:
        src: int64 ``[B, S]``, or features ``[B, S, F]`` where there is no embedding.
        lengths: int64 ``[B]``.

    Returns:
        ``memory [B, S, M]`` (zero past the end before the projection), ``keys [B, S, A]``, and
        the state ``[parts, B, H]``: h of every decoder layer, c of every one, the attentional
        vector.

    Raises:
        ValueError, TypeError, IndexError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> from seq2seq_ext.ops.encoder_inference import PackedEncoder, encoder_inference
        >>> layer = [w.detach() for w in torch.nn.GRU(3, 4, bidirectional=True)._flat_weights]
        >>> bridge = torch.randn(4, 8)
        >>> weights = PackedEncoder(
        ...     "GRU", 4, None, [ops.gru_pack(layer)], [bridge, None, ops.linear_pack(bridge)]
        ... )
        >>> memory, _, state = encoder_inference(
        ...     weights, torch.randn(2, 5, 3), torch.tensor([5, 2])
        ... )
        >>> memory.shape, state.shape
        (torch.Size([2, 5, 8]), torch.Size([1, 2, 4]))
    """
    w = weights
    found: tuple[Tensor, Tensor, Tensor] = _encode(
        src,
        lengths,
        w.embedding,
        w.cell,
        w.layers,
        w.hidden_size,
        w.projection,
        w.bridge,
        w.cell_bridge,
        w.keys,
        w.feeds,
    )
    return found
