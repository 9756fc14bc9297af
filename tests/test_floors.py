"""The floor: the instance that stays on it, what is proved of it, and the open middle range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP, z_threshold
from hypothesis import given, settings, strategies as st

import rst_theory as rst
from experiments import floors
from rst_theory.bounds import nonconvex_average
from rst_theory.bounds.rates import closed_form
from rst_theory.notation import DomainError
from rst_theory.problems import FloorInstance

MEASURED = [(p, gamma) for p in (0.25, 0.5, 0.75) for gamma in (1.0, 2.0)]


def derivative(problem):
    """f' in plain Python, from the numbers that define it alone."""
    q, rho, L, w = problem.degree, problem.radius, problem.constants.L, problem.slack
    G = q * (1 - 4 * w)

    def f(x):
        x = x / rho
        top, bottom = G + w, G - 1 + 3 * w
        value = G + x if x < w else top - (x - w) if x < 1 - w else bottom + x - (1 - w)
        return L * rho * value

    return f


# The instance


@given(
    degree=st.floats(0.01, 5),
    radius=st.floats(0.01, 10),
    L=st.floats(0.01, 10),
    slack=st.floats(0, 0.249),
    x=st.floats(-5, 5),
)
def test_its_derivative_is_the_one_of_the_note(degree, radius, L, slack, x):
    problem = FloorInstance(degree, radius, L, slack)
    assert pytest.approx(L, rel=ONE_STEP) == problem.constants.L
    assert (problem.start == 0).all()
    expected = derivative(problem)(x * radius)
    scale = L * radius * (degree + abs(x) + 1)
    assert problem.gradient([x * radius])[0] == pytest.approx(expected, abs=1e-12 * scale)
    assert problem.gradient([0.0])[0] ** 2 == pytest.approx(problem.attained, rel=NUMERIC)
    assert problem.attained == pytest.approx((1 - 4 * slack) ** 2 * problem.floor, rel=NUMERIC)


def test_in_the_window_the_walk_is_a_first_order_autoregression():
    """The identity behind the proof: x+ = (1 - e) x + e (1 - 4 w)(gamma X - q), in units of rho."""
    x, w, q, e, gamma, X = sympy.symbols("x w q e gamma X", positive=True)
    g = q * (1 - 4 * w) + x
    bottom = q * (1 - 4 * w) - 1 + 3 * w
    g_adv = bottom + (1 + x) - (1 - w)
    step = x - e * rst.direction(g, g_adv, gamma * X)
    assert sympy.expand(step - ((1 - e) * x + e * (1 - 4 * w) * (gamma * X - q))) == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"degree": 0.0}, "degree of regularization degree"),
        ({"degree": math.nan}, "degree of regularization degree"),
        ({"degree": 1.0, "radius": 0.0}, "radius radius"),
        ({"degree": 1.0, "L": -1.0}, "smoothness constant L"),
        ({"degree": 1.0, "slack": 0.25}, "slack slack"),
        ({"degree": 1.0, "slack": -0.1}, "slack slack"),
    ],
)
def test_its_arguments_are_checked(arguments, message):
    with pytest.raises(DomainError, match=message):
        FloorInstance(**arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"p": 0.0}, "probability p in \\(0, 1\\]"),
        ({"p": 1.5}, "probability p"),
        ({"eta": 0.0}, "0 < eta < 1/L"),
        ({"eta": 0.6}, "0 < eta < 1/L; got 0.6"),
        ({"steps": 0}, "steps"),
    ],
)
def test_what_is_proved_has_a_domain(arguments, message):
    with pytest.raises(DomainError, match=message):
        FloorInstance(0.5, L=2.0).least_average(**({"p": 0.5, "eta": 0.1, "steps": 3} | arguments))


# The floor is attained


def test_what_is_proved_in_numbers():
    """By hand: gamma = 1, w = 1/5, 1 - 4 w = 1/5, and the exponent is 2 * 1.5 * .04/(.5 * .04) = 6."""
    proved = FloorInstance(0.5, slack=0.2).least_average(0.5, 0.5, 3)
    assert proved == pytest.approx(0.01 * (1 - 12 * math.exp(-6)), rel=NUMERIC)


@pytest.mark.parametrize("q", [0.5, 1.0, 1.5])
def test_a_certain_trial_needs_no_slack_and_stands_still(q):
    problem = FloorInstance(q, radius=0.25, L=2.0, slack=0.0)
    run = rst.simulate(problem, 1.0, steps=50, eta=0.2, rho=0.25, gamma=q, replicas=1)
    assert run.squared_gradient_norm.mean == pytest.approx(np.full(50, problem.floor), rel=ONE_STEP)
    assert problem.least_average(1.0, 0.2, 50) == problem.attained


@pytest.mark.parametrize("p, gamma", MEASURED)
def test_simulated_it_reaches_98_percent_of_the_floor(p, gamma):
    """256 replicas; a statistical test: fails falsely with probability COMPARISON_ALARM over its 6 cases."""
    problem = FloorInstance(p * gamma)
    eta, T = 2e-6, 2000
    run = rst.simulate(problem, p, steps=T, eta=eta, rho=1.0, gamma=gamma, replicas=256, seed=4)
    measured = run.weighted(nonconvex_average)
    assert measured.mean - z_threshold(len(MEASURED)) * measured.standard_error >= 0.98 * problem.floor


