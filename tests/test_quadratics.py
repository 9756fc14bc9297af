"""Quadratics, exactly: trees of coins, closed forms, SymPy and simulation against the moments and laws."""

from __future__ import annotations

import dataclasses
import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy
from conftest import COMPARISON_ALARM, NUMERIC, ONE_STEP, z_threshold
from hypothesis import given, settings, strategies as st

import rst_theory as rst
from rst_theory.bounds import stationary
from rst_theory.bounds.quadratics import (
    critical_radius,
    critical_step_size,
    lyapunov_exponent,
    quadratic_moments,
    stationary_moments,
    symbolic_critical_step_size,
    symbolic_second_moment,
)
from rst_theory.bounds.stationary import _bracket, distance_moments, stationary_law, symbolic_mean_square
from rst_theory.notation import QUANTITIES, DomainError, ProblemConstants
from rst_theory.problems import Quadratic

probability = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.01, 0.99))
radius = st.one_of(st.just(0.0), st.floats(0.01, 3))
coefficient = st.one_of(st.just(0.0), st.floats(0.01, 3))


# Moments of unnormalized ascent


def tree(problem, rows, start, ascent="unnormalized"):
    """E x_t and E x_t x_t^T at every t over all coins, and over noise that is +s or -s in each coordinate.

    First and second moments see no more of the noise than its mean and variance.
    """
    s = problem.noise
    noises = list(itertools.product((-s, s), repeat=problem.dimension)) if s else [(0.0,) * problem.dimension]
    points, weights = np.array([start], dtype=float), np.ones(1)
    means, joints = [points[0]], [np.outer(points[0], points[0])]
    for p, eta, rho, gamma in rows:
        branches = [
            (
                rst.step(points, lambda x, n=n: problem.gradient(x) + n, coin, eta, rho, gamma, ascent),
                weights * chance / len(noises),
            )
            for n in map(np.array, noises)
            for coin, chance in ((False, 1 - p), (True, p))
        ]
        points = np.concatenate([x for x, _ in branches])
        weights = np.concatenate([w for _, w in branches])
        means.append(weights @ points)
        joints.append((weights[:, None] * points).T @ points)
    return np.array(means), np.array(joints)


@given(
    spectrum=st.lists(st.one_of(st.just(0.0), st.floats(0.05, 2)), min_size=1, max_size=1),
    noise=st.one_of(st.just(0.0), st.floats(0.01, 2)),
    rows=st.lists(
        st.tuples(probability, st.floats(0, 2), radius, coefficient),
        min_size=1,
        max_size=4,
    ),
    start=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
)
@settings(max_examples=40)
def test_the_moments_equal_the_whole_tree(spectrum, noise, rows, start):
    problem = Quadratic([1.0, *spectrum], noise=noise)
    means, joints = tree(problem, rows, start)
    p, eta, rho, gamma = map(list, zip(*rows, strict=True))
    T = len(rows)
    moments = quadratic_moments(
        problem, rst.Tabulated(tuple(p)), steps=T, eta=eta, rho=rho, gamma=gamma, start=start
    )
    second = np.einsum("tii->ti", joints)
    scale = np.sqrt(second) + 1e-150
    assert np.all(np.abs(moments.mean - means) <= NUMERIC * scale)
    np.testing.assert_allclose(moments.second_moment, second, rtol=NUMERIC, atol=1e-300)
    for t in range(T + 1):
        room = NUMERIC * np.outer(scale[t], scale[t])
        assert np.all(np.abs(moments.joint(t) - joints[t]) <= room)
        covariance = joints[t] - np.outer(means[t], means[t])
        assert np.all(np.abs(moments.covariance(t) - covariance) <= 4 * room)
    lam = problem.eigenvalues
    np.testing.assert_allclose(moments.gap, second @ lam / 2, rtol=NUMERIC, atol=1e-300)
    np.testing.assert_allclose(moments.squared_gradient_norm, second @ lam**2, rtol=NUMERIC, atol=1e-300)
    np.testing.assert_allclose(moments.squared_distance, second.sum(axis=1), rtol=NUMERIC, atol=1e-300)


def test_shared_coins_correlate_coordinates():
    """From (1, 1) a base step gives (0, 1/2), a perturbed one (-1, 1/4): a shared coin."""
    problem = Quadratic([1.0, 0.5])
    moments = quadratic_moments(problem, 0.5, steps=1, eta=1.0, rho=1.0)
    branches = np.array([[0.0, 0.5], [-1.0, 0.25]])
    assert moments.covariance(1) == pytest.approx(np.cov(branches.T, bias=True), rel=ONE_STEP)
    assert moments.covariance(1)[0, 1] == pytest.approx(1 / 16, rel=ONE_STEP)


