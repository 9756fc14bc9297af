"""The exact law of the cost against SciPy's, and its growth with T: medians of several runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from rst_theory.cost import CostLaw
from rst_theory.files import write_table

__all__ = ["run"]

REPEATS = 5
STEPS = (1_000, 10_000, 100_000, 1_000_000)
SCIPY_UP_TO = 10_000
"""Beyond, SciPy's law takes minutes."""


def run(results: Path, steps: Sequence[int] = STEPS) -> None:
    """Write benchmark_cost.csv and print its rows."""
    rows = []
    for T in steps:
        p = np.random.default_rng(0).random(T)
        ours = _median_seconds(lambda p=p, T=T: CostLaw(p, T).pmf())  # type: ignore[misc]
        scipy = None
        if T <= SCIPY_UP_TO:
            law = stats.poisson_binom(p)
            scipy = _median_seconds(lambda law=law, T=T: law.pmf(np.arange(T + 1)))  # type: ignore[misc]
        ratio = None if scipy is None else ours / scipy
        rows.append({"T": T, "seconds": ours, "scipy_seconds": scipy, "ratio": ratio})
        print(rows[-1], flush=True)
    write_table(results, "benchmark_cost", rows)


def _median_seconds(function: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
