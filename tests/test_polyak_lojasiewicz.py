"""The bounds on the last gap: their algebra, published special cases, exact trees of trials, the order."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP, SEMIDEFINITE, z_threshold
from hypothesis import assume, given, settings, strategies as st
from scipy import optimize

import rst_theory as rst
from rst_theory.bounds.average import indexed
from rst_theory.bounds.polyak_lojasiewicz import (
    pl_last_iterate,
    pl_last_iterate_closed,
    pl_last_iterate_convex,
    pl_last_iterate_strongly_convex,
    pl_last_iterate_unnormalized,
)
from rst_theory.notation import Assumption, DomainError, ProblemConstants
from rst_theory.problems import PiecewiseQuadratic, Quadratic, RippledQuadratic

BOUNDS = [
    pl_last_iterate,
    pl_last_iterate_closed,
    pl_last_iterate_unnormalized,
    pl_last_iterate_convex,
    pl_last_iterate_strongly_convex,
]
by_name = pytest.mark.parametrize("bound", BOUNDS, ids=lambda b: b.name)

probability = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
curvature = st.floats(0.02, 1.0)


def value(bound, p, eta, rho, gamma=1.0, *, L=1.0, mu=0.1, sigma=0.0, gap=1.0, steps=None):
    schedule = p if isinstance(p, int | float) else rst.Tabulated(tuple(p))
    return bound.evaluate(
        schedule=schedule,
        steps=steps or len(p),
        eta=eta,
        rho=rho,
        gamma=gamma,
        constants=ProblemConstants(L=L, mu=mu, sigma=sigma),
        gap=gap,
    )


def test_the_convex_bounds_differ_in_the_least_curvature():
    """l = 0, or mu: what divides ||v||^2 is 2 (L - l)."""
    for bound, width in ((pl_last_iterate_convex, "2 L"), (pl_last_iterate_strongly_convex, r"2 L - 2 \mu")):
        assert rf"\frac{{-1 + \frac{{1}}{{\theta_{{0}}}}}}{{{width}}}" in bound.latex()


# The domain


@by_name
@pytest.mark.parametrize("change", [{"eta": 2.0}, {"eta": 0.0}, {"mu": 0.0}, {"gap": math.inf}])
def test_the_domain_is_checked(bound, change):
    good = {"p": [0.5] * 3, "eta": 0.5, "rho": 0.1}
    assert value(bound, **good) > 0
    with pytest.raises(DomainError):
        value(bound, **(good | change))


@pytest.mark.parametrize("bound", [pl_last_iterate_convex, pl_last_iterate_strongly_convex])
@pytest.mark.parametrize("change, said", [({"sigma": 0.1}, "sigma = 0"), ({"eta": 1.1}, "eta_t <= 1/L")])
def test_the_convex_bounds_are_for_exact_gradients_and_short_steps(bound, change, said):
    with pytest.raises(DomainError, match=said):
        value(bound, **({"p": [0.5], "eta": 0.5, "rho": 0.1} | change))


@pytest.mark.parametrize("bound", [pl_last_iterate, pl_last_iterate_unnormalized], ids=lambda b: b.name)
@pytest.mark.parametrize("row", [(0.5, 0.25, 0.5, 1.0), (0.75, 0.5, 0.25, 2.0), (1.0, 0.25, 0.5, 1.9)])
@pytest.mark.parametrize(
    "sigma, gap", [(0.0, 2.0), (0.5, 2.0), (0.0, 0.08), (0.0, 0.005), (0.05, 0.002), (0.2, 0.004)]
)
def test_one_step_is_the_expression_at_its_saddle(bound, row, sigma, gap):
    """The note's min over theta of max over s by direct search, good to 1e-6; ours is at most 1e-3 above."""
    mu = 0.25
    found = value(bound, [row[0]], *row[1:], mu=mu, sigma=sigma, gap=gap)
    i = indexed()
    letters = dict(bound.symbolic().where)
    right = letters.pop(sympy.IndexedBase(r"\Delta")[i.t + 1]).args[0]
    for letter, meaning in letters.items():
        right = right.subs(letter, meaning)
    numbers = dict(zip((i.p[i.t], i.eta[i.t], i.rho[i.t], i.gamma[i.t]), row, strict=True))
    mu_symbol = rst.notation.QUANTITIES["mu"].symbol
    right = right.subs(
        numbers | {i.L: 1, i.sigma: sigma, mu_symbol: mu, sympy.IndexedBase(r"\Delta")[i.t]: gap}
    )
    thetas = sympy.symbols(r"\theta_0 \theta_1", positive=True)
    at = sympy.lambdify((sympy.Symbol("s", nonnegative=True), *thetas), right)
    s = np.linspace(2 * mu * gap, 2 * gap, 2001)
    result = optimize.minimize(
        lambda theta: at(s, *theta).max(), [0.9, 0.9], bounds=[(0.05, 1)] * 2, method="Nelder-Mead", tol=1e-9
    )
    assert result.fun <= found * (1 + 1e-6)
    assert found <= result.fun * (1 + 1e-3)


