"""The bounds given the trials: what they are, that they hold, and how they compare with the master bound."""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP, z_threshold
from hypothesis import given, settings, strategies as st
from scipy import stats

import rst_theory as rst
from rst_theory.bounds import nonconvex_average, nonconvex_average_unnormalized
from rst_theory.bounds.average import indexed
from rst_theory.bounds.realized import averaged_over_trials, given_trials, nonconvex_average_realized
from rst_theory.notation import Assumption, DomainError, ProblemConstants
from rst_theory.problems import PiecewiseQuadratic, Quadratic, RippledQuadratic

CONSTANTS = ProblemConstants(L=1.0, sigma=0.2)
ARGUMENTS = {"eta": 0.4, "rho": 0.3, "gamma": 1.5, "constants": CONSTANTS, "gap": 1.0}


def reading(function):
    """A bound whose value is a function of the probabilities that it is given."""
    return dataclasses.replace(nonconvex_average, formula=lambda setting: function(setting.p))


def master(U2, C, W):
    return ((math.sqrt(U2) + math.sqrt(U2 + 4 * C)) / 2) ** 2 / W


def constant_terms(eta, rho, gamma, L, sigma):
    """Of constant parameters: what one perturbed step adds to U^2 and C, what each adds, and a."""
    a = eta * (1 - L * eta / 2)
    U2 = (gamma * L * rho * eta * (1 - L * eta)) ** 2 / a
    C = gamma * L**2 * rho * eta**2 * sigma + L * eta**2 / 2 * (gamma * L * rho) ** 2
    return U2, C, L * eta**2 * sigma**2 / 2, a


# Given the trials


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_only_the_perturbed_steps_count(coins):
    """Constant parameters: the bound depends on the number N of perturbed steps alone."""
    T, N = len(coins), sum(coins)
    U2, C, always, a = constant_terms(0.4, 0.3, 1.5, 1.0, 0.2)
    value = given_trials(nonconvex_average, np.array(coins), **ARGUMENTS)
    assert value == pytest.approx(master(N * U2, 1 + N * C + T * always, T * a), rel=NUMERIC)


def test_it_reads_the_coins_of_trials():
    trials = rst.Trials(np.full(20, 0.4), seed=5, kind="systematic")
    value = given_trials(nonconvex_average, trials, **ARGUMENTS)
    assert value == given_trials(nonconvex_average, trials.sequence(), **ARGUMENTS)
    assert value == nonconvex_average.evaluate(
        schedule=rst.Tabulated(tuple(trials.sequence().astype(float))), steps=20, **ARGUMENTS
    )


PROBLEMS = [
    RippledQuadratic(start=[2.2]),
    PiecewiseQuadratic([0.0, 0.3], [0.15, -0.15], left=1.0, right=1.0, start=[0.0]),
    Quadratic([1.0, 0.1], start=[0.5, -2.0]),
]


@given(
    st.sampled_from(PROBLEMS),
    st.lists(
        st.tuples(st.booleans(), st.floats(0.05, 1.9), st.floats(0, 2), st.floats(0, 3)),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=80)
def test_without_noise_it_bounds_the_very_run(problem, rows):
    coins, eta, rho, gamma = map(np.array, zip(*rows, strict=True))
    eta = eta / problem.constants.L
    x, squared = problem.start, []
    for t in range(len(coins)):
        squared.append((problem.gradient(x) ** 2).sum())
        x = rst.step(x, problem.gradient, bool(coins[t]), eta[t], rho[t], gamma[t])
    weights = nonconvex_average.metric.weights(eta, problem.constants.L)
    gap = float(problem.gap(problem.start))
    value = given_trials(
        nonconvex_average, coins, eta=eta, rho=rho, gamma=gamma, constants=problem.constants, gap=gap
    )
    assert weights @ np.array(squared) <= value * (1 + NUMERIC)


@pytest.mark.parametrize("coins, error", [([0, 1], TypeError), ([], TypeError), ([[True]], ValueError)])
def test_coins_are_a_sequence_of_bools(coins, error):
    with pytest.raises(error, match="trials must"):
        given_trials(nonconvex_average, coins, **ARGUMENTS)


# Averaged over the trials


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.sampled_from(["independent", "systematic"]))
@settings(max_examples=60)
def test_every_marginal_is_kept(p, kind):
    for t, chance in enumerate(p):
        mean = averaged_over_trials(
            reading(lambda X, t=t: X[t]), rst.Tabulated(tuple(p)), len(p), kind=kind, **ARGUMENTS
        )
        assert mean.value == pytest.approx(chance, abs=1e-15)
        assert mean.standard_error == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=50)
