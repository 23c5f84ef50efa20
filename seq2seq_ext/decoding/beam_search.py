"""Beam search over any step function."""

import torch
from torch import Tensor

from seq2seq_ext import _C, ops, reference
from seq2seq_ext.decoding.options import BeamSearchOptions, check_int, check_options
from seq2seq_ext.decoding.result import BeamSearchResult
from seq2seq_ext.decoding.step import (
    State,
    Step,
    call_step,
    check_logits,
    check_state,
    check_step,
    check_vocabulary,
    device_of,
    for_search,
    reorder,
)
from seq2seq_ext.ops.backend import reference_active


class BeamSearch:
    """The engine of :func:`beam_search`, to drive by hand.

    Feed ``bos_id`` to all ``rows`` first; from then on what :meth:`advance` returns, with the
    model's state taken from the parents. Only the first row of each sentence counts in the first
    step. Rows without a hypothesis (their sentence is done, or has fewer than ``beam_size``) get
    ``pad_id`` and themselves as parents, so N never changes.

    Args:
        batch_size: sentences, at least 1.
        options: ``bos_id`` is the caller's affair.

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

    def __init__(self, batch_size: int, options: BeamSearchOptions) -> None:
        check_options("BeamSearch", options)
        check_int("BeamSearch", "batch_size", batch_size, 1)
        self.options = options
        self._engine = _C.BeamSearch(
            batch_size,
            beam_size=options.beam_size,
            n_best=options.n_best,
            eos_id=options.eos_id,
            pad_id=options.pad_id,
            max_length=options.max_length,
            min_length=options.min_length,
            length_penalty=options.length_penalty,
            alpha=options.alpha,
        )

    @property
    def rows(self) -> int:
        """N = batch_size * beam_size; the rows of a sentence are neighbours."""
        return self._engine.rows

    @property
    def done(self) -> bool:
        """Whether every sentence has stopped."""
        return self._engine.done

    def advance(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Takes the logits of one step and chooses what goes on.

        Args:
            logits: ``[N, V]``, any floating dtype and device; moved to the CPU, as float64 if
                they are, else as float32.

        Returns:
            ``tokens [N]`` to feed next and ``parents [N]``, the rows whose state each row
            continues; int64, on the device of ``logits``.

        Raises:
            ValueError, TypeError: wrong logits.
            RuntimeError: the search is done.
        """
        check_logits("BeamSearch.advance", logits, self.rows)
        check_vocabulary("BeamSearch.advance", logits, self.options.eos_id)
        width = min(self._engine.width, logits.shape[1])
        log_probs, indices = ops.log_softmax_topk(for_search(logits), width)
        tokens, parents = self._engine.advance(log_probs.double().numpy(), indices.numpy())
        return torch.from_numpy(tokens).to(logits.device), torch.from_numpy(parents).to(
            logits.device
        )

    def result(self) -> BeamSearchResult:
        """The ``n_best`` of every sentence.

        Raises:
            RuntimeError: the search is not done.
        """
        return BeamSearchResult(*(torch.from_numpy(array) for array in self._engine.result()))


@torch.no_grad()
def beam_search(
    step: Step,
    state: State,
    *,
    batch_size: int,
    options: BeamSearchOptions,
    device: torch.device | str | None = None,
) -> BeamSearchResult:
    """The best sequences that beam search finds for each sentence.

    N = batch_size * beam_size rows are fed at every step, those of a sentence next to each
    other. What all rows of a sentence share and never changes (the encoder's memory) is best
    left out of ``state`` and kept by ``step`` itself, once a sentence.

    Finished hypotheses leave the beam for a pool, and a sentence stops as soon as nothing that
    is still live can enter it: never before the winner is found. A sentence's result does not
    depend on its batch, given that the step's logits do not. Candidates are ordered by
    (sum desc, parent asc, logit desc, token asc). A row with a NaN or +inf, or with nothing but
    -inf, offers no candidates; if all rows of a sentence die so and none has ended, they end as
    they are. ``csrc/kernels/beam_search.h`` states the semantics in full.

    Args:
        step: ``step(tokens [N] int64, state) -> (logits [N, V], state)``; logits of any floating
            dtype.
        state: nested tuples, lists and dicts of tensors with leading dimension N (None where
            there is none); reordered by the engine after each step.
        batch_size: sentences, at least 1.
        options: see :class:`BeamSearchOptions`.
        device: where tokens are made; by default that of the first tensor in ``state``, else
            the CPU.

    Raises:
        ValueError, TypeError: a wrong argument, or a wrong result of ``step``, named in the
            message.

    Example:
        >>> import torch
        >>> from seq2seq_ext.decoding import BeamSearchOptions, beam_search
        >>> table = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 0], [0, 0, 3, 1]])
        >>> options = BeamSearchOptions(bos_id=1, eos_id=2, pad_id=0, beam_size=2, max_length=5)
        >>> result = beam_search(
        ...     lambda tokens, state: (table[tokens], state), (), batch_size=1, options=options)
        >>> result.hypotheses[0][0].tokens
        [3, 2]
    """
    where = "beam_search"
    check_step(where, step)
    search = BeamSearch(batch_size, options)
    check_state(where, state, search.rows)
    device = device_of(where, state, device)
    if reference_active():
        return BeamSearchResult(
            *reference.beam_search(
                step, state, batch_size=batch_size, options=options, device=device
            )
        )
    tokens = torch.full((search.rows,), options.bos_id, device=device)
    unmoved = torch.arange(search.rows, device=device)
    while True:
        logits, state = call_step(where, step, tokens, state)
        tokens, parents = (ids.to(device) for ids in search.advance(logits))
        if search.done:
            return search.result()
        if not torch.equal(parents, unmoved):
            state = reorder(state, parents)