def least_theta(right, V2, mu, width):
    """Where (right + (1/theta - 1) V^2/(2 width))/(1 + mu (1 - theta)/width) is least in (0, 1]."""

    def slope(theta):  # its sign
        top, bottom = right + (1 / theta - 1) * V2 / (2 * width), 1 + mu * (1 - theta) / width
        return top * mu / width - V2 / (2 * width * theta**2) * bottom

    return 1.0 if slope(1.0) <= 0 else optimize.brentq(slope, 1e-12, 1.0, xtol=1e-15, rtol=1e-15)


def largest_of(mean, low, high, rounds=200):
    """The largest value of a concave function, by thirds."""
    ends = max(mean(low), mean(high))
    for _ in range(rounds):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (a, high) if mean(a) < mean(b) else (low, b)
    return max(ends, mean((low + high) / 2))


def averaged(p, thetas, delta, s, squares, L, mu, width):
    """The right side of the lemma for both outcomes, divided by N, averaged over the trial."""
    total = 0.0
    for chance, theta, V2 in zip((1 - p, p), thetas, squares, strict=True):
        tau = 1 / (2 * L) + (1 / theta - 1) / (2 * width)
        total += chance * (delta - s / (2 * L) + tau * V2) / (1 + mu * (1 - theta) / width)
    return total


def best_thetas(delta, squares, L, mu, width):
    right = delta * (1 - mu / L)  # at s = 2 mu delta
    return [least_theta(right + V2 / (2 * L), V2, mu, width) for V2 in squares]


def concave_step(row, L, mu, sigma, delta, ascent):
    """The next mean gap: the smaller one of two choices of the thetas."""
    p, eta, rho, gamma = row
    e, k = L * eta, abs(1 - L * eta)

    def squares(s):
        V0 = k**2 * s + (e * sigma) ** 2
        moved = rho**2 if ascent == "normalized" else rho**2 * (s + sigma**2)
        K = 2 * e * gamma * L * math.sqrt(V0 * moved)
        if sigma == 0 and e < 1:
            cap = s - 2 * mu * delta + L**2 * moved
            if ascent == "unnormalized":
                cap -= mu * rho * (2 - L * rho) * s
            K = min(K, e * gamma * k * cap)
        return V0, V0 + K + (e * gamma * L) ** 2 * moved

    low, high = 2 * mu * delta, 2 * L * delta
    choices = best_thetas(delta, squares(low), L, mu, 2 * L), (1.0, 1.0)
    means = [lambda s, c=c: averaged(p, c, delta, s, squares(s), L, mu, 2 * L) for c in choices]
    return min(largest_of(mean, low, high) for mean in means)


CASES = [
    (seed, L, sigma, gap)
    for seed in range(4)
    for L, sigma, gap in (
        (1.0, 0.0, 1.0),
        (2.5, 0.0, 1e-2),
        (0.4, 0.0, 1e-4),
        (2.5, 0.7, 1.0),
        (0.4, 0.2, 1e-2),
        (1.0, 0.1, 1e-4),
    )
]


def random_rows(seed, L, longest, T=3):
    rng = np.random.default_rng(seed)
    p, eta = rng.choice([0.0, 0.2, 0.6, 1.0], T), rng.uniform(0.05, longest, T) / L
    rho, gamma = rng.choice([0.01, 0.1, 0.5, 1.5], T) * rng.uniform(0.5, 1, T) / L, rng.uniform(0.3, 2, T)
    return list(zip(p.tolist(), eta.tolist(), rho.tolist(), gamma.tolist(), strict=True))


@pytest.mark.parametrize("seed, L, sigma, gap", CASES)
@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
def test_the_recursion_in_plain_loops(seed, L, sigma, gap, ascent):
    rows, mu = random_rows(seed, L, 1.9), 0.2 * L
    bound = pl_last_iterate if ascent == "normalized" else pl_last_iterate_unnormalized
    found = value(bound, *zip(*rows, strict=True), L=L, mu=mu, sigma=sigma, gap=gap)
    for row in rows:
        gap = concave_step(row, L, mu, sigma, gap, ascent)
    assert found == pytest.approx(gap, rel=NUMERIC)


