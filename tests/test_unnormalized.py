"""The bounds for unnormalized ascent: exact programs below them, the algebra of their proofs, their order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP, SEMIDEFINITE
from hypothesis import example, given, settings, strategies as st

import rst_theory as rst
from rst_theory.bounds import sgd_average
from rst_theory.bounds.unnormalized import (
    DESCENT,
    NO_OVERSHOOT,
    _eliminate,
    _Potential,
    nonconvex_average_unnormalized,
    nonconvex_average_unnormalized_noisy,
    nonconvex_average_unnormalized_short,
    nonconvex_potential_unnormalized,
)
from rst_theory.certificates import certify
from rst_theory.notation import DomainError, ProblemConstants
from rst_theory.problems import PiecewiseQuadratic, Quadratic

NOISELESS = [
    nonconvex_average_unnormalized,
    nonconvex_average_unnormalized_short,
    nonconvex_potential_unnormalized,
]
GRID = 2e-5
"""Relative: the last spacing of the multipliers that `nonconvex_potential_unnormalized` tries."""

rows = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0.02, 1.5), st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=4
)


def value(bound, rows, sigma=0.0, gap=1.0, L=1.0):
    """In units of L: eta and rho are multiplied by 1/L."""
    p, eta, rho, gamma = (list(column) for column in zip(*rows, strict=True))
    return bound.evaluate(
        schedule=rst.Tabulated(tuple(p)),
        steps=len(p),
        eta=np.array(eta) / L,
        rho=np.array(rho) / L,
        gamma=gamma,
        constants=ProblemConstants(L=L, sigma=sigma),
        gap=gap,
    )


def value_or_none(bound, rows, **arguments):
    try:
        return value(bound, rows, **arguments)
    except DomainError:
        return None


# Against the exact program


@pytest.mark.parametrize(
    "schedule, eta, rho, gamma",
    [
        (rst.Constant(0.5), 0.5, 0.2, 1.0),
        (rst.Constant(0.75), 0.25, 0.5, 2.0),
        (rst.Piecewise(0, 1, 0.5), 0.5, 0.5, 2.0),
        (rst.Piecewise(1, 0, 0.75), 0.5, 0.5, 1.0),
        (rst.Piecewise(1, 0, 0.5), 1.0, 0.5, 2.0),
        (rst.Linear(0, 1), 1.0, 0.2, 1.0),
        (rst.Linear(0.75, 0.25), 0.25, 0.2, 2.0),
        (rst.Cosine(1, 0), 0.5, 0.5, 1.0),
        (rst.Constant(0.0), 1.6, 0.5, 1.0),
        (rst.Constant(0.5), 1.4, 0.3, 1.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("steps", [2, 3])
def test_the_program_is_below_and_the_potential_close_to_it(schedule, eta, rho, gamma, steps):
    exact = certify(schedule, steps=steps, eta=eta, rho=rho, gamma=gamma, function_class="smooth").value
    arguments = {"schedule": schedule, "steps": steps, "eta": eta, "rho": rho, "gamma": gamma}
    for bound in NOISELESS:
        try:
            proved = bound.evaluate(constants=ProblemConstants(L=1.0), gap=1.0, **arguments)
        except DomainError:
            continue
        assert proved >= exact * (1 - SEMIDEFINITE)
    assert proved <= 1.1 * exact  # the last, the potential, is defined for all


FAR = [
    (1.0215, [(0.1, 0.22, 0.32, 2.0), (1.0, 0.21, 0.19, 2.0), (1.0, 0.36, 1.51, 0.5)]),
    (1.8662, [(0.5, 0.56, 1.13, 3.0), (0.5, 0.85, 0.34, 2.0), (0.0, 0.92, 0.87, 3.0)]),
    (1.0264, [(1.0, 0.22, 0.03, 1.0), (1.0, 1.79, 1.47, 0.5), (1.0, 1.27, 1.38, 2.0)]),
    (1.0192, [(0.1, 0.74, 0.38, 2.0), (1.0, 0.07, 0.04, 3.0), (0.0, 0.9, 0.13, 2.0)]),
    (1.0001, [(1.0, 1.18, 0.36, 3.0), (0.0, 1.38, 0.34, 3.0), (0.9, 1.06, 0.98, 3.0)]),
    (1.0072, [(0.5, 1.81, 0.85, 2.0), (0.0, 0.25, 1.24, 2.0), (0.9, 1.72, 0.36, 3.0), (0.9, 1.0, 1.55, 1.0)]),
    (1.6044, [(1.0, 0.74, 0.7, 3.0), (0.25, 0.84, 1.53, 2.0)]),
    (
        1.0025,
        [(0.0, 0.24, 0.04, 3.0), (0.9, 1.34, 0.91, 2.0), (0.1, 0.66, 0.04, 0.5), (0.0, 1.35, 0.78, 0.5)],
    ),
    (1.1652, [(0.9, 0.32, 0.94, 1.0), (0.1, 0.3, 0.41, 0.5), (0.5, 1.35, 1.46, 0.5), (0.5, 1.7, 0.72, 0.5)]),
    (1.0009, [(0.0, 0.72, 0.04, 2.0), (0.25, 0.86, 0.8, 0.5), (0.0, 0.1, 0.79, 2.0)]),
    (1.0051, [(0.1, 0.45, 0.31, 0.5), (0.9, 0.16, 0.03, 1.0), (0.9, 1.78, 0.65, 3.0)]),
    (1.0405, [(0.75, 0.11, 0.13, 1.0), (1.0, 1.59, 1.01, 1.0), (0.25, 0.97, 0.92, 1.0)]),
    (1.0906, [(0.1, 0.28, 0.13, 3.0), (0.9, 0.3, 0.36, 2.0), (0.25, 0.76, 0.19, 1.0)]),
    (1.0, [(0.9, 0.83, 0.41, 1.0), (0.25, 1.69, 0.17, 3.0)]),
    (1.0, [(0.1, 0.52, 0.17, 1.0), (0.0, 0.1, 0.74, 1.0)]),
    (
        1.0028,
        [(0.0, 0.08, 1.32, 0.5), (0.9, 0.64, 0.04, 2.0), (0.25, 0.67, 0.13, 1.0), (0.0, 0.24, 0.04, 2.0)],
    ),
    (
        1.8523,
        [(0.5, 0.98, 0.03, 1.0), (0.75, 1.14, 0.03, 3.0), (1.0, 1.87, 1.35, 0.5), (0.5, 0.79, 0.04, 3.0)],
    ),
    (1.5672, [(0.0, 1.29, 0.03, 1.0), (0.75, 1.89, 0.7, 1.0), (0.9, 0.44, 0.49, 1.0)]),
    (1.0031, [(0.5, 0.82, 0.05, 2.0), (0.1, 0.86, 1.47, 1.0), (1.0, 0.07, 0.19, 3.0)]),
    (1.0004, [(0.75, 1.32, 0.46, 1.0), (0.25, 0.16, 0.19, 1.0), (0.0, 0.73, 0.05, 2.0)]),
    (
        1.0003,
        [(0.9, 1.52, 0.18, 3.0), (0.5, 0.92, 0.32, 0.5), (0.0, 0.99, 0.15, 1.0), (0.75, 1.51, 0.05, 1.0)],
    ),
    (1.0001, [(1.0, 0.54, 0.13, 3.0), (0.1, 0.14, 0.05, 3.0)]),
    (1.0001, [(0.0, 1.33, 0.79, 2.0), (1.0, 0.23, 0.92, 1.0), (0.5, 1.68, 0.46, 1.0)]),
    (1.0019, [(0.1, 0.97, 0.18, 2.0), (0.25, 0.84, 0.93, 1.0), (1.0, 1.78, 0.04, 3.0)]),
    (
        1.0983,
        [(0.9, 0.09, 1.28, 2.0), (1.0, 0.94, 0.72, 1.0), (0.9, 0.74, 0.82, 1.0), (0.0, 0.12, 0.67, 2.0)],
    ),
    (1.0001, [(0.5, 1.7, 0.35, 3.0), (0.9, 1.71, 0.31, 1.0), (0.9, 1.74, 0.42, 3.0)]),
    (1.0, [(0.9, 1.84, 0.73, 3.0), (0.0, 1.45, 1.24, 1.0)]),
    (1.0138, [(0.25, 0.48, 0.31, 3.0), (0.25, 0.65, 1.23, 1.0), (0.0, 0.37, 0.04, 1.0)]),
    (1.0, [(1.0, 1.72, 0.05, 3.0), (0.0, 0.72, 0.04, 2.0), (0.25, 1.7, 0.36, 1.0)]),
    (2.8827, [(0.0, 1.03, 0.91, 1.0), (0.5, 1.04, 1.51, 3.0), (0.1, 0.95, 0.74, 0.5)]),
    (1.1689, [(0.9, 0.48, 0.75, 2.0), (0.5, 0.88, 0.91, 0.5), (0.9, 0.28, 0.03, 1.0)]),
    (1.0707, [(0.5, 0.2, 0.64, 1.0), (1.0, 1.23, 0.49, 0.5), (1.0, 0.35, 1.1, 1.0), (0.75, 0.8, 0.84, 3.0)]),
    (
        1.3186,
        [(0.9, 0.28, 0.04, 2.0), (0.9, 0.75, 0.04, 1.0), (0.75, 1.64, 1.08, 1.0), (0.9, 0.63, 1.04, 2.0)],
    ),
    (1.002, [(0.9, 0.52, 0.03, 1.0), (0.25, 0.67, 1.09, 0.5), (1.0, 0.33, 0.33, 2.0)]),
]
"""How many times the program the potential's bound is, at most; rows (p, eta, rho, gamma)."""


