"""Noise on source tokens, so that a model does not lean on any single one."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from seq2seq_ext.decoding.check import check_number


@dataclass(frozen=True)
class Noise:
    """Probabilities, per source token, of each kind of damage.

    Raises:
        ValueError, TypeError: a probability outside 0..1, or none.

    Example:
        >>> noise = Noise(swap=0.5, delete=0.1)
        >>> noise([5, 6, 7, 8], unk_id=1, key="seed 0, epoch 3, example 17")
        [6, 5, 7, 8]
    """

    unknown: float = field(default=0.0, metadata={"help": "replace a source token by <unk>"})
    delete: float = field(default=0.0, metadata={"help": "leave a source token out"})
    swap: float = field(default=0.0, metadata={"help": "swap a source token with the next one"})
    duplicate: float = field(default=0.0, metadata={"help": "write a source token twice"})

    def __post_init__(self) -> None:
        for option in fields(self):
            check_number("Noise", option.name, getattr(self, option.name), 0.0, 1.0)

    def __bool__(self) -> bool:
        return any(getattr(self, option.name) > 0 for option in fields(self))

    def __call__(self, tokens: Sequence[int], *, unk_id: int, key: str) -> list[int]:
        """The damaged tokens, a function of the arguments alone.

        Args:
            tokens: the token ids of one source; at least one of them is kept.
            unk_id: the id that stands for a dropped token.
            key: seeds the damage; name the seed, the epoch and the example in it.
        """
        if not self or not tokens:
            return list(tokens)
        generator = random.Random(key)
        result: list[int] = []
        position = 0
        while position < len(tokens):
            here = [tokens[position]]
            position += 1
            if position < len(tokens) and generator.random() < self.swap:
                here.insert(0, tokens[position])
                position += 1
            for token in here:
                if generator.random() < self.delete:
                    continue
                token = unk_id if generator.random() < self.unknown else token
                result += [token, token] if generator.random() < self.duplicate else [token]
        return result or [generator.choice(tokens)]
