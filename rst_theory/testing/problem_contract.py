"""The contract of a problem, and the check that a user runs on a problem of their own."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from rst_theory.problems import Problem
from rst_theory.testing.constants import CONSTANTS
from rst_theory.testing.contract import FALSE_ALARM, Examples, is_strategy, keep
from rst_theory.testing.derivative import DERIVATIVE, FINITE, SHAPES
from rst_theory.testing.noise import NOISE, moments

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["check_problem"]


def check_problem(
    problem: Problem | SearchStrategy[Problem], *, max_examples: int = 20, skip: Collection[str] = ()
) -> None:
    """Check the whole contract of a problem; nothing where it holds.

    Inequalities are tried at simple points (the origin, the axes, the start, the minimizer), at random
    ones on scales from 1e-3 to 100, along the directions of greatest and of least curvature, and where
    BFGS ends; all with an allowance for rounding: 1e-12 of the size that L gives to the terms, and 16 times
    what the formulas are seen to lose.

    The promises, by the names that `skip` takes:
        shapes: value (..., d) -> (...), gradient (..., d) -> (..., d), float64; x is not written to; a batch
            holds the same as its rows; the start and the minimizer have the shape (d,).
        finite: value and gradient are finite, and a NaN stays in its row.
        precision: neither is computed in less than float64.
        gradient: it is the slope of the value, by central differences, which L keeps honest, and to 1e-11
            by complex steps where the value accepts complex numbers.
        claims: the assumptions go with the constants.
        L: the gradient, and each stochastic one at a fixed minibatch, is L-Lipschitz; the value stays
            within L/2 ||y - x||^2 of its tangent plane.
        mu: what is claimed of it: strong convexity, or the Polyak-Lojasiewicz inequality; convexity.
        f_star: no value is below it, and the minimizer attains it.
        noise: equal generators give equal noise; where sigma is 0 gradients are exact.
        unbiased: the stochastic gradient has the mean grad f, in each coordinate. Where sigma is infinite
            this is tested between two points, whose difference L bounds.
        sigma: E||grad f(x; xi) - grad f(x)||^2 <= sigma^2.

    Args:
        problem: a problem, such as `rst_theory.problems.FromFunctions`; or a strategy for them.
        max_examples: how many problems are tried for each promise, of a strategy.
        skip: names of promises.

    Raises:
        ContractViolation: an AssertionError that names every broken promise and the simplest points found.
        TypeError: neither a problem nor a strategy.
        ValueError: an unknown name to skip.
        ImportError: a strategy is given and Hypothesis is absent: `rst-theory[testing]`.

    The tests of `unbiased` and `sigma` are statistical: a problem that is right, with noise of any law, fails
    with probability at most 1e-9 a call, over the seeds of 4,000 draws. Of Gaussian noise in three dimensions
    a bias of sigma/6 in a coordinate, and a sigma 10 % too small, are found with probability 0.99. Seeds and
    points are fixed, and so are the examples for one version of Hypothesis and of the code.
    """
    if isinstance(problem, Problem):
        examples: Examples = [(problem,)]
        subject, tried = type(problem).__name__, 1
    elif is_strategy(problem):
        examples, subject, tried = problem.map(lambda made: (made,)), "a problem", max_examples
    else:
        raise TypeError(f"a problem, or a strategy that makes them; got {problem!r}")
    stages = [[SHAPES], [FINITE], DERIVATIVE, [*CONSTANTS, NOISE], moments(FALSE_ALARM / tried)]
    with np.errstate(all="ignore"):  # what is not finite is reported
        keep(subject, stages, examples, max_examples, skip)
