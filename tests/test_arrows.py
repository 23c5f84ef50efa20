"""The house's order: what may include or import what, and one stem for one noun."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "seq2seq_ext"
CSRC = ROOT / "csrc"
if not CSRC.is_dir():
    pytest.skip("needs the source tree", allow_module_level=True)

# May be included from the folder: our folders, then the rest of the world that is shut out.
INCLUDES = {
    "kernels": ({"kernels"}, ("torch/", "ATen/", "c10/", "pybind11/", "Python.h")),
    "ops": ({"kernels", "ops"}, ("pybind11/", "Python.h", "torch/extension.h")),
    "bindings": ({"kernels", "bindings"}, ("torch/", "ATen/", "c10/")),
}
# The one bound class that takes tensors: past the dispatcher, as that takes longer than its kernel.
TENSOR_BINDING = "recurrent_inference.cpp"
# A package imports what stands before it; everything else in seq2seq_ext is a tool, at the end.
ORDER = ["_load", "reference", "ops", "nn", "decoding", "models"]
SWITCHES_TO_REFERENCE = {"reference", "ops", "decoding", "models"}
# The contract header of nouns that share one, and the kernel of an op that is one product.
CONTRACT = {**dict.fromkeys(["lstm", "gru", "rnn"], "recurrent"), "linear": "gemm"}
KERNEL = {"linear": "gemm"}
OP = {kernel: op for op, kernel in KERNEL.items()}
SOURCES = {".py", ".cpp", ".h", ".cu", ".cuh"}
TEXTS = SOURCES | {".md", ".toml", ".txt", ".yml", ".yaml", ".cfg", ".sh", ""}


def source_files(suffixes: set[str]) -> list[Path]:
    folders = ["csrc", "seq2seq_ext", "tests", "benchmarks", "examples", "docs"]
    files = [f for folder in folders for f in sorted((ROOT / folder).rglob("*"))]
    files += sorted(ROOT.iterdir())
    return [
        f
        for f in files
        if f.is_file()
        and f.suffix in suffixes
        and "__pycache__" not in f.parts
        and f.name != ".git"
    ]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", INCLUDES)
def test_includes(folder: str) -> None:
    wrong = []
    for file in (CSRC / folder).rglob("*"):
        if file.suffix not in SOURCES:
            continue
        allowed, shut_out = INCLUDES[folder]
        if folder == "bindings" and file.name == TENSOR_BINDING:
            allowed, shut_out = allowed | {"ops"}, ()
        for mark, name in re.findall(r'^\s*#\s*include\s*(["<])([^">]+)', file.read_text(), re.M):
            if mark == "<":
                fits = not name.startswith(shut_out)
            else:
                targets = [t.resolve() for t in (file.parent / name, CSRC / name) if t.exists()]
                fits = any(t.relative_to(CSRC).parts[0] in allowed for t in targets)
            if not fits:
                wrong.append(f"{relative(file)}: {name}")
    assert not wrong


def imported_parts(file: Path) -> set[str]:
    """The parts of seq2seq_ext that a file imports, ``ops`` for ``seq2seq_ext.ops.lstm``."""
    parts = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(file)}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            part = rest.split(".")[0]
            is_part = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").exists()
            if top == "seq2seq_ext" and part and is_part:
                parts.add(part)
    return parts


def python_files() -> list[tuple[str, Path]]:
    """(part, file) of everything in the package but its __init__."""
    files = []
    for file in sorted(PACKAGE.rglob("*.py")):
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part != "__init__":
            files.append((part, file))
    return files


def test_imports() -> None:
    def rank(part: str) -> int:
        return ORDER.index(part) if part in ORDER else len(ORDER)

    wrong = [
        f"{relative(file)}: {other}"
        for part, file in python_files()
        for other in imported_parts(file)
        if rank(other) > rank(part) or (other == "reference" and part not in SWITCHES_TO_REFERENCE)
    ]
    assert not wrong


def test_reference_imports_nothing_of_ours() -> None:
    for file in (PACKAGE / "reference").glob("*.py"):
        assert imported_parts(file) <= {"reference"}, relative(file)


def nouns() -> list[str]:
    """Every file of csrc/ops that registers kernels."""
    files = sorted((CSRC / "ops").glob("*.cpp"))
    return [f.stem for f in files if "TORCH_LIBRARY_IMPL" in f.read_text()]


@pytest.mark.parametrize("noun", nouns())
def test_one_stem_everywhere(noun: str) -> None:
    expected = [
        CSRC / "kernels" / f"{CONTRACT.get(noun, noun)}.h",
        CSRC / "kernels" / "cpu" / f"{KERNEL.get(noun, noun)}.cpp",
        PACKAGE / "ops" / f"{noun}.py",
        PACKAGE / "reference" / f"{noun}.py",
        ROOT / "tests" / f"test_{noun}.py",
    ]
    assert [relative(f) for f in expected if not f.exists()] == []


def test_cuda_twins_have_their_noun_s_stem() -> None:
    for file in (CSRC / "kernels" / "cuda").glob("*.cu"):
        noun = file.stem.removesuffix("_backward")
        assert file.with_stem(noun).with_suffix(".h").exists(), relative(file)
        assert (CSRC / "kernels" / f"{noun}.h").exists(), relative(file)
        op = OP.get(noun, noun)
        assert (CSRC / "ops" / "cuda" / f"{op}.cpp").exists(), relative(file)
        assert (ROOT / "tests" / f"test_cuda_{op}.py").exists(), relative(file)


def test_tests_mirror_the_modules() -> None:
    for file in (PACKAGE / "ops").glob("*.py"):
        if file.stem not in {"__init__", "autograd", "recurrent"}:
            assert (ROOT / "tests" / f"test_{file.stem}.py").exists(), file.stem


def test_no_file_is_long() -> None:
    lengths = {relative(f): len(f.read_text().splitlines()) for f in source_files(SOURCES)}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_no_machine_shows() -> None:
    # Written in pieces, so that this file passes its own test.
    banned = re.compile(
        "|".join(
            ["/" + "work/", "/" + "tmp/", "/" + "home/", r"\.exam" + "ple/", "extra-index" + "-url"]
        )
    )
    wrong = [
        f"{relative(f)}:{number}"
        for f in source_files(TEXTS)
        for number, line in enumerate(f.read_text().splitlines(), 1)
        if banned.search(line)
    ]
    assert not wrong
