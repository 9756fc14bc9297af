"""The bounds as data, their evaluation, the algebra of their proofs, and simulation below them."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP, z_threshold
from hypothesis import given, settings, strategies as st

import rst_theory as rst
from rst_theory.bounds import ALL, Bound, OneStepBound, RunBound, applicable, best
from rst_theory.bounds.average import indexed
from rst_theory.notation import Assumption, DomainError, ProblemConstants
from rst_theory.problems import FlatAndSharp, PiecewiseQuadratic, Quadratic

MANY_STEPS = [bound for bound in ALL.values() if isinstance(bound, RunBound)]
CLOSED = [ALL[f"{name}_average"] for name in ("nonconvex", "sgd", "sam")]
CLOSED.append(ALL["nonconvex_average_unnormalized"])
"""Their expressions are closed but for sums and a minimum; the others' are tested beside their formulas."""

CONSTANTS = ProblemConstants(L=2.0, mu=0.5, sigma=0.3, f_star=0.0)

positive = st.floats(0.01, 10)
probability = st.floats(0, 1)


def run(bound, p, eta, rho, gamma, constants=CONSTANTS, gap=1.5):
    return bound.evaluate(
        schedule=rst.Tabulated(tuple(p)),
        steps=len(p),
        eta=eta,
        rho=rho,
        gamma=gamma,
        constants=constants,
        gap=gap,
    )


# The data of a bound


@pytest.mark.parametrize("bound", ALL.values(), ids=ALL)
def test_a_bound_carries_what_a_reader_needs(bound):
    assert ALL[bound.name] is bound
    assert isinstance(bound, Bound)
    assert bound.kind in ("tight", "upper")
    assert bound.assumptions <= set(Assumption)
    assert isinstance(bound.domain, tuple)
    assert bound.metric.name
    assert r"\le" in bound.latex() or "=" in bound.latex()
    assert bound.expression.free_symbols


# Values


def exact_master(p, eta, rho, gamma, L, sigma, gap):
    """The theorem of paper_notes/master_bound.md, term by term: rationals, and roots in 50 digits."""
    W = U2 = Fraction(0)
    C = Fraction(gap)
    for values in zip(p, eta, rho, gamma, strict=True):
        P, E, R, Y = map(Fraction, values)
        a = E - L * E**2 / 2
        u = P * Y * L * R * E * abs(1 - L * E)
        W, U2 = W + a, U2 + u**2 / a
        C += P * Y * L**2 * R * E**2 * sigma + L * E**2 * (sigma**2 + P * Y**2 * L**2 * R**2) / 2
    with mpmath.workdps(50):
        U2, C, W = (mpmath.mpf(x.numerator) / x.denominator for x in (U2, C, W))
        return float(((mpmath.sqrt(U2) + mpmath.sqrt(U2 + 4 * C)) / 2) ** 2 / W)


