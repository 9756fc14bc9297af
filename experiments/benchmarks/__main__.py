"""All benchmarks, or those named: `python -m experiments.benchmarks [cost] [simulation] [optimizer] …`.

`--data-dir FOLDER` says where the files of Fashion-MNIST are; random images take their place without.
QUICK=1 for a first look at small sizes. JAX runs under the interpreter of JAX_PYTHON, or under this one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.benchmarks import cost, memory, optimizer, peers, scaling, simulation, training
from experiments.settings import FIGURES, FRESH, RESULTS, chosen_size

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
    quick = not chosen_size("bench").full
    results, figures = (FRESH, FRESH) if quick else (RESULTS, FIGURES)
    for name in names or NAMES:
        print(f"-- {name}", flush=True)
        if name == "cost":
            cost.run(results)
        elif name == "simulation":
            simulation.run(results, simulation.QUICK if quick else simulation.FULL)
        elif name == "scaling":
            scaling.run(results, figures, scaling.QUICK if quick else scaling.FULL)
        elif name == "optimizer":
            optimizer.run(results, optimizer.QUICK if quick else optimizer.FULL)
        elif name == "training":
            training.run(results, training.QUICK if quick else training.FULL, asked.data_dir)
        elif name == "peers":
            peers.run(results)
        else:
            memory.run(results, memory.QUICK if quick else memory.FULL)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
