"""Large tensors on pages that others had before."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import seq2seq_ext

STEPS, H = 64, 64


def _outputs(batch: int, lengths: Sequence[int] | None = None) -> Tensor:
    """``[64, batch, 64]`` float32 of a layer that trains: 16 KiB for each row of the batch.

    What it saves for backward is five times as large, so that it takes no pages of outputs.
    """
    torch.manual_seed(0)
    layer = seq2seq_ext.LSTM(1, H)
    given = None if lengths is None else torch.tensor(lengths)
    output: Tensor = layer(torch.randn(STEPS, batch, 1), lengths=given)[0]
    return output.detach()


def test_rows_past_the_end_are_zeros_on_used_pages() -> None:
    lengths = [STEPS, *[1] * 319]
    first = _outputs(320)
    place = first.data_ptr()
    first.fill_(torch.nan)
    del first
    ragged = _outputs(320, lengths)
    assert ragged.data_ptr() == place
    assert torch.equal(ragged[1:, 1:], torch.zeros(STEPS - 1, 319, H))


def test_pages_are_used_again_but_not_while_they_live() -> None:
    first = _outputs(320)
    expected, place = first.clone(), first.data_ptr()
    second = _outputs(320)
    assert second.data_ptr() != place
    second.zero_()
    assert torch.equal(first, expected)
    del first
    assert _outputs(320).data_ptr() == place


def test_a_view_keeps_its_pages() -> None:
    first = _outputs(320)
    view = first[3, 5]
    expected = view.clone()
    del first
    _outputs(320).fill_(torch.nan)
    assert torch.equal(view, expected)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_what_is_kept_is_bounded() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024  # MiB

    before = resident()
    kept = [_outputs(batch) for batch in range(256, 1024, 64)]
    assert resident() - before > 150
    kept.clear()
    assert resident() - before < 160