def test_the_variance_of_independent_and_of_systematic_coins(p):
    S = sum(p)
    variance = {
        "independent": sum(x * (1 - x) for x in p),
        "systematic": (S - math.floor(S)) * (1 - S + math.floor(S)),
    }
    for kind, expected in variance.items():
        square = averaged_over_trials(
            reading(lambda X: X.sum() ** 2), rst.Tabulated(tuple(p)), len(p), kind=kind, **ARGUMENTS
        )
        assert square.value == pytest.approx(S**2 + expected, abs=1e-12)


def test_the_systematic_sequences_are_those_that_trials_draws():
    p = np.array([0.3, 0.55, 0.1, 1.0, 0.25, 0.0, 0.7])
    weights = 2.0 ** np.arange(p.size)
    seen = {float(rst.Trials(p, seed, "systematic").sequence() @ weights) for seed in range(400)}
    numbers = set()
    averaged_over_trials(
        reading(lambda X: numbers.add(float(X @ weights)) or 0.0),
        rst.Tabulated(tuple(p)),
        p.size,
        kind="systematic",
        **ARGUMENTS,
    )
    assert seen == numbers


def test_drawn_sequences_agree_with_the_binomial_law():
    """One comparison at the suite's threshold."""
    T, p = 40, 0.3
    U2, C, always, a = constant_terms(0.4, 0.3, 1.5, 1.0, 0.2)
    N = np.arange(T + 1)
    values = [master(n * U2, 1 + n * C + T * always, T * a) for n in N]
    mean = averaged_over_trials(nonconvex_average, p, T, samples=2000, **ARGUMENTS)
    assert mean.standard_error > 0
    exact = stats.binom.pmf(N, T, p) @ np.array(values)
    assert abs(mean.value - exact) <= z_threshold() * mean.standard_error


def test_the_average_is_exact_up_to_ten_uncertain_trials_and_else_that_of_drawn_ones():
    certain, arguments = (
        (0.0, 1.0),
        {"eta": 0.3, "rho": 0.2, "constants": ProblemConstants(L=1.0), "gap": 1.0},
    )
    few, many = (rst.Tabulated((0.5,) * n + certain) for n in (10, 11))
    assert averaged_over_trials(nonconvex_average, few, 12, **arguments).standard_error == 0
    for samples, seed in ((2, 5), (7, 6)):
        found = averaged_over_trials(nonconvex_average, many, 13, samples=samples, seed=seed, **arguments)
        values = [
            given_trials(
                nonconvex_average, rst.Trials(many.values(13), seed=seed, replica=replica), **arguments
            )
            for replica in range(samples)
        ]
        assert found.value == pytest.approx(statistics.mean(values), rel=ONE_STEP)
        error = statistics.stdev(values) / math.sqrt(samples)
        assert found.standard_error == pytest.approx(error, rel=NUMERIC)
    same = averaged_over_trials(nonconvex_average, many, 13, samples=1000, seed=0, **arguments)
    assert averaged_over_trials(nonconvex_average, many, 13, **arguments) == same


@pytest.mark.parametrize("kind, seed", [("systematic", 1), ("independent", 2)])
def test_the_measured_metric_is_below_the_averaged_bound(kind, seed):
    """A statistical test of two comparisons."""
    problem = RippledQuadratic(dimension=3, noise=0.1)
    L = problem.constants.L
    arguments = {"eta": 0.3 / L, "rho": 0.3, "gamma": 2.0}
    measured = rst.simulate(
        problem, 0.35, steps=30, trials=kind, replicas=512, seed=seed, **arguments
    ).weighted(nonconvex_average)
    gap = float(problem.gap(problem.start))
    bound = averaged_over_trials(
        nonconvex_average,
        0.35,
        30,
        kind=kind,
        samples=200,
        constants=problem.constants,
        gap=gap,
        **arguments,
    )
    assert measured.mean - z_threshold(2) * measured.standard_error <= bound.value
    assert bound.value <= 20 * measured.mean, "so loose that the comparison says nothing"


