"""Certificates against PEPit, closed forms, real objectives, and the worst functions that they rebuild."""

from __future__ import annotations

import builtins
import itertools
import math
import warnings

import numpy as np
import pytest
import sympy
from conftest import NUMERIC, SEMIDEFINITE
from hypothesis import given, settings, strategies as st
from PEPit import PEP, Expression
from PEPit.functions import SmoothConvexFunction, SmoothFunction, SmoothStronglyConvexFunction

import rst_theory as rst
from rst_theory import method
from rst_theory.bounds import one_step_convex, one_step_smooth, one_step_strongly_convex
from rst_theory.certificates import CertificateError, Interpolant, certify, certify_by_potential
from rst_theory.certificates.interpolant import _least
from rst_theory.notation import Assumption, DomainError, ProblemConstants
from rst_theory.problems import PiecewiseQuadratic, Quadratic

CLASSES = [("smooth", 0.0), ("convex", 0.0), ("strongly_convex", 0.3)]
TREE = {"p": [0.3, 0.6, 0.8], "eta": [0.5, 0.7, 0.4], "rho": [0.3, 0.2, 0.4], "gamma": [1.0, 0.5, 1.5]}


def tabulated(p):
    return rst.Tabulated(tuple(p))


def run_of(steps, **changes):
    """The arguments of a time-varying run."""
    values = {key: list(sequence)[:steps] for key, sequence in (TREE | changes).items()}
    return {"schedule": tabulated(values.pop("p")), "steps": steps, **values}


def pepit(function_class, mu, metric, p, eta, rho, gamma, L=1.0, gap=None, distance=None, norm=None):
    """The same worst case by PEPit: its own tree, its own inequalities, its own solver interface."""
    pep = PEP()
    if function_class in ("smooth", "pl"):
        f = pep.declare_function(SmoothFunction, L=L)
        least = Expression()
    else:
        kind = SmoothConvexFunction if function_class == "convex" else SmoothStronglyConvexFunction
        f = pep.declare_function(kind, L=L, **({"mu": mu} if function_class == "strongly_convex" else {}))
        star = f.stationary_point()
        least = f(star)
    x0 = pep.set_initial_point()
    seen = []

    def gradient(x):
        g, value = f.oracle(x)
        seen.append((g, value))
        return g

    level, total, N = [(1.0, x0)], 0, len(p)
    for t in range(N):
        following = []
        for chance, x in level:
            g = gradient(x)
            measured = {"gap": lambda x=x: f(x) - least, "squared_gradient_norm": lambda g=g: g**2}
            if metric in measured:
                total += chance / N * measured[metric]()
            if norm is not None:
                pep.add_constraint(g**2 == norm**2)
            following.append((chance * (1 - p[t]), x - eta[t] * g))
            y = method.ascend(x, g, rho[t], "unnormalized" if norm is None else "normalized", norm=norm)
            following.append((chance * p[t], x - eta[t] * method.direction(g, gradient(y), gamma[t])))
        level = [(chance, x) for chance, x in following if chance > 0]
    if metric.startswith("final"):
        for chance, x in level:
            gradient(x)
            total += chance * (f(x) - least if metric == "final_gap" else (x - star) ** 2)
    if function_class in ("smooth", "pl"):
        for g, value in seen:
            pep.add_constraint(value - least >= g**2 / (2 * L))
            if function_class == "pl":
                pep.add_constraint(g**2 >= 2 * mu * (value - least))
    if gap is not None:
        pep.set_initial_condition(f(x0) - least <= gap)
    if distance is not None:
        pep.set_initial_condition((x0 - star) ** 2 <= distance**2)
    pep.set_performance_metric(total)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the solver speaks of accuracies beyond the one compared at
        return pep.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)


