"""The decoder op: all steps of a teacher-forced target in one call."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.ops import autograd
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.recurrent import tensor_list
from seq2seq_ext.ops.tracing import register_fake

_OP = "seq2seq_ext::attentional_decoder"
_BACKWARD = f"{_OP}_backward"
_HALVES = (torch.bfloat16, torch.float16)
_SAVED = {"lstm": 5, "gru": 4, "rnn_tanh": 1, "rnn_relu": 1}  # values a unit saves


def attentional_decoder(
    input: Tensor,
    vector_0: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    combine_weight: Tensor,
    *,
    cell: str = "lstm",
    lengths: Tensor | None = None,
    memory: Tensor | None = None,
    keys: Tensor | None = None,
    memory_lengths: Tensor | None = None,
    query_weight: Tensor | None = None,
    v: Tensor | None = None,
    scale: float = 1.0,
    layer_masks: Tensor | None = None,
    vector_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The decoder of Luong, Pham and Manning (2015), section 3, with input feeding.

    For each step, fed with the last attentional vector::

        s = layers([input; last vector])
        vector = vector_mask * tanh(W_c [attention(s, memory); s])

    The weights' gradients are a few large products after the loop; the same bits come from any
    number of threads. Under bfloat16 autocast both sides of the products with weights, backward's
    too, are rounded to bfloat16; sums and all that lies between stay float32. On CUDA that goes
    for float16 autocast too, and for bfloat16 and float16 tensors.

    Args:
        input: ``[B, T, E]``, embedded target tokens, float32 or float64; on CUDA bfloat16 and
            float16 too.
        vector_0: ``[B, H]``, what the first step is fed.
        states: ``h_0 [L, B, H]``, and ``c_0`` of an LSTM.
        weights: ``weight_ih [G*H, E + H]`` (``[G*H, H]`` above the first layer),
            ``weight_hh [G*H, H]``, ``bias_ih``, ``bias_hh [G*H]`` of each of L layers.
        combine_weight: W_c, ``[H, M + H]``; ``[H, H]`` without memory.
        cell: ``"lstm"``, ``"gru"``, ``"rnn_tanh"`` or ``"rnn_relu"``.
        lengths: int64 ``[B]`` in any order, zeros allowed; None means all T.
        memory: ``[B, S, M]``, or None for no attention.
        keys: ``[B, S, A]``, the projected memory.
        memory_lengths: int64 ``[B]``; None means all S.
        query_weight, v: ``[A, H]`` and ``[A]``, of additive attention. Without them the scores
            are ``scale * s . keys``, with A = H.
        scale: of dot products.
        layer_masks: ``[L - 1, B, T, H]``, factors of each layer's output on its way up: dropout
            masks, 0 or 1 / (1 - p). Not differentiated.
        vector_mask: ``[B, T, H]``, the same for the attentional vectors.

    Returns:
        Attentional vectors ``[B, T, H]`` and attention weights ``[B, T, S]`` (S = 0 without
        attention), both zero past each length.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import ops
        >>> weights = torch.nn.GRU(3 + 4, 4)._flat_weights
        >>> memory = torch.randn(2, 6, 4)
        >>> vectors, alignment = ops.attentional_decoder(
        ...     torch.randn(2, 5, 3), torch.zeros(2, 4), [torch.zeros(1, 2, 4)], weights,
        ...     torch.randn(4, 8), cell="gru", memory=memory, keys=memory,
        ... )
        >>> vectors.shape, alignment.shape
        (torch.Size([2, 5, 4]), torch.Size([2, 5, 6]))
    """
    if reference_active():
        return reference.attentional_decoder(
            input,
            vector_0,
            states,
            weights,
            combine_weight,
            cell=cell,
            lengths=lengths,
            memory=memory,
            keys=keys,
            memory_lengths=memory_lengths,
            query_weight=query_weight,
            v=v,
            scale=scale,
            layer_masks=layer_masks,
            vector_mask=vector_mask,
        )
    optional = [t for t in (memory, keys, query_weight, v) if t is not None]
    states = tensor_list("attentional_decoder", "states", states)
    weights = tensor_list("attentional_decoder", "weights", weights)
    save = autograd.needs_grad(input, vector_0, *states, *weights, combine_weight, *optional)
    own = getattr(input, "dtype", None)
    is_narrow = getattr(input, "is_cuda", False) and own in _HALVES
    arguments = [
        input,
        lengths,
        vector_0,
        states,
        weights,
        cell,
        combine_weight,
        memory,
        keys,
        memory_lengths,
        query_weight,
        v,
        scale,
        layer_masks,
        vector_mask,
        autograd.product_dtype(input) or (own if is_narrow else None),
        save,
    ]
    if is_narrow:  # the op takes halves as the type of products only
        arguments = autograd.widened(arguments, _HALVES)
    vectors, alignment, _ = torch.ops.seq2seq_ext.attentional_decoder(*arguments)
    return (vectors.to(own), alignment.to(own)) if is_narrow else (vectors, alignment)


