"""Signals that end a run between two steps instead of inside one."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class TrainingInterrupted(Exception):  # noqa: N818, named like KeyboardInterrupt
    """A signal ended the run; its checkpoint is written.

    Attributes:
        signal: the signal's number.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal_number


class InterruptFlag:
    """Inside the block the first Ctrl-C or SIGTERM only raises a flag; a second one acts at once.

    Does nothing outside the main thread, where Python takes no signals.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.raised = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "InterruptFlag":
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._previous[number] = signal.signal(number, self._take)
        return self

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.raised = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
