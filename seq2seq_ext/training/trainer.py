"""The training loop."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from seq2seq_ext.text.batching import Batch, Example, LengthBuckets, collate
from seq2seq_ext.training.checkpoint import Checkpoint, CheckpointError
from seq2seq_ext.training.display import Display
from seq2seq_ext.training.distributed import World
from seq2seq_ext.training.interrupt import InterruptFlag, TrainingInterrupted
from seq2seq_ext.training.options import TrainingOptions
from seq2seq_ext.training.schedule import learning_rate
from seq2seq_ext.training.state import TrainingState


class Trainable(Protocol):
    """What the trainer asks of a model, which is an nn.Module besides."""

    def loss(
        self,
        source: Tensor,
        source_lengths: Tensor,
        target: Tensor,
        target_lengths: Tensor,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """The mean loss of the target tokens (BOS excepted)."""


class TrainingError(ValueError):
    """Training can't go on, such as when the loss is no number."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    steps: int
    epochs: float
    seconds: float
    best_loss: float
    best_step: int
    history: list[tuple[int, float, float]]


class Trainer:
    """Trains a model on encoded pairs, and can be killed at any moment.

    ``folder/checkpoint.pt`` holds everything to go on bit for bit: weights, optimizer, place in
    the epoch, early stopping and the random generators. Batch order and noise need no memory:
    they are functions of the seed, the epoch and the example.

    Args:
        model: a module with :meth:`Trainable.loss`, such as :class:`seq2seq_ext.Seq2Seq`.
        training: the examples to learn; noise is for sources of ids.
        validation: the examples that decide which weights are best; may be empty.
        options: see :class:`TrainingOptions`.
        folder: an existing folder for the checkpoint.
        save_model: called in the main process whenever the weights are the best so far, and at
            the end of a run without validation.
        identity: text that a checkpoint must repeat for a resumed run, besides the options.
        pad_id, unk_id: ids for padding and for dropped source tokens.
        world: the processes that train together.
        quiet: show nothing.
    """

    CHECKPOINT = "checkpoint.pt"

    def __init__(
        self,
        model: nn.Module,
        training: Sequence[Example],
        validation: Sequence[Example],
        options: TrainingOptions,
        *,
        folder: Path,
        save_model: Callable[[], None],
        identity: dict[str, str] | None = None,
        pad_id: int = 0,
        unk_id: int = 1,
        world: World | None = None,
        quiet: bool = False,
    ) -> None:
        if not training:
            raise ValueError("Trainer: training: expected at least one example, got none")
        if options.noise and any(isinstance(example.source, Tensor) for example in training):
            raise ValueError(
                f"Trainer: options: expected no noise on sources of features, got {options.noise}"
            )
        self.world = world or World("cpu")
        self.model = model.to(self.world.device)
        self.training, self.validation = training, validation
        self.options = options
        self.path = folder / self.CHECKPOINT
        self.save_model = save_model
        self.identity = {
            **options.fixed(),
            **(identity or {}),
            "processes": str(self.world.size),
        }
        self.pad_id, self.unk_id = pad_id, unk_id
        self.state = TrainingState()
        self.display = Display(silent=quiet or not self.world.is_main)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.buckets = _buckets(training, options)
        self._batches: list[list[int]] = []
        self._validation_batches = _buckets(validation, options).epoch(
            0, batch_size=options.batch_size
        )
        self.world.broadcast(model.parameters())
        torch.manual_seed(options.seed + self.world.rank)

    def resume(self) -> bool:
        """Goes back to where the checkpoint was written; False if there is none.

        Raises:
            CheckpointError: a damaged checkpoint, or one of another run.
        """
        if not self.path.exists():
            return False
        checkpoint = Checkpoint.load(self.path)
        checkpoint.check_identity(self.identity, self.path)
        try:
            self.model.load_state_dict(checkpoint.model)
            self.optimizer.load_state_dict(checkpoint.optimizer)
            self.state = TrainingState(**checkpoint.state)
            _set_random_state(checkpoint.random[self.world.rank])
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
            raise CheckpointError(f"{self.path}: doesn't fit this model: {error}") from None
        if self.state.epoch_batches:
            self._open_epoch(self.state.epoch_batch_size)
        return True

    def train(self) -> TrainingResult:
        """Runs to the end of the budget, or until validation stops improving.

        Raises:
            TrainingInterrupted: Ctrl-C or SIGTERM; a checkpoint is written first.
            TrainingError: the loss is no number.
            OSError: a file can't be written.
        """
        clock = _Clock(self.state.seconds)
        with InterruptFlag() as flag:
            try:
                while True:
                    self._validate_if_due()
                    if stop := self.world.max(flag.raised):
                        self._save_checkpoint()
                        raise TrainingInterrupted(
                            stop, f"interrupted at step {self.state.step}; {self.path} is written"
                        )
                    if self.state.finished(self.options):
                        break
                    self._step(clock)
                    if self.state.step % self.options.save_every == 0:
                        self._save_checkpoint()
            finally:
                self.display.close()
        self._save_checkpoint()
        if not self.validation and self.world.is_main:
            self.save_model()
        return self._result()

    def _step(self, clock: "_Clock") -> None:
        state, options = self.state, self.options
        if state.batch == 0:
            self._open_epoch(self._next_batch_size())
        rate = state.rate_scale * learning_rate(options, state.progress(options))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad()
        indices = self.world.share(self._batches[state.batch])
        loss, tokens = 0.0, 0
        if indices:
            batch = self._collate([self._noisy(index) for index in indices])
            mean = self._loss(batch, options.label_smoothing)
            mean.backward()  # type: ignore[no-untyped-call]
            loss, tokens = float(mean.detach()), batch.target_tokens
        self.world.average_gradients(self.model.parameters(), tokens)
        nn.utils.clip_grad_norm_(self.model.parameters(), options.clip_norm)
        loss, total, seconds = self.world.sum(
            loss * tokens, tokens, clock.seconds() if self.world.is_main else 0.0
        )
        loss /= total
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {state.step + 1}; try a smaller learning rate or "
                f"clip norm (the last checkpoint is from step {state.saved_step})"
            )
        self.optimizer.step()
        state.step, state.seconds = state.step + 1, seconds
        state.batch += 1
        if state.batch == len(self._batches):
            state.epoch, state.batch = state.epoch + 1, 0
        state.loss_sum += loss * total
        state.loss_tokens += total
        self.display.step(state.loss, total, rate)

    def _next_batch_size(self) -> int:
        first, last = self.options.batch_size, self.options.final_batch_size
        if last is None:
            return first
        return round(first * (last / first) ** self.state.progress(self.options))

    def _open_epoch(self, batch_size: int) -> None:
        state = self.state
        self._batches = self.buckets.epoch(state.epoch, batch_size=batch_size)
        state.epoch_batches, state.epoch_batch_size = len(self._batches), batch_size
        self.display.open_epoch(state.epoch, len(self._batches), state.batch)

    def _noisy(self, index: int) -> Example:
        example = self.training[index]
        if isinstance(example.source, Tensor):
            return example
        key = f"{self.options.seed}/{self.state.epoch}/{index}"
        source = self.options.noise(example.source, unk_id=self.unk_id, key=key)
        return Example(source, example.target)

    def _collate(self, examples: Sequence[Example]) -> Batch:
        return collate(examples, self.pad_id).to(self.world.device)

    def _loss(self, batch: Batch, label_smoothing: float) -> Tensor:
        return cast(Trainable, self.model).loss(
            batch.source,
            batch.source_lengths,
            batch.target,
            batch.target_lengths,
            label_smoothing=label_smoothing,
        )

    def _validate_if_due(self) -> None:
        if not self.validation or not self.state.validation_due(self.options):
            return
        loss = self.validation_loss()
        best = self.state.record(loss, self.options)
        self.display.validation(self.state.epochs, self.state.history[-1], best)
        if best and self.world.is_main:
            self.save_model()
        self._save_checkpoint()

    @torch.no_grad()
    def validation_loss(self) -> float:
        """The mean loss of the validation examples, without label smoothing."""
        self.model.eval()
        loss, tokens = 0.0, 0
        for batch_indices in self._validation_batches:
            if indices := self.world.share(batch_indices):
                batch = self._collate([self.validation[index] for index in indices])
                loss += float(self._loss(batch, 0.0)) * batch.target_tokens
                tokens += batch.target_tokens
        loss, total = self.world.sum(loss, tokens)
        return loss / total

    def _save_checkpoint(self) -> None:
        self.state.saved_step = self.state.step
        random = self.world.gather(_random_state())
        if self.world.is_main:
            Checkpoint(
                model=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                state=self.state.to_dict(),
                random=random,
                identity=self.identity,
            ).save(self.path)

    def _result(self) -> TrainingResult:
        state = self.state
        return TrainingResult(
            state.step, state.epochs, state.seconds, state.best_loss, state.best_step, state.history
        )


class _Clock:
    """Seconds of training, earlier runs included."""

    def __init__(self, before: float) -> None:
        self._start = time.perf_counter() - before

    def seconds(self) -> float:
        return time.perf_counter() - self._start


def _buckets(examples: Sequence[Example], options: TrainingOptions) -> LengthBuckets:
    lengths = [(len(example.source), len(example.target)) for example in examples]
    return LengthBuckets(lengths, unit=options.batch_unit, seed=options.seed)


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
