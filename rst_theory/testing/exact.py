"""What a schedule promises of its exact forms: the expression, the mean and its limit, against the values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rst_theory.notation import QUANTITIES, DomainError
from rst_theory.schedules import Schedule
from rst_theory.testing.contract import Promise

if TYPE_CHECKING:
    import sympy

__all__ = ["AGREEMENT", "EXACT_FORMS", "real"]

AGREEMENT = 1e-10
"""Relative to the largest value of the run: between a float64 number and the exact one."""

EXACT = 1e-20
"""The same between two exact numbers, which are evaluated to 30 digits."""

LONG = 10**4, 10**6
"""The numbers of steps at which the mean is compared with its limit."""

_DIGITS = 30
_MOST_DIGITS = 1000  # where terms cancel


def real(expression: Any) -> sympy.Expr | None:
    """A real number to 30 digits; None for anything else."""
    import sympy

    number = sympy.sympify(expression, strict=True).evalf(_DIGITS, maxn=_MOST_DIGITS)
    return number if number.is_Float or number.is_Rational else None


def _expression(schedule: Schedule, T: int) -> str | None:
    import sympy

    values = schedule.values(T)
    allowed = AGREEMENT * values.max()
    t_, T_ = QUANTITIES["t"].symbol, QUANTITIES["steps"].symbol
    general = schedule.expression(t_, T_)
    for t, value in enumerate(values.tolist()):
        exact = schedule.expression(sympy.Integer(t), sympy.Integer(T))
        number = real(exact)
        if number is None:
            return f"at t = {t} the expression is {exact}, which is no real number"
        if abs(float(number) - value) > allowed:
            return f"at t = {t} the value is {value}, the expression {_exact(exact, number)}"
        if t in (0, T // 2, T - 1):
            number = real(general.subs({t_: t, T_: T}))
            if number is not None and abs(float(number) - value) > allowed:
                return (
                    f"at t = {t} the value is {value}, the expression in symbols {general} = {float(number)}"
                )
    return None


def _mean(schedule: Schedule, T: int) -> str | None:
    import sympy

    values = schedule.values(T)
    largest, average = float(values.max()), math.fsum(values) / T
    T_ = QUANTITIES["steps"].symbol
    mean = schedule.mean(sympy.Integer(T))
    number = real(mean)
    if number is None:
        return f"mean({T}) is {mean}, which is no real number"
    if abs(float(number) - average) > AGREEMENT * largest:
        return f"mean({T}) is {_exact(mean, number)}, the average of the values {average}"
    terms = [real(schedule.expression(sympy.Integer(t), sympy.Integer(T))) for t in range(T)]
    if None not in terms:
        exact = sympy.Add(*terms) / T
        if EXACT * largest < abs(exact - number) <= AGREEMENT * largest:
            return f"mean({T}) is {number}, the average of the expression {exact}: not exact"
    if T > 1 and not (general := schedule.mean(T_)).has(sympy.Sum):
        number = real(general.subs(T_, T).doit())
        if number is not None and abs(float(number) - average) > AGREEMENT * largest:
            return (
                f"mean(T) in the symbol T is {general} = {float(number)}, the average of the values {average}"
            )
    return None


def _exact(expression: Any, number: Any) -> str:
    text = str(expression)
    if getattr(expression, "is_Integer", False):
        return text
    return f"{text} = {float(number)}" if len(text) <= 40 else str(float(number))


def _limit(schedule: Schedule) -> str | None:
    try:
        limit = schedule.mean()
    except (DomainError, ValueError):
        return None
    number = real(limit)
    if number is None:
        return f"mean() is {limit}, which is no real number"
    try:
        runs = [schedule.values(T) for T in LONG]
    except DomainError:
        return None
    early, late = (float(values.mean()) for values in runs)
    away = abs(late - float(number))
    if away <= 1e-4 * runs[-1].max() or away <= 0.9 * abs(early - float(number)):
        return None
    return (
        f"mean() is {_exact(limit, number)}, but the average of the values is {early:.6g} at T = {LONG[0]:,} "
        f"and {late:.6g} at T = {LONG[1]:,}"
    )


EXACT_FORMS = (
    Promise("expression", "the expression is the value, to 1e-10 of the largest", _expression, of=2),
    Promise("mean", "mean(T) is the average, to 1e-10 of the largest value, and exact", _mean, of=2),
    Promise("limit", "mean() is what the average tends to as T grows", _limit, at_most=10),
)
