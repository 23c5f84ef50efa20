"""Every row of the table on a GPU, at toy sizes on the emulated device."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from emulated_cuda import emulated_cuda

from benchmarks import aims, cuda, rivals
from benchmarks.cuda_device import Gpu
from benchmarks.cuda_layers import LayerShape, aim_over, cudnn_is_persistent
from benchmarks.harness import Comparison, Run, Timing, seconds_of
from seq2seq_ext.decoding.device_search import DeviceBeamSearch

SIZES = cuda.Sizes(
    layers=(LayerShape(2, 16, steps=10), LayerShape(3, 16, 2, True, steps=4)),
    step=16,
    step_rows=(3,),
    source=5,
    attention=16,
    memory=16,
    vocabulary=40,
    projected=16,
    logit_rows=3,
    model=16,
    steps=3,
    batches=(1, 2),
)
ROWS = 2 * 2 * 2 + 2 + 2 + 1 + 2 * 2 + 2 * 2  # of SIZES; two types where there are types


def peak_memory(run: Run) -> int:
    run()
    return 1


TOY = Gpu(
    device="cpu",
    seconds_of=seconds_of,
    bandwidth=lambda: 1e9,
    matrix_rate=lambda dtype: 1e9,
    peak_memory=peak_memory,
    seconds=0.0,
)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Comparison]]:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(rivals, "DECODERS", ())
    monkeypatch.setattr(rivals, "load", lambda name, on_gpu: None)
    knows = DeviceBeamSearch.knows
    monkeypatch.setattr(DeviceBeamSearch, "runs", lambda device, options: knows(options))
    torch._C._set_mkldnn_enabled(False)  # it has no float16 here
    with emulated_cuda():
        yield list(cuda.table(TOY, SIZES))
    torch._C._set_mkldnn_enabled(True)


def test_every_row_runs_and_its_results_are_compared(rows: list[Comparison]) -> None:
    assert len(rows) == ROWS
    assert {number for number, _ in cuda._steps(TOY, SIZES)} == set(cuda.ROWS)
    for row in rows:
        lines = "\n".join(row.lines())
        assert row.floor is not None and row.floor.seconds > 0
        assert row.timings[0].name == "ours"
        own = dict(row.aims)
        aims.add(row)
        assert row.aims == own, "the CPU's"
        assert set(row.aims) <= {timing.name for timing in row.timings[1:]}
        assert lines.count("(aim ") == len(row.aims) + len(row.peak_aims)
        assert row.aims or "Translation" in row.work, "its aims are over systems not here"
    (training,) = (row for row in rows if row.peaks)
    assert training.peak_aims == {"eager PyTorch": 20.0}


def test_what_is_aimed_at() -> None:
    def aims_of(name: str, shape: LayerShape, ragged: bool = False) -> list[float | None]:
        return [aim_over(name, shape, t, ragged) for t in (torch.bfloat16, torch.float16)]

    inside, outside = LayerShape(64, 512), LayerShape(64, 512, 2, True)
    assert aims_of("LSTM", inside) == [1.3, 0.8]  # bfloat16 is never inside
    assert aims_of("LSTM", outside) == [1.3, None]
    assert aims_of("LSTM", inside, ragged=True) == [2.0, 2.0]
    assert aims_of("GRU", inside) == aims_of("GRU", outside, ragged=True) == [1.5, 1.5]


def test_a_row_that_differs_or_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = Comparison("fine", [Timing("ours", 1.0, 1.0, 1.0, 5)])

    def differs() -> list[Comparison]:
        raise AssertionError("differs")

    def fails() -> list[Comparison]:
        raise RuntimeError("no memory")

    monkeypatch.setattr(
        cuda, "_steps", lambda gpu, sizes: [(1, differs), (7, fails), (7, lambda: [fine])]
    )
    rows = cuda.table(TOY, SIZES)
    assert next(rows) is fine
    with pytest.raises(SystemExit, match="2 rows left out"):
        next(rows)
    with pytest.raises(SystemExit, match="1 rows left out"):
        list(cuda.table(TOY, SIZES, wanted=[7]))


OUTSIDE = [{"batch": 12}, {"batch": 136}, {"hidden": 500}, {"hidden": 1152}, {"layers": 2}]


def test_the_window_of_cudnn() -> None:
    inside = LayerShape(64, 512)
    assert cudnn_is_persistent("LSTM", inside, torch.float16, ragged=False)
    assert not cudnn_is_persistent("LSTM", inside, torch.float16, ragged=True)
    assert not cudnn_is_persistent("LSTM", inside, torch.bfloat16, ragged=False)
    assert not cudnn_is_persistent("GRU", inside, torch.float16, ragged=False)
    for change in [*OUTSIDE, {"both": True}]:
        shape = replace(inside, **change)  # type: ignore[arg-type]
        assert not cudnn_is_persistent("LSTM", shape, torch.float16, ragged=False)
