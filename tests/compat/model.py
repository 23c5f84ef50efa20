"""A small random language model that every peer can run, CTranslate2 among them."""

import numpy as np
import torch
from torch import Tensor

BOS, PAD, EOS, UNK = 0, 1, 2, 3


class RandomModel:
    """A decoder of one attention layer that looks at all of the prefix alike.

    With x_t = E[token t] + P[t], the logits behind t tokens are
    W (x_t + mean of A layer_norm(x_1 .. x_t)) + b: a Transformer decoder whose queries are
    zero. So the state is a sum and a length, and a wrong parent or order changes what follows.

    Sentences differ in their first token, which stands where BOS does. The weights come from
    numpy's RandomState, whose numbers never change.
    """

    SIZE, POSITIONS, SOURCE = 8, 40, 4

    def __init__(self, *, vocab: int, seed: int, spread: float, eos_bias: float) -> None:
        draw = np.random.RandomState(seed).standard_normal
        self.embedding = draw((vocab, self.SIZE))
        self.positions = draw((self.POSITIONS, self.SIZE))
        self.values = draw((self.SIZE, self.SIZE))
        self.output = draw((vocab, self.SIZE)) * spread / self.SIZE**0.5
        self.bias = np.zeros(vocab)
        self.bias[EOS] = eos_bias
        self.keys = draw((self.SIZE, self.SOURCE))
        self.vocab = vocab

    def state(self, sentences: list[int], rows_each: int) -> dict[str, Tensor]:
        first = torch.tensor(sentences).repeat_interleave(rows_each)
        total = torch.zeros(len(first), self.SIZE, dtype=torch.float64)
        return {"first": first, "total": total, "length": torch.zeros_like(first)}

    def step(self, tokens: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Feeds ``tokens [N]``: float64 logits ``[N, V]`` and the state behind them."""
        first, length = state["first"], state["length"]
        tokens = tokens.where(length > 0, first)
        embedding, positions, values, output, bias = map(
            torch.from_numpy,
            (self.embedding, self.positions, self.values, self.output, self.bias),
        )
        x = embedding[tokens] + positions[length]
        total = state["total"] + torch.layer_norm(x, [self.SIZE]) @ values.T
        length = length + 1
        logits = (x + total / length[:, None]) @ output.T + bias
        return logits, {"first": first, "total": total, "length": length}

    def attention(self, state: dict[str, Tensor]) -> Tensor:
        """``[N, SOURCE]``: where the step that led to ``state`` looked."""
        mean = state["total"] / state["length"][:, None]
        return (mean @ torch.from_numpy(self.keys) / self.SIZE**0.5).softmax(1)

    def log_probs(self, prefixes: Tensor, sentences: Tensor) -> Tensor:
        """Of what follows ``prefixes [N, t]``, the token in BOS' place included; float64."""
        state = self.state(sentences.tolist(), 1)
        for tokens in prefixes.unbind(1):
            logits, state = self.step(tokens, state)
        return logits.log_softmax(1)
