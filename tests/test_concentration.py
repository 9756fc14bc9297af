"""Bounds with high probability: their lemmas, their value, and runs below them."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
import sympy
from conftest import COMPARISON_ALARM, NUMERIC, ONE_STEP
from hypothesis import assume, given, settings, strategies as st
from scipy import optimize, special, stats

import rst_theory as rst
from rst_theory.bounds import nonconvex_average
from rst_theory.bounds.average import indexed
from rst_theory.bounds.base import settle
from rst_theory.bounds.concentration import (
    ConfidenceBound,
    Gamble,
    _start,
    _steps,
    _value,
    _worst_tilt,
    nonconvex_average_confidence as noiseless,
    nonconvex_average_confidence_noisy as noisy,
)
from rst_theory.notation import Assumption, DomainError, ProblemConstants
from rst_theory.problems import PiecewiseQuadratic, Quadratic, RippledQuadratic

UNIT = ProblemConstants(L=1.0)
ARGUMENTS = {"steps": 50, "eta": 0.3, "rho": 0.3, "gap": 1.0}

probability = st.floats(0.01, 0.99)


@pytest.mark.parametrize("bound", [noiseless, noisy], ids=lambda b: b.name)
def test_a_bound_carries_what_a_reader_needs(bound, request):
    assert isinstance(bound, ConfidenceBound)
    file, _, anchor = bound.source.partition("#")
    note = (request.config.rootpath / "paper_notes" / file).read_text()
    assert f'<a id="{anchor}"></a>' in note
    assert f"$$\n{bound.latex()}\n$$" in note
    assert bound.metric.weights(np.array([0.5, 0.1]), 1.0).sum() == pytest.approx(1.0, rel=ONE_STEP)
    assert Assumption.INDEPENDENT_TRIALS in bound.assumptions
    assert rst.bounds.ALL[bound.name] is bound
    assert repr(bound) == f"<ConfidenceBound {bound.name}: upper, on the {bound.metric.name}>"


def test_they_are_called_by_the_names_that_they_are_imported_by():
    assert noiseless.name == "nonconvex_average_confidence"
    assert noisy.name == "nonconvex_average_confidence_noisy"


@pytest.mark.parametrize("bound", [noiseless, noisy], ids=lambda b: b.name)
def test_no_symbol_stands_for_a_negative_number(bound):
    compact, letters = bound.symbolic()
    for formula in (compact, *letters, *letters.values()):
        sequences = {term.base.label for term in formula.atoms(sympy.Indexed)}
        assert all(symbol.is_nonnegative for symbol in formula.atoms(sympy.Symbol) - sequences), formula


# The lemmas


def cumulant(p, s):
    """log(1 - p + p e^s), for s of any size."""
    return np.logaddexp(np.log1p(-p), np.log(p) + s)


@given(probability, st.floats(0, 200))
def test_the_cumulant_is_a_maximum_over_tilts(p, s):
    """At pi = p e^s/(1 - p + p e^s) the value is attained; no other pi exceeds it."""
    attained = 1 / (1 + (1 - p) / p * math.exp(-s))
    tilts = np.append(np.linspace(p, 1, 300)[:-1], attained)
    values = tilts * s - special.rel_entr(tilts, p) - special.rel_entr(1 - tilts, 1 - p)
    assert values.max() == pytest.approx(cumulant(p, s), rel=NUMERIC, abs=1e-12)
    assert values[-1] >= values.max() - 1e-12 * (1 + s)


def proxy(p):
    """The sub-Gaussian constant of a centred Bernoulli for s >= 0 (Kearns & Saul 1998 for p < 1/2)."""
    return p * (1 - p) if p >= 0.5 else (1 - 2 * p) / (2 * math.log((1 - p) / p))


@given(st.floats(1e-6, 1 - 1e-6).filter(lambda p: abs(p - 0.5) > 1e-4), st.floats(0, 50))
def test_the_centred_bernoulli_is_sub_gaussian(p, s):
    assert cumulant(p, s) - p * s <= proxy(p) * s**2 / 2 + 1e-14 * (1 + s)


@given(st.floats(0.001, 0.49))
def test_the_constant_below_one_half_is_the_best(p):
    """Equality at s = 2 log((1-p)/p)."""
    s = 2 * math.log((1 - p) / p)
    assert cumulant(p, s) - p * s == pytest.approx(proxy(p) * s**2 / 2, rel=1e-8, abs=1e-14)


@given(
    st.lists(st.floats(0.01, 2), min_size=1, max_size=4),
    st.lists(st.floats(-3, 3), min_size=4, max_size=4),
    st.floats(0, 0.95),
)
def test_the_quadratic_exponential_moment_of_the_noise(proxies, v, load):
    """E exp(<v, n> + tau ||n||^2) of a Gaussian n, exactly, is below the lemma's bound."""
    covariance, v = np.array(proxies), np.array(v[: len(proxies)])
    tau = load / (2 * covariance.max())
    D = 1 - 2 * tau * covariance
    exact = -np.log(D).sum() / 2 + (covariance * v**2 / D).sum() / 2
    bound = (tau * covariance.sum() + covariance.max() * (v @ v) / 2) / D.min()
    assert exact <= bound * (1 + ONE_STEP) + 1e-15