@given(
    st.lists(
        st.tuples(probability, st.floats(0.01, 0.99), st.floats(0, 5), st.floats(0, 5)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=60)
def test_master_bound_equals_the_theorem_in_high_precision(rows):
    p, eta, rho, gamma = map(list, zip(*rows, strict=True))
    L, sigma, gap = Fraction(2), Fraction(CONSTANTS.sigma), 1.5
    value = run(rst.bounds.nonconvex_average, p, eta, rho, gamma)
    assert value == pytest.approx(exact_master(p, eta, rho, gamma, L, sigma, gap), rel=NUMERIC)


@pytest.mark.parametrize("bound", CLOSED, ids=lambda b: b.name)
def test_the_symbolic_expression_evaluates_to_the_same_number(bound):
    steps = 3
    p = {"sgd_average": [0.0] * steps, "sam_average": [1.0] * steps}.get(bound.name, [0.25, 1.0, 0.5])
    eta, rho = [0.25, 0.5, 0.125], [0.125, 0.25, 0.0625]
    gamma = [1.0] * steps if bound.name == "sam_average" else [1.0, 0.5, 2.0]
    constants = ProblemConstants(L=2.0, sigma=0.0 if "unnormalized" in bound.name else 0.5)
    i = indexed()
    expression = bound.expression.subs({i.T: steps, i.L: 2, i.sigma: constants.sigma, i.gap: 1.5})
    if "unnormalized" in bound.name:
        least = next(iter(expression.atoms(sympy.core.function.AppliedUndef)))
        term = least.args[0]
        expression = expression.subs(least, sympy.Min(*(term.subs(i.t, t) for t in range(steps))))
    expression = expression.doit()
    table = zip((i.p, i.eta, i.rho, i.gamma), (p, eta, rho, gamma), strict=True)
    for base, values in table:
        expression = expression.subs({base[t]: sympy.Rational(values[t]) for t in range(steps)})
    assert run(bound, p, eta, rho, gamma, constants) == pytest.approx(float(expression), rel=NUMERIC)


def test_the_worked_numbers_of_the_notes():
    constants = ProblemConstants(L=1.0)
    value = rst.bounds.nonconvex_average_unnormalized.evaluate(
        schedule=0.5, steps=4, eta=0.5, rho=0.2, gamma=1.0, constants=constants, gap=1.0
    )
    assert value == pytest.approx(0.7194, abs=5e-5)


@given(eta=st.floats(0.05, 1.95), sigma=st.floats(0, 3), gap=st.floats(0, 10), T=st.integers(1, 50))
def test_without_trials_it_is_the_bound_of_ghadimi_and_lan(eta, sigma, gap, T):
    """Theorem 2.1: sum of (2 eta - L eta^2) E G^2 <= 2 Delta + L sigma^2 sum of eta^2; here L = 1."""
    constants = ProblemConstants(L=1.0, sigma=sigma)
    theirs = (2 * gap + sigma**2 * T * eta**2) / (T * (2 * eta - eta**2))
    arguments = {"steps": T, "eta": eta, "rho": 0.7, "constants": constants, "gap": gap}
    for bound in (rst.bounds.nonconvex_average, rst.bounds.sgd_average):
        assert bound.evaluate(schedule=0.0, **arguments) == pytest.approx(theirs, rel=NUMERIC, abs=1e-300)


def test_sam_is_the_special_case_of_certain_trials():
    arguments = {"steps": 7, "eta": 0.3, "rho": 0.2, "constants": CONSTANTS, "gap": 1.0}
    master = rst.bounds.nonconvex_average.evaluate(schedule=1.0, **arguments)
    assert rst.bounds.sam_average.evaluate(schedule=1.0, **arguments) == master
    with pytest.raises(DomainError, match="p_t = 1"):
        rst.bounds.sam_average.evaluate(schedule=0.5, **arguments)
    with pytest.raises(DomainError, match="gamma_t = 1"):
        rst.bounds.sam_average.evaluate(schedule=1.0, gamma=2.0, **arguments)
    with pytest.raises(DomainError, match=r"p_t = 0; got 0\.5 at t = 0"):
        rst.bounds.sgd_average.evaluate(schedule=0.5, **arguments)


def test_the_floor_is_the_square_of_q_times_smoothness_times_radius():
    constants = ProblemConstants(L=1.0)
    value = rst.bounds.nonconvex_average.evaluate(
        schedule=0.5, steps=10**6, eta=1e-3, rho=0.2, gamma=1.6, constants=constants, gap=1e-3
    )
    assert value == pytest.approx((0.8 * 0.2) ** 2, rel=2e-2)
    assert value > (0.8 * 0.2) ** 2


@pytest.mark.parametrize("q", [0.5, 1.0, 1.5])
def test_a_certain_trial_sits_on_the_floor_of_the_instance_of_the_note(q):
    rho = 0.25
    floor = PiecewiseQuadratic([0.0, rho], [q * rho, (q - 1) * rho], left=1.0, right=1.0, start=[0.0])
    assert floor.constants.L == 1
    run = rst.simulate(floor, 1.0, steps=100, eta=0.3, rho=rho, gamma=q, replicas=1)
    assert run.squared_gradient_norm.mean == pytest.approx(np.full(100, (q * rho) ** 2), rel=ONE_STEP)


# Domains


@pytest.mark.parametrize("eta", [0.0, 1.0, 1.5])
def test_the_step_size_condition_is_named_with_the_value_and_the_step(eta):
    etas = [0.5, eta, 0.5]
    with pytest.raises(DomainError, match=rf"0 < eta_t < 2/L; got {eta} at t = 1"):
        run(rst.bounds.nonconvex_average, [0.5] * 3, etas, 0.1, 1.0)


def test_the_unnormalized_bound_refuses_noise_and_ascent_without_descent():
    bound = rst.bounds.nonconvex_average_unnormalized
    with pytest.raises(DomainError, match=r"sigma = 0; got 0\.3"):
        run(bound, [0.5] * 3, 0.5, 0.1, 1.0)
    with pytest.raises(DomainError, match="c_t > 0"):
        run(bound, [1.0] * 3, 0.5, 10.0, 1.0, ProblemConstants(L=1.0))


def test_one_point_alone_is_bounded_by_smoothness():
    """The squared gradient is at most 2 L (f - f_star), whatever the step that follows."""
    constants = ProblemConstants(L=3.0)
    bound = rst.bounds.nonconvex_average_unnormalized
    assert run(bound, [1.0], 5.0, 4.0, 2.0, constants, gap=0.7) == pytest.approx(2 * 3 * 0.7, rel=ONE_STEP)


def test_the_last_step_need_not_descend():
    constants = ProblemConstants(L=1.0)
    bound = rst.bounds.nonconvex_average_unnormalized
    assert run(bound, [0.0, 1.0], 1.0, 3.0, 1.0, constants, gap=1.0) == pytest.approx(1.0, rel=ONE_STEP)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"gap": -1.0}, "initial gap gap"),
        ({"gap": math.nan}, "initial gap gap"),
        ({"steps": 0}, "steps"),
        ({"rho": -0.1}, "radius rho"),
        ({"gamma": math.inf}, "mixing coefficient gamma"),
        ({"schedule": 1.5}, "probability p"),
        ({"schedule": rst.Linear(0.5, 1.5)}, "probability p"),
    ],
)
def test_every_argument_is_checked(arguments, message):
    good = {"schedule": 0.5, "steps": 5, "eta": 0.1, "rho": 0.1, "constants": CONSTANTS, "gap": 1.0}
    with pytest.raises(DomainError, match=message):
        rst.bounds.nonconvex_average.evaluate(**(good | arguments))


