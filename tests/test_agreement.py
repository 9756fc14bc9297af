"""Simulated instance <= program <= bound, for every bound over a run and over its whole domain."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import COMPARISON_ALARM, SEMIDEFINITE
from hypothesis import assume, given, settings, strategies as st

import rst_theory as rst
from experiments import agreement
from experiments.agreement import compare, draw
from rst_theory.bounds import ALL, RunBound
from rst_theory.bounds.base import KNOWN_DISTANCE
from rst_theory.certificates import CertificateError, certify_bound, class_of
from rst_theory.notation import Assumption, DomainError, ProblemConstants

INSTANCES = 200


def has_program(bound):
    try:
        return bool(class_of(bound))
    except DomainError:
        return False


OVER_RUNS = [bound for bound in ALL.values() if isinstance(bound, RunBound)]
WITH_PROGRAM = [bound for bound in OVER_RUNS if has_program(bound)]
CURVED = {Assumption.STRONGLY_CONVEX, Assumption.POLYAK_LOJASIEWICZ}


CERTAIN = {"sgd_average": 0.0, "gradient_descent_last_iterate": 0.0, "sam_average": 1.0}
"""Bounds of special cases: their only probability; and gamma = 1, and eta constant and at most 1/L."""


# Simulation <= bound


def test_no_random_instance_violates_a_bound():
    """Statistical: fails falsely with probability at most COMPARISON_ALARM over all its comparisons."""
    alarm = COMPARISON_ALARM / (INSTANCES * len(ALL))
    compared = [(i, c) for i in range(INSTANCES) for c in compare(draw(i), alarm)]
    assert [(i, c) for i, c in compared if c.violated] == []
    # Those of a special case or a rare assumption are compared in the full experiment.
    assert len({c.bound for _, c in compared}) >= 0.6 * len(OVER_RUNS)


def test_a_bound_that_is_too_small_is_found(monkeypatch):
    bound = rst.bounds.nonconvex_average
    wrong = dataclasses.replace(bound, formula=lambda s: 0.9 * bound.formula(s))
    monkeypatch.setitem(agreement.ALL, bound.name, wrong)
    assert any(c.violated for i in range(INSTANCES) for c in compare(draw(i), 1e-12))


# Program <= bound, and the instance that attains the program


def arguments_of(bound, p, eta, rho, gamma, mu):
    curved = bound.assumptions & CURVED
    return {
        "schedule": rst.Tabulated(tuple(p)),
        "steps": len(p),
        "eta": eta,
        "rho": rho,
        "gamma": gamma,
        "constants": ProblemConstants(L=1.0, mu=mu if curved else 0.0),
        "gap": 1.0,
        "distance": 1.0,
    }


def attained(function, bound, p, eta, rho, gamma):
    """The metric of the bound on a function, over the whole tree of trials; no statistics are involved."""
    T = len(p)
    quantity, weights = bound.metric.quantity, bound.metric.weights
    w = np.append(weights(np.asarray(eta), 1.0), 0.0) if weights else np.append(np.zeros(T), 1.0)
    measure = {
        "squared_gradient_norm": lambda x: (function.gradient(x) ** 2).sum(),
        "gap": lambda x: float(function.gap(x)),
        "squared_distance": lambda x: float(function.squared_distance(x)),
    }[quantity.removeprefix("final_")]
    total, leaves = 0.0, [(1.0, function.start)]
    for t in range(T + 1):
        if w[t]:
            total += w[t] * sum(chance * measure(x) for chance, x in leaves)
        if t < T:
            leaves = [
                (
                    chance * weight,
                    rst.step(x, function.gradient, coin, eta[t], rho[t], gamma[t], bound.ascent),
                )
                for chance, x in leaves
                for coin, weight in ((False, 1 - p[t]), (True, p[t]))
                if weight
            ]
    return total


def agree(bound, p, eta, rho, gamma, mu):
    """Instance <= program <= bound; None outside the domain of the bound, or where the solver gave up."""
    arguments = arguments_of(bound, p, eta, rho, gamma, mu)
    try:
        value = bound.evaluate(**arguments)
        program = certify_bound(bound, **arguments)
    except (DomainError, CertificateError):
        return None
    assert program.value <= value * (1 + SEMIDEFINITE)
    if program.lower is not None:
        instance = attained(program.worst_function(), bound, p, eta, rho, gamma)
        assert instance == pytest.approx(program.lower, rel=SEMIDEFINITE)
        assert instance <= value * (1 + SEMIDEFINITE)
    return value / program.value


chance = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.01, 0.99))
row = st.tuples(
    chance,
    st.floats(0.05, 1.9),
    st.one_of(st.just(0.0), st.floats(0.01, 1)),
    st.one_of(st.just(0.0), st.just(1.0), st.floats(0.1, 3)),
)


@pytest.mark.parametrize("bound", WITH_PROGRAM, ids=lambda b: b.name)
@given(rows=st.lists(row, min_size=1, max_size=2), mu=st.floats(0.01, 0.9))
@settings(max_examples=5)
def test_instance_program_and_bound_in_this_order(bound, rows, mu):
    if bound.ascent == "normalized":
        rows = rows[:1]
    p, eta, rho, gamma = map(list, zip(*rows, strict=True))
    if bound.name in CERTAIN:
        p, gamma, eta = [CERTAIN[bound.name]] * len(p), [1.0] * len(p), [min(1.0, eta[0])] * len(p)
    assume(agree(bound, p, eta, rho, gamma, mu) is not None)


@pytest.mark.parametrize("bound", WITH_PROGRAM, ids=lambda b: b.name)
def test_the_edges_of_the_domain(bound):
    """Certain trials and none, no radius, no mixing, steps of 1/L."""
    for p in (0.0, 1.0, 0.5):
        for rho, gamma in ((0.0, 1.0), (0.2, 0.0), (0.2, 1.0)):
            agree(bound, [p], [1.0], [rho], [gamma], 0.3)
    with pytest.raises(DomainError):
        bound.evaluate(**(arguments_of(bound, [0.5], [0.5], [0.1], [1.0], 0.3) | {"steps": 0}))
    unknown = {"distance" if KNOWN_DISTANCE in bound.domain else "gap": None}
    with pytest.raises(DomainError, match="given"):
        bound.evaluate(**(arguments_of(bound, [0.0], [0.5], [0.1], [1.0], 0.3) | unknown))
