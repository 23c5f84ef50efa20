"""What a training run can be told."""

from dataclasses import dataclass, field, fields
from typing import Any

from seq2seq_ext.decoding.check import MAX_INT, check_choice, check_int, check_number
from seq2seq_ext.text.batching import BATCH_UNITS
from seq2seq_ext.text.noise import Noise

SCHEDULES = ("cosine", "inverse_sqrt", "constant")

# These only say how far a run goes and what it writes; a resumed run may change them.
MAY_CHANGE_ON_RESUME = frozenset({"epochs", "steps", "minutes", "patience", "save_every"})

_INTS = {
    "epochs": 1,
    "steps": 1,
    "batch_size": 1,
    "final_batch_size": 1,
    "plateau_patience": 0,
    "patience": 0,
    "validate_every": 0,
    "save_every": 1,
    "seed": 0,
}
_LEAST, _MOST = 1e-12, 1e12  # of what must be above 0, and of what no run comes near
_NUMBERS = {
    "minutes": (_LEAST, _MOST),
    "learning_rate": (_LEAST, _MOST),
    "warmup": (0.0, 1.0),
    "final_rate": (0.0, 1.0),
    "plateau_factor": (_LEAST, _MOST),
    "weight_decay": (0.0, _MOST),
    "clip_norm": (_LEAST, _MOST),
    "label_smoothing": (0.0, 1.0 - 1e-6),
}
_OPTIONAL = ("epochs", "steps", "minutes", "final_batch_size")


def _option(default: Any, help: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, **metadata})


@dataclass(frozen=True)
class TrainingOptions:
    """How to train: the command line's options of the same names are made from these fields.

    A run ends at the first of ``epochs``, ``steps`` and ``minutes`` that is reached; the
    learning-rate schedule spans exactly that budget. A run whose budget is given in minutes
    depends on the machine's speed; the others are reproducible to the bit.

    Raises:
        ValueError, TypeError: a wrong value, named in the message.

    Example:
        >>> TrainingOptions(steps=100).learning_rate
        0.002
    """

    epochs: int | None = _option(None, "end after this many passes (20 if no end is given)")
    steps: int | None = _option(None, "end after this many steps")
    minutes: float | None = _option(None, "end after this much time")
    batch_size: int = _option(128, "the most that a batch holds, over all processes")
    final_batch_size: int | None = _option(None, "grow the batches to this size along the run")
    batch_unit: str = _option("sentences", "what a batch size counts", choices=BATCH_UNITS)
    learning_rate: float = _option(2e-3, "Adam's highest learning rate")
    schedule: str = _option("cosine", "the learning rate after the warm-up", choices=SCHEDULES)
    warmup: float = _option(0.05, "share of the run in which the learning rate rises")
    final_rate: float = _option(0.01, "share of the learning rate at the end (cosine)")
    plateau_patience: int = _option(0, "scale the rate after so many validations without gain")
    plateau_factor: float = _option(0.5, "what a plateau scales the learning rate by")
    weight_decay: float = _option(0.0, "decoupled weight decay")
    clip_norm: float = _option(1.0, "clip the gradient to this norm")
    label_smoothing: float = _option(0.0, "share of the target spread over all tokens")
    patience: int = _option(0, "end after so many validations without gain (0: never)")
    validate_every: int = _option(0, "steps between validations (0: once an epoch)")
    save_every: int = _option(500, "steps between checkpoints (one follows each validation too)")
    seed: int = _option(0, "seed of everything random")
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None and self.minutes is None:
            object.__setattr__(self, "epochs", 20)
        where = type(self).__name__
        for name, low in _INTS.items():
            if (value := getattr(self, name)) is not None or name not in _OPTIONAL:
                check_int(where, name, value, low, 2**63 - 1 if name == "seed" else MAX_INT)
        for name, (lowest, highest) in _NUMBERS.items():
            if (number := getattr(self, name)) is not None or name not in _OPTIONAL:
                check_number(where, name, number, lowest, highest)
        check_choice(where, "schedule", self.schedule, SCHEDULES)
        check_choice(where, "batch_unit", self.batch_unit, BATCH_UNITS)
        if not isinstance(self.noise, Noise):
            raise TypeError(f"{where}: noise: expected Noise, got {self.noise!r}")

    def fixed(self) -> dict[str, str]:
        """The options that a resumed run must repeat, as text."""
        names = (option.name for option in fields(self))
        return {n: repr(getattr(self, n)) for n in names if n not in MAY_CHANGE_ON_RESUME}