def chord(row, chance, L, mu, least, delta, largest):
    """The next gap on the chord of its worst mean over [0, largest], at the best of three thetas."""
    _, eta, rho, gamma = row
    e, width = L * eta, L - least

    def squares(s):
        G = (1 - e) * math.sqrt(s)
        return G**2, max((G - e * gamma * j * rho) ** 2 for j in (least, L))

    def worst(delta, thetas):
        tried = np.linspace(2 * mu * delta, 2 * L * delta, 41).tolist()
        return max(0.0, *(averaged(chance, thetas, delta, s, squares(s), L, mu, width) for s in tried))

    own = best_thetas(delta, squares(2 * mu * delta), L, mu, width)
    found = []
    for thetas in (own, (own[0], 1.0), (1.0, 1.0)):
        low, high = worst(0.0, thetas), worst(largest, thetas)
        found.append(low + max(high - low, 0.0) * delta / largest)
    return min(found)


def convex_recursion(rows, L, mu, least, delta):
    largest = delta  # of every path
    for row in rows:
        paths = [float(coin) for coin in (0, 1) if row[0] != 1 - coin]
        mean = chord(row, row[0], L, mu, least, delta, largest)
        delta, largest = mean, max(chord(row, coin, L, mu, least, largest, largest) for coin in paths)
    return delta


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("L, gap", [(1.0, 1.0), (2.5, 1e-2), (0.4, 1e-4)])
def test_the_convex_recursions_in_plain_loops(seed, L, gap):
    rows, mu = random_rows(seed, L, 1.0), 0.2 * L
    for bound, least in ((pl_last_iterate_convex, 0.0), (pl_last_iterate_strongly_convex, mu)):
        found = value(bound, *zip(*rows, strict=True), L=L, mu=mu, gap=gap)
        assert found == pytest.approx(convex_recursion(rows, L, mu, least, gap), rel=NUMERIC)


def test_the_closed_form_in_letters_is_the_same_number():
    p, eta, rho, gamma = [0.25, 1.0], [0.25, 0.375], [0.125, 0.25], [1.0, 0.5]
    i = indexed()
    compact, letters = pl_last_iterate_closed.symbolic()
    mu = rst.notation.QUANTITIES["mu"].symbol
    constants = {i.L: 2, mu: sympy.Rational(1, 2), i.sigma: sympy.Rational(1, 2)}
    letters = {letter: meaning.subs(constants) for letter, meaning in letters.items()}
    unrolled = compact.subs({i.T: 2, i.gap: sympy.Rational(3, 2)}).doit()
    at = {}
    for letter, meaning in letters.items():
        (index,) = letter.indices
        for t in range(2):
            numbers = zip((i.p, i.eta, i.rho, i.gamma), (p, eta, rho, gamma), strict=True)
            here = meaning.subs(index, t)
            at[letter.subs(index, t)] = here.subs({base[t]: sympy.Rational(x[t]) for base, x in numbers})
    found = value(pl_last_iterate_closed, p, eta, rho, gamma, L=2.0, mu=0.5, sigma=0.5, gap=1.5)
    assert found == pytest.approx(float(unrolled.xreplace(at)), rel=NUMERIC)


@pytest.mark.parametrize("bound", [pl_last_iterate, pl_last_iterate_unnormalized, pl_last_iterate_convex])
def test_a_bound_that_grows_for_ever_is_infinite_never_nan(bound):
    assert value(bound, [1.0] * 2, 0.9, 1e120) == math.inf
    assert value(bound, [1.0] * 2, 0.9, 0.1, gap=1e101) == math.inf
    assert value(pl_last_iterate_unnormalized, [1.0] * 2000, 0.9, 5.0) == math.inf
    for rho, gamma in ((1e72, 1e-70), (1e-70, 1e142)):  # a long ascent of little weight, and the converse
        assert value(bound, [1.0], 0.5, rho, gamma) == math.inf
        assert value(bound, [1.0], 0.5, rho / 1e4, gamma / 1e4) < math.inf
    if bound is not pl_last_iterate_convex:
        assert value(bound, [0.0], 0.5, 0.1, sigma=1e72) == math.inf
        assert value(bound, [0.0], 0.5, 0.1, sigma=1e68) < math.inf


@pytest.mark.parametrize("relative", [1e-1, 1e-5, 1e-9, 1e-15])
def test_curvatures_that_are_almost_one_lose_no_digits(relative):
    """At p = 0 the strongly convex bound is (1 - mu eta)^(2 T), also where mu tends to L."""
    mu, eta, T = 1 - relative, 0.4, 3
    found = value(pl_last_iterate_strongly_convex, [0.0] * T, eta, 0.3, mu=mu)
    assert found == pytest.approx((1 - mu * eta) ** (2 * T), rel=1e-12)


