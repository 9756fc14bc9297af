"""Question: what does each schedule function cost beyond SGD, in expectation and in law?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sympy

from experiments.question import Check
from experiments.schedules import Named, catalogue
from experiments.settings import CONFIDENCE, Size
from rst_theory.cost import CostLaw, closed_form
from rst_theory.files import write_table
from rst_theory.notation import QUANTITIES, DomainError
from rst_theory.plots import cost_row
from rst_theory.schedules import Tabulated

__all__ = ["CHECKS", "run"]

CHECKS = tuple(Check("cost", ("name",), value) for value in ("mean", "standard_deviation", "low", "high"))


def run(size: Size, results: Path) -> Iterator[float]:
    """Write cost.csv and cost.json; yields the share that is done."""
    named = catalogue(size.steps)
    table = []
    for done, item in enumerate(named, start=1):
        table.append(_row(item, size.steps))
        yield done / len(named)
    write_table(results, "cost", table)


def _row(named: Named, T: int) -> dict[str, Any]:
    """The law of the extra pairs of one schedule over T steps, and its symbolic closed form."""
    schedule = named.schedule
    law, comb = CostLaw(schedule, T), CostLaw(schedule, T, kind="systematic")
    systematic_low, systematic_high = comb.interval(CONFIDENCE)
    return {
        **cost_row(law, named.label),
        "group": named.group,
        "schedule": repr(schedule),
        "formula": _formula(named),
        "mean_formula": _mean_formula(named),
        "limit": _limit(named),
        "mean": law.mean,
        "standard_deviation": law.standard_deviation,
        "pairs_vs_sgd": law.pairs_relative_to_sgd,
        "pairs_vs_sam": law.pairs_relative_to_sam,
        "systematic_low": systematic_low,
        "systematic_high": systematic_high,
    }


def _formula(named: Named) -> str:
    if isinstance(named.schedule, Tabulated):
        return r"p_t \text{ as tabulated}"
    t, T = QUANTITIES["t"].symbol, QUANTITIES["steps"].symbol
    return str(sympy.latex(named.schedule.expression(t, T)))


def _mean_formula(named: Named) -> str:
    """The exact expected extra pairs of T steps in LaTeX, once every phase has two steps or more."""
    schedule = named.schedule
    steps = len(schedule.table) if isinstance(schedule, Tabulated) else None
    return str(sympy.latex(closed_form(schedule, steps).eventual_mean))


def _limit(named: Named) -> str | None:
    try:
        return str(named.schedule.mean())
    except (DomainError, ValueError):
        return None
