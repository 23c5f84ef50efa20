"""nvcc takes every CUDA kernel for every architecture, without spills; the ops register."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from emulated_cuda import ROOT, load

ARCHITECTURES = (80, 90, 100)
# ops whose twin on the CPU is no op, but an engine
ENGINES = {
    "beam_search_step",
    "beam_search_draw",
    "beam_search_coverage",
    "beam_search_rules",
    "log_softmax_topk.ruled",
    "linear_log_softmax_topk.ruled",
}
REGISTERS = 65536  # of a multiprocessor, of all three
KERNELS = sorted((ROOT / "csrc" / "kernels" / "cuda").glob("*.cu"))
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on the PATH")


def build_options() -> list[str]:
    """What CMakeLists.txt has nvcc told."""
    told = re.findall(r"<COMPILE_LANGUAGE:CUDA>:([^>]+)>", (ROOT / "CMakeLists.txt").read_text())
    return " ".join(told).split()


def compile_kernels(file: Path, to: Path) -> str:
    """The compiler's report. What it made for the assembler lies beside ``to``."""
    done = subprocess.run(
        [
            *("nvcc", *build_options(), "--keep", "--keep-dir", to.parent),
            *("-std=c++20", "-O3", "-Xcompiler", "-fPIC,-Wall", "-Werror", "all-warnings"),
            *("-Xptxas", "-v", "-c", file, "-o", to),
            *(f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def check_report(file: Path, report: str) -> None:
    """Nothing in local memory; registers for the kBlocksPerSm blocks of kThreads claimed."""
    kernels = re.findall(
        r"Compiling entry function '\S+?Li(\d+)ELi(\d+)EEEvT_' for 'sm_(\d+)'\n.*\n"
        r"\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n"
        r".*Used (\d+) registers",
        report,
    )
    assert len(kernels) == report.count("Compiling entry function") >= len(ARCHITECTURES)
    assert {int(k[2]) for k in kernels} == set(ARCHITECTURES)
    for threads, blocks, architecture, stack, stores, loads, registers in (
        map(int, k) for k in kernels
    ):
        where = f"{file.name}, sm_{architecture}, {threads} threads, {blocks} blocks"
        assert stack == stores == loads == 0, f"{where}: spills, or an array not in registers"
        of_warp = -(-registers * 32 // 256) * 256  # as they are handed out
        assert of_warp * threads // 32 * blocks <= REGISTERS, f"{where}: {registers} registers"


def check_assembly(file: Path, folder: Path) -> None:
    """No sum is left to be fused: a row's bits must not follow from the kernel that makes it. No
    load goes by the cache of constants, which never hears of what other blocks write."""
    kept = list(folder.glob(f"{file.stem}.compute_*.ptx"))
    assert len(kept) == len(ARCHITECTURES)
    for assembly in (each.read_text() for each in kept):
        assert re.search(r"\badd\.rn\.f(32|64)\b", assembly), file.name
        assert not re.search(r"\b(add|sub|mul)\.f(32|64)\b", assembly), file.name
        assert "ld.global.nc" not in assembly, file.name


@needs_nvcc
def test_nvcc_takes_every_kernel(tmp_path: Path) -> None:
    objects = [tmp_path / f"{file.stem}.o" for file in KERNELS]
    with ThreadPoolExecutor(2) as pool:
        for file, report in zip(KERNELS, pool.map(compile_kernels, KERNELS, objects), strict=True):
            check_report(file, report)
            check_assembly(file, tmp_path)
    library = tmp_path / "libkernels.so"
    link = ["nvcc", "-shared", "-cudart", "static", "-Xlinker", "--no-undefined"]
    subprocess.run([*link, *objects, "-o", library], check=True)
    # Loads without a driver; nothing starts CUDA on import.
    subprocess.run(
        [sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(library)!r})"], check=True
    )


@needs_nvcc
def test_every_twin_is_registered_for_cuda() -> None:
    load()
    names = [
        name
        for file in (ROOT / "csrc" / "ops" / "cuda").glob("*.cpp")
        for name in re.findall(r'm\.impl\("([\w.]+)"', file.read_text())
    ]
    assert names
    for name in names:
        has = torch._C._dispatch_has_kernel_for_dispatch_key
        assert has(f"seq2seq_ext::{name}", "CUDA"), name
        assert has(f"seq2seq_ext::{name}", "CPU") != (name in ENGINES), name


def test_stream_of_the_ops_compiles() -> None:
    """The one file of host code that the emulated build replaces."""
    include = Path(torch.__file__).parent / "include"
    source = ROOT / "csrc" / "ops" / "cuda" / "stream.cpp"
    command = ["g++", "-std=c++20", "-fsyntax-only", f"-I{ROOT / 'csrc'}"]
    for folder in (include, include / "torch" / "csrc" / "api" / "include"):
        command += ["-isystem", str(folder)]
    if torch.version.cuda:
        command += ["-isystem", os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/include"]
    subprocess.run([*command, str(source)], check=True)
