"""The CUDA kernels against cuDNN, eager and compiled PyTorch, with floors; needs a GPU."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import pack_padded_sequence

import seq2seq_ext
from benchmarks import nmt, rivals
from benchmarks.cuda_device import compare_with_floor, peak_memory
from benchmarks.decoder import EagerDecoder
from benchmarks.floors import Need
from benchmarks.harness import Comparison, Run
from benchmarks.needs import Decoding
from seq2seq_ext import ops, reference

GATES = {"LSTM": 4, "GRU": 3}


def _layers(name: str, module: Any, dtype: torch.dtype, *args: Any, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    built: nn.Module = getattr(module, name)(*args, **kwargs)
    return built.to("cuda", dtype)


def _training(module: nn.Module, x: Tensor, run: Any) -> Run:
    def step() -> None:
        module.zero_grad()
        x.grad = None
        run().sum().backward()

    return step


def _layer(name: str, batch: int, hidden: int, layers: int, both: bool, ragged: bool) -> Comparison:
    """Rows 1 to 3: forward and backward over T = 512."""
    steps, options = 512, {"num_layers": layers, "bidirectional": both}
    lengths = torch.full((batch,), steps)
    if ragged:
        lengths = torch.linspace(steps / 10, steps, batch).round().long()
    x = torch.randn(steps, batch, hidden, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    ours = _layers(name, seq2seq_ext, torch.bfloat16, hidden, hidden, **options)
    given = lengths if ragged else None
    rivals: dict[str, Run] = {}
    for dtype in (torch.bfloat16, torch.float16):
        theirs = _layers(name, nn, dtype, hidden, hidden, **options)
        theirs_x = x.detach().to(dtype).requires_grad_()

        def run(theirs: nn.Module = theirs, x: Tensor = theirs_x) -> Tensor:
            if not ragged:
                return theirs(x)[0]  # type: ignore[no-any-return]
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            return theirs(packed)[0].data  # type: ignore[no-any-return]

        packed_or_not = " packed" if ragged else ""
        title = f"nn.{name}{packed_or_not} {str(dtype).removeprefix('torch.')}"
        rivals[title] = _training(theirs, theirs_x, run)
    directions = 1 + both
    weights = GATES[name] * hidden * (hidden + hidden)
    weights += (layers - 1) * GATES[name] * hidden * (directions * hidden + hidden)
    return compare_with_floor(
        f"{name} bfloat16 forward + backward, {'lengths 10..100 % of ' if ragged else ''}"
        f"{batch} x {steps}, H={hidden}, {layers} layers, {directions} directions",
        [Need(6.0 * int(lengths.sum()) * directions * weights, "bfloat16")],
        _training(ours, x, lambda: ours(x, lengths=given)[0]),
        rivals,
        equal=False,  # the tests compare
    )


def _layer_rows() -> list[Comparison]:
    shapes = [(16, 512, 1, False), (128, 512, 1, False), (64, 768, 2, True), (64, 1024, 2, True)]
    rows = [_layer("LSTM", *shape, ragged=False) for shape in shapes]
    rows += [_layer("LSTM", *shape, ragged=True) for shape in shapes]
    return rows + [_layer("GRU", *shape, ragged=False) for shape in shapes]


class _Cells(nn.Module):
    """A decode step of two layers as one writes it in PyTorch."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList(nn.LSTMCell(size, size) for _ in range(2))

    def forward(self, x: Tensor, states: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        for cell, state in zip(self.cells, states, strict=True):
            x = cell(x, state)[0]
        return x


def _decode_step(rows: int, type_name: str) -> Comparison:
    """Row 4: one step of two layers, H = 1024."""
    size, dtype = 1024, getattr(torch, type_name)
    ours, theirs = (
        _layers("LSTM", m, dtype, size, size, num_layers=2).eval() for m in (seq2seq_ext, nn)
    )
    cells = _Cells(size).to("cuda", dtype).eval()
    compiled = torch.compile(cells, mode="reduce-overhead")
    x = torch.randn(1, rows, size, device="cuda", dtype=dtype)
    state = tuple(torch.randn(2, rows, size, device="cuda", dtype=dtype) for _ in range(2))
    states = [(state[0][i], state[1][i]) for i in range(2)]
    inference = torch.inference_mode()
    weights = 2 * 4 * size * 2 * size
    return compare_with_floor(
        f"LSTM, one step of 2 layers, {rows} rows, H=1024, {type_name}",
        [Need(2.0 * rows * weights, type_name, weights * dtype.itemsize)],
        inference(lambda: ours(x, state)[0]),
        {
            "nn.LSTM": inference(lambda: theirs(x, state)[0]),
            "nn.LSTMCell": inference(lambda: cells(x[0], states)),
            "compiled nn.LSTMCell, CUDA graphs": inference(lambda: compiled(x[0], states)),
        },
        equal=False,  # the cells have weights of their own
    )


def _attention_step(sentences: int, beams: int) -> Comparison:
    """Row 5, inference."""
    source, size, memory_size = 50, 512, 1024
    torch.manual_seed(0)
    query = torch.randn(sentences, beams, size, device="cuda")
    keys = torch.randn(sentences, source, size, device="cuda")
    memory = torch.randn(sentences, source, memory_size, device="cuda")
    v = torch.randn(size, device="cuda") / 20
    lengths = torch.full((sentences,), source, device="cuda")
    arguments = query, keys, v, memory, lengths
    compiled = torch.compile(reference.additive_attention, dynamic=False)
    inference = torch.inference_mode()
    return compare_with_floor(
        f"Additive attention step, {sentences} memories x {beams} queries, S=50, A=512, M=1024",
        [Need(0.0, bytes=sum(t.nbytes for t in (query, keys, memory)))],
        inference(lambda: ops.additive_attention(*arguments)),
        {
            "eager PyTorch": inference(lambda: reference.additive_attention(*arguments)),
            "compiled PyTorch": inference(lambda: compiled(*arguments)),
        },
    )


def _attention_training() -> Comparison:
    """Row 5, training; says the memory of both."""
    torch.manual_seed(0)
    shapes = [(32, 50, 256), (32, 50, 256), (256,), (32, 50, 512)]
    query, keys, v, memory = inputs = [
        torch.randn(shape, device="cuda", requires_grad=True) for shape in shapes
    ]
    lengths = torch.randint(25, 51, (32,), device="cuda")

    def step(attention: Any) -> Run:
        return lambda: torch.autograd.grad(
            attention(query, keys, v, memory, lengths)[0].sum(), inputs
        )

    ours, eager = step(ops.additive_attention), step(reference.additive_attention)
    used = [peak_memory(run) / 2**20 for run in (ours, eager)]
    print(f"    memory: ours {used[0]:.1f} MiB, eager {used[1]:.1f} MiB")
    return compare_with_floor(
        "Additive attention, 32 sentences, T=50, S=50, A=256, M=512: forward + backward",
        [Need(0.0, bytes=2 * sum(t.nbytes for t in inputs))],
        ours,
        {
            "eager PyTorch": eager,
            "compiled PyTorch": step(torch.compile(reference.additive_attention, dynamic=False)),
        },
        atol=1e-3,
    )


def _best(logits: Tensor) -> Tensor:
    return logits.log_softmax(1).topk(10).values


def _beamgrad_rows(logits: Tensor) -> Any:
    """beamgrad's ``TopRows`` for such logits, or None."""
    if (rival := rivals.load("beamgrad", on_gpu=True)) is None:
        return None
    rows = rival.TopRows(*logits.shape, 10, device=logits.device, dtype=logits.dtype)
    rows.logits.copy_(logits)
    return rows


def _topk(rows: int, type_name: str) -> list[Comparison]:
    """Row 6: V = 32k, of logits and of a projection from H = 1024."""
    vocabulary, size, dtype = 32_000, 1024, getattr(torch, type_name)
    torch.manual_seed(0)
    x = torch.randn(rows, size, device="cuda", dtype=dtype)
    weight = torch.randn(vocabulary, size, device="cuda", dtype=dtype) / 20
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
            compare_with_floor(
                f"Log-softmax + top-10, {rows} rows, V=32k, {type_name}",
                [Need(0.0, bytes=logits.nbytes)],
                lambda: ops.log_softmax_topk(logits, 10)[0],
                of_logits,
                atol=1e-4 if is_float32 else 0.1,
            ),
            compare_with_floor(
                f"Projection + log-softmax + top-10, {rows} rows, H=1024, V=32k, {type_name}",
                [Need(2.0 * rows * weight.numel(), type_name, weight.nbytes)],
                lambda: ops.linear_log_softmax_topk(x, weight, None, 10)[0],
                of_inputs,
                atol=1e-3 if is_float32 else 0.2,
            ),
        ]