@pytest.mark.parametrize("p", [0.25, 0.5, 0.75])
def test_it_stays_there_for_several_relaxation_times(p):
    """One long walk, written out here; it has forgotten its start many steps before its end.

    A relaxation time is 1/eta steps. The walk's standard deviation is w/u, and that of the average, relative
    to the floor, is below 2 w/(u q). The walk passes w with a probability of about 4 u phi(u) < 2e-9 (Rice),
    and stays within w/25 with one of about exp(-2 (pi/2)^2 (25/u)^2) < 1e-28. So a statistical test of three
    cases, which fail falsely with probability at most COMPARISON_ALARM together.
    """
    problem, u = FloorInstance(p, slack=1 / 535), 6.8
    spread = problem.slack / u
    eta = 2 * spread**2 / (p * (1 - p))
    T = int(2 / eta)
    f = derivative(problem)
    x = total = farthest = 0.0
    for coin in (np.random.default_rng(1).random(T) < p).tolist():
        g = f(x)
        total += g * g
        x -= eta * (f(x + math.copysign(1.0, g)) if coin else g)
        farthest = max(farthest, abs(x))
    mean, deviation = (1 - 4 * problem.slack) ** 2, 2 * spread / p
    assert total / T >= (mean - z_threshold(6) * deviation) * problem.floor
    assert problem.slack / 25 < farthest < problem.slack


@given(
    p=st.floats(0.05, 1),
    degree=st.floats(0.1, 3),
    slack=st.floats(0.01, 0.24),
    eta=st.floats(1e-3, 0.999),
    T=st.integers(1, 9),
)
@settings(max_examples=60)
def test_what_is_proved_is_below_the_exact_average_over_all_trials(p, degree, slack, eta, T):
    """The whole tree of trials is enumerated, so no statistics are involved."""
    problem = FloorInstance(degree, slack=slack)
    f, gamma = derivative(problem), degree / p
    points, weights, total = np.zeros(1), np.ones(1), 0.0
    for _ in range(T):
        g = np.vectorize(f)(points)
        total += weights @ g**2
        g_adv = np.vectorize(f)(points + np.sign(g))
        points = np.concatenate([points - eta * g, points - eta * ((1 - gamma) * g + gamma * g_adv)])
        weights = np.concatenate([(1 - p) * weights, p * weights])
    assert problem.least_average(p, eta, T) <= total / T * (1 + NUMERIC)


@pytest.mark.parametrize("p, gamma", MEASURED)
def test_what_is_proved_of_it_reaches_98_percent_of_the_bound(p, gamma):
    """A lower and an upper bound on one run of 10^15 steps, too long for any array."""
    problem, eta, T = FloorInstance(p * gamma), 1e-9, 10**15
    gap = float(problem.gap(problem.start))
    bound = closed_form(p, eta, 1.0, gamma).value(T, problem.constants, gap)
    assert problem.floor <= bound <= 1.001 * problem.floor
    assert problem.least_average(p, eta, T) >= 0.98 * bound


# The open middle range


@pytest.mark.parametrize(
    "p, gamma, e", [(0.25, 1.0, 0.5), (0.5, 2.0, 0.25), (0.75, 1.0, 0.9), (1.0, 1.5, 0.6)]
)
def test_the_stationary_value_of_the_quadratic_solves_its_balance(p, gamma, e):
    """The law of |x| as a density on cells, moved by the two maps until it no longer changes."""
    cells = 20_000
    x = (np.arange(cells) + 0.5) / cells * e * gamma
    mass = np.full(cells, 1 / cells)
    for _ in range(200):
        plain, perturbed = (1 - e) * x, e * gamma - (1 - e) * x
        index = [np.minimum((y / (e * gamma) * cells).astype(int), cells - 1) for y in (plain, perturbed)]
        mass = (1 - p) * np.bincount(index[0], mass, cells) + p * np.bincount(index[1], mass, cells)
    assert floors.quadratic_floor(p, e, gamma) == pytest.approx(mass @ x**2, rel=1e-3)


@pytest.mark.parametrize("s", [1.0, -1.0, 0.5])
def test_the_conditions_of_the_program_are_those_of_smooth_functions(s):
    """For f = s x^2/2, whose gradients are s x, each leaves (1 - s^2) (x_i - x_j)^2/4."""
    x = np.array([0.3, -1.2, 2.0])
    f, Q = floors._interpolation(list(np.eye(3) / s), list(np.eye(3)))
    left = f @ (s * x**2 / 2) + np.einsum("kij,i,j->k", Q, s * x, s * x)
    expected = [(1 - s**2) * (a - b) ** 2 / 4 for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    assert left == pytest.approx(np.array(expected), abs=1e-12)


def test_the_bounds_on_the_floor_from_both_sides():
    """At an end where the floor is known, and in the middle, where they must not cross."""
    assert floors.quadratic_floor(0.25, 1.0) == pytest.approx(floors.master_floor(0.25, 1.0), rel=NUMERIC)
    assert floors.potential_floor(0.25, 0.999, 20) == pytest.approx(0.25, rel=1e-2)
    window, error = floors.window_floor(0.5, 0.5)
    above = [floors.potential_floor(0.5, 0.5, 20), floors.majorant_floor(0.5, 0.5, 200)]
    assert 0.08 < window + z_threshold() * error < above[0] < above[1] < floors.master_floor(0.5, 0.5)
    assert above[0] < 0.5**2
