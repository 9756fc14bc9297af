"""The main job: derive, simulate, train, draw, report. `QUICK=1` for a first look.

`python -m experiments theory` computes the tables about the bounds, which change with the theory alone.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import rst_theory
from experiments import (
    agreement,
    bound_beside_simulation,
    claims,
    cost_law,
    digits,
    floors,
    one_step,
    price,
    ranking,
    tightness,
)
from experiments.settings import FIGURES, REPORT, RESULTS, Size, chosen_size
from rst_theory.files import write_json
from rst_theory.plots import draw_all
from rst_theory.report import render
from rst_theory.training.records import environment

PACKAGES = ("numpy", "scipy", "sympy", "matplotlib", "torch", "scikit-learn")


Stage: TypeAlias = tuple[str, str, Iterable[float]]


def stages(job: str, size: Size) -> list[Stage]:
    """The stages of a job, "report" or "theory": key, title, and the shares that are done as it runs.

    Raises:
        ValueError: another job.
    """
    if job == "report":
        return [
            ("cost", "Cost law of every schedule", cost_law.run(size, RESULTS)),
            ("simulation", "Bounds beside simulation", bound_beside_simulation.run(size, RESULTS)),
            ("training", "Training on digits", digits.run(size, RESULTS)),
            ("claims", "Verdicts on the claims", claims.run(RESULTS)),
        ]
    if job == "theory":
        return [
            ("price", "Price of regularization", price.run(size, RESULTS)),
            ("one_step", "One step beside programs", one_step.run(size, RESULTS)),
            ("floors", "Floors between bounds", floors.run(size, RESULTS)),
            ("tightness", "Bounds beside worst cases", tightness.run(size, RESULTS)),
            ("agreement", "Bounds on random instances", agreement.run(size, RESULTS)),
            ("ranking", "Orders of schedules", ranking.run(size, RESULTS)),
        ]
    raise ValueError(f"the job must be 'report' or 'theory'; got {job!r}")


def main(job: str = "report") -> int:
    """Run the stages of a job, then draw the figures and render the page; 130 after an interrupt."""
    size = chosen_size()
    console = Console()
    seconds: dict[str, float] = {}
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    try:
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            for key, title, shares in stages(job, size):
                begin = time.perf_counter()
                task = progress.add_task(title, total=1.0)
                for share in shares:
                    progress.update(task, completed=share)
                seconds[key] = round(time.perf_counter() - begin, 2)
            task = progress.add_task("Figures and report", total=2.0)
            if job == "report":
                _write_provenance(size.quick, seconds)
            draw_all(RESULTS, FIGURES)
            progress.update(task, completed=1.0)
            page = render(RESULTS, REPORT)
            progress.update(task, completed=2.0)
    except KeyboardInterrupt:
        console.print("Interrupted. Finished training runs are kept; the same command goes on from them.")
        return 130
    console.print(f"The report is at {page}")
    return 0


def _write_provenance(quick: bool, seconds: dict[str, float]) -> None:
    write_json(
        RESULTS / "provenance.json",
        {
            "version": rst_theory.__version__,
            "revision": environment()["git_revision"],
            "quick": quick,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
            "command": "QUICK=1 make report" if quick else "make report",
        },
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
