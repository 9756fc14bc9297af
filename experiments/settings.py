"""How large the experiments are, and what was run: in full, or quick for a first look."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CONFIDENCE", "FIGURES", "REPORT", "RESULTS", "RUNS", "Size", "chosen_size"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
FIGURES = ROOT / "figures"
REPORT = ROOT / "report" / "index.html"
RUNS = ROOT / "runs"
"""Checkpoints and records of single training runs; a second call goes on from them."""

CONFIDENCE = 0.99
"""Of every interval in the tables."""


@dataclass(frozen=True)
class Size:
    """The size of a whole run.

    Attributes:
        quick: whether it is the quick form.
        steps: T of the cost tables.
        simulated_steps: T of the simulations.
        replicas: R of the simulations.
        repetitions: paired seeds of the network runs.
        epochs: of each network run.
        processes: run side by side.
        instances: of the comparison of every bound with random simulations.
        settings: of the comparison with semidefinite programs, for each bound, schedule and number of steps.
    """

    quick: bool
    steps: int
    simulated_steps: int
    replicas: int
    repetitions: int
    epochs: int
    processes: int
    instances: int = 100_000
    settings: int = 2


FULL = Size(
    quick=False, steps=10_000, simulated_steps=1000, replicas=512, repetitions=12, epochs=40, processes=2
)
QUICK = Size(
    quick=True,
    steps=1000,
    simulated_steps=300,
    replicas=256,
    repetitions=4,
    epochs=6,
    processes=2,
    instances=1000,
)


def chosen_size() -> Size:
    """`QUICK` where the environment variable QUICK is set to 1, else `FULL`.

    Raises:
        ValueError: QUICK is neither 1, 0 nor empty.
    """
    match os.environ.get("QUICK", ""):
        case "1":
            return QUICK
        case "" | "0":
            return FULL
        case other:
            raise ValueError(f"QUICK must be 1, 0 or empty; got {other!r}")
