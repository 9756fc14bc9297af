"""What a schedule answers for T steps, and for which T it does: a table fits its own number alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from rst_theory.notation import DomainError
from rst_theory.schedules import Schedule

__all__ = ["fits", "fitting_steps", "raw"]

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 25)
LONGEST_SEARCHED = 500


def fits(schedule: Schedule, T: int) -> bool:
    """Whether a schedule does not refuse T steps."""
    try:
        raw(schedule, T)
    except DomainError:
        return False
    except Exception:
        return True  # a fault, which the first promise will report
    return True


def raw(schedule: Schedule, T: int) -> Any:
    """What the user wrote, before the base class looks at it."""
    return copy.deepcopy(schedule)._values(np.arange(T, dtype=np.float64), T)


def fitting_steps(schedule: Schedule, lengths: Sequence[int] | None = None) -> list[int]:
    """The numbers of steps among `lengths` that a schedule does not refuse; a table fits its own alone.

    Raises:
        ValueError: there is none.
    """
    fitting = [T for T in (LENGTHS if lengths is None else lengths) if fits(schedule, T)]
    if not fitting and lengths is None:
        fitting = [T for T in range(1, LONGEST_SEARCHED) if fits(schedule, T)][:1]
    if not fitting:
        tried = f"1 … {LONGEST_SEARCHED - 1}" if lengths is None else lengths
        raise ValueError(f"{schedule!r} refuses every number of steps tried, {tried}; give steps=[…]")
    return fitting