def leaves(problem, p, eta, rho, gamma, ascent):
    """The levels of the tree of trials on a real objective, as (probability, point), by enumeration."""
    level = [(1.0, problem.start)]
    yield level
    for values in zip(p, eta, rho, gamma, strict=True):
        level = [
            (weight * chance, rst.step(x, problem.gradient, coin, *values[1:], ascent))
            for weight, x in level
            for coin, chance in ((False, 1 - values[0]), (True, values[0]))
            if chance > 0
        ]
        yield level


def measured(problem, metric, p, eta, rho, gamma, ascent="unnormalized"):
    quantity = {
        "squared_gradient_norm": lambda x: (problem.gradient(x) ** 2).sum(),
        "gap": lambda x: problem.gap(x),
        "squared_distance": lambda x: (x**2).sum(),
    }[metric.removeprefix("final_")]
    levels = [sum(w * quantity(x) for w, x in level) for level in leaves(problem, p, eta, rho, gamma, ascent)]
    return float(levels[-1] if metric.startswith("final") else np.mean(levels[:-1]))


# Against PEPit


@pytest.mark.parametrize("function_class, mu", [*CLASSES, ("pl", 0.3)])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_average_squared_gradient_equals_pepit(function_class, mu, steps):
    rng = np.random.default_rng(steps)
    run = {
        "p": rng.uniform(0.1, 0.9, steps),
        "eta": rng.uniform(0.1, 1.2, steps),
        "rho": rng.uniform(0, 0.5, steps),
        "gamma": rng.uniform(0.3, 2, steps),
    }
    c = certify(
        **run_of(steps, **run), function_class=function_class, mu=mu, metric="squared_gradient_norm", gap=0.8
    )
    theirs = pepit(function_class, mu, "squared_gradient_norm", gap=0.8, **run)
    assert c.exact == (function_class != "pl")
    assert c.value == pytest.approx(theirs, rel=SEMIDEFINITE)


@pytest.mark.parametrize(
    "function_class, mu, metric, start",
    [
        ("smooth", 0.0, "final_gap", {"gap": 2.0}),
        ("smooth", 0.0, "gap", {"gap": 2.0}),
        ("convex", 0.0, "final_gap", {"distance": 1.5}),
        ("convex", 0.0, "final_squared_distance", {"distance": 1.5}),
        ("strongly_convex", 0.3, "final_gap", {"distance": 1.5, "gap": 0.7}),
        ("strongly_convex", 0.3, "final_squared_distance", {"gap": 2.0}),
    ],
)
def test_the_other_metrics_equal_pepit(function_class, mu, metric, start):
    run = {key: sequence[:2] for key, sequence in TREE.items()}
    L = 1.6
    c = certify(**run_of(2), function_class=function_class, mu=mu, metric=metric, L=L, **start)
    assert c.value == pytest.approx(pepit(function_class, mu, metric, L=L, **start, **run), rel=SEMIDEFINITE)


@pytest.mark.parametrize("function_class, mu", CLASSES)
def test_normalized_ascent_is_never_below_pepit_and_meets_it_at_its_own_norm(function_class, mu):
    run = {"p": [0.6], "eta": [0.7], "rho": [0.5], "gamma": [1.3]}
    start = {"gap": 1.0} if function_class == "smooth" else {"distance": 1.5}
    known = {"function_class": function_class, "mu": mu, "metric": "final_gap"}
    c = certify(**run_of(1, **run), **known, ascent="normalized", **start)
    assert c.exact
    norm = float(np.linalg.norm(c.gradients[c.labels.index("x")]))

    def theirs(G):
        return pepit(**known, norm=G, **start, **run)

    if function_class == "smooth":  # the supremum is the limit G -> 0, where no direction is left
        assert norm < 1e-3
        assert c.lower * 0.98 <= theirs(0.01) <= c.value * (1 + SEMIDEFINITE)
    else:
        assert c.lower == pytest.approx(theirs(norm), rel=SEMIDEFINITE)
    assert c.lower <= c.value <= c.lower * (1 + 2 * SEMIDEFINITE)
    assert max(map(theirs, np.linspace(0.05, 1.4, 9))) <= c.value * (1 + SEMIDEFINITE)


