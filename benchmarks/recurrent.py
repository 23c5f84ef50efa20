"""What the benchmarks of the recurrent layers share."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seq2seq_ext
from benchmarks import recurrent_steps, rivals
from benchmarks.harness import Comparison, Run, compare


def _pair(name: str, *args: Any, **kwargs: Any) -> tuple[nn.RNNBase, nn.RNNBase]:
    torch.manual_seed(0)
    theirs = getattr(nn, name)(*args, **kwargs)
    ours = getattr(seq2seq_ext, name)(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs.eval()


def _inference(run: Run) -> Run:
    return torch.inference_mode()(run)


def _training(module: nn.Module, run: Run) -> Run:
    def step() -> Any:
        module.zero_grad()
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


def padded(name: str) -> Comparison:
    """64 x 50, two bidirectional layers, H = 512."""
    ours, theirs = _pair(name, 512, 512, num_layers=2, bidirectional=True)
    x = torch.randn(50, 64, 512)
    contenders = {f"nn.{name}": _inference(lambda: theirs(x)[0])}
    if name == "LSTM" and (rival := rivals.load("onnxruntime")) is not None:
        run, lengths = rival.lstm(theirs), torch.full((64,), 50)
        contenders[rival.NAME] = lambda: run(x, lengths)
    return compare(
        f"{name} forward, padded 64x50, 2 layers, bidirectional, H=512",
        _inference(lambda: ours(x)[0]),
        contenders,
        seconds=8,
    )


def ragged(name: str) -> list[Comparison]:
    """64 rows of 5..50, one bidirectional layer, H = 512: forward and a training step."""
    ours, theirs = _pair(name, 512, 512, bidirectional=True)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 51, (64,), generator=generator)
    lengths[0] = 50
    x = torch.randn(50, 64, 512)

    def run() -> Any:
        return ours(x, lengths=lengths)

    packed = _packed(theirs, x, lengths)
    work = f"{name}, 64 rows of 5..50, bidirectional, H=512"
    forward = compare(
        f"{work}: forward",
        _inference(lambda: run()[0]),
        {f"nn.{name} packed": _inference(lambda: packed()[0])},
        seconds=5,
    )
    step = compare(
        f"{work}: training step",
        _training(ours, run),
        {f"nn.{name} packed": _training(theirs, packed)},
        seconds=8,
    )
    return [forward, step]


def all_of(name: str) -> list[Comparison]:
    return [padded(name), *ragged(name), *recurrent_steps.layers(name), recurrent_steps.cell(name)]
