"""Convergence bounds as values: statement, assumptions, domain, metric, source and evaluation.

`ALL` holds every bound by its name; `best` picks the smallest one over many steps that applies, and
`applicable` lists them all.
"""

from rst_theory.bounds.average import (
    nonconvex_average,
    nonconvex_average_unnormalized,
    sam_average,
    sgd_average,
)
from rst_theory.bounds.base import (
    Bound,
    Condition,
    HasConstants,
    Metric,
    Parameter,
    RunBound,
    Setting,
    settle,
)
from rst_theory.bounds.catalogue import ALL, BoundValue, applicable, best
from rst_theory.bounds.one_step import (
    OneStepBound,
    one_step_convex,
    one_step_smooth,
    one_step_strongly_convex,
)

__all__ = [
    "ALL",
    "Bound",
    "BoundValue",
    "Condition",
    "HasConstants",
    "Metric",
    "OneStepBound",
    "Parameter",
    "RunBound",
    "Setting",
    "applicable",
    "best",
    "nonconvex_average",
    "nonconvex_average_unnormalized",
    "one_step_convex",
    "one_step_smooth",
    "one_step_strongly_convex",
    "sam_average",
    "settle",
    "sgd_average",
]
