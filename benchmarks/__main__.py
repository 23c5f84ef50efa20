"""Runs the named benchmarks (all of the CPU without a name); ``--json FILE`` keeps the figures.

Each has a process of its own: memory that one leaves in pieces would slow the next.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import seq2seq_ext
from benchmarks import floors, pictures, processes, rivals, table
from benchmarks.harness import Comparison
from benchmarks.processes import measure
from seq2seq_ext.files import atomic_write

NAMES = (
    "lstm",
    "gru",
    "attention",
    "topk",
    "beam_search",
    "decoder",
    "training",
    "peers",
    "growth",
)
ON_GPU = ("cuda",)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES + ON_GPU))
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        choices=range(1, 8),
        metavar="N",
        help="of the table that cuda makes, if not all",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--table", type=Path, metavar="FILE", help="the figures in Markdown")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="bars and curves as PNG")
    args = parser.parse_args()
    for name in args.names:
        if name not in NAMES + ON_GPU:
            parser.error(f"name: expected one of {', '.join(NAMES + ON_GPU)}, got {name!r}")
    info = seq2seq_ext.info()
    system = floors.system()
    print(", ".join(f"{key} {value}" for key, value in {**system, **info}.items()))
    machine = floors.machine()
    for threads, rates in machine.items():
        print(f"{threads}: " + ", ".join(f"{k} {v / 1e9:.0f} G/s" for k, v in rates.items()))
    comparisons: list[Comparison] = []
    try:
        for name in args.names or NAMES:
            rows = args.rows if name == "cuda" else None
            for comparison, absent in processes.alone(measure, name, rows):
                comparisons.append(comparison)
                rivals.absent |= absent
    finally:  # what was measured before an error too
        _keep(comparisons, {"system": system, "info": info, "machine": machine}, args)


def _keep(comparisons: list[Comparison], told: dict[str, Any], args: argparse.Namespace) -> None:
    if args.json:
        rows = [comparison.to_dict() for comparison in comparisons]
        told = {**told, "absent": rivals.absent, "rows": rows}
        _write(args.json, json.dumps(told, indent=2, default=str))
    if args.table:
        _write(args.table, table.markdown(comparisons))
    if args.pictures:
        pictures.draw(comparisons, args.pictures)


def _write(path: Path, text: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
