"""The CUDA kernels against cuDNN, eager and compiled PyTorch, with floors and aims; needs a GPU."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

import seq2seq_ext
from benchmarks import cuda_layers, nmt, rivals
from benchmarks.cuda_device import Gpu
from benchmarks.cuda_layers import LayerShape
from benchmarks.decoder import EagerDecoder
from benchmarks.floors import Need
from benchmarks.harness import Comparison, Run
from benchmarks.needs import Decoding
from seq2seq_ext import ops, reference

TYPES = ("float32", "bfloat16")
ROWS = range(1, 8)


@dataclass(frozen=True)
class Sizes:
    """Those of the table.

    Attributes:
        layers: rows 1 to 3.
        step, step_rows: row 4, one step of two layers.
        source, attention, memory: row 5.
        vocabulary, projected, logit_rows: row 6.
        model, steps, batches: row 7; its vocabulary is row 6's.
    """

    layers: Sequence[LayerShape] = cuda_layers.SHAPES
    step: int = 1024
    step_rows: Sequence[int] = (5, 40, 160, 640)
    source: int = 50
    attention: int = 512
    memory: int = 1024
    vocabulary: int = 32_000
    projected: int = 1024
    logit_rows: int = 640
    model: int = nmt.SIZE
    steps: int = nmt.STEPS
    batches: Sequence[int] = (1, 32, 128)


class _Cells(nn.Module):
    """A decode step of two layers as one writes it in PyTorch."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList(nn.LSTMCell(size, size) for _ in range(2))

    def forward(self, x: Tensor, states: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        for cell, state in zip(self.cells, states, strict=True):
            x = cell(x, state)[0]
        return x


def _decode_step(gpu: Gpu, size: int, rows: int, type_name: str) -> Comparison:
    """Row 4: one step of two layers."""
    dtype = getattr(torch, type_name)
    torch.manual_seed(0)
    ours, theirs = (
        module.LSTM(size, size, num_layers=2).to(gpu.device, dtype).eval()
        for module in (seq2seq_ext, nn)
    )
    cells = _Cells(size).to(gpu.device, dtype).eval()
    theirs.load_state_dict(ours.state_dict())
    for layer, cell in enumerate(cells.cells):
        cell.load_state_dict(
            {name: getattr(ours, f"{name}_l{layer}") for name in cell.state_dict()}
        )
    compiled = torch.compile(cells, mode="reduce-overhead")
    x = torch.randn(1, rows, size, device=gpu.device, dtype=dtype)
    state = tuple(torch.randn(2, rows, size, device=gpu.device, dtype=dtype) for _ in range(2))
    states = [(state[0][i], state[1][i]) for i in range(2)]
    inference = torch.inference_mode()
    weights = 2 * 4 * size * 2 * size
    contenders: dict[str, Run] = {
        "nn.LSTM": inference(lambda: theirs(x, state)[0][0]),
        "nn.LSTMCell": inference(lambda: cells(x[0], states)),
        "compiled nn.LSTMCell, CUDA graphs": inference(lambda: compiled(x[0], states)),
    }
    return gpu.compare(
        f"LSTM, one step of 2 layers, {rows} rows, H={size}, {type_name}",
        [Need(2.0 * rows * weights, type_name, weights * dtype.itemsize)],
        inference(lambda: ours(x, state)[0][0]),
        contenders,
        aims=dict.fromkeys(contenders, 3.0),
        atol=1e-4 if type_name == "float32" else 0.02,
    )


def _attention_step(gpu: Gpu, sizes: Sizes, sentences: int, beams: int) -> Comparison:
    """Row 5, inference."""
    source, size, memory_size = sizes.source, sizes.attention, sizes.memory
    torch.manual_seed(0)
    query = torch.randn(sentences, beams, size, device=gpu.device)
    keys = torch.randn(sentences, source, size, device=gpu.device)
    memory = torch.randn(sentences, source, memory_size, device=gpu.device)
    v = torch.randn(size, device=gpu.device) / 20
    lengths = torch.full((sentences,), source, device=gpu.device)
    arguments = query, keys, v, memory, lengths
    compiled = torch.compile(reference.additive_attention, dynamic=False)
    inference = torch.inference_mode()
    contenders: dict[str, Run] = {
        "eager PyTorch": inference(lambda: reference.additive_attention(*arguments)),
        "compiled PyTorch": inference(lambda: compiled(*arguments)),
    }
    return gpu.compare(
        f"Additive attention step, {sentences} memories x {beams} queries, S={source}, "
        f"A={size}, M={memory_size}",
        [Need(0.0, bytes=sum(t.nbytes for t in (query, keys, memory)))],
        inference(lambda: ops.additive_attention(*arguments)),
        contenders,
        aims=dict.fromkeys(contenders, 5.0),
    )


def _attention_training(gpu: Gpu, sizes: Sizes) -> Comparison:
    """Row 5, training, with the memory that a step takes."""
    batch, source, size, memory_size = 32, sizes.source, sizes.attention // 2, sizes.memory // 2
    torch.manual_seed(0)
    shapes = [(batch, source, size)] * 2 + [(size,), (batch, source, memory_size)]
    query, keys, v, memory = inputs = [
        torch.randn(shape, device=gpu.device, requires_grad=True) for shape in shapes
    ]
    lengths = torch.randint(source // 2, source + 1, (batch,), device=gpu.device)

    def step(attention: Any) -> Run:
        return lambda: torch.autograd.grad(
            attention(query, keys, v, memory, lengths)[0].sum(), inputs
        )

    ours = step(ops.additive_attention)
    contenders = {
        "eager PyTorch": step(reference.additive_attention),
        "compiled PyTorch": step(torch.compile(reference.additive_attention, dynamic=False)),
    }
    comparison = gpu.compare(
        f"Additive attention, {batch} sentences, T={source}, S={source}, A={size}, "
        f"M={memory_size}: forward + backward",
        [Need(0.0, bytes=2 * sum(t.nbytes for t in inputs))],
        ours,
        contenders,
        aims=dict.fromkeys(contenders, 3.0),
        atol=1e-3,
    )
    comparison.peaks = {
        name: gpu.peak_memory(run) for name, run in {"ours": ours, **contenders}.items()
    }
    comparison.peak_aims = {"eager PyTorch": 20.0}
    return comparison


def _best(logits: Tensor) -> Tensor:
    return logits.log_softmax(1).topk(10).values


def _beamgrad_rows(logits: Tensor) -> Any:
    """beamgrad's ``TopRows`` for such logits, or None."""
    if (rival := rivals.load("beamgrad", on_gpu=True)) is None:
        return None
    rows = rival.TopRows(*logits.shape, 10, device=logits.device, dtype=logits.dtype)
    rows.logits.copy_(logits)
    return rows


def _topk(gpu: Gpu, sizes: Sizes, type_name: str) -> list[Comparison]:
    """Row 6, of logits and of a projection."""
    rows, vocabulary, size = sizes.logit_rows, sizes.vocabulary, sizes.projected
    dtype, where = getattr(torch, type_name), f"V={vocabulary}, {type_name}"
    torch.manual_seed(0)
    x = torch.randn(rows, size, device=gpu.device, dtype=dtype)
    weight = torch.randn(vocabulary, size, device=gpu.device, dtype=dtype) / 20
    logits, is_float32 = linear(x, weight), dtype == torch.float32
    compiled = torch.compile(_best, dynamic=False)
    of_logits: dict[str, Run] = {
        "log_softmax + topk": lambda: _best(logits),
        "the same, compiled": lambda: compiled(logits),
    }
    of_inputs: dict[str, Run] = {"F.linear + log_softmax + topk": lambda: _best(linear(x, weight))}
    if (theirs := _beamgrad_rows(logits)) is not None:

        def projected() -> Tensor:
            torch.mm(x, weight.t(), out=theirs.logits)
            return theirs()  # type: ignore[no-any-return]

        of_logits["beamgrad"] = theirs
        of_inputs["F.linear + beamgrad"] = projected
    with torch.inference_mode():
        return [
            gpu.compare(
                f"Log-softmax + top-10, {rows} rows, {where}",
                [Need(0.0, bytes=logits.nbytes)],
                lambda: ops.log_softmax_topk(logits, 10)[0],
                of_logits,
                aims=dict.fromkeys(of_logits, 3.0),
                atol=1e-4 if is_float32 else 0.1,
            ),
            gpu.compare(
                f"Projection + log-softmax + top-10, {rows} rows, H={size}, {where}",
                [Need(2.0 * rows * weight.numel(), type_name, weight.nbytes)],
                lambda: ops.linear_log_softmax_topk(x, weight, None, 10)[0],
                of_inputs,
                aims=dict.fromkeys(of_inputs, 3.0),
                atol=1e-3 if is_float32 else 0.2,
            ),
        ]


DECODE_AIMS = {"transformers": 10.0, "joeynmt": 5.0, "beamgrad": 3.0}


def _whole_decode(gpu: Gpu, sizes: Sizes, batch: int, type_name: str) -> Comparison:
    """Row 7: the translation model, beam 5.

    Best hypotheses are compared in float32, where they are tensors; in 16 bits other sums choose
    other tokens.
    """
    model = nmt.build_model(sizes.model, sizes.vocabulary)
    model = model.to(gpu.device, getattr(torch, type_name))
    options = nmt.search_options(model, sizes.steps)
    src, lengths = (t.to(gpu.device) for t in nmt.sources(batch, sizes.vocabulary))
    decoders = {
        "eager PyTorch": EagerDecoder(model, options, compiled=False),
        "compiled PyTorch": EagerDecoder(model, options, compiled=True),
    }
    aims = {}
    for name in rivals.DECODERS:
        if (rival := rivals.load(name, on_gpu=True)) is not None:
            decoders[rival.NAME] = rival.Decoder(model, options)
            if name in DECODE_AIMS:
                aims[rival.NAME] = DECODE_AIMS[name]
    work = Decoding.of([[(nmt.SOURCE_LENGTH, sizes.steps)] * batch], options.beam_size)
    return gpu.compare(
        f"Translation, batch of {batch}, beam 5, {sizes.steps} steps, V={sizes.vocabulary}, "
        f"{type_name}",
        work.needs(model, type_name),
        torch.inference_mode()(lambda: model.generate(src, lengths, options).tokens[:, 0]),
        {name: partial(decode, src, lengths) for name, decode in decoders.items()},
        aims=aims,
        equal=type_name == "float32",
    )


def _steps(gpu: Gpu, sizes: Sizes) -> Iterator[tuple[int, Callable[[], list[Comparison]]]]:
    """What makes each row, by its number."""
    yield from cuda_layers.rows(gpu, sizes.layers)
    for rows in sizes.step_rows:
        for name in TYPES:
            yield 4, lambda r=rows, n=name: [_decode_step(gpu, sizes.step, r, n)]  # type: ignore[misc]
    for sentences in (32, 1):
        yield 5, lambda s=sentences: [_attention_step(gpu, sizes, s, 5)]  # type: ignore[misc]
    yield 5, lambda: [_attention_training(gpu, sizes)]
    for name in TYPES:
        yield 6, lambda n=name: _topk(gpu, sizes, n)  # type: ignore[misc]
    for batch in sizes.batches:
        for name in TYPES:
            yield 7, lambda b=batch, n=name: [_whole_decode(gpu, sizes, b, n)]  # type: ignore[misc]


def table(gpu: Gpu, sizes: Sizes, wanted: Collection[int] = ROWS) -> Iterator[Comparison]:
    """The rows of those numbers as they are made. One whose results differ, or that fails, is told
    and left out, and the others come all the same.

    Raises:
        SystemExit: at the end, if there was one.
    """
    left_out = 0
    # What says float32 has products of float32 on both sides.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for number, step in _steps(gpu, sizes):
            if number not in wanted:
                continue
            try:
                yield from step()
            except (AssertionError, RuntimeError) as error:
                left_out += 1
                print(f"{type(error).__name__}: {error}", flush=True)
    if left_out:
        raise SystemExit(f"benchmarks cuda: {left_out} rows left out, whose results differ or fail")


def run(wanted: Collection[int] = ROWS) -> Iterator[Comparison]:
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks cuda: expected a GPU, got none")
    if seq2seq_ext.info()["cuda"] == "not built":
        raise SystemExit("benchmarks cuda: expected a build with CUDA kernels, got one without")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    yield from table(Gpu(), Sizes(), wanted)
