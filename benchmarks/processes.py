"""Benchmarks in new processes; a module of its own, as those don't import ``__main__``."""

import importlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import aims, rivals
from benchmarks.harness import Comparison


def measure(name: str, rows: Sequence[int] | None) -> Iterator[tuple[Comparison, dict[str, str]]]:
    """A benchmark's comparisons, told as they come, each with the rivals that are absent so far."""
    run = importlib.import_module(f"benchmarks.{name}").run
    for comparison in run(rows) if rows else run():
        aims.add(comparison)
        print("\n".join(comparison.lines()), flush=True)
        yield comparison, rivals.absent


def alone(work: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
    """What ``work`` yields in a new process.

    Raises:
        SystemExit: it failed, after what came.
    """
    processes = multiprocessing.get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_send, args=(sender, work, *arguments))
    process.start()
    sender.close()
    try:
        while True:
            yield receiver.recv()
    except EOFError:
        process.join()
    if process.exitcode:
        raise SystemExit(f"{arguments[0]}: its process ended with {process.exitcode}")


def _send(sender: Connection, work: Callable[..., Iterator[Any]], *arguments: Any) -> None:
    for each in work(*arguments):
        sender.send(each)
