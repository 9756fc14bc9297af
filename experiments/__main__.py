"""The jobs: `experiments` answers every question in full, `theory` computes the tables about the bounds, and
`report` runs smaller forms of the experiments, compares them with the committed tables, and renders the page.

`QUICK=1` makes any of them a first look. Finished runs are kept, so that the same command goes on after an
interrupt. `FASHION_MNIST=DIR` adds the questions that are asked on its images.
"""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import rst_theory
from experiments import (
    agreement,
    bound_beside_simulation,
    claims,
    cost_law,
    decay,
    degree_times_radius,
    digits,
    floor_exponents,
    floors,
    one_step,
    order,
    pareto,
    price,
    ranking,
    realized_cost,
    stability,
    tightness,
)
from experiments.recheck import recheck
from experiments.settings import FIGURES, FRESH, FRESH_RUNS, NOTES, REPORT, RESULTS, Size, chosen_size
from rst_theory.files import write_json, write_table
from rst_theory.plots import draw_all
from rst_theory.report import render
from rst_theory.training.records import environment

PACKAGES = ("numpy", "scipy", "sympy", "matplotlib", "torch", "scikit-learn")


class Stage(NamedTuple):
    """An experiment, what the progress bar calls it, and whether it belongs to a first look."""

    title: str
    experiment: ModuleType
    quick: bool = True


EVIDENCE = (
    Stage("Cost law of every schedule", cost_law),
    Stage("Pairs of many runs", realized_cost, quick=False),
    Stage("Bounds beside simulation", bound_beside_simulation),
    Stage("Rates", decay),
    Stage("Training on digits", digits, quick=False),
    Stage("Floors", floor_exponents),
    Stage("Stability", stability),
    Stage("Degree times radius", degree_times_radius, quick=False),
    Stage("Order of the schedule", order, quick=False),
    Stage("Pareto front", pareto, quick=False),
    Stage("Allocation", ranking),
)
THEORY = (
    Stage("Price of regularization", price),
    Stage("One step beside programs", one_step),
    Stage("Floors between bounds", floors),
    Stage("Bounds beside worst cases", tightness),
    Stage("Bounds on random instances", agreement),
)
JOBS = {"report": EVIDENCE, "experiments": EVIDENCE, "theory": THEORY}


def main(job: str = "report") -> int:
    """Run a job; 0 when it is done, 1 where a smaller run does not reproduce the tables, 130 interrupted.

    Raises:
        ValueError: another job.
    """
    if job not in JOBS:
        raise ValueError(f"the job must be one of {', '.join(JOBS)}; got {job!r}")
    size, console = chosen_size(job), Console()
    # Only a full run writes the committed tables; all others stay beside them.
    tables = RESULTS if size.full else FRESH
    if not size.full:
        shutil.rmtree(tables, ignore_errors=True)  # what an earlier run of another size has left
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    try:
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            seconds = {}
            stages = [stage for stage in JOBS[job] if stage.quick or size.level != "quick"]
            for title, experiment, _ in stages:
                begin = time.perf_counter()
                _follow(progress, title, experiment.run(size, tables))
                seconds[experiment.__name__.rpartition(".")[2]] = round(time.perf_counter() - begin, 2)
            disagreeing = 0
            if size.full:
                _write_provenance(tables, f"make {job}", size, seconds)
                _follow(progress, "Verdicts on the claims", claims.run(RESULTS, NOTES))
                _follow(progress, "Figures", _drawn())
            else:
                _write_provenance(tables, f"{'QUICK=1 ' * (size.level == 'quick')}make {job}", size, seconds)
                disagreeing = _recheck(stages, tables)
            _follow(progress, "Report", _rendered(tables))
    except KeyboardInterrupt:
        console.print("Interrupted. Finished runs are kept; the same command goes on from them.")
        return 130
    shutil.rmtree(FRESH_RUNS, ignore_errors=True)
    console.print(f"The report is at {REPORT}")
    if disagreeing:
        console.print(f"[red]{disagreeing} values differ from the committed tables: see the report.[/red]")
    return 1 if disagreeing else 0


def _follow(progress: Progress, title: str, shares: Iterable[float]) -> None:
    task = progress.add_task(title, total=1.0)
    for share in shares:
        progress.update(task, completed=share)


def _recheck(stages: Iterable[Stage], fresh: Path) -> int:
    """Compare fresh tables with the committed ones; returns how many values differ."""
    checks = [check for _, experiment, _ in stages for check in getattr(experiment, "CHECKS", ())]
    rows = recheck(checks, fresh, RESULTS)
    if rows:
        write_table(fresh, "recheck", rows)
    return sum(row["disagree"] for row in rows)


def _drawn() -> Iterator[float]:
    draw_all(RESULTS, FIGURES)
    yield 1.0


def _rendered(fresh: Path) -> Iterator[float]:
    render(RESULTS, REPORT, fresh)
    yield 1.0


def _write_provenance(tables: Path, command: str, size: Size, seconds: dict[str, float]) -> None:
    write_json(
        tables / "provenance.json",
        {
            "version": rst_theory.__version__,
            "revision": environment()["git_revision"],
            "quick": not size.full,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
            "command": command,
        },
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
