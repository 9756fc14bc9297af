"""Property tests of schedules and problems, for users' own test files: one line checks a whole contract.

    from hypothesis import given
    from rst_theory.testing import check_problem, check_schedule, schedules

    def test_my_schedule(): check_schedule(MySchedule)  # a class, a schedule, or a strategy
    def test_my_problem(): check_problem(my_problem)

A promise that is broken is an AssertionError that names it, with the smallest example. A schedule with a
bug that no plot shows, since its fast form runs on t/T, its exact form on t/(T - 1):

    >>> import dataclasses
    >>> import sympy
    >>> import rst_theory as rst
    >>> from rst_theory.schedules.base import rational
    >>> from rst_theory.testing import check_schedule
    >>> @dataclasses.dataclass(frozen=True, repr=False)
    ... class Ramp(rst.Schedule):
    ...     end: float
    ...     def _values(self, t, T): return float(self.end) * t / T
    ...     def expression(self, t, T): return rational(self.end) * t / sympy.Max(1, T - 1)
    ...     def mean(self, T=None): return rational(self.end) / 2 if T != 1 else sympy.Integer(0)
    >>> try:
    ...     check_schedule(Ramp)
    ... except AssertionError as error:
    ...     print(error)
    Ramp breaks 2 promises
    <BLANKLINE>
    expression: the expression is the value, to 1e-10 of the largest
        smallest example: Ramp(1.0), T = 2
        at t = 1 the value is 0.5, the expression 1
    <BLANKLINE>
    mean: mean(T) is the average, to 1e-10 of the largest value, and exact
        smallest example: Ramp(1.0), T = 2
        mean(2) is 1/2 = 0.5, the average of the values 0.25

The strategies `schedules`, `step_sizes`, `radii`, `mixing_coefficients`, `problems` and `trials` make inputs
for tests of a user's own, with `hypothesis.given`. They load Hypothesis, which comes with the extra
`testing`; a single schedule or problem is checked without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rst_theory.testing.contract import ContractViolation
from rst_theory.testing.lengths import fitting_steps
from rst_theory.testing.problem_contract import check_problem
from rst_theory.testing.schedule_contract import check_schedule

if TYPE_CHECKING:
    from rst_theory.testing.objectives import problems
    from rst_theory.testing.strategies import mixing_coefficients, radii, schedules, step_sizes, trials

__all__ = [
    "ContractViolation",
    "check_problem",
    "check_schedule",
    "fitting_steps",
    "mixing_coefficients",
    "problems",
    "radii",
    "schedules",
    "step_sizes",
    "trials",
]


def __getattr__(name: str) -> Any:
    """The strategies, which load Hypothesis, when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "objectives" if name == "problems" else "strategies"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
