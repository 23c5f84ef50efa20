"""A tiny task for training tests: reverse a sequence. Also a script, to be killed or torchrun."""

import argparse
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
from seq2seq_ext.text.batching import Example
from seq2seq_ext.text.noise import Noise
from seq2seq_ext.training import Trainer, TrainingOptions, World

SYMBOLS = range(4, 10)


def examples(count: int, seed: int = 0) -> list[Example]:
    generator = random.Random(seed)
    sources = [generator.choices(SYMBOLS, k=generator.randint(0, 6)) for _ in range(count)]
    return [Example(source, [2, *reversed(source), 3]) for source in sources]


def make_trainer(folder: Path, *, world: World | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    model = Seq2Seq(
        Seq2SeqConfig(
            source_vocabulary_size=10,
            target_vocabulary_size=10,
            embedding_size=8,
            hidden_size=12,
            dropout=options.pop("dropout", 0.2),
        )
    )
    defaults: dict[str, Any] = {
        "steps": 20,
        "batch_size": 8,
        "final_batch_size": 12,
        "learning_rate": 1e-2,
        "validate_every": 8,
        "save_every": 3,
        "noise": Noise(unknown=0.1, swap=0.1),
    }
    return Trainer(
        model,
        examples(60),
        examples(20, seed=1),
        TrainingOptions(**{**defaults, **options}),
        folder=folder,
        save_model=lambda: torch.save(model.state_dict(), folder / "model.pt"),
        world=world,
        quiet=True,
    )


def kill_at_step(trainer: Trainer, step: int) -> None:
    """kill -9 in the middle of a step: the gradients are there, the update isn't."""

    def update(*_: Any) -> None:
        if trainer.state.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        original()

    original = trainer.optimizer.step
    trainer.optimizer.step = update  # type: ignore[method-assign, assignment]


def kill_while_writing(trainer: Trainer, step: int) -> None:
    """kill -9 when a checkpoint is written but hasn't taken its name."""

    def replace(source: str, target: str) -> None:
        if trainer.state.step >= step:
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    original = os.replace
    os.replace = replace  # type: ignore[assignment]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", choices=("step", "writing"))
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = World("cpu")
    trainer = make_trainer(
        arguments.folder, world=world, dropout=arguments.dropout, steps=arguments.steps
    )
    if arguments.kill == "step":
        kill_at_step(trainer, 13)
    if arguments.kill == "writing":
        kill_while_writing(trainer, 12)
    trainer.train()
    world.close()
    # A thread of gloo's that outlives the group may abort the process on its way out.
    threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    if any("gloo" in name for name in threads):
        sys.exit(f"threads after World.close: {threads}")


if __name__ == "__main__":
    main()
