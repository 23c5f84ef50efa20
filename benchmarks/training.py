"""A training step of the translation model, its time and its memory, against eager PyTorch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import nmt
from benchmarks.harness import Comparison, compare
from benchmarks.needs import training
from benchmarks.rivals.eager import EagerSeq2Seq

Step = Callable[[], Tensor]
NAMES = ("ours", "eager", "eager, real tokens only", "compiled steps")


def eager_loss(model: EagerSeq2Seq, output: nn.Linear, step: Callable, real_only: bool) -> Tensor:
    """Teacher forcing: all steps, then one output layer. ``model.output`` is the identity.

    ``real_only``: padding is left out of the output layer, as few would; else cross_entropy
    ignores it.
    """
    src, src_lengths, tgt, tgt_lengths = nmt.training_batch(64, 50)
    source, state = model.encode(src, src_lengths)
    vectors = []
    for tokens in tgt[:, :-1].unbind(1):
        vector, state = step(tokens, source, state)
        vectors.append(vector)
    x, targets = torch.stack(vectors, 1), tgt[:, 1:]
    real = torch.arange(targets.size(1)) < (tgt_lengths - 1)[:, None]
    if real_only:
        return cross_entropy(output(x[real]), targets[real])
    return cross_entropy(output(x).flatten(0, 1), targets.masked_fill(~real, -100).flatten())


def contender(name: str) -> Step:
    """A training step without the optimiser, which is torch's for everybody; returns the loss."""
    model = nmt.build_model().train()
    if name == "ours":
        return _step(model, lambda: model.loss(*nmt.training_batch(64, 50)))
    rival, output = EagerSeq2Seq(model).train(), model.decoder.output
    rival.output = nn.Identity()
    step = torch.compile(rival.step) if name == "compiled steps" else rival.step
    real_only = name != "eager"
    return _step(model, lambda: eager_loss(rival, output, step, real_only), rival)


def _step(model: nn.Module, loss: Step, *others: nn.Module) -> Step:
    def step() -> Tensor:
        for module in (model, *others):
            module.zero_grad()
        value = loss()
        value.backward()
        return value.detach()

    return step


def peak_memory(name: str) -> int:
    """Bytes that two steps add to the peak of a fresh process: gradients and activations."""
    run = (sys.executable, "-m", "benchmarks.training", name)
    return int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def _peak_rss() -> int:
    """Of this process alone; what getrusage tells begins with the parent's peak."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def run() -> list[Comparison]:
    ours, *rivals = NAMES
    _, src_lengths, _, tgt_lengths = nmt.training_batch(64, 50)
    work = "Training step: BiLSTM 2x512, LSTM 2x512, additive, input feeding, V=32k, 64 of 5..50"
    comparison = compare(
        work,
        contender(ours),
        {name: contender(name) for name in rivals},
        seconds=40,
        atol=1e-3,
        needs=training(nmt.build_model(), src_lengths, tgt_lengths),
    )
    peaks = {name: peak_memory(name) for name in NAMES}
    for name in NAMES:
        ratio = peaks[name] / peaks[ours]
        print(f"    peak memory of {name}: {peaks[name] / 2**20:.0f} MiB, {ratio:.2f}x ours")
    return [comparison]


if __name__ == "__main__":
    step = contender(sys.argv[1])
    before = _peak_rss()
    step()
    step()
    print(_peak_rss() - before)