@pytest.mark.parametrize("bound", [one_step_smooth, one_step_convex, one_step_strongly_convex])
def test_the_change_in_one_step_is_the_one_step_formula(bound):
    rng = np.random.default_rng(3)
    for _ in range(15):
        p, rho, gamma, L = rng.uniform(0, 1), rng.uniform(0.1, 2), rng.uniform(0.2, 3), rng.uniform(0.3, 3)
        eta, G = rng.uniform(0.05, 1.9) / L, rng.uniform(0.05, 2)
        mu = 0.4 * L if bound is one_step_strongly_convex else 0.0
        c = certify(
            p,
            steps=1,
            eta=eta,
            rho=rho,
            gamma=gamma,
            function_class=bound.name.removeprefix("one_step_"),
            ascent="normalized",
            L=L,
            mu=mu,
            metric="change",
            gradient_norm=G,
        )
        formula = bound.evaluate(
            p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=G, constants=ProblemConstants(L=L, mu=mu)
        )
        scale = max(abs(formula), 0.1 * L * rho**2)
        assert c.exact
        assert c.value == pytest.approx(formula, abs=SEMIDEFINITE * scale)


# Against closed forms


@pytest.mark.parametrize("steps, eta", [(1, 0.5), (2, 0.9), (5, 1.0)])
def test_gradient_descent_has_the_gap_of_drori_and_teboulle(steps, eta):
    """Math. Program. 145 (2014), Theorem 3.1: L D^2/(4 N eta L + 2) where eta L <= 1."""
    L, D = 2.0, 1.5
    c = certify(
        0.0,
        steps=steps,
        eta=eta / L,
        rho=1.0,
        function_class="convex",
        L=L,
        metric="final_gap",
        distance=D,
    )
    assert c.value == pytest.approx(L * D**2 / (4 * steps * eta + 2), rel=SEMIDEFINITE)
    assert c.conditions["distance"] * D**2 == pytest.approx(c.value, rel=SEMIDEFINITE)


@pytest.mark.parametrize("eta", [0.3, 0.9, 1.2])
def test_gradient_descent_contracts_as_on_a_quadratic(eta):
    c = certify(
        0.0,
        steps=3,
        eta=eta,
        rho=1.0,
        function_class="strongly_convex",
        mu=0.2,
        metric="final_squared_distance",
        distance=1.0,
    )
    assert c.value == pytest.approx(max(abs(1 - eta * 0.2), abs(1 - eta)) ** 6, rel=SEMIDEFINITE)


def test_the_worked_number_of_the_notes():
    c = certify(0.5, steps=4, eta=0.5, rho=0.2, gap=1.0)
    assert c.value == pytest.approx(0.6902, abs=5e-5)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
@settings(max_examples=8)
def test_values_scale_with_the_gap_and_the_smoothness(gap, L):
    """By homogeneity: the squared gradient is of the size L gap, step sizes of 1/L."""
    unit = certify(0.4, steps=2, eta=0.5, rho=0.3)
    c = certify(0.4, steps=2, eta=0.5 / L, rho=0.3 / L, L=L, gap=gap)
    assert c.value == pytest.approx(L * gap * unit.value, rel=SEMIDEFINITE)


# Against real objectives