def test_the_gaussian_integral_of_the_lemma():
    """E exp(a (m + b z)^2/2) = (1 - a b^2)^(-1/2) exp(a m^2/(2 (1 - a b^2))): complete the square in z."""
    a, b, m, z, D = sympy.symbols("a b m z D", positive=True)
    exponent = a * (m + b * z) ** 2 / 2 - z**2 / 2
    completed = -(1 - a * b**2) * (z - a * b * m / D) ** 2 / 2 + a * m**2 / (2 * D)
    assert sympy.simplify((exponent - completed).subs(D, 1 - a * b**2)) == 0


def test_the_descent_along_one_path():
    """The change of f given the coin X, collected; D = g_adv - g and n the noise, on one coordinate."""
    eta, L, n, nabla, delta, X, gamma = sympy.symbols("eta L n nabla delta X gamma", real=True)
    g = nabla + n
    d = g + X * gamma * delta
    descent = sympy.expand(-eta * nabla * d + L * eta**2 / 2 * d**2).subs(X**2, X)
    collected = (
        -eta * (1 - L * eta / 2) * nabla**2
        - eta * (1 - L * eta) * nabla * n
        + L * eta**2 / 2 * n**2
        + X
        * (
            -eta * gamma * ((1 - L * eta) * nabla - L * eta * n) * delta
            + L * eta**2 / 2 * gamma**2 * delta**2
        )
    )
    assert sympy.expand(descent - collected) == 0


# The value


def largest(function, low, high):
    """The largest value on [low, high], on a grid and then between the neighbours of its best point."""
    grid = np.linspace(low, high, 1001)
    best = int(np.argmax(function(grid)))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, 1000)])
    found = optimize.minimize_scalar(
        lambda x: -function(x), bounds=around, method="bounded", options={"xatol": 1e-9}
    )
    return max(-found.fun, float(function(grid[best])))


@given(probability, st.floats(0, 5), st.floats(0, 20), st.floats(0.01, 5))
@settings(max_examples=200)
def test_the_worst_tilt_is_found_also_where_there_are_two_maxima(p, linear, square, price):
    grid = np.linspace(p, 1, 4001)
    entropy = special.rel_entr(grid, p) + special.rel_entr(1 - grid, 1 - p)
    values = linear * grid + square * grid**2 - price * entropy
    (found,) = _worst_tilt(np.array([p]), np.array([linear]), np.array([square]), price)
    spread = values.max() - values.min()
    assert values.max() - 1e-9 * (1 + price) <= found <= values.max() + 1e-3 * (spread + price)


def test_a_maximum_at_one_half_is_found():
    """There the slope is 0 at the first point that is tried: pi = 1/2 at linear = ln((1-p)/p)."""
    p, none = np.array([0.25]), np.zeros(1)
    linear = np.log1p(-p) - np.log(p)
    assert _worst_tilt(p, linear, none, 1.0) == pytest.approx(math.log(1.5), rel=ONE_STEP)


def test_the_larger_maximum_lies_where_the_slope_at_one_half_points():
    A, B, c, p, pi = sympy.symbols("A B c p pi", positive=True)
    x = sympy.Symbol("x", positive=True)
    entropy = pi * sympy.log(pi / p) + (1 - pi) * sympy.log((1 - pi) / (1 - p))
    h = sympy.expand_log(A * pi + B * pi**2 - c * entropy, force=True)
    half = sympy.Rational(1, 2)
    difference = h.subs(pi, half + x) - h.subs(pi, half - x) - 2 * x * h.diff(pi).subs(pi, half)
    assert sympy.simplify(sympy.expand(sympy.expand_log(difference, force=True))) == 0


