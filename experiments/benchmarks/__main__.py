"""All benchmarks, or those named: `python -m experiments.benchmarks [cost] [simulation] [scaling] [memory]`.

QUICK=1 for a first look at small sizes. JAX runs under the interpreter of JAX_PYTHON, or under this one.
"""

from __future__ import annotations

import sys

from experiments.benchmarks import cost, memory, scaling, simulation
from experiments.settings import FIGURES, RESULTS, chosen_size

NAMES = ("cost", "simulation", "scaling", "memory")


def main(names: list[str]) -> int:
    """Run the benchmarks named, all by default; 2 where a name is unknown."""
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
        else:
            memory.run(RESULTS, memory.QUICK if quick else memory.FULL)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