@pytest.mark.parametrize("function_class, mu", CLASSES)
@pytest.mark.parametrize("metric", ["squared_gradient_norm", "final_gap"])
@pytest.mark.parametrize("steps, ascent", [(1, "unnormalized"), (3, "unnormalized"), (1, "normalized")])
def test_the_worst_function_attains_the_value(function_class, mu, metric, steps, ascent):
    start = {"gap": 0.7} if function_class == "smooth" else {"distance": 1.2}
    c = certify(
        **run_of(steps),
        function_class=function_class,
        mu=mu,
        metric=metric,
        ascent=ascent,
        L=1.5,
        **start,
    )
    f = c.worst_function()
    run = {key: sequence[:steps] for key, sequence in TREE.items()}
    assert f.constants.L == 1.5
    if "gap" in start:
        assert f.gap(f.start) <= 0.7 * (1 + SEMIDEFINITE)
    else:
        assert np.linalg.norm(f.start) <= 1.2 * (1 + SEMIDEFINITE)
    assert measured(f, metric, ascent=ascent, **run) == pytest.approx(c.lower, rel=SEMIDEFINITE)
    assert c.lower == pytest.approx(c.value, rel=2 * SEMIDEFINITE)


def test_two_normalized_steps_are_enclosed():
    c = certify(**run_of(2), ascent="normalized", metric="squared_gradient_norm", gap=1.0)
    f = c.worst_function()
    run = {key: sequence[:2] for key, sequence in TREE.items()}
    attained = measured(f, "squared_gradient_norm", ascent="normalized", **run)
    assert attained == pytest.approx(c.lower, rel=SEMIDEFINITE)
    assert c.lower <= c.value <= 1.05 * c.lower


def _objectives():
    rng = np.random.default_rng(5)
    for _ in range(20):
        yield Quadratic(rng.uniform(0.01, 1, 3), start=rng.normal(size=3))
        heights = rng.uniform(-0.5, 0.5, 4)
        yield PiecewiseQuadratic(
            [0.0, 1.0, 2.0, 3.0], heights, left=1.0, right=1.0, start=rng.uniform(0, 3, 1)
        )


@pytest.mark.parametrize("ascent", ["unnormalized", "normalized"])
def test_no_smooth_objective_is_above_the_certificate(ascent):
    run = {key: sequence[:2] for key, sequence in TREE.items()}
    for problem in itertools.islice(_objectives(), 6 if ascent == "normalized" else 30):
        L, gap = problem.constants.L, float(problem.gap(problem.start))
        c = certify(**run_of(2), L=L, gap=gap, ascent=ascent, programs=1)
        found = measured(problem, "squared_gradient_norm", ascent=ascent, **run)
        assert found <= c.value * (1 + SEMIDEFINITE)


def test_the_first_box_holds_gradients_that_grow():
    """f = x^2/2 from .1: d = 2 * 1.1 - .1 = 2.1, so x_1 = -2, and d = -2 * 3 + 2 = -4, so x_2 = 2."""
    f = Quadratic([1.0], start=[0.1])
    run = {"p": [1.0] * 3, "eta": [1.0] * 3, "rho": [1.0] * 3, "gamma": [2.0] * 3}
    iterates = [level[0][1][0] for level in leaves(f, **run, ascent="normalized")]
    assert iterates[:3] == pytest.approx([0.1, -2.0, 2.0], rel=NUMERIC)
    c = certify(
        **run_of(3, **run), ascent="normalized", gap=float(f.gap(f.start)), weights=[0, 1, 1], programs=1
    )
    assert c.value >= 8.0


