"""The learning rate along a run."""

import math

from seq2seq_ext.training.options import TrainingOptions


def learning_rate(options: TrainingOptions, progress: float) -> float:
    """The learning rate when ``progress`` (0..1) of the run is done.

    A linear rise over ``options.warmup``, then by ``options.schedule``: half a cosine down to
    ``final_rate``; the inverse square root of the progress; or constant.

    Example:
        >>> options = TrainingOptions(learning_rate=1.0, warmup=0.5, final_rate=0.1)
        >>> [round(learning_rate(options, p), 2) for p in (0.25, 0.5, 0.75, 1.0)]
        [0.5, 1.0, 0.55, 0.1]
    """
    peak, warmup = options.learning_rate, options.warmup
    if progress < warmup:
        # Never zero, or the very first step would be lost.
        return peak * max(progress, 1e-3 * warmup) / warmup
    if options.schedule == "constant":
        return peak
    if options.schedule == "inverse_sqrt":
        return peak * math.sqrt(max(warmup, 1e-3) / max(progress, 1e-3))
    done = min((progress - warmup) / max(1.0 - warmup, 1e-9), 1.0)
    share = 0.5 * (1.0 + math.cos(math.pi * done))
    return peak * (options.final_rate + (1.0 - options.final_rate) * share)