class _Arguments:
    """The op's arguments from ``input`` to ``dtype``, by name."""

    NAMES = (
        "input",
        "lengths",
        "vector_0",
        "states",
        "weights",
        "cell",
        "combine_weight",
        "memory",
        "keys",
        "memory_lengths",
        "query_weight",
        "v",
        "scale",
        "layer_masks",
        "vector_mask",
        "dtype",
    )
    PLAIN = ("cell", "scale", "dtype")
    DIFFERENTIABLE = ("input", "vector_0", "combine_weight", "memory", "keys", "query_weight", "v")

    def __init__(self, values: Sequence[Any]) -> None:
        self.of = dict(zip(self.NAMES, values, strict=True))

    def __getitem__(self, name: str) -> Any:
        return self.of[name]

    def save(self, ctx: Any, *more: Tensor) -> None:
        """Keeps everything for :meth:`saved`, and ``more``."""
        tensors: list[Any] = []
        ctx.plain = {}
        for name, value in self.of.items():
            if name in self.PLAIN:
                ctx.plain[name] = value
            else:
                parts = value if isinstance(value, (list, tuple)) else [value]
                ctx.plain[name] = len(parts)
                tensors += parts
        ctx.save_for_backward(*tensors, *more)

    @classmethod
    def saved(cls, ctx: Any) -> tuple["_Arguments", list[Any]]:
        """What :meth:`save` kept: the arguments, and ``more``."""
        tensors, values = list(ctx.saved_tensors), []
        for name, plain in ctx.plain.items():
            if name in cls.PLAIN:
                values.append(plain)
                continue
            parts, tensors = tensors[:plain], tensors[plain:]
            values.append(parts if name in ("states", "weights") else parts[0])
        return cls(values), tensors

    def gradients(self, g: Sequence[Tensor | None]) -> list[Any]:
        """What the backward op returns, by argument; None where there is no gradient.

        Slices of stacked gradients: also takes gradients of those outputs.
        """
        x, vector_0, h_0, c_0, first, above, hh, b_ih, b_hh, combine, *attention = g
        states = [h_0, c_0][: len(self["states"])]
        weights: list[Tensor | None] = []
        for i in range(len(self["weights"]) // 4):
            ih = first if i == 0 else None if above is None else above[i - 1]
            weights += [ih, *(None if t is None else t[i] for t in (hh, b_ih, b_hh))]
        given = [self[name] is not None for name in self.DIFFERENTIABLE[3:]]
        memory, keys, query, v = (
            t if there else None for t, there in zip(attention, given, strict=True)
        )
        by_name = {
            "input": x,
            "vector_0": vector_0,
            "states": states,
            "weights": weights,
            "combine_weight": combine,
            "memory": memory,
            "keys": keys,
            "query_weight": query,
            "v": v,
        }
        return [by_name.get(name) for name in self.NAMES]

    def leaves(self) -> list[Tensor]:
        """The differentiable tensors, flat, in the order of :meth:`flat`."""
        return [t for t in self.flat(list(self.of.values())) if t is not None]

    @classmethod
    def flat(cls, values: Sequence[Any]) -> list[Any]:
        """One entry for each differentiable tensor of values by argument."""
        of = dict(zip(cls.NAMES, values, strict=True))
        return [of[n] for n in cls.DIFFERENTIABLE] + [*of["states"], *of["weights"]]

    def unflat(self, flat: Sequence[Any]) -> list[Any]:
        """:meth:`flat` undone; None for the arguments that are not differentiable."""
        values = dict(zip(self.DIFFERENTIABLE, flat, strict=False))
        rest = flat[len(self.DIFFERENTIABLE) :]
        states = len(self["states"])
        values |= {"states": list(rest[:states]), "weights": list(rest[states:])}
        return [values.get(name) for name in self.NAMES]


def _fake(*values: Any) -> tuple[Tensor, ...]:
    a, save = _Arguments(values[:-1]), values[-1]
    batch, steps, _ = a["input"].shape
    source = 0 if a["memory"] is None else a["memory"].size(1)
    new = a["input"].new_empty
    saved = new(batch if save else 0, steps, _row_size(a))
    return new(batch, steps, a["vector_0"].size(1)), new(batch, steps, source), saved


def _row_size(a: _Arguments) -> int:
    """What forward saves of a row and step: layers, query, context, vector."""
    hidden, layers = a["vector_0"].size(1), len(a["weights"]) // 4
    size = layers * (_SAVED[a["cell"]] + 1) * hidden + hidden
    if a["memory"] is not None:
        size += a["memory"].size(2)
    if a["v"] is not None:
        size += a["v"].size(0)
    return size


def _fake_backward(grad_output: Tensor, grad_alignment: Tensor | None, *values: Any) -> Any:
    a = _Arguments(values[:-2])
    weights, new = a["weights"], a["input"].new_empty
    layers, (rows, hidden) = len(weights) // 4, weights[1].shape
    cell_states = 1 if len(a["states"]) > 1 else 0
    attention = (a[name] for name in _Arguments.DIFFERENTIABLE[3:])
    empty = {"query_weight": (0, hidden)}
    return (
        new(a["input"].shape),
        new(a["vector_0"].shape),
        new(a["states"][0].shape),
        new(layers if cell_states else 0, *a["states"][0].shape[1:]),
        new(weights[0].shape),
        new(layers - 1, rows, hidden),
        new(layers, rows, hidden),
        new(layers, rows),
        new(layers, rows),
        new(a["combine_weight"].shape),
        *(
            new(empty.get(name, (0,))) if t is None else new(t.shape)
            for name, t in zip(_Arguments.DIFFERENTIABLE[3:], attention, strict=True)
        ),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    _Arguments(inputs[:-1]).save(ctx, *output)


def _backward(ctx: Any, grad_output: Tensor | None, grad_alignment: Tensor | None, _: Any) -> Any:
    a, (output, alignment, saved) = _Arguments.saved(ctx)
    if grad_output is None:
        grad_output = torch.zeros_like(output)
    gradients = torch.ops.seq2seq_ext.attentional_decoder_backward(
        grad_output, grad_alignment, *a.of.values(), alignment, saved
    )
    return *a.gradients(gradients), None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    _Arguments(inputs[2:-2]).save(ctx, *inputs[:2])


def _double_backward(ctx: Any, *grads: Tensor | None) -> Any:
    a, (grad_output, grad_alignment) = _Arguments.saved(ctx)
    present = [t is not None for t in a.flat(list(a.of.values()))]

    def forward(*leaves: Tensor) -> tuple[Tensor, ...]:
        given = iter(leaves)
        values = a.unflat([next(given) if there else None for there in present])
        differentiable = dict(zip(a.NAMES, values, strict=True))
        plain = {n: a[n] for n in a.NAMES if n not in a.DIFFERENTIABLE and n != "dtype"}
        outputs = reference.attentional_decoder(
            **{**plain, **{n: t for n, t in differentiable.items() if t is not None}}
        )
        return outputs[: 1 + (grad_alignment is not None)]

    grad_outputs = [g for g in (grad_output, grad_alignment) if g is not None]
    of_gradients = a.flat(a.gradients(grads))
    second = autograd.double_backward(
        forward,
        a.leaves(),
        grad_outputs,
        [g for g, there in zip(of_gradients, present, strict=True) if there],
    )
    given = iter(second)
    values = a.unflat([next(given) if there else None for there in present])
    of_outputs = list(given)
    return of_outputs[0], of_outputs[1] if len(of_outputs) > 1 else None, *values, None, None


register_fake(_OP, _fake)
register_fake(_BACKWARD, _fake_backward)
torch.library.register_autograd(_OP, _backward, setup_context=_save)
torch.library.register_autograd(_BACKWARD, _double_backward, setup_context=_save_backward)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast(_OP, _device, torch.float32)
