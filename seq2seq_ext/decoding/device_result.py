"""What a search on a GPU has found, once the host has it."""

import torch
from torch import Tensor

from seq2seq_ext.decoding.options import BeamSearchOptions
from seq2seq_ext.decoding.result import BeamSearchResult

# Words of the structs of csrc/kernels/cuda/beam_search.h.
COUNTERS, ENDED, NODE = 4, 7, 3
_MISSING = -1  # the reason where there is no hypothesis


def read_result(
    told: BeamSearchOptions, counters: Tensor, pools: Tensor, nodes: Tensor
) -> BeamSearchResult:
    """The ``n_best`` of each sentence.

    Args:
        told: of all sentences.
        counters: ``[B, G, COUNTERS]``, of each group.
        pools: ``[B, G, P, ENDED]``, of which as many exist as counters tell, best first.
        nodes: ``[max_length, N, NODE]``.
    """
    batch, n_best = len(counters), told.n_best
    ended, exists = _best_of_pools(pools, counters[..., 2], n_best)
    lengths = ended[..., 2] * exists
    longest = int(lengths.max())
    tokens = torch.full((batch, n_best, longest), told.pad_id)
    rows = torch.zeros_like(tokens)
    log_probs = torch.zeros(batch, n_best, longest, dtype=torch.float64)
    node = ended[..., 4:]
    for place in range(longest - 1, -1, -1):
        is_in = place < lengths
        tokens[..., place] = torch.where(is_in, node[..., 1], told.pad_id)
        rows[..., place] = torch.where(is_in, node[..., 0], 0)
        log_probs[..., place] = torch.where(is_in, _as_double(node[..., 2]), 0.0)
        if place > 0:
            before = nodes[place - 1][rows[..., place]]
            node = torch.where(is_in[..., None], before, node)
    nothing = torch.full((batch, n_best), -torch.inf, dtype=torch.float64)
    return BeamSearchResult(
        tokens=tokens,
        lengths=lengths,
        scores=torch.where(exists, _as_double(ended[..., 0]), nothing),
        log_probs=torch.where(exists, _as_double(ended[..., 1]), nothing),
        token_log_probs=log_probs,
        reasons=torch.where(exists, ended[..., 3], _MISSING),
        rows=rows,
    )


def _best_of_pools(pools: Tensor, counts: Tensor, n_best: int) -> tuple[Tensor, Tensor]:
    """``[B, n_best, words]`` of a sentence's groups, and which of them exist; equals in the order
    of groups."""
    exists = (torch.arange(pools.shape[2]) < counts[..., None]).flatten(1)
    ended = pools.flatten(1, 2)
    scores = _as_double(ended[..., 0]).masked_fill(~exists, -torch.inf)
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :n_best]
    return ended.gather(1, best[..., None].expand(-1, -1, ENDED)), exists.gather(1, best)


def _as_double(words: Tensor) -> Tensor:
    return words.contiguous().view(torch.float64)
