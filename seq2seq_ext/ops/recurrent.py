"""What the lstm, gru and rnn ops share: tracing, autograd and autocast of one layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext.ops import autograd
from seq2seq_ext.ops.tracing import register_fake

Weights = Sequence[Tensor]


def tensor_list(op: str, name: str, tensors: Any) -> list[Tensor]:
    """Any iterable as ops take it."""
    try:
        return list(tensors)
    except TypeError:
        got = type(tensors).__name__
        raise TypeError(f"{op}: {name}: expected a sequence of tensors, got {got}") from None


def run_layer(
    name: str,
    input: Tensor,
    lengths: Tensor | None,
    states: Sequence[Tensor],
    weights: Any,
    has_biases: bool,
    *extras: Any,
    packed: Tensor | None,
) -> tuple[Tensor, ...]:
    """The op of that name, its products in the type that autocast wants: output, final states."""
    op = getattr(torch.ops.seq2seq_ext, name)
    weights = tensor_list(name, "weights", weights)
    save = autograd.needs_grad(input, *states, *weights)
    if save and getattr(packed, "dtype", None) in (torch.bfloat16, torch.int8):
        raise ValueError(
            f"{name}: packed: expected {input.dtype} where gradients are wanted, got {packed.dtype}"  # type: ignore[union-attr]
        )
    are_tensors = all(isinstance(t, Tensor) for t in (input, *states, *weights))  # else op refuses
    rounds = packed is None and are_tensors and input.is_cpu
    dtype = autograd.product_dtype(input) if rounds else None
    if dtype is None:
        call = (input, lengths, *states, weights, has_biases, *extras, packed, save)
        plain: tuple[Tensor, ...] = autograd.call_packed(op, packed, *call)
        return plain[:-1]
    with torch.autocast("cpu", enabled=False):
        input, *states = (autograd.widened(t) for t in (input, *states))
        weights = autograd.widened(weights)
        pack = getattr(torch.ops.seq2seq_ext, f"{name}_pack")
        packed = pack([w.detach() for w in weights], has_biases, dtype)
        rounded: tuple[Tensor, ...] = op(
            input, lengths, *states, weights, has_biases, *extras, packed, save
        )
    return rounded[:-1]


@dataclass(frozen=True)
class LayerOp:
    """One layer op and its backward, as ``csrc/ops/library.cpp`` declares them::

    name(input, lengths, *states, weights, has_biases, *extras, packed, save)
        -> (output, *final_states, saved)
    name_backward(grad_output, *grad_final_states, input, lengths, *states, weights,
                  has_biases, *extras, output, saved, dtype, wanted)
        -> (input, *states, weight_ih, weight_hh, *biases, [weight_hr])
    name_pack(weights, has_biases, dtype) -> packed
    """

    name: str
    reference: Callable[..., Any]
    gates: int
    saved: int  # values a unit saves for backward
    states: int = 1  # h_0, or h_0 and c_0
    extras: tuple[str, ...] = ()  # the reference's keyword for each extra argument
    biases: int = 1  # gradients of biases: 2 if bias_ih's and bias_hh's differ
    projects: bool = False  # weight_hr may be among the weights

    def register(self) -> None:
        op, backward = f"seq2seq_ext::{self.name}", f"seq2seq_ext::{self.name}_backward"
        register_fake(op, self._fake)
        register_fake(backward, self._fake_backward)
        register_fake(f"{op}_pack", self._fake_pack)
        torch.library.register_autograd(op, self._backward, setup_context=self._save)
        torch.library.register_autograd(
            backward, self._double_backward, setup_context=self._save_double
        )
        for device in ("cpu", "cuda"):
            torch.library.register_autocast(op, device, torch.float32)

    def _per_direction(self, weights: Weights, has_biases: bool) -> int:
        plain = 4 if has_biases else 2
        return plain + (self.projects and len(weights) in (plain + 1, 2 * (plain + 1)))

    def _fake(self, input: Tensor, lengths: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
        *states, weights, _ = rest[: self.states + 2]
        save = rest[-1]
        steps, batch, _ = input.shape
        directions, _, output_size = states[0].shape
        hidden_size = weights[0].size(0) // self.gates
        return (
            input.new_empty(steps, batch, directions * output_size),
            *(input.new_empty(s.shape) for s in states),
            input.new_empty(directions, steps * batch if save else 0, self.saved * hidden_size),
        )

    def _fake_backward(self, *args: Any) -> tuple[Tensor, ...]:
        input, _, *rest = args[1 + self.states :]
        states, weights, has_biases = rest[: self.states], *rest[self.states : self.states + 2]
        directions, gate_rows = states[0].size(0), weights[0].size(0)
        gradients = [input, *states]
        shapes: list[Sequence[int]] = [t.shape for t in gradients]
        wants_input, wants_weights = args[-1]
        if not wants_input:
            shapes[0] = (0,)
        if not wants_weights:
            directions = 0
        shapes += [(directions, *w.shape) for w in weights[:2]]
        shapes += [(directions if has_biases else 0, gate_rows)] * self.biases
        if self.projects:
            projected = self._per_direction(weights, has_biases) % 2
            shapes.append((directions * projected, states[0].size(2), gate_rows // self.gates))
        return tuple(input.new_empty(shape) for shape in shapes)

    def _fake_pack(self, weights: Weights, has_biases: bool, dtype: torch.dtype | None) -> Tensor:
        stored = dtype or weights[0].dtype
        step = self._per_direction(weights, has_biases)
        # A weight's shape is fixed where it is traced: int() guards on it.
        gate_rows, input_size = (int(n) for n in weights[0].shape)
        sizes = [input_size, gate_rows // self.gates, int(weights[1].size(1))]
        size = torch.ops.seq2seq_ext.layer_packed_size(self.name, sizes, step % 2 == 1, stored)
        return weights[0].new_empty(len(weights) // step, size, dtype=stored)

    def _save(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)  # zeros like `saved` would be the largest tensor of all
        input, lengths, *rest = inputs
        *states, weights, has_biases = rest[: self.states + 2]
        ctx.has_biases, ctx.extras = has_biases, rest[self.states + 2 : -2]
        ctx.dtype = None if rest[-2] is None else rest[-2].dtype
        ctx.save_for_backward(input, lengths, *states, output[0], output[-1], *weights)

    def _backward(self, ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        input, lengths, *rest = ctx.saved_tensors
        states, (output, saved, *weights) = rest[: self.states], rest[self.states :]
        backward = getattr(torch.ops.seq2seq_ext, f"{self.name}_backward")
        of_weights = ctx.needs_input_grad[2 + self.states]
        wanted = [ctx.needs_input_grad[0], any(of_weights)]
        outputs = (output, *states)  # final states are like the initial ones
        gradients = backward(
            *(
                torch.zeros_like(o) if g is None else g
                for g, o in zip(grads, outputs, strict=False)
            ),
            input,
            lengths,
            *states,
            weights,
            ctx.has_biases,
            *ctx.extras,
            output,
            saved,
            ctx.dtype,
            wanted,
        )
        grad_input, grad_states, grad_weights = self._by_argument(
            gradients, weights, ctx.has_biases, wanted
        )
        nothing = (None,) * (3 + len(ctx.extras))
        return grad_input, None, *grad_states, grad_weights, *nothing

    def _by_argument(
        self,
        gradients: Sequence[Tensor],
        weights: Weights,
        has_biases: bool,
        wanted: Sequence[bool],
    ) -> tuple[Tensor | None, Sequence[Tensor], list[Tensor | None]]:
        """What backward returns, for input, states and weights; None where it wasn't wanted."""
        n = 1 + self.states
        by_weight: list[Tensor | None] = [None] * len(weights)
        if wanted[1]:
            by_weight = [*self._by_weight(gradients[n:], weights, has_biases)]
        return gradients[0] if wanted[0] else None, gradients[1:n], by_weight

    def _by_weight(
        self, gradients: Sequence[Tensor], weights: Weights, has_biases: bool
    ) -> list[Tensor]:
        """Gradients stacked by direction, in the order of ``weights``."""
        weight_ih, weight_hh, bias_ih, *rest = gradients
        bias_hh = rest[0] if self.biases == 2 else bias_ih
        flat: list[Tensor] = []
        step = self._per_direction(weights, has_biases)
        for d in range(len(weights) // step):
            flat += [weight_ih[d], weight_hh[d]]
            if has_biases:
                flat += [bias_ih[d], bias_hh[d]]
            if step % 2:
                flat.append(rest[-1][d])
        return flat

    def _save_double(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = inputs[: 3 + 2 * self.states]
        weights, ctx.has_biases, *extras = inputs[3 + 2 * self.states : -4]
        ctx.extras, ctx.wanted = extras, inputs[-1]
        ctx.save_for_backward(*tensors, *weights)

    def _double_backward(self, ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        n = self.states
        grad_outputs, input = ctx.saved_tensors[: 1 + n], ctx.saved_tensors[1 + n]
        lengths, *rest = ctx.saved_tensors[2 + n :]
        states, weights = rest[:n], rest[n:]
        keywords = dict(zip(self.extras, ctx.extras, strict=True))

        def forward(input: Tensor, *tensors: Tensor) -> Any:
            return self.reference(
                input,
                *tensors[:n],
                tensors[n:],
                lengths=lengths,
                has_biases=ctx.has_biases,
                **keywords,
            )

        of_input, of_states, by_weight = self._by_argument(
            grads, weights, ctx.has_biases, ctx.wanted
        )
        if self.biases == 1 and ctx.has_biases:
            # One gradient stands for both biases: count it once.
            step = self._per_direction(weights, True)
            by_weight[3::step] = [None] * len(by_weight[3::step])
        second = autograd.double_backward(
            forward, (input, *states, *weights), grad_outputs, (of_input, *of_states, *by_weight)
        )
        d_input, d_states = second[0], second[1 : 1 + n]
        d_weights, d_grads = second[1 + n : -1 - n], second[-1 - n :]
        nothing = (None,) * (5 + len(ctx.extras))
        return *d_grads, d_input, None, *d_states, d_weights, *nothing
