"""The search's rows against torch's: log-softmax and top-k of logits, or of a linear layer's."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from benchmarks import rivals
from benchmarks.floors import Need, memory_of
from benchmarks.harness import Comparison, compare, weight_types
from benchmarks.rivals import reduced
from seq2seq_ext import ops


def _eager(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=1).topk(10).values


def _rows(rows: int) -> Comparison:
    torch.manual_seed(0)
    logits = torch.randn(rows, 32_000)
    return compare(
        f"Log-softmax + top-10, {rows} rows, V=32k",
        torch.inference_mode()(lambda: ops.log_softmax_topk(logits, 10)[0]),
        {"log_softmax + topk": torch.inference_mode()(lambda: _eager(logits))},
    )


def _projected_rows(rows: int, dtype: str) -> Comparison:
    torch.manual_seed(0)
    x, layer = torch.randn(rows, 512), nn.Linear(512, 32_000)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    packed = ops.linear_pack(weight, dtype=getattr(torch, dtype))

    def ours() -> Tensor:
        return ops.linear_log_softmax_topk(x, weight, bias, 10, packed=packed)[0]

    eager = torch.inference_mode()(lambda: _eager(linear(x, weight, bias)))
    contenders = {"F.linear + log_softmax + topk": eager}
    if (rival := rivals.load("beamgrad")) is not None:
        theirs = rival.TopRows(rows, len(weight), 10)

        def projected() -> Tensor:
            torch.addmm(bias, x, weight.t(), out=theirs.logits)
            return theirs()  # type: ignore[no-any-return]

        contenders[f"F.linear + {rival.VERSION}"] = projected
    if dtype != "float32":
        typed, given = reduced.convert(layer, dtype), reduced.inputs(dtype, x)
        contenders[reduced.names("nn.Linear")[dtype] + " + log_softmax + topk"] = (
            torch.inference_mode()(lambda: _eager(typed(given)))
        )
    return compare(
        f"Projection + log-softmax + top-10, {rows} rows, H=512, V=32k, {dtype}",
        torch.inference_mode()(ours),
        contenders,
        equal=dtype == "float32",
        needs=[Need(2.0 * rows * weight.numel(), dtype, packed.nbytes, memory_of(packed.nbytes))],
    )


def run() -> list[Comparison]:
    fused = [_projected_rows(rows, dtype) for rows in (5, 160) for dtype in weight_types()]
    return [_rows(5), _rows(160), *fused]