def random_gamble(seed):
    """A run with certain, impossible and equal steps; without noise where the seed is 0."""
    rng = np.random.default_rng(seed)
    L, small = 10 ** rng.uniform(-0.7, 0.7), 10 ** rng.uniform(-2, 0)
    sigma = 0.0 if seed == 0 else 10 ** rng.uniform(-1.5, 0.5)
    p, eta, rho, gamma = rng.uniform([[0.01], [0.05], [0.01], [0.1]], [[0.99], [1.9], [2], [3]], (4, 5))
    p[:2], again = (0.0, 1.0), [0, 1, 2, 3, 4, 4, 4]
    run = settle(
        schedule=rst.Tabulated(tuple(p[again])),
        steps=len(again),
        eta=eta[again] / L,
        rho=small * rho[again],
        gamma=gamma[again],
        constants=ProblemConstants(L=L, sigma=sigma),
        gap=small * rng.uniform(0, 2),
    )
    return Gamble(run, confidence=rng.uniform(0.5, 0.999), s=rng.uniform(0.05, 1) * sigma)


class Letters(NamedTuple):
    """Of one step, as in the note: p, eta, a, v, w, y, and at some lambda D and a'."""

    p: float
    eta: float
    a: float
    v: float
    w: float
    y: float
    D: float
    rest: float


def letters_of(gamble, lam):
    run, s = gamble.run, gamble.s
    L, ratio = run.L, s**2 / run.sigma if run.sigma else 0.0
    for p, eta, rho, gamma in zip(run.p, run.eta, run.rho, run.gamma, strict=True):
        m = gamma * L * rho if p > 0 else 0.0
        a, b = eta - L * eta**2 / 2, eta - L * eta**2
        D = 1 - lam * ratio * L * eta**2 * (run.sigma + m)
        yield Letters(
            *(p, eta, a, m * abs(b), L * (eta * m) ** 2 / 2, m * L * eta**2),
            *(D, a - lam * (b * s) ** 2 / (2 * D)),
        )


def before_the_tilts(gamble, lam, excess):
    """The theorem with lemma 2 undone: the supremum of a G^2 + nu Lambda(G) over G, step by step."""
    run, ell = gamble.run, -math.log(1 - gamble.confidence)
    steps = list(letters_of(gamble, lam))
    if any(step.D <= 0 or step.rest <= 0 for step in steps):
        return math.inf
    nu = (1 + excess) * max(step.a / step.rest for step in steps)
    value = nu * (run.gap + ell / lam)
    for p, eta, a, v, w, y, D, rest in steps:
        spare, jump = nu * rest - a, w + y * run.sigma * (1 + 1 / D) / 2

        def added(G, p=p, v=v, spare=spare, jump=jump):
            exponent = lam * (v * G + jump)
            return nu / lam * (cumulant(p, exponent) if 0 < p < 1 else p * exponent) - spare * G**2

        value += nu * run.L * (eta * run.sigma) ** 2 / (2 * D)
        value += largest(added, 0, nu * v / (2 * spare))  # beyond it, it decreases
    return value


@pytest.mark.parametrize("seed", range(8))
def test_at_each_lambda_and_nu_the_value_is_that_of_the_theorem_before_its_tilts(seed):
    gamble, rng = random_gamble(seed), np.random.default_rng(100 + seed)
    lam, excess = 10 ** rng.uniform(-1, 1.5), 10 ** rng.uniform(-1, 0.5)
    while math.isinf(expected := before_the_tilts(gamble, lam, excess)):
        lam /= 2
    ell = -math.log(1 - gamble.confidence)
    found = _value(_steps(gamble), gamble.run, gamble.s, ell, lam, excess)
    assert found == pytest.approx(expected, rel=NUMERIC)