# Published special cases, p = 0


@given(e=st.floats(0.01, 1), mu=curvature, T=st.integers(1, 20), L=st.floats(0.1, 10))
@settings(max_examples=60)
def test_gradient_descent_has_the_best_published_rates(e, mu, T, L):
    """arXiv 2204.00647, Theorem 3; (1 - mu eta)^(2 T) for strongly convex f; eta <= 1/L."""
    published = (mu * (1 - e) + math.sqrt(4 - 2 * (1 + mu) * (2 - e) * mu * e)) ** 2 / (2 + mu) ** 2
    classical = 1 - 2 * mu * e * (1 - e / 2)
    arguments = {"eta": e / L, "rho": 0.3, "gamma": 2.0, "L": L, "mu": mu * L, "gap": 3.0, "steps": T}
    for bound in (pl_last_iterate, pl_last_iterate_unnormalized):
        found = value(bound, 0.0, **arguments)
        assert found == pytest.approx(3 * published**T, rel=NUMERIC, abs=1e-14)
        assert found <= 3 * classical**T * (1 + ONE_STEP) + 1e-14
    found = value(pl_last_iterate_closed, 0.0, **arguments)
    assert found == pytest.approx(3 * classical**T, rel=NUMERIC, abs=1e-14)
    sharp = 3 * (1 - mu * e) ** (2 * T)
    found = value(pl_last_iterate_strongly_convex, 0.0, **arguments)
    assert found == pytest.approx(sharp, rel=NUMERIC, abs=1e-11)


@given(e=st.floats(1.0, 1.99), mu=curvature, T=st.integers(1, 9))
@settings(max_examples=30)
def test_long_steps_are_never_worse_than_the_classical_rate(e, mu, T):
    found = value(pl_last_iterate, 0.0, e, 0.3, mu=mu, steps=T)
    assert found <= (1 - 2 * mu * e * (1 - e / 2)) ** T * (1 + ONE_STEP)


@given(
    eta=st.floats(0.01, 1),
    mu=st.floats(0.02, 0.49),
    sigma=st.floats(0, 2),
    gap=st.floats(0.01, 5),
    T=st.integers(1, 60),
)
@settings(max_examples=60)
def test_sgd_is_never_worse_than_karimi_nutini_and_schmidt(eta, mu, sigma, gap, T):
    """arXiv 1608.04636, Theorem 4 in constant steps eta <= 1/(2 mu), for a second moment of at most C^2.

    On the sublevel sets that a run meets G^2 >= 2 mu gap, so C^2 is at least sigma^2 and twice mu times the
    largest gap; the theorem's own bound on the gap must be among them for it to be self-consistent.
    """
    C2 = sigma**2 + 2 * gap
    theirs = (1 - 2 * mu * eta) ** T * gap + C2 * eta / (4 * mu)
    assume(sigma**2 + 2 * mu * max(gap, C2 * eta / (4 * mu)) <= C2)
    for bound in (pl_last_iterate, pl_last_iterate_closed):
        assert value(bound, 0.0, eta, 0.3, mu=mu, sigma=sigma, gap=gap, steps=T) <= theirs * (1 + ONE_STEP)


# The closed form


@given(
    p=probability,
    e=st.floats(0.05, 1.9),
    rho=st.floats(0, 2),
    gamma=st.floats(0, 2),
    mu=curvature,
    gap=st.floats(0, 4),
    T=st.integers(1, 30),
)
@settings(max_examples=60)
def test_the_closed_form_with_constant_parameters(p, e, rho, gamma, mu, gap, T):
    """Without noise: floor z^2/(2 mu), a z^2 = u z + c, and rate 1 - 2 mu (a - u/(2 z))."""
    a, u, c = e * (1 - e / 2), p * gamma * rho * e * abs(1 - e), e**2 * p * gamma**2 * rho**2 / 2
    assume(u + c == 0 or u + c > 1e-9)
    z = max(np.roots([a, -u, -c]).real) if u + c > 0 else 0.0
    rate = 1 - 2 * mu * (a - (u / (2 * z) if z > 0 else 0))
    floor = z**2 / (2 * mu)
    found = value(pl_last_iterate_closed, p, e, rho, gamma, mu=mu, gap=gap, steps=T)
    assert found == pytest.approx(floor + rate**T * (gap - floor), rel=1e-8, abs=1e-14)


