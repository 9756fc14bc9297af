"""What a schedule promises of its values: which they are, and that they depend on t and T alone.

Each promise is a function of a schedule and T that says in words how it is broken, or None.
"""

from __future__ import annotations

import copy
import math

import numpy as np

from rst_theory.notation import FloatArray
from rst_theory.schedules import Schedule
from rst_theory.testing.contract import Promise
from rst_theory.testing.lengths import fits, raw

__all__ = ["HORIZON", "PROBABILITIES", "SAME_ANSWER", "of_range"]


def of_range(most: float) -> Promise:
    """That values are float64 numbers in [0, most]."""
    interval = "[0, infinity)" if math.isinf(most) else f"[0, {most:g}]"
    words = f"float64 of shape (T,), each in {interval}"
    return Promise("values", words, lambda schedule, T: _values(schedule, T, most), of=2)


def _values(schedule: Schedule, T: int, most: float) -> str | None:
    values = raw(schedule, T)
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.shape != (T,):
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else repr(values)
        return f"the values at t = 0, …, {T - 1} are {found}, not float64 ({T},)"
    for t, value in enumerate(values.tolist()):
        if not (math.isfinite(value) and 0 <= value <= most):
            return f"at t = {t} the value is {value}"
    return None


def _probabilities(schedule: Schedule, T: int) -> str | None:
    return _difference("probabilities(T)", schedule.probabilities(T), "the value", schedule.values(T))


def _difference(
    name: str, found: FloatArray, other: str, values: FloatArray, relative: float = 0.0
) -> str | None:
    """Where two sequences differ by more than this much of the largest value."""
    for t, (a, b) in enumerate(zip(found.tolist(), values.tolist(), strict=True)):
        if abs(a - b) > relative * values.max():
            return f"at t = {t} {name} is {a}, {other} {b}"
    return None


def _same_answer(schedule: Schedule, T: int) -> str | None:
    asked, other = copy.deepcopy(schedule), copy.deepcopy(schedule)
    first = asked.values(T)
    kept = first.copy()
    first[:] = -1.0
    again = _difference("values(T) asked a second time", asked.values(T), "the first time", kept)
    if again:
        return again
    for k in (T + 1, max(1, T - 1)):
        if fits(schedule, k):
            other.values(k)
    later = _difference("values(T) asked after other lengths", other.values(T), "before", kept)
    if later:
        return later
    one_by_one = np.array([other.at(t, T) for t in reversed(range(T))])[::-1]
    return _difference("at(t, T)", one_by_one, "values(T)[t]", kept, 1e-12)


def _horizon(schedule: Schedule, T: int) -> str | None:
    if schedule.has_horizon:
        return None
    longer = schedule.values(T + 3)[:T]
    found = _difference(f"the value of {T + 3} steps", longer, f"of {T} steps", schedule.values(T), 1e-12)
    return found or _difference(
        "at(t) without T",
        np.array([schedule.at(t) for t in range(T)]),
        "the value",
        schedule.values(T),
        1e-12,
    )


SAME_ANSWER = Promise("same answer", "values depend on t and T alone", _same_answer, of=2)
HORIZON = Promise("horizon", "without a horizon a value does not depend on T", _horizon, of=2)
PROBABILITIES = Promise("probabilities", "probabilities(T) is values(T)", _probabilities, of=2)
