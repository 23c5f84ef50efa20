"""The native decode loop takes no memory from step to step, whatever a sentence's options."""

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from steady_state_counts import SENTENCES, cases

from seq2seq_ext import BeamSearchOptions

HERE = Path(__file__).parent
SHORT, LONG = 200, 800

# Those of which no search is made to count: every one has them, or they take a loop in Python.
OTHERS = {"bos_id", "eos_id", "pad_id", "return_attention", "on_step", "logits_hook", "normalized"}


def test_every_option_is_counted() -> None:
    counted = {"min_length", "max_length"}.union(*cases(SHORT).values())
    assert counted | OTHERS == {field.name for field in fields(BeamSearchOptions)}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_steps_take_no_memory(tmp_path: Path) -> None:
    library = tmp_path / "malloc_counter.so"
    source = HERE / "malloc_counter.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    program = HERE / "steady_state_counts.py"
    counted = subprocess.run(
        [sys.executable, program, str(SHORT), str(LONG)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        check=True,
        capture_output=True,
        text=True,
    )
    short, long = json.loads(counted.stdout)
    growth = {name: long[name] - short[name] for name in short}
    # Lists of hypotheses four times as long take a few allocations more for each sentence.
    assert {name: n for name, n in growth.items() if n >= SENTENCES * (LONG - SHORT) / 4} == {}
