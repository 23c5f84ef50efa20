"""The LSTM layer op."""

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.recurrent import LayerOp, Weights, run_layer, tensor_list

LayerOp("lstm", reference.lstm, gates=4, saved=5, states=2, projects=True).register()


def lstm(
    input: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: Weights,
    *,
    lengths: Tensor | None = None,
    has_biases: bool = True,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One LSTM layer over whole sequences, in one direction or both.

    The equations are torch.nn.LSTM's (gate order i, f, g, o). Under bfloat16 autocast on the CPU
    both sides of the products, backward's too, are rounded to bfloat16; sums, states, results and
    gradients stay float32.

    Args:
        input: ``[T, B, I]``, float32 or float64; any strides with contiguous features. On CUDA
            bfloat16 and float16 too.
        h_0: ``[D, B, P]``, D directions (1 or 2).
        c_0: ``[D, B, H]``.
        weights: for each direction ``weight_ih [4H, I]``, ``weight_hh [4H, P]``, then
            ``bias_ih``, ``bias_hh [4H]`` if ``has_biases``, then ``weight_hr [P, H]`` if the
            state is projected.
        lengths: int64 ``[B]`` in any order, zeros allowed; None means all T.
        has_biases: whether ``weights`` holds biases.
        packed: what :func:`lstm_pack` gave for ``weights``; saves packing in inference. If it is
            stored as bfloat16 or int8, inputs and states are rounded where they meet it, as in
            :func:`seq2seq_ext.ops.linear`, and no gradient may be wanted.

    Returns:
        ``output [T, B, D*P]`` (zero past each length), ``h_n [D, B, P]`` and ``c_n [D, B, H]``
        of each row's last real step.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> weights = torch.nn.LSTM(3, 4)._flat_weights
        >>> x, state = torch.randn(5, 2, 3), torch.zeros(1, 2, 4)
        >>> output, h_n, c_n = ops.lstm(x, state, state, weights, lengths=torch.tensor([5, 3]))
        >>> output.shape, h_n.shape
        (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]))
    """
    if reference_active():
        return reference.lstm(input, h_0, c_0, weights, lengths=lengths, has_biases=has_biases)
    output, h_n, c_n = run_layer(
        "lstm", input, lengths, (h_0, c_0), weights, has_biases, packed=packed
    )
    return output, h_n, c_n


def lstm_pack(
    weights: Weights, *, has_biases: bool = True, dtype: torch.dtype | None = None
) -> Tensor:
    """The weights of a layer as its kernel reads them, for :func:`lstm`'s ``packed``.

    A copy: valid until a weight changes, and for the ISA in force
    (``seq2seq_ext.info()["isa"]``).

    Args:
        weights, has_biases: as :func:`lstm`'s.
        dtype: how to store the weights: ``torch.bfloat16`` or ``torch.int8`` (a scale for each
            row of a weight) of float32 weights; None means as they are. Biases stay as they are.

    Returns:
        An opaque tensor ``[D, ...]`` of that dtype.
    """
    packed: Tensor = torch.ops.seq2seq_ext.lstm_pack(
        tensor_list("lstm_pack", "weights", weights), has_biases, dtype
    )
    return packed