def test_it_speaks_of_other_bounds_too():
    """Unnormalized ascent, T = 2: the value is gap / (2 min(c_0, 1/(2 L))) for c_0 given X_0."""
    eta, rho, constants = 0.5, 0.4, ProblemConstants(L=1.0)
    a = eta * (1 - eta / 2)
    c = {0: a, 1: a - eta * (1 - eta) * rho - eta**2 / 2 * rho**2}
    p = 0.3
    expected = sum(chance / (2 * min(c[X], 0.5)) for X, chance in ((0, 1 - p), (1, p)))
    mean = averaged_over_trials(
        nonconvex_average_unnormalized, p, 2, eta=eta, rho=rho, constants=constants, gap=1.0
    )
    assert mean.value == pytest.approx(expected, rel=ONE_STEP)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"kind": "periodic"}, ValueError, "kind must be"),
        ({"schedule": 1.5}, DomainError, "probability p"),
        ({"samples": 1}, DomainError, "required: 2 <= samples; got 1"),
        ({"steps": 0}, DomainError, "required: 1 <= steps; got 0"),
        ({"eta": 3.0}, DomainError, "eta_t < 2/L"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        averaged_over_trials(nonconvex_average, **({"schedule": 0.5, "steps": 3} | ARGUMENTS | arguments))


# Against the master bound


@given(
    st.floats(0.01, 1),
    st.integers(1, 10),
    st.floats(0.02, 1.9),
    st.floats(0.01, 3),
    st.floats(0, 1),
    st.floats(0, 2),
    st.sampled_from(["independent", "systematic"]),
)
@settings(max_examples=80)
def test_with_constant_parameters_the_mean_lies_between_two_forms_of_the_master_bound(
    p, T, eta, rho, sigma, gap, kind
):
    arguments = {"eta": eta, "rho": rho, "constants": ProblemConstants(L=1.0, sigma=sigma), "gap": gap}
    mean = averaged_over_trials(nonconvex_average, p, T, kind=kind, **arguments).value
    U2, C, always, a = constant_terms(eta, rho, 1.0, 1.0, sigma)
    below = master(T * p**2 * U2, gap + T * p * C + T * always, T * a)
    above = master(T * p * U2, gap + T * p * C + T * always, T * a)
    assert below * (1 - NUMERIC) <= mean <= above * (1 + NUMERIC) + 1e-15


def test_with_varying_parameters_the_mean_can_be_smaller():
    """A certain perturbed step, then a rare one at eta = 1/L, which enters C alone."""
    arguments = {"eta": [0.1, 1.0], "rho": [3.0, 10.0], "constants": ProblemConstants(L=1.0), "gap": 0.1}
    schedule = rst.Tabulated((1.0, 0.05))
    mean = averaged_over_trials(nonconvex_average, schedule, 2, **arguments).value
    assert mean < 0.99 * nonconvex_average.evaluate(schedule=schedule, steps=2, **arguments)


def test_the_algebra_of_the_comparison():
    """Phi = (s + 2 C + sqrt(s (s + 4 C)))/2, and n sqrt(A + k n) is convex in n >= 0 for A, k >= 0."""
    s, c, n, A, k = sympy.symbols("s C n A kappa", positive=True)
    root = (sympy.sqrt(s) + sympy.sqrt(s + 4 * c)) / 2
    phi = (s + 2 * c + sympy.sqrt(s) * sympy.sqrt(s + 4 * c)) / 2
    assert sympy.expand(root**2 - phi) == 0
    second = sympy.diff(n * sympy.sqrt(A + k * n), n, 2)
    assert sympy.simplify(second - k * (4 * A + 3 * k * n) / (4 * (A + k * n) ** sympy.Rational(3, 2))) == 0


# By their discrepancy


def test_it_carries_what_a_reader_needs(request):
    bound = nonconvex_average_realized
    file, _, anchor = bound.source.partition("#")
    note = (request.config.rootpath / "paper_notes" / file).read_text()
    assert f'<a id="{anchor}"></a>' in note
    assert f"$$\n{bound.latex()}\n$$" in note
    assert Assumption.INDEPENDENT_TRIALS not in bound.assumptions
    assert bound.metric.weights(np.array([0.5, 0.1]), 1.0).sum() == pytest.approx(1.0, rel=ONE_STEP)


def by_parts(p, X, eta, rho, gamma, sigma, gap):
    """The theorem of the note, one step after the other; L = 1."""
    T, R, U2, C, W = len(p), 0.0, 0.0, gap, 0.0
    v = [g * r * e * abs(1 - e) for e, r, g in zip(eta, rho, gamma, strict=True)] + [0.0]
    for t in range(T):
        R += X[t] - p[t]
        a = eta[t] * (1 - eta[t] / 2)
        moved = abs(R) * v[t + 1] * eta[t]
        U2 += (max(0.0, p[t] * v[t] + R * (v[t] - v[t + 1])) + moved) ** 2 / a
        reach = X[t] * gamma[t] * rho[t]
        C += reach * eta[t] ** 2 * sigma + eta[t] ** 2 / 2 * (sigma**2 + reach * gamma[t] * rho[t])
        C += moved * (sigma + reach)
        W += a
    return master(U2, C, W)


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0.02, 1.9), st.floats(0, 2), st.floats(0, 2)),
        min_size=1,
        max_size=8,
    ),
    st.floats(0, 1),
    st.integers(0, 99),
    st.sampled_from(["independent", "systematic"]),
)
def test_its_value_is_the_smaller_of_the_two(rows, sigma, seed, kind):
    p, eta, rho, gamma = map(np.array, zip(*rows, strict=True))
    trials = rst.Trials(p, seed, kind)
    arguments = {"eta": eta, "rho": rho, "gamma": gamma, "gap": 0.7}
    arguments["constants"] = ProblemConstants(L=1.0, sigma=sigma)
    value = nonconvex_average_realized.evaluate(trials=trials, **arguments)
    plain = given_trials(nonconvex_average, trials, **arguments)
    parts = by_parts(p, trials.sequence(), eta, rho, gamma, sigma, 0.7)
    assert value == pytest.approx(min(plain, parts), rel=1e-9)
    certain = rst.Trials(trials.sequence().astype(float))
    assert nonconvex_average_realized.evaluate(trials=certain, **arguments) == pytest.approx(plain, rel=1e-9)