@pytest.mark.parametrize("bound", MANY_STEPS, ids=lambda b: b.name)
@pytest.mark.parametrize("change", [{"rho": 1e160}, {"gamma": 1e200}, {"rho": 1e-200}, {"gap": 1e300}])
def test_extreme_numbers_give_a_number_or_say_so(bound, change):
    certain = {"sgd_average": 0.0, "gradient_descent_last_iterate": 0.0, "sam_average": 1.0}
    arguments = {"eta": 0.3, "rho": 0.1, "gamma": 1.0, "gap": 1.0, "distance": 1.0} | change
    constants = ProblemConstants(L=1.0, mu=0.2)
    try:
        value = bound.evaluate(
            schedule=certain.get(bound.name, 0.5), steps=3, constants=constants, **arguments
        )
    except DomainError:
        return
    assert value >= 0  # a number, or infinite; never NaN


# Which apply


def test_applies_to_reads_the_assumptions():
    noisy, exact = Quadratic([1.0, 0.5], noise=0.1), Quadratic([1.0, 0.5])
    assert rst.bounds.nonconvex_average.applies_to(noisy)
    assert not rst.bounds.nonconvex_average_unnormalized.applies_to(noisy)
    assert rst.bounds.nonconvex_average_unnormalized.applies_to(exact)
    assert rst.bounds.one_step_convex.applies_to(exact)
    assert not rst.bounds.one_step_strongly_convex.applies_to(Quadratic([1.0, 0.0]))


def test_best_is_the_smallest_that_holds_and_says_why_there_is_none(monkeypatch):
    exact = Quadratic([1.0, 0.5])
    arguments = {"steps": 10, "eta": 0.5, "rho": 0.6, "gap": 1.0}
    assert best(exact, schedule=0.5, **arguments).bound is rst.bounds.nonconvex_average_majorant
    chosen = best(exact, schedule=0.5, ascent="unnormalized", **arguments)
    assert chosen.bound is rst.bounds.nonconvex_potential_unnormalized
    assert chosen.value == chosen.bound.evaluate(schedule=0.5, constants=exact.constants, **arguments)
    smaller = dataclasses.replace(chosen.bound, name="smaller", formula=lambda s: chosen.value / 2)
    monkeypatch.setitem(ALL, "smaller", smaller)
    found = best(exact, schedule=0.5, ascent="unnormalized", **arguments)
    assert found == (smaller, chosen.value / 2)
    with pytest.raises(DomainError, match="eta_t < 2/L"):
        best(exact, schedule=0.5, **(arguments | {"eta": 3.0}))
    with pytest.raises(DomainError, match="assumes CONVEX"):
        best(FlatAndSharp(), schedule=0.5, quantity="gap", **arguments)
    with pytest.raises(ValueError, match="quantity must be one of squared_gradient_norm"):
        best(exact, schedule=0.5, quantity="loss", **arguments)


