"""The last iterate on strongly convex objectives: exact programs, whole trees of trials, the algebra."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP, SEMIDEFINITE
from hypothesis import given, settings, strategies as st
from PEPit import PEP
from PEPit.functions import SmoothConvexFunction, SmoothStronglyConvexFunction

import rst_theory as rst
from rst_theory import method
from rst_theory.bounds import strongly_convex as bounds
from rst_theory.bounds.contraction import contraction
from rst_theory.notation import DomainError, ProblemConstants
from rst_theory.problems import LogisticRegression, PiecewiseQuadratic, Quadratic

BOUNDS = [
    bounds.strongly_convex_distance_unnormalized,
    bounds.strongly_convex_gap_unnormalized,
    bounds.strongly_convex_distance_unnormalized_noisy,
    bounds.strongly_convex_distance,
    bounds.strongly_convex_distance_noiseless,
]


def program(p, eta, rho, gamma, mu, quantity, L=1.0):
    """The worst case over the whole tree of trials of unnormalized ascent, from 1 at x_0, by PEPit.

    `quantity` is "squared_distance" or "gap", at the end and at x_0; or "distance to gap", and "average".
    """
    pep = PEP()
    curved = SmoothStronglyConvexFunction if mu > 0 else SmoothConvexFunction
    f = pep.declare_function(curved, L=L, **({"mu": mu} if mu > 0 else {}))
    best = f.stationary_point()
    leaves = [(1.0, pep.set_initial_point())]
    x0 = leaves[0][1]
    average = 0.0
    for P, e, r, y in zip(p, eta, rho, gamma, strict=True):
        following = []
        for weight, x in leaves:
            g, value = f.oracle(x)
            average = average + weight * e / sum(eta) * (value - f(best))
            for coin, chance in ((False, 1 - P), (True, P)):
                if chance > 0:
                    d = (
                        method.direction(g, f.gradient(method.ascend(x, g, r, "unnormalized")), y)
                        if coin
                        else g
                    )
                    following.append((weight * chance, x - e * d))
        leaves = following
    start = f(x0) - f(best) if quantity == "gap" else (x0 - best) ** 2
    pep.set_initial_condition(start <= 1)
    if quantity == "average":
        pep.set_performance_metric(average)
    elif quantity == "squared_distance":
        pep.set_performance_metric(sum(weight * (x - best) ** 2 for weight, x in leaves))
    else:
        pep.set_performance_metric(sum(weight * (f(x) - f(best)) for weight, x in leaves))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pep.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)


def factor(quantity, p, eta, rho, gamma, mu, L=1.0):
    numbers = (np.array([float(value)]) for value in (p, eta, rho, gamma))
    return float(contraction(quantity, *numbers, L, mu)[0])


def corners(p, eta, rho, gamma, mu, L=1.0):
    """What functions of one variable attain: curvature A up to x, and B between x and the ascended point."""
    return max(
        (1 - p) * (1 - eta * A) ** 2 + p * (1 - eta * A * (1 + gamma * rho * B)) ** 2
        for A in (mu, L)
        for B in (mu, L)
    )


# One step


@pytest.mark.parametrize("quantity", ["squared_distance", "gap"])
@pytest.mark.parametrize("seed", range(8))
def test_the_factor_is_the_exact_worst_case_of_one_step(quantity, seed):
    rng = np.random.default_rng(seed)
    p, mu = rng.choice([0.25, 0.5, 0.75, 1.0]), rng.choice([0.01, 0.1, 0.5])
    eta, rho = rng.uniform(0.1, 1.9), rng.uniform(0.05, 0.8)
    gamma = rng.uniform(0.3, 2.5)
    exact = program([p], [eta], [rho], [gamma], mu, quantity)
    assert factor(quantity, p, eta, rho, gamma, mu) == pytest.approx(exact, rel=SEMIDEFINITE)


def test_where_the_worst_distance_takes_more_than_one_dimension():
    """The factor exceeds every function of one variable, and the program agrees with it."""
    exact = program([1.0], [1.0], [0.5], [2.0], 0.01, "squared_distance")
    value = factor("squared_distance", 1.0, 1.0, 0.5, 2.0, 0.01)
    assert value == pytest.approx(exact, rel=SEMIDEFINITE)
    assert value > 1.04 * corners(1.0, 1.0, 0.5, 2.0, 0.01)


@pytest.mark.parametrize(
    "p, eta, rho, gamma, mu",
    [
        (0.086, 0.877, 0.995, 1.658, 0.6),
        (0.121, 0.876, 0.98, 1.669, 0.6),
        (0.068, 0.858, 0.719, 1.397, 0.895),
    ],
)
def test_where_the_factor_of_the_gap_is_loosest(p, eta, rho, gamma, mu):
    """Rare, long ascents; here both conditions of the matrix inequality are active."""
    exact = program([p], [eta], [rho], [gamma], mu, "gap")
    assert exact * (1 - SEMIDEFINITE) <= factor("gap", p, eta, rho, gamma, mu) <= 1.06 * exact


@given(
    p=st.floats(0, 1),
    eta=st.floats(0, 3),
    rho=st.floats(0, 2),
    gamma=st.floats(0, 3),
    mu=st.floats(0.001, 1),
    L=st.sampled_from([1.0, 3.0]),
)
@settings(max_examples=25)
def test_the_factor_is_at_least_what_one_dimension_attains_and_scales(p, eta, rho, gamma, mu, L):
    for quantity in ("squared_distance", "gap"):
        value = factor(quantity, p, eta, rho, gamma, mu)
        assert value >= corners(p, eta, rho, gamma, mu) * (1 - NUMERIC)
        scaled = factor(quantity, p, eta / L, rho / L, gamma, mu * L, L)
        assert scaled == pytest.approx(value, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("change", [{"p": 0.0}, {"rho": 0.0}, {"gamma": 0.0}, {"mu": 1.0, "rho": 0.0}])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, 1.7])
def test_without_perturbation_it_is_the_rate_of_gradient_descent(change, eta):
    """Taylor, Hendrickx & Glineur (2018): max((1 - eta mu)^2, (1 - eta L)^2), for both quantities."""
    arguments = {"p": 0.5, "rho": 0.4, "gamma": 1.5, "mu": 0.2} | change
    rate = max((1 - eta * arguments["mu"]) ** 2, (1 - eta) ** 2)
    for quantity in ("squared_distance", "gap"):
        assert factor(quantity, eta=eta, **arguments) == pytest.approx(rate, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("tiny", [1e-300, 1e-150, 1e-20])
@pytest.mark.parametrize("key", ["p", "eta", "rho", "gamma"])
def test_tiny_parameters_give_numbers(key, tiny):
    arguments = {"p": 0.5, "eta": 0.5, "rho": 0.4, "gamma": 1.5} | {key: tiny}
    expected = 1.0 if key == "eta" else 0.81
    for quantity in ("squared_distance", "gap"):
        assert factor(quantity, mu=0.2, **arguments) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("mu", [1e-12, 0.3, 1.0])
@pytest.mark.parametrize(
    "p, eta, rho, gamma",
    [(0.5, 0.5, 1e6, 1e6), (1.0, 1.5, 1e-8, 1e8), (1e-9, 0.5, 0.3, 1e9), (0.5, 1e6, 0.1, 1.0)],
)
def test_huge_parameters_give_bounds(p, eta, rho, gamma, mu):
    for quantity in ("squared_distance", "gap"):
        value = factor(quantity, p, eta, rho, gamma, mu)
        assert 1 - NUMERIC <= value / corners(p, eta, rho, gamma, mu) <= 4
    assert factor("gap", 1.0, 1e100, 1.0, 1.0, 0.3) == math.inf  # out of the floating range


# Many steps


SETTINGS = [
    ("constant", 0.5, 1.0, 0.2, 2.0, 0.1),
    ("linear1", 0.5, 0.5, 0.5, 1.0, 0.01),
    ("linear2", 0.25, 1.0, 0.2, 1.0, 0.1),
    ("piecewise1", 0.5, 0.25, 0.5, 2.0, 0.5),
    ("piecewise2", 0.5, 1.0, 0.1, 2.0, 0.01),
    ("piecewise3", 0.75, 1.5, 0.1, 1.0, 0.5),
    ("cosine_up", 0.5, 0.5, 0.2, 1.0, 0.1),
    ("cosine_down", 0.5, 1.0, 0.1, 1.0, 0.1),
]


@pytest.mark.parametrize("preset, p, eta, rho, gamma, mu", SETTINGS)
def test_two_steps_are_close_to_the_program(preset, p, eta, rho, gamma, mu):
    schedule = rst.preset(preset, p)
    rows = [[value] * 2 for value in (eta, rho, gamma)]
    for quantity, bound in (
        ("squared_distance", bounds.strongly_convex_distance_unnormalized),
        ("gap", bounds.strongly_convex_gap_unnormalized),
    ):
        value = bound.evaluate(
            schedule=schedule,
            steps=2,
            eta=eta,
            rho=rho,
            gamma=gamma,
            constants=ProblemConstants(L=1.0, mu=mu),
            gap=1.0,
            distance=1.0,
        )
        exact = program(schedule.probabilities(2).tolist(), *rows, mu, quantity)
        assert exact * (1 - SEMIDEFINITE) <= value <= 1.02 * exact


def test_alternating_worst_curvatures_are_where_the_product_is_loose():
    """The first step is slowest on the flat direction, the second on the steep one: no function is both."""
    exact = program([0.0, 1.0], [1.5] * 2, [0.5] * 2, [1.0] * 2, 0.1, "gap")
    value = factor("gap", 0.0, 1.5, 0.5, 1.0, 0.1) * factor("gap", 1.0, 1.5, 0.5, 1.0, 0.1)
    assert value == pytest.approx(2.2 * exact, rel=0.01)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_a_quadratic_attains_both_products(p):
    """With short steps the flattest direction is the worst of every step."""
    eta, rho, gamma, mu, T = 0.4, 0.3, 1.5, 0.1, 5
    problem = Quadratic([1.0, mu], start=[0.0, 1.0])
    arguments = {"steps": T, "eta": eta, "rho": rho, "gamma": gamma, "constants": problem.constants}
    perturbed = (1 - eta * mu * (1 + gamma * rho * mu)) ** 2
    square = ((1 - p) * (1 - eta * mu) ** 2 + p * perturbed) ** T
    distance = bounds.strongly_convex_distance_unnormalized.evaluate(schedule=p, distance=1.0, **arguments)
    gap = bounds.strongly_convex_gap_unnormalized.evaluate(schedule=p, gap=mu / 2, **arguments)
    assert distance == pytest.approx(square, rel=1e-8)
    assert gap == pytest.approx(mu / 2 * square, rel=1e-8)


@given(
    p=st.floats(0, 1),
    eta=st.floats(0.05, 1.9),
    rho=st.floats(0, 1),
    gamma=st.floats(0, 1),
    sigma=st.floats(0, 2),
)
@settings(max_examples=20)
def test_it_is_above_the_second_moment_of_a_quadratic_with_noise(p, eta, rho, gamma, sigma):
    """One direction of curvature lam in {mu, L}: the second moment in closed form."""
    mu, T, D = 0.25, 3, 1.3
    bound = bounds.strongly_convex_distance_unnormalized_noisy.evaluate(
        schedule=p,
        steps=T,
        eta=eta,
        rho=rho,
        gamma=gamma,
        constants=ProblemConstants(L=1.0, mu=mu, sigma=sigma),
        distance=D,
    )
    for lam in (mu, 1.0):
        m, boost = D**2, 1 + gamma * rho * lam
        for _ in range(T):
            m = ((1 - p) * (1 - eta * lam) ** 2 + p * (1 - eta * lam * boost) ** 2) * m
            m += eta**2 * sigma**2 * (1 - p + p * boost**2)
        assert m <= bound * (1 + NUMERIC)


# Whole trees of trials


def tree(x0, gradients, p, eta, rho, gamma, ascent):
    """The leaves (weight, x) after every step, all trials and all minibatches enumerated.

    `gradients` are the stochastic gradients, equally likely.
    """
    levels = [[(1.0, x0)]]
    for P, e, r, y in zip(p, eta, rho, gamma, strict=True):
        levels.append(
            [
                (weight * chance / len(gradients), rst.step(x, gradient, coin, e, r, y, ascent))
                for weight, x in levels[-1]
                for coin, chance in ((False, 1 - P), (True, P))
                if chance > 0
                for gradient in gradients
            ]
        )
    return levels


def mean(leaves, measure):
    return float(sum(weight * measure(x) for weight, x in leaves))


rows = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0.05, 1.9), st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=4
)


@st.composite
def curved(draw):
    """A strongly convex problem with its minimizer, and a start."""
    coordinates = st.floats(-3, 3)
    if draw(st.booleans()):
        spectrum = [1.0, *draw(st.lists(st.floats(0.02, 1.0), min_size=1, max_size=2))]
        return (
            Quadratic(spectrum),
            np.zeros(len(spectrum)),
            np.resize([draw(coordinates), 1.0], len(spectrum)),
        )
    slopes = draw(st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3))
    knots, right = np.array([0.0, draw(st.floats(0.1, 2))]), slopes[2]
    problem = PiecewiseQuadratic(knots, [0.0, slopes[1] * knots[1]], left=slopes[0], right=right)
    return problem, np.zeros(1), np.array([draw(coordinates)])


def applicable(bound, constants, p, eta, rho, gamma, **start):
    """The value of the bound, or infinity outside its domain."""
    try:
        return bound.evaluate(
            schedule=rst.Tabulated(tuple(p)),
            steps=len(p),
            eta=eta,
            rho=rho,
            gamma=gamma,
            constants=constants,
            **start,
        )
    except DomainError:
        return math.inf


@given(curved(), rows)
@settings(max_examples=40)
def test_exact_expectations_are_below_every_bound(instance, table):
    problem, best, x0 = instance
    p, eta, rho, gamma = map(list, zip(*table, strict=True))
    eta = [e / problem.constants.L for e in eta]
    start = {"gap": float(problem.gap(x0)), "distance": float(np.linalg.norm(x0 - best))}
    for bound in BOUNDS:
        leaves = tree(x0, [problem.gradient], p, eta, rho, gamma, bound.ascent)[-1]
        if bound.metric.quantity == "final_gap":
            measured = mean(leaves, problem.gap)
        else:
            measured = mean(leaves, lambda x: ((x - best) ** 2).sum())
        value = applicable(bound, problem.constants, p, eta, rho, gamma, **start)
        assert measured <= value * (1 + NUMERIC) + 1e-25


@given(table=rows, x0=st.floats(-3, 3), s=st.floats(0.01, 1), steep=st.floats(0.1, 0.9))
@settings(max_examples=40)
def test_noise_that_is_correlated_with_the_curvature_stays_below(table, x0, s, steep):
    """f(x) = steep x^2/2 with gradients steep x ± s cos(b x), s b = 1 - steep: each 1-Lipschitz."""
    b = (1 - steep) / s

    def noisy(sign):
        return lambda x: steep * x + sign * s * np.cos(b * x)

    p, eta, rho, gamma = map(list, zip(*table[:3], strict=True))
    constants = ProblemConstants(L=1.0, mu=steep, sigma=s)
    for bound in BOUNDS[2:4]:
        leaves = tree(np.array([x0]), [noisy(1), noisy(-1)], p, eta, rho, gamma, bound.ascent)[-1]
        value = applicable(bound, constants, p, eta, rho, gamma, distance=abs(x0))
        assert mean(leaves, lambda x: (x**2).sum()) <= value * (1 + NUMERIC) + 1e-25


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda b: b.name)
def test_logistic_regression_stays_below(bound):
    features = np.array([[1.0, 0.3], [-0.4, 1.0], [0.7, -1.1], [0.2, 0.4]])
    problem = LogisticRegression(features, np.array([1.0, -1.0, 1.0, 1.0]), l2=0.1, start=[2.0, -1.0])
    best = problem.start
    for _ in range(3000):
        best = best - problem.gradient(best) / problem.constants.L
    L, mu, T = problem.constants.L, problem.constants.mu, 6
    p, eta, rho, gamma = [0.5] * T, [0.9 / L] * T, [0.2] * T, [1.5] * T
    start = {
        "gap": float(problem.gap(problem.start)),
        "distance": float(np.linalg.norm(problem.start - best)),
    }
    leaves = tree(problem.start, [problem.gradient], p, eta, rho, gamma, bound.ascent)[-1]
    gap = bound.metric.quantity == "final_gap"
    measured = mean(leaves, problem.gap if gap else lambda x: ((x - best) ** 2).sum())
    value = applicable(bound, ProblemConstants(L=L, mu=mu), p, eta, rho, gamma, **start)
    assert measured <= value < math.inf


def test_the_floor_of_the_noiseless_bound_for_normalized_ascent():
    """At eta = 1/L the bound settles at eta gamma q (L rho)^2/(2 mu), not at (L rho/mu)^2."""
    arguments = {"schedule": 0.5, "steps": 20_000, "eta": 1.0, "rho": 0.1, "distance": 1.0}
    constants = ProblemConstants(L=1.0, mu=0.05)
    value = bounds.strongly_convex_distance_noiseless.evaluate(constants=constants, **arguments)
    assert value == pytest.approx(0.5 * 0.1**2 / (1 - 0.95**2), rel=NUMERIC)
    with_noise = bounds.strongly_convex_distance.evaluate(constants=constants, **(arguments | {"steps": 500}))
    assert with_noise > 10 * value


@given(L=st.floats(0.1, 10), share=st.floats(0.01, 1))
def test_rounding_refuses_no_step_of_the_base_at_degree_one(L, share):
    arguments = {"schedule": 1.0, "steps": 2, "eta": 1 / L, "rho": 0.1, "distance": 1.0}
    constants = ProblemConstants(L=L, mu=share * L)
    assert bounds.strongly_convex_distance_noiseless.evaluate(constants=constants, **arguments) >= 0


# Domains and algebra


def test_domains_are_named():
    good = {"schedule": 0.5, "steps": 3, "eta": 0.5, "rho": 0.1, "constants": ProblemConstants(L=1.0, mu=0.1)}
    noisy = ProblemConstants(L=1.0, mu=0.1, sigma=1.0)
    distance, gap, _, normalized, noiseless = BOUNDS
    for bound, change, message in (
        (distance, {"distance": None}, "distance"),
        (distance, {"distance": 1.0, "constants": noisy}, "sigma = 0"),
        (distance, {"distance": 1.0, "constants": ProblemConstants(L=1.0)}, "mu > 0"),
        (gap, {"gap": None}, "gap"),
        (normalized, {"distance": 1.0, "eta": 2.5}, "eta_t < 2/L; got 2.5 at t = 0"),
        (noiseless, {"distance": 1.0, "eta": 1.5}, "eta_t <= 1/L"),
        (noiseless, {"distance": 1.0, "gamma": 4.0}, "q_t"),
    ):
        with pytest.raises(DomainError, match=message):
            bound.evaluate(**(good | change))


def test_the_algebra_of_the_coordinates():
    """x = z + a and g = mu z + L a; delta = mu s + L b with s = rho g - b, all numbers here."""
    z, a, b, rho, mu, L, eta, gamma = sympy.symbols("z a b rho mu L eta gamma")
    x, g = z + a, mu * z + L * a
    s = rho * g - b
    delta = mu * s + L * b
    M = L - mu
    alpha, beta = 1 - eta * mu * (1 + gamma * rho * mu), 1 - eta * L * (1 + gamma * rho * mu)
    perturbed = x - eta * (g + gamma * delta)
    assert sympy.expand(perturbed - (alpha * z + beta * a - eta * gamma * M * b)) == 0
    assert sympy.expand(L * a - (g - mu * x) - mu * a) == 0  # g - mu x = M a
    flat, steep = 1 - eta * mu, 1 - eta * L
    assert sympy.expand(mu * flat * steep + M * flat - L * flat**2) == 0
    assert sympy.expand(mu * alpha * beta + M * alpha - L * alpha**2) == 0


def test_the_algebra_of_the_steep_corner():
    """min over m > 0 of (c - k m)^2/m is 0 for c > 0, else -4 c k, which gives the corner (L, L)."""
    p, w, rho, L, beta, m = sympy.symbols("p w rho L beta m", positive=True)
    lam = (m + p * w**2) / 2
    c, k = p * w * (beta - rho * L * w / 2 * 1), rho * L / 2
    assert sympy.expand((p * w * beta - lam * rho * L) - (c - k * m)) == 0
    assert sympy.expand(p * beta**2 - 4 * c * k - p * (beta - rho * L * w) ** 2) == 0


def test_the_cost_of_normalized_ascent_is_the_largest_value_of_its_quadratic():
    for m, x in itertools.product([0.0, 0.05, 0.4, 0.9], [0.01, 0.3, 0.95, 1.0, 1.7, 2.5]):
        w = np.linspace(0, 1, 200_001)
        squared = np.where(x <= 2, w**2, w)
        exact = (
            2 * (1 - m) ** 2 * (w - squared) + x * (m**2 + 2 * m * (1 - m) * w + (1 - m) ** 2 * squared)
        ).max()
        constants = ProblemConstants(L=1.0, mu=m)
        setting = rst.bounds.settle(1.0, 1, x / 4, 1.0, 4.0, constants, None, 1.0)
        assert bounds.ascent_cost(setting)[0] == pytest.approx(4 * x / 4 * exact, rel=1e-8)


def test_a_step_size_schedule_is_the_product_of_its_steps():
    etas, p = [0.2, 0.9, 0.5], [0.0, 0.5, 1.0]
    value = applicable(BOUNDS[1], ProblemConstants(L=1.0, mu=0.1), p, etas, [0.3] * 3, [1.0] * 3, gap=2.0)
    parts = [factor("gap", P, e, 0.3, 1.0, 0.1) for P, e in zip(p, etas, strict=True)]
    assert value == pytest.approx(2.0 * math.prod(parts), rel=ONE_STEP)
