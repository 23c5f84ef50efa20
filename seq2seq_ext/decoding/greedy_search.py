"""Greedy search over any step function."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from seq2seq_ext.decoding.beam_search import search
from seq2seq_ext.decoding.check import check_int
from seq2seq_ext.decoding.native_options import Options, changed_options, options_of_sentences
from seq2seq_ext.decoding.options import BeamSearchOptions
from seq2seq_ext.decoding.result import BeamSearchResult
from seq2seq_ext.decoding.step import State, Step


@torch.no_grad()
def greedy_search(
    step: Step,
    state: State,
    *,
    batch_size: int,
    options: Options,
    source_lengths: Sequence[int] | Tensor | None = None,
    device: torch.device | str | None = None,
) -> BeamSearchResult:
    """The sequence of most probable tokens of each sentence, the lowest of equals.

    A beam search with one beam that the first EOS closes: N = batch_size, one hypothesis a
    sentence. Its rows are fed ``pad_id`` from then on. A row with no probabilities (see
    :func:`seq2seq_ext.ops.log_softmax_topk`) ends as it is.

    Args:
        step: ``step(tokens [N] int64, state) -> (logits [N, V], state)``; with attention as in
            :func:`beam_search`.
        state: nested tuples, lists and dicts of tensors with leading dimension N; never
            reordered.
        batch_size: sentences, at least 1.
        options: see :class:`BeamSearchOptions`; what is about several beams is ignored.
        source_lengths: of each sentence; for ``max_length_ratio`` and the coverage penalty.
        device: where tokens are made; by default that of the first tensor in ``state``, else
            the CPU.

    Returns:
        A result with n_best = 1.

    Raises:
        ValueError, TypeError: a wrong argument, or a wrong result of ``step``, named in the
            message.

    Example:
        >>> import torch
        >>> from seq2seq_ext.decoding import BeamSearchOptions, greedy_search
        >>> table = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 0], [0, 0, 3, 1]])
        >>> options = BeamSearchOptions(bos_id=1, eos_id=2, pad_id=0)
        >>> result = greedy_search(
        ...     lambda tokens, state: (table[tokens], state), (), batch_size=1, options=options)
        >>> result.hypotheses[0][0].tokens
        [3, 2]
    """
    where = "greedy_search"
    check_int(where, "batch_size", batch_size, 1)
    each = options_of_sentences(where, batch_size, options)
    told = changed_options(each, _single)
    return search(where, step, state, batch_size, told, source_lengths, device)


def _single(options: BeamSearchOptions) -> BeamSearchOptions:
    return replace(
        options,
        beam_size=1,
        n_best=1,
        beam_groups=1,
        early_stopping="exact",
        finished="pool" if options.sampling != "none" else "shrink",
        eos_beyond_beam=True,
    )
