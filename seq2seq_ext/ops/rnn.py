"""The Elman RNN layer op."""

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.recurrent import LayerOp, Weights, run_layer, tensor_list

LayerOp("rnn", reference.rnn, gates=1, saved=1, extras=("nonlinearity",)).register()


def rnn(
    input: Tensor,
    h_0: Tensor,
    weights: Weights,
    *,
    nonlinearity: str = "tanh",
    lengths: Tensor | None = None,
    has_biases: bool = True,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One Elman RNN layer over whole sequences, in one direction or both.

    The equations are torch.nn.RNN's.

    Args:
        input: ``[T, B, I]``, float32 or float64; any strides with contiguous features. On CUDA
            bfloat16 and float16 too.
        h_0: ``[D, B, H]``, D directions (1 or 2).
        weights: for each direction ``weight_ih [H, I]``, ``weight_hh [H, H]``, then
            ``bias_ih``, ``bias_hh [H]`` if ``has_biases``.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        lengths: int64 ``[B]`` in any order, zeros allowed; None means all T.
        has_biases: whether ``weights`` holds biases.
        packed: what :func:`rnn_pack` gave for ``weights``; saves packing in inference. If it is
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
        >>> weights = torch.nn.RNN(3, 4)._flat_weights
        >>> output, h_n = ops.rnn(torch.randn(5, 2, 3), torch.zeros(1, 2, 4), weights)
        >>> output.shape, h_n.shape
        (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]))
    """
    if reference_active():
        return reference.rnn(
            input,
            h_0,
            weights,
            nonlinearity=nonlinearity,
            lengths=lengths,
            has_biases=has_biases,
        )
    output, h_n = run_layer(
        "rnn", input, lengths, (h_0,), weights, has_biases, nonlinearity, packed=packed
    )
    return output, h_n


def rnn_pack(
    weights: Weights, *, has_biases: bool = True, dtype: torch.dtype | None = None
) -> Tensor:
    """As :func:`seq2seq_ext.ops.lstm_pack`, for :func:`rnn`."""
    packed: Tensor = torch.ops.seq2seq_ext.rnn_pack(
        tensor_list("rnn_pack", "weights", weights), has_biases, dtype
    )
    return packed