def test_the_multipliers_prove_the_value_for_every_objective():
    """metric + sum of multiplier * slack <= multiplier * gap, whatever f is; on the worst f it is equal."""
    steps = 3
    run = {key: sequence[:steps] for key, sequence in TREE.items()}
    c = certify(**run_of(steps), gap=1.0)
    assert min(c.multipliers.values()) >= 0
    assert c.conditions["gap"] * 1.0 == pytest.approx(c.value, rel=SEMIDEFINITE)
    assert max(c.residuals) <= 3e-5

    def sides(problem):
        at = {}
        for length in range(steps):
            for path in itertools.product("01", repeat=length):
                x = problem.start
                for t, trial in enumerate(path):
                    x = rst.step(
                        x,
                        problem.gradient,
                        trial == "1",
                        run["eta"][t],
                        run["rho"][t],
                        run["gamma"][t],
                        "unnormalized",
                    )
                at["x" + "".join(path)] = x
                if length < steps - 1:
                    at["y" + "".join(path)] = x + run["rho"][length] * problem.gradient(x)
        g, f = (
            {k: problem.gradient(x) for k, x in at.items()},
            {k: float(problem.gap(x)) for k, x in at.items()},
        )
        total = measured(problem, "squared_gradient_norm", **run)
        for (i, j), multiplier in c.multipliers.items():
            if i == "*":
                total += multiplier * (f[j] - g[j] @ g[j] / 2)
            else:  # -1 <= curvature <= 1, so f_i >= f_j + <g_j, dx> + (|dg|^2 - |dx|^2 + 2 <dg, dx>)/4
                dx, dg = at[i] - at[j], g[i] - g[j]
                slack = f[i] - f[j] - g[j] @ dx - (dg @ dg - dx @ dx + 2 * dg @ dx) / 4
                total += multiplier * slack
        return total, c.conditions["gap"] * f["x"]

    for problem in _objectives():
        if problem.constants.L <= 1:
            left, right = sides(problem)
            assert left <= right + SEMIDEFINITE
    left, right = sides(c.worst_function())
    assert left == pytest.approx(right, rel=SEMIDEFINITE)


# The algebra of the note


def test_the_interpolation_inequality_is_cocoercivity_of_the_shifted_function():
    L, m, x, y, g, h, f, e = sympy.symbols("L m x y g h f e", real=True)
    dx, dg = x - y, g - h
    ours = f - e - h * dx - (dg**2 / L + m * dx**2 - 2 * m / L * dg * dx) / (2 * (1 - m / L))
    shifted = (f - m * x**2 / 2) - (e - m * y**2 / 2) - (h - m * y) * dx - (dg - m * dx) ** 2 / (2 * (L - m))
    assert sympy.simplify(ours - shifted) == 0


def test_the_inner_maximum_of_the_interpolant():
    """In one dimension with two points: y = M x + mean of s - M x maximizes, and gives the formula for h."""
    M, x, y, a, p, q, s, r, h, k = sympy.symbols("M x y a p q s r h k", real=True)
    inner = x * y - sum(
        w * (z * y - v + (y - t) ** 2 / (2 * M)) for w, z, t, v in ((a, p, s, h), (1 - a, q, r, k))
    )
    best = M * x + a * (s - M * p) + (1 - a) * (r - M * q)
    formula = a * (h - s**2 / (2 * M)) + (1 - a) * (k - r**2 / (2 * M)) + best**2 / (2 * M)
    assert sympy.simplify(sympy.diff(inner, y).subs(y, best)) == 0
    assert sympy.simplify(inner.subs(y, best) - formula) == 0


# The tree


def test_certain_trials_are_not_branched_on():
    arguments = {"steps": 3, "eta": 0.5, "rho": 0.2}
    assert certify(0.0, **arguments).labels == ("x", "x0", "x00")
    assert certify(1.0, **arguments).labels == ("x", "y", "x1", "y1", "x11")
    assert len(certify(0.5, **arguments).labels) == 10


def test_points_that_coincide_are_one():
    arguments = {"steps": 3, "eta": 0.5, "rho": 0.2}
    for change in ({"rho": 0.0}, {"gamma": 0.0}):
        c = certify(0.5, **(arguments | change))
        assert c.labels == ("x", "x0", "x00")
        assert c.value == pytest.approx(certify(0.0, **arguments).value, rel=SEMIDEFINITE)
    still = certify(0.5, steps=3, eta=0.0, rho=0.2, gap=1.0)
    assert still.labels == ("x",)
    assert still.value == pytest.approx(2.0, rel=SEMIDEFINITE)
    # eta_0 = 0: both children are the parent, perturbed only once.
    assert certify(0.5, steps=3, eta=[0.0, 0.5, 0.5], rho=0.2).labels == ("x", "y0", "x00", "x01")


