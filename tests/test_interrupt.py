"""Ctrl-C stops long native loops in their midst and leaves nothing behind."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seq2seq_ext import LSTM, BeamSearchOptions, Decoder, Seq2Seq, Seq2SeqConfig

BATCH, PART, ALL = 8, 100, 2000
Work = Callable[[int], Tensor]


def encoding() -> Work:
    config = Seq2SeqConfig(
        source_vocabulary_size=9, target_vocabulary_size=9, hidden_size=512, encoder_layers=2
    )
    decoder = Decoder(Seq2Seq(config).eval())
    options = BeamSearchOptions(bos_id=2, eos_id=3, pad_id=0, max_length=2)
    src = torch.randint(4, 9, (BATCH, ALL))
    return lambda steps: (
        decoder.generate(src[:, :steps], torch.full((BATCH,), steps), options).log_probs
    )


def inference() -> Work:
    lstm, x = LSTM(512, 512, 2, bidirectional=True), torch.randn(ALL, BATCH, 512)

    def work(steps: int) -> Tensor:
        with torch.no_grad():
            output: Tensor = lstm(x[:steps])[0]
        return output

    return work


def training() -> Work:
    lstm, x = LSTM(512, 512), torch.randn(ALL, BATCH, 512)
    return lambda steps: lstm(x[:steps])[0].detach()


def backward() -> Work:
    lstm, x = LSTM(512, 512), torch.randn(ALL, BATCH, 512)
    sums = {steps: lstm(x[:steps])[0].sum() for steps in (PART, ALL)}
    weights = list(lstm.parameters())
    return lambda steps: torch.autograd.grad(sums[steps], weights, retain_graph=True)[0]


def teacher_forcing() -> Work:
    config = Seq2SeqConfig(
        source_vocabulary_size=9, target_vocabulary_size=9, hidden_size=512, decoder_layers=1
    )
    model, tgt = Seq2Seq(config).eval(), torch.randint(4, 9, (BATCH, ALL))
    src, lengths = torch.randint(4, 9, (BATCH, 5)), torch.full((BATCH,), 5)
    return lambda steps: model(src, lengths, tgt[:, :steps]).detach()


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of this process: what others do to the machine doesn't count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def interrupted(work: Callable[[], object], after: float) -> None:
    """Sends a SIGINT when the work has taken that many CPU seconds."""
    done = threading.Event()

    def send() -> None:
        end = time.process_time() + after
        while time.process_time() < end:
            if done.wait(0.001):
                return
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    with pytest.raises(KeyboardInterrupt):
        sender.start()
        try:
            work()
        finally:
            done.set()
    sender.join()


@pytest.mark.parametrize("make", [encoding, inference, training, backward, teacher_forcing])
def test_ctrl_c_stops(make: Callable[[], Work]) -> None:
    torch.manual_seed(0)
    work = make()
    expected = work(PART)
    whole = cpu_seconds(lambda: work(ALL))
    stopped = cpu_seconds(lambda: interrupted(lambda: work(ALL), whole / 10))
    assert stopped < whole / 2
    assert torch.equal(work(PART), expected)
