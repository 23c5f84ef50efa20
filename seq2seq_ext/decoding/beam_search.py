"""Beam search over any step function."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seq2seq_ext import reference
from seq2seq_ext.decoding.check import check_int
from seq2seq_ext.decoding.engine import BeamSearch
from seq2seq_ext.decoding.mixed_search import placed
from seq2seq_ext.decoding.native_options import Options
from seq2seq_ext.decoding.result import BeamSearchResult, gather_attention
from seq2seq_ext.decoding.step import (
    State,
    Step,
    call_step,
    check_state,
    check_step,
    device_of,
    reorder,
)
from seq2seq_ext.ops import tracing
from seq2seq_ext.ops.backend import reference_active


@torch.no_grad()
def beam_search(
    step: Step,
    state: State,
    *,
    batch_size: int,
    options: Options,
    source_lengths: Sequence[int] | Tensor | None = None,
    device: torch.device | str | None = None,
) -> BeamSearchResult:
    """The best sequences that beam search finds for each sentence.

    N rows are fed at every step: ``beam_size`` for each sentence, next to each other. What all
    rows of a sentence share and never changes (the encoder's memory) is best left out of
    ``state`` and kept by ``step`` itself, once a sentence.

    Finished hypotheses leave the beam for a pool, and a sentence stops as soon as nothing that
    is still live can enter it: never before the winner is found. A sentence's result does not
    depend on its batch, given that the step's logits do not. Candidates are ordered by
    (sum desc, parent asc, logit desc, token asc). A row with a NaN or +inf, or with nothing but
    -inf, offers no candidates; if all rows of a sentence die so and none has ended, they end as
    they are. ``csrc/kernels/beam_search.h`` states the semantics in full. Where ``device`` is a
    GPU, sentences whose options its kernels know are searched there; if all are, nothing waits for
    it, and ``step`` may be called a few times more than it need be.

    Args:
        step: ``step(tokens [N] int64, state) -> (logits [N, V], state)``; logits of any floating
            dtype. Where an option needs attention (``return_attention``, a coverage penalty):
            ``-> (logits, state, attention [N, S])``.
        state: nested tuples, lists and dicts of tensors with leading dimension N (None where
            there is none); reordered by the engine after each step.
        batch_size: sentences, at least 1.
        options: see :class:`BeamSearchOptions`; for all sentences, or a list with one for each.
        source_lengths: of each sentence; for ``max_length_ratio`` and the coverage penalty.
        device: where tokens are made; by default that of the first tensor in ``state``, else
            the CPU.

    Raises:
        ValueError, TypeError: a wrong argument, or a wrong result of ``step``, named in the
            message.
        RuntimeError: a CUDA graph is captured.

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
    return search("beam_search", step, state, batch_size, options, source_lengths, device)


def search(
    where: str,
    step: Step,
    state: State,
    batch_size: int,
    options: Options,
    source_lengths: Sequence[int] | Tensor | None,
    device: torch.device | str | None,
) -> BeamSearchResult:
    """:func:`beam_search` under the name of its caller."""
    check_step(where, step)
    check_int(where, "batch_size", batch_size, 1)
    host = BeamSearch(batch_size, options, source_lengths)
    told = host.options
    check_state(where, state, host.rows)
    device = device_of(where, state, device)
    tracing.refuse_capture(where, torch.empty(0, device=device))
    if reference_active():
        return BeamSearchResult(
            *reference.beam_search(
                step,
                state,
                batch_size=batch_size,
                options=told,
                source_lengths=host.source_lengths,
                device=device,
            )
        )
    engine = placed(host, device)
    tokens = torch.tensor(
        [each.bos_id for each in told for _ in range(each.beam_size)], device=device
    )
    unmoved = torch.arange(host.rows, device=device)
    with_attention = any(each.needs_attention for each in told)
    keeps_attention = any(each.return_attention for each in told)
    steps: list[Tensor] = []
    while True:
        logits, state, attention = call_step(where, step, tokens, state, with_attention)
        engine.check_vocabulary(where, logits.shape[1])
        if keeps_attention and attention is not None:
            steps.append(attention.detach())
        tokens, parents = (ids.to(device) for ids in engine.advance(logits, attention))
        if engine.done:
            break
        # Asking would wait for a GPU.
        if engine is not host or not torch.equal(parents, unmoved):
            state = reorder(state, parents)
    result = engine.result()
    if not keeps_attention:
        return result
    weights = gather_attention(steps, result.rows, result.lengths)
    return BeamSearchResult(**{**vars(result), "attention": weights})
