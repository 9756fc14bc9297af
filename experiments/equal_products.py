"""Pairs (p, gamma) that make one product q rho of degree and radius, and whether what they do agrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.statistics import Interval

__all__ = ["METHODS", "Cell", "columns", "judged"]

METHODS = ((1.0, 1.0), (0.5, 1.0), (0.5, 2.0), (0.25, 1.0), (0.25, 4.0))
"""Pairs (p, gamma), SAM first."""


class Cell(NamedTuple):
    """A product q rho, and how it is made up."""

    product: float
    p: float
    gamma: float

    @property
    def rho(self) -> float:
        """The radius; 0 for SGD."""
        q = self.p * self.gamma
        return self.product / q if q else 0.0


def columns(name: str, interval: Interval) -> dict[str, Any]:
    """What is not finite is null in a table."""
    ends = zip((name, f"{name}_low", f"{name}_high"), interval, strict=True)
    return {key: value if math.isfinite(value) else None for key, value in ends}


def judged(intervals: Sequence[Interval], equal: float, margin: float) -> str:
    """By the rule: "collapse" where all stay within the margin, else "break" where one excludes equality."""
    if all(equal - margin <= low and high <= equal + margin for _, low, high in intervals):
        return "collapse"
    if any(low > equal or high < equal for _, low, high in intervals):
        return "break"
    return "open"
