"""The GRU layer op."""

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.recurrent import LayerOp, Weights, run_layer, tensor_list

LayerOp("gru", reference.gru, gates=3, saved=4, biases=2).register()


def gru(
    input: Tensor,
    h_0: Tensor,
    weights: Weights,
    *,
    lengths: Tensor | None = None,
    has_biases: bool = True,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One GRU layer over whole sequences, in one direction or both.

    The equations are torch.nn.GRU's (gate order r, z, n; the reset gate after the product).
    Autocast as in :func:`seq2seq_ext.ops.lstm`.

    Args:
        input: ``[T, B, I]``, float32 or float64; any strides with contiguous features. On CUDA
            bfloat16 and float16 too.
        h_0: ``[D, B, H]``, D directions (1 or 2).
        weights: for each direction ``weight_ih [3H, I]``, ``weight_hh [3H, H]``, then
            ``bias_ih``, ``bias_hh [3H]`` if ``has_biases``.
        lengths: int64 ``[B]`` in any order, zeros allowed; None means all T.
        has_biases: whether ``weights`` holds biases.
        packed: what :func:`gru_pack` gave for ``weights``; saves packing in inference. If it is
            stored as bfloat16 or int8, inputs and states are rounded where they meet it, as in
            :func:`seq2seq_ext.ops.linear`, and no gradient may be wanted.

    Returns:
        ``output [T, B, D*H]`` (zero past each length), ``h_n [D, B, H]`` of each row's last
        real step.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> weights = torch.nn.GRU(3, 4)._flat_weights
        >>> output, h_n = ops.gru(torch.randn(5, 2, 3), torch.zeros(1, 2, 4), weights)
        >>> output.shape, h_n.shape
        (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]))
    """
    if reference_active():
        return reference.gru(input, h_0, weights, lengths=lengths, has_biases=has_biases)
    output, h_n = run_layer("gru", input, lengths, (h_0,), weights, has_biases, packed=packed)
    return output, h_n


def gru_pack(
    weights: Weights, *, has_biases: bool = True, dtype: torch.dtype | None = None
) -> Tensor:
    """As :func:`seq2seq_ext.ops.lstm_pack`, for :func:`gru`."""
    packed: Tensor = torch.ops.seq2seq_ext.gru_pack(
        tensor_list("gru_pack", "weights", weights), has_biases, dtype
    )
    return packed