def test_simulation_agrees_with_the_moments_at_every_step():
    """A statistical test: fails falsely with probability at most COMPARISON_ALARM."""
    problem = Quadratic([1.0, 0.3, 0.0], noise=0.2, start=[1.0, -2.0, 0.5])
    steps = 40
    arguments = {"steps": steps, "eta": rst.Linear(0.6, 0.1), "rho": rst.Cosine(0.8, 0.2), "gamma": 1.5}
    exact = quadratic_moments(problem, rst.Linear(0.1, 0.9), **arguments)
    run = rst.simulate(
        problem, rst.Linear(0.1, 0.9), ascent="unnormalized", replicas=4096, seed=5, **arguments
    )
    z = z_threshold(2 * steps)
    for measured, value in (
        (run.squared_gradient_norm, exact.squared_gradient_norm),
        (run.gap, exact.gap),
    ):
        deviation = np.abs(measured.mean - value[:steps])
        assert np.all(deviation <= z * measured.standard_error + ONE_STEP)
        assert np.all(measured.standard_error <= 0.1 * value[:steps])


@pytest.mark.parametrize(
    "p, eta, rho, gamma", [(0.3, 0.7, 0.5, 1.5), (1.0, 0.25, 1.0, 1.0), (0.5, 0, 1, 1), (1.0, 2.0, 2.0, 1.0)]
)
def test_the_closed_form_in_letters_is_the_recursion(p, eta, rho, gamma):
    """The last two at A = 1: no step at all, and the threshold."""
    compact, letters = symbolic_second_moment()
    assert [str(letter) for letter in letters] == ["A", "B"] and all(letter.is_real for letter in letters)
    values = {
        QUANTITIES[k].symbol: sympy.Rational(v)
        for k, v in zip(("p", "eta", "rho", "gamma"), (p, eta, rho, gamma), strict=True)
    }
    lam, noise = sympy.symbols(r"\lambda s", nonnegative=True)
    values |= {lam: sympy.Rational(1, 2), noise: sympy.Rational(1, 4), sympy.Symbol("x_0", real=True): 3}
    values[QUANTITIES["t"].symbol] = 7
    numbers = {letter: meaning.subs(values) for letter, meaning in letters.items()}
    problem = Quadratic([0.5], noise=0.25, start=[3.0])
    exact = quadratic_moments(problem, p, steps=7, eta=eta, rho=rho, gamma=gamma)
    assert float(compact.subs(numbers | values)) == pytest.approx(exact.second_moment[7, 0], rel=NUMERIC)


def test_a_moment_beyond_the_floating_range_is_refused():
    with pytest.raises(OverflowError, match="at t = 2"):
        quadratic_moments(Quadratic([1.0]), 1.0, steps=5, eta=1e80, rho=0.0)
    with pytest.raises(ValueError, match="start"):
        quadratic_moments(Quadratic([1.0]), 1.0, steps=5, eta=1.0, rho=0.0, start=[1.0, 2.0])
    with pytest.raises(DomainError, match="probability p"):
        quadratic_moments(Quadratic([1.0]), 1.5, steps=5, eta=1.0, rho=0.0)
    with pytest.raises(OverflowError, match="at t = 1"):  # 0 times infinity
        quadratic_moments(Quadratic([1.0], start=[0.0]), 1.0, steps=5, eta=1e200, rho=0.0)
    with pytest.raises(DomainError, match="required: 1 <= steps; got 0"):
        quadratic_moments(Quadratic([1.0]), 1.0, steps=0, eta=1.0, rho=0.0)
    with pytest.raises(DomainError, match="required: 0 <= t < 6; got 6"):
        quadratic_moments(Quadratic([1.0]), 1.0, steps=5, eta=1.0, rho=0.0).joint(6)


