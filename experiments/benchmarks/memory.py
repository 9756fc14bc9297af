"""Peak memory of the engine, above that of the interpreter once it has imported all that a run needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.work import Work
from experiments.benchmarks.worker import Worker
from rst_theory.files import write_table

__all__ = ["FULL", "QUICK", "run"]

TARGET_MB = 500.0
QUICK = (Work(10, 10_000, 100), Work(10, 100_000, 100), Work(10, 10_000, 1_000))
FULL = (Work(10, 10_000, 10_000), Work(10, 100_000, 10_000), Work(10, 1_000_000, 10_000))
"""The last has 10^11 units."""


def run(results: Path, works: Sequence[Work] = FULL, **options: Any) -> None:
    """Write benchmark_memory and print its rows; options are those of `simulate`."""
    small = Work(10, 32, 10)
    rows = []
    for work in works:
        with Worker("ours") as worker:
            before = worker.run(small, **options).after  # with everything imported, kernels loaded
            answer = worker.run(work, **options)
        above = (answer.after - before) / 1e6
        rows.append(
            {
                "replicas": work.replicas,
                "steps": work.steps,
                "dimension": work.dimension,
                "units": work.units,
                "seconds": answer.seconds,
                "interpreter_mb": before / 1e6,
                "peak_mb": answer.after / 1e6,
                "above_mb": above,
                "target": TARGET_MB,
                "met": above < TARGET_MB,
            }
        )
        print(rows[-1], flush=True)
    write_table(results, "benchmark_memory", rows)
