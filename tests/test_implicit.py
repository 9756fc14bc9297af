"""The implicit objective: the mean direction against its gradient, and the variance of the trial."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP
from hypothesis import given, settings, strategies as st

from rst_theory import method
from rst_theory.bounds.implicit import (
    _M,
    _STRENGTH,
    implicit_gradient,
    logistic_hessian_lipschitz,
    remainder_bound,
    same_strength_bound,
    trial_variance,
)
from rst_theory.notation import DomainError
from rst_theory.problems import LogisticRegression, Quadratic, RippledQuadratic

ASCENTS = ["normalized", "unnormalized"]
FEATURES = np.random.default_rng(0).normal(size=(12, 3)) * [1.0, 3.0, 0.5]
LOGISTIC = LogisticRegression(FEATURES, np.where(FEATURES[:, 1] > 0.3, 1.0, -1.0), l2=0.1)
RIPPLED = RippledQuadratic(amplitude=1.2, dimension=3)

point = st.lists(st.floats(-3, 3, allow_subnormal=False), min_size=3, max_size=3).map(np.array)
radius, degree = st.floats(1e-3, 2), st.floats(0.01, 4)


def rippled_hessian(x):
    return np.diag(1 + 2 * RIPPLED.amplitude * np.cos(2 * x))


def logistic_hessian(x):
    s = 1 / (1 + np.exp(FEATURES @ x))  # s (1 - s) is even, so the labels do not enter
    return (FEATURES.T * (s * (1 - s))) @ FEATURES / len(FEATURES) + LOGISTIC.l2 * np.eye(3)


CASES = {
    "rippled": (RIPPLED, rippled_hessian, 4 * RIPPLED.amplitude),
    "logistic": (LOGISTIC, logistic_hessian, logistic_hessian_lipschitz(FEATURES)),
}


def mean_direction(problem, x, q, rho, ascent):
    """E d, from its two branches: probability 1/2 and gamma = 2 q."""
    g = problem.gradient(x)
    perturbed = method.direction(g, problem.gradient(method.ascend(x, g, rho, ascent)), 2 * q)
    return (g + perturbed) / 2


# The remainder


@given(point, radius, degree, st.sampled_from(ASCENTS))
def test_on_quadratics_there_is_none(x, rho, q, ascent):
    problem = Quadratic([2.0, 0.7, 0.1])
    g = problem.gradient(x)
    ours = implicit_gradient(g, problem.eigenvalues * g, q * rho, ascent)
    scale = (1 + q * (1 + rho)) * (1 + np.abs(x).max())
    np.testing.assert_allclose(mean_direction(problem, x, q, rho, ascent), ours, rtol=0, atol=1e-13 * scale)
    assert remainder_bound(q, rho, 0.0, ascent, gradient_norm=1.0) == 0


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ascent", ASCENTS)
@given(x=point, rho=radius, q=degree)
@settings(max_examples=60)
def test_it_is_within_the_bound(case, ascent, x, rho, q):
    problem, hessian, M = CASES[case]
    g = problem.gradient(x)
    remainder = mean_direction(problem, x, q, rho, ascent) - implicit_gradient(
        g, hessian(x) @ g, q * rho, ascent
    )
    G = float(np.linalg.norm(g))
    rounding = 1e-13 * (1 + q) * (1 + rho) * (1 + G)
    assert np.linalg.norm(remainder) <= remainder_bound(q, rho, M, ascent, gradient_norm=G) + rounding


@given(st.floats(0.01, 2), radius, degree, st.floats(0.1, 5), st.sampled_from(ASCENTS))
def test_it_is_attained_by_a_cubic(x, rho, q, M, ascent):
    """f = x^2/2 + M x^3/6 at x > 0, where f' = x + M x^2/2 > 0 and the ascent stays on the right."""

    def slope(z):
        return z + M * z**2 / 2

    g = np.array([slope(x)])
    y = method.ascend(np.array([x]), g, rho, ascent)
    mean = method.direction(g, slope(y), q)
    difference = mean - implicit_gradient(g, (1 + M * x) * g, q * rho, ascent)
    bound = remainder_bound(q, rho, M, ascent, gradient_norm=float(g[0]))
    assert float(difference[0]) == pytest.approx(bound, rel=1e-6, abs=1e-12 * (1 + abs(mean[0])))