@pytest.mark.parametrize("gap, s, confidence", [(0.0, 1.0, 0.999), (1.0, 0.5, 0.99)])
def test_the_search_ends_at_the_minimum(gap, s, confidence):
    constants = ProblemConstants(L=1.0, sigma=1.0)
    arguments = {"schedule": 0.1, "steps": 3, "eta": 0.1, "rho": 1.0, "gap": gap, "constants": constants}
    gamble = Gamble(settle(gamma=1.0, **arguments), confidence, s)
    least = optimize.minimize(
        lambda point: before_the_tilts(gamble, *np.exp(point)),
        np.zeros(2),
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-12},
    )
    found = noisy.evaluate(confidence=confidence, directional_noise=s, **arguments)
    assert found == pytest.approx(least.fun / gamble.run.a.sum(), rel=1e-8)


@pytest.mark.parametrize("lam", [3.0, 4.0])
def test_at_the_edge_of_the_feasible_numbers_the_value_is_out_of_reach(lam):
    """For eta = 1/2, L = sigma = s = 1 and rho = 0, a' = 0 at lambda = 3 and D = 0 at lambda = 4."""
    run = settle(0.5, 1, eta=0.5, rho=0.0, gamma=1.0, constants=ProblemConstants(L=1.0, sigma=1.0), gap=1.0)
    steps = _steps(Gamble(run, 0.9, s=1.0))
    assert _value(steps, run, s=1.0, ell=1.0, lam=lam, excess=1.0) == 1e300


@pytest.mark.parametrize("seed", range(8))
def test_the_search_starts_at_the_minimum_of_the_gaussian_approximation(seed):
    gamble = random_gamble(seed)
    run, s, ell = gamble.run, gamble.s, -math.log(1 - gamble.confidence)
    U2, C, V, limits = 0.0, run.gap, 0.0, []
    for p, eta, a, v, w, y, *_ in letters_of(gamble, lam=1.0):
        U2 += (p * v) ** 2 / a
        C += p * (w + y * run.sigma) + run.L * (eta * run.sigma) ** 2 / 2
    excess = math.sqrt(U2 / (U2 + 4 * C))
    for p, eta, a, v, w, _, D, _ in letters_of(gamble, lam=1.0):
        G = (1 + excess) * p * v / (2 * excess * a)
        across, along = s * (eta - run.L * eta**2), s * run.L * eta**2 * run.sigma
        V += p * (1 - p) * (v * G + w) ** 2 + (across * G) ** 2 + along**2 / 2
        limits += [1 / (2 * (1 - D)), a / (2 * across**2)] if s > 0 else []
    lam = min([math.sqrt(2 * ell / V), *limits])
    assert _start(_steps(gamble), run, s, ell) == pytest.approx((lam, excess), rel=ONE_STEP)
    for step in letters_of(gamble, lam):
        assert step.D >= (1 - ONE_STEP) / 2 and step.rest >= (1 - ONE_STEP) * step.a / 2


@pytest.mark.parametrize(
    "bound, sigma, rho", [(noiseless, 0.0, 0.4), (noiseless, 0.0, 3.0), (noisy, 0.4, 0.4)]
)
def test_the_value_is_the_least_of_the_symbolic_expression_over_lambda_and_nu(bound, sigma, rho):
    steps, p, eta, rho, gamma = 2, [0.3, 0.6], [0.5, 0.25], [rho, 1.0], [1.0, 2.0]
    s, alpha = sigma / 2, 0.05
    i = indexed()
    expression = bound.expression.subs({i.T: steps, i.L: 1, i.sigma: sigma, i.gap: 0.5}).doit()
    numbers = {
        base[t]: values[t]
        for base, values in zip((i.p, i.eta, i.rho, i.gamma), (p, eta, rho, gamma), strict=True)
        for t in range(steps)
    }
    numbers |= {
        symbol: {r"\alpha": alpha, "s": s}[symbol.name]
        for symbol in expression.free_symbols
        if symbol.name in (r"\alpha", "s")
    }
    named = {symbol.name: symbol for symbol in expression.free_symbols}
    lam, nu, pi = (named[name] for name in (r"\lambda", r"\nu", r"\pi"))
    (least,) = (f for f in expression.atoms(sympy.core.function.AppliedUndef) if "inf" in f.func.__name__)
    inside = least.args[0]
    tilts = {
        next(t for t in range(steps) if f.has(i.p[t])): f
        for f in inside.atoms(sympy.core.function.AppliedUndef)
    }
    certain = sympy.lambdify((lam, nu), inside.subs(dict.fromkeys(tilts.values(), 0)).subs(numbers))
    uncertain = {t: sympy.lambdify((pi, lam, nu), f.args[0].subs(numbers)) for t, f in tilts.items()}
    assert len(uncertain) == steps

    def value(point):
        x, y = math.exp(point[0]), 1 + math.exp(point[1])
        for e, r, c in zip(eta, rho, gamma, strict=True):
            D = 1 - x * s * e**2 / 2 * (sigma + c * r)  # here s^2/sigma = s/2
            a = e * (1 - e / 2)
            if D <= 0 or y * (a - x * (e * (1 - e) * s) ** 2 / (2 * D)) <= a:
                return 1e6
        return certain(x, y) + sum(
            largest(lambda z, f=f: f(z, x, y), p[t], 1 - 1e-9) for t, f in uncertain.items()
        )

    W = sum(e * (1 - e / 2) for e in eta)
    found = bound.evaluate(
        schedule=rst.Tabulated(tuple(p)),
        steps=steps,
        eta=eta,
        rho=rho,
        gamma=gamma,
        constants=ProblemConstants(L=1.0, sigma=sigma),
        gap=0.5,
        confidence=1 - alpha,
        directional_noise=s,
    )
    grid = [(value((x, y)) / W, x, y) for x in np.linspace(-4, 4, 9) for y in np.linspace(-4, 3, 8)]
    best = optimize.minimize(
        value, min(grid)[1:], method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-8, "maxfev": 80}
    )
    assert found == pytest.approx(best.fun / W, rel=1e-5)