def test_those_that_apply_come_smallest_first():
    exact = Quadratic([1.0, 0.5])
    arguments = {"schedule": 0.5, "steps": 4, "eta": 0.5, "rho": 0.1, "gap": 1.0, "distance": 2.0}
    found = applicable(exact, **arguments)
    values = [candidate.value for candidate in found]
    assert values == sorted(values)
    names = {candidate.bound.name for candidate in found}
    over_runs = {b.name for b in MANY_STEPS if b.ascent == "normalized"}
    assert names == over_runs - {"sgd_average", "sam_average"}  # p is neither 0 nor 1
    last = applicable(exact, quantity="final_gap", **arguments)
    assert {candidate.bound.metric.quantity for candidate in last} == {"final_gap"}
    assert last[0] == best(exact, quantity="final_gap", **arguments)


# The algebra of the proofs (paper_notes/master_bound.md)


def test_step_3_the_mean_and_mean_square_of_the_direction():
    p, gamma, g, delta = sympy.symbols("p gamma g delta", real=True)
    q = p * gamma

    def mean(function):
        return (1 - p) * function(g) + p * function(g + gamma * delta)

    assert sympy.expand(mean(lambda d: d) - (g + q * delta)) == 0
    assert sympy.expand(mean(lambda d: d**2) - (g**2 + 2 * q * g * delta + q * gamma * delta**2)) == 0


def test_steps_4_and_5_collect_the_cross_term():
    eta, L, n, nabla, delta, q, gamma = sympy.symbols("eta L n nabla delta q gamma", real=True)
    g = nabla + n
    descent = -eta * nabla * (g + q * delta) + L * eta**2 / 2 * (
        g**2 + 2 * q * g * delta + q * gamma * delta**2
    )
    a = eta * (1 - L * eta / 2)
    collected = (
        -a * nabla**2
        + L * eta**2 / 2 * n**2
        - eta * q * ((1 - L * eta) * nabla - L * eta * n) * delta
        + L * eta**2 / 2 * q * gamma * delta**2
        - (eta - L * eta**2) * nabla * n  # of mean zero over the minibatch
    )
    assert sympy.expand(descent - collected) == 0


def test_step_8_the_larger_root_and_the_rate():
    U, c = sympy.symbols("U C", nonnegative=True)
    root = (U + sympy.sqrt(U**2 + 4 * c)) / 2
    assert sympy.simplify(root**2 - U * root - c) == 0
    difference = sympy.expand(U**2 + 2 * c - root**2)
    square = sympy.expand((sympy.sqrt(U**2 + 4 * c) - U) ** 2 / 4)
    assert sympy.simplify(difference - square) == 0  # so root^2 <= U^2 + 2 C


def test_the_rate_of_the_notes_bounds_the_bound():
    """eta, rho ~ 1/sqrt(t + 1): the closed rate of the section on consequences is above the bound."""
    L, sigma, gap, eta0, rho0, q, gamma = 1.0, 0.4, 1.0, 0.8, 0.5, 0.5, 1.0
    for T in (1, 10, 100, 10_000):
        value = rst.bounds.nonconvex_average.evaluate(
            schedule=q / gamma,
            steps=T,
            eta=rst.InverseSqrt(eta0),
            rho=rst.InverseSqrt(rho0),
            gamma=gamma,
            constants=ProblemConstants(L=L, sigma=sigma),
            gap=gap,
        )
        U2 = 3 * q**2 * L**2 * rho0**2 * eta0
        total = (
            gap
            + 3 * q * L**2 * rho0 * eta0**2 * sigma
            + L * eta0**2 * sigma**2 / 2 * (1 + math.log(T))
            + L**3 * eta0**2 * rho0**2 * q * gamma
        )
        assert value <= (U2 + 2 * total) / (eta0 * (math.sqrt(T + 1) - 1))


# Simulation below the bound


