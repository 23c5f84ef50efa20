"""Threads: fork, several callers at once, and the serial fallback."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import seq2seq_ext


def threaded_layer() -> tuple[seq2seq_ext.LSTM, torch.Tensor]:
    """Large enough for several threads, torch's own ops included."""
    return seq2seq_ext.LSTM(96, 256, bidirectional=True), torch.randn(6, 16, 96)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_child_runs_the_ops(threads: None) -> None:
    torch.set_num_threads(2)
    layer, x = threaded_layer()
    expected = layer(x)[0]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            output = layer(x)[0]
            output.sum().backward()
            layer(x, lengths=torch.arange(16) % 7)
            code = 0 if torch.equal(output, expected) else 2
        finally:
            os._exit(code)
    for _ in range(300):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the forked child hung")
    assert torch.equal(layer(x)[0], expected)


def test_many_callers_at_once(threads: None) -> None:
    torch.set_num_threads(2)
    layer, x = threaded_layer()
    inputs = [x * scale for scale in range(1, 9)]
    expected = [layer(i)[0] for i in inputs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: layer(i)[0], inputs * 3))
    assert all(map(torch.equal, got, expected * 3))


def test_packed_weights_with_many_callers(threads: None) -> None:
    layer, x = threaded_layer()
    layer.eval().requires_grad_(False)
    expected = layer(x)[0]
    layer.flatten_parameters()
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda _: layer(x)[0], range(12)))
    assert all(torch.equal(g, expected) for g in got)
