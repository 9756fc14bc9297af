"""The exact law of the cost against SciPy's, and its growth with T: medians of several runs."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from experiments.settings import RESULTS
from rst_theory.cost import CostLaw
from rst_theory.files import write_table

REPEATS = 5


def median_seconds(function: Callable[[], object]) -> float:
    """The median time of several calls."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> int:
    """Write benchmark_cost.csv and print it."""
    rows = []
    for T in (1_000, 10_000, 100_000, 1_000_000):
        p = np.random.default_rng(0).random(T)
        ours = median_seconds(lambda p=p, T=T: CostLaw(p, T).pmf())  # type: ignore[misc]
        scipy = None
        if T <= 10_000:
            law = stats.poisson_binom(p)
            scipy = median_seconds(lambda law=law, T=T: law.pmf(np.arange(T + 1)))  # type: ignore[misc]
        ratio = None if scipy is None else ours / scipy
        rows.append({"T": T, "seconds": ours, "scipy_seconds": scipy, "ratio": ratio})
        print(rows[-1], flush=True)
    write_table(RESULTS, "benchmark_cost", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