def test_its_symbolic_expression_evaluates_to_the_same_number():
    p, X, eta = [0.4, 0.7, 0.4], [1, 0, 1], [0.25, 0.125, 0.5]
    i = indexed()
    expression = nonconvex_average_realized.expression.subs({i.T: 3, i.L: 1, i.sigma: 0.25, i.gap: 1}).doit()
    v = [0.5 * e * (1 - e) for e in eta] + [0]
    R = np.cumsum(np.array(X) - p)
    tables = {"X": X, "v": v, "R": R, "p": p, r"\eta": eta, r"\rho": [0.25] * 3, r"\gamma": [2.0] * 3}
    indexed_values = {x: tables[str(x.base)][int(x.indices[0])] for x in expression.atoms(sympy.Indexed)}
    expected = by_parts(p, X, eta, [0.25] * 3, [2.0] * 3, 0.25, 1.0)
    assert float(expression.subs(indexed_values)) == pytest.approx(expected, rel=1e-9)


@given(
    st.sampled_from(PROBLEMS),
    st.floats(0.1, 0.9),
    st.floats(0.001, 1),
    st.floats(0.05, 1),
    st.floats(0.5, 4),
    st.integers(1, 60),
    st.integers(0, 9),
)
@settings(max_examples=60)
def test_without_noise_the_discrepancy_bounds_the_very_run(problem, p, eta, rho, gamma, T, seed):
    trials = rst.Trials(np.full(T, p), seed, "systematic")
    eta /= problem.constants.L
    x, total = problem.start, 0.0
    for coin in trials.sequence():
        total += float((problem.gradient(x) ** 2).sum())
        x = rst.step(x, problem.gradient, bool(coin), eta, rho, gamma)
    value = nonconvex_average_realized.evaluate(
        trials=trials,
        eta=eta,
        rho=rho,
        gamma=gamma,
        constants=problem.constants,
        gap=float(problem.gap(problem.start)),
    )
    assert total / T <= value * (1 + NUMERIC)


