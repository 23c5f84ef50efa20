"""What the benchmarks of the recurrent layers share."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import config as dynamo
from torch._inductor import config as inductor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seq2seq_ext
from benchmarks import recurrent_steps, rivals
from benchmarks.floors import Need
from benchmarks.harness import Comparison, Run, compare, compare_types, weight_types
from benchmarks.rivals import reduced


def _pair(name: str, *args: Any, **kwargs: Any) -> tuple[nn.RNNBase, nn.RNNBase]:
    torch.manual_seed(0)
    theirs = getattr(nn, name)(*args, **kwargs)
    ours = getattr(seq2seq_ext, name)(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs.eval()


def _inference(run: Run) -> Run:
    return torch.inference_mode()(run)


def _training(module: nn.Module, run: Run, autocast: bool = False) -> Run:
    def step() -> Any:
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = run()
        output[0].sum().backward()
        return output[0].detach()

    return step


def _packed(module: nn.RNNBase, x: Tensor, lengths: Tensor) -> Run:
    def run() -> Any:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        output, state = module(packed)
        return pad_packed_sequence(output, total_length=x.size(0))[0], state

    return run


def _uncompared(run: Run) -> Run:
    """For a rival that reads the padding: backward in time its results are others."""

    def silent() -> None:
        run()

    return silent


def _without_mkldnn(run: Run) -> Run:
    return torch.backends.mkldnn.flags(enabled=False)(run)


def _compiled(module: nn.RNNBase, x: Tensor) -> Run:
    """Compiled as a whole, its weights frozen."""
    with dynamo.patch(allow_rnn=True), inductor.patch(freezing=True):
        compiled = torch.compile(module)
        _inference(lambda: compiled(x))()
    return _inference(lambda: compiled(x)[0])


def _operations(module: nn.RNNBase, rows: int) -> int:
    """Of the products of a forward pass over so many rows, all steps together."""
    weights = [w for name, w in module.named_parameters() if name.startswith("weight")]
    return 2 * rows * sum(w.numel() for w in weights)


def _of_type(module: nn.RNNBase, dtype: str, x: Tensor) -> Run:
    """A module for each type: one that changes its type would pack its weights at every call."""
    typed = copy.deepcopy(module)
    typed.inference_dtype = dtype
    return _inference(lambda: typed(x)[0])


def _reduced(module: nn.RNNBase, x: Tensor) -> dict[str, Run]:
    runs = {}
    for dtype, name in reduced.names(f"nn.{type(module).__name__}").items():
        typed, given = reduced.convert(module, dtype), reduced.inputs(dtype, x)
        runs[name] = _inference(lambda typed=typed, given=given: typed(given)[0])  # type: ignore[misc]
    return runs


def padded(name: str) -> list[Comparison]:
    """64 x 50, two bidirectional layers, H = 512, in each weight type."""
    ours, theirs = _pair(name, 512, 512, num_layers=2, bidirectional=True)
    x = torch.randn(50, 64, 512)
    contenders = {f"nn.{name}": _inference(lambda: theirs(x)[0])}
    if name == "LSTM":  # what mkldnn and the compiler know
        contenders["nn.LSTM without mkldnn"] = _without_mkldnn(contenders["nn.LSTM"])
        contenders["nn.LSTM compiled"] = _compiled(theirs, x)
        if (rival := rivals.load("onnxruntime")) is not None:
            run, lengths = rival.lstm(theirs), torch.full((64,), 50)
            contenders[rival.NAME] = lambda: run(x, lengths)
    operations = _operations(ours, x.size(0) * x.size(1))
    return compare_types(
        f"{name} forward, padded 64x50, 2 layers, bidirectional, H=512",
        {dtype: _of_type(ours, dtype, x) for dtype in weight_types()},
        contenders,
        {dtype: Need(operations, dtype) for dtype in weight_types()},
        reduced=_reduced(theirs, x),
        seconds=20,
    )


def ragged(name: str) -> list[Comparison]:
    """64 rows of 5..50, one bidirectional layer, H = 512: forward and training steps."""
    ours, theirs = _pair(name, 512, 512, bidirectional=True)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 51, (64,), generator=generator)
    lengths[0] = 50
    x = torch.randn(50, 64, 512)

    def run() -> Any:
        return ours(x, lengths=lengths)

    packed = _packed(theirs, x, lengths)
    operations = _operations(ours, int(lengths.sum()))
    work = f"{name}, 64 rows of 5..50, bidirectional, H=512"
    forward = compare(
        f"{work}: forward",
        _inference(lambda: run()[0]),
        {
            f"nn.{name} packed": _inference(lambda: packed()[0]),
            f"nn.{name} padded": _uncompared(_inference(lambda: theirs(x)[0])),
        },
        seconds=6,
        needs=[Need(operations)],
    )
    steps = [
        compare(
            f"{work}: training step{', bfloat16 autocast' if autocast else ''}",
            _training(ours, run, autocast),
            {
                f"nn.{name} packed": _training(theirs, packed, autocast),
                f"nn.{name} padded": _uncompared(_training(theirs, lambda: theirs(x), autocast)),
            },
            seconds=9,
            atol=0.05 if autocast else 1e-4,
            # Forward, weights' gradients, states'; the input's: none.
            needs=[Need(2.5 * operations, "bfloat16" if autocast else "float32")],
        )
        for autocast in (False, True)
    ]
    return [forward, *steps]


def all_of(name: str) -> list[Comparison]:
    return [*padded(name), *ragged(name), *recurrent_steps.layers(name), recurrent_steps.cell(name)]