def _whole_decode(batch: int) -> Comparison:
    """Row 7: the translation model, beam 5, 30 steps."""
    model = nmt.build_model().cuda()
    options = nmt.search_options(model)
    src, lengths = (t.cuda() for t in nmt.sources(batch))
    decoders = {
        "eager PyTorch": EagerDecoder(model, options, compiled=False),
        "compiled PyTorch": EagerDecoder(model, options, compiled=True),
    }
    for name in rivals.DECODERS:
        if (rival := rivals.load(name, on_gpu=True)) is not None:
            decoders[rival.NAME] = rival.Decoder(model, options)
    work = Decoding.of([[(nmt.SOURCE_LENGTH, nmt.STEPS)] * batch], options.beam_size)
    return compare_with_floor(
        f"Translation, batch of {batch}, beam 5, 30 steps, V=32k",
        work.needs(model, "float32"),
        torch.inference_mode()(lambda: model.generate(src, lengths, options)),
        {name: partial(decode, src, lengths) for name, decode in decoders.items()},
        equal=False,
    )


def run() -> list[Comparison]:
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks cuda: expected a GPU, got none")
    if seq2seq_ext.info()["cuda"] == "not built":
        raise SystemExit("benchmarks cuda: expected a build with CUDA kernels, got one without")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    both = ("float32", "bfloat16")
    return [
        *_layer_rows(),
        *(_decode_step(rows, name) for rows in (5, 40, 160, 640) for name in both),
        _attention_step(32, 5),
        _attention_step(1, 5),
        _attention_training(),
        *(row for name in both for row in _topk(640, name)),
        *(_whole_decode(batch) for batch in (1, 32, 128)),
    ]
