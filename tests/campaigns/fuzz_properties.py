"""What every numeric function promises for any numbers: a number, or an error that names the argument.

    python -m tests.campaigns.fuzz_properties PROPERTY FOLDER EXAMPLES

Hypothesis draws parameters inside of their domains, at their edges and beyond; no answer is ever NaN, and
infinite only where that is documented.
"""

from __future__ import annotations

import functools
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

import rst_theory as rst
from rst_theory.bounds import ALL, OneStepBound, RunBound
from rst_theory.testing import problems, schedules
from tests.campaigns.fuzz_guard import finding, limit_memory, warnings_are_findings
from tests.campaigns.fuzz_targets import attempt, check_schedule, promise

__all__ = ["PROPERTIES"]

STEPS = st.integers(1, 6)
USUAL = st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0])
EXTREME = st.sampled_from(
    [-1.0, -0.0, 5e-324, 1e-300, 1e-16, 1e16, 1e154, 1e300, math.inf, -math.inf, math.nan]
)
NUMBER = USUAL | USUAL | USUAL | EXTREME | st.floats()
PARAMETER = NUMBER | NUMBER | schedules(max_value=2.0)
CONSTANTS = st.builds(
    lambda L, share, sigma: (L, L * share, sigma), st.floats(0.01, 100) | EXTREME, st.floats(0, 1), NUMBER
)
OPTIONAL = st.none() | NUMBER
SECONDS = 10.0

_NAMES = ("required: ", "must be", "must have", "needs", "give ", "T = ", "degree")


def refused(function: Callable[[], Any]) -> Any:
    """The value, or None where an argument was refused."""
    return attempt(function, ValueError, TypeError, naming=_NAMES)


def _constants(drawn: tuple[float, float, float], f_star: float = 0.0) -> Any:
    L, mu, sigma = drawn
    return refused(lambda: rst.ProblemConstants(L=L, mu=mu, sigma=sigma, f_star=f_star))


@given(s=schedules(max_value=2.0, max_depth=2))
def schedule_values(s: rst.Schedule) -> None:
    """Values finite and >= 0, and a dict that gives the schedule back."""
    check_schedule(s)


@given(
    s=schedules(max_value=1.0) | NUMBER,
    steps=STEPS,
    kind=st.sampled_from(["independent", "systematic"]),
    a=NUMBER,
)
def costs(s: Any, steps: int, kind: Any, a: float) -> None:
    """A law: probabilities that add to 1, quantiles and tails within their ranges."""
    law = refused(lambda: rst.CostLaw(s, steps, kind=kind))
    if law is None:
        return
    pmf = law.pmf()
    promise((pmf >= 0).all() and abs(pmf.sum() - 1) < 1e-9, f"a law {pmf}")
    promise(0 <= law.mean <= steps and law.variance >= 0, f"mean {law.mean}, variance {law.variance}")
    for probability in (law.cdf, law.sf, law.tail_bound):
        value = refused(lambda probability=probability: probability(a))
        promise(value is None or 0 <= value <= 1, f"{probability.__name__}({a}) = {value}")
    k = refused(lambda: law.quantile(a))
    promise(k is None or (0 <= k <= steps and 0 <= a <= 1), f"quantile({a}) = {k}")


@given(
    name=st.sampled_from(sorted(name for name, bound in ALL.items() if isinstance(bound, RunBound))),
    s=schedules(max_value=1.0) | NUMBER,
    steps=STEPS,
    parameters=st.tuples(PARAMETER, PARAMETER, PARAMETER),
    constants=CONSTANTS,
    start=st.tuples(OPTIONAL, OPTIONAL),
)
def bounds(name: str, s: Any, steps: int, parameters: Any, constants: Any, start: Any) -> None:
    """A bound is a number >= 0, perhaps infinite, or a DomainError."""
    known = _constants(constants)
    if known is None:
        return
    eta, rho, gamma = parameters
    value = attempt(
        lambda: ALL[name].evaluate(
            schedule=s,
            steps=steps,
            eta=eta,
            rho=rho,
            gamma=gamma,
            constants=known,
            gap=start[0],
            distance=start[1],
        ),
        rst.DomainError,
        naming=_NAMES,
    )
    promise(value is None or value >= 0, f"{name} = {value}")


@given(
    name=st.sampled_from(sorted(name for name, bound in ALL.items() if isinstance(bound, OneStepBound))),
    numbers=st.tuples(*[NUMBER] * 5),
    constants=CONSTANTS,
)
def one_step_bounds(name: str, numbers: Any, constants: Any) -> None:
    """The worst change in one step is a number, or a DomainError."""
    known = _constants(constants)
    if known is None:
        return
    p, eta, rho, gamma, gradient_norm = numbers
    value = attempt(
        lambda: ALL[name].evaluate(
            p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=gradient_norm, constants=known
        ),
        rst.DomainError,
        naming=_NAMES,
    )
    promise(value is None or not math.isnan(value), f"{name} = {value}")


