"""nvcc takes every CUDA kernel for every architecture, without spills; the ops register, and their
launches are what a runtime takes."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated_cuda import FOLDER, ROOT, load, tool

ARCHITECTURES = (80, 90, 100)
# ops whose twin on the CPU is no op, but an engine
ENGINES = {
    "beam_search_step",
    "beam_search_draw",
    "beam_search_coverage",
    "beam_search_rules",
    "beam_search_nucleus",
    "log_softmax_topk.ruled",
    "linear_log_softmax_topk.ruled",
}
MMA = [f"m16n8k16.row.col.f32.{t}.{t}.f32" for t in ("bf16", "f16")]
MMA += ["m16n8k8.row.col.f32.tf32.tf32.f32"]
REGISTERS = 65536  # of a multiprocessor, of all three
FILES = ROOT / "csrc" / "kernels" / "cuda"
KERNELS = sorted(FILES.glob("*.cu"))
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
    load goes by the cache of constants, which never hears of what other blocks write. Products of
    16 bits, and of TF32, are the tensor cores'."""
    kept = list(folder.glob(f"{file.stem}.compute_*.ptx"))
    assert len(kept) == len(ARCHITECTURES)
    for assembly in (each.read_text() for each in kept):
        assert re.search(r"\badd\.rn\.f(32|64)\b", assembly), file.name
        assert not re.search(r"\b(add|sub|mul)\.f(32|64)\b", assembly), file.name
        assert "ld.global.nc" not in assembly, file.name
        for shape in MMA if "with_math<" in file.read_text() else ():
            assert f"mma.sync.aligned.{shape}" in assembly, f"{file.name}: {shape}"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """The compiler's, by the object file."""
    folder = tmp_path_factory.mktemp("kernels")
    objects = [folder / f"{file.stem}.o" for file in KERNELS]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(objects, pool.map(compile_kernels, KERNELS, objects), strict=True))


@needs_nvcc
def test_nvcc_takes_every_kernel(reports: dict[Path, str], tmp_path: Path) -> None:
    for file, (to, report) in zip(KERNELS, reports.items(), strict=True):
        check_report(file, report)
        check_assembly(file, to.parent)
    library = tmp_path / "libkernels.so"
    link = ["nvcc", "-shared", "-cudart", "static", "-Xlinker", "--no-undefined"]
    subprocess.run([*link, *reports, "-o", library], check=True)
    # Loads without a driver; nothing starts CUDA on import.
    subprocess.run(
        [sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(library)!r})"], check=True
    )


def torch_includes() -> list[str]:
    include = Path(torch.__file__).parent / "include"
    folders = include, include / "torch" / "csrc" / "api" / "include"
    return [word for folder in folders for word in ("-isystem", str(folder))]