@given(
    st.lists(st.floats(0.02, 1.0), min_size=1, max_size=3),
    st.lists(
        st.tuples(probability, st.floats(0.05, 1.9), st.floats(0, 2), st.floats(0, 3)), min_size=1, max_size=4
    ),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
@settings(max_examples=40)
def test_exact_expectation_over_all_trials_is_below_the_bound(spectrum, rows, start):
    """The whole tree of trials is enumerated, so no statistics are involved."""
    problem = Quadratic([1.0, *spectrum])
    x0 = np.resize(start, problem.dimension)
    p, eta, rho, gamma = map(list, zip(*rows, strict=True))
    T = len(p)
    squared = np.zeros(T)
    leaves = [(1.0, x0)]
    for t in range(T):
        squared[t] = sum(weight * (problem.gradient(x) ** 2).sum() for weight, x in leaves)
        leaves = [
            (weight * chance, rst.step(x, problem.gradient, coin, eta[t], rho[t], gamma[t]))
            for weight, x in leaves
            for coin, chance in ((False, 1 - p[t]), (True, p[t]))
        ]
    bound = rst.bounds.nonconvex_average
    weights = bound.metric.weights(np.array(eta), 1.0)
    gap = float(problem.gap(x0))
    value = run(bound, p, eta, rho, gamma, problem.constants, gap)
    assert weights.sum() == pytest.approx(1.0, rel=NUMERIC)
    # The two sides can be equal (SGD on a quadratic of curvature L), up to the rounding of each.
    assert weights @ squared <= value * (1 + NUMERIC) + 1e-300


@pytest.mark.parametrize("name", ["quadratic", "flat-and-sharp", "rippled"])
@pytest.mark.parametrize("p, gamma", [(0.0, 1.0), (0.5, 1.0), (0.5, 2.0), (1.0, 1.0)])
def test_measured_metric_is_below_the_bound(name, p, gamma):
    """A statistical test: fails falsely with probability at most COMPARISON_ALARM over its 12 cases."""
    problem = rst.problems.BY_NAME[name]()
    L = problem.constants.L
    arguments = {"steps": 100, "eta": 0.3 / L, "rho": 0.2, "gamma": gamma}
    measured = rst.simulate(problem, p, replicas=256, seed=3, **arguments).weighted(
        rst.bounds.nonconvex_average
    )
    bound = rst.bounds.nonconvex_average.evaluate(
        schedule=p, constants=problem.constants, gap=float(problem.gap(problem.start)), **arguments
    )
    assert measured.mean - z_threshold(12) * measured.standard_error <= bound
    assert bound <= 20 * measured.mean, "so loose that the comparison says nothing"


def test_a_bound_on_one_step_is_no_sum_over_a_run():
    run = rst.simulate(Quadratic([1.0]), 0.5, steps=2, eta=0.1, rho=0.1, replicas=2)
    with pytest.raises(ValueError, match="not a weighted sum"):
        run.weighted(rst.bounds.one_step_smooth)
    assert isinstance(rst.bounds.one_step_smooth, OneStepBound)


# Published bounds for p = 1, number against number


@given(
    e=st.floats(0.01, 1),
    rho=st.floats(0, 10),
    T=st.integers(1, 10_000),
    gap=st.floats(1e-3, 100),
)
def test_sam_is_never_worse_than_the_classical_argument(e, rho, T, gap):
    """Si & Yun (arXiv 2306.09850) and others: eta <= 1/L, without noise, from
    f(x+) <= f - (eta/2) ||grad f||^2 + (eta/2) ||g_adv - grad f||^2, with L = 1."""
    arguments = {"schedule": 1.0, "steps": T, "eta": e, "rho": rho, "constants": ProblemConstants(L=1.0)}
    classical = 2 * gap / (e * T) + rho**2
    assert rst.bounds.sam_average.evaluate(gap=gap, **arguments) <= classical * (1 + NUMERIC)


@given(e=st.floats(0.01, 1), rho=st.floats(0, 0.99), T=st.integers(1, 50), gap=st.floats(1e-3, 100))
def test_unnormalized_sam_is_never_worse_than_the_classical_argument(e, rho, T, gap):
    """The same with ||g_adv - grad f|| <= L rho ||grad f||, as for USAM in arXiv 2206.06232; L = 1."""
    arguments = {"schedule": 1.0, "steps": T, "eta": e, "rho": rho, "constants": ProblemConstants(L=1.0)}
    classical = 2 * gap / (e * T * (1 - rho**2))
    bound = rst.bounds.nonconvex_average_unnormalized
    assert bound.evaluate(gap=gap, **arguments) <= classical * (1 + NUMERIC)
