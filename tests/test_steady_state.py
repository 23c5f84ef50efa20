"""The native decode loop takes no memory from step to step."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COUNTER = Path(__file__).with_name("malloc_counter.c")
SENTENCES, SHORT, LONG = 16, 50, 250

# Of the last of several runs, so that what a decoder keeps for the next has its size.
PROGRAM = f"""
import ctypes
import torch
from seq2seq_ext import BeamSearchOptions, Decoder, Seq2Seq, Seq2SeqConfig

count = ctypes.CDLL(None).malloc_count
count.restype = ctypes.c_long
config = Seq2SeqConfig(
    source_vocabulary_size=9, target_vocabulary_size=40, embedding_size=8, hidden_size=16
)
decoder = Decoder(Seq2Seq(config).eval())
src, lengths = torch.randint(4, 9, ({SENTENCES}, 5)), torch.full(({SENTENCES},), 5)
for steps in ({SHORT}, {LONG}):
    options = BeamSearchOptions(
        bos_id=2, eos_id=3, pad_id=0, beam_size=5, min_length=steps, max_length=steps
    )
    for _ in range(3):
        before = count()
        decoder.generate(src, lengths, options)
    print(count() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_steps_take_no_memory(tmp_path: Path) -> None:
    library = tmp_path / "malloc_counter.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", COUNTER, "-o", library], check=True)
    counted = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "LD_PRELOAD": str(library)},
        check=True,
        capture_output=True,
        text=True,
    )
    short, long = map(int, counted.stdout.split())
    # Hypotheses that are twice as long take an allocation more for each list of theirs.
    assert long - short < SENTENCES * (LONG - SHORT) / 4