def test_weights_decide_how_far_the_tree_goes():
    first = certify(0.5, steps=3, eta=0.5, rho=0.2, weights=[1.0, 0.0, 0.0], gap=1.0)
    assert first.labels == ("x",)
    assert first.value == pytest.approx(2.0, rel=SEMIDEFINITE)
    doubled = certify(0.5, steps=2, eta=0.5, rho=0.2, weights=[1.0, 1.0])
    assert doubled.value == pytest.approx(2 * certify(0.5, steps=2, eta=0.5, rho=0.2).value, rel=SEMIDEFINITE)


# Any number of steps


@pytest.mark.parametrize("p, eta, rho", [(0.0, 0.5, 0.2), (0.5, 0.5, 0.2), (1.0, 0.9, 0.4), (0.5, 0.3, 0.8)])
def test_a_potential_bounds_the_worst_case_and_improves_the_closed_form(p, eta, rho):
    arguments = {"steps": 3, "eta": eta, "rho": rho, "gap": 1.4}
    c = certify_by_potential(p, points=9, **arguments)
    exact = certify(p, **arguments).value
    closed = rst.bounds.nonconvex_average_unnormalized.evaluate(
        schedule=p, constants=ProblemConstants(L=1.0), **arguments
    )
    assert exact * (1 - SEMIDEFINITE) <= c.value <= closed * (1 + SEMIDEFINITE)
    assert c.value <= 1.1 * exact
    if p == 0:
        assert c.value == pytest.approx(exact, rel=SEMIDEFINITE)
    assert len(c.coefficients) == 3
    assert c.coefficients[0] >= 0


def test_a_potential_holds_along_a_run_that_varies():
    """On real objectives, and on the worst function of three of its steps."""
    run = {key: [*sequence, sequence[0]] for key, sequence in TREE.items()}
    weights = [0.1, 0.2, 0.3, 0.4]
    arguments = {"eta": run["eta"], "rho": run["rho"], "gamma": run["gamma"], "steps": 4}
    c = certify_by_potential(tabulated(run["p"]), points=9, weights=weights, **arguments)
    exact = certify(tabulated(run["p"]), weights=weights, **arguments)
    assert exact.value * (1 - SEMIDEFINITE) <= c.value <= 1.15 * exact.value
    f = exact.worst_function()
    for t, level in zip(range(4), leaves(f, *run.values(), "unnormalized"), strict=False):
        assert sum(w * f.gap(x) for w, x in level) >= c.coefficients[t] * sum(
            w * (f.gradient(x) ** 2).sum() for w, x in level
        )


def test_where_no_potential_descends_there_is_no_bound():
    with pytest.raises(CertificateError, match="no bound"):
        certify_by_potential(1.0, steps=50, eta=0.5, rho=8.0, points=5)
    with pytest.raises(DomainError, match="last weight"):
        certify_by_potential(0.5, steps=2, eta=0.5, rho=0.2, weights=[1.0, 0.0])
    with pytest.raises(DomainError, match="'smooth' or 'convex'"):
        certify_by_potential(0.5, steps=2, eta=0.5, rho=0.2, function_class="pl")


# The interpolant


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=60)
def test_the_small_quadratic_program_is_solved(n, d, seed):
    """Optimality: weights on the simplex, and no vertex promises descent."""
    rng = np.random.default_rng(seed)
    c, B = rng.normal(size=n), rng.normal(size=(n, d)) * rng.choice([1.0, 0.1])
    if n > 2:
        B[1] = B[0]
    alpha = _least(c, B)
    slopes = c + B @ (alpha @ B)
    assert alpha.min() >= 0
    assert alpha.sum() == pytest.approx(1.0, rel=NUMERIC)
    assert slopes.min() >= alpha @ slopes - 1e-9