@pytest.fixture(scope="module")
def recorded(reports: dict[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What tests/recorded_cuda.py tells. To link is a test: of a runtime the library has only what
    starts kernels, nothing that allocates, copies or waits, so that nobody asks for it."""
    load()
    library = tmp_path_factory.mktemp("recorded") / "librecorded.so"
    recorder = library.with_name("recorder.o")
    source = ROOT / "tests" / "cuda" / "recorder.cpp"
    options = ["-std=c++20", "-Xcompiler", "-fPIC", f"-I{ROOT / 'csrc'}", *torch_includes()]
    subprocess.run(["nvcc", *options, "-c", source, "-o", recorder], check=True)
    torch_library = Path(torch.__file__).parent / "lib"
    link = ["g++", "-shared", "-Wl,--no-undefined,-Bsymbolic", f"-Wl,-rpath,{torch_library}"]
    host = list(FOLDER.rglob("csrc/ops/**/*.o"))
    libraries = [f"-L{torch_library}", "-ltorch_cpu", "-lc10"]
    subprocess.run([*link, recorder, *host, *reports, *libraries, "-o", library], check=True)
    program = [sys.executable, ROOT / "tests" / "recorded_cuda.py", library]
    return json.loads(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


@needs_nvcc
def test_every_kernel_goes_to_the_caller_s_stream(recorded: Any) -> None:
    launched = ""
    for name, told in recorded["ops"].items():
        assert told["error"] == "", name
        assert all(each["on_stream"] and not each["refused"] for each in told["launches"]), name
        launched += "".join(each["kernel"] for each in told["launches"])
    sources = (file.read_text() for file in (*KERNELS, *FILES.glob("*.cuh")))
    kernels = {name for text in sources for name in re.findall(r"^struct (\w+Kernel) ", text, re.M)}
    silent = {name for name in kernels if f"{len(name)}{name}" not in launched}
    assert not silent, "tests/recorded_cuda.py has no call of them"


@needs_nvcc
def test_every_launch_is_checked(recorded: Any) -> None:
    """One that fails is the last, and the next call is not blamed for it."""
    for name, told in recorded["ops"].items():
        assert told["failures"]
        for place, asked, error in told["failures"]:
            assert (asked, error) == (place + 1, "CUDA: a launch that fails"), name


@needs_nvcc
def test_blocks_that_do_not_fit_together_are_launched_otherwise(recorded: Any) -> None:
    """As where less room is than the device tells: at last in a launch a step."""
    steps = 3
    for refusals, (launches, error) in recorded["refused"].items():
        forward = [each for each in launches if "13ForwardKernel" in each["kernel"]]
        refused = [each["refused"] for each in forward]
        assert error == ""
        assert refused == [True] * int(refusals) + [False] * (1 if int(refusals) < 3 else steps)
        assert all(each["together"] for each in forward[: int(refusals)])
        assert all(each["on_stream"] for each in launches)


@needs_nvcc
def test_more_blocks_than_there_are_numbers_for_are_refused(recorded: Any) -> None:
    launches, error = recorded["too many blocks"]
    assert error == "CUDA: expected at most 2^31 - 1 blocks, got 2147483648"
    assert launches == 0


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


def told_torch(folder: Path, cuda: str | None) -> None:
    """A package that says it is this torch, built for that CUDA."""
    package, real = folder / "torch", Path(torch.__file__).parent
    (package / "lib").mkdir(parents=True)
    package.joinpath("__init__.py").write_text(
        f"class version: cuda = {cuda!r}\n__version__ = {torch.__version__!r}\n"
    )
    (package / "include").symlink_to(real / "include")
    for name in ("torch_cpu", "torch_python", "c10"):
        (package / "lib" / f"lib{name}.so").symlink_to(real / "lib" / f"lib{name}.so")
    (package / "lib" / "libc10_cuda.so").symlink_to(real / "lib" / "libc10.so")


@needs_nvcc
@pytest.mark.parametrize(
    ("cuda", "has_nvcc"), [("13.0", True), ("13.0", False), (None, True)], ids=str
)
def test_cmake_builds_it_where_nvcc_and_a_cuda_torch_are(
    tmp_path: Path, cuda: str | None, has_nvcc: bool
) -> None:
    told_torch(tmp_path, cuda)
    path = os.environ["PATH"].split(os.pathsep)
    path = [folder for folder in path if has_nvcc or not Path(folder, "nvcc").exists()]
    pybind = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], check=True, capture_output=True, text=True
    ).stdout.strip()
    cmake, ninja = tool("cmake"), tool("ninja")
    done = subprocess.run(
        [
            *(cmake, "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja"),
            *(f"-DCMAKE_MAKE_PROGRAM={ninja}", f"-DPython_EXECUTABLE={sys.executable}"),
            f"-Dpybind11_DIR={pybind}",
        ],
        env={**os.environ, "PATH": os.pathsep.join(path), "PYTHONPATH": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    is_built = cuda is not None and has_nvcc
    assert f"CUDA kernels: {cuda if is_built else 'not built'}" in done.stdout
    rules = re.sub(r'[\\"]', "", (tmp_path / "build" / "build.ninja").read_text())
    assert f"SEQ2SEQ_EXT_CUDA={cuda if is_built else 'not built'}" in rules
    built = {name for name in re.findall(r"\S+/cuda/(\w+\.(?:cu|cpp))\.o:", rules)}
    host = (ROOT / "csrc" / "ops" / "cuda").glob("*.cpp")
    assert built == ({file.name for file in (*KERNELS, *host)} if is_built else set())
    for architecture in ARCHITECTURES:
        assert (f"code=[compute_{architecture},sm_{architecture}]" in rules) == is_built


def test_stream_of_the_ops_compiles() -> None:
    """The one file of host code that the emulated build replaces."""
    source = ROOT / "csrc" / "ops" / "cuda" / "stream.cpp"
    command = ["g++", "-std=c++20", "-fsyntax-only", f"-I{ROOT / 'csrc'}", *torch_includes()]
    if torch.version.cuda:
        command += ["-isystem", os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/include"]
    subprocess.run([*command, str(source)], check=True)
