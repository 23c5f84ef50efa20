"""A language model whose next logits depend on the whole prefix, through its state alone."""

import itertools
import math

import torch
from torch import Tensor

from seq2seq_ext.decoding import BeamSearchOptions, Hypothesis

BOS, EOS, PAD = 1, 0, 0


class PrefixModel:
    """Logits are a random table at a hash of sentence and prefix; the state is the hash.

    A wrong parent, a wrong token or a wrong order of the state changes all that follows.
    """

    SIZE = 4093

    def __init__(self, vocab: int, seed: int, *, dtype=torch.float64, spread=2.0):
        shape, generator = (self.SIZE, vocab), torch.Generator().manual_seed(seed)
        table = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu") * spread
        self.logits = table.to(torch.get_default_device(), dtype)
        self.vocab = vocab
        self._rows: dict[int, list[float]] = {}

    def round_logits(self) -> "PrefixModel":
        """Few different logits, so that many candidates tie."""
        self.logits = self.logits.round()
        return self

    def state(self, sentences: list[int], rows_each: int) -> dict[str, list[Tensor]]:
        """Nested, to be reordered as a whole."""
        seeds = torch.tensor(sentences).repeat_interleave(rows_each)
        return {"hash": [seeds * 7919 % self.SIZE], "length": (torch.zeros_like(seeds)[:, None],)}

    def step(self, tokens: Tensor, state):
        code = (state["hash"][0] * 31 + tokens + 17 + state["length"][0][:, 0]) % self.SIZE
        return self.logits[code], {"hash": [code], "length": (state["length"][0] + 1,)}

    def log_prob(self, sentence: int, tokens: list[int]) -> float:
        """Teacher forcing, in float64."""
        total, code = 0.0, sentence * 7919 % self.SIZE
        for t, (fed, token) in enumerate(zip([BOS, *tokens], tokens, strict=False)):
            code = (code * 31 + fed + 17 + t) % self.SIZE
            total += self._log_softmax(code)[token]
        return total

    def _log_softmax(self, code: int) -> list[float]:
        if code not in self._rows:
            row = self.logits[code].double()
            self._rows[code] = (row - row.logsumexp(0)).tolist()
        return self._rows[code]

    def brute_force(self, sentence: int, options: BeamSearchOptions) -> list[Hypothesis]:
        """Every sequence there is, best first."""
        others = [token for token in range(self.vocab) if token != EOS]
        found = []
        for length in range(1, options.max_length + 1):
            for prefix in itertools.product(others, repeat=length - 1):
                cut = others if length == options.max_length else []
                ends = [EOS] if length >= options.min_length else []
                for last in [*ends, *cut]:
                    tokens = [*prefix, last]
                    log_prob = self.log_prob(sentence, tokens)
                    reason = "eos" if last == EOS else "max_length"
                    score = log_prob / normaliser(options, length)
                    found.append(Hypothesis(tokens, score, log_prob, [], reason))
        return sorted(found, key=lambda hypothesis: -hypothesis.score)


def normaliser(options: BeamSearchOptions, length: int) -> float:
    """Written once more, from the formulas."""
    if options.length_penalty == "power":
        return math.exp(options.alpha * math.log(length))
    if options.length_penalty == "gnmt":
        return ((5 + length) / 6) ** options.alpha
    return 1.0


PENALTIES = [
    ("none", 1.0),
    ("power", 0.7),
    ("power", 1.0),
    ("power", -0.6),
    ("gnmt", 0.8),
    ("gnmt", -1.2),
    ("power", 0.0),
]


def make_options(**fields) -> BeamSearchOptions:
    return BeamSearchOptions(**{"bos_id": BOS, "eos_id": EOS, "pad_id": PAD, **fields})