@given(
    probability,
    st.floats(0.05, 1.9),
    st.floats(0, 3),
    st.floats(0, 2),
    st.integers(1, 300),
    st.floats(0.01, 0.99),
)
@settings(max_examples=25)
def test_it_lies_between_the_master_bound_and_what_is_certain(p, eta, rho, gap, T, confidence):
    arguments = {"steps": T, "eta": eta, "rho": rho, "gap": gap, "constants": UNIT}
    value = noiseless.evaluate(schedule=p, confidence=confidence, **arguments)
    expectation = nonconvex_average.evaluate(schedule=p, **arguments)
    certain = nonconvex_average.evaluate(schedule=1.0, **arguments)
    assert (
        expectation * (1 - NUMERIC) <= value <= min(certain, expectation / (1 - confidence)) * (1 + NUMERIC)
    )


@given(
    probability, st.floats(0.05, 1.9), st.floats(0, 2), st.floats(0, 2), st.floats(0.01, 1), st.floats(0, 1)
)
@settings(max_examples=12)
def test_more_confidence_more_noise_and_wider_noise_cost_more(p, eta, rho, gap, sigma, share):
    def value(confidence, sigma, s):
        return noisy.evaluate(
            schedule=p,
            steps=20,
            eta=eta,
            rho=rho,
            gap=gap,
            constants=ProblemConstants(L=1.0, sigma=sigma),
            confidence=confidence,
            directional_noise=s,
        )

    slack = 1 + 1e-6  # the search over lambda and nu stops this near its minimum
    here = value(0.9, sigma, share * sigma)
    assert here <= slack * value(0.99, sigma, share * sigma)
    assert here <= slack * value(0.9, sigma, sigma)
    assert here <= slack * value(0.9, 1.1 * sigma, 1.1 * share * sigma)


