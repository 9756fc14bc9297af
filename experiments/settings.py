"""How large the experiments are, and what was run: in full, or quick for a first look."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "CHECK",
    "CONFIDENCE",
    "FIGURES",
    "FRESH",
    "FRESH_RUNS",
    "FULL",
    "NOTES",
    "QUICK",
    "REPORT",
    "RESULTS",
    "RUNS",
    "Level",
    "Size",
    "chosen_size",
]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
FIGURES = ROOT / "figures"
NOTES = ROOT / "paper_notes"
REPORT = ROOT / "report" / "index.html"
FRESH = ROOT / "runs" / "report"
"""Tables of the smaller runs that the report compares with the committed ones."""
RUNS = ROOT / "runs"
"""Finished runs and results of single tasks; a second call goes on from them."""
FRESH_RUNS = RUNS / "fresh"
"""The same of the smaller run at hand; removed when it is done."""

CONFIDENCE = 0.99
"""Of every interval in the tables."""


Level = Literal["full", "check", "quick"]


@dataclass(frozen=True)
class Size:
    """The size of a whole run.

    A smaller run computes some of the rows of the full one, or the same rows from fewer repetitions: never
    other settings, so that it can be compared with the full one.

    Attributes:
        level: "full", "check" (a few minutes) or "quick" (a first look in seconds).
        steps: T of the cost tables.
        simulated_steps: T of the simulations.
        replicas: R of the simulations.
        repetitions: paired seeds of the network runs on digits.
        epochs: of the runs of `digits`.
        processes: run side by side.
        instances: of the comparison of every bound with random simulations.
        settings: of the comparison with semidefinite programs, for each bound, schedule and number of steps.
    """

    level: Level
    steps: int = 10_000
    simulated_steps: int = 1000
    replicas: int = 512
    repetitions: int = 20
    epochs: int = 40
    processes: int = 2
    instances: int = 100_000
    settings: int = 2

    @property
    def full(self) -> bool:
        """Whether it is the whole experiment."""
        return self.level == "full"

    @property
    def runs(self) -> Path:
        """Where finished runs are kept: a smaller run never reads those of the full one, which it checks."""
        return RUNS if self.full else FRESH_RUNS


FULL = Size("full")
CHECK = Size("check", replicas=256, repetitions=3, instances=1000)
QUICK = Size("quick", replicas=64, repetitions=2, instances=200, settings=1)


def chosen_size(job: str) -> Size:
    """The size of a job: "report" is a check, all else full; quick where the environment variable QUICK is 1.

    Raises:
        ValueError: QUICK is neither 1, 0 nor empty.
    """
    quick = os.environ.get("QUICK", "")
    if quick not in ("", "0", "1"):
        raise ValueError(f"QUICK must be 1, 0 or empty; got {quick!r}")
    if quick == "1":
        return QUICK
    return CHECK if job == "report" else FULL
