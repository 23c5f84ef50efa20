"""The training loop: learning, stopping, going on after a kill, several processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from copy_task import make_trainer
from torch import Tensor

from seq2seq_ext.training import (
    Checkpoint,
    CheckpointError,
    Trainer,
    TrainingError,
    TrainingInterrupted,
    TrainingOptions,
    learning_rate,
)
from seq2seq_ext.training.state import TrainingState

JOB = Path(__file__).with_name("copy_task.py")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    root = JOB.parent.parent
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _weights(folder: Path) -> dict[str, Tensor]:
    return Checkpoint.load(folder / Trainer.CHECKPOINT).model


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    make_trainer(folder).train()
    return folder


@pytest.mark.parametrize("moment", ["step", "writing"])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, straight: Path, moment: str) -> None:
    killed = _run(JOB, tmp_path, "--kill", moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = Checkpoint.load(tmp_path / Trainer.CHECKPOINT)
    assert left.state["step"] == (12 if moment == "step" else 9)
    trainer = make_trainer(tmp_path)
    torch.rand(7)  # what the process did before must not matter
    assert trainer.resume()
    trainer.train()
    expected, got = _weights(straight), _weights(tmp_path)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    before, after = (
        Checkpoint.load(folder / Trainer.CHECKPOINT).state for folder in (straight, tmp_path)
    )
    assert {**before, "seconds": 0} == {**after, "seconds": 0}
    best = [torch.load(folder / "model.pt") for folder in (straight, tmp_path)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def test_ctrl_c_saves_and_goes_on(tmp_path: Path, straight: Path) -> None:
    trainer = make_trainer(tmp_path)
    update = trainer.optimizer.step

    def interrupted(*_: Any) -> None:
        if trainer.state.step == 10:
            signal.raise_signal(signal.SIGINT)
        update()

    trainer.optimizer.step = interrupted  # type: ignore[method-assign, assignment]
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match="interrupted at step 11") as caught:
        trainer.train()
    assert caught.value.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is handler
    again = make_trainer(tmp_path)
    assert again.resume() and again.state.step == 11
    again.train()
    expected, got = _weights(straight), _weights(tmp_path)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    make_trainer(tmp_path / "one", dropout=0.0, steps=1).train()
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = _run(*launcher, JOB, tmp_path / "two", "--dropout", "0", "--steps", "1")
    assert done.returncode == 0, done.stderr
    one, two = (Checkpoint.load(tmp_path / n / Trainer.CHECKPOINT) for n in ("one", "two"))
    assert len(one.random) == 1 and len(two.random) == 2
    for name, expected in one.optimizer["state"].items():
        # Adam's first mean is a tenth of the first gradient, clipped.
        torch.testing.assert_close(
            two.optimizer["state"][name]["exp_avg"], expected["exp_avg"], atol=1e-7, rtol=1e-5
        )
    assert two.state["history"] == [pytest.approx(entry) for entry in one.state["history"]]


def test_training_learns(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=150, batch_size=20, final_batch_size=None, dropout=0.0)
    before = trainer.validation_loss()
    result = trainer.train()
    assert result.steps == 150 and result.epochs == 50
    assert result.best_loss < 0.6 * before
    assert result.history[-1][1] < result.history[0][1]


def test_early_stopping(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=1000, patience=2, validate_every=1)
    trainer.validation_loss = lambda: 1.0  # type: ignore[method-assign]
    result = trainer.train()
    assert (result.steps, result.best_step) == (3, 1)


def test_a_run_without_validation_saves_its_end(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=3)
    trainer.validation = []
    trainer.train()
    saved = torch.load(tmp_path / "model.pt")
    assert all(torch.equal(saved[name], w) for name, w in trainer.model.state_dict().items())


def test_minutes_end_a_run(tmp_path: Path) -> None:
    result = make_trainer(tmp_path, steps=None, minutes=0.01).train()
    assert result.steps > 1 and 0.6 <= result.seconds < 30


def test_resume_refuses_another_run(tmp_path: Path, straight: Path) -> None:
    checkpoint = straight / Trainer.CHECKPOINT
    (tmp_path / Trainer.CHECKPOINT).write_bytes(checkpoint.read_bytes())
    with pytest.raises(CheckpointError, match="written with batch_size = 8, now batch_size = 9"):
        make_trainer(tmp_path, batch_size=9).resume()
    assert not make_trainer(tmp_path / "nowhere").resume()


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other"])
def test_damaged_checkpoints(tmp_path: Path, straight: Path, damage: str) -> None:
    path = tmp_path / Trainer.CHECKPOINT
    whole = (straight / Trainer.CHECKPOINT).read_bytes()
    if damage == "other":
        torch.save({"weights": torch.zeros(1)}, path)
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no"}[damage])
    with pytest.raises(CheckpointError, match="not a checkpoint of seq2seq_ext, or damaged"):
        make_trainer(tmp_path).resume()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    torch.nn.init.constant_(next(trainer.model.parameters()), float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
        trainer.train()
    assert not (tmp_path / Trainer.CHECKPOINT).exists()


@pytest.mark.parametrize(
    "schedule, expected",
    [
        pytest.param("cosine", [0.5, 1.0, 0.505, 0.01], id="cosine"),
        pytest.param("inverse_sqrt", [0.5, 1.0, 0.6030, 0.4472], id="inverse_sqrt"),
        pytest.param("constant", [0.5, 1.0, 1.0, 1.0], id="constant"),
    ],
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    options = TrainingOptions(learning_rate=1.0, warmup=0.2, schedule=schedule)
    rates = [learning_rate(options, progress) for progress in (0.1, 0.2, 0.6 - 0.05, 1.0)]
    if schedule == "cosine":
        rates[2] = learning_rate(options, 0.6)
    assert rates == pytest.approx(expected, abs=1e-4)
    assert learning_rate(options, 0.0) > 0


def test_plateaus_scale_the_rate() -> None:
    options, state = TrainingOptions(plateau_patience=2, plateau_factor=0.1), TrainingState()
    for loss in (1.0, 1.1, 0.9, 1.0, 1.0, 1.0, 1.0):
        state.record(loss, options)
    assert state.rate_scale == pytest.approx(0.01)
    assert state.stale == 4 and state.best_loss == 0.9


@pytest.mark.parametrize(
    "option, value",
    [
        ("batch_size", 0),
        ("epochs", 0),
        ("minutes", -1.0),
        ("learning_rate", float("nan")),
        ("learning_rate", -1.0),
        ("warmup", 1.5),
        ("label_smoothing", 1.0),
        ("schedule", "linear"),
        ("patience", -1),
    ],
)
def test_wrong_options(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"TrainingOptions: {option}: expected .* got"):
        TrainingOptions(**{option: value})
