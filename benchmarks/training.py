"""A training step of the translation model, its time and its memory, against eager PyTorch;
in float32 and under autocast."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import nmt
from benchmarks.harness import Comparison, compare
from benchmarks.memory import peak_of
from benchmarks.needs import training
from benchmarks.rivals.eager import EagerSeq2Seq

Step = Callable[[], Tensor]
AUTOCAST = ", bfloat16 autocast"
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
    name, autocast = name.removesuffix(AUTOCAST), name.endswith(AUTOCAST)
    model = nmt.build_model().train()
    if name == "ours":
        return _step(lambda: model.loss(*nmt.training_batch(64, 50)), autocast, model)
    rival, output = EagerSeq2Seq(model).train(), model.decoder.output
    rival.output = nn.Identity()
    step = torch.compile(rival.step) if name == "compiled steps" else rival.step
    real_only = name != "eager"
    return _step(lambda: eager_loss(rival, output, step, real_only), autocast, model, rival)


def _step(loss: Step, autocast: bool, *modules: nn.Module) -> Step:
    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss()
        value.backward()
        for module in modules:
            module.zero_grad()
        return value.detach()

    return step


def _compare(dtype: str, suffix: str, atol: float) -> Comparison:
    _, src_lengths, _, tgt_lengths = nmt.training_batch(64, 50)
    ours, *rivals = NAMES
    work = "Training step: BiLSTM 2x512, LSTM 2x512, additive, input feeding, V=32k, 64 of 5..50"
    comparison = compare(
        work + suffix,
        contender(ours + suffix),
        {name: contender(name + suffix) for name in rivals},
        seconds=40,
        atol=atol,
        needs=training(nmt.build_model(), src_lengths, tgt_lengths, dtype),
    )
    comparison.peaks = {name: peak_of("training", name + suffix) for name in NAMES}
    return comparison


def run() -> list[Comparison]:
    return [_compare("float32", "", 1e-3), _compare("bfloat16", AUTOCAST, 0.05)]
