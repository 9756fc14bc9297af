"""Question: how far is each bound over a run from the exact worst case of its class?

Design: every preset at p = .25, .5 and .75 and both orders of each, 1 to 4 steps (1 where the ascent is
normalized), step sizes, radii and mixing coefficients drawn from a grid; the bound beside the
performance-estimation program of the same metric over the bound's own class. Nothing is random but the
choice of the settings.

Rule fixed before the run: no bound lies below its program by more than the program's accuracy, 1e-4
relative; the bounds for unnormalized ascent without noise lie at most 1.10 above it, on nonconvex functions
with a median of at most 1.03.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.pool import spread
from experiments.settings import Size
from rst_theory.bounds import ALL, RunBound
from rst_theory.certificates import CertificateError, certify_bound, class_of
from rst_theory.files import write_table
from rst_theory.notation import Assumption, DomainError, ProblemConstants
from rst_theory.schedules import PRESETS, preset

__all__ = ["Case", "cases", "measure", "run"]

SEED = 20220309
ACCURACY = 1e-4
STEP_SIZES = (0.25, 0.5, 1.0)
RADII = (0.1, 0.2, 0.5)
MIXING = (1.0, 2.0)
CURVATURES = (0.01, 0.1, 0.5)
SCHEDULES = {
    **{
        f"{name} p={p}": preset(name, p)
        for name in PRESETS
        if not name.startswith("cosine")
        for p in (0.25, 0.5, 0.75)
    },
    **{name: preset(name) for name in PRESETS if name.startswith("cosine")},
}


class Case(NamedTuple):
    """A bound and a run, in units of L = 1, a gap of 1 and a distance of 1."""

    bound: str
    schedule: str
    steps: int
    eta: float
    rho: float
    gamma: float
    mu: float


def run(size: Size, results: Path) -> Iterator[float]:
    """Write tightness.csv and tightness.json; yields the share that is done."""
    tasks = [(case,) for case in cases(size.settings)]
    found: list[dict[str, Any] | None] = []
    yield from spread(measure, tasks, size.processes, found)
    rows = [row for row in found if row is not None]
    solved = [row for row in rows if row["program"] is not None]
    write_table(results, "tightness", solved)
    write_table(results, "tightness_summary", list(_summary(rows)))


def cases(settings: int) -> list[Case]:
    """For every bound without noise, schedule and number of steps, so many settings of the grid."""
    rng = np.random.default_rng(SEED)
    found = []
    for bound in ALL.values():
        if not isinstance(bound, RunBound) or not _has_program(bound):
            continue
        unnormalized = bound.ascent == "unnormalized"
        curved = bound.assumptions & {Assumption.STRONGLY_CONVEX, Assumption.POLYAK_LOJASIEWICZ}
        for name in SCHEDULES:
            for steps in range(1, 5 if unnormalized else 2):
                for _ in range(settings):
                    eta, rho, gamma = (rng.choice(v) for v in (STEP_SIZES, RADII, MIXING))
                    mu = float(rng.choice(CURVATURES)) if curved else 0.0
                    found.append(Case(bound.name, name, steps, float(eta), float(rho), float(gamma), mu))
    return found


def measure(case: Case) -> dict[str, Any] | None:
    """One row of the table; None outside the domain of the bound."""
    bound = ALL[case.bound]
    assert isinstance(bound, RunBound)
    arguments: dict[str, Any] = {
        "schedule": SCHEDULES[case.schedule],
        "steps": case.steps,
        "eta": case.eta,
        "rho": case.rho,
        "gamma": case.gamma,
        "constants": ProblemConstants(L=1.0, mu=case.mu),
        "gap": 1.0,
        "distance": 1.0,
    }
    try:
        value = bound.evaluate(**arguments)
    except DomainError:
        return None
    row = {**case._asdict(), "ascent": bound.ascent, "function_class": class_of(bound), "value": value}
    try:
        certificate = certify_bound(bound, **arguments)
    except CertificateError:
        return {**row, "program": None}
    return {
        **row,
        "program": certificate.value,
        "exact": certificate.exact,
        "ratio": value / certificate.value,
    }


def _summary(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of each bound: how many settings, how many whose program did not converge, and how tight the rest."""
    for name in dict.fromkeys(row["bound"] for row in rows):
        group = [row for row in rows if row["bound"] == name]
        ratios = np.array([row["ratio"] for row in group if row["program"] is not None])
        if ratios.size:
            yield {
                "bound": name,
                "settings": len(group),
                "unsolved": len(group) - ratios.size,
                "violations": int((ratios < 1 - ACCURACY).sum()),
                "least": float(ratios.min()),
                "median": float(np.median(ratios)),
                "largest": float(ratios.max()),
                "share_within_1.10": float((ratios <= 1.10).mean()),
            }


def _has_program(bound: RunBound) -> bool:
    try:
        class_of(bound)
    except DomainError:
        return False
    return True