@pytest.mark.parametrize("curvature", [-2.0, 0.0, 0.5])
def test_an_interpolant_interpolates_and_keeps_its_curvature(curvature):
    rng = np.random.default_rng(1)
    L = 2.0
    lam = rng.uniform(curvature, L, 4)
    points = rng.normal(size=(6, 4))
    f = Interpolant(points, points * lam, (points**2 @ lam) / 2, L=L, curvature=curvature)
    assert f.value(points) == pytest.approx(points**2 @ lam / 2, abs=1e-9)
    assert f.gradient(points) == pytest.approx(points * lam, abs=1e-6)
    x, y = rng.normal(size=(2, 40, 4))
    dx, dg = x - y, f.gradient(x) - f.gradient(y)
    inner = (dx * dg).sum(axis=1)
    assert (inner >= curvature * (dx**2).sum(axis=1) - 1e-9).all()
    assert (inner <= L * (dx**2).sum(axis=1) + 1e-9).all()
    h = 1e-6
    for i in range(4):
        slope = (f.value(x + h * np.eye(4)[i]) - f.value(x - h * np.eye(4)[i])) / (2 * h)
        assert slope == pytest.approx(f.gradient(x)[:, i], abs=1e-5)
    if f.constants.f_star is not None:
        assert f.value(3 * x).min() >= f.constants.f_star
    assert (Assumption.CONVEX in f.assumptions) == (curvature >= 0)
    assert np.isnan(f.value([math.nan, 0, 0, 0]))


def test_impossible_data_are_refused():
    with pytest.raises(DomainError, match="interpolates"):
        Interpolant([[0.0], [1.0]], [[0.0], [5.0]], [0.0, 0.0], L=1.0, curvature=0.0)
    with pytest.raises(DomainError, match="as many gradients"):
        Interpolant([[0.0], [1.0]], [[0.0]], [0.0, 0.0], L=1.0, curvature=0.0)
    with pytest.raises(DomainError, match="curvature in"):
        Interpolant([[0.0]], [[0.0]], [0.0], L=1.0, curvature=1.0)


# Errors


GOOD = {"schedule": 0.5, "steps": 2, "eta": 0.5, "rho": 0.2}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": 0}, "steps"),
        ({"schedule": 1.5}, "probability p"),
        ({"eta": -1.0}, "step size eta"),
        ({"gap": 0.0}, "gap > 0"),
        ({"gap": -1.0}, "initial gap"),
        ({"distance": 1.0}, "convex function class"),
        ({"metric": "squared_distance"}, "convex function class"),
        ({"function_class": "strongly_convex"}, "0 < mu < L"),
        ({"function_class": "strongly_convex", "mu": 1.0}, "0 < mu < L"),
        ({"mu": 0.1}, "mu = 0 in the class"),
        ({"metric": "change"}, "gradient_norm given with"),
        ({"gradient_norm": 1.0}, "gradient_norm given with"),
        ({"weights": [0.0, 0.0]}, "a weight > 0"),
        ({"weights": [1.0, -1.0]}, "weights"),
        ({"metric": "final_gap", "weights": [1.0, 1.0]}, "no weights"),
        ({"steps": 9}, "at most 128 evaluations"),
        ({"steps": 1, "metric": "change", "gradient_norm": 1.0, "gap": 1.0}, "no gap"),
        ({"steps": 1, "metric": "change", "gradient_norm": 0.0}, "gradient_norm > 0"),
    ],
)
def test_what_is_not_defined_is_refused(change, message):
    with pytest.raises(DomainError, match=message):
        certify(**(GOOD | change))


@pytest.mark.parametrize(
    "change",
    [{"function_class": "concave"}, {"metric": "regret"}, {"ascent": "up"}, {"eta": [0.1, 0.2, 0.3]}],
)
def test_unknown_words_and_wrong_lengths_are_refused(change):
    with pytest.raises(ValueError):
        certify(**(GOOD | change))


def test_a_search_has_at_least_one_box():
    with pytest.raises(DomainError, match="1 <= programs"):
        certify(**GOOD, ascent="normalized", programs=0)


