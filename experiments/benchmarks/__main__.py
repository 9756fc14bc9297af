"""All benchmarks, or those named: `python -m experiments.benchmarks [cost] [simulation] [optimizer] …`.

`--data-dir FOLDER` says where the files of Fashion-MNIST are; random images take their place without.
QUICK=1 for a first look at small sizes. JAX runs under the interpreter of JAX_PYTHON, or under this one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.benchmarks import cost, memory, optimizer, peers, scaling, simulation, training
from experiments.settings import FIGURES, RESULTS, chosen_size

NAMES = ("cost", "simulation", "scaling", "memory", "optimizer", "training", "peers")


def main(arguments: list[str]) -> int:
    """Run the benchmarks named, all by default; 2 where a name is unknown."""
    parser = argparse.ArgumentParser(prog="experiments.benchmarks")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args(arguments)
    names: list[str] = asked.names
    if unknown := [name for name in names if name not in NAMES]:
        print(f"unknown benchmark {unknown[0]!r}: choose from {', '.join(NAMES)}", file=sys.stderr)
        return 2
    quick = chosen_size().quick
    for name in names or NAMES:
        print(f"-- {name}", flush=True)
        if name == "cost":
            cost.run(RESULTS)
        elif name == "simulation":
            simulation.run(RESULTS, simulation.QUICK if quick else simulation.FULL)
        elif name == "scaling":
            scaling.run(RESULTS, FIGURES, scaling.QUICK if quick else scaling.FULL)
        elif name == "optimizer":
            optimizer.run(RESULTS, optimizer.QUICK if quick else optimizer.FULL)
        elif name == "training":
            training.run(RESULTS, training.QUICK if quick else training.FULL, asked.data_dir)
        elif name == "peers":
            peers.run(RESULTS)
        else:
            memory.run(RESULTS, memory.QUICK if quick else memory.FULL)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