def test_the_ripple_attains_its_constant_in_the_limit():
    """At phi' > 0 and phi'' = 1, phi''' = -4 a: the ratio tends to 1 as the radius falls."""
    x = np.full(3, math.pi / 4) * [1, 0, 0]
    g, ratios = RIPPLED.gradient(x), []
    for rho in (0.1, 0.01):
        remainder = mean_direction(RIPPLED, x, 1.0, rho, "normalized") - implicit_gradient(
            g, rippled_hessian(x) @ g, rho
        )
        ratios.append(np.linalg.norm(remainder) / remainder_bound(1.0, rho, 4 * RIPPLED.amplitude))
    assert 0.99 < ratios[0] < ratios[1] < 1
    assert ratios[1] > 0.9999


# Only the product of degree and radius counts


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ascent", ASCENTS)
@given(x=point, strength=st.floats(0.01, 2), first=radius, second=radius)
@settings(max_examples=60)
def test_two_settings_of_one_strength_go_nearly_the_same_way(case, ascent, x, strength, first, second):
    problem, _, M = CASES[case]
    apart = np.linalg.norm(
        mean_direction(problem, x, strength / first, first, ascent)
        - mean_direction(problem, x, strength / second, second, ascent)
    )
    G = float(np.linalg.norm(problem.gradient(x)))
    bound = same_strength_bound(strength, (first, second), M, ascent, gradient_norm=G)
    rounding = 1e-12 * (1 + strength / min(first, second)) * (1 + G)
    assert apart <= bound + rounding
    weaker = sum(remainder_bound(strength / rho, rho, M, ascent, gradient_norm=G) for rho in (first, second))
    assert bound <= weaker * (1 + ONE_STEP)


def test_the_cubic_attains_it_too():
    x, M, strength, radii = 0.5, 2.0, 0.3, (0.4, 0.1)

    def mean(rho):
        slope = [z + M * z**2 / 2 for z in (x, x + rho)]
        return slope[0] + strength / rho * (slope[1] - slope[0])

    assert mean(0.4) - mean(0.1) == pytest.approx(same_strength_bound(strength, radii, M), rel=NUMERIC)


def test_smaller_radii_at_one_strength_are_nearer_to_the_implicit_objective():
    bounds = [remainder_bound(0.1 / rho, rho, 2.0) for rho in (0.4, 0.2, 0.1)]
    assert bounds == pytest.approx([0.04, 0.02, 0.01], rel=ONE_STEP)


# The constants of the problems


@given(point, point)
def test_the_hessians_are_lipschitz_with_the_stated_constants(x, y):
    for _, hessian, M in CASES.values():
        change = np.linalg.norm(hessian(x) - hessian(y), 2)
        assert change <= M * np.linalg.norm(x - y) * (1 + NUMERIC) + 1e-13


def test_the_logistic_constant_is_attained_by_one_row():
    """One row a in one dimension: f''' = a^3 times the third derivative, largest at e^-u = 2 +- sqrt 3."""
    M = logistic_hessian_lipschitz([[2.0]])
    assert pytest.approx(8 / (6 * math.sqrt(3)), rel=ONE_STEP) == M
    u = math.log(2 + math.sqrt(3)) / 2

    def second(x):
        s = 1 / (1 + math.exp(2 * x))
        return 4 * s * (1 - s)

    assert abs(second(u + 1e-4) - second(u - 1e-4)) / 2e-4 == pytest.approx(M, rel=1e-6)
    assert logistic_hessian_lipschitz([[2.0], [1.0]]) < M
    assert logistic_hessian_lipschitz([[2.0], [1.0]], minibatches=True) == M
    u = sympy.Symbol("u", real=True)
    s = 1 / (1 + sympy.exp(u))
    third = sympy.simplify(sympy.diff(sympy.log(1 + sympy.exp(-u)), u, 3))
    h = sympy.Symbol("h", positive=True)  # s itself: third = s (1 - s) (1 - 2 s) up to its sign
    assert sympy.simplify(third - s * (1 - s) * (2 * s - 1)) == 0
    stationary = sympy.solve(sympy.diff(h * (1 - h) * (1 - 2 * h), h), h)
    values = {sympy.Abs(sympy.simplify((h * (1 - h) * (1 - 2 * h)).subs(h, z))) for z in stationary}
    assert values == {1 / (6 * sympy.sqrt(3))} or values == {sympy.sqrt(3) / 18}


# The variance of the trial


