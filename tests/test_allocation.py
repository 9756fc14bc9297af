"""Allocation under a budget against a numerical optimiser; the least pairs against a search over a grid."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from conftest import NUMERIC
from hypothesis import given, settings, strategies as st
from scipy import optimize

import rst_theory as rst
from rst_theory.allocation import allocate, least_pairs, trial_weights, water_filling
from rst_theory.bounds import nonconvex_average
from rst_theory.notation import DomainError, ProblemConstants

CONSTANTS = ProblemConstants(L=1.0, mu=0.1, sigma=0.2)

weight = st.one_of(st.just(0.0), st.floats(1e-3, 10))


# Water-filling


@given(st.lists(st.tuples(weight, st.floats(0, 1)), min_size=1, max_size=12), st.floats(0, 1))
def test_the_conditions_for_a_minimum_hold(rows, share):
    """Karush, Kuhn and Tucker: w^2/p^2 is one number where p is free, no more above, no less below."""
    w, low = map(np.array, zip(*rows, strict=True))
    budget = low.sum() + share * (len(w) - low.sum()) + 1e-9
    p = water_filling(w, budget, low)
    assert (p >= low).all() and (p <= 1).all()
    assert p.sum() <= budget * (1 + NUMERIC)
    np.testing.assert_array_equal(p[w == 0], low[w == 0])
    wanted = w > 0
    if p[wanted].sum() < wanted.sum():  # something is missing: then the budget is spent
        assert p.sum() == pytest.approx(budget, rel=NUMERIC)
    slope = (w[wanted] / np.maximum(p[wanted], 1e-300)) ** 2
    free = (p[wanted] > low[wanted]) & (p[wanted] < 1)
    if free.any():
        level = slope[free].mean()
        np.testing.assert_allclose(slope[free], level, rtol=1e-9)
        assert (slope[(p[wanted] == 1) & (low[wanted] < 1)] >= level * (1 - 1e-9)).all()
        assert (slope[(p[wanted] == low[wanted]) & (low[wanted] < 1)] <= level * (1 + 1e-9)).all()


@pytest.mark.filterwarnings("ignore:Values in x were outside bounds:RuntimeWarning")  # of SciPy 1.11
@pytest.mark.parametrize("seed", range(4))
def test_a_numerical_optimiser_finds_nothing_better(seed):
    rng = np.random.default_rng(seed)
    T = 7
    w, low = rng.uniform(0.01, 1, T), rng.uniform(0, 0.1, T)
    budget = rng.uniform(low.sum() + 0.1, T)
    found = optimize.minimize(
        lambda p: (w**2 / p).sum(),
        np.full(T, budget / T),
        jac=lambda p: -(w**2) / p**2,
        bounds=list(zip(np.maximum(low, 1e-6), np.ones(T), strict=True)),
        constraints=[{"type": "ineq", "fun": lambda p: budget - p.sum(), "jac": lambda p: -np.ones(T)}],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    ours = (w**2 / water_filling(w, budget, low)).sum()
    assert ours == pytest.approx(found.fun, rel=1e-7)


def test_what_cannot_be_spent_is_kept():
    np.testing.assert_array_equal(water_filling([1.0, 0.0, 2.0], 2.5), [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(water_filling([0.0, 0.0], 0.0), [0.0, 0.0])
    np.testing.assert_array_equal(water_filling([5e-324, 5e-324], 1.0), [0.5, 0.5])
    np.testing.assert_allclose(water_filling([1.0, 1e-300], 1.5), [1.0, 0.5])


@given(st.lists(st.floats(1e-3, 1), min_size=2, max_size=9), st.floats(0.01, 0.99))
def test_the_budget_is_spent_wherever_there_is_room(weights, share):
    p = water_filling(weights, share * len(weights))
    assert p.sum() == pytest.approx(share * len(weights), rel=NUMERIC)


def test_a_weight_that_reaches_one_by_rounding_is_full():
    """1/w times w may fall short of 1: by hand, the first two are full and the last takes the rest."""
    np.testing.assert_allclose(water_filling([1.0, 0.72, 0.018], 2.5), [1.0, 1.0, 0.5], rtol=NUMERIC)


def test_what_is_full_or_least_is_so_to_the_last_bit():
    """Where 1/w times w is no 1, and where low/w times w is more than low."""
    w = 1 / np.arange(1, 94)
    assert 1 / w[-1] * w[-1] != 1
    assert water_filling(w, 93.0).tolist() == water_filling(w, 94.0).tolist() == [1.0] * 93
    low = np.array([0.9, 0.06])
    assert 0.06 / 0.37 * 0.37 > 0.06
    assert water_filling([1.0, 0.37], low.sum(), low).tolist() == low.tolist()


@pytest.mark.parametrize("T", [3, 6, 7, 49, 103])
def test_a_budget_equal_to_the_least_is_enough(T):
    run = {"steps": T, "eta": 0.5, "rho": 0.2, "constants": CONSTANTS}
    found = allocate(0.3, degree=0.3, max_gamma=1.0, **run)
    np.testing.assert_allclose(found.values(T), 0.3, rtol=NUMERIC)


def test_bad_budgets_are_refused():
    with pytest.raises(DomainError, match="has its share"):
        water_filling([1.0, 1.0], 0.5, [0.5, 0.0])

    with pytest.raises(DomainError, match="sum of the least"):
        water_filling([1.0, 1.0], 0.3, [0.2, 0.2])
    with pytest.raises(DomainError, match="budget > 0, so"):
        water_filling([1.0], 0.0)
    with pytest.raises(DomainError, match=r"^required: weight weights in \[0, inf\); got -1.0 at t = 0$"):
        water_filling([-1.0], 1.0)
    with pytest.raises(DomainError, match=r"^required: budget budget in \[0, inf\); got -1.0$"):
        water_filling([1.0], -1.0)


# Schedules


RUN = {"steps": 30, "eta": rst.Cosine(0.5, 0.05), "rho": rst.InverseSqrt(0.3), "constants": CONSTANTS}


def master(schedule, gamma):
    return nonconvex_average.evaluate(schedule=schedule, gamma=gamma, gap=1.0, **RUN)


def test_the_average_goal_makes_the_master_bound_least():
    degree = 0.8
    found = allocate(0.3, degree=degree, **RUN)
    assert found.probabilities(30).mean() == pytest.approx(0.3, rel=NUMERIC)
    weights = (trial_weights(degree=degree, **RUN), trial_weights(degree=degree, goal="average", **RUN))
    assert weights[0].tolist() == weights[1].tolist()
    least = master(found, rst.matched_gamma(found, 30, degree).gamma)
    rng = np.random.default_rng(0)
    for scale in (1e-3, 0.1, 1.0):
        for _ in range(20):
            moved = found.probabilities(30) * np.exp(scale * rng.standard_normal(30))
            moved = np.clip(moved * 9.0 / moved.sum(), 1e-6, 1)
            if moved.sum() <= 9.0 * (1 + 1e-12):
                other = rst.Tabulated(tuple(moved))
                assert master(other, rst.matched_gamma(other, 30, degree).gamma) >= least * (1 - NUMERIC)


def unrolled(p, degree, eta, rho, mu, L=1.0):
    """The last gap of the note, step by step, from a gap of 0 and without noise."""
    gap = 0.0
    for p_t, eta_t, rho_t in zip(p, eta, rho, strict=True):
        a = eta_t * (1 - L * eta_t / 2)
        u = degree * L * rho_t * eta_t * abs(1 - L * eta_t)
        gap = (1 - mu * a) * gap + u**2 / (2 * a) + L**3 * eta_t**2 * rho_t**2 * degree**2 / p_t / 2
    return gap


def test_the_last_iterate_goal_makes_the_unrolled_recursion_least():
    T, degree, budget = 12, 0.7, 0.4
    eta, rho = rst.Linear(0.9, 0.3).values(T), rst.Constant(0.2).values(T)
    constants = ProblemConstants(L=1.0, mu=0.5)
    ours = allocate(
        budget, steps=T, eta=eta, rho=rho, degree=degree, constants=constants, goal="last_iterate"
    ).probabilities(T)
    found = optimize.minimize(
        unrolled,
        np.full(T, budget),
        args=(degree, eta, rho, constants.mu),
        bounds=[(1e-6, 1)] * T,
        constraints=[{"type": "ineq", "fun": lambda p: budget * T - p.sum()}],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    assert unrolled(ours, degree, eta, rho, 0.5) == pytest.approx(found.fun, rel=1e-6)
    assert (np.diff(ours / eta) >= -1e-12).all(), "for the end of a run late steps matter more"


def added_by_trials(problem, p, eta, rho, degree):
    """E||M||^2 of the note at the end and along the run, by all coins: x less its conditional drift."""
    lam, T = problem.eigenvalues, len(p)
    last, average = 0.0, 0.0
    leaves = [(1.0, problem.start, np.zeros(lam.size))]
    for t in range(T):
        grown = []
        for chance, x, M in leaves:
            unit = lam * x / np.linalg.norm(lam * x)
            average += chance * eta[t] * (1 - eta[t] / 2) * ((lam * M) ** 2).sum()
            for coin, weight in ((0, 1 - p[t]), (1, p[t])):
                gamma = degree / p[t]
                kick = eta[t] * rho[t] * gamma * lam * unit
                grown.append(
                    (
                        chance * weight,
                        (1 - eta[t] * lam) * x - coin * kick,
                        (1 - eta[t] * lam) * M + (coin - p[t]) * kick,
                    )
                )
        leaves = grown
    last = sum(chance * (lam * M**2).sum() for chance, _, M in leaves)
    return average, last


@given(
    st.lists(st.tuples(st.floats(0.1, 1), st.floats(0.05, 1.9), st.floats(0, 2)), min_size=1, max_size=6),
    st.floats(0.05, 1),
)
@settings(max_examples=40)
def test_on_a_quadratic_the_weights_bound_what_the_trials_add(rows, lam):
    """By enumeration of all coins; in one dimension, where every unit vector is 1 or -1, exactly equal."""
    p, eta, rho = map(np.array, zip(*rows, strict=True))
    for spectrum, exact in (([1.0], True), ([lam], True), ([1.0, lam], False)):
        problem = rst.problems.Quadratic(spectrum, start=[1.3, 0.7][: len(spectrum)])
        constants = ProblemConstants(L=1.0)
        arguments = {"steps": len(p), "eta": eta, "rho": rho, "degree": 0.8, "constants": constants}
        measured = added_by_trials(problem, p, eta, rho, 0.8)
        for goal, value in zip(("average", "last_iterate"), measured, strict=True):
            w = trial_weights(goal=goal, spectrum=spectrum, **arguments)
            total = (w**2 * (1 / p - 1)).sum()
            if exact:
                assert value == pytest.approx(total, rel=1e-9, abs=1e-15)
            else:
                assert value <= total * (1 + 1e-9) + 1e-15


def test_the_spectrum_moves_the_budget_to_the_end_of_the_run():
    run = {"steps": 60, "eta": 0.2, "rho": 0.3, "degree": 1.0, "constants": ProblemConstants(L=1.0, mu=0.05)}
    worst = allocate(0.3, goal="last_iterate", **run).values(60)
    followed = allocate(0.3, goal="last_iterate", spectrum=[0.05, 1.0], **run).values(60)
    assert (followed * np.arange(60)).sum() > (worst * np.arange(60)).sum()
    assert followed[-1] == 1.0
    with pytest.raises(DomainError, match=r"^required: eigenvalue spectrum in \[0, 1\]; got 2.0 at t = 0$"):
        allocate(0.3, spectrum=[2.0], **run)
    with pytest.raises(DomainError, match="not all 0"):
        allocate(0.3, spectrum=[0.0], **run)


def test_a_limit_on_the_mixing_coefficient_is_kept():
    found = allocate(0.5, degree=0.6, max_gamma=2.0, **RUN)
    assert rst.matched_gamma(found, 30, 0.6).gamma.max() <= 2.0 * (1 + NUMERIC)
    with pytest.raises(DomainError, match="sum of the least"):
        allocate(0.2, degree=0.6, max_gamma=2.0, **RUN)


def test_no_degree_no_spending():
    degree = rst.Piecewise(0.0, 1.0, 0.5)
    p = allocate(0.25, degree=degree, **RUN).probabilities(30)
    assert (p[:15] == 0).all() and p.sum() == pytest.approx(7.5)
    assert (allocate(0.0, degree=0.0, **RUN).probabilities(30) == 0).all()


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"goal": "both"}, ValueError, "goal must be"),
        ({"budget": 1.5}, DomainError, "probability"),
        ({"budget": 0.0}, DomainError, "budget > 0"),
        ({"eta": 2.0}, DomainError, "0 < eta_t < 2/L"),
        ({"degree": -1.0}, DomainError, "degree"),
        ({"constants": ProblemConstants(L=1.0), "goal": "last_iterate"}, DomainError, "mu > 0"),
        ({"max_gamma": 0.0}, DomainError, r"largest mixing coefficient max_gamma in \(0, inf\); got 0.0$"),
    ],
)
def test_every_argument_of_allocate_is_checked(change, error, message):
    arguments = {"budget": 0.5, "degree": 0.5, **RUN} | change
    with pytest.raises(error, match=message):
        allocate(arguments.pop("budget"), **arguments)


def test_weights_beyond_the_floating_range_are_refused():
    for degree in (1.0, [1.0, 0.0]):  # infinite, and infinite times 0
        with pytest.raises(DomainError, match=r"within the floating range; got inf at t = 1$"):
            trial_weights(
                steps=2, eta=1e200, rho=[0.0, 1e200], degree=degree, constants=ProblemConstants(L=1e-200)
            )


# Pairs to an accuracy


def progress(eta, p, eps, kappa, L, sigma):
    """D of the note, term by term."""
    s = math.sqrt(eps)
    return (
        eta * (1 - L * eta / 2) * eps
        - kappa * L * eta * np.abs(1 - L * eta) * s
        - kappa * L**2 * eta**2 * sigma
        - L * eta**2 / 2 * (sigma**2 + L**2 * kappa**2 / p)
    )


relative = st.floats(1e-3, 0.99)


@given(x=relative, noise=st.floats(0, 5), L=st.floats(0.1, 10), eps=st.floats(1e-4, 100))
@settings(max_examples=60)
def test_no_point_of_a_grid_is_cheaper(x, noise, L, eps):
    kappa, sigma = x * math.sqrt(eps) / L, noise * math.sqrt(eps)
    plan = least_pairs(eps, strength=kappa, constants=ProblemConstants(L=L, sigma=sigma), gap=1.0)
    p, eta = np.geomspace(1e-6, 1, 300)[:, None], np.linspace(0, 2, 402)[1:-1] / L
    D = progress(eta, p, eps, kappa, L, sigma)
    cheapest = ((1 + p) / np.maximum(D, 1e-300)).min()
    assert plan.pairs <= cheapest * (1 + NUMERIC)
    own = (1 + plan.p) / progress(plan.eta, plan.p, eps, kappa, L, sigma)
    assert plan.pairs == pytest.approx(own, rel=1e-8)  # A - B eta loses digits near the floor
    assert plan.pairs == pytest.approx(plan.steps * (1 + plan.p), rel=NUMERIC)


@given(x=relative, noise=st.floats(0, 3), p=st.floats(0.01, 1))
@settings(max_examples=40)
def test_the_plan_meets_the_accuracy_and_no_shorter_run_does(x, noise, p):
    constants = ProblemConstants(L=1.0, sigma=noise)
    plan = least_pairs(1.0, strength=x, constants=constants, gap=5.0, p=p)

    def bound(steps):
        return nonconvex_average.evaluate(
            schedule=p, steps=steps, eta=plan.eta, rho=x, gamma=1 / p, constants=constants, gap=5.0
        )

    if plan.steps < 1e6:
        assert bound(math.ceil(plan.steps * (1 + 1e-9))) <= 1 + NUMERIC
        shorter = math.ceil(plan.steps * (1 - 1e-9)) - 1
        assert shorter < 1 or bound(shorter) > 1 - NUMERIC


@pytest.mark.parametrize("x", [1e-3, 0.1, 0.3, 0.5, 1 / math.sqrt(3) - 1e-9])
def test_the_closed_forms_without_noise(x):
    constants = ProblemConstants(L=2.0)
    arguments = {"strength": x * 0.3 / 2.0, "constants": constants, "gap": 0.7}
    sgd = 2 * 2.0 * 0.7 / 0.09
    best = least_pairs(0.09, **arguments)
    assert best.pairs == pytest.approx(sgd * (x + math.hypot(1, x)) ** 2, rel=1e-9)
    assert best.p == pytest.approx(x**2 + x * math.hypot(1, x), rel=1e-6)
    assert least_pairs(0.09, p=1.0, **arguments).pairs == pytest.approx(sgd * 2 / (1 - x**2), rel=NUMERIC)
    assert least_pairs(0.09, **(arguments | {"strength": 0.0})).pairs == pytest.approx(sgd, rel=NUMERIC)


def test_near_the_floor_the_trial_is_certain():
    assert least_pairs(1.0, strength=0.6, constants=ProblemConstants(L=1.0), gap=1.0).p == 1
    assert least_pairs(1.0, strength=0.57, constants=ProblemConstants(L=1.0), gap=1.0).p < 1


def test_next_to_the_floor_pairs_are_right_or_infinite():
    """1/(1 - x^2) in fractions; B, a difference, rounds to 0 here, and A where no float lies between."""
    for L in (1.0, 2.0):
        for strength in (1 - 12 * 2.0**-53, 1 - 13 * 2.0**-53):
            constants = ProblemConstants(L=L)
            expected = 2 * L * 0.7 * 2 / (1 - Fraction(strength) ** 2)
            for p in (1.0, None):
                plan = least_pairs(1.0, strength=strength / L, constants=constants, gap=0.7, p=p)
                assert plan.pairs == pytest.approx(float(expected), rel=NUMERIC)
    beyond = math.nextafter(1.0, 2.0)
    plan = least_pairs(beyond, strength=1.0, constants=ProblemConstants(L=1.0), gap=1.0)
    assert (plan.pairs, plan.steps, plan.p) == (math.inf, math.inf, 1.0)


def test_special_cases_of_the_best_probability():
    """Without regularization p = 0 may be given, and only then is it best; B0 = A L leaves alpha = 0."""
    constants = ProblemConstants(L=2.0)
    plain = least_pairs(0.09, strength=0.0, constants=constants, gap=0.7, p=0.0)
    assert plain == least_pairs(0.09, strength=0.0, constants=constants, gap=0.7)
    assert (plain.p, plain.pairs) == (0.0, pytest.approx(2 * 2.0 * 0.7 / 0.09, rel=NUMERIC))
    assert 0 < least_pairs(2000.0, strength=3.2e-162, constants=ProblemConstants(L=1.0), gap=1.0).p < 1e-150
    plan = least_pairs(1.0, strength=0.75, constants=ProblemConstants(L=1.0, sigma=0.5), gap=1.0)
    p, eta = np.linspace(1e-3, 1, 500)[:, None], np.linspace(0, 1, 2001)[1:]
    D = progress(eta, p, 1.0, 0.75, 1.0, 0.5)
    assert plan.pairs == pytest.approx(((1 + p) / np.maximum(D, 1e-300)).min(), rel=1e-4)
    assert plan.pairs <= ((1 + p) / np.maximum(D, 1e-300)).min() * (1 + NUMERIC)


def test_a_varying_schedule_is_no_cheaper():
    """The theorem of the note: at a fixed strength the pairs of any schedule that meets eps are no fewer."""
    kappa, gap, sigma = 0.3, 20.0, 0.5
    constants = ProblemConstants(L=1.0, sigma=sigma)
    least = least_pairs(1.0, strength=kappa, constants=constants, gap=gap).pairs
    for schedule in (rst.Linear(0.1, 1.0), rst.Cosine(1.0, 0.2), rst.Piecewise(0.2, 0.9, 0.5)):
        for eta in (rst.Linear(0.5, 0.1), rst.Constant(0.3)):
            for T in (50, 100, 200, 400):
                gamma = 1 / schedule.values(T)
                value = nonconvex_average.evaluate(
                    schedule=schedule, steps=T, eta=eta, rho=kappa, gamma=gamma, constants=constants, gap=gap
                )
                if value <= 1.0:
                    assert T * (1 + schedule.values(T).mean()) >= least


@pytest.mark.parametrize(
    "change, message",
    [
        ({"accuracy": 0.0}, r"^required: accuracy accuracy in \(0, inf\); got 0.0$"),
        ({"accuracy": -1.0}, r"^required: accuracy accuracy in \(0, inf\); got -1.0$"),
        ({"accuracy": 0.01}, "the floor"),
        ({"accuracy": 1.0, "strength": 1.0}, "the floor"),
        ({"strength": -1.0}, r"^required: strength of the regularization strength in \[0, inf\); got -1.0$"),
        ({"p": 0.0}, "p > 0"),
        ({"p": 1.5}, "probability"),
        ({"gap": math.inf}, "gap"),
    ],
)
def test_every_argument_of_least_pairs_is_checked(change, message):
    arguments = {"accuracy": 1.0, "strength": 0.1, "constants": CONSTANTS, "gap": 1.0} | change
    with pytest.raises(DomainError, match=message):
        least_pairs(arguments.pop("accuracy"), **arguments)
