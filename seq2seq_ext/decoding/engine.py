"""Beam search over any step function."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seq2seq_ext import _C, ops
from seq2seq_ext.decoding.check import check_int
from seq2seq_ext.decoding.native_options import Options, native_options, options_of_sentences
from seq2seq_ext.decoding.progress import SearchProgress
from seq2seq_ext.decoding.result import BeamSearchResult, Hypothesis
from seq2seq_ext.decoding.step import check_attention, check_logits, check_vocabulary, for_search


class BeamSearch:
    """The engine of :func:`beam_search`, to drive by hand.

    Feed ``bos_id`` to all ``rows`` first; from then on what :meth:`advance` returns, with the
    model's state taken from the parents. The rows of a sentence are neighbours, ``beam_size``
    of them. Only the first row of each sentence counts in the first step (of each group; under
    ancestral sampling all do). Rows without a hypothesis (their sentence is done, or has fewer
    than ``beam_size``) get ``pad_id`` and themselves as parents, so N never changes.

    Args:
        batch_size: sentences, at least 1.
        options: for all sentences, or one for each; ``bos_id`` is the caller's affair.
        source_lengths: of each sentence, where an option asks for it.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext.decoding import BeamSearch, BeamSearchOptions
        >>> options = BeamSearchOptions(bos_id=1, eos_id=2, pad_id=0, beam_size=2, max_length=3)
        >>> search = BeamSearch(1, options)
        >>> while not search.done:
        ...     tokens, parents = search.advance(torch.tensor([[0.0, 0.1, 0.2, 0.3]] * 2))
        >>> search.result().hypotheses[0][0].tokens
        [2]
    """

    def __init__(
        self,
        batch_size: int,
        options: Options,
        source_lengths: Sequence[int] | Tensor | None = None,
    ) -> None:
        where = "BeamSearch"
        check_int(where, "batch_size", batch_size, 1)
        self.options = options_of_sentences(where, batch_size, options)
        self.source_lengths = source_length_list(where, source_lengths, batch_size)
        self._engine = _C.BeamSearch(native_options(where, self.options, self.source_lengths))
        self._largest_token, self._width = self._engine.largest_token, self._engine.width
        self._hooks = [i for i, each in enumerate(self.options) if each.logits_hook is not None]
        self._watchers = [i for i, each in enumerate(self.options) if each.on_step is not None]
        self._normalized = [i for i, each in enumerate(self.options) if each.normalized]
        self._needs_coverage = any(each.coverage_penalty != "none" for each in self.options)
        beams = [each.beam_size for each in self.options]
        self._first = [0]
        for size in beams:
            self._first.append(self._first[-1] + size)
        self.steps = 0
        self._vocabulary_size: int | None = None

    @property
    def rows(self) -> int:
        """N, the sum of the sentences' beam sizes."""
        return self._engine.rows

    @property
    def done(self) -> bool:
        """Whether every sentence has stopped."""
        return self._engine.done

    @property
    def needs_python(self) -> bool:
        """Whether Python must see the logits or the partial hypotheses of each step."""
        return bool(self._hooks or self._watchers or self._normalized)

    @property
    def largest_token(self) -> int:
        """Of all that the options name: the vocabulary must reach beyond it."""
        return self._largest_token

    @property
    def live_rows(self) -> Tensor:
        """Bool ``[N]``: the rows that the next step reads; what others hold does not matter."""
        return torch.tensor(self._engine.live_rows)

    def rows_of(self, sentence: int) -> slice:
        """The rows of a sentence."""
        return slice(self._first[sentence], self._first[sentence + 1])

    def advance(self, logits: Tensor, attention: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Takes the logits of one step and chooses what goes on.

        Args:
            logits: ``[N, V]``, any floating dtype and device; moved to the CPU, as float64 if
                they are, else as float32.
            attention: ``[N, S]``, the source's weights under which the logits were made; read
                where there is a coverage penalty.

        Returns:
            ``tokens [N]`` to feed next and ``parents [N]``, the rows whose state each row
            continues; int64, on the device of ``logits``.

        Raises:
            ValueError, TypeError: wrong logits or attention.
            RuntimeError: the search is done.
        """
        where = "BeamSearch.advance"
        check_logits(where, logits, self.rows)
        if logits.shape[1] != self._vocabulary_size:
            self._begin(where, logits)
        weights = None
        if self._needs_coverage:
            check_attention(where, attention, self.rows)
            weights = attention.detach().to("cpu", torch.float64).numpy()  # type: ignore[union-attr]
        device, logits = logits.device, for_search(logits)
        for sentence in self._hooks:
            logits = self._hooked(sentence, logits)
        for sentence in self._normalized:
            self._check_normalized(where, sentence, logits)
        log_probs, indices, perturbed = self._candidates(logits)
        tokens, parents = self._engine.advance(log_probs, indices, perturbed, weights)
        self.steps += 1
        if self._watchers:
            for sentence in self._watchers:
                self._show(sentence)
            self._watchers = [i for i in self._watchers if not self._engine.is_done(i)]
        chosen = torch.from_numpy(tokens), torch.from_numpy(parents)
        return chosen if device.type == "cpu" else (chosen[0].to(device), chosen[1].to(device))

    def _begin(self, where: str, logits: Tensor) -> None:
        """The first step's logits tell V, which holds all tokens named and stays."""
        if self._vocabulary_size is not None:
            raise ValueError(
                f"{where}: logits: expected {self._vocabulary_size} tokens as before, got "
                f"{logits.shape[1]}"
            )
        self.check_vocabulary(where, logits.shape[1])
        self._vocabulary_size = logits.shape[1]

    def check_vocabulary(self, where: str, vocabulary: int) -> None:
        """Every token that the options name is one of the V."""
        check_vocabulary(where, vocabulary, self.options, self._largest_token)

    def stop(self, sentence: int) -> None:
        """Ends what is live in a sentence as it is."""
        self._engine.stop(sentence)

    def live(self, sentence: int) -> list[Hypothesis]:
        """The partial hypotheses of a sentence, in the order of its rows."""
        return [Hypothesis(*each) for each in self._engine.live(sentence)]

    def result(self, attention: Tensor | None = None) -> BeamSearchResult:
        """The ``n_best`` of every sentence.

        Args:
            attention: what becomes the result's.

        Raises:
            RuntimeError: the search is not done.
        """
        found: list[Any] = [torch.from_numpy(array) for array in self._engine.result()]
        return BeamSearchResult(*[*found, attention])

    def _candidates(self, logits: Tensor) -> tuple[Any, Any, Any]:
        if self._engine.has_rules:
            return self._engine.choose(logits.contiguous().numpy())
        width = min(self._width, logits.shape[1])
        with torch.inference_mode():  # ops cost less in it
            log_probs, indices = ops.log_softmax_topk(logits, width)
            return log_probs.double().numpy(), indices.numpy(), None

    def _live_places(self, sentence: int) -> list[int]:
        live = self._engine.live_rows
        own = self.rows_of(sentence)
        return [row for row in range(own.start, own.stop) if live[row]]

    def _hooked(self, sentence: int, logits: Tensor) -> Tensor:
        """The logits with a sentence's rows as its hook leaves them."""
        hook, rows = self.options[sentence].logits_hook, self._live_places(sentence)
        if not rows or hook is None:
            return logits
        prefixes = [self._engine.prefix(row) for row in rows]
        seen = torch.tensor(prefixes, dtype=torch.int64, device="cpu").reshape(len(rows), -1)
        changed = hook(seen, logits[rows])
        check_logits("logits_hook", changed, len(rows))
        if changed.shape[1] != logits.shape[1]:
            raise ValueError(
                f"logits_hook: logits: expected shape {[len(rows), logits.shape[1]]}, got "
                f"{list(changed.shape)}"
            )
        logits = logits.clone()
        logits[rows] = for_search(changed).to(logits.dtype)
        return logits

    def _check_normalized(self, where: str, sentence: int, logits: Tensor) -> None:
        rows = self._live_places(sentence)
        if rows and (logits[rows] > 0).any():
            raise ValueError(
                f"{where}: logits: expected log-probs of at most 0 under normalized=True, got "
                f"{logits[rows].max()}"
            )

    def _show(self, sentence: int) -> None:
        """Calls a sentence's on_step, which may stop it."""
        watch = self.options[sentence].on_step
        assert watch is not None

        def live() -> list[Hypothesis]:
            return sorted(self.live(sentence), key=lambda each: -each.score)

        def ended() -> list[Hypothesis]:
            return [Hypothesis(*each) for each in self._engine.ended(sentence)]

        done = self._engine.is_done(sentence)
        progress = SearchProgress(sentence, self.steps, done, live, ended)
        if watch(progress) is True and not done:
            self._engine.stop(sentence)


def source_length_list(
    where: str, lengths: Sequence[int] | Tensor | None, batch_size: int
) -> list[int] | None:
    """The lengths as ints, checked."""
    if lengths is None:
        return None
    values = lengths.tolist() if isinstance(lengths, Tensor) else lengths
    if not isinstance(values, (list, tuple)):
        raise TypeError(
            f"{where}: source_lengths: expected a sequence of ints, got {type(lengths).__name__}"
        )
    if len(values) != batch_size:
        raise ValueError(
            f"{where}: source_lengths: expected batch_size = {batch_size} of them, got "
            f"{len(values)}"
        )
    for value in values:
        check_int(where, "source_lengths", value, 0)
    return list(values)