@given(st.floats(0, 1), st.floats(0, 3), point, st.floats(0.01, 1))
def test_the_variance_is_that_of_the_two_branches(p, gamma, x, rho):
    g = RIPPLED.gradient(x)
    difference = RIPPLED.gradient(method.ascend(x, g, rho)) - g
    branches = np.array([g, g + gamma * difference])
    chances = np.array([1 - p, p])
    mean = chances @ branches
    exact = chances @ ((branches - mean) ** 2).sum(axis=1)
    assert float(trial_variance(p, gamma, difference)) == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_at_one_strength_the_variance_depends_on_the_probability_alone_to_leading_order():
    x, strength = np.array([0.4, -0.2, 0.1]), 1e-4
    g = RIPPLED.gradient(x)
    Hn = rippled_hessian(x) @ g / np.linalg.norm(g)
    for p, rho in ((0.25, 1e-4), (0.25, 1e-3), (0.5, 1e-3)):
        difference = RIPPLED.gradient(method.ascend(x, g, rho)) - g
        variance = float(trial_variance(p, strength / (p * rho), difference))
        assert variance == pytest.approx(strength**2 * (1 / p - 1) * (Hn @ Hn), rel=5e-3)


def test_the_algebra_of_the_variance():
    p, gamma, D = sympy.symbols("p gamma D", positive=True)
    q = p * gamma
    variance = p * (gamma * D - q * D) ** 2 + (1 - p) * (q * D) ** 2
    assert sympy.expand(variance - p * (1 - p) * gamma**2 * D**2) == 0
    assert sympy.expand(p * (1 - p) * gamma**2 - q * (gamma - q)) == 0


def test_the_gradients_of_the_implicit_objectives():
    """grad ||grad f|| = H g/||g|| and grad ||grad f||^2/2 = H g, for a general cubic in two variables."""
    x, y = sympy.symbols("x y", real=True)
    c = sympy.symbols("c0:10", real=True)
    f = sum(c[i] * m for i, m in enumerate([x, y, x**2, x * y, y**2, x**3, x**2 * y, x * y**2, y**3, 1]))
    g, H = sympy.Matrix([f.diff(x), f.diff(y)]), sympy.hessian(f, (x, y))
    norm = sympy.sqrt(g.dot(g))
    for v, i in ((x, 0), (y, 1)):
        assert sympy.expand((norm.diff(v) - (H * g)[i] / norm) * norm) == 0
        assert sympy.expand((g.dot(g) / 2).diff(v) - (H * g)[i]) == 0


# Drift along a manifold of minima


@pytest.mark.parametrize("offset", [-0.05, 0.05])
@pytest.mark.parametrize("q, rho", [(0.5, 0.02), (1.0, 0.01), (2.0, 0.005)])
def test_near_a_manifold_of_minima_the_mean_direction_points_to_its_flat_part(offset, q, rho):
    """f = (x y - 1)^2/2: beside the hyperbola the drift along it is kappa |r| times the slope of its width.

    With r = x y - 1 and w = sqrt(x^2 + y^2), ||grad f|| = |r| w; the hyperbola is flattest at (1, 1). In
    the ball of radius R the Hessian is 3 R-Lipschitz.
    """

    def gradient(z):
        r = z[0] * z[1] - 1
        return r * z[::-1]

    x = np.array([2.0, (1 + offset) / 2])
    tangent = np.array([x[0], -x[1]]) / np.linalg.norm(x)  # along the level set of x y; outwards
    g = gradient(x)
    mean = method.direction(g, gradient(method.ascend(x, g, rho)), q)
    kappa, w = q * rho, np.linalg.norm(x)
    drift = kappa * abs(offset) * (x[0] ** 2 - x[1] ** 2) / w**2
    R = w + rho
    assert drift > 0  # descent of E d reduces x - y, towards (1, 1)
    assert abs(mean @ tangent - drift) <= remainder_bound(q, rho, 3 * R)


def test_the_hessian_of_the_hyperbola_problem():
    """|D^3 f[u, u, u]| = 6 |a b (y a + x b)| <= 3 ||(x, y)|| for u = (a, b) of length 1."""
    x, y, a, b, t = sympy.symbols("x y a b t", real=True)
    f = (x * y - 1) ** 2 / 2
    along = sympy.diff(f.subs({x: x + t * a, y: y + t * b}, simultaneous=True), t, 3).subs(t, 0)
    assert sympy.expand(along - 6 * a * b * (y * a + x * b)) == 0


