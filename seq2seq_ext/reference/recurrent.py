"""The loop over time that every recurrent layer shares, in plain PyTorch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# step(x [B, I], state, weights of one direction) -> state; state[0] is h.
State = tuple[Tensor, ...]
Step = Callable[[Tensor, State, Sequence[Tensor]], State]


def recurrent_layer(
    step: Step,
    input: Tensor,
    initial: State,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
) -> tuple[Tensor, State]:
    """Runs ``step`` over time, in one direction or both.

    A row past its length keeps its state and gives zeros, so in reverse it starts, with its
    initial state, at its last real token.
    """
    steps, batch, _ = input.shape
    directions = initial[0].size(0)
    per_direction = len(weights) // directions
    if lengths is None:
        lengths = torch.full((batch,), steps)
    outputs, finals = [], []
    for d in range(directions):
        state = tuple(s[d] for s in initial)
        hidden: list[Tensor] = [input.new_zeros(batch, state[0].size(1))] * steps
        for t in reversed(range(steps)) if d == 1 else range(steps):
            running = (t < lengths).to(input.device).unsqueeze(1)
            real = torch.where(running, input[t], torch.zeros_like(input[t]))  # padding may be NaN
            new = step(real, state, weights[d * per_direction : (d + 1) * per_direction])
            state = tuple(torch.where(running, n, old) for n, old in zip(new, state, strict=True))
            hidden[t] = torch.where(running, state[0], torch.zeros_like(state[0]))
        outputs.append(
            torch.stack(hidden) if steps else input.new_zeros(0, batch, state[0].size(1))
        )
        finals.append(state)
    final = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
    return torch.cat(outputs, dim=2), final


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b."""
    product = x @ weight.t()
    return product if bias is None else product + bias
