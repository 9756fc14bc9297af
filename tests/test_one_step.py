"""The one-step values against semidefinite programs, the instances that attain them, and their proofs."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP, SEMIDEFINITE
from hypothesis import assume, example, given, settings, strategies as st
from PEPit import PEP
from PEPit.functions import SmoothConvexFunction, SmoothFunction, SmoothStronglyConvexFunction
from scipy.optimize import minimize_scalar

import rst_theory as rst
from rst_theory import method
from rst_theory.bounds import one_step
from rst_theory.bounds.one_step import (
    Regime,
    one_step_convex,
    one_step_convex_unnormalized,
    one_step_noisy,
    one_step_noisy_unnormalized,
    one_step_smooth,
    one_step_smooth_unnormalized,
    one_step_strongly_convex,
    one_step_strongly_convex_unnormalized,
    worst_function,
)
from rst_theory.notation import QUANTITIES, DomainError, ProblemConstants

NORMALIZED = [one_step_smooth, one_step_convex, one_step_strongly_convex]
UNNORMALIZED = [
    one_step_smooth_unnormalized,
    one_step_convex_unnormalized,
    one_step_strongly_convex_unnormalized,
]
NOISY = [one_step_noisy, one_step_noisy_unnormalized]

# One step in units: e = eta L, r = G/(gamma L rho), gamma; the plane that the regimes lie in.
planes = st.tuples(st.floats(0.01, 1.9), st.floats(0.0, 1.4), st.floats(0.05, 12))


def in_units(e, r, gamma, p=1.0, L=1.0, rho=1.0):
    """The arguments of `evaluate`."""
    return {"p": p, "eta": e / L, "rho": rho, "gamma": gamma, "gradient_norm": r * gamma * L * rho}


# Semidefinite programs


def program(mu, p, eta, rho, gamma, G, L=1.0, ascent="normalized"):
    """The worst expected change of f by semidefinite programming; mu = None for the nonconvex class."""
    pep = PEP()
    if mu is None:
        f = pep.declare_function(SmoothFunction, L=L)
    elif mu == 0:
        f = pep.declare_function(SmoothConvexFunction, L=L)
    else:
        f = pep.declare_function(SmoothStronglyConvexFunction, L=L, mu=mu)
    x = pep.set_initial_point()
    g, value = f.oracle(x)
    g_adv = f.gradient(method.ascend(x, g, rho, norm=G) if ascent == "normalized" else x + rho * g)
    pep.set_initial_condition(g**2 == G**2)
    unperturbed, perturbed = f(x - eta * g), f(x - eta * method.direction(g, g_adv, gamma))
    pep.set_performance_metric((1 - p) * unperturbed + p * perturbed - value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the solver speaks of accuracies beyond the one compared at
        return pep.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)


def closed_forms(e, h, gamma):
    """The candidates of the table of paper_notes/one_step.md that are feasible, by their regime."""
    u, D, b = e * gamma, e * (gamma - h), -e * (1 - e / 2) * h**2
    if e >= 1 or h >= gamma:
        return {Regime.DESCENT: b + u * abs(1 - e) * h + u**2 / 2}
    k = 1 + 1 / (2 * u)
    d = (h + k * D / u) / (2 * k**2 - 1)
    A, slope = 1 / 2 - 1 / u - 1 / (4 * u**2), h - 2 + D / u + D / (2 * u**2)
    candidates = {Regime.OVERSHOOT: b - u * (1 - e) * h + u**2 / 2}
    if d <= min(1, D):
        candidates[Regime.INTERIOR] = (2 * (u * h) ** 2 + 2 * (2 * u + 1) * h * D + D**2) / (
            2 * (2 * u**2 + 4 * u + 1)
        )
    if D <= 1 and d >= D:
        candidates[Regime.SHORT] = h * D - D**2 / 2
    if D > 1:
        candidates[Regime.LONG] = h * D + D**2 / 2 - 2 * D + 1
        if u < 1 + math.sqrt(1.5) and 1 <= -slope / (2 * A) <= D:
            candidates[Regime.SLIVER] = 1 - D**2 / (4 * u**2) - slope**2 / (4 * A)
    return candidates


def points(per_regime=6):
    """Random settings until every regime has this many."""
    rng = np.random.default_rng(7)
    found = {name: [] for name in Regime}
    while min(map(len, found.values())) < per_regime:
        rho, gamma = rng.uniform(0.3, 2), rng.uniform(0.2, 8)
        eta = rng.uniform(0.05, 1.9)
        G = rho * gamma * rng.uniform(0, 1.3)
        candidates = closed_forms(eta, G / rho, gamma)
        name = max(candidates, key=candidates.get)
        if len(found[name]) < per_regime:
            found[name].append((rng.uniform(0, 1), eta, rho, gamma, G))
    return [pytest.param(*values, id=name.name) for name, rows in found.items() for values in rows]


@pytest.mark.parametrize("p, eta, rho, gamma, G", points())
def test_smooth_formula_equals_the_program(p, eta, rho, gamma, G):
    value = one_step_smooth.evaluate(
        p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=G, constants=ProblemConstants(L=1.0)
    )
    scale = max(abs(value), 0.1 * rho**2)  # where descent and ascent cancel the value is no scale
    assert value == pytest.approx(program(None, p, eta, rho, gamma, G), abs=SEMIDEFINITE * scale)


@pytest.mark.parametrize("mu", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("seed", range(6))
def test_convex_formula_equals_the_program_at_any_step_size(mu, seed):
    rng = np.random.default_rng(seed)
    p, eta, rho = (
        rng.uniform(0, 1),
        rng.uniform(0.05, 2) if seed < 3 else rng.uniform(2, 5),
        rng.uniform(0.1, 2),
    )
    gamma, G = rng.uniform(0.1, 3), rng.uniform(0, 2)
    bound = one_step_convex if mu == 0 else one_step_strongly_convex
    value = bound.evaluate(
        p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=G, constants=ProblemConstants(L=1.0, mu=mu)
    )
    scale = max(abs(value), 0.1 * rho**2)
    assert value == pytest.approx(program(mu, p, eta, rho, gamma, G), abs=SEMIDEFINITE * scale)


@pytest.mark.parametrize(
    "bound, mu, eta, rho, gamma",
    [
        (one_step_smooth_unnormalized, None, 0.5, 0.4, 1.0),
        (one_step_smooth_unnormalized, None, 0.5, 2.0, 1.5),
        (one_step_smooth_unnormalized, None, 0.7, 3.0, 4.0),
        (one_step_smooth_unnormalized, None, 1.3, 0.5, 2.0),
        (one_step_convex_unnormalized, 0.0, 0.8, 2.0, 3.0),
        (one_step_strongly_convex_unnormalized, 0.3, 0.6, 0.7, 1.0),
        (one_step_strongly_convex_unnormalized, 0.3, 2.5, 0.7, 1.0),
    ],
)
def test_unnormalized_formulas_equal_the_program(bound, mu, eta, rho, gamma):
    p, G = 0.4, 0.7
    value = bound.evaluate(
        p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=G, constants=ProblemConstants(L=1.0, mu=mu or 0.0)
    )
    scale = max(abs(value), 0.1 * (rho * G) ** 2)
    worst = program(mu, p, eta, rho, gamma, G, ascent="unnormalized")
    assert value == pytest.approx(worst, abs=SEMIDEFINITE * scale)


# The instances that attain the values


def expected_change(f, x, p, eta, rho, gamma, ascent="normalized"):
    return sum(
        chance * float(f.value(rst.step(x, f.gradient, coin, eta, rho, gamma, ascent)) - f.value(x))
        for coin, chance in ((True, p), (False, 1 - p))
    )


def test_without_a_coefficient_the_worst_function_is_that_of_an_unmixed_step():
    run, x = {"eta": 0.4, "rho": 1.0, "gradient_norm": 0.3, "L": 1.0}, np.linspace(-1, 2, 9)[:, None]
    assert worst_function(**run).value(x).tolist() == worst_function(gamma=1.0, **run).value(x).tolist()
    assert worst_function(**run).value(x).tolist() != worst_function(gamma=2.0, **run).value(x).tolist()


@given(planes, st.floats(0, 1), st.floats(0.1, 5), st.floats(0.1, 5))
@example((0.5, 1.2, 1.0), 0.3, 1.0, 1.0)
@example((1.5, 0.5, 1.0), 0.3, 1.0, 1.0)
@example((0.9, 0.1, 1.0), 0.3, 1.0, 1.0)
@example((0.3, 0.9, 2.0), 0.3, 1.0, 1.0)
@example((0.5, 0.6, 8.0), 0.3, 1.0, 1.0)
@example((0.3, 0.2, 1.0), 0.3, 1.0, 1.0)
@example((0.48, 0.335, 4.0), 0.3, 1.0, 1.0)
def test_the_smooth_value_is_attained_by_the_worst_function(plane, p, L, rho):
    arguments = in_units(*plane, p, L, rho)
    value = one_step_smooth.evaluate(constants=ProblemConstants(L=L), **arguments)
    f = worst_function(L=L, **{key: arguments[key] for key in arguments if key != "p"})
    G = arguments.pop("gradient_norm")
    assert f.gradient(f.start) == pytest.approx(G, rel=NUMERIC)
    shortest = np.diff(f.knots, prepend=-np.inf).min()  # the slopes between the knots are rounded
    assert abs(f.constants.L - L) <= NUMERIC * L + 1e-15 * (G + L * rho) / shortest
    u = arguments["eta"] * arguments["gamma"] * L
    largest = L * (rho * (1 + u) + G / L) ** 2  # of the terms, which may cancel
    assert expected_change(f, f.start, **arguments) == pytest.approx(value, abs=ONE_STEP * largest)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=4), planes, st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_no_quadratic_of_either_sign_of_curvature_does_worse(spectrum, plane, p, seed):
    rng = np.random.default_rng(seed)
    eigenvalues = np.array(spectrum)
    e, r, gamma = plane
    unit = rng.normal(size=eigenvalues.size)
    unit /= np.linalg.norm(unit)
    arguments = in_units(e, r, gamma, p)
    g = arguments["gradient_norm"] * unit

    def change(d):
        move = -e * d
        return g @ move + move @ (eigenvalues * move) / 2

    if arguments["gradient_norm"] > 0:
        perturbed = g + gamma * eigenvalues * unit
        value = one_step_smooth.evaluate(constants=ProblemConstants(L=1.0), **arguments)
        assert p * change(perturbed) + (1 - p) * change(g) <= value + ONE_STEP * (1 + gamma * (1 + e)) ** 2


@pytest.mark.parametrize("bound, j", [(one_step_convex, 0.0), (one_step_strongly_convex, 0.3)])
@pytest.mark.parametrize(
    "eta, gamma", [(0.1, 1.0), (0.6, 0.5), (0.6, 4.0), (1.7, 1.0), (2.5, 1.0), (4.0, 2.0)]
)
def test_the_convex_values_are_attained_by_the_instances_of_the_note(bound, j, eta, gamma):
    p, rho, G = 0.3, 0.4, 1.0
    value = bound.evaluate(
        p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=G, constants=ProblemConstants(L=1.0, mu=j)
    )
    changes = [
        expected_change(
            rst.problems.PiecewiseQuadratic([0.0], [G], left=1.0, right=slope, start=[0.0]),
            np.zeros(1),
            p,
            eta,
            rho,
            gamma,
        )
        for slope in (j, 1.0)
    ]
    assert max(changes) == pytest.approx(value, rel=NUMERIC)


# Other forms of the same numbers


@given(planes)
@settings(max_examples=300)
def test_the_smooth_value_is_the_largest_of_the_closed_forms_and_the_regime_names_it(plane):
    e, r, gamma = plane
    h = r * gamma
    candidates = closed_forms(e, h, gamma)
    largest = max(candidates.values())
    value = one_step_smooth.evaluate(constants=ProblemConstants(L=1.0), **in_units(*plane))
    assume(h > 0)
    scale = (1 + gamma + h) ** 2
    assert value == pytest.approx(largest, abs=NUMERIC * scale)
    named = one_step.regime(e, h, gamma)
    if named in candidates:
        assert candidates[named] == pytest.approx(largest, abs=NUMERIC * scale)
    else:  # at the edge of a regime, up to rounding
        assert any(
            named in closed_forms(e * (1 + s), h * (1 + t), gamma)
            for s, t in itertools.product((-1e-7, 1e-7), repeat=2)
        )


def dual(tau, e, h, gamma):
    """M(tau) of the note: the bound on f(z) that the weights 1 - tau, tau, tau prove, in any dimension."""
    u, b = e * gamma, -e * (1 - e / 2) * h**2
    C = b + tau * (e * h + 1 / 2) + tau**2 / 4
    slope = u * (1 - e) * h - tau * (u - e * h) + tau**2 / 2
    kappa = u**2 / 2 - tau * (u + 1 / 2) + tau**2 / 4
    if kappa + abs(slope) / 2 >= 0:
        return C + abs(slope) + kappa
    return C - slope**2 / (4 * kappa)


@given(planes)
@settings(max_examples=200)
def test_the_multipliers_of_the_note_prove_the_smooth_value(plane):
    e, r, gamma = plane
    h = r * gamma
    assume(h > 0)
    value = one_step_smooth.evaluate(constants=ProblemConstants(L=1.0), **in_units(*plane))
    scale = (1 + gamma + h) ** 2
    best = minimize_scalar(
        dual, args=(e, h, gamma), bounds=(0, 1), method="bounded", options={"xatol": 1e-12}
    )
    proved = min(best.fun, dual(0.0, e, h, gamma), dual(1.0, e, h, gamma))
    assert proved == pytest.approx(value, abs=NUMERIC * scale)


@pytest.mark.parametrize(
    "regime, tau, plane",
    [
        (Regime.DESCENT, lambda s, z: 0, (0.4, 1.2, 1.5)),
        (Regime.DESCENT, lambda s, z: 0, (1.4, 0.2, 1.5)),
        (Regime.SHORT, lambda s, z: z, (0.3, 0.9, 2.0)),
        (Regime.LONG, lambda s, z: 1, (0.5, 0.6, 8.0)),
        (Regime.INTERIOR, lambda s, z: (z - s) / (1 - s), (0.3, 0.2, 1.0)),
        (Regime.SLIVER, lambda s, z: 1, (0.48, 0.335, 4.0)),
    ],
)
def test_the_weight_of_each_regime(regime, tau, plane):
    e, r, gamma = plane
    h = r * gamma
    assert one_step.regime(e, h, gamma) is regime
    u, D = e * gamma, e * (gamma - h)
    s = {
        Regime.INTERIOR: ((1 + u) * D - u * h) / (2 * u**2 + 4 * u + 1),
        Regime.SLIVER: (u * (2 - h) + (1 - u) * D) / (1 + 4 * u - 2 * u**2),
    }.get(regime, 0.0)
    value = one_step_smooth.evaluate(constants=ProblemConstants(L=1.0), **in_units(*plane))
    assert dual(tau(s, D - 2 * u * s), e, h, gamma) == pytest.approx(value, rel=NUMERIC)


@pytest.mark.parametrize("bound", [*NORMALIZED, *UNNORMALIZED, *NOISY], ids=lambda b: b.name)
@pytest.mark.parametrize(
    "eta, gamma, G", [(0.25, 1.0, 0.1), (0.4, 5.0, 0.6), (0.75, 1.5, 0.4), (1.25, 0.5, 2.0)]
)
def test_the_symbolic_expression_evaluates_to_the_same_number(bound, eta, gamma, G):
    sigma = 0.5 if bound in NOISY else 0.0
    numbers = {"p": 0.375, "eta": eta, "rho": 0.5, "gamma": gamma, "gradient_norm": G}
    letters = {QUANTITIES[key].symbol: value for key, value in numbers.items()}
    letters |= {QUANTITIES["L"].symbol: 1.5, QUANTITIES["mu"].symbol: 0.25, QUANTITIES["sigma"].symbol: sigma}
    expression = bound.expression.subs(letters)
    for worst in expression.atoms(sympy.core.function.AppliedUndef):  # the maximum over the turning point
        (turn,) = worst.free_symbols
        pieces = worst.args[0].rewrite(sympy.Piecewise)  # SymPy 1.13 writes no maxima of arrays
        change = sympy.lambdify(turn, pieces, "numpy")
        turns = np.linspace(0, 0.5, 200_001)
        expression = expression.subs(worst, change(turns).max())
    value = bound.evaluate(constants=ProblemConstants(L=1.5, mu=0.25, sigma=sigma), **numbers)
    assert value == pytest.approx(float(expression), abs=1e-9)


sizes = st.one_of(st.just(0.0), st.sampled_from([5e-324, 1e-200, 1e-20]), st.floats(0.001, 20))


@given(st.floats(0, 1), sizes, sizes, sizes, sizes, st.floats(0.01, 1))
@settings(max_examples=300)
def test_a_smaller_class_has_a_smaller_value(p, eta, rho, gamma, G, mu):
    arguments = {"p": p, "eta": eta, "rho": rho, "gamma": gamma, "gradient_norm": G}
    for chain in (NORMALIZED, UNNORMALIZED):
        noisy = NOISY[chain is UNNORMALIZED]
        constants = ProblemConstants(L=1.0, mu=mu)
        ascending = [bound.evaluate(constants=constants, **arguments) for bound in (*chain[::-1], noisy)]
        radius = rho * (G if chain is UNNORMALIZED else 1)
        rounding = NUMERIC * ((1 + eta) * G + eta * gamma * radius) ** 2
        assert all(a <= b + rounding for a, b in itertools.pairwise(ascending))


@pytest.mark.parametrize("plane", [(0.3, 0.9, 2.0), (0.5, 0.6, 8.0), (0.9, 0.1, 1.0)])
def test_by_how_much_the_descent_lemma_alone_exceeds_the_value(plane):
    (e, r, gamma), p, rho = plane, 0.4, 0.7
    u, h, D = e * gamma, r * gamma, e * gamma * (1 - r)
    excess = {Regime.SHORT: D**2, Regime.LONG: 2 * D - 1, Regime.OVERSHOOT: 2 * u * (1 - e) * h}
    arguments = in_units(*plane, p, rho=rho) | {"constants": ProblemConstants(L=1.0)}
    difference = one_step_noisy.evaluate(**arguments) - one_step_smooth.evaluate(**arguments)
    assert difference == pytest.approx(p * rho**2 * excess[one_step.regime(e, h, gamma)], rel=NUMERIC)


@pytest.mark.parametrize("bound", UNNORMALIZED, ids=lambda b: b.name)
@pytest.mark.parametrize("G", [0.0, 1e-100, 0.3, 2.0])
def test_unnormalized_values_are_those_of_the_radius_rho_times_G(bound, G):
    normalized = NORMALIZED[UNNORMALIZED.index(bound)]
    constants = ProblemConstants(L=2.0, mu=0.5)
    arguments = {"p": 0.6, "eta": 0.35, "gamma": 3.0, "gradient_norm": G, "constants": constants}
    expected = normalized.evaluate(rho=0.8 * G, **arguments)
    assert bound.evaluate(rho=0.8, **arguments) == pytest.approx(expected, rel=ONE_STEP, abs=0)


@pytest.mark.parametrize("bound", [*NORMALIZED, *UNNORMALIZED, *NOISY])
def test_degenerate_parameters_leave_the_step_of_gradient_descent(bound):
    constants = ProblemConstants(L=2.0, mu=0.5)
    expected = -0.3 * (1 - 0.3) * 4.0
    for change in ({"p": 0.0}, {"rho": 0.0}, {"gamma": 0.0}):
        arguments = {"p": 0.5, "eta": 0.3, "rho": 0.2, "gamma": 1.0, "gradient_norm": 2.0} | change
        assert bound.evaluate(constants=constants, **arguments) == pytest.approx(expected, rel=1e-12)
    still = bound.evaluate(p=0.5, eta=0.0, rho=0.2, gradient_norm=2.0, constants=constants)
    assert still == 0


@pytest.mark.parametrize("bound", [*NORMALIZED, *UNNORMALIZED])
def test_a_zero_gradient_moves_nothing(bound):
    constants = ProblemConstants(L=2.0, mu=0.5)
    assert bound.evaluate(p=0.5, eta=0.7, rho=0.2, gradient_norm=0.0, constants=constants) == 0


@pytest.mark.parametrize(
    "change",
    [{"rho": 1e-160}, {"rho": 5e-324}, {"eta": 1e-200}, {"gamma": 1e-300}, {"gradient_norm": 1e-150}],
)
def test_tiny_parameters_give_numbers(change):
    arguments = {"p": 0.5, "eta": 0.3, "rho": 0.2, "gamma": 1.0, "gradient_norm": 0.1} | change
    value = one_step_smooth.evaluate(constants=ProblemConstants(L=1.0), **arguments)
    assert math.isfinite(value)
    bound = 0.5 * 0.2**2  # what the descent lemma gives at most: p L rho^2 (u^2/2 + u h) with u, h <= 1/2
    assert -0.01 <= value <= bound


def test_domains():
    arguments = {"p": 0.5, "eta": 0.3, "rho": 0.2, "gradient_norm": 1.0}
    with pytest.raises(DomainError, match=r"sigma = 0; got 0\.1"):
        one_step_smooth.evaluate(constants=ProblemConstants(L=1.0, sigma=0.1), **arguments)
    with pytest.raises(DomainError, match=r"mu > 0; got 0"):
        one_step_strongly_convex.evaluate(constants=ProblemConstants(L=1.0), **arguments)
    with pytest.raises(DomainError, match="gradient norm"):
        one_step_smooth.evaluate(constants=ProblemConstants(L=1.0), **(arguments | {"gradient_norm": -1.0}))


def test_numbers_that_overflow_are_refused():
    constants = ProblemConstants(L=1.0)
    for change in ({"gradient_norm": 1e200}, {"eta": 1e200, "gamma": 1e200}):
        arguments = {"p": 0.5, "eta": 0.3, "rho": 0.2, "gamma": 1.0, "gradient_norm": 0.1} | change
        with pytest.raises(DomainError, match="finite"):
            one_step_smooth.evaluate(constants=constants, **arguments)


@pytest.mark.parametrize("name, value", [("step_size", -0.1), ("gradient", math.nan), ("gamma", math.inf)])
def test_the_regime_checks_its_arguments(name, value):
    with pytest.raises(DomainError):
        one_step.regime(**({"step_size": 0.5, "gradient": 0.5, "gamma": 1.0} | {name: value}))


def test_regimes_at_the_edges_of_the_plane():
    assert one_step.regime(0.0, 0.5, 1.0) is Regime.DESCENT
    assert one_step.regime(0.5, 1.0, 1.0) is Regime.DESCENT
    assert one_step.regime(1.0, 0.0, 1.0) is Regime.DESCENT
    assert one_step.regime(0.5, 0.0, 0.0) is Regime.DESCENT
    assert one_step.regime(0.99, 0.0, 1.0) is Regime.OVERSHOOT


# Noise


@given(
    st.lists(st.floats(-1, 1), min_size=4, max_size=4),
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    st.floats(0, 3),
    st.floats(0, 2),
    st.floats(0, 3),
    st.floats(0, 1),
)
def test_with_noise_no_pair_of_quadratics_does_worse(curvatures, gradients, eta, rho, gamma, p):
    """f(.; xi) is one of two quadratics in the plane, with equal chances; all cases are added up."""
    H = np.reshape(curvatures, (2, 2))
    g = np.reshape(gradients, (2, 2))
    mean = g.mean(axis=0)
    sigma = math.sqrt(((g - mean) ** 2).sum(axis=1).mean())

    def change(d):
        return -eta * mean @ d + eta**2 * d @ (H.mean(axis=0) * d) / 2

    for bound in NOISY:
        norms = np.sqrt((g**2).sum(axis=1, keepdims=True))
        if bound is one_step_noisy:
            ascent = rho * np.divide(g, norms, out=np.zeros_like(g), where=norms > 0)
        else:
            ascent = rho * g
        expected = np.mean(
            [
                (1 - p) * change(d) + p * change(d + gamma * h * y)
                for d, h, y in zip(g, H, ascent, strict=True)
            ]
        )
        value = bound.evaluate(
            p=p,
            eta=eta,
            rho=rho,
            gamma=gamma,
            gradient_norm=float(np.linalg.norm(mean)),
            constants=ProblemConstants(L=1.0, sigma=sigma),
        )
        assert expected <= value + NUMERIC * (1 + eta * (1 + gamma * rho)) ** 2


def test_without_noise_the_noisy_bound_is_the_value_of_the_descent_regime_and_above_the_others():
    constants = ProblemConstants(L=1.0)
    for e, r, gamma in itertools.product((0.2, 0.9, 1.3, 2.4), (0.1, 0.6, 1.1), (0.5, 2.0, 6.0)):
        arguments = in_units(e, r, gamma, p=0.4)
        exact = one_step_smooth.evaluate(constants=constants, **arguments)
        bound = one_step_noisy.evaluate(constants=constants, **arguments)
        if one_step.regime(e, r * gamma, gamma) is Regime.DESCENT:
            assert bound == pytest.approx(exact, rel=NUMERIC, abs=NUMERIC)
        else:
            assert bound > exact


def test_noise_moves_a_point_with_a_zero_gradient():
    constants = ProblemConstants(L=2.0, sigma=0.5)
    value = one_step_noisy.evaluate(p=0.0, eta=0.3, rho=0.1, gradient_norm=0.0, constants=constants)
    assert value == pytest.approx(2.0 * 0.3**2 / 2 * 0.5**2, rel=ONE_STEP)


# The algebra of the proof (paper_notes/one_step.md)


def dot(a, b):
    return (a.T * b)[0]


def gain(a, b):
    """What inequality (2) adds to f at the point a: f(b) <= f(a) + gain(a, b). A point is (x, gradient)."""
    (x, g), (y, k) = a, b
    d, s = y - x, k - g
    return dot(g + k, d) / 2 + dot(d, d) / 4 - dot(s, s) / 4


PLANE = [sympy.Matrix(sympy.symbols(f"{name}_1 {name}_2", real=True)) for name in ("x", "y", "g", "k")]


def test_step_1_is_cocoercivity_of_the_function_plus_half_the_square():
    x, y, g, k = PLANE  # points i = (x, g) and j = (y, k); F = f + |.|^2/2 has gradients g + x and k + y
    difference = (g + x) - (k + y)
    theorem = dot(k + y, x - y) + dot(difference, difference) / 4 + dot(y, y) / 2 - dot(x, x) / 2
    # F_i - F_j >= <k + y, x - y> + |difference|^2/4, so f_j - f_i <= -theorem
    assert sympy.expand(gain((x, g), (y, k)) + theorem) == 0


def test_steps_2_and_3_the_sum_of_the_inequalities():
    e, h, u, tau, v1, v2, m1, m2 = sympy.symbols("e h u tau v_1 v_2 m_1 m_2", real=True)
    c, v, m = sympy.Matrix([1, 0]), sympy.Matrix([v1, v2]), sympy.Matrix([m1, m2])
    g, z, w = h * c, u * v - e * h * c, c + v
    start, perturbed, end = (0 * c, g), (c, g - v), (z, g + m)
    total = (1 - tau) * gain(start, end) + tau * (gain(start, perturbed) + gain(perturbed, end))
    Phi = dot(g, z) + dot(z, z) / 2 - tau * dot(z - c, w) - tau * dot(w, w) / 2 + tau**2 * dot(w, w) / 4
    square = m - z + tau * w
    assert sympy.expand(total - (Phi - dot(square, square) / 4)) == 0

    b = -e * (1 - e / 2) * h**2
    C = b + tau * (e * h + sympy.Rational(1, 2)) + tau**2 / 4
    slope = u * (1 - e) * h - tau * (u - e * h) + tau**2 / 2
    kappa = u**2 / 2 - tau * (u + sympy.Rational(1, 2)) + tau**2 / 4
    assert sympy.expand(Phi - (C + slope * v1 + kappa * dot(v, v))) == 0

    line = Phi.subs({v2: 0})
    assert sympy.diff(line.subs(v1, -1), tau).expand() == 0  # step 4: at nu = -1 it does not depend on tau
    s, T = sympy.symbols("s T", real=True)
    place = u * (1 - 2 * s) - e * h
    inner = h * place + place**2 / 2 + T**2 / 4 - T * (place - s)
    assert sympy.expand(line.subs(v1, 1 - 2 * s) - inner.subs(T, 2 * tau * (1 - s))) == 0
    z = sympy.Symbol("z", real=True)
    rest = T**2 / 4 - T * (z - s)
    assert sympy.solve(sympy.diff(rest, T), T) == [2 * z - 2 * s]
    assert sympy.expand(rest.subs(T, 2 * (z - s)) + (z - s) ** 2) == 0
    assert sympy.expand(rest.subs(T, 2 * (1 - s)) - ((z - 1) ** 2 - (z - s) ** 2)) == 0


def test_the_regimes_are_the_stationary_points_and_their_values():
    h, u, D, s = sympy.symbols("h u D s", positive=True)
    z = D - 2 * u * s
    near = h * z + z**2 / 2 - (z - s) ** 2
    far = near + (z - 1) ** 2
    s1 = ((1 + u) * D - u * h) / (2 * u**2 + 4 * u + 1)
    s2 = (u * (2 - h) + (1 - u) * D) / (1 + 4 * u - 2 * u**2)
    A = sympy.Rational(1, 2) - 1 / u - 1 / (4 * u**2)
    slope = h - 2 + D / u + D / (2 * u**2)
    value = (2 * u**2 * h**2 + 2 * (2 * u + 1) * h * D + D**2) / (2 * (2 * u**2 + 4 * u + 1))

    def zero(expression):
        return sympy.cancel(sympy.together(expression)) == 0

    assert zero(sympy.diff(near, s).subs(s, s1))
    assert zero(sympy.diff(far, s).subs(s, s2))
    assert sympy.expand(sympy.diff(near, s, 2) - (4 * u**2 - 2 * (2 * u + 1) ** 2)) == 0
    assert sympy.expand(sympy.diff(far, s, 2) + 2 * (1 + 4 * u - 2 * u**2)) == 0
    assert zero(near.subs(s, s1) - value)
    assert zero(far.subs(s, s2) - (1 - D**2 / (4 * u**2) - slope**2 / (4 * A)))
    assert sympy.expand(near.subs(s, 0) - (h * D - D**2 / 2)) == 0
    assert sympy.expand(far.subs(s, 0) - (h * D + D**2 / 2 - 2 * D + 1)) == 0
    e = sympy.Symbol("e", positive=True)
    b = -e * (1 - e / 2) * h**2
    whole = (h * z + z**2 / 2).subs(D, u - e * h)
    assert sympy.expand(whole.subs(s, 0) - (b + u * (1 - e) * h + u**2 / 2)) == 0
    assert sympy.expand(whole.subs(s, 1) - (b - u * (1 - e) * h + u**2 / 2)) == 0
