"""One step with unnormalized ascent on strongly convex objectives: multipliers, closed form and searches.

All in the notation and the units of `paper_notes/strongly_convex.md#contraction`, L = 1 and mu = m.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import NUMERIC, ONE_STEP

from rst_theory.bounds import contraction as module

QUANTITIES = ["squared_distance", "gap"]


def random_steps(seed, count):
    """Rows (p, e, r, gamma), among them steps that overshoot, with e > 1 and alpha < 0."""
    return np.random.default_rng(seed).uniform([0.05, 0.05, 0.05, 0.1], [1, 2.5, 1.5, 3], (count, 4))


def coordinates(step, m):
    """vartheta, bar vartheta, alpha, beta and w, of one step or of arrays."""
    _, e, r, gamma = step
    straight, turned = 1 - e, 1 - e * (1 + gamma * r * m)
    return 1 - e * m, straight, 1 - e * m * (1 + gamma * r * m), turned, e * gamma * r * (1 - m)


def as_steps(rows, m):
    return module._Steps(rows[:, 0], rows[:, 2], *coordinates(rows.T, m))


def factors(quantity, rows, m):
    return module.contraction(quantity, *rows.T, 1.0, m)


def corners(step, m):
    """What functions of one variable attain, of curvature A up to x and B beyond it."""
    p, e, r, gamma = step
    ends = [(A, B) for A in (m, 1.0) for B in (m, 1.0)]
    return max((1 - p) * (1 - e * A) ** 2 + p * (1 - e * A * (1 + gamma * r * B)) ** 2 for A, B in ends)


def least(holds):
    """The least kappa >= 0 for which this holds, as it does for all that are larger."""
    low, high = 0.0, 1.0
    while not holds(high):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


# The quadratic form in (z, a, b/r)


Z_, A_, B_ = np.eye(3)


def times(u, v):
    return (np.outer(u, v) + np.outer(v, u)) / 2


def points(step, m):
    """x, b, s, X_0 and X_1."""
    _, e, r, gamma = step
    x, g, b = Z_ + A_, m * Z_ + A_, r * B_
    s = r * g - b
    return x, b, s, x - e * g, x - e * (g + gamma * (m * s + b))


def subtracted(step, m, lam, tau):
    """Of the numbers >= 0 of the proof those that lambda and tau multiply."""
    r = step[2]
    _, b, s, _, _ = points(step, m)
    return 2 * (lam / r**2 - tau / r) * times(b, s) + 2 * tau / r * (
        times(A_, Z_) + times(b, Z_) + times(b, s)
    )


def proved(quantity, step, m, b, theta, tau=None):
    """The least kappa for which some nu leaves a form >= 0, with b = 2 lambda - p w^2.

    Without tau it is what brings the entry of z and b nearest to 0.
    """
    p, e, r, _ = step
    x, _, _, *after = points(step, m)
    lam, M = (p * coordinates(step, m)[-1] ** 2 + b) / 2, 1 - m
    weights, thetas = (1 - p, p), (max(1 - e * m, 0), theta)
    if quantity == "gap":
        before = m * times(x, x) + M * times(A_, A_)
        ends = [
            m * times(X, X) + M * times(X - share * Z_, X - share * Z_)
            for X, share in zip(after, thetas, strict=True)
        ]
    else:
        before, ends = times(x, x), [times(X, X) for X in after]
    expected = weights[0] * ends[0] + weights[1] * ends[1]
    if tau is None:
        entry = -(expected + subtracted(step, m, lam, 0.0))[0, 2]
        tau = min(max(entry, 0), lam / r)
    expected = expected + subtracted(step, m, lam, tau)

    def holds(kappa):
        left = kappa * before - expected
        nu = 0.0  # at least; for the gap xi >= 0 besides
        if quantity == "gap":
            nu = max(0.0, M * (np.dot(weights, thetas) - kappa) - tau / r)
        complement = left[:2, :2] - np.outer(left[:2, 2], left[:2, 2]) / left[2, 2]
        entry = min(complement[0, 1] - nu, 0)  # a larger nu brings it down to 0
        first, second = np.diag(complement)
        return first >= 0 and second >= 0 and entry**2 <= first * second

    return least(holds)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("m", [0.02, 0.3, 0.8])
def test_multipliers_prove_the_factor_of_the_quadratic_form(quantity, m):
    rows, rng = random_steps(1, 40), np.random.default_rng(2)
    steps = as_steps(rows, m)
    b = steps.p * steps.w * np.exp(rng.uniform(-3, 3, 40))
    theta, lam = rng.uniform(0, 1, 40), (steps.p * steps.w**2 + b) / 2
    for tau in (rng.uniform(0, 1, 40) * lam / steps.r, None):
        found = module._factor(steps, m, quantity == "gap", b, theta, tau)
        taus = [None] * 40 if tau is None else tau
        for value, step, *multipliers in zip(found, rows, b, theta, taus, strict=True):
            assert value == pytest.approx(proved(quantity, step, m, *multipliers), rel=NUMERIC)


@pytest.mark.parametrize("unit, slope", [(1.0, 1.0), (0.3, 0.3), (0.3, 1.0), (0.02, 1.0)])
def test_the_least_factor_of_a_matrix_inequality(unit, slope):
    """For some o <= slope kappa - C the matrix [[unit kappa - Z, o], [o, kappa - A]] is >= 0."""
    rng = np.random.default_rng(3)
    Z, A, C = rng.uniform(0, 2 * unit, 50), rng.uniform(0, 2, 50), rng.uniform(-1, 4, 50)
    for value, z, a, c in zip(module._least(unit, Z, A, slope, C), Z, A, C, strict=True):

        def holds(kappa):
            product = (unit * kappa - z) * (kappa - a)  # noqa: B023
            return kappa >= max(z / unit, a) and max(c - slope * kappa, 0) ** 2 <= product  # noqa: B023

        assert value == pytest.approx(least(holds), rel=NUMERIC)


# The closed form


def closed(quantity, step, m):
    """The factor of the multipliers that the note tries first; None where lambda cannot be so chosen."""
    p, _, r, _ = step
    _, _, alpha, beta, w = coordinates(step, m)
    lam, slope = p * w * abs(beta - w / 2) + p * w**2 / 2, alpha if quantity != "gap" else m * alpha
    lam = max(lam, p * w * slope * r / (1 + m * r))
    lam = min(lam, p * w * slope / m) if m > 0 else lam
    b = 2 * lam - p * w**2
    return proved(quantity, step, m, b, max(alpha, 0)) if b > 1e-6 * p * w else None


CLOSED = [("squared_distance", m) for m in (0.0, 0.02, 0.3, 0.8)] + [("gap", m) for m in (0.02, 0.3, 0.8)]


@pytest.mark.parametrize("quantity, m", CLOSED)
def test_the_multipliers_of_the_closed_form_are_those_of_the_note(quantity, m):
    rows = random_steps(4, 200)
    expected = [closed(quantity, step, m) for step in rows]
    pairs = zip(module._closed(as_steps(rows, m), m, quantity == "gap"), expected, strict=True)
    differences = [value / exact - 1 for value, exact in pairs if exact is not None]
    assert len(differences) >= 30
    assert max(map(abs, differences)) <= NUMERIC


@pytest.mark.parametrize("quantity, m", CLOSED)
def test_nothing_is_searched_where_the_closed_form_attains_the_lower_bound(quantity, m, monkeypatch):
    rows = random_steps(5, 200)
    attained = np.array([corners(step, m) for step in rows])
    values = np.array([closed(quantity, step, m) or math.inf for step in rows])
    settled = values <= attained * (1 + NUMERIC)
    assert settled.sum() >= 30
    monkeypatch.delattr(module, "_searched")
    np.testing.assert_allclose(factors(quantity, rows[settled], m), attained[settled], rtol=ONE_STEP)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_beyond_the_floating_range_the_factor_is_infinite_at_once(quantity, monkeypatch):
    monkeypatch.delattr(module, "_searched")
    rows = np.array([[0.5, 1e200, 1.0, 1.0], [1.0, 0.5, 1e200, 1e200], [0.5, 0.5, 1.0, 1e160]])
    assert factors(quantity, rows, 0.3).tolist() == [math.inf] * 3


# The searches


WORST_IN_ONE_DIMENSION = [(0.6, 1.7, 0.8, 1.5, 0.3), (0.9, 2.4, 0.9, 0.8, 0.8), (0.5, 0.9, 0.01, 60.0, 0.2)]

WORST_IN_MORE = {
    "squared_distance": [
        (0.92, 0.66, 1.28, 1.62, 0.0),
        (0.978, 0.468, 1.462, 2.103, 0.0),  # with the largest tau
        (0.94, 0.57, 0.62, 2.54, 0.01),
        (0.87, 1.56, 0.22, 1.38, 0.01),
        (0.952, 0.526, 1.307, 1.978, 0.1),  # with the largest tau
        (0.25, 0.51, 1.19, 2.18, 0.6),
        (0.81, 0.52, 0.86, 1.35, 0.9),
    ],
    "gap": [
        (0.06, 1.18, 1.06, 2.95, 0.01),
        (0.35, 0.54, 1.34, 2.78, 0.01),
        (0.16, 0.93, 0.96, 2.6, 0.1),
        (0.17, 0.9, 1.14, 1.72, 0.3),
        (0.1, 0.93, 0.42, 2.81, 0.6),
        (0.03, 0.64, 1.12, 2.94, 0.6),  # with alpha < 0
        (0.05, 0.81, 1.27, 2.01, 0.9),
    ],
}


def program(quantity, step, m):
    """The least factor that any multipliers of the note prove: its matrix inequality is linear in them."""
    import cvxpy

    p, e, r, _ = step
    x, _, _, X0, X1 = points(step, m)
    kappa, M = cvxpy.Variable(), 1 - m
    lam, tau, nu, theta, square = (cvxpy.Variable(nonneg=True) for _ in range(5))
    conditions = [tau * r <= lam]
    if quantity == "gap":
        at = max(1 - e * m, 0)
        before = m * times(x, x) + M * times(A_, A_)
        expected = (1 - p) * (m * times(X0, X0) + M * times(X0 - at * Z_, X0 - at * Z_)) + p * (
            times(X1, X1) - 2 * M * theta * times(X1, Z_) + M * square * times(Z_, Z_)
        )
        conditions += [theta <= 1, cvxpy.square(theta) <= square]
        conditions += [nu + tau / r >= M * ((1 - p) * at + p * theta - kappa)]
    else:
        before, expected = times(x, x), (1 - p) * times(X0, X0) + p * times(X1, X1)
    left = cvxpy.Variable((3, 3), PSD=True)
    spent = expected + 2 * nu * times(A_, Z_) + subtracted(step, m, lam, tau)
    problem = cvxpy.Problem(cvxpy.Minimize(kappa), [*conditions, left == kappa * before - spent])
    problem.solve(solver=cvxpy.CLARABEL)
    assert problem.status == cvxpy.OPTIMAL
    return problem.value


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_searches_find_the_best_of_all_multipliers(quantity):
    """Also for the gap, where tau is not searched."""
    for cases, more in ((WORST_IN_ONE_DIMENSION, False), (WORST_IN_MORE[quantity], True)):
        for *step, m in cases:
            (value,) = factors(quantity, np.array([step]), m)
            assert value == pytest.approx(program(quantity, step, m), rel=1e-7)
            assert (value > corners(step, m) * (1 + 1e-4)) == more


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("m", [0.02, 0.3, 0.9])
def test_every_multiplier_that_is_tried_is_admissible(quantity, m, monkeypatch):
    """So whatever a search returns is proved."""
    factor = module._factor

    def checked(s, m, gap, b, theta, tau=None):
        assert (b > 0).all() and (theta >= 0).all() and (theta <= 1).all()
        if tau is not None:
            assert (tau >= 0).all() and (tau * s.r <= (s.p * s.w**2 + b) / 2 * (1 + ONE_STEP)).all()
        return factor(s, m, gap, b, theta, tau)

    monkeypatch.setattr(module, "_factor", checked)
    rows = np.vstack([random_steps(6, 20), random_steps(7, 10) * [0.1, 1, 1, 20]])
    assert (factors(quantity, rows, m) >= [corners(step, m) * (1 - ONE_STEP) for step in rows]).all()


def test_the_grids_find_the_least_value_to_their_share_of_the_interval():
    """Of convex functions with the minimum within the interval, at a kink too, or at one of its ends."""
    rng = np.random.default_rng(8)
    low, least_at = rng.uniform(-30, 0, 50), rng.uniform(-60, 60, 50)
    high = low + rng.uniform(1e-3, 40, 50)
    nearest = np.clip(least_at, low, high)
    for kink in (0.0, 1.0):

        def f(x):
            return kink * abs(x - least_at) + (1 - kink) * (x - least_at) ** 2  # noqa: B023

        error = module._minimum(f, low, high) - f(nearest)
        assert (error >= -ONE_STEP).all()
        assert (error <= 4.3e-11 * (high - low)).all()