def test_the_metric_measured_with_systematic_trials_is_below_the_worst_of_their_bounds():
    """One comparison: noisy runs with small steps against the largest bound over their coins."""
    problem = RippledQuadratic(dimension=3, noise=0.1)
    arguments = {"eta": 0.05 / problem.constants.L, "rho": 0.3, "gamma": 2.0}
    measured = rst.simulate(
        problem, 0.25, steps=200, trials="systematic", replicas=256, seed=4, **arguments
    ).weighted(nonconvex_average)
    gap = float(problem.gap(problem.start))
    bound = max(
        nonconvex_average_realized.evaluate(
            trials=rst.Trials(np.full(200, 0.25), 4, "systematic", replica=r),
            constants=problem.constants,
            gap=gap,
            **arguments,
        )
        for r in range(256)
    )
    assert measured.mean - z_threshold() * measured.standard_error <= bound


def test_short_steps_lose_nothing_by_systematic_trials():
    """As eta falls the bound tends to the master bound, which speaks of independent trials."""
    p, T, constants = 0.25, 20_000, ProblemConstants(L=1.0)
    trials = rst.Trials(np.full(T, p), 1, "systematic")
    ratios, plain = [], []
    for eta in (0.1, 0.01, 0.001):
        arguments = {"eta": eta, "rho": 0.3, "gamma": 4.0, "constants": constants, "gap": 0.01 * eta * T}
        independent = nonconvex_average.evaluate(schedule=p, steps=T, **arguments)
        ratios.append(nonconvex_average_realized.evaluate(trials=trials, **arguments) / independent)
        plain.append(given_trials(nonconvex_average, trials, **arguments) / independent)
    assert ratios[0] > ratios[1] > ratios[2]
    assert ratios[2] < 1.01
    assert min(plain) > 2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(0, 1000))
def test_the_discrepancy_of_systematic_trials_stays_below_one(p, seed):
    X = rst.Trials(np.array(p), seed, "systematic").sequence()
    assert (abs(np.cumsum(X - np.array(p))) < 1 + 1e-12).all()


def test_summation_by_parts():
    """sum (X_t - p_t) h_t = sum R_t (h_t - h_{t+1}) with h_T = 0, for T = 4."""
    D, h = sympy.symbols("D0:4"), [*sympy.symbols("h0:4"), 0]
    R = [sum(D[: t + 1]) for t in range(4)]
    parts = sum(R[t] * (h[t] - h[t + 1]) for t in range(4))
    assert sympy.expand(parts - sum(D[t] * h[t] for t in range(4))) == 0


def test_its_mean_over_systematic_trials_is_that_over_their_phases():
    """At p = 1/4 the comb is periodic, with four phases of equal chance."""
    T, arguments = 40, {**ARGUMENTS, "eta": 0.02}
    phases = [np.arange(T) % 4 == phase for phase in range(4)]
    values = [
        nonconvex_average_realized.evaluate(trials=coins, schedule=0.25, **arguments) for coins in phases
    ]
    mean = averaged_over_trials(nonconvex_average_realized, 0.25, T, kind="systematic", **arguments)
    assert mean.value == pytest.approx(np.mean(values), rel=NUMERIC)
    assert mean.standard_error == 0
    plain = averaged_over_trials(nonconvex_average, 0.25, T, kind="systematic", **arguments)
    assert mean.value < plain.value


def test_coins_without_a_schedule_give_the_plain_bound():
    coins = np.array([True, False, False, True])
    value = nonconvex_average_realized.evaluate(trials=coins, **ARGUMENTS)
    assert value == pytest.approx(given_trials(nonconvex_average, coins, **ARGUMENTS), rel=NUMERIC)
    with pytest.raises(TypeError, match="trials must be bools"):
        nonconvex_average_realized.evaluate(trials=[1, 0], **ARGUMENTS)