# Arguments


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: remainder_bound(-1.0, 0.1, 1.0), DomainError, "degree of regularization"),
        (lambda: remainder_bound(1.0, -0.1, 1.0), DomainError, "radius rho"),
        (lambda: remainder_bound(1.0, 0.1, -1.0), DomainError, "Lipschitz constant of the Hessian M"),
        (lambda: remainder_bound(1.0, 0.1, 1.0, "unnormalized"), DomainError, "gradient_norm given"),
        (lambda: remainder_bound(1.0, 0.1, 1.0, "sideways"), ValueError, "ascent must be"),
        (lambda: same_strength_bound(-1.0, (0.1, 0.2), 1.0), DomainError, "strength"),
        (lambda: implicit_gradient([1.0], [1.0, 2.0], 1.0), ValueError, "one shape"),
        (lambda: implicit_gradient([1.0], [1.0], 1.0, "sideways"), ValueError, "ascent must be"),
        (lambda: trial_variance(1.5, 1.0, [1.0]), DomainError, "probability p"),
        (lambda: logistic_hessian_lipschitz([1.0]), ValueError, "features"),
    ],
)
def test_arguments_are_checked(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_zero_gradient_has_a_zero_implicit_gradient():
    assert (implicit_gradient(np.zeros((2, 3)), np.zeros((2, 3)), 1.0) == 0).all()


def test_batches_of_any_type_are_taken_row_by_row_in_double_precision():
    g, Hg = np.array([[3, 4], [0, 0], [5, -12]]), np.array([[1, 2], [3, 4], [-5, 6]])
    for kind in (np.int64, np.float32, np.float64):
        scale = 1 if kind is np.int64 else 1 / 3
        a, b = (scale * g).astype(kind), (scale * Hg).astype(kind)
        rows = [[float(v) for v in row] for row in a], [[float(v) for v in row] for row in b]
        for ascent in ASCENTS:
            found = implicit_gradient(a, b, 0.3, ascent)
            assert found.dtype == np.float64
            for row, x, h in zip(found, *rows, strict=True):
                norm = math.hypot(*x) if ascent == "normalized" else 1.0
                share = 0.3 / norm if norm > 0 else 0.0
                expected = [u + share * v for u, v in zip(x, h, strict=True)]
                assert row.tolist() == pytest.approx(expected, rel=ONE_STEP)
    assert implicit_gradient(g, Hg, 0.5).tolist() == implicit_gradient(g, Hg, 0.5, "normalized").tolist()
    variance = trial_variance(0.25, 2.0, np.array([[100, 1], [3, 4]], dtype=np.int8))
    assert variance.tolist() == [0.75 * 10001, 0.75 * 25]
    assert remainder_bound(2.0, 0.5, 3.0) == remainder_bound(2.0, 0.5, 3.0, "normalized") == 0.75
    assert remainder_bound(2.0, 0.5, 3.0, "unnormalized", 3.0) == 0.75 * 9
    assert same_strength_bound(2.0, (0.5, 0.25), 3.0) == 0.75


def test_the_logistic_constant_is_its_formula_row_by_row():
    rows = np.array([[3.0, 4.0], [1.0, -2.0], [0.1, 0.3]], dtype=np.float32)
    lengths = [math.hypot(*map(float, row)) for row in rows]
    sums = [[0.0, 0.0], [0.0, 0.0]]
    for row, length in zip(rows.tolist(), lengths, strict=True):
        for i in range(2):
            for j in range(2):
                sums[i][j] += length * row[i] * row[j] / 3
    half, product = (sums[0][0] + sums[1][1]) / 2, sums[0][0] * sums[1][1] - sums[0][1] ** 2
    largest = half + math.sqrt(half**2 - product)
    third = 1 / (6 * math.sqrt(3))
    assert logistic_hessian_lipschitz(rows) == pytest.approx(largest * third, rel=NUMERIC)
    assert logistic_hessian_lipschitz(rows, minibatches=True) == pytest.approx(125 * third, rel=ONE_STEP)
    assert logistic_hessian_lipschitz([[2]]) == pytest.approx(8 * third, rel=ONE_STEP)
    for wrong in ([1.0], [[[1.0]]], np.ones((0, 2)), np.ones((2, 0))):
        with pytest.raises(ValueError, match="not empty; got shape"):
            logistic_hessian_lipschitz(wrong)
    for wrong, shapes in ((1.0, r"\(\) and \(\)"), ([1.0], r"\(1,\) and \(\)")):
        with pytest.raises(ValueError, match=f"got shapes {shapes}"):
            implicit_gradient(wrong, 1.0, 1.0)


def test_refusals_name_the_quantity_word_for_word():
    required = "required: {} in [0, inf); got -1.0"
    for call, name in [
        (lambda: remainder_bound(1.0, 0.1, -1.0), "Lipschitz constant of the Hessian M"),
        (lambda: same_strength_bound(-1.0, (0.1, 0.2), 1.0), "strength of regularization strength"),
        (lambda: implicit_gradient([1.0], [1.0], -1.0), "strength of regularization strength"),
    ]:
        with pytest.raises(DomainError) as told:
            call()
        assert str(told.value) == required.format(name)
    assert (_M.symbol.name, _STRENGTH.symbol.name) == ("M", r"\kappa")