@given(
    st.lists(
        st.tuples(probability, st.floats(0.01, 1.99), st.floats(0, 3), st.floats(0, 3)),
        min_size=1,
        max_size=6,
    ),
    curvature,
    st.floats(0, 2),
    st.floats(0, 5),
)
@settings(max_examples=80)
def test_the_recursion_is_never_above_its_closed_form(rows, mu, sigma, gap):
    p, eta, rho, gamma = map(list, zip(*rows, strict=True))
    arguments = {"mu": mu, "sigma": sigma, "gap": gap}
    sharp = value(pl_last_iterate, p, eta, rho, gamma, **arguments)
    assert 0 <= sharp <= value(pl_last_iterate_closed, p, eta, rho, gamma, **arguments) * (1 + ONE_STEP)


def test_the_rate_of_the_note_in_decreasing_steps():
    """eta_t = 4/(mu (t + t_0)), rho_t^2 = r^2 eta_t: O(1/T), with the note's constants."""
    L, mu, sigma, gap, p, gamma, r = 1.0, 0.2, 0.5, 3.0, 0.5, 1.5, 0.4
    t0 = math.ceil(4 * L / mu)
    q = p * gamma
    B = L * sigma**2 / 2 + q * L**2 * r * sigma / math.sqrt(L) + q * (q + gamma) * L**2 * r**2 / 2
    for T in (1, 10, 100, 3000):
        eta = 4 / (mu * (np.arange(T) + t0))
        found = value(
            pl_last_iterate, p, eta, r * np.sqrt(eta), gamma, L=L, mu=mu, sigma=sigma, gap=gap, steps=T
        )
        rate = ((t0 - 1) * (t0 - 2) * gap + 16 * B * T / mu**2) / ((T + t0 - 1) * (T + t0 - 2))
        assert found <= rate
    assert rate <= 20 * found


# Exact expectations over the tree of trials


def last_gap(problem, start, rows, ascent):
    leaves = [(1.0, start)]
    for p, eta, rho, gamma in rows:
        leaves = [
            (weight * chance, rst.step(x, problem.gradient, coin, eta, rho, gamma, ascent))
            for weight, x in leaves
            for coin, chance in ((False, 1 - p), (True, p))
            if chance > 0
        ]
    return sum(weight * float(problem.gap(x)) for weight, x in leaves)


def quadratic(draw):
    return Quadratic([1.0, *draw(st.lists(st.floats(0.01, 1.0), max_size=2))])


def rippled(draw):
    return RippledQuadratic(draw(st.floats(0.51, 2.05)), dimension=draw(st.integers(1, 2)))


def piecewise(draw):
    """Slopes of any sign between positive outer ones, where there is a Polyak-Lojasiewicz constant."""
    pieces = draw(st.lists(st.tuples(st.floats(0.1, 2), st.floats(-2, 2)), min_size=1, max_size=3))
    widths, slopes = np.array(pieces).T
    knots = np.concatenate([[0.0], np.cumsum(widths)])
    derivatives = draw(st.floats(-2, 2)) + np.concatenate([[0.0], np.cumsum(slopes * widths)])
    problem = PiecewiseQuadratic(knots, derivatives, draw(st.floats(0.1, 2)), draw(st.floats(0.1, 2)))
    assume(Assumption.POLYAK_LOJASIEWICZ in problem.assumptions and problem.constants.mu > 1e-6)
    return problem


@pytest.mark.parametrize("family", [quadratic, rippled, piecewise], ids=lambda f: f.__name__)
@given(data=st.data())
@settings(max_examples=50)
def test_the_exact_expectation_is_below_every_bound_that_applies(family, data):
    problem = family(data.draw)
    constants = problem.constants
    ascent = data.draw(st.sampled_from(["normalized", "unnormalized"]))
    row = st.tuples(probability, st.floats(0.02, 1.95), st.floats(0, 2), st.floats(0, 2.5))
    rows = [
        (p, e / constants.L, rho, gamma)
        for p, e, rho, gamma in data.draw(st.lists(row, min_size=1, max_size=4))
    ]
    start = np.array(
        data.draw(st.lists(st.floats(-4, 4), min_size=problem.dimension, max_size=problem.dimension))
    )
    measured = last_gap(problem, start, rows, ascent)
    applied = 0
    for bound in BOUNDS:
        if bound.ascent != ascent or not bound.applies_to(problem):
            continue
        p, eta, rho, gamma = map(list, zip(*rows, strict=True))
        arguments = {
            "schedule": rst.Tabulated(tuple(p)),
            "steps": len(p),
            "eta": eta,
            "rho": rho,
            "gamma": gamma,
        }
        try:
            found = bound.evaluate(constants=constants, gap=float(problem.gap(start)), **arguments)
        except DomainError:
            assert bound in (pl_last_iterate_convex, pl_last_iterate_strongly_convex)
            continue
        applied += 1
        # Where nothing of the gap is left (1 - Theta = 0), rounding is relative to the gap at the start.
        assert measured <= found * (1 + NUMERIC) + 1e-15 * float(problem.gap(start))
    assert applied


