"""GRU against torch.nn.GRU."""

from benchmarks import recurrent
from benchmarks.harness import Comparison


def run() -> list[Comparison]:
    return recurrent.all_of("GRU")
