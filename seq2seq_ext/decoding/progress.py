"""What a running search shows."""

from collections.abc import Callable
from dataclasses import dataclass, field

from seq2seq_ext.decoding.result import Hypothesis


@dataclass(frozen=True)
class SearchProgress:
    """One sentence after a step of its search; valid while ``on_step`` runs.

    Attributes:
        sentence: its index in the batch.
        step: steps taken, at least 1.
        done: whether the sentence has stopped; then this is the last call for it.
    """

    sentence: int
    step: int
    done: bool
    _live: Callable[[], list[Hypothesis]] = field(repr=False)
    _ended: Callable[[], list[Hypothesis]] = field(repr=False)

    @property
    def live(self) -> list[Hypothesis]:
        """The partial hypotheses, best first; scored as if they ended here."""
        return self._live()

    @property
    def ended(self) -> list[Hypothesis]:
        """The best that have ended so far, at most ``n_best``."""
        return self._ended()

    @property
    def stable_prefix(self) -> list[int]:
        """The tokens that everything live and everything ended begins with.

        Everything that can still be returned begins with them.
        """
        sequences = [each.tokens for each in [*self.live, *self.ended]]
        common: list[int] = []
        for tokens in zip(*sequences, strict=False):
            if len(set(tokens)) > 1:
                break
            common.append(tokens[0])
        return common
