"""Where a training run stands."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from seq2seq_ext.training.options import TrainingOptions


@dataclass
class TrainingState:
    """Everything a run must remember besides weights, optimizer and random generators."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # the next batch of this epoch
    epoch_batches: int = 0  # how many this epoch has; 0 before its first
    epoch_batch_size: int = 0
    seconds: float = 0.0
    rate_scale: float = 1.0  # what plateaus left of the learning rate
    validated_step: int = 0
    saved_step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    stale: int = 0  # validations since the best one
    plateau: int = 0  # the same, since the last cut of the learning rate
    loss_sum: float = 0.0  # of the target tokens since the last validation
    loss_tokens: float = 0.0
    history: list[tuple[int, float, float]] = field(default_factory=list)
    """(step, training loss, validation loss) of each validation."""

    @property
    def loss(self) -> float:
        """The mean training loss since the last validation."""
        return self.loss_sum / max(self.loss_tokens, 1.0)

    @property
    def epochs(self) -> float:
        """Passes over the corpus, with the part of the present one."""
        return self.epoch + self.batch / max(self.epoch_batches, 1)

    def progress(self, options: TrainingOptions) -> float:
        """The share of the run's budget that is used up, 0..1."""
        shares = (
            self.epochs / options.epochs if options.epochs else 0.0,
            self.step / options.steps if options.steps else 0.0,
            self.seconds / (60 * options.minutes) if options.minutes else 0.0,
        )
        return min(max(shares), 1.0)

    def finished(self, options: TrainingOptions) -> bool:
        out_of_patience = 0 < options.patience <= self.stale
        return out_of_patience or self.progress(options) >= 1.0

    def validation_due(self, options: TrainingOptions) -> bool:
        if self.step == self.validated_step:
            return False
        if self.progress(options) >= 1.0:
            return True
        if options.validate_every:
            return self.step % options.validate_every == 0
        return self.batch == 0

    def record(self, validation_loss: float, options: TrainingOptions) -> bool:
        """Takes note of a validation; returns whether it is the best so far."""
        self.validated_step = self.step
        self.history.append((self.step, self.loss, validation_loss))
        self.loss_sum = self.loss_tokens = 0.0
        if validation_loss < self.best_loss:
            self.best_loss, self.best_step = validation_loss, self.step
            self.stale = self.plateau = 0
            return True
        self.stale += 1
        self.plateau += 1
        if 0 < options.plateau_patience <= self.plateau:
            self.rate_scale *= options.plateau_factor
            self.plateau = 0
        return False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
