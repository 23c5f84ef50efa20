"""The CUDA kernels without a GPU: built for the emulated device of tests/cuda, run on CPU tensors.

Nothing between Python and the kernels' own code is replaced but the launch and the stream.
"""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from seq2seq_ext.decoding.engine import BeamSearch
from seq2seq_ext.ops import tracing

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "emulated_cuda"
CUDA = DispatchKeySet(DispatchKey.CUDA)


def tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} to build the emulated device with")
    return found


@cache
def load() -> Any:
    """Builds what changed and loads the library; its own ops."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:  # one worker builds, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        torch_folder = Path(torch.__file__).parent
        cmake, ninja, _ = map(tool, ("cmake", "ninja", "c++"))
        source = ROOT / "tests" / "cuda"
        configure = [
            cmake,
            "-S",
            source,
            "-B",
            FOLDER,
            "-G",
            "Ninja",
            f"-DTORCH_DIR={torch_folder}",
        ]
        configure.append(f"-DCMAKE_MAKE_PROGRAM={ninja}")
        for command in (configure, [cmake, "--build", FOLDER]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    torch.ops.load_library(str(FOLDER / "libseq2seq_ext_emulated.so"))
    return torch.ops.seq2seq_ext_emulator


class Redispatch(TorchDispatchMode):
    """Sends this package's ops to the kernels registered for CUDA, but for what the host has taken
    from the device."""

    on_host: ClassVar = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        traced = bool(types)  # tensors of other classes have no data: they are fake, or functional
        ours = func.namespace == "seq2seq_ext" and not traced and not self.on_host
        if ours and func.has_kernel_for_dispatch_key(DispatchKey.CUDA):
            return func.redispatch(CUDA, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class OnDevice(TorchFunctionMode):
    """Modules find their parameters on CUDA, as they ask before they pack weights for the CPU."""

    _ANSWERS: ClassVar = {Tensor.is_cuda.__get__: True, Tensor.is_cpu.__get__: False}  # type: ignore[attr-defined]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._ANSWERS and isinstance(args[0], Parameter):
            return self._ANSWERS[func]
        return func(*args, **(kwargs or {}))


_candidates = BeamSearch._candidates


def _of_host(search: BeamSearch, logits: Tensor) -> Any:
    """The host's search moves logits to the CPU, and has them from the CPU's kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Redispatch, "on_host", True)
        return _candidates(search, logits)


@contextmanager
def emulated_cuda(
    seed: int = 0,
    processors: int = 1000,
    shared_bytes: int = 200 * 1024,
    owns_memory: bool = False,
    captures: bool = False,
    last_blocks: int = 0,
    room: int = 0,
) -> Iterator[None]:
    """Inside, the ops of this package run their CUDA kernels on CPU tensors.

    Args:
        seed: of the order in which threads run.
        processors, shared_bytes: of the device; a processor holds as many blocks as a kernel claims
            and its shared memory has room for.
        owns_memory: ops take every tensor for one on the device, which the host does not read.
        captures: ops and models take what they are called for as going into a CUDA graph.
        last_blocks: so many run of a launch of more than 8 times as many, and not all, if not 0:
            for tensors of more elements than anybody could compute, whose untouched pages cost
            nothing.
        room: for so many blocks that wait for each other, if not 0, whatever its limits say.
    """
    emulator = load()
    emulator.set_seed(seed)
    emulator.set_device(processors, shared_bytes, owns_memory, captures, last_blocks, room)
    with pytest.MonkeyPatch.context() as patch, Redispatch(), OnDevice():
        patch.setattr(tracing, "is_captured", lambda tensor: captures)
        patch.setattr(BeamSearch, "_candidates", _of_host)
        yield