@pytest.mark.parametrize("bound", [pl_last_iterate_convex, pl_last_iterate_strongly_convex])
def test_a_path_that_stays_small_overshoots_more(bound):
    """Next to the minimum the first perturbed step is the worst one, so the chord starts above 0."""
    rows = [(0.5, 0.5, 0.5, 1.0), (1.0, 0.5, 0.5, 1.0)]
    measured = last_gap(Quadratic([1.0]), np.array([1e-3]), rows, "normalized")
    found = value(bound, [0.5, 1.0], 0.5, 0.5, mu=1.0, gap=5e-7)
    assert measured == pytest.approx(0.5 * 0.25**2 / 2 + 0.5 * 0.125**2 / 2, rel=0.02)
    assert measured <= found


@by_name
@given(
    st.lists(
        st.tuples(probability, st.floats(0.02, 1.0), st.floats(0, 2), st.floats(0, 2.5)),
        min_size=1,
        max_size=4,
    ),
    curvature,
    st.floats(0, 4),
    st.floats(0, 1),
)
@settings(max_examples=25)
def test_it_does_not_fall_as_the_gap_rises(bound, rows, mu, gap, share):
    p, eta, rho, gamma = map(list, zip(*rows, strict=True))
    small, large = (value(bound, p, eta, rho, gamma, mu=mu, gap=x) for x in (share * gap, gap))
    assert small <= large * (1 + 1e-6) + 1e-14


@pytest.mark.parametrize("name", ["quadratic", "rippled"])
@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
@pytest.mark.parametrize("p, gamma", [(0.5, 1.0), (0.25, 2.0), (1.0, 1.0)])
def test_the_measured_gap_is_below_the_bound_under_noise(name, ascent, p, gamma):
    """A statistical test: fails falsely with probability at most COMPARISON_ALARM over its 12 cases."""
    problem = rst.problems.BY_NAME[name]()
    arguments = {"steps": 60, "eta": rst.Linear(0.8 / problem.constants.L, 0.1), "rho": 0.2, "gamma": gamma}
    measured = rst.simulate(problem, p, replicas=256, seed=5, ascent=ascent, **arguments).final_gap
    gap = float(problem.gap(problem.start))
    for bound in (pl_last_iterate, pl_last_iterate_closed, pl_last_iterate_unnormalized):
        if bound.ascent == ascent:
            found = bound.evaluate(schedule=p, constants=problem.constants, gap=gap, **arguments)
            assert measured.mean - z_threshold(12) * measured.standard_error <= found


# One step against a semidefinite relaxation of the class


def worst_step(p, e, rho, gamma, mu, gap, least, ascent, gradient_norm=None):
    """The largest mean gap after one step that the conditions at x, y, both next points and x* allow; L = 1.

    In coordinates of the Gram matrix of the gradients at x, y, x_0+, x_1+ and the vector x* - x.
    """
    import cvxpy

    g, g_adv, g0, g1, to_minimum = np.eye(5)
    radius = rho if ascent == "unnormalized" else rho / gradient_norm
    at = [0 * g, radius * g, -e * g, -e * ((1 - gamma) * g + gamma * g_adv), to_minimum]
    gradients = [g, g_adv, g0, g1, 0 * g]
    gram, gaps = cvxpy.Variable((5, 5), PSD=True), cvxpy.Variable(5)

    def inner(a, b):
        return cvxpy.sum(cvxpy.multiply(np.outer(a, b), gram))

    conditions = [gaps[0] == gap, gaps[4] == 0, gaps >= 0]
    if gradient_norm is not None:
        conditions.append(inner(g, g) == gradient_norm**2)
    for i, j in itertools.permutations(range(5), 2):
        dg, dx = gradients[i] - gradients[j], at[i] - at[j]
        curved = inner(dg, dg) + least * inner(dx, dx) - 2 * least * inner(dg, dx)
        conditions.append(gaps[i] - gaps[j] - inner(gradients[j], dx) >= curved / (2 * (1 - least)))
    for i in range(4):
        conditions.append(inner(gradients[i], gradients[i]) >= 2 * mu * gaps[i])
    problem = cvxpy.Problem(cvxpy.Maximize((1 - p) * gaps[2] + p * gaps[3]), conditions)
    problem.solve(solver=cvxpy.CLARABEL)
    assert problem.status == cvxpy.OPTIMAL
    return problem.value


