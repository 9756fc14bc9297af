"""Schedules: functions of the step, for p(t) and for eta, rho and gamma too; symbolic and numeric."""

from rst_theory.schedules.base import Schedule, sequence
from rst_theory.schedules.families import (
    Constant,
    Cosine,
    FromExpression,
    InverseSqrt,
    Joined,
    Linear,
    Periodic,
    Piecewise,
    Tabulated,
)
from rst_theory.schedules.presets import (
    FAMILIES,
    PRESETS,
    MatchedGamma,
    from_dict,
    matched_gamma,
    parse,
    preset,
)

__all__ = [
    "FAMILIES",
    "PRESETS",
    "Constant",
    "Cosine",
    "FromExpression",
    "InverseSqrt",
    "Joined",
    "Linear",
    "MatchedGamma",
    "Periodic",
    "Piecewise",
    "Schedule",
    "Tabulated",
    "from_dict",
    "matched_gamma",
    "parse",
    "preset",
    "sequence",
]
