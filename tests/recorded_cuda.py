"""Run as a program, for a process of its own: what the ops ask a CUDA runtime for, as JSON.

Nothing runs: results are what lay in memory. See tests/cuda/recorder.cpp, whose library, linked
with the kernels that nvcc compiled, is the program's one argument.
"""

import ctypes
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

import seq2seq_cases
import torch
from cuda_device import tf32
from emulated_cuda import OnDevice, Redispatch
from recurrent_cases import GRU, LSTM, Case, make_inputs, run_with_gradients
from test_cuda_graphs import CALLS

from seq2seq_ext import ops
from seq2seq_ext.models.device_generation import FixedStep, search_on_device

# Of ops alone: a model would look up what lay in memory.
NAMES = (
    *("additive", "dot", "attentional lstm", "attentional gru", "lstm", "projected lstm", "gru"),
    *("rnn", "lstm of full rows", "one step", "loss", "linear", "topk"),
)
# Searches that make every kernel of theirs run.
SEARCHES: dict[str, dict[str, Any]] = {
    "rules": {"no_repeat_ngram_size": 2, "coverage_penalty": "gnmt", "beta": 0.4},
    "samples": {"sampling": "gumbel", "top_k": 5, "seed": 3},
    "nucleus": {"sampling": "gumbel", "top_p": 0.8, "top_k": 9, "seed": 3},
}
# Rows on 16 bytes, more of them than a tile has: one block, or all, may hold their weights.
HELD = Case(3, 35, 16, 40, D=2)


@dataclass(frozen=True)
class Launch:
    kernel: str
    blocks: int
    threads: int
    shared: int
    on_stream: bool  # the caller's
    together: bool
    refused: bool


class Recorder:
    """Calls under a runtime that writes down their launches."""

    def __init__(self, library: str) -> None:
        torch.ops.load_library(library)
        self._runtime = ctypes.CDLL(library)
        self._runtime.recorder_launch.restype = ctypes.c_char_p

    def record(
        self, call: Callable[[], Any], failing: int = -1, refusals: int = 0
    ) -> tuple[list[Launch], str]:
        """What it launched, and what it raised."""
        self._runtime.recorder_begin(ctypes.c_int64(failing), ctypes.c_int64(refusals))
        error = ""
        with Redispatch(), OnDevice():
            try:
                call()
            except RuntimeError as raised:
                error = str(raised).splitlines()[0]
        return [self._launch(i) for i in range(self._runtime.recorder_count())], error

    def _launch(self, i: int) -> Launch:
        told = (ctypes.c_int64 * 6)()
        name = self._runtime.recorder_launch(ctypes.c_int64(i), told).decode()
        return Launch(name, *told[:3], *map(bool, told[3:]))  # type: ignore[misc]


def op(name: str) -> Callable[[], Any]:
    """Forward, and backward where there is one."""
    function, leaves = CALLS[name](None)
    leaves = tuple(leaf.requires_grad_() for leaf in leaves)

    def run() -> None:
        outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        wanted = [o for o in outputs if o.requires_grad]
        if wanted:
            torch.autograd.grad([o.sum() for o in wanted], leaves, allow_unused=True)

    return run


def layer(kind: Any) -> Callable[[], Any]:
    inputs = make_inputs(kind, HELD).leaves(torch.float32)
    return lambda: run_with_gradients(kind, ops, inputs)


def search(told: dict[str, Any]) -> Callable[[], Any]:
    """A model's encoder and the first step."""
    model = seq2seq_cases.make(torch.float32)
    src, lengths, _, _ = seq2seq_cases.data(model)
    options = [replace(seq2seq_cases.OPTIONS, **told)] * len(src)

    @torch.no_grad()
    def run() -> None:
        memory = model.encode(src, lengths)
        step = FixedStep(
            model.decoder, memory, search_on_device(model.decoder, lengths, options, src.device)
        )
        with suppress(IndexError):  # parents are what lay in memory
            step()

    return run


def too_many_blocks() -> Any:
    one = torch.empty(1, dtype=torch.bfloat16)
    batch = 2**31
    nothing = one[:0].view(1, 0, 1).expand(batch, 0, 1)
    return ops.dot_attention(one.view(1, 1, 1).expand(batch, 1, 1), nothing, nothing)


def failures(recorder: Recorder, call: Callable[[], Any], launches: list[Launch]) -> list[Any]:
    """Launches before the one that fails, all that were asked for, and what was raised: for the
    first of each kernel."""
    firsts = {launch.kernel: i for i, launch in reversed(list(enumerate(launches)))}
    found = []
    for i in firsts.values():
        asked, error = recorder.record(call, failing=i)
        found.append((i, len(asked), error))
    return found


def main(library: str) -> dict[str, Any]:
    recorder, told = Recorder(library), {}
    calls = {name: op(name) for name in NAMES}
    calls |= {name: search(options) for name, options in SEARCHES.items()}
    calls |= {f"held {kind.name}": layer(kind) for kind in (LSTM, GRU)}
    with tf32():
        for name, call in calls.items():
            launches, error = recorder.record(call)
            told[name] = {
                "launches": [asdict(launch) for launch in launches],
                "error": error,
                "failures": failures(recorder, call, launches),
            }
        held = calls["held lstm"]
        refused = {n: recorder.record(held, refusals=n) for n in range(1, 4)}
    large = recorder.record(too_many_blocks)
    return {
        "ops": told,
        "refused": {n: ([asdict(x) for x in made], error) for n, (made, error) in refused.items()},
        "too many blocks": (len(large[0]), large[1]),
    }


if __name__ == "__main__":
    with torch.random.fork_rng():
        print(json.dumps(main(sys.argv[1])))
