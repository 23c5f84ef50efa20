"""What a training run shows: a bar for each epoch, a line for each validation."""

import sys
import time

from tqdm import tqdm


class Display:
    """Writes to stderr; silent in all processes but the main one, and if told so.

    The bar shows the mean loss and the speed in target tokens a second since the last
    validation.
    """

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self._bar: tqdm | None = None
        self._tokens = 0.0
        self._started = time.perf_counter()
        self._shown = self._started

    def open_epoch(self, epoch: int, batches: int, position: int) -> None:
        """Begins the bar of an epoch, perhaps in its middle."""
        self.close()
        self._bar = tqdm(
            desc=f"epoch {epoch + 1}",
            total=batches,
            initial=position,
            unit="batch",
            leave=False,
            disable=self.silent,
            # A log file gets a line now and then, a terminal a moving bar.
            mininterval=0.2 if sys.stderr.isatty() else 30.0,
            dynamic_ncols=True,
        )

    def step(self, loss: float, tokens: float, rate: float) -> None:
        """Shows the mean loss so far; takes a step's number of target tokens."""
        self._tokens += tokens
        if self._bar is None:
            return
        now = time.perf_counter()
        if now - self._shown > 0.5:
            self._shown = now
            speed = self._tokens / (now - self._started)
            text = f"loss {loss:.4f}, {speed:,.0f} tokens/s, rate {rate:.1e}"
            self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()

    def validation(self, epochs: float, entry: tuple[int, float, float], best: bool) -> None:
        """Prints a line of (step, training loss, validation loss) and starts a new speed."""
        step, training_loss, validation_loss = entry
        speed = self._tokens / max(time.perf_counter() - self._started, 1e-9)
        self.line(
            f"epoch {epochs:.2f}, step {step}: loss {training_loss:.4f}, "
            f"validation {validation_loss:.4f}, "
            f"{speed:,.0f} tokens/s{', best so far' if best else ''}"
        )
        self._tokens = 0.0
        self._started = time.perf_counter()

    def line(self, text: str) -> None:
        if not self.silent:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