def test_the_mixing_coefficient_of_a_step_without_trial_does_not_enter():
    constants = ProblemConstants(L=1.0, sigma=0.5)
    values = [
        noisy.evaluate(schedule=0.0, gamma=gamma, constants=constants, **ARGUMENTS) for gamma in (0.0, 50.0)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_trials_without_noise_cost_nothing(p):
    value = noiseless.evaluate(schedule=p, constants=UNIT, **ARGUMENTS)
    assert value == nonconvex_average.evaluate(schedule=p, constants=UNIT, **ARGUMENTS)


def closed_form(p, eta, rho, gamma, gap, alpha):
    """The corollary of the note: nu = 2 and lam = 1/(2 kappa), kappa = max k v^2/a; L = 1."""
    ell = math.log(1 / alpha)
    a, k = eta * (1 - eta / 2), np.array([proxy(x) for x in p])
    v, w = eta * gamma * abs(1 - eta) * rho, eta**2 / 2 * (gamma * rho) ** 2
    kappa = (k * v**2 / a).max()
    constant = gap + 2 * kappa * ell + (p * w + k * w**2 / (4 * kappa)).sum()
    return 2 * (constant + ((p * v + k * v * w / (2 * kappa)) ** 2 / a).sum()) / a.sum()


@given(
    st.lists(
        st.tuples(probability, st.floats(0.02, 0.95), st.floats(0.1, 2), st.floats(0.1, 2)),
        min_size=1,
        max_size=30,
    ),
    st.floats(0, 2),
    st.floats(0.01, 0.5),
)
@settings(max_examples=25)
def test_the_corollary_in_closed_form_is_above(rows, gap, alpha):
    p, eta, rho, gamma = map(np.array, zip(*rows, strict=True))
    assume((abs(p - 0.5) > 1e-3).all())
    value = noiseless.evaluate(
        schedule=rst.Tabulated(tuple(p)),
        steps=p.size,
        eta=eta,
        rho=rho,
        gamma=gamma,
        gap=gap,
        constants=UNIT,
        confidence=1 - alpha,
    )
    assert value <= closed_form(p, eta, rho, gamma, gap, alpha) * (1 + NUMERIC)


def test_in_long_runs_confidence_is_free():
    """The ratio to the master bound falls to 1 like 1/sqrt(T)."""
    excess = []
    for T in (10**3, 10**5):
        arguments = {"steps": T, "eta": 0.3, "rho": 0.3, "gap": 1.0, "constants": UNIT}
        expectation = nonconvex_average.evaluate(schedule=0.5, **arguments)
        excess.append(noiseless.evaluate(schedule=0.5, **arguments) / expectation - 1)
    assert excess[0] < 0.15 and excess[1] < 0.15 * excess[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"confidence": 1.0}, r"required: level of confidence in \(0, 1\); got 1.0"),
        ({"confidence": 0.0}, r"required: level of confidence in \(0, 1\); got 0.0"),
        ({"directional_noise": 0.6}, "directional_noise <= sigma = 0.5; got 0.6"),
        ({"directional_noise": -0.1}, r"required: noise level directional_noise in \[0, inf\); got -0.1"),
        ({"eta": 2.0}, "0 < eta_t < 2/L; got 2.0 at t = 0"),
        ({"gap": -1.0}, "initial gap"),
        ({"schedule": 1.5}, "probability p"),
    ],
)
def test_arguments_are_checked(arguments, message):
    good = {"schedule": 0.5, "constants": ProblemConstants(L=1.0, sigma=0.5), **ARGUMENTS}
    with pytest.raises(DomainError, match=message):
        noisy.evaluate(**(good | arguments))
    with pytest.raises(DomainError, match="sigma = 0"):
        noiseless.evaluate(**good)


# Runs below it

PROBLEMS = [
    RippledQuadratic(start=[2.2]),
    PiecewiseQuadratic([0.0, 0.3], [0.15, -0.15], left=1.0, right=1.0, start=[0.0]),
    Quadratic([1.0, 0.1], start=[0.5, -2.0]),
]


def tree(problem, p, eta, rho, gamma):
    """The metric at every leaf of the tree of trials, (2^T,), and the probabilities of the leaves."""
    T = len(p)
    coins = np.array(list(itertools.product([False, True], repeat=T)))
    x = np.tile(problem.start, (len(coins), 1))
    metric = np.zeros(len(coins))
    weights = noiseless.metric.weights(eta, problem.constants.L)
    for t in range(T):
        metric += weights[t] * (problem.gradient(x) ** 2).sum(axis=-1)
        x = rst.step(x, problem.gradient, coins[:, t], eta[t], rho[t], gamma[t])
    return metric, np.where(coins, p, 1 - p).prod(axis=1)


@given(
    st.sampled_from(PROBLEMS),
    st.lists(
        st.tuples(probability, st.floats(0.05, 1.9), st.floats(0, 2), st.floats(0, 3)), min_size=1, max_size=8
    ),
    st.sampled_from([0.3, 0.05, 0.01]),
)
@settings(max_examples=40)
def test_over_the_whole_tree_of_trials_it_fails_with_at_most_the_stated_probability(problem, rows, alpha):
    p, eta, rho, gamma = map(np.array, zip(*rows, strict=True))
    eta = eta / problem.constants.L
    metric, chance = tree(problem, p, eta, rho, gamma)
    value = noiseless.evaluate(
        schedule=rst.Tabulated(tuple(p)),
        steps=p.size,
        eta=eta,
        rho=rho,
        gamma=gamma,
        constants=problem.constants,
        gap=float(problem.gap(problem.start)),
        confidence=1 - alpha,
    )
    assert chance.sum() == pytest.approx(1.0, rel=NUMERIC)
    assert chance[metric > value * (1 + NUMERIC)].sum() <= alpha