@pytest.mark.parametrize(
    "bound, least, loosest",
    [
        (pl_last_iterate, -1.0, 1.03),
        (pl_last_iterate_unnormalized, -1.0, 1.01),
        (pl_last_iterate_convex, 0.0, 1.08),
        (pl_last_iterate_strongly_convex, 0.2, 1.01),
    ],
    ids=lambda x: getattr(x, "name", None),
)
@pytest.mark.parametrize("p, e, rho", [(0.0, 0.6, 0.3), (0.5, 0.3, 0.2), (0.25, 0.8, 0.3), (1.0, 0.5, 0.1)])
def test_one_step_is_above_the_semidefinite_relaxation_and_close_to_it(bound, least, loosest, p, e, rho):
    mu, gap, gamma = 0.2, 1.0, 1.0
    found = value(bound, [p], e, rho, gamma, mu=mu, gap=gap)
    norms = (
        [None] if bound.ascent == "unnormalized" else np.sqrt(2 * gap * np.array([mu, 1.5 * mu, 2.5 * mu]))
    )
    worst = max(worst_step(p, e, rho, gamma, mu, gap, least, bound.ascent, norm) for norm in norms)
    assert worst <= found * (1 + SEMIDEFINITE)
    assert found <= worst * (loosest if p > 0 else 1 + SEMIDEFINITE)


# What the order of a schedule does


TRAP = {"eta": 0.2, "rho": 0.3, "mu": 0.05}