def test_an_unbounded_worst_case_is_named():
    with pytest.raises(CertificateError, match="unbounded"):
        certify(**GOOD, function_class="convex", metric="final_squared_distance", gap=1.0)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_worst_case_that_is_only_approached_is_right_or_refused(steps):
    """Convex, a gap of 1 and no distance: slopes ever flatter and longer, on which the gap stays 1."""
    arguments = {"steps": steps, "eta": 0.5, "rho": 0.2, "function_class": "convex", "metric": "final_gap"}
    refused = None
    try:
        c = certify(0.5, **arguments)
    except CertificateError as error:
        refused = str(error)
    if refused is None:
        assert c.value == pytest.approx(1.0, rel=SEMIDEFINITE)
    else:
        assert "may only be approached" in refused


def test_a_relaxation_has_no_worst_function():
    c = certify(**GOOD, function_class="pl", mu=0.2)
    assert (c.kind, c.exact, c.lower) == ("upper", False, None)
    with pytest.raises(CertificateError, match="relaxation"):
        c.worst_function()


def test_an_unconverged_number_is_not_given_out(monkeypatch):
    monkeypatch.setattr("rst_theory.certificates.program.RESIDUAL", 1e-16)
    with pytest.raises(CertificateError, match="did not converge"):
        certify(**GOOD)


def test_the_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "clarabel":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"rst-theory\[sdp\]"):
        certify(**GOOD)


def test_what_is_only_reached_at_vanishing_norms_is_not_called_exact():
    """Both were: one lost cocoercivity at |g| = 0, one used norms below the solver's tolerance."""
    arguments = {"ascent": "normalized", "metric": "final_squared_distance", "function_class": "convex"}
    found = certify(1.0, steps=1, eta=0.7, rho=1.0, distance=1.0, **arguments)
    # Of all norms n at x a program with n fixed gives the most as n -> 0: 1.52047 at 1e-3, then 1.52082.
    assert found.value == pytest.approx(1.52082, rel=1e-4)
    found = certify(
        rst.Tabulated((0.1, 1.0)),
        steps=2,
        eta=[0.1176, 0.762],
        rho=[0.388, 0.845],
        gamma=[0.752, 0.440],
        ascent="normalized",
        metric="final_gap",
    )
    assert not found.exact and found.lower < found.value


@pytest.mark.parametrize("seed", range(8))
def test_what_is_called_exact_is_attained_with_normalized_ascent(seed):
    rng = np.random.default_rng(seed)
    kind = ("smooth", "convex", "strongly_convex")[seed % 3]
    metrics = ["final_gap", "squared_gradient_norm"] + ["final_squared_distance"] * (kind != "smooth")
    p, eta, rho, gamma = rng.uniform(0.1, 1), rng.uniform(0.1, 1.5), rng.uniform(0.1, 1), rng.uniform(0.2, 2)
    metric = str(rng.choice(metrics))
    found = certify(
        p,
        steps=1,
        eta=eta,
        rho=rho,
        gamma=gamma,
        function_class=kind,
        mu=0.2 if kind == "strongly_convex" else 0.0,
        ascent="normalized",
        metric=metric,
        **({"gap": 1.0} if kind == "smooth" else {"distance": 1.0}),
    )
    f = found.worst_function()
    ends = [rst.step(f.start, f.gradient, coin, eta, rho, gamma) for coin in (False, True)]
    measure = {
        "final_gap": lambda x: float(f.gap(x)),
        "final_squared_distance": lambda x: float(f.squared_distance(x)),
        "squared_gradient_norm": lambda x: float((f.gradient(f.start) ** 2).sum()),
    }[metric]
    attained = (1 - p) * measure(ends[0]) + p * measure(ends[1])
    assert attained >= found.lower * (1 - 1e-6)
    assert attained <= found.value * (1 + SEMIDEFINITE)
    if found.exact:
        assert attained == pytest.approx(found.value, rel=2 * SEMIDEFINITE)
