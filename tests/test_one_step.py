"""The one-step formulas against the exact performance-estimation program, in every regime."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from conftest import SEMIDEFINITE
from PEPit import PEP
from PEPit.functions import SmoothConvexFunction, SmoothFunction, SmoothStronglyConvexFunction

import rst_theory as rst
from rst_theory import method
from rst_theory.bounds import one_step_convex, one_step_smooth, one_step_strongly_convex
from rst_theory.notation import DomainError, ProblemConstants
from rst_theory.problems import PiecewiseQuadratic


def program(mu, p, eta, rho, gamma, G, L=1.0):
    """The worst expected change of f by semidefinite programming; mu = None for the nonconvex class."""
    pep = PEP()
    if mu is None:
        f = pep.declare_function(SmoothFunction, L=L)
    elif mu == 0:
        f = pep.declare_function(SmoothConvexFunction, L=L)
    else:
        f = pep.declare_function(SmoothStronglyConvexFunction, L=L, mu=mu)
    x = pep.set_initial_point()
    g, value = f.oracle(x)
    g_adv = f.gradient(method.ascend(x, g, rho, norm=G))
    pep.set_initial_condition(g**2 == G**2)
    unperturbed, perturbed = f(x - eta * g), f(x - eta * method.direction(g, g_adv, gamma))
    pep.set_performance_metric((1 - p) * unperturbed + p * perturbed - value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the solver speaks of accuracies beyond the one compared at
        return pep.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)


def regime(eta, rho, gamma, G):
    """Which part of the formula of paper_notes/one_step.md is the largest; L = 1."""
    e, h = eta, G / rho
    if e >= 1 or h >= gamma:
        return "closed"
    u, D = e * gamma, e * (gamma - h)
    k = 1 + 1 / (2 * u)
    d = (h + k * D / u) / (2 * k**2 - 1)
    A, slope = 1 / 2 - 1 / u - 1 / (4 * u**2), h - 2 + D / u + D / (2 * u**2)
    candidates = {"overshoot": -e * (1 - e / 2) * h**2 - u * (1 - e) * h + u**2 / 2}
    if d <= min(1, D):
        candidates["interior"] = (2 * (u * h) ** 2 + 2 * (2 * u + 1) * h * D + D**2) / (
            2 * (2 * u**2 + 4 * u + 1)
        )
    if D <= 1 and d >= D:
        candidates["short"] = h * D - D**2 / 2
    if D > 1:
        candidates["long"] = h * D + D**2 / 2 - 2 * D + 1
        if u < 1 + math.sqrt(1.5) and 1 <= -slope / (2 * A) <= D:
            candidates["sliver"] = 1 - D**2 / (4 * u**2) - slope**2 / (4 * A)
    return max(candidates, key=candidates.get)


def points(per_regime=8):
    """Random settings until every regime has this many."""
    rng = np.random.default_rng(7)
    found = {name: [] for name in ("closed", "overshoot", "interior", "short", "long", "sliver")}
    while min(map(len, found.values())) < per_regime:
        rho, gamma = rng.uniform(0.3, 2), rng.uniform(0.2, 4)
        eta = rng.uniform(0.05, 1.9)
        G = rho * gamma * rng.uniform(0, 1.3)
        name = regime(eta, rho, gamma, G)
        if len(found[name]) < per_regime:
            found[name].append((rng.uniform(0, 1), eta, rho, gamma, G))
    return [(name, *values) for name, rows in found.items() for values in rows]


@pytest.mark.parametrize("name, p, eta, rho, gamma, G", points())
def test_smooth_formula_equals_the_program(name, p, eta, rho, gamma, G):
    value = one_step_smooth.evaluate(
        p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=G, constants=ProblemConstants(L=1.0)
    )
    scale = max(abs(value), 0.1 * rho**2)  # where descent and ascent cancel the value is no scale
    assert value == pytest.approx(program(None, p, eta, rho, gamma, G), abs=SEMIDEFINITE * scale)


@pytest.mark.parametrize("mu", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("seed", range(6))
def test_convex_formula_equals_the_program(mu, seed):
    rng = np.random.default_rng(seed)
    p, eta, rho = rng.uniform(0, 1), rng.uniform(0.05, 2.5), rng.uniform(0.1, 2)
    gamma, G = rng.uniform(0.1, 3), rng.uniform(0, 2)
    bound = one_step_convex if mu == 0 else one_step_strongly_convex
    value = bound.evaluate(
        p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=G, constants=ProblemConstants(L=1.0, mu=mu)
    )
    scale = max(abs(value), 0.1 * rho**2)
    assert value == pytest.approx(program(mu, p, eta, rho, gamma, G), abs=SEMIDEFINITE * scale)


@pytest.mark.parametrize("eta, slope", [(0.5, -1.0), (1.0, 1.0), (1.5, 1.0)])
def test_the_closed_regime_is_attained_by_the_instance_of_the_note(eta, slope):
    p, rho, gamma, G = 0.3, 0.4, 1.5, 1.0
    knots, heights = [0.0, rho], [G, G + slope * rho]
    f = PiecewiseQuadratic(knots, heights, left=1.0, right=1.0, start=[0.0])
    x = np.zeros(1)
    change = sum(
        chance * float(f.value(rst.step(x, f.gradient, coin, eta, rho, gamma)) - f.value(x))
        for coin, chance in ((True, p), (False, 1 - p))
    )
    value = one_step_smooth.evaluate(
        p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=G, constants=ProblemConstants(L=1.0)
    )
    assert change == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize("bound", [one_step_smooth, one_step_convex, one_step_strongly_convex])
def test_degenerate_parameters_leave_the_step_of_gradient_descent(bound):
    constants = ProblemConstants(L=2.0, mu=0.5)
    expected = -0.3 * (1 - 0.3) * 4.0
    for change in ({"p": 0.0}, {"rho": 0.0}, {"gamma": 0.0}):
        arguments = {"p": 0.5, "eta": 0.3, "rho": 0.2, "gamma": 1.0, "gradient_norm": 2.0} | change
        assert bound.evaluate(constants=constants, **arguments) == pytest.approx(expected, rel=1e-12)
    still = bound.evaluate(p=0.5, eta=0.0, rho=0.2, gradient_norm=2.0, constants=constants)
    assert still == 0


@pytest.mark.parametrize("bound", [one_step_smooth, one_step_convex, one_step_strongly_convex])
def test_a_zero_gradient_moves_nothing(bound):
    constants = ProblemConstants(L=2.0, mu=0.5)
    assert bound.evaluate(p=0.5, eta=0.7, rho=0.2, gradient_norm=0.0, constants=constants) == 0


@pytest.mark.parametrize(
    "change",
    [{"rho": 1e-160}, {"rho": 5e-324}, {"eta": 1e-200}, {"gamma": 1e-300}, {"gradient_norm": 1e-150}],
)
def test_tiny_parameters_give_numbers(change):
    arguments = {"p": 0.5, "eta": 0.3, "rho": 0.2, "gamma": 1.0, "gradient_norm": 0.1} | change
    value = one_step_smooth.evaluate(constants=ProblemConstants(L=1.0), **arguments)
    assert math.isfinite(value)
    bound = 0.5 * 0.2**2  # what the descent lemma gives at most: p L rho^2 (u^2/2 + u h) with u, h <= 1/2
    assert -0.01 <= value <= bound


def test_domains():
    arguments = {"p": 0.5, "eta": 0.3, "rho": 0.2, "gradient_norm": 1.0}
    with pytest.raises(DomainError, match=r"sigma = 0; got 0\.1"):
        one_step_smooth.evaluate(constants=ProblemConstants(L=1.0, sigma=0.1), **arguments)
    with pytest.raises(DomainError, match=r"mu > 0; got 0"):
        one_step_strongly_convex.evaluate(constants=ProblemConstants(L=1.0), **arguments)
    with pytest.raises(DomainError, match="gradient norm"):
        one_step_smooth.evaluate(constants=ProblemConstants(L=1.0), **(arguments | {"gradient_norm": -1.0}))