def test_moments_start_anywhere_and_stay_as_they_are():
    start = np.array([100_000, -3], dtype=np.int32)
    moments = quadratic_moments(Quadratic([1.0, 0.5]), 0.5, steps=2, eta=0.5, rho=0.1, start=start)
    assert moments.second_moment[0].tolist() == [1e10, 9.0]
    settled = stationary_moments(Quadratic([1.0], noise=0.1), 0.5, eta=0.5, rho=0.1)
    for result in (moments, settled, stationary_law(Quadratic([1.0]), 0.5, eta=0.5, rho=0.1)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.gap = 0.0
    assert settled == stationary_moments(Quadratic([1.0], noise=0.1), 0.5, eta=0.5, rho=0.1, gamma=1.0)


# Stability


def growth(lam, eta, rho, p, gamma):
    """E (x+)^2 from x = 1, by the update itself."""
    return sum(
        chance * float(rst.step(np.ones(1), lambda x: lam * x, coin, eta, rho, gamma, "unnormalized")[0]) ** 2
        for coin, chance in ((False, 1 - p), (True, p))
    )


@given(L=st.floats(0.05, 20), rho=radius, p=probability, gamma=coefficient, share=st.floats(0.01, 0.999))
def test_mean_square_stability_begins_at_the_critical_step_size(L, rho, p, gamma, share):
    critical = critical_step_size(L=L, rho=rho, p=p, gamma=gamma)
    assert growth(L, critical, rho, p, gamma) == pytest.approx(1, abs=1e-9)
    assert growth(L, critical * (1 + 1e-6), rho, p, gamma) > 1
    assert growth(L, critical * (1 - 1e-6), rho, p, gamma) < 1
    assert growth(share * L, critical, rho, p, gamma) < 1, "the largest eigenvalue decides"


@given(L=st.floats(0.05, 20), e=st.floats(0.001, 1.999), p=probability, gamma=coefficient)
def test_the_critical_radius_is_the_inverse(L, e, p, gamma):
    rho = critical_radius(L=L, eta=e / L, p=p, gamma=gamma)
    if p * gamma == 0:
        assert rho == math.inf
    else:
        assert critical_step_size(L=L, rho=rho, p=p, gamma=gamma) == pytest.approx(e / L, rel=1e-9)


def test_known_thresholds():
    assert critical_step_size(L=4.0, rho=0.7, p=0.0) == 0.5  # SGD: 2/L
    assert critical_step_size(L=4.0, rho=0.25, p=1.0) == pytest.approx(
        2 / (4 * 2), rel=ONE_STEP
    )  # 2/(L (1 + rho L))
    assert critical_radius(L=1.0, eta=0.5, p=1.0) == pytest.approx(3.0, rel=ONE_STEP)  # eta (1 + rho) = 2
    assert critical_step_size(L=1.0, rho=1e200, p=0.5, gamma=1e100) == pytest.approx(2e-300, rel=ONE_STEP)
    for eta in (0.0, 2.0, 3.0):
        with pytest.raises(DomainError, match="0 < eta L < 2"):
            critical_radius(L=1.0, eta=eta, p=0.5)


@pytest.mark.parametrize("eta", [1e-9, 1.0, 2 - 1e-9])
def test_the_critical_radius_loses_no_digits(eta):
    with mpmath.workdps(40):
        p, r = mpmath.mpf("0.25"), 1 - mpmath.mpf(eta)
        exact = (mpmath.sqrt((1 - (1 - p) * r**2) / p) + r) / eta
        assert critical_radius(L=1.0, eta=eta, p=0.25) == pytest.approx(float(exact), rel=ONE_STEP, abs=0)


@given(lam=st.floats(0, 5), eta=st.floats(0, 2), rho=radius, p=probability, gamma=coefficient)
def test_almost_sure_stability_is_weaker(lam, eta, rho, p, gamma):
    exponent = lyapunov_exponent(lam=lam, eta=eta, rho=rho, p=p, gamma=gamma)
    factor = growth(lam, eta, rho, p, gamma)
    if factor > 1e-20:
        assert exponent <= math.log(factor) / 2 + 1e-9


def test_for_almost_sure_stability_the_largest_eigenvalue_does_not_decide():
    arguments = {"eta": 1.0, "rho": 100.0, "p": 0.5}
    assert lyapunov_exponent(lam=1.0, **arguments) == -math.inf
    assert lyapunov_exponent(lam=1.0, eta=0.5, rho=1.0, p=0.0) == math.log(0.5)  # the other would end at 0
    assert lyapunov_exponent(lam=0.5, **arguments) == pytest.approx(math.log(0.5 * 24.5) / 2, rel=ONE_STEP)


def test_the_algebra_of_the_threshold():
    p, k, e, lam, c, eta, s = sympy.symbols("p k e lambda c eta s", positive=True)
    w1, w2 = 1 + p * k, 1 + 2 * p * k + p * k**2
    factor = (1 - p) * (1 - e) ** 2 + p * (1 - e * (1 + k)) ** 2
    assert sympy.expand((1 - p) + p * (1 + k) ** 2 - w2) == 0
    assert sympy.expand(factor - (1 - 2 * e * w1 + e**2 * w2)) == 0
    # eta_c = (2/lam) w1/w2 decreases in lam, k = c lam: minus its derivative is a positive fraction
    critical = (2 / lam * w1 / w2).subs(k, c * lam)
    numerator, denominator = sympy.fraction(sympy.together(-sympy.diff(critical, lam)))
    for part in (numerator, denominator):
        collected = sympy.Poly(sympy.expand(part), lam, c).coeffs()
        assert all(
            sympy.simplify(x).subs(p, value) >= 0 for x in collected for value in (0, sympy.Rational(1, 3), 1)
        )
    assert sympy.simplify(2 / critical.subs(c, k / lam) - lam * (1 + (1 + k) * p * k / w1)) == 0
    # the critical radius: e (1 + k) = 1 + S
    r = 1 - e
    S = sympy.sqrt((1 - (1 - p) * r**2) / p)
    assert sympy.simplify(factor.subs(k, (S + r) / e) - 1) == 0
    # the stationary variance solves V = A V + eta^2 s^2 w2
    V = s**2 / lam**2 * eta / (2 / lam * w1 / w2 - eta)
    assert sympy.simplify(factor.subs(e, eta * lam) * V + eta**2 * s**2 * w2 - V) == 0
    assert sympy.limit(V / eta, eta, 0).equals(s**2 * w2 / (2 * lam * w1))
    L, P, R, G = (QUANTITIES[key].symbol for key in ("L", "p", "rho", "gamma"))
    letters = symbolic_critical_step_size().subs(
        {L: 2, P: sympy.Rational(1, 3), R: sympy.Rational(1, 2), G: 3}
    )
    assert float(letters) == pytest.approx(critical_step_size(L=2, p=1 / 3, rho=0.5, gamma=3), rel=NUMERIC)


@pytest.mark.parametrize("p, gamma", [(0.0, 1.0), (0.3, 2.0), (1.0, 1.0)])
def test_the_moments_settle_at_the_stationary_ones(p, gamma):
    problem = Quadratic([1.0, 0.4, 0.1], noise=0.3)
    settled = stationary_moments(problem, p, eta=0.4, rho=0.6, gamma=gamma)
    run = quadratic_moments(problem, p, steps=4000, eta=0.4, rho=0.6, gamma=gamma)
    assert settled.variance == pytest.approx(run.second_moment[-1], rel=NUMERIC)
    assert settled.gap == pytest.approx(run.gap[-1], rel=NUMERIC)
    assert settled.squared_gradient_norm == pytest.approx(run.squared_gradient_norm[-1], rel=NUMERIC)
    assert np.abs(run.joint(4000) - np.diag(settled.variance)).max() <= 1e-14


def test_where_there_is_no_stationary_moment():
    problem = Quadratic([1.0, 0.5], noise=0.3)
    critical = critical_step_size(L=1.0, rho=0.5, p=0.5)
    for eta in (0.0, critical, 2.0):
        with pytest.raises(DomainError, match="the critical step size"):
            stationary_moments(problem, 0.5, eta=eta, rho=0.5)
    with pytest.raises(DomainError, match=r"eigenvalues > 0; got 0\.0 at index 1"):
        stationary_moments(Quadratic([1.0, 0.0], noise=0.3), 0.5, eta=0.1, rho=0.5)


# Normalized ascent in one dimension, without noise


@given(p=probability, e=st.floats(0.01, 1.99), rho=radius, gamma=coefficient, L=st.floats(0.1, 10))
def test_the_mean_square_in_two_forms(p, e, rho, gamma, L):
    arguments = {"p": p, "eta": e / L, "rho": rho, "gamma": gamma}
    moments = distance_moments(2, L=L, **arguments)
    values = {QUANTITIES[key].symbol: sympy.Float(value, 30) for key, value in (arguments | {"L": L}).items()}
    letters = float(symbolic_mean_square().subs(values))
    assert moments[2] == pytest.approx(letters, rel=NUMERIC)
    assert moments[0] == 1 and moments[1] ** 2 <= moments[2] * (1 + NUMERIC)


def test_the_algebra_of_the_mean_square():
    p, a, b, e, kick, m1, m2 = sympy.symbols("p a b e kick m_1 m_2", positive=True)
    letters = {QUANTITIES["rho"].symbol: kick, QUANTITIES["gamma"].symbol: 1, QUANTITIES["eta"].symbol: e}
    short, long = (
        piece.subs(letters | {QUANTITIES["L"].symbol: 1, QUANTITIES["p"].symbol: p})
        for piece, _ in symbolic_mean_square().args
    )
    for size, piece in ((a, short), (-a, long)):  # |a| for a > 0, and for a < 0
        mean = sympy.solve((1 - p) * size * m1 + p * (b - a * m1) - m1, m1)[0]
        square = (1 - p) * a**2 * m2 + p * (b**2 - 2 * a * b * mean + a**2 * m2) - m2
        found = sympy.solve(square, m2)[0].subs({a: 1 - e, b: e * kick})
        assert sympy.simplify(found - piece) == 0
    assert sympy.limit(short / e**2, e, 0) == kick**2 / 4
    for piece in (short, long):
        assert sympy.simplify(piece.subs(e, 1) - p * kick**2) == 0
        assert sympy.simplify(piece.subs(p, 1) - (e * kick / (2 - e)) ** 2) == 0


@pytest.mark.parametrize("e", [0.85, 0.95, 1.1, 1.2])
@pytest.mark.parametrize("p, gamma", [(0.0, 1.0), (0.3, 2.0), (0.8, 0.5), (1.0, 1.0)])
def test_the_moments_without_noise_equal_the_tree(e, p, gamma):
    """The law forgets its start at the rate |1 - e|: after 16 steps it is within 1e-11 of the limit."""
    L, rho, steps = 2.0, 0.7, 16
    points, weights = np.array([[0.3]]), np.ones(1)
    for _ in range(steps):
        base, perturbed = (
            rst.step(points, lambda x: L * x, coin, e / L, rho, gamma) for coin in (False, True)
        )
        points = np.concatenate([base, perturbed])
        weights = np.concatenate([(1 - p) * weights, p * weights])
    h = np.abs(points[:, 0])
    expected = [weights @ h**n for n in range(6)]
    moments = distance_moments(5, L=L, p=p, eta=e / L, rho=rho, gamma=gamma)
    law = stationary_law(Quadratic([L]), p, eta=e / L, rho=rho, gamma=gamma)
    assert moments == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert law.mean_square == pytest.approx(expected[2], rel=1e-9, abs=1e-9)
    assert law.squared_gradient_norm == pytest.approx(L**2 * expected[2], rel=1e-9, abs=1e-9)
    assert law.gap == pytest.approx(L * expected[2] / 2, rel=1e-9, abs=1e-9)
    if 0 < p < 1:  # each leaf lies within 1e-10 of a point of the limit of the same probability
        order = np.argsort(h)
        total = np.append(0, np.cumsum(weights[order]))
        low, high = (
            total[np.searchsorted(h[order], law.distances + shift, side="right")] for shift in (-1e-10, 1e-10)
        )
        assert np.all((low - 1e-9 <= law.cdf) & (law.cdf <= high + 1e-9))
        assert law.cdf_error <= 1e-12


@pytest.mark.parametrize("e", [0.1, 0.6, 1.0, 1.4, 1.9])
def test_certain_trials_end_in_a_cycle(e):
    x = np.array([0.3])
    for _ in range(2000):
        x = rst.step(x, lambda z: z, True, e, 0.5, 2.0)
    law = stationary_law(Quadratic([1.0]), 1.0, eta=e, rho=0.5, gamma=2.0)
    assert x[0] ** 2 == pytest.approx(law.mean_square, rel=NUMERIC)
    assert law.distances == pytest.approx([0.0, abs(x[0])], rel=NUMERIC)
    assert list(law.cdf) == [0.0, 1.0]
    assert law.mean_square == pytest.approx((e / (2 - e)) ** 2, rel=NUMERIC)  # gamma rho = 1


@pytest.mark.parametrize("e", [1 - 1e-9, 1.0, 1 + 1e-9])
def test_at_a_full_step_it_is_the_floor_q_gamma_of_the_master_bound(e):
    law = stationary_law(Quadratic([3.0]), 0.4, eta=e / 3, rho=0.5, gamma=2.0)
    assert law.squared_gradient_norm == pytest.approx(0.4 * 2.0**2 * (3 * 0.5) ** 2, rel=1e-8)


def floor(p, e, kick, sigma=0.0):
    """The limit of the master bound as T grows, which is its value for one step from the minimum; L = 1."""
    return rst.bounds.nonconvex_average.evaluate(
        schedule=p, steps=1, eta=e, rho=kick, constants=ProblemConstants(L=1.0, sigma=sigma), gap=0.0
    )


@given(p=probability, e=st.floats(0.01, 1.99), kick=radius)
def test_the_long_run_obeys_the_master_bound(p, e, kick):
    mean_square = distance_moments(2, L=1.0, p=p, eta=e, rho=kick)[2]
    assert mean_square <= floor(p, e, kick) * (1 + NUMERIC)


@pytest.mark.parametrize("p, e, kick", [(0.5, 0.5, 0.5), (0.9, 1.5, 0.2), (0.3, 1.0, 1.0)])
def test_the_long_run_under_noise_obeys_the_master_bound(p, e, kick):
    law = stationary_law(Quadratic([1.0], noise=0.3), p, eta=e, rho=kick)
    assert 0.2 * floor(p, e, kick, 0.3) <= law.squared_gradient_norm <= floor(p, e, kick, 0.3)


def sum_of_uniforms(scales, y):
    """P(sum of c_j U_j <= y) with U_j uniform on [0, 1], by inclusion and exclusion."""
    m = len(scales)
    total = sum(
        (-1) ** len(chosen) * np.maximum(y - sum(chosen), 0) ** m
        for size in range(m + 1)
        for chosen in itertools.combinations(scales, size)
    )
    return total / (math.factorial(m) * math.prod(scales))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_the_distribution_function_of_a_bernoulli_convolution(m, sign):
    """Fair coins and |a|^m = 1/2: h is a sum of X_k |a|^k, which splits into m independent uniform variables.

    For a < 0 with the factor b; for a > 0, where only the law is that of such a sum, with (1 - a) b.
    """
    size = 2 ** (-1 / m)
    b = 1.0 if sign < 0 else 1 / (1 - size)
    e = 1 - sign * size
    law = stationary_law(Quadratic([1.0]), 0.5, eta=e, rho=b / e)
    scales = [2 * size**j for j in range(m)]
    top = sum(scales)
    assert law.distances[-1] == pytest.approx(top, rel=NUMERIC)
    exact = sum_of_uniforms(scales, law.distances)
    assert np.abs(law.cdf - exact).max() <= law.cdf_error + 1e-12
    assert law.cdf_error <= (1e-12, 1e-3, 1e-9, 1e-9)[m - 1]
    if m > 1:
        lower, upper = _bracket(sign * size, b / top, 0.5)
        assert np.all((lower - 1e-12 <= exact) & (exact <= upper + 1e-12))
        assert (upper - lower).max() <= 2e-3
    mean, variance = top / 2, sum(c**2 for c in scales) / 12
    assert law.mean_square == pytest.approx(mean**2 + variance, rel=NUMERIC)


@pytest.mark.parametrize(
    "p, e, rho, distances, cdf",
    [
        (0.0, 0.6, 0.5, [0.0], [1.0]),
        (0.5, 0.6, 0.0, [0.0], [1.0]),
        (1.0, 0.6, 0.5, [0.0, 0.3 / 1.4], [0.0, 1.0]),
        (0.25, 1.0, 0.5, [0.0, 0.5], [0.75, 1.0]),
    ],
)
def test_laws_of_one_or_two_points(p, e, rho, distances, cdf):
    law = stationary_law(Quadratic([1.0]), p, eta=e, rho=rho)
    assert law.distances.tolist() == pytest.approx(distances, rel=ONE_STEP) and law.cdf.tolist() == cdf
    assert law.cdf_error == law.mean_square_error == 0 and law.density is None


@pytest.mark.parametrize(
    "p, e, most", [(0.3, 0.5, 1e-12), (0.3, 0.6, 1e-12), (0.3, 1.5, 1e-12), (1e-3, 0.6, 1e-6)]
)
def test_where_the_images_of_both_steps_lie_apart_a_rough_law_is_known(p, e, most):
    assert stationary_law(Quadratic([1.0]), p, eta=e, rho=1.0).cdf_error <= most


def test_a_rough_law_is_bracketed():
    law = stationary_law(Quadratic([1.0]), 0.1, eta=0.3, rho=1 / 0.3)
    lower, upper = _bracket(0.7, 1.0, 0.1)
    assert np.all((lower <= law.cdf) & (law.cdf <= upper))
    assert law.cdf_error == pytest.approx((upper - lower).max() / 2, rel=NUMERIC)
    assert 0.01 < law.cdf_error < 0.1


@pytest.mark.parametrize("a, b, p", [(0.7, 1.0, 0.1), (-0.7, 0.3, 0.1), (0.8, 1.0, 0.5), (-0.6, 0.4, 0.9)])
def test_the_brackets_stop_where_they_no_longer_move(a, b, p, monkeypatch):
    """What they move by in a step is at most the larger probability times what it was in the last."""

    def to_its_end(depth):
        yield from range(depth)
        pytest.fail("they moved at the last step still")

    monkeypatch.setattr(stationary, "_DEPTH", 400)
    monkeypatch.setattr(stationary, "range", to_its_end, raising=False)
    lower, upper = stationary._bracket(a, b, p)
    assert np.all(lower <= upper)


@pytest.mark.parametrize("e", [1e-12, 1e-3, 2 - 1e-3])
def test_where_the_start_is_forgotten_slowly_the_error_says_so(e, monkeypatch):
    monkeypatch.setattr(stationary, "_DEPTH", 200)
    law = stationary_law(Quadratic([1.0]), 0.5, eta=e, rho=1.0)
    assert law.cdf_error > 0.01


def final_distances(problem, p, replicas, steps, **parameters):
    run = rst.simulate(
        problem, p, steps=steps, replicas=replicas, seed=11, start=[0.01], keep=True, **parameters
    )
    return np.sort(np.abs(run.points[:, -1, 0]))


def distance_to(law, sample):
    """The Dvoretzky-Kiefer-Wolfowitz threshold, and the distance between sample and law at its points."""
    threshold = math.sqrt(math.log(2 / COMPARISON_ALARM) / (2 * len(sample)))
    empirical = np.searchsorted(sample, law.distances, side="right") / len(sample)
    return threshold, np.abs(empirical - law.cdf).max()


@pytest.mark.parametrize("p, e", [(0.5, 0.1), (0.2, 0.3), (0.3, 1.6)])
def test_simulation_without_noise_follows_the_law(p, e):
    """Three statistical tests, each false with probability at most COMPARISON_ALARM."""
    law = stationary_law(Quadratic([1.0]), p, eta=e, rho=0.5, gamma=1.5)
    sample = final_distances(Quadratic([1.0]), p, 4096, 120, eta=e, rho=0.5, gamma=1.5)
    threshold, distance = distance_to(law, sample)
    assert distance <= threshold + law.cdf_error
    assert np.all(np.diff(law.cdf) >= -1e-12)


# With noise


@pytest.mark.parametrize("e", [0.1, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("p, rho", [(0.0, 0.7), (0.6, 0.0)])
def test_without_kicks_the_law_is_gaussian(e, p, rho):
    problem = Quadratic([2.0], noise=0.4)
    eta = e / 2
    law = stationary_law(problem, p, eta=eta, rho=rho)
    deviation = eta * 0.4 / math.sqrt(1 - (1 - e) ** 2)
    expected = [math.erf(h / deviation / math.sqrt(2)) for h in law.distances]
    assert law.mean_square == pytest.approx(deviation**2, rel=1e-8)
    assert law.cdf == pytest.approx(expected, rel=0, abs=1e-8)
    density = 2 / (deviation * math.sqrt(2 * math.pi)) * np.exp(-((law.distances / deviation) ** 2) / 2)
    assert law.density == pytest.approx(density, rel=0, abs=1e-7 * density.max())


@pytest.mark.parametrize(
    "p, e, rho, gamma, noise",
    [
        (0.5, 0.5, 0.5, 1.0, 0.3),
        (1.0, 0.3, 0.4, 1.0, 0.2),
        (0.3, 1.0, 0.3, 2.0, 0.3),
        (0.7, 1.6, 0.2, 1.0, 0.4),
        (0.5, 0.4, 1e-3, 1.0, 0.3),
        (0.9, 0.8, 2.0, 1.0, 0.2),
    ],
)
def test_one_step_leaves_the_law_under_noise_as_it_is(p, e, rho, gamma, noise):
    """E phi(x+) = E phi(x): the update itself, the noise integrated on either side of the break."""
    L = 2.0
    law = stationary_law(Quadratic([L], noise=noise), p, eta=e / L, rho=rho, gamma=gamma)
    assert max(law.cdf_error, law.mean_square_error) <= 1e-8
    spacing = law.distances[1]
    x = np.concatenate([-law.distances[:0:-1], law.distances])[:, None]
    mass = spacing * np.concatenate([law.density[:0:-1], law.density]) / 2
    assert mass.sum() == pytest.approx(1, rel=NUMERIC)
    nodes, node_weights = np.polynomial.legendre.leggauss(80)
    low, high = -9 * noise, 9 * noise
    cut = np.clip(-L * x, low, high)  # where the gradient changes its sign

    def after(phi):
        total = np.zeros(len(x))
        for left, right in ((low, cut), (cut, high)):
            n = left + (right - left) * (nodes + 1) / 2
            chance = (right - left) / 2 * node_weights * np.exp(-((n / noise) ** 2) / 2)
            chance = chance / (noise * math.sqrt(2 * math.pi))
            for coin, odds in ((False, 1 - p), (True, p)):
                points = np.broadcast_to(x, n.shape)[..., None]
                moved = rst.step(points, lambda z, n=n: L * z + n[..., None], coin, e / L, rho, gamma)[..., 0]
                total += odds * (chance * phi(moved)).sum(axis=1)
        return mass @ total

    scale = math.sqrt(law.mean_square)
    for phi in (
        lambda z: (z / scale) ** 2,
        lambda z: np.cos(2 * z / scale),
        lambda z: np.exp(-((z / scale) ** 2)),
    ):
        assert after(phi) == pytest.approx(mass @ phi(x[:, 0]), rel=0, abs=1e-8)
    assert law.mean_square == pytest.approx(mass @ x[:, 0] ** 2, rel=1e-9)


@pytest.mark.parametrize(
    "p, e, rho, noise", [(0.5, 0.5, 0.5, 0.3), (0.8, 0.2, 0.4, 0.2), (0.3, 1.5, 0.3, 0.2)]
)
def test_simulation_under_noise_follows_the_law(p, e, rho, noise):
    """Six statistical tests, each false with probability at most COMPARISON_ALARM."""
    problem = Quadratic([1.0], noise=noise)
    law = stationary_law(problem, p, eta=e, rho=rho)
    sample = final_distances(problem, p, 4096, 100, eta=e, rho=rho)
    threshold, distance = distance_to(law, sample)
    assert distance <= threshold
    squares = sample**2
    error = squares.std() / math.sqrt(len(squares))
    assert abs(squares.mean() - law.mean_square) <= z_threshold() * error


@pytest.mark.parametrize("p, a, kicks", [(0.5, 0.9, 58.0), (0.3, 0.7, 60.0), (0.8, -0.6, 12.0)])
def test_where_kicks_outweigh_the_noise_the_law_is_near_that_without(p, a, kicks):
    """Kicks of so many times the noise of one step: noise adds about its own variance, 1/(1 - a^2)."""
    e, noise = 1 - a, 0.1
    arguments = {"eta": e, "rho": kicks * noise}  # b = e rho, and e noise is that of one step
    law = stationary_law(Quadratic([1.0], noise=noise), p, **arguments)
    quiet = stationary_law(Quadratic([1.0]), p, **arguments).mean_square
    assert law.mean_square == pytest.approx(quiet, rel=0.1)
    assert max(law.cdf_error, law.mean_square_error) <= 1e-8
    assert law.cdf[-1] == pytest.approx(1, abs=1e-9) and law.density[-1] <= 1e-9 * law.density.max()


def test_little_noise_tends_to_none():
    quiet = stationary_law(Quadratic([1.0]), 0.5, eta=1.5, rho=1.0)
    values = [
        stationary_law(Quadratic([1.0], noise=s), 0.5, eta=1.5, rho=1.0).mean_square / quiet.mean_square - 1
        for s in (0.2, 0.1, 0.05)
    ]
    assert 0 < values[2] < values[1] < values[0] < 0.1
    assert values[2] < 5e-3


@pytest.mark.parametrize("e", [0.0, 2.0, 3.0, 1e-18])
def test_without_contraction_there_is_no_law(e):
    for noise in (0.0, 0.1):
        with pytest.raises(DomainError, match=r"\|1 - eta lam\| < 1"):
            stationary_law(Quadratic([1.0], noise=noise), 0.5, eta=e, rho=0.1)


def test_what_the_law_refuses():
    with pytest.raises(DomainError, match="one dimension"):
        stationary_law(Quadratic([1.0, 0.5]), 0.5, eta=0.5, rho=0.1)
    with pytest.raises(DomainError, match="probability p"):
        stationary_law(Quadratic([1.0]), 1.5, eta=0.5, rho=0.1)
    with pytest.raises(DomainError, match="required: 0 <= order; got -1"):
        distance_moments(-1, L=1.0, p=0.5, eta=0.5, rho=0.1)
    for noise in (1e-4, 1e-200):
        with pytest.raises(ArithmeticError, match="more than 2600 nodes"):
            stationary_law(Quadratic([1.0], noise=noise), 0.5, eta=0.5, rho=1e200 if noise < 1e-9 else 1.0)
