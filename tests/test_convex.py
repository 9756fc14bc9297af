"""The gap on convex objectives: exact programs, whole trees of trials, and the bounds known at p = 0."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP, SEMIDEFINITE
from hypothesis import given, settings, strategies as st
from test_strongly_convex import applicable, mean, program, rows, tree

import rst_theory as rst
from rst_theory.bounds import convex as bounds
from rst_theory.notation import DomainError, ProblemConstants
from rst_theory.problems import PiecewiseQuadratic, Quadratic

BOUNDS = [
    bounds.convex_average_gap,
    bounds.convex_average_gap_noiseless,
    bounds.convex_average_gap_unnormalized,
    bounds.convex_last_iterate_unnormalized,
    bounds.gradient_descent_last_iterate,
    bounds.convex_average_gap_unnormalized_noiseless,
]
FLAT = ProblemConstants(L=1.0)


def value_of(bound, p, eta, rho, gamma=1.0, steps=4, constants=FLAT, distance=1.0):
    return bound.evaluate(
        schedule=p, steps=steps, eta=eta, rho=rho, gamma=gamma, constants=constants, distance=distance
    )


# Against the exact programs


@pytest.mark.parametrize("preset, p", [("constant", 0.5), ("piecewise1", 0.5), ("linear1", 0.75)])
@pytest.mark.parametrize("eta, rho, gamma", [(0.25, 0.5, 2.0), (0.5, 0.2, 1.0), (1.0, 0.1, 1.0)])
def test_unnormalized_bounds_are_above_the_programs(preset, p, eta, rho, gamma):
    schedule = rst.preset(preset, p)
    table = [schedule.probabilities(2).tolist(), *([number] * 2 for number in (eta, rho, gamma))]
    for bound, quantity, looseness in (
        (bounds.convex_average_gap_unnormalized_noiseless, "average", 1.4),
        (bounds.convex_last_iterate_unnormalized, "distance to gap", 2.0),
    ):
        try:
            value = value_of(bound, schedule, eta, rho, gamma, steps=2)
        except DomainError:  # a degree above 1
            assert gamma > 1
            continue
        exact = program(*table, 0.0, quantity)
        assert exact * (1 - SEMIDEFINITE) <= value <= looseness * exact


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 3])
def test_gradient_descent_attains_the_bound_of_drori_and_teboulle(eta, steps):
    value = value_of(bounds.gradient_descent_last_iterate, 0.0, eta, 0.3, steps=steps)
    zeros = [0.0] * steps
    exact = program(zeros, [eta] * steps, zeros, zeros, 0.0, "distance to gap")
    assert value == pytest.approx(exact, rel=SEMIDEFINITE)


# The case p = 0, number against number


@pytest.mark.parametrize("eta", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_gradient_descent_attains_the_bound_on_the_average(eta, steps):
    zeros = [0.0] * steps
    value = value_of(bounds.convex_average_gap_unnormalized_noiseless, 0.0, eta, 0.3, steps=steps)
    assert value == pytest.approx(1 / (2 * (eta * (steps - 1) + 1)), rel=NUMERIC)
    assert value == pytest.approx(
        program(zeros, [eta] * steps, zeros, zeros, 0.0, "average"), rel=SEMIDEFINITE
    )


@given(eta=st.floats(0.01, 1), sigma=st.floats(0, 2), T=st.integers(1, 50), D=st.floats(0, 3))
@settings(max_examples=40)
def test_without_trials_they_are_the_bounds_of_sgd(eta, sigma, T, D):
    """sum of 2 eta E(f - f*) <= D^2 + T eta^2 sigma^2 for eta <= 1/L (Bubeck 2015, section 6; here L = 1)."""
    theirs = (D**2 + T * eta**2 * sigma**2) / (2 * T * eta)
    noisy = ProblemConstants(L=1.0, sigma=sigma)
    for bound in (bounds.convex_average_gap, bounds.convex_average_gap_unnormalized):
        value = value_of(bound, 0.0, eta, 0.7, steps=T, constants=noisy, distance=D)
        assert value == pytest.approx(theirs, rel=NUMERIC, abs=1e-300)
    if sigma == 0:
        for bound in (bounds.convex_average_gap_noiseless, bounds.convex_average_gap_unnormalized_noiseless):
            assert value_of(bound, 0.0, eta, 0.7, steps=T, distance=D) <= theirs * (1 + NUMERIC)


# Whole trees of trials


@st.composite
def convex(draw):
    """A convex problem with curvature 0 somewhere, its minimizer nearest to the start, and the start."""
    x0 = draw(st.floats(-4, 4))
    if draw(st.booleans()):
        problem = Quadratic([1.0, draw(st.floats(0, 1))])
        return problem, np.zeros(2), np.array([1.0, x0])
    slopes = draw(st.lists(st.floats(0, 1), min_size=2, max_size=2))
    knots = np.array([-draw(st.floats(0.1, 2)), 0.0, draw(st.floats(0.1, 2))])
    heights = [slopes[0] * knots[0], 0.0, slopes[1] * knots[2]]
    left, right = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    if left == slopes[0] == 0 or right == slopes[1] == 0:
        left = right = 1.0
    problem = PiecewiseQuadratic(knots, heights, left=left, right=right)
    return problem, np.zeros(1), np.array([x0])


def measured(bound, levels, eta, L, gap):
    if bound.metric.quantity == "final_gap":
        return mean(levels[-1], gap)
    weights = bound.metric.weights(np.array(eta), L)
    return sum(weight * mean(leaves, gap) for weight, leaves in zip(weights, levels[:-1], strict=True))


@given(convex(), rows)
@settings(max_examples=50)
def test_exact_expectations_are_below_every_bound(instance, table):
    problem, best, x0 = instance
    L = max(problem.constants.L, 1e-3)
    constants = ProblemConstants(L=L)
    p, eta, rho, gamma = map(list, zip(*table, strict=True))
    eta, rho = [min(e, 1.0) / L for e in eta], [r / L for r in rho]
    distance = float(np.linalg.norm(x0 - best))
    for bound in BOUNDS[:4] + BOUNDS[5:]:
        levels = tree(x0, [problem.gradient], p, eta, rho, gamma, bound.ascent)
        value = applicable(bound, constants, p, eta, rho, gamma, distance=distance)
        assert measured(bound, levels, eta, L, problem.gap) <= value * (1 + NUMERIC) + 1e-25


@given(table=rows, x0=st.floats(-3, 3), s=st.floats(0.01, 1), flat=st.floats(0, 0.9))
@settings(max_examples=40)
def test_noise_that_is_correlated_with_the_curvature_stays_below(table, x0, s, flat):
    """f(x) = flat x^2/2 with gradients flat x ± s cos(b x), s b = 1 - flat: each 1-Lipschitz."""
    b = (1 - flat) / s

    def noisy(sign):
        return lambda x: flat * x + sign * s * np.cos(b * x)

    p, eta, rho, gamma = map(list, zip(*table[:3], strict=True))
    eta = [min(e, 1.0) for e in eta]
    constants = ProblemConstants(L=1.0, sigma=s)
    for bound in (bounds.convex_average_gap, bounds.convex_average_gap_unnormalized):
        levels = tree(np.array([x0]), [noisy(1), noisy(-1)], p, eta, rho, gamma, bound.ascent)
        value = applicable(bound, constants, p, eta, rho, gamma, distance=abs(x0))
        gap = measured(bound, levels, eta, 1.0, lambda x: flat * float(x @ x) / 2)
        assert gap <= value * (1 + NUMERIC) + 1e-25


def test_the_floor_without_noise_vanishes_with_the_radius_squared():
    """q L rho^2/4 as the step size vanishes, whatever the distance; the bound for noise grows with it."""
    eta, rho = 1e-3, 0.1
    value = value_of(bounds.convex_average_gap_noiseless, 0.5, eta, rho, steps=10, distance=0.0)
    assert value == pytest.approx(0.5 * rho**2 / 4, rel=2e-3)
    long = value_of(bounds.convex_average_gap, 0.5, eta, rho, steps=10**5)
    assert 0.5 * rho < long - 1 / (2 * 10**5 * eta), "q L rho D at least"


def test_the_bound_with_noise_equals_the_theorem_in_high_precision():
    """Two steps of the recursion of the note, in 50 digits; L = 1, D = 2."""
    p, eta, rho, gamma, sigma = (mpmath.mpf(x) for x in ("0.5", "0.75", "0.5", "1.5", "0.3"))
    noisy = ProblemConstants(L=1.0, sigma=0.3)
    table = {"eta": 0.75, "rho": 0.5, "gamma": 1.5, "steps": 2, "constants": noisy, "distance": 2.0}
    with mpmath.workdps(50):
        v = mpmath.mpf(4)
        for _ in range(2):
            square, q = v + eta**2 * sigma**2, p * gamma
            v = square + 2 * eta * q * rho * mpmath.sqrt(square) + eta**2 * q * gamma * rho**2
        expected = float(v / (4 * eta))
    assert value_of(bounds.convex_average_gap, 0.5, **table) == pytest.approx(expected, rel=NUMERIC)


def test_worked_numbers_of_unnormalized_ascent():
    """By hand from the note. First e = 1/4, r = 1/2, q = 1: psi = 1, c_t = 1/3, Lambda = T/2, w = 1; T = 2.

    Then e = 1, r = 2, gamma = 1, q = p = 1/8: kappa_0 = (1 - 3)^2 = 4 and w = 1 - q r^2 = 1/2; D = 2, T = 1.
    """
    value = value_of(bounds.convex_average_gap_unnormalized_noiseless, 1.0, 0.25, 0.5, steps=2)
    assert value == pytest.approx(0.5, rel=ONE_STEP)
    noisy = ProblemConstants(L=1.0, sigma=0.3)
    v = 4 + 2 * (1 / 8) * 2 * 0.3 * 2 * 2 + 0.3**2 * (7 / 8 + 9 / 8)
    value = value_of(
        bounds.convex_average_gap_unnormalized, 1 / 8, 1.0, 2.0, steps=1, constants=noisy, distance=2.0
    )
    assert value == pytest.approx(v / (2 * 0.5), rel=NUMERIC)


# Domains and algebra


def test_domains_are_named():
    for bound, change, message in (
        (BOUNDS[0], {"eta": 1.5}, "eta_t <= 1/L"),
        (BOUNDS[0], {"distance": None}, "distance"),
        (BOUNDS[1], {"gamma": 3.0}, r"q_t <= 1; got 1\.5"),
        (BOUNDS[1], {"constants": ProblemConstants(L=1.0, sigma=1.0)}, "sigma = 0"),
        (BOUNDS[2], {"eta": 1.0, "rho": 3.0}, "w_t > 0"),
        (BOUNDS[3], {"eta": 1.0, "rho": 3.0}, "w_t > 0"),
        (BOUNDS[4], {"p": 0.5}, "p_t = 0"),
        (BOUNDS[4], {"p": 0.0, "eta": [0.5, 0.5, 0.4, 0.5]}, r"eta_t = eta_0; got 0\.4 at t = 2"),
    ):
        with pytest.raises(DomainError, match=message):
            value_of(bound, **({"p": 0.5, "eta": 0.5, "rho": 0.1} | change))


def test_short_radii_cost_unnormalized_ascent_nothing():
    """Where L rho <= 1 - L eta (and beyond) the bound is that of gradient descent."""
    for rho, equal in ((0.5, True), (0.7, True), (2.0, False)):
        value = value_of(bounds.convex_average_gap_unnormalized, 1.0, 0.3, rho)
        assert math.isclose(value, 1 / (2 * 4 * 0.3), rel_tol=ONE_STEP) == equal


@given(e=st.floats(0.01, 1), r=st.floats(0, 2), q=st.floats(0, 1), gamma=st.floats(1, 5))
@settings(max_examples=60)
def test_the_progress_left_is_the_value_of_its_quadratic(e, r, q, gamma):
    x = gamma * e
    w = np.linspace(0, 1, 20_001)
    squared = w**2 if x <= 2 else w
    worst = (-(1 - e) * (1 + 2 * q * r * w) + q * r**2 * (2 * w - (2 - x) * squared)).max()
    setting = rst.bounds.settle(q / gamma, 1, e, r, gamma, FLAT, None, 1.0)
    assert bounds._progress(setting)[0] == pytest.approx(1 - max(0, worst), abs=1e-8 * (1 + r**2))


def test_the_algebra_of_one_step():
    """The terms of one step collect as in the note; s = <u, delta>, n = |delta|^2, G = |g|."""
    eta, L, q, gamma, G, s, n, rho, gap = sympy.symbols("eta L q gamma G s n rho Delta", positive=True)
    at_x, at_y = G**2 / (2 * L), (G**2 + 2 * G * s + n) / (2 * L)  # the least D(x*, x) and D(x*, y)
    inner = (1 - q) * (gap + at_x) + q * (gap + at_y - rho * s + n / (2 * L))
    step = -2 * eta * inner + eta**2 * (G**2 + 2 * q * G * s + q * gamma * n)
    collected = (
        -2 * eta * gap
        - eta * (1 / L - eta) * (G**2 + 2 * q * G * s)
        + q * eta * (2 * rho * s - (2 / L - eta * gamma) * n)
    )
    assert sympy.expand(step - collected) == 0
    c = 2 - gamma * L * eta - (1 - L * eta) * q
    mean_square = G**2 + 2 * q * G * s + q**2 * n
    second = -2 * eta * gap - eta * (1 / L - eta) * mean_square + q * eta * (2 * rho * s - c / L * n)
    assert sympy.expand(step - second) == 0


def test_the_algebra_of_the_end_point():
    """The least of (1 + 1/Lambda) S^2 - 2 D S is -Lambda/(1 + Lambda) D^2."""
    S, D, slack = sympy.symbols("S D Lambda", positive=True)
    value = (1 + 1 / slack) * S**2 - 2 * D * S
    (least,) = sympy.solve(sympy.diff(value, S), S)
    assert sympy.simplify(value.subs(S, least) + slack / (1 + slack) * D**2) == 0


@given(e=st.floats(0.01, 1), q=st.floats(0, 1), gamma=st.floats(1, 5))
@settings(max_examples=60)
def test_the_rise_is_the_value_of_its_quadratic(e, q, gamma):
    c = 2 - gamma * e - (1 - e) * q
    w = np.linspace(0, 1, 20_001)
    setting = rst.bounds.settle(q / gamma, 1, e, 1.0, gamma, FLAT, None, 1.0)
    exact = (2 * w - c * (w**2 if c > 0 else w)).max()
    assert bounds._rise(setting)[0] == pytest.approx(exact, abs=1e-8)
