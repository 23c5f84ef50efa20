"""The search's row kernel against torch's log_softmax and topk."""

import torch
from torch import Tensor

from benchmarks.harness import Comparison, compare
from seq2seq_ext import ops


def _rows(rows: int) -> Comparison:
    torch.manual_seed(0)
    logits = torch.randn(rows, 32_000)

    @torch.inference_mode()
    def ours() -> Tensor:
        return ops.log_softmax_topk(logits, 10)[0]

    @torch.inference_mode()
    def eager() -> Tensor:
        return torch.log_softmax(logits, dim=1).topk(10).values

    return compare(f"Log-softmax + top-10, {rows} rows, V=32k", ours, {"log_softmax + topk": eager})


def run() -> list[Comparison]:
    return [_rows(5), _rows(160)]
