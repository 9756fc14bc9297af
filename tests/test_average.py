"""The sharper bounds for normalized ascent: their values, the master bound above them, simulation below."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
from conftest import NUMERIC
from hypothesis import assume, given, settings, strategies as st
from scipy import optimize

import rst_theory as rst
from rst_theory.bounds import one_step_smooth
from rst_theory.bounds.average import (
    _most_added,
    least_ratio,
    nonconvex_average,
    nonconvex_average_majorant,
    nonconvex_average_whole,
)
from rst_theory.notation import DomainError, ProblemConstants
from rst_theory.problems import PiecewiseQuadratic, Quadratic

SHARPER = [nonconvex_average_whole, nonconvex_average_majorant]

rows = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0.02, 1.98), st.floats(0, 3), st.floats(0, 4)),
    min_size=1,
    max_size=5,
)


def value(bound, rows, sigma=0.0, gap=1.0, L=1.0):
    p, eta, rho, gamma = (list(column) for column in zip(*rows, strict=True))
    return bound.evaluate(
        schedule=rst.Tabulated(tuple(p)),
        steps=len(p),
        eta=np.array(eta) / L,
        rho=rho,
        gamma=gamma,
        constants=ProblemConstants(L=L, sigma=sigma),
        gap=gap,
    )


# Values


def largest_under_the_constraint(rows, sigma, gap):
    """max of sum a z given sum [a z - m sqrt(b^2 z + n^2)] <= C, by a general solver in x = sqrt(z)."""
    p, eta, rho, gamma = (np.array(column) for column in zip(*rows, strict=True))
    a, m = eta * (1 - eta / 2), eta * p * gamma * rho
    b, n = abs(1 - eta), eta * sigma
    C = gap + (eta**2 / 2 * (sigma**2 + p * gamma**2 * rho**2)).sum()

    def slack(x):
        return C + (m * np.sqrt(b**2 * x**2 + n**2) - a * x**2).sum()

    found = [
        optimize.minimize(
            lambda x: -(a * x**2).sum(),
            start * np.sqrt(C / a.sum()) * np.ones(a.size),
            jac=lambda x: -2 * a * x,
            constraints={"type": "ineq", "fun": slack},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        for start in (0.3, 0.9, 1.5)
    ]
    return max(-f.fun for f in found if slack(f.x) >= -1e-9) / a.sum()


@pytest.mark.parametrize("seed", range(8))
def test_the_whole_bound_is_the_exact_maximum_under_its_constraint(seed):
    rng = np.random.default_rng(seed)
    T = rng.integers(1, 5)
    rows = list(
        zip(rng.uniform(0, 1, T), rng.uniform(0.05, 1.9, T), *rng.uniform(0.1, 2, (2, T)), strict=True)
    )
    sigma, gap = rng.uniform(0.1, 2), rng.uniform(0.1, 2)
    expected = largest_under_the_constraint(rows, sigma, gap)
    assert value(nonconvex_average_whole, rows, sigma, gap) == pytest.approx(expected, rel=1e-6)


@given(rows, st.floats(0, 3), st.floats(0, 5))
@settings(max_examples=60)
def test_keeping_the_noise_term_whole_is_never_worse(rows, sigma, gap):
    master, whole = (value(b, rows, sigma, gap) for b in (nonconvex_average, nonconvex_average_whole))
    assert whole <= master * (1 + NUMERIC) + 1e-300
    certain = [(p, 1.0, rho, gamma) for p, _, rho, gamma in rows]  # eta L = 1: nothing to split
    for case, noise in ((rows, 0.0), (certain, sigma)):
        master, whole = (value(b, case, noise, gap) for b in (nonconvex_average, nonconvex_average_whole))
        assert whole == pytest.approx(master, rel=NUMERIC, abs=1e-300)


def test_the_worked_numbers_of_the_note():
    rows = [(0.5, 0.5, 0.5, 1.0)] * 100
    assert value(nonconvex_average_whole, rows, sigma=0.5) == pytest.approx(0.2721, abs=5e-5)
    assert value(nonconvex_average, rows, sigma=0.5) == pytest.approx(0.3309, abs=5e-5)


@pytest.mark.parametrize("C, D", [(1.0, 1.0), (0.0, 2.0), (1e-8, 5.0), (3.0, 1e-6), (1.0, 0.0)])
def test_the_least_ratio_by_its_closed_form(C, D):
    """(C + D/s)/(1 - s) is least at s = D/(D + sqrt(D (C + D))); where D = 0 it is approached at s = 0."""
    assert least_ratio(lambda s: C + D / s) == pytest.approx(
        (math.sqrt(D) + math.sqrt(C + D)) ** 2, rel=1e-14
    )


def best_on_a_grid(p, eta, rho, gamma, gap):
    """min over kappa of [gap + max over G of (change + kappa a G^2)]/kappa, one step of `one_step_smooth`."""
    a, constants = eta * (1 - eta / 2), ProblemConstants(L=1.0)
    G = np.concatenate([[1e-12], np.linspace(0, 3 * gamma * rho + 3 * math.sqrt(gap / a), 400)[1:]])
    arguments = {"p": p, "eta": eta, "rho": rho, "gamma": gamma, "constants": constants}
    change = np.array([one_step_smooth.evaluate(gradient_norm=g, **arguments) for g in G])
    kappas = np.linspace(0.01, 0.999, 300)
    inner = change + kappas[:, None] * a * G**2
    inside = inner.argmax(axis=1) < G.size - 1  # else the grid ends before the maximum
    return ((gap + inner.max(axis=1)) / kappas)[inside].min() / a


@pytest.mark.parametrize("seed", range(12))
def test_the_majorant_is_the_best_use_of_the_exact_step(seed):
    rng = np.random.default_rng(seed)
    p, eta, rho = rng.uniform(0.1, 1), rng.uniform(0.05, 1.5), rng.uniform(0.2, 2)
    gamma = rng.uniform(0.2, 3) if seed % 3 else 4 / eta  # the perturbed step can end beyond its point
    gap = rng.uniform(0.2, 2) * rho**2
    ours = value(nonconvex_average_majorant, [(p, eta, rho, gamma)], gap=gap)
    assert ours == pytest.approx(best_on_a_grid(p, eta, rho, gamma, gap), rel=2e-3)


@pytest.mark.parametrize(
    "spent, p, eta, gamma",
    [
        (0.05, 0.022, 0.1457, 0.4659),  # the worst function turns inside
        (0.5, 0.0441, 0.0227, 0.2931),
        (0.99, 0.0934, 0.0249, 0.2802),
        (0.2, 0.1188, 0.0773, 29.64),  # the perturbed step ends beyond its point
        (0.9, 0.4328, 0.0602, 30.93),
        (0.3, 0.5, 0.5, 1.0),
        (0.3, 0.5, 1.5, 1.0),
        (0.7, 0.9, 0.9, 4.0),
    ],
)
def test_the_inner_maximum_is_that_of_the_exact_step(spent, p, eta, gamma):
    a, constants = eta * (1 - eta / 2), ProblemConstants(L=1.0)
    G = np.concatenate([[1e-12], np.geomspace(1e-3, 3 * gamma + 1 / (spent * (2 - eta)), 2000)])
    arguments = {"p": p, "eta": eta, "rho": 1.0, "gamma": gamma, "constants": constants}
    change = np.array([one_step_smooth.evaluate(gradient_norm=g, **arguments) for g in G])
    expected = (change + (1 - spent) * a * G**2).max()
    ours = _most_added(*(np.array([x]) for x in (eta, gamma, p)), spent)[0]
    assert ours == pytest.approx(expected, rel=1e-4)


def largest_addition(e, gamma, p, spent):
    """The maximum of j of the note over s and h, by grids that close in on their best point."""

    def j(s, h):
        z = e * gamma * (1 - 2 * s) - e * h
        phi = h * z + z**2 / 2 - np.maximum(0, z - s) ** 2 + np.maximum(0, z - 1) ** 2
        return (p - spent) * e * (1 - e / 2) * h**2 + p * phi

    far = 3 * gamma + 2 * p * gamma / (spent * (2 - e))  # the perturbed step is downhill there, and dear
    s, h = np.linspace(0, 1, 201), np.append(np.linspace(0, gamma, 400), np.geomspace(gamma + 1e-9, far, 400))
    for _ in range(12):
        values = j(s[:, None], h)
        a, b = np.unravel_index(values.argmax(), values.shape)
        s = np.linspace(s[max(a - 8, 0)], s[min(a + 8, s.size - 1)], 61)
        h = np.linspace(h[max(b - 8, 0)], h[min(b + 8, h.size - 1)], 61)
    return values.max()


@pytest.mark.parametrize("spent", [1e-3, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_the_inner_maximum_is_that_of_a_search(spent):
    rng = np.random.default_rng(int(1e3 * spent))
    e = rng.uniform(0.02, 1.98, 60)
    gamma = np.where(np.arange(60) % 2, rng.uniform(0.1, 3, 60), rng.uniform(1, 6, 60) / e)
    p = rng.choice([0.02, 0.1, 0.3, 0.7, 1.0], 60)
    expected = [largest_addition(*step, spent) for step in zip(e, gamma, p, strict=True)]
    np.testing.assert_allclose(_most_added(e, gamma, p, spent), expected, rtol=NUMERIC)


def test_the_ridge_of_the_inner_maximum():
    """Where the piece s <= z <= 1 is stationary in both variables, and minus its determinant, by calculus."""
    e, u, s, h, p, spending = sympy.symbols("e u s h p spending", positive=True)
    z, beta = u * (1 - 2 * s) - e * h, e * (1 - e / 2)
    j = p * (beta * h**2 + h * z + z**2 / 2 - (z - s) ** 2) - spending * h**2
    bend = 1 + 4 * u + 2 * u**2
    room = spending * bend - p * u * (u * (1 + 2 * e - e**2) + 2 * e * (1 - e))
    found = sympy.solve([sympy.diff(j, s), sympy.diff(j, h)], [s, h], dict=True)[0]
    assert sympy.simplify(found[h] - p * u * (1 + 2 * u - e) / (2 * room)) == 0
    assert sympy.simplify(found[s] - (u * (1 + u) - (u + e + u * e) * found[h]) / bend) == 0
    assert sympy.expand(sympy.hessian(j, (s, h)).det() - 4 * p * room) == 0


def test_the_outer_piece_has_no_maximum_inside():
    """The steps of the proof in the note, with v, c and the condition on the second derivatives."""
    e, u, s, h, p, k = sympy.symbols("e u s h p k", positive=True)
    z, beta = u * (1 - 2 * s) - e * h, e * (1 - e / 2)
    j = (k - 1 + p) * beta * h**2 + p * (h * z + z**2 / 2 - (z - s) ** 2 + (z - 1) ** 2)
    v, c = u * (1 - e) + e, 1 + 4 * u - 2 * u**2
    assert sympy.expand(sympy.diff(j, s) / (2 * p) - (u * (3 - u) - h * v - c * s)) == 0
    growth = p * ((1 - e) * u * (1 - 2 * s) + 2 * e * (1 - s)) - 2 * (1 - k) * beta * h
    assert sympy.expand(sympy.diff(j, h) - growth) == 0
    second = sympy.Matrix([[-2 * p * c, -2 * p * v], [-2 * p * v, -2 * (1 - k) * beta]])
    assert sympy.expand(sympy.hessian(j, (s, h)) - second) == sympy.zeros(2, 2)
    turn = u * (3 - u) - h * v  # c s where j is stationary in s
    assert sympy.expand(c * (v + e) - 2 * turn * v - c * (v + e) + 2 * u * (3 - u) * v - 2 * h * v**2) == 0
    assert sympy.expand(2 * u * (3 - u) - c - (2 * u - 1)) == 0
    assert sympy.expand(e * c - (2 * u - 1) * v - (e * (u + 2) - u * (2 * u - 1))) == 0
    height = c * (u - e * h) - 2 * u * turn  # c z there
    assert sympy.expand(height - ((1 + 2 * u) * (u - e * h) + 2 * u**2 * h - 4 * u**2)) == 0
    assert sympy.expand(height - c - (h * (2 * u**2 - e * (1 + 2 * u)) - 1 - 3 * u)) == 0
    crossed = (2 * u - 1) * (u + 1) - (u - 1) * (u + 2)
    assert sympy.expand(u * crossed - u * (u**2 + 1)) == 0


@given(rows, st.floats(0, 5))
@settings(max_examples=60)
def test_the_majorant_is_never_above_the_master_bound(rows, gap):
    master, ours = (value(b, rows, gap=gap) for b in (nonconvex_average, nonconvex_average_majorant))
    assert ours <= master * (1 + NUMERIC) + 1e-300
    long = [(p, max(1.0, eta), rho, gamma) for p, eta, rho, gamma in rows]  # eta L >= 1: the same step
    master, ours = (value(b, long, gap=gap) for b in (nonconvex_average, nonconvex_average_majorant))
    assert ours == pytest.approx(master, rel=NUMERIC, abs=1e-300)


@pytest.mark.parametrize(
    "p, master, sharper", [(0.25, 2.357, 1.684), (0.5, 1.477, 1.143), (0.75, 1.164, 1.106), (1.0, 1.0, 1.0)]
)
def test_the_floors_of_the_note(p, master, sharper):
    constants = ProblemConstants(L=1.0)
    arguments = {"schedule": p, "steps": 10**4, "eta": 0.5, "rho": 1.0, "constants": constants, "gap": 1e-4}
    assert nonconvex_average.evaluate(**arguments) / p**2 == pytest.approx(master, abs=6e-4)
    assert nonconvex_average_majorant.evaluate(**arguments) / p**2 == pytest.approx(sharper, abs=6e-4)


@given(rows, st.floats(0.1, 10))
@settings(max_examples=30)
def test_units(rows, L):
    """Of f, f times L has L times the gradients, so L^2 the metric and L the gap."""
    for bound in SHARPER:
        one = value(bound, rows, gap=1.0)
        assert value(bound, rows, gap=L, L=L) == pytest.approx(L**2 * one, rel=1e-9)


def test_the_symbols_say_the_same():
    """The inner maximum of the symbolic form, by calculus, is the closed form of the note."""
    m, b, n, theta, r = sympy.symbols("m b n theta r", positive=True)
    inner = m * r - theta * (r**2 - n**2) / b**2
    top = sympy.solve(sympy.diff(inner, r), r)[0]
    assert sympy.simplify(top - m * b**2 / (2 * theta)) == 0
    assert sympy.simplify(inner.subs(r, top) - (m**2 * b**2 / (4 * theta) + theta * n**2 / b**2)) == 0
    for bound in SHARPER:
        assert bound.expression.free_symbols


def test_the_master_bound_is_the_best_use_of_its_own_step():
    U, C, k = sympy.symbols("U C kappa", positive=True)
    root = sympy.sqrt(U**2 + 4 * C)
    best = 1 - U / (U + root)
    ratio = (C + U**2 / (4 * (1 - k))) / k
    assert sympy.simplify(ratio.subs(k, best) - ((U + root) / 2) ** 2) == 0
    assert sympy.simplify(sympy.diff(ratio, k).subs(k, best)) == 0


def test_the_majorant_is_concave_in_the_gradient_norm():
    """The second derivatives that the note states, of each piece, s fixed."""
    e, u, s, h, p, k = sympy.symbols("e u s h p kappa", positive=True)
    z, beta = u * (1 - 2 * s) - e * h, e * (1 - e / 2)
    pieces = {
        -2 * (1 - k) * beta: (h * z + z**2 / 2, h * z + z**2 / 2 - (z - s) ** 2 + (z - 1) ** 2),
        -2 * (1 - k) * beta - 2 * p * e**2: (h * z + z**2 / 2 - (z - s) ** 2,),
    }
    for expected, formulas in pieces.items():
        for phi in formulas:
            j = (k - 1 + p) * beta * h**2 + p * phi
            assert sympy.expand(sympy.diff(j, h, 2) - expected) == 0


# Domains


def test_domains():
    row = (0.5, 0.5, 0.1, 1.0)
    with pytest.raises(DomainError, match=r"sigma = 0; got 0\.3"):
        value(nonconvex_average_majorant, [row], sigma=0.3)
    for bound in SHARPER:
        with pytest.raises(DomainError, match=r"0 < eta_t < 2/L; got 2\.0 at t = 1"):
            value(bound, [row, (0.5, 2.0, 0.1, 1.0)])
        with pytest.raises(DomainError, match="gap"):
            bound.evaluate(schedule=0.5, steps=2, eta=0.5, rho=0.1, constants=ProblemConstants(L=1.0))
        assert value(bound, [(0.0, 0.5, 0.0, 0.0)], gap=0.0) == 0
        assert value(bound, [(0.0, 0.5, 1.0, 1.0)] * 3) == pytest.approx(1 / 1.125, rel=NUMERIC)


# Simulation below the bounds


@given(rows, st.integers(0, 2**32 - 1), st.sampled_from(["quadratic", "wavy"]))
@settings(max_examples=40)
def test_exact_expectation_over_all_trials_is_below_both(rows, seed, kind):
    """The whole tree of trials is enumerated, so no statistics are involved."""
    rng = np.random.default_rng(seed)
    if kind == "quadratic":
        problem = Quadratic([1.0, *rng.uniform(0.02, 1, 2)])
        x0 = rng.normal(size=3)
    else:
        knots = np.cumsum(rng.uniform(0.1, 1, 3))
        heights = rng.uniform(-0.3, 1) + np.cumsum(np.diff(knots, prepend=0) * rng.uniform(-1, 1, 3))
        problem = PiecewiseQuadratic(list(knots), list(heights), left=1.0, right=1.0, start=[0.0])
        x0 = np.array([rng.uniform(-1, 2)])
    assume(problem.constants.L <= 1)
    squared, leaves = np.zeros(len(rows)), [(1.0, x0)]
    for t, (p, eta, rho, gamma) in enumerate(rows):
        squared[t] = sum(weight * (problem.gradient(x) ** 2).sum() for weight, x in leaves)
        leaves = [
            (weight * chance, rst.step(x, problem.gradient, coin, eta, rho, gamma))
            for weight, x in leaves
            for coin, chance in ((False, 1 - p), (True, p))
        ]
    gap = float(problem.gap(x0))
    for bound in SHARPER:
        weights = bound.metric.weights(np.array([eta for _, eta, _, _ in rows]), 1.0)
        assert weights @ squared <= value(bound, rows, gap=gap) * (1 + NUMERIC) + 1e-300