@pytest.mark.parametrize("ratio, rows", FAR)
def test_how_far_the_potential_is_above_the_program(ratio, rows):
    p, eta, rho, gamma = (list(column) for column in zip(*rows, strict=True))
    run = {"steps": len(rows), "eta": eta, "rho": rho, "gamma": gamma}
    exact = certify(rst.Tabulated(tuple(p)), function_class="smooth", **run).value
    proved = value(nonconvex_potential_unnormalized, rows)
    assert exact * (1 - SEMIDEFINITE) <= proved <= ratio * exact * (1 + SEMIDEFINITE)


def test_the_worked_numbers_of_the_note():
    rows = [(0.5, 0.5, 0.2, 1.0)] * 4
    assert value(nonconvex_average_unnormalized, rows) == pytest.approx(0.7194, abs=5e-5)
    assert value(nonconvex_potential_unnormalized, rows) == pytest.approx(0.6902, rel=0.02)  # the program


@pytest.mark.parametrize("eta", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("T", [1, 2, 7, 40])
def test_gradient_descent_with_short_steps_is_attained_by_a_parabola(eta, T):
    L, x0 = 2.0, 1.5
    parabola = Quadratic([L])
    run = rst.simulate(parabola, 0.0, steps=T, eta=eta / L, rho=0.1, replicas=1, start=[x0])
    attained = run.squared_gradient_norm.mean.mean()
    rows, gap = [(0.0, eta, 0.1, 1.0)] * T, L * x0**2 / 2
    short = value(nonconvex_average_unnormalized_short, rows, gap=gap, L=L)
    assert short == pytest.approx(attained, rel=NUMERIC)
    assert value(nonconvex_potential_unnormalized, rows, gap=gap, L=L) == pytest.approx(attained, rel=GRID)


# Their order


@given(rows)
@example([(1.0, 1.0, 1.0, 0.5), (1.0, 0.5, 5e-324, 1.0), (0.0, 1.0, 0.0, 0.0)])
@example([(1.0, 0.75, 1.0, 0.5), (1.0, 0.5, 5e-324, 1.0), (0.0, 1.0, 0.0, 0.0)])
@settings(max_examples=60)
def test_each_bound_is_below_the_one_before_it(rows):
    closed, short, potential = (value_or_none(bound, rows) for bound in NOISELESS)
    if short is not None:
        assert short <= closed * (1 + NUMERIC)
    for other in (closed, short):
        if other is not None and other < 1e7:
            assert potential <= other * (1 + 2 * GRID)


@given(rows, st.floats(0.1, 10), st.integers(-3, 3), st.floats(0, 5))
@settings(max_examples=20)
def test_units(rows, L, exponent, gap):
    """A function of smoothness L and gap L gap has L^2 times the squared gradients of f/L.

    The potential picks from a menu, where rounding decides between equals: its unit is a power of two, with
    which products by L are exact.
    """
    for bound in [*NOISELESS, nonconvex_average_unnormalized_noisy]:
        unit = 2.0**exponent if bound is nonconvex_potential_unnormalized else L
        one = value_or_none(bound, rows)
        if one is not None and min(eta for _, eta, _, _ in rows) > 0.05:
            assert value(bound, rows, gap=gap, L=unit) == pytest.approx(
                unit * gap * one, rel=1e-6, abs=1e-300
            )
    noisy = value_or_none(nonconvex_average_unnormalized_noisy, rows, sigma=0.7, gap=gap)
    if noisy is not None:
        scaled = value(nonconvex_average_unnormalized_noisy, rows, sigma=0.7 * L, gap=gap * L, L=L)
        assert scaled == pytest.approx(L**2 * noisy, rel=1e-6, abs=1e-300)


def test_the_average_is_uniform():
    for bound in NOISELESS:
        assert bound.metric.weights(np.array([0.1, 0.2, 0.7]), 1.0).tolist() == [1 / 3] * 3


def test_a_coefficient_of_zero_is_a_trial_that_is_never_drawn():
    for bound in [*NOISELESS, nonconvex_average_unnormalized_noisy]:
        none, never = ([(p, 0.4, 0.3, gamma), (0.5, 0.4, 0.3, 1.0)] for p, gamma in ((0.8, 0.0), (0.0, 1.0)))
        assert value(bound, none) == value(bound, never)


@pytest.mark.parametrize("seed", range(40))
def test_no_step_overshoots_in_plain_numbers(seed):
    """The condition of the theorem step by step; c is the least c_t but for the last step's."""
    rng, L, T = np.random.default_rng(seed), 2.0, 4
    p, e = rng.choice([0.0, 0.2, 0.6], T), rng.choice([0.1, 0.5, 0.9, 1.0, 1.2], T)
    r, gamma = rng.choice([0.1, 0.3, 0.7, 1.3], T), rng.choice([0.5, 1.0, 1.7], T)
    run = rst.bounds.settle(rst.Tabulated(tuple(p)), T, e / L, r / L, gamma, ProblemConstants(L=L))
    c, expected = [], []
    for P, E, R, y in zip(p, e, r, gamma, strict=True):
        c.append((E * (1 - E / 2) - E * P * y * abs(1 - E) * R - E**2 / 2 * P * y**2 * R**2) / L)
    for P, E, R, y in list(zip(p, e, r, gamma, strict=True))[:-1]:
        m = y * R if P > 0 else 0.0
        left, right = (1 - 2 * L * min(c[:-1])) * (1 - E + E * m), (1 - E) * (1 - m)
        expected.append(left <= right and E <= 1 and m < 1)
    assert NO_OVERSHOOT.holds(run).tolist() == expected
    assert NO_OVERSHOOT.shown(run).tolist() == [E / L for E in e[:-1]]
    assert DESCENT.shown(run).tolist() == pytest.approx(c[:-1], rel=NUMERIC, abs=1e-15)


# The whole tree of trials, enumerated


@given(rows, st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60)
def test_exact_expectation_over_all_trials_is_below_every_bound(rows, seed, quadratic):
    rng = np.random.default_rng(seed)
    if quadratic:
        problem, x0 = Quadratic([1.0, *rng.uniform(0.02, 1, 2)]), rng.normal(size=3)
    else:
        knots = np.cumsum(rng.uniform(0.1, 1, 4))
        heights = rng.uniform(-0.3, 1) + np.cumsum(np.diff(knots, prepend=0) * rng.choice([-1, 1], 4))
        problem = PiecewiseQuadratic(list(knots), list(heights), left=1.0, right=1.0, start=[0.0])
        x0 = np.array([rng.uniform(-1, 3)])
    squared, leaves = 0.0, [(1.0, x0)]
    for p, eta, rho, gamma in rows:
        squared += sum(weight * (problem.gradient(x) ** 2).sum() for weight, x in leaves)
        leaves = [
            (
                weight * chance,
                rst.step(x, problem.gradient, coin, eta, rho, gamma, ascent="unnormalized"),
            )
            for weight, x in leaves
            for coin, chance in ((False, 1 - p), (True, p))
        ]
    gap = float(problem.gap(x0))
    for bound in NOISELESS:
        proved = value_or_none(bound, rows, gap=gap)
        if proved is not None:
            assert squared / len(rows) <= proved * (1 + NUMERIC) + 1e-300


@given(rows, st.floats(-2, 2), st.floats(0.05, 2), st.floats(0.1, 1.0))
@settings(max_examples=60)
def test_exact_expectation_over_trials_and_noise_is_below_the_noisy_bound(rows, x0, sigma, curvature):
    """A parabola whose gradients carry sigma or -sigma, each with chance one half."""
    squared, leaves = np.zeros(len(rows)), [(1.0, x0)]
    for t, (p, eta, rho, gamma) in enumerate(rows):
        squared[t] = sum(weight * (curvature * x) ** 2 for weight, x in leaves)
        after = []
        for (weight, x), (coin, chance), noise in itertools.product(
            leaves, ((False, 1 - p), (True, p)), (-sigma, sigma)
        ):
            g = curvature * x + noise
            d = g + gamma * curvature * rho * g if coin else g
            after.append((weight * chance / 2, x - eta * d))
        leaves = after
    bound = nonconvex_average_unnormalized_noisy
    proved = value_or_none(bound, rows, sigma=sigma, gap=curvature * x0**2 / 2)
    if proved is not None:
        weights = bound.metric.weights(np.array([eta for _, eta, _, _ in rows]), 1.0)
        assert weights @ squared <= proved * (1 + NUMERIC)


# The noisy bound


def noisy_on_a_grid(rows, sigma, gap):
    """The theorem of the note, every maximum and minimum on a grid."""
    p, eta, rho, gamma = (np.array(column) for column in zip(*rows, strict=True))
    q, a, b = p * gamma, eta * (1 - eta / 2), abs(1 - eta)
    c = a - eta * q * b * rho - eta**2 / 2 * q * gamma * rho**2
    share, m = (c / a).min(), eta * q * rho
    C = gap + (eta**2 * sigma**2 / 2 * (1 + q * gamma * rho**2)).sum()
    z = np.concatenate([[0.0], np.geomspace(1e-5, 1e7, 4000)])[:, None]  # the squared gradient
    added = m * (np.sqrt((b**2 * z + eta**2 * sigma**2) * (z + sigma**2)) - b * z)
    kappas = 1 - np.geomspace(1e-7, 0.995, 2500)
    return min((C + (added - (1 - k) * share * a * z).max(axis=0).sum()) / k for k in kappas) / (
        share * a.sum()
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_noisy_bound_equals_the_theorem_on_a_grid(seed):
    rng = np.random.default_rng(seed)
    T = rng.integers(1, 6)
    rows = list(
        zip(
            rng.uniform(0, 1, T),
            np.where(rng.random(T) < 0.2, 1.0, rng.uniform(0.05, 1.0, T)),
            rng.uniform(0, 0.5, T),
            rng.uniform(0, 0.9, T),
            strict=True,
        )
    )
    sigma, gap = rng.uniform(0.5, 3), rng.uniform(0.1, 1) * (1 + 20 * (seed % 2))
    expected = noisy_on_a_grid(rows, sigma, gap)
    assert value(nonconvex_average_unnormalized_noisy, rows, sigma, gap) == pytest.approx(expected, rel=1e-5)


@given(st.floats(0.05, 1.9), st.floats(0, 2), st.floats(0, 3), st.integers(1, 20))
def test_without_trials_the_noisy_bound_is_that_of_sgd(eta, sigma, gap, T):
    rows = [(0.0, eta, 0.3, 1.0)] * T
    ours, theirs = (value(b, rows, sigma, gap) for b in (nonconvex_average_unnormalized_noisy, sgd_average))
    assert ours == pytest.approx(theirs, rel=NUMERIC, abs=1e-300)


def test_a_radius_at_the_end_of_the_floating_range_is_none():
    rows = [[(1.0, 0.5, rho, 1.0), (0.5, 0.5, 0.2, 1.0)] for rho in (1e-323, 0.0)]
    tiny, none = (value(nonconvex_average_unnormalized_noisy, row, sigma=0.5) for row in rows)
    assert tiny == none


def test_without_noise_it_is_the_closed_form_on_every_step():
    rows = [(0.5, 0.5, 0.2, 1.0)] * 9
    noisy = value(nonconvex_average_unnormalized_noisy, rows)
    assert noisy == pytest.approx(value(nonconvex_average_unnormalized, rows), rel=NUMERIC)


# The algebra of the proofs


@pytest.mark.parametrize("seed", range(20))
def test_the_elimination_is_the_least_value_of_its_quadratic(seed):
    """The Lemma, term by term from (2) and (3), minimised by linear algebra; vectors in the plane."""
    rng = np.random.default_rng(seed)
    u, v, z, h = rng.uniform(-0.1, 0.4), rng.uniform(-0.2, 0.2), -rng.uniform(0, 0.1), rng.uniform(0, 0.8)
    ball, cycle, tau = rng.uniform(0, 0.5, 3)
    tau += 0.5
    g, D = rng.normal(size=(2, 2))

    def lagrangian(unknown):
        g1, d1 = unknown[:2], unknown[2:]
        drop = (g + g1) @ D / 2 + ((g - g1) @ (g - g1) - D @ D) / 4
        potential = u * g1 @ g1 + v * g1 @ d1 + z * d1 @ d1
        within = (
            ball * (D @ D - (g - g1) @ (g - g1))
            + cycle * ((D - h * g1) @ (D - h * g1) - (g - g1 - d1) @ (g - g1 - d1))
            + tau * (h**2 * g1 @ g1 - d1 @ d1)
        )
        return drop + potential - within

    zero, unit = np.zeros(4), np.eye(4)
    linear = np.array([(lagrangian(i) - lagrangian(-i)) / 2 for i in unit])
    H = np.array(
        [[lagrangian(i + j) - lagrangian(i) - lagrangian(j) + lagrangian(zero) for j in unit] for i in unit]
    )
    form = _eliminate(_Potential(*(np.array([x]) for x in (u, v, z)), h), ball, cycle, tau)
    A, B, C = (float(part[0]) for part in form)
    ours = A * g @ g + B * g @ D + C * D @ D
    if np.linalg.eigvalsh(H)[0] <= 1e-6:
        assert ours < -1e20
    else:
        least = lagrangian(-np.linalg.solve(H, linear))
        assert ours == pytest.approx(least, rel=1e-9, abs=1e-9)


def test_the_algebra_of_short_steps():
    """F of the note: its value and its vertex at the parabola, and its slope along the line."""
    e, m, r, b, X, Y, Dh = sympy.symbols("e m r b X Y D", positive=True)
    K = sympy.Rational(1, 4) + b + r
    half = sympy.Rational(1, 2) + 2 * b
    F = K - r + X / 2 - (K - r) * Y - (half**2 - half * X + Y / 4) / (4 * K)
    kept = {b: r * (1 - Dh) / Dh}
    d = Dh - Dh**2 / 2
    assert sympy.simplify(F.subs({X: Dh, Y: Dh**2}).subs(kept) - (d + r * (1 - 2 * d))) == 0
    vertex = (half - Dh / 2) / (2 * K)
    assert sympy.simplify(vertex.subs(kept) - (1 - Dh)) == 0
    slope = (sympy.diff(F, X) + 2 * e * sympy.diff(F, Y)).subs(kept)
    stated = 1 - e / 2 - 2 * e * kept[b] - Dh / 2 * (e + 4 * r) / (Dh + 4 * r)
    assert sympy.simplify(slope - stated) == 0
    assert sympy.simplify((2 * e * kept[b]).subs(Dh, e * (1 - m)) - 2 * r * (1 - e + e * m) / (1 - m)) == 0
    # c_t is the mean of d over the branches
    p = sympy.Symbol("p", positive=True)
    c = e - e**2 / 2 - p * e * (1 - e) * m - e**2 * p * m**2 / 2
    mean = (1 - p) * d.subs(Dh, e) + p * d.subs(Dh, e * (1 - m))
    assert sympy.expand(mean - c) == 0


def test_the_recursion_of_short_steps_ends_at_zero():
    c, w = sympy.symbols("c w", positive=True)
    for T in (1, 2, 5):
        r = sympy.Rational(1, 2) - w
        for _ in range(T - 1):
            r = c - w + (1 - 2 * c) * r
        assert sympy.simplify(r.subs(w, c / (1 - (1 - 2 * c) ** T))) == 0


def test_the_symbolic_short_form_is_the_number():
    rows, L, T = [(0.5, 0.5, 0.2, 1.0)] * 3, 1.0, 3
    compact, letters = nonconvex_average_unnormalized_short.symbolic()
    (c,) = letters
    a, q = 0.5 * 0.75, 0.5
    least = a - 0.5 * q * 0.5 * 0.2 - 0.125 * q * 0.04
    values = {"L": L, "T": T, r"\Delta": 1.0}
    number = compact.subs({c: least} | {s: values[s.name] for s in compact.free_symbols if s != c})
    assert value(nonconvex_average_unnormalized_short, rows) == pytest.approx(float(number), rel=NUMERIC)


# Domains


def test_one_point_alone_is_bounded_by_smoothness():
    for bound in NOISELESS:
        assert value(bound, [(1.0, 5.0, 4.0, 2.0)], gap=0.7, L=3.0) == pytest.approx(4.2, rel=ONE_STEP)


def test_domains():
    row = (0.5, 0.5, 0.2, 1.0)
    for bound in NOISELESS:
        with pytest.raises(DomainError, match=r"sigma = 0; got 0\.3"):
            value(bound, [row], sigma=0.3)
    for bound in [*NOISELESS, nonconvex_average_unnormalized_noisy]:
        with pytest.raises(DomainError, match="gap"):
            bound.evaluate(schedule=0.5, steps=2, eta=0.5, rho=0.1, constants=ProblemConstants(L=1.0))
        assert value(bound, [row] * 2, gap=0.0) == 0
    with pytest.raises(DomainError, match="c_t > 0"):
        value(nonconvex_average_unnormalized, [(1.0, 0.5, 10.0, 1.0)] * 3)
    with pytest.raises(DomainError, match=r"c_t > 0 for t < T-1.*; got 0\.0 at t = 1"):
        value(nonconvex_average_unnormalized, [row, (1.0, 1.0, 1.0, 1.0), row])
    with pytest.raises(DomainError, match=r"m_t = gamma_t L rho_t < 1 .*; got 0\.5 at t = 1"):
        value(nonconvex_average_unnormalized_short, [row, (0.2, 0.5, 0.6, 2.0), row])
    with pytest.raises(DomainError, match=r"<= \(1 - e_t\)\(1 - m_t\).*; got 0\.95 at t = 0"):
        value(nonconvex_average_unnormalized_short, [(0.5, 0.95, 0.5, 1.0), row])
    with pytest.raises(DomainError, match="c_t > 0"):
        value(nonconvex_average_unnormalized_noisy, [(1.0, 0.5, 10.0, 1.0)], sigma=0.1)
    with pytest.raises(DomainError, match=r"c_t > 0, c_t = .*; got 0\.0 at t = 1"):
        value(nonconvex_average_unnormalized_noisy, [row, (1.0, 1.0, 1.0, 1.0)], sigma=0.1)
    with pytest.raises(DomainError, match="quadratic potential"):
        value(nonconvex_potential_unnormalized, [(1.0, 1.5, 50.0, 5.0)] * 5)


@pytest.mark.parametrize("schedule", [rst.Linear(0, 1), rst.Linear(1, 0), rst.Constant(0.5)], ids=str)
def test_the_potential_stays_below_the_closed_form_over_many_steps(schedule):
    arguments = {"steps": 60, "eta": 0.5, "rho": 0.2, "constants": ProblemConstants(L=1.0), "gap": 1.0}
    closed, potential = (
        bound.evaluate(schedule=schedule, **arguments)
        for bound in (nonconvex_average_unnormalized, nonconvex_potential_unnormalized)
    )
    assert potential <= closed * 0.99


def test_the_potential_needs_no_descent():
    """c_t < 0: gradients can grow, and finitely many steps are still bounded."""
    rows = [(1.0, 1.0, 0.6, 2.0)] * 3
    assert value_or_none(nonconvex_average_unnormalized, rows) is None
    exact = certify(1.0, steps=3, eta=1.0, rho=0.6, gamma=2.0, function_class="smooth").value
    assert exact * (1 - SEMIDEFINITE) <= value(nonconvex_potential_unnormalized, rows) <= 1.1 * exact