@given(
    problem=problems(),
    s=schedules(max_value=1.0) | NUMBER,
    steps=STEPS,
    parameters=st.tuples(PARAMETER, PARAMETER, PARAMETER),
    ascent=st.sampled_from(["normalized", "unnormalized"]),
    replicas=st.integers(1, 3),
    seed=st.integers(0, 2**64 - 1),
)
def simulations(
    problem: Any, s: Any, steps: int, parameters: Any, ascent: Any, replicas: int, seed: int
) -> None:
    """A run has finite moments, or it says that it diverged."""
    from rst_theory.simulation import DivergenceError

    eta, rho, gamma = parameters
    naming = [*_NAMES, "diverge", "floating"]
    run = attempt(
        lambda: rst.simulate(
            problem,
            s,
            steps=steps,
            eta=eta,
            rho=rho,
            gamma=gamma,
            ascent=ascent,
            replicas=replicas,
            seed=seed,
            backend="numpy",
            progress=False,
        ),
        *(ValueError, TypeError, DivergenceError),
        naming=naming,
    )
    if run is not None:
        for quantity, moments in run.moments.items():
            promise(np.isfinite(moments.mean).all(), f"{quantity}: {moments.mean}")
        promise(((run.extra_pairs >= 0) & (run.extra_pairs <= steps)).all(), f"{run.extra_pairs} pairs")


@given(
    budget=NUMBER,
    steps=STEPS,
    parameters=st.tuples(PARAMETER, PARAMETER, PARAMETER),
    constants=CONSTANTS,
    goal=st.sampled_from(["average", "last_iterate"]),
    max_gamma=OPTIONAL,
)
def allocations(
    budget: float, steps: int, parameters: Any, constants: Any, goal: Any, max_gamma: Any
) -> None:
    """Probabilities whose mean is within the budget."""
    known = _constants(constants)
    if known is None:
        return
    eta, rho, degree = parameters
    s = refused(
        lambda: rst.allocate(
            budget,
            steps=steps,
            eta=eta,
            rho=rho,
            degree=degree,
            constants=known,
            goal=goal,
            max_gamma=max_gamma,
        )
    )
    if s is not None:
        p = s.probabilities(steps)
        promise(p.mean() <= budget * (1 + 1e-9) + 1e-12, f"mean {p.mean()} of the budget {budget}")


@given(s=schedules(max_value=1.0) | NUMBER, steps=STEPS, degree=PARAMETER, cap=OPTIONAL)
def degrees(s: Any, steps: int, degree: Any, cap: Any) -> None:
    """Coefficients finite, and degrees attained that are finite and not above those asked for."""
    found = refused(lambda: rst.matched_gamma(s, steps, degree, cap))
    if found is not None:
        promise(np.isfinite(found.gamma).all() and (found.gamma >= 0).all(), f"gamma {found.gamma}")
        promise(np.isfinite(found.degree).all(), f"degree {found.degree}")


PROPERTIES: dict[str, Callable[[], None]] = {
    f.__name__: f
    for f in (schedule_values, costs, bounds, one_step_bounds, simulations, allocations, degrees)
}
"""Every property by its name."""


def counted(name: str, examples: int, folder: Path | None = None, every: int = 1000) -> tuple[int, str]:
    """Run a property.

    Args:
        name: a key of `PROPERTIES`.
        examples: how many; Hypothesis may run a few more or, where there are no more, less.
        folder: keeps the examples that failed.
        every: how often progress is told on stderr.

    Returns:
        The number of executions, and the story of what was found, if anything was.
    """
    done = 0
    test: Any = PROPERTIES[name]
    inner = test.hypothesis.inner_test

    @functools.wraps(inner)
    def guarded(**drawn: Any) -> None:
        nonlocal done
        done += 1
        if done % every == 0:
            print(f"#{done} cov: 0 ft: 0 corp: 0", file=sys.stderr, flush=True)
        error = finding(lambda _: inner(**drawn), b"", SECONDS)
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise AssertionError(f"{type(error).__name__}: {error}") from error

    test.hypothesis.inner_test = guarded
    database = None if folder is None else DirectoryBasedExampleDatabase(folder / "examples")
    how = settings(
        max_examples=examples, deadline=None, database=database, suppress_health_check=list(HealthCheck)
    )
    try:
        how(test)()
    except Exception as error:
        return done, "".join(traceback.format_exception(error))
    finally:
        test.hypothesis.inner_test = inner
    return done, ""


def main(name: str, folder: Path, examples: int) -> int:
    """Run a property and write down what was found."""
    findings = folder / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    (findings / f"{name}.txt").unlink(missing_ok=True)
    warnings_are_findings()
    limit_memory()
    done, story = counted(name, examples, folder)
    print(f"stat::number_of_executed_units: {done}", file=sys.stderr)
    if story:
        (findings / f"{name}.txt").write_text(story, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