@pytest.mark.parametrize("p, gamma", [(0.25, 2.0), (0.5, 1.0)])
@pytest.mark.parametrize(
    "problem", [RippledQuadratic(dimension=4, noise=0.2), Quadratic([1.0, 0.5, 0.2], noise=0.3)], ids=repr
)
def test_the_share_of_noisy_runs_above_it_is_at_most_the_stated_one(problem, p, gamma):
    """Exact binomial test at COMPARISON_ALARM for each of 4 cases."""
    R, T, alpha, L = 1024, 60, 0.05, problem.constants.L
    eta, rho = np.full(T, 0.4 / L), 0.3
    run = rst.simulate(problem, p, steps=T, eta=eta, rho=rho, gamma=gamma, replicas=R, seed=11, keep=True)
    squared = (problem.gradient(run.points[:, :T]) ** 2).sum(axis=-1)
    metric = squared @ noisy.metric.weights(eta, L)
    value = noisy.evaluate(
        schedule=p,
        steps=T,
        eta=eta,
        rho=rho,
        gamma=gamma,
        constants=problem.constants,
        gap=float(problem.gap(problem.start)),
        confidence=1 - alpha,
        directional_noise=problem.noise,
    )
    above = int((metric > value).sum())
    assert stats.binom.sf(above - 1, R, alpha) >= COMPARISON_ALARM / 4
    assert value <= 10 * np.quantile(metric, 1 - alpha), "so loose that the comparison says nothing"


def test_near_the_step_size_1_over_l_it_is_the_bound_of_chernoff_on_the_trials():
    """A quadratic of curvature L: x_{t+1} = -+ rho X_t, so the metric counts the trials but the last.

    Slightly below 1/L, since a step that lands on the minimizer would stay there.
    """
    T, p, eta, rho, alpha = 100, 0.5, 1 - 1e-7, 0.7, 0.01
    problem = Quadratic([1.0], start=[1.0])
    value = noiseless.evaluate(
        schedule=p, steps=T, eta=eta, rho=rho, constants=problem.constants, gap=0.5, confidence=1 - alpha
    )
    chernoff = optimize.minimize_scalar(
        lambda x: (math.log(1 / alpha) + T * math.log(1 - p + p * math.exp(x))) / x,
        bounds=(1e-3, 5),
        method="bounded",
    )
    assert value == pytest.approx((1 + rho**2 * chernoff.fun) / T, rel=1e-5)
    coins = rst.Trials(np.full(T, p), seed=1).sequence()
    x, total = problem.start, 0.0
    for coin in coins:
        total += float(problem.gradient(x)[0] ** 2)
        x = rst.step(x, problem.gradient, bool(coin), eta, rho)
    assert total == pytest.approx(1 + rho**2 * coins[:-1].sum(), rel=1e-5)
    exact = (1 + rho**2 * stats.binom.isf(alpha, T - 1, p)) / T
    assert 0.93 * value < exact <= value


@pytest.mark.parametrize("confidence", [1e-300, 1 - 1e-16])
@pytest.mark.parametrize("p", [0.0, 1e-300, 0.5, 1 - 1e-16, 1.0])
@pytest.mark.parametrize("rho, gap", [(0.0, 0.0), (1e3, 1e-3)])
def test_the_edges_of_the_domain(confidence, p, rho, gap):
    for sigma, eta in ((0.0, 1e-6), (1e-12, 1.0), (10.0, 1.999)):
        arguments = {
            "schedule": p,
            "steps": 5,
            "eta": eta,
            "rho": rho,
            "gap": gap,
            "constants": ProblemConstants(L=1.0, sigma=sigma),
        }
        value = noisy.evaluate(confidence=confidence, **arguments)
        assert math.isfinite(value)
        assert value >= nonconvex_average.evaluate(**arguments) * (1 - 1e-9)
