"""Question: does the time of a run grow linearly with replicas, steps and coordinates, and fall with threads?

Design: one of the three is varied over three decades, the others fixed; medians of runs that take turns.
The exponent is the slope of log time over log size (least squares). Replicas are multiples of 64: whole
blocks for either number of threads.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.work import SEGMENTS, Work
from experiments.benchmarks.worker import Worker
from rst_theory.files import write_atomically, write_table
from rst_theory.plots import encoded, plot_scaling

__all__ = ["FULL", "QUICK", "Plan", "run"]

TOLERANCE = 0.05
"""Of the exponent, around 1."""


@dataclass(frozen=True)
class Plan:
    """The sizes to run: the least work of each series, and how it grows.

    Attributes:
        replicas: the least work, whose replicas grow; steps and coordinates likewise.
        decades: that the size grows over.
        points: sizes in each series.
        repeats: of each run.
    """

    replicas: Work
    steps: Work
    coordinates: Work
    decades: float
    points: int
    repeats: int

    def series(self) -> list[tuple[str, int, Work]]:
        """What grows, its value, and the work."""
        growth = np.geomspace(1, 10**self.decades, self.points)
        works = []
        for factor in growth:
            replicas = 64 * round(self.replicas.replicas * factor / 64)
            steps = SEGMENTS * round(self.steps.steps * factor / SEGMENTS)
            d = round(self.coordinates.dimension * factor)
            works += [
                ("replicas", replicas, Work(self.replicas.dimension, replicas, self.replicas.steps)),
                ("steps", steps, Work(self.steps.dimension, self.steps.replicas, steps)),
                ("coordinates", d, Work(d, self.coordinates.replicas, self.coordinates.steps)),
            ]
        return works


FULL = Plan(
    replicas=Work(20, 64, 4_000),
    steps=Work(20, 256, 1_000),
    coordinates=Work(10, 256, 2_000),
    decades=3,
    points=7,
    repeats=5,
)
"""From 5 10^6 units, some milliseconds, to 5 10^9."""
QUICK = Plan(Work(20, 64, 100), Work(20, 64, 100), Work(10, 64, 100), decades=1, points=3, repeats=2)


def run(results: Path, figures: Path, plan: Plan = FULL, backend: str = "numba") -> None:
    """Write benchmark_scaling and the figure engine_scaling, and print the exponents."""
    series, threads = plan.series(), (1, 2)
    seconds: dict[tuple[int, int], list[float]] = {}
    with Worker("ours", environment={"NUMBA_NUM_THREADS": "2"}) as worker:
        worker.run(series[0][2], backend=backend, threads=2)
        for _ in range(plan.repeats):
            for i, (_, _, work) in enumerate(series):
                for n in threads:
                    answer = worker.run(work, backend=backend, threads=n)
                    seconds.setdefault((i, n), []).append(answer.seconds)
    rows = [
        {
            "variable": variable,
            "value": value,
            "threads": n,
            "replicas": work.replicas,
            "steps": work.steps,
            "dimension": work.dimension,
            "repeats": plan.repeats,
            "seconds": statistics.median(seconds[i, n]),
            "ns_per_unit": 1e9 * statistics.median(seconds[i, n]) / work.units,
        }
        for n in threads
        for i, (variable, value, work) in enumerate(series)
    ]
    write_table(results, "benchmark_scaling", _with_exponents(rows))
    figure = plot_scaling(_with_exponents(rows))
    write_atomically(figures / "engine_scaling.png", encoded(figure, "png"))
    write_atomically(figures / "engine_scaling.svg", encoded(figure, "svg"))


def _with_exponents(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row with the exponent of its series, and whether that is 1 to the tolerance."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["variable"], row["threads"]), []).append(row)
    exponents = {
        key: float(np.polyfit(np.log([r["value"] for r in g]), np.log([r["seconds"] for r in g]), 1)[0])
        for key, g in groups.items()
    }
    return [
        {
            **row,
            "exponent": exponents[row["variable"], row["threads"]],
            "target": 1.0,
            "met": abs(exponents[row["variable"], row["threads"]] - 1) <= TOLERANCE,
        }
        for row in rows
    ]
