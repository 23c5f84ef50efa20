"""Keeps what packages find: ``PYTHONPATH=.. python -m compat.record [peers]`` in tests."""

import sys

import torch
from compat.cases import PEERS, record


def main() -> None:
    torch.set_num_threads(1)
    for peer in sys.argv[1:] or PEERS:
        record(peer)
        print(peer)


if __name__ == "__main__":
    main()