def halves(T):
    """SAM on the first half, SAM on the last half."""
    first = [1.0] * (T // 2) + [0.0] * (T // 2)
    return first, first[::-1]


def worst_quadratic(p):
    """The largest last gap over the eigenvalues of one-dimensional quadratics in [mu, L], from gap 1."""
    rows = [(chance, TRAP["eta"], TRAP["rho"], 1.0) for chance in p]
    return max(
        last_gap(Quadratic([lam]), np.array([math.sqrt(2 / lam)]), rows, "normalized")
        for lam in np.geomspace(TRAP["mu"], 1, 9)
    )


@pytest.mark.parametrize("T, last_is_better", [(20, True), (100, True), (400, False)])
def test_the_order_is_ranked_as_the_worst_quadratic_does(T, last_is_better):
    first, last = halves(T)
    measured = worst_quadratic(first), worst_quadratic(last)
    bounds = [value(pl_last_iterate_strongly_convex, p, **TRAP) for p in (first, last)]
    assert (measured[1] < measured[0]) == (bounds[1] < bounds[0]) == last_is_better
    if last_is_better:  # and then there is nothing between them
        assert bounds == pytest.approx(measured, rel=1e-9)
    # The trap: a recursion that is concave in the gap puts SAM first whatever the problem.
    assert value(pl_last_iterate, first, **TRAP) < value(pl_last_iterate, last, **TRAP)


def test_random_trials_are_ranked_as_they_measure():
    """p = .75 then .25 against the reverse, on the worst quadratic, with common trials."""
    T = 100
    start = np.array([math.sqrt(2 / TRAP["mu"])])
    gaps, bounds = [], []
    for p in ([0.75] * (T // 2) + [0.25] * (T // 2), [0.25] * (T // 2) + [0.75] * (T // 2)):
        run = rst.simulate(
            Quadratic([TRAP["mu"]]),
            rst.Tabulated(tuple(p)),
            steps=T,
            eta=TRAP["eta"],
            rho=TRAP["rho"],
            replicas=256,
            start=start,
        )
        gaps.append(run.final_gap)
        bounds.append(value(pl_last_iterate_strongly_convex, p, **TRAP))
    assert bounds[1] < bounds[0]
    difference = gaps[0].mean - gaps[1].mean
    error = math.hypot(gaps[0].standard_error, gaps[1].standard_error)
    assert difference > z_threshold() * error
    assert all(gap.mean <= bound <= 1.05 * gap.mean for gap, bound in zip(gaps, bounds, strict=True))


@given(st.permutations([0.0, 1.0, 0.0, 1.0, 0.0]), st.integers(0, 3), curvature, st.floats(0, 3))
@settings(max_examples=40)
def test_a_concave_recursion_prefers_perturbed_steps_early(p, t, mu, gap):
    """Swapping SGD-then-SAM for SAM-then-SGD at t, t + 1 never raises the closed bound."""
    assume(p[t] < p[t + 1])
    swapped = [*p[:t], p[t + 1], p[t], *p[t + 2 :]]
    arguments = {"eta": 0.4, "rho": 0.3, "mu": mu, "gap": gap}
    later = value(pl_last_iterate_closed, p, **arguments)
    assert value(pl_last_iterate_closed, swapped, **arguments) <= later * (1 + ONE_STEP)


@given(st.permutations([0.0, 1.0, 0.25, 0.5]), curvature)
@settings(max_examples=20)
def test_without_noise_the_order_is_nothing_to_unnormalized_ascent(p, mu):
    arguments = {"eta": 0.4, "rho": 0.3, "mu": mu}
    values = [value(pl_last_iterate_unnormalized, q, **arguments) for q in (p, sorted(p))]
    assert values[0] == pytest.approx(values[1], rel=NUMERIC)


# The algebra of the proofs


def test_the_lemma_is_cocoercivity_of_the_shifted_function():
    """One dimension suffices: both sides are quadratic forms in the same three vectors."""
    f, f_plus, g, g_plus, D, L, least = sympy.symbols("f f_+ g g_+ D L l", real=True)  # D = x - x+
    x = sympy.Symbol("x", real=True)

    def shifted(value, point):
        return value - least * point**2 / 2

    h, h_plus = shifted(f, x), shifted(f_plus, x - D)
    dh, dh_plus = g - least * x, g_plus - least * (x - D)
    cocoercive = h - h_plus - dh_plus * D - (dh - dh_plus) ** 2 / (2 * (L - least))
    v = g - L * D
    lemma = f - f_plus + (v**2 - g**2) / (2 * L) - (g_plus - v) ** 2 / (2 * (L - least))
    assert sympy.simplify(cocoercive - lemma) == 0


def test_the_strongly_convex_candidate_is_the_quadratic():
    eta, gamma, rho, mu, L, G = sympy.symbols("eta gamma rho mu L G", positive=True)
    V = (1 - L * eta) * G - L * eta * gamma * mu * rho
    r = (1 - eta * mu) * G - eta * gamma * mu**2 * rho  # the gradient at x+ where f = mu x^2/2
    left = r**2 + mu / (L - mu) * (r - V) ** 2
    right = G**2 + mu * (V**2 - G**2) / L
    assert sympy.simplify(left - right) == 0


def test_without_the_next_point_it_is_the_one_step_bound_of_convex_functions():
    eta, gamma, rho, j, L, G = sympy.symbols("eta gamma rho j L G", positive=True)
    change = (((1 - L * eta) * G - L * eta * gamma * j * rho) ** 2 - G**2) / (2 * L)
    one_step = L * (eta * gamma * j * rho) ** 2 / 2 - eta * gamma * (1 - L * eta) * j * rho * G
    assert sympy.expand(change - one_step + eta * (1 - L * eta / 2) * G**2) == 0


def test_the_peak_and_the_tangent():
    beta, kappa, k, m, sigma, s, a, alpha = sympy.symbols("beta kappa k m sigma s a alpha", positive=True)
    product = sympy.expand((k**2 * s + m**2) * (s + sigma**2))
    A, B, C = (product.coeff(s, power) for power in (2, 1, 0))
    assert sympy.expand(B**2 - 4 * A * C - (k**2 * sigma**2 - m**2) ** 2) == 0
    numbers = {beta: 2, kappa: 1, k: sympy.Rational(1, 2), m: sympy.Rational(1, 8), sigma: 3}
    excess = beta**2 - kappa**2 * A
    root = sympy.sqrt((B**2 - 4 * A * C) / excess) / B
    peak = ((kappa**2 * B - 4 * beta**2 * C / B) / (2 * excess * (1 + beta * root))).subs(numbers)
    slope = sympy.diff(kappa * sympy.sqrt(product) - beta * s, s).subs(numbers).subs(s, peak)
    assert abs(sympy.N(slope, 30)) < 1e-25

    R = sympy.sqrt(kappa**2 * k**4 + 4 * a * alpha * k**2 + 4 * a**2 * m**2)
    at = (2 * a * alpha + kappa**2 * k**2 + kappa * R) / (2 * a**2)
    assert sympy.simplify(sympy.expand((a * at - alpha) ** 2 - kappa**2 * (k**2 * at + m**2))) == 0
    tangent = -a + kappa**2 * k**2 / (2 * (a * at - alpha))
    assert sympy.simplify(tangent + a * R / (kappa * k**2 + R)) == 0
