"""info(), and what importing says when it can't work."""

import os
import subprocess
import sys

import pytest
import torch

import seq2seq_ext


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_says_what_runs() -> None:
    info = seq2seq_ext.info()
    assert info["version"] == seq2seq_ext.__version__
    assert info["torch"] == torch.__version__
    assert info["isa"] in info["isas"].split(", ")
    assert info["isa"] in info["gemm"]
    for dtype in ("float32", "bfloat16", "int8"):
        assert f"{dtype} " in info["gemm"]
    assert info["threads"] == str(torch.get_num_threads())
    assert info["cuda"] in ("not built", torch.version.cuda)
    assert all(isinstance(value, str) for value in info.values())


def test_follows_the_isa(isa: str) -> None:
    assert seq2seq_ext.info()["isa"] == isa


@pytest.mark.parametrize("isa", torch.ops.seq2seq_ext.available_isas())
def test_environment_forces_an_isa(isa: str) -> None:
    done = run_python("import seq2seq_ext; print(seq2seq_ext.info()['isa'])", SEQ2SEQ_EXT_ISA=isa)
    assert done.stdout.strip() == isa


@pytest.mark.parametrize("isa", ["sse9", "AVX2", " "])
def test_a_wrong_isa_fails_the_import(isa: str) -> None:
    done = run_python("import seq2seq_ext", SEQ2SEQ_EXT_ISA=isa)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: SEQ2SEQ_EXT_ISA")
    assert "expected one of baseline, avx2, avx512" in last


def test_another_torch_fails_the_import() -> None:
    done = run_python("import torch; torch.__version__ = '2.10.1'; import seq2seq_ext")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    built_for = torch.ops.seq2seq_ext.built_for_torch()
    assert f"built for torch {built_for}, but torch 2.10.1 is installed" in last


def test_set_isa_names_a_wrong_value() -> None:
    with pytest.raises(ValueError, match=r"expected one of baseline, avx2, avx512, .*, got 'sse9'"):
        torch.ops.seq2seq_ext.set_isa("sse9")
