"""The bounds in plain loops from the notes, what they assume, and what they refuse, word for word."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP

import rst_theory as rst
from rst_theory.bounds import ALL, OneStepBound, RunBound, applicable, best
from rst_theory.bounds.average import WEIGHTED_AVERAGE
from rst_theory.bounds.base import Metric
from rst_theory.bounds.contraction import contraction
from rst_theory.bounds.convex import AVERAGE_GAP
from rst_theory.notation import Assumption, DomainError, ProblemConstants
from rst_theory.problems import FlatAndSharp, Quadratic

# ---- what they say of themselves

_C = "c_t = a_t - eta_t q_t |1 - L eta_t| L rho_t - L^3 eta_t^2 q_t gamma_t rho_t^2/2"
_GAP, _DISTANCE = "gap = f(x_0) - f_star given", "distance = ||x_0 - x_star|| given"
_QUIET, _ETA, _SHORT, _CURVED = "sigma = 0", "0 < eta_t < 2/L", "0 < eta_t <= 1/L", "mu > 0"
_WEAK, _LEFT = "q_t <= 1", "w_t > 0, the share of the progress of gradient descent that is left"
_DEGREE = "q_t (1 - mu/L) <= 1 - eta_t mu"
_DESCENT = f"c_t > 0 for t < T-1, {_C}"
_FEW = "(1 - 2 L c)(1 - e_t + e_t m_t) <= (1 - e_t)(1 - m_t), e_t = L eta_t <= 1, c = min c_t, "
_FEW += "and m_t = gamma_t L rho_t < 1 (m_t = 0 where p_t = 0), for t < T-1"

_NOISY = "SMOOTH UNBIASED BOUNDED_VARIANCE SAME_MINIBATCH INDEPENDENT_TRIALS"
_EXACT = "SMOOTH NOISELESS INDEPENDENT_TRIALS"
_BELOW = "BOUNDED_BELOW SAME_MINIBATCH"
_STRONG = "CONVEX STRONGLY_CONVEX"
_N, _U = "NORMALIZED_ASCENT", "UNNORMALIZED_ASCENT"
_SQUARED = "squared_gradient_norm"

SAID = {
    "nonconvex_average": (_SQUARED, f"{_NOISY} {_BELOW} {_N}", [_ETA, _GAP]),
    "sgd_average": (_SQUARED, f"{_NOISY} {_BELOW} {_N}", [_ETA, _GAP, "p_t = 0"]),
    "sam_average": (_SQUARED, f"{_NOISY} {_BELOW} {_N}", [_ETA, _GAP, "p_t = 1", "gamma_t = 1"]),
    "nonconvex_average_whole": (_SQUARED, f"{_NOISY} {_BELOW} {_N}", [_ETA, _GAP]),
    "nonconvex_average_majorant": (_SQUARED, f"{_EXACT} {_BELOW} {_N}", [_ETA, _QUIET, _GAP]),
    "nonconvex_average_unnormalized": (_SQUARED, f"{_EXACT} {_BELOW} {_U}", [_DESCENT, _QUIET, _GAP]),
    "nonconvex_average_unnormalized_short": (
        *(_SQUARED, f"{_EXACT} {_BELOW} {_U}"),
        [_DESCENT, _FEW, _QUIET, _GAP],
    ),
    "nonconvex_potential_unnormalized": (_SQUARED, f"{_EXACT} {_BELOW} {_U}", [_QUIET, _GAP]),
    "nonconvex_average_unnormalized_noisy": (
        *(_SQUARED, f"{_NOISY} {_BELOW} {_U}"),
        [_ETA, f"c_t > 0, {_C}", _GAP],
    ),
    "pl_last_iterate": ("final_gap", f"{_NOISY} {_BELOW} {_N} POLYAK_LOJASIEWICZ", [_ETA, _CURVED, _GAP]),
    "pl_last_iterate_closed": (
        *("final_gap", f"{_NOISY} {_BELOW} {_N} POLYAK_LOJASIEWICZ"),
        [_ETA, _CURVED, _GAP],
    ),
    "pl_last_iterate_unnormalized": (
        *("final_gap", f"{_NOISY} {_BELOW} {_U} POLYAK_LOJASIEWICZ"),
        [_ETA, _CURVED, _GAP],
    ),
    "pl_last_iterate_convex": (
        *("final_gap", f"{_EXACT} BOUNDED_BELOW CONVEX POLYAK_LOJASIEWICZ {_N}"),
        [_SHORT, _CURVED, _QUIET, _GAP],
    ),
    "pl_last_iterate_strongly_convex": (
        *("final_gap", f"{_EXACT} BOUNDED_BELOW {_STRONG} POLYAK_LOJASIEWICZ {_N}"),
        [_SHORT, _CURVED, _QUIET, _GAP],
    ),
    "convex_average_gap": ("gap", f"{_NOISY} CONVEX {_N}", [_SHORT, _DISTANCE]),
    "convex_average_gap_noiseless": ("gap", f"{_EXACT} CONVEX {_N}", [_SHORT, _WEAK, _QUIET, _DISTANCE]),
    "convex_average_gap_unnormalized": ("gap", f"{_NOISY} CONVEX {_U}", [_SHORT, _WEAK, _LEFT, _DISTANCE]),
    "convex_average_gap_unnormalized_noiseless": (
        *("gap", f"{_EXACT} CONVEX {_U}"),
        [_SHORT, _WEAK, _LEFT, _QUIET, _DISTANCE],
    ),
    "convex_last_iterate_unnormalized": (
        *("final_gap", f"{_EXACT} CONVEX {_U}"),
        [_SHORT, _WEAK, _LEFT, _QUIET, _DISTANCE],
    ),
    "gradient_descent_last_iterate": (
        *("final_gap", f"{_EXACT} CONVEX {_U}"),
        [_SHORT, "p_t = 0", "eta_t = eta_0", _QUIET, _DISTANCE],
    ),
    "strongly_convex_distance_unnormalized": (
        *("final_squared_distance", f"{_EXACT} {_STRONG} {_U}"),
        [_CURVED, _QUIET, _DISTANCE],
    ),
    "strongly_convex_gap_unnormalized": ("final_gap", f"{_EXACT} {_STRONG} {_U}", [_CURVED, _QUIET, _GAP]),
    "strongly_convex_distance_unnormalized_noisy": (
        *("final_squared_distance", f"{_NOISY} {_STRONG} {_U}"),
        [_CURVED, _DISTANCE],
    ),
    "strongly_convex_distance": (
        *("final_squared_distance", f"{_NOISY} {_STRONG} {_N}"),
        [_CURVED, _ETA, _DISTANCE],
    ),
    "strongly_convex_distance_noiseless": (
        *("final_squared_distance", f"{_EXACT} {_STRONG} {_N}"),
        [_CURVED, _SHORT, _DEGREE, _QUIET, _DISTANCE],
    ),
    "nonconvex_average_confidence": (None, f"{_EXACT} {_BELOW} {_N}", [_ETA, _QUIET]),
    "nonconvex_average_confidence_noisy": (None, f"{_NOISY} {_BELOW} SUB_GAUSSIAN {_N}", [_ETA]),
    "nonconvex_average_realized": (
        *(None, f"{_NOISY} {_BELOW} {_N}".replace(" INDEPENDENT_TRIALS", "")),
        [_ETA],
    ),
    "one_step_smooth": (None, f"{_EXACT} {_N}", [_QUIET]),
    "one_step_convex": (None, f"{_EXACT} CONVEX {_N}", [_QUIET]),
    "one_step_strongly_convex": (None, f"{_EXACT} {_STRONG} {_N}", [_QUIET, _CURVED]),
    "one_step_smooth_unnormalized": (None, f"{_EXACT} {_U}", [_QUIET]),
    "one_step_convex_unnormalized": (None, f"{_EXACT} CONVEX {_U}", [_QUIET]),
    "one_step_strongly_convex_unnormalized": (None, f"{_EXACT} {_STRONG} {_U}", [_QUIET, _CURVED]),
    "one_step_noisy": (None, f"{_NOISY} {_N}", []),
    "one_step_noisy_unnormalized": (None, f"{_NOISY} {_U}", []),
}
"""Quantity, assumptions and domain of every bound."""


def test_every_bound_says_what_it_bounds_assumes_and_asks(request):
    assert list(ALL) == list(SAID)
    for name, (quantity, assumptions, domain) in SAID.items():
        bound = ALL[name]
        assert (bound.name, bound.metric.quantity) == (name, quantity)
        assert bound.assumptions == {Assumption[a] for a in assumptions.split()}, name
        assert [condition.text for condition in bound.domain] == domain
        tight = name == "gradient_descent_last_iterate" or (name[:8] == "one_step" and "noisy" not in name)
        assert bound.kind == ("tight" if tight else "upper")
        assert bound.ascent == ("unnormalized" if _U in assumptions.split() else "normalized")
        assert bound.title and bound.metric.name and hash(bound) is not None
        assert repr(bound) == f"<{type(bound).__name__} {name}: {bound.kind}, on the {bound.metric.name}>"
        with pytest.raises(dataclasses.FrozenInstanceError):
            bound.name = "another"
    for frozen in (WEIGHTED_AVERAGE, ALL["nonconvex_average"].domain[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            frozen.latex = ""
    with pytest.raises(dataclasses.FrozenInstanceError):
        rst.bounds.settle(0.5, 3, 0.5, 0.1, 1.0, ProblemConstants(L=1.0)).L = 2.0
    assert Metric("a", "b").quantity is None is Metric("a", "b").weights


by_name = pytest.mark.parametrize("bound", ALL.values(), ids=lambda bound: bound.name)


@by_name
def test_its_note_states_it_under_its_anchor(bound, request):
    file, _, anchor = bound.source.partition("#")
    note = (request.config.rootpath / "paper_notes" / file).read_text()
    _, stated, section = note.partition(f'<a id="{anchor}"></a>')
    assert stated and f"$$\n{bound.latex()}\n$$" in section.partition("<a id=")[0]
    assert not {str(s) for s in bound.expression.free_symbols} & {"U", "C", "W", "z"}
    assert [other for other in ALL.values() if other.title == bound.title] == [bound]


@by_name
def test_every_symbol_stands_for_a_real_number(bound):
    compact, letters = bound.symbolic()
    for formula in (compact, *letters, *letters.values()):
        sequences = {term.base.label for term in formula.atoms(sympy.Indexed)}
        assert all(symbol.is_real for symbol in formula.atoms(sympy.Symbol) - sequences), formula
        for total in formula.atoms(sympy.Sum, sympy.Product):
            assert all(index.is_integer and index.is_nonnegative for index in total.variables), total


# ---- which apply


def test_those_that_apply_are_all_that_can_be_evaluated_smallest_first():
    quiet, noisy = Quadratic([1.0, 0.5]), Quadratic([1.0, 0.5], noise=0.1)
    arguments = {
        "schedule": 0.5,
        "steps": 4,
        "eta": 0.5,
        "rho": 0.1,
        "gamma": 0.9,
        "gap": 1.0,
        "distance": 2.0,
    }
    quantities = {quantity for quantity, *_ in SAID.values() if quantity}
    for problem in (quiet, noisy):
        for ascent, own in (("normalized", _N), ("unnormalized", _U)):
            expected = []
            for name, (quantity, assumptions, _) in SAID.items():
                said = {Assumption[a] for a in assumptions.split()}
                if quantity is None or own not in assumptions.split():
                    continue
                if any(not a.of_the_run and a not in problem.assumptions for a in said):
                    continue
                try:
                    value = ALL[name].evaluate(constants=problem.constants, **arguments)
                except DomainError:
                    continue
                expected.append((value, name, quantity))
            found = applicable(problem, ascent=ascent, **arguments)
            assert [c.value for c in found] == sorted(value for value, *_ in expected)
            assert {(c.value, c.bound.name) for c in found} == {(v, n) for v, n, _ in expected}
            for asked in quantities:
                fits = [(v, n) for v, n, quantity in expected if quantity == asked]
                some = applicable(problem, ascent=ascent, quantity=asked, **arguments)
                assert {(c.value, c.bound.name) for c in some} == set(fits)
                if fits:
                    chosen = best(problem, ascent=ascent, quantity=asked, **arguments)
                    assert (chosen.value, chosen.bound.name) == min(fits, key=lambda fit: fit[0])
    assert best(quiet, **arguments) == best(quiet, ascent="normalized", quantity=_SQUARED, **arguments)
    assert applicable(quiet, **arguments) == applicable(quiet, ascent="normalized", **arguments)
    with pytest.raises(DomainError) as told:
        best(FlatAndSharp(), quantity="gap", **arguments)
    text = "required: a bound on gap for normalized ascent that applies; got "
    text += "convex_average_gap assumes CONVEX; convex_average_gap_noiseless assumes CONVEX"
    assert str(told.value) == text
    assert ALL["convex_average_gap"].applies_to(quiet) is True
    assert ALL["convex_average_gap"].applies_to(FlatAndSharp()) is False
    with pytest.raises(DomainError, match=r"strongly_convex_distance assumes CONVEX, STRONGLY_CONVEX; "):
        best(FlatAndSharp(), quantity="final_squared_distance", **arguments)
    with pytest.raises(
        DomainError, match=r"got convex_average_gap: required: distance = .* given; got inf; convex"
    ):
        best(quiet, quantity="gap", **arguments | {"distance": None})
    with pytest.raises(ValueError, match=r"one of squared_gradient_norm, final_gap, gap, .*; got 'loss'"):
        applicable(quiet, quantity="loss", **arguments)


# ---- runs


def sequences(seed, steps=4, L=1.0, longest=1.9):
    rng = np.random.default_rng(seed)
    p, gamma = rng.uniform(0.1, 0.9, steps), rng.uniform(0.3, 1.0, steps)
    return p, rng.uniform(0.05, longest, steps) / L, rng.uniform(0.05, 0.8, steps) / L, gamma


def evaluated(name, rows, gap=None, distance=None, **constants):
    p, eta, rho, gamma = rows
    settings = {"eta": eta, "rho": rho, "gamma": gamma, "gap": gap, "distance": distance}
    run = rst.Tabulated(tuple(p))
    return ALL[name].evaluate(schedule=run, steps=len(p), constants=ProblemConstants(**constants), **settings)


def least(f, low, high, rounds=90):
    """The least value of a convex function, by thirds."""
    for _ in range(rounds):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if f(a) < f(b) else (a, high)
    return f((low + high) / 2)


RUNS = [(seed, L, sigma) for seed, (L, sigma) in enumerate([(1.0, 0.0), (2.5, 0.7), (0.4, 1.5)])]


@pytest.mark.parametrize("seed, L, sigma", RUNS)
def test_averages_on_smooth_objectives_in_plain_loops(seed, L, sigma):
    rows, gap = sequences(seed, L=L), 0.8
    W = U2 = 0.0
    C, kept = gap, []
    for p, e, r, y in zip(*rows, strict=True):
        a, q = e * (1 - L * e / 2), p * y
        W += a
        U2 += (q * L * r * e * abs(1 - L * e)) ** 2 / a
        squares = L * e * e / 2 * (sigma**2 + p * y * y * L * L * r * r)
        C += squares + q * L * L * r * e * e * sigma
        kept.append((a, e * q * L * r, abs(1 - L * e), L * e * sigma, squares))
    master = ((math.sqrt(U2) + math.sqrt(U2 + 4 * C)) / 2) ** 2 / W
    assert evaluated("nonconvex_average", rows, gap, L=L, sigma=sigma) == pytest.approx(master, rel=NUMERIC)
    np.testing.assert_allclose(WEIGHTED_AVERAGE.weights(rows[1], L), [k[0] / W for k in kept], rtol=ONE_STEP)
    np.testing.assert_allclose(AVERAGE_GAP.weights(rows[1], L), rows[1] / sum(rows[1]), rtol=ONE_STEP)

    def spent(share):  # the most that the cross terms add beyond that share of the descent, over G^2 >= 0
        most = 0.0
        for a, m, b, n, squares in kept:
            most += squares - least(lambda z: share * a * z - m * math.sqrt(b * b * z + n * n), 0.0, 1e4)  # noqa: B023
        return (gap + most) / (1 - share)

    whole = least(spent, 1e-3, 0.999, rounds=40) / W
    ours = evaluated("nonconvex_average_whole", rows, gap, L=L, sigma=sigma)
    assert ours == pytest.approx(whole, rel=1e-6)


def kappa(p, e, r, y, m):
    """The factor where functions of one variable are the worst: curvatures m and 1, in units of 1/L."""
    ends = [(A, B) for A in (m, 1.0) for B in (m, 1.0)]
    return max((1 - p) * (1 - e * A) ** 2 + p * (1 - e * A * (1 + y * r * B)) ** 2 for A, B in ends)


@pytest.mark.parametrize("seed, L, sigma", RUNS)
def test_last_iterates_on_strongly_convex_objectives_in_plain_loops(seed, L, sigma):
    mu, D, gap = 0.3 * L, 1.5, 0.8
    rows = sequences(seed, L=L, longest=0.6)
    v = [D * D] * 3
    product = 1.0
    for p, e, r, y in zip(*rows, strict=True):
        q, m, x = p * y, mu / L, y * L * e
        theta = max(abs(1 - e * mu), abs(1 - e * L))
        root = math.sqrt(theta**2 * v[0] + (e * sigma) ** 2)
        v[0] = root**2 + 2 * e * q * L * r * root + e * e * p * y * y * (L * r) ** 2
        phi = (1 - m + x * m) ** 2 / (2 - x) + x * m * m if x <= 1 - m else x
        v[1] = (1 - e * mu) ** 2 * v[1] + q * e * L * r * r * phi
        factor, certain = (kappa(chance, L * e, L * r, y, m) for chance in (p, 1.0))
        product *= factor
        growth = 1 - p + p * (abs(1 - y) + y * (1 + L * r)) ** 2
        shift = 2 * e * q * L * r * sigma * math.sqrt(certain)
        v[2] = factor * v[2] + shift * math.sqrt(v[2]) + (e * sigma) ** 2 * growth
    name = "strongly_convex_distance"
    noisy, quiet = {"L": L, "mu": mu, "sigma": sigma}, {"L": L, "mu": mu}
    assert evaluated(name, rows, None, D, **noisy) == pytest.approx(v[0], rel=NUMERIC)
    assert evaluated(f"{name}_noiseless", rows, None, D, **quiet) == pytest.approx(v[1], rel=NUMERIC)
    ours = evaluated(f"{name}_unnormalized", rows, None, D, **quiet)
    assert ours == pytest.approx(D * D * product, rel=NUMERIC)
    ours = evaluated("strongly_convex_gap_unnormalized", rows, gap, **quiet)
    assert ours == pytest.approx(gap * product, rel=NUMERIC)
    assert evaluated(f"{name}_unnormalized_noisy", rows, None, D, **noisy) == pytest.approx(v[2], rel=NUMERIC)


def test_distance_and_gap_contract_by_factors_of_their_own():
    """Here the worst distance takes more than one dimension: the two factors differ."""
    rows = tuple(np.array([float(value)]) for value in (1.0, 1.0, 0.5, 2.0))
    found = []
    for name, quantity in (("distance", "squared_distance"), ("gap", "gap")):
        factor = contraction(quantity, *rows, 1.0, 0.01)[0]
        found.append(evaluated(f"strongly_convex_{name}_unnormalized", rows, 0.7, 1.5, L=1.0, mu=0.01))
        assert found[-1] == pytest.approx(factor * (0.7 if name == "gap" else 1.5**2), rel=NUMERIC)
    assert abs(found[0] / 1.5**2 - found[1] / 0.7) > 1e-3


def vertex(slope, bend):
    """The largest slope w - bend w^2 over 0 <= w <= 1, w in the place of w^2 where bend < 0."""
    if bend < 0:
        return max(0.0, slope - bend)
    tried = [0.0, 1.0] + ([slope / 2 / bend] if 0 < slope < 2 * bend else [])
    return max(slope * w - bend * w * w for w in tried)


@pytest.mark.parametrize("seed, L, sigma", RUNS)
@pytest.mark.parametrize("longest", [0.5, 1.0])
def test_gaps_on_convex_objectives_in_plain_loops(seed, L, sigma, longest):
    rows = sequences(seed, L=L, longest=longest)
    rows = (*rows[:2], rows[2] * (1 if longest < 1 else 2.5), rows[3] * (1 if longest < 1 else 1.1))
    gaps_on_convex_objectives(rows, L, sigma)


def test_the_longest_steps_on_convex_objectives():
    """e = 1, where the worst curvature along the ascent is 1, or inside, or enters linearly."""
    for gamma, p, rho in ((1.2, 0.7, 0.9), (0.9, 0.7, 0.9), (2.2, 0.3, 0.6), (1.2, 0.7, 0.1)):
        ones = np.ones(4)
        gaps_on_convex_objectives((p * ones, 0.999999 * ones, rho * ones, gamma * ones), 1.0, 0.0)


def gaps_on_convex_objectives(rows, L, sigma):
    D = 1.5
    noise = room = shared = total = kept = 0.0
    normalized, unnormalized, cost, dearer, progress = D * D, D * D, 0.0, 0.0, []
    for p, E, R, y in zip(*rows, strict=True):
        e, r, q = L * E, L * R, p * y
        x, c = y * e, 2 - y * e - (1 - e) * q
        root = math.sqrt(normalized + (E * sigma) ** 2)
        normalized = root**2 + 2 * E * q * r * root + E * E * p * y * y * r * r
        cost += q * E * L * R * R * (1 / (2 - x) if x <= 1 else x)
        psi = vertex(2.0, c)
        dearer += q * E * L * R * R * psi
        room += e / (1 - e)
        share = q * r * r * psi / (1 - e)
        shared = math.inf if share >= 1 else shared + e / ((1 - e) * (1 - share))
        # -(1 - e)(1 + 2 q r w) + q r^2 (2 w - (2 - x) w^2), and w in the place of w^2 where x > 2
        worst = -(1 - e) + vertex(2 * q * r * r - 2 * q * r * (1 - e), q * r * r * (2 - x))
        progress.append(1 - max(0.0, worst))
        certain = kappa(1.0, e, r, y, 0.0)
        growth = 1 - p + p * (abs(1 - y) + y * (1 + r)) ** 2
        noise = 2 * E * q * r * sigma * math.sqrt(certain * unnormalized) + (E * sigma) ** 2 * growth
        unnormalized += noise
        total += E
        kept += E * progress[-1]
    w, quiet = min(progress), {"L": L, "mu": 0.2 * L}  # of which nothing depends on mu
    spared = 1.0 if shared == math.inf else shared / (1 + shared)
    values = {
        "convex_average_gap": (normalized / (2 * total), {**quiet, "sigma": sigma}),
        "convex_average_gap_noiseless": (
            min(D * D + cost, D * D * room / (1 + room) + dearer) / (2 * total),
            quiet,
        ),
        "convex_average_gap_unnormalized": (unnormalized / (2 * total * w), {**quiet, "sigma": sigma}),
        "convex_average_gap_unnormalized_noiseless": (D * D * spared / (2 * total * w), quiet),
        "convex_last_iterate_unnormalized": (D * D / (2 * kept + 2 / L), quiet),
    }
    for name, (value, constants) in values.items():
        assert evaluated(name, rows, None, D, **constants) == pytest.approx(value, rel=NUMERIC), name
    constant = (np.zeros(4), np.full(4, rows[1][0]), *rows[2:])
    value = L * D * D / (4 * L * 4 * rows[1][0] + 2)
    assert evaluated("gradient_descent_last_iterate", constant, None, D, L=L) == pytest.approx(
        value, rel=NUMERIC
    )


def given_the_coins(coins, rows, L, sigma, gap):
    """By the discrepancy of the coins, and the master bound at p_t = X_t."""
    p, eta, rho, gamma = rows
    v = [*(y * L * r * e * abs(1 - L * e) for e, r, y in zip(eta, rho, gamma, strict=True)), 0.0]
    R = W = U2 = plain = 0.0
    C = known = gap
    for t, X in enumerate(coins):
        e, r, y = eta[t], rho[t], gamma[t]
        a = e * (1 - L * e / 2)
        R += X - p[t]
        moved = abs(R) * v[t + 1] * L * e
        U2 += (max(p[t] * v[t] + R * (v[t] - v[t + 1]), 0) + moved) ** 2 / a
        plain += (X * v[t]) ** 2 / a
        squares = L * e * e / 2 * (sigma**2 + X * (y * L * r) ** 2) + X * y * L * L * r * e * e * sigma
        known += squares
        C += squares + moved * (sigma + X * y * L * r)
        W += a
    return [((math.sqrt(u) + math.sqrt(u + 4 * c)) / 2) ** 2 / W for u, c in ((U2, C), (plain, known))]


@pytest.mark.parametrize("seed, L, sigma", RUNS)
def test_the_bound_given_the_trials_in_a_plain_loop(seed, L, sigma):
    ratios = []
    for steps, longest in ((4, 1.9), (16, 0.1)):
        rows = sequences(seed, steps, L, longest)
        if steps == 16:  # alternating coins, whose discrepancy is small
            rows = (np.full(16, 0.5), rows[1] / 20, rows[2], np.ones(16))
        for number in range(16):
            coins = (
                [bool(number >> i & 1) for i in range(4)]
                if steps == 4
                else [number % 2 > 0, number % 2 < 1] * 8
            )
            expected = given_the_coins(coins, rows, L, sigma, 0.8 if steps == 4 else 1e-5)
            ratios.append(expected[0] / expected[1])
            p, eta, rho, gamma = rows
            found = ALL["nonconvex_average_realized"].evaluate(
                trials=coins,
                schedule=rst.Tabulated(tuple(p)),
                eta=eta,
                rho=rho,
                gamma=gamma,
                gap=0.8 if steps == 4 else 1e-5,
                constants=ProblemConstants(L=L, sigma=sigma),
            )
            assert found == pytest.approx(min(expected), rel=NUMERIC)
    run = {"trials": coins, "schedule": 0.5, "eta": 0.1 / L, "rho": 0.1, "gap": 1.0}
    values = [
        ALL["nonconvex_average_realized"].evaluate(constants=ProblemConstants(L=L), **run, **gamma)
        for gamma in ({}, {"gamma": 1.0})
    ]
    assert values[0] == values[1]
    assert min(ratios) < 0.6 and max(ratios) > 1.1  # each of the two is the smaller one somewhere


# ---- one step


def test_one_step_in_plain_numbers():
    rng = np.random.default_rng(4)
    for _ in range(30):
        p, L, mu, sigma = rng.uniform(0, 1), rng.uniform(0.5, 3), 0.2, rng.uniform(0, 2)
        eta, rho, G, y = rng.uniform(0, 2) / L, rng.uniform(0, 2), rng.uniform(0, 3), rng.uniform(0, 3)

        def value(name, **constants):
            arguments = {"p": p, "eta": eta, "rho": rho, "gamma": y, "gradient_norm": G}  # noqa: B023
            return ALL[f"one_step_{name}"].evaluate(constants=ProblemConstants(**constants), **arguments)

        for ascent, radius in (("", rho), ("_unnormalized", rho * G)):
            # f' is G at 0, falls with slope -L from s to the radius, and has slope L elsewhere
            s = np.linspace(0, radius, 2001)
            z = eta * y * L * (radius - 2 * s) - eta * G
            fall, rise = np.maximum(0, z - s), np.maximum(0, z - radius)
            worst = (G * z + L * (z**2 / 2 - fall**2 + rise**2)).max()
            a = eta * (1 - L * eta / 2)
            expected = -(1 - p) * a * G**2 + p * worst
            slack = p * L * (1 + eta * y * L) ** 2 * 8 * (radius / 2000) ** 2 + 1e-12
            assert expected - 1e-12 <= value(f"smooth{ascent}", L=L) <= expected + slack
            for kind, low in (("convex", 0.0), ("strongly_convex", mu)):
                mixing = [
                    L * (eta * y * j * radius) ** 2 / 2 - (1 - L * eta) * eta * y * j * radius * G
                    for j in (low, L)
                ]
                expected = -a * G**2 + p * max(mixing)
                found = value(f"{kind}{ascent}", L=L, mu=mu)
                assert found == pytest.approx(expected, rel=NUMERIC, abs=1e-12)
            radius = rho * math.sqrt(G**2 + sigma**2) if ascent else rho
            cross = math.sqrt((1 - L * eta) ** 2 * G**2 + (L * eta * sigma) ** 2)
            squares = L * eta**2 / 2 * (sigma**2 + p * (y * L * radius) ** 2)
            expected = -a * G**2 + eta * p * y * L * radius * cross + squares
            assert value(f"noisy{ascent}", L=L, sigma=sigma) == pytest.approx(
                expected, rel=NUMERIC, abs=1e-12
            )


# ---- what they refuse

GOOD = {"schedule": 0.5, "steps": 3, "eta": 0.5, "rho": 0.1, "gamma": 1.0, "gap": 1.0, "distance": 1.0}
UNIT = {"L": 2.0, "mu": 0.5}


def refusal(name, **changed):
    constants = ProblemConstants(
        **(UNIT | {k: changed.pop(k) for k in list(changed) if k in ("L", "mu", "sigma")})
    )
    try:
        ALL[name].evaluate(constants=constants, **(GOOD | changed))
    except DomainError as error:
        return str(error)
    return None


def test_refusals_word_for_word_on_both_sides_of_each_edge():
    edge = [0.5, 1.0, 0.5]
    tiny, below, above = 5e-324, np.nextafter(1.0, 0), np.nextafter(1.0, 2)
    zero, one = {"schedule": 0.0}, {"schedule": 1.0}
    inside = [
        ("nonconvex_average", {"eta": [0.5, below, tiny]}),
        ("convex_average_gap", {"eta": [0.5, 0.5, 1e-9]}),
        ("convex_average_gap_noiseless", {"gamma": 2.0}),
        ("convex_last_iterate_unnormalized", {"eta": 0.5, "gamma": 2.0, "rho": 0.005}),
        ("convex_last_iterate_unnormalized", one | {"eta": 0.5, "gamma": 0.1, "rho": 0.6}),
        ("sgd_average", zero),
        ("sam_average", one),
        ("gradient_descent_last_iterate", zero),
        ("strongly_convex_distance_noiseless", {"mu": 1e-300}),
        ("strongly_convex_distance_noiseless", {"gamma": 2.0}),
        ("strongly_convex_distance_noiseless", {"gamma": 2.2, "eta": 0.25}),
        ("strongly_convex_distance_noiseless", {"gamma": 3.0, "eta": 0.25, "mu": 1.0}),
    ]
    for name, changed in inside:
        assert refusal(name, **changed) is None, (name, refusal(name, **changed))
    outside = [
        ("nonconvex_average", {"eta": edge}, f"{_ETA}; got 1.0 at t = 1"),
        ("nonconvex_average", {"eta": [0.5, 0.5, 0.0]}, f"{_ETA}; got 0.0 at t = 2"),
        ("nonconvex_average", {"gap": None}, f"{_GAP}; got inf"),
        ("nonconvex_average_majorant", {"sigma": 0.25}, f"{_QUIET}; got 0.25"),
        ("nonconvex_average_majorant", {"sigma": 1.0}, f"{_QUIET}; got 1.0"),
        ("sgd_average", {}, "p_t = 0; got 0.5 at t = 0"),
        ("sgd_average", one, "p_t = 0; got 1.0 at t = 0"),
        ("sgd_average", {"schedule": rst.Tabulated((0.0, 0.0, 0.25))}, "p_t = 0; got 0.25 at t = 2"),
        ("sam_average", {}, "p_t = 1; got 0.5 at t = 0"),
        ("sam_average", zero, "p_t = 1; got 0.0 at t = 0"),
        ("sam_average", one | {"gamma": [1.0, 2.0, 1.0]}, "gamma_t = 1; got 2.0 at t = 1"),
        ("sam_average", one | {"gamma": [1.0, 1.0, 0.0]}, "gamma_t = 1; got 0.0 at t = 2"),
        ("convex_average_gap", {"eta": [0.5, above / 2, 0.5]}, f"{_SHORT}; got {above / 2} at t = 1"),
        ("convex_average_gap", {"eta": [0.0, 0.5, 0.5]}, f"{_SHORT}; got 0.0 at t = 0"),
        ("convex_average_gap", {"distance": None}, f"{_DISTANCE}; got inf"),
        ("convex_average_gap_noiseless", {"gamma": [2.0, 2.5, 2.0]}, f"{_WEAK}; got 1.25 at t = 1"),
        ("convex_average_gap_unnormalized", {"rho": [0.1, 0.1, 1.0]}, f"{_LEFT}; got -1.0 at t = 2"),
        ("convex_average_gap_unnormalized", one | {"rho": [0.1, 0.1, 0.5]}, f"{_LEFT}; got 0.0 at t = 2"),
        (
            "gradient_descent_last_iterate",
            zero | {"eta": [0.5, 0.25, 0.5]},
            "eta_t = eta_0; got 0.25 at t = 1",
        ),
        ("strongly_convex_distance_noiseless", {"mu": 0.0}, f"{_CURVED}; got 0.0"),
        ("strongly_convex_distance_noiseless", {"gamma": [1.0, 3.0, 1.0]}, f"{_DEGREE}; got 1.5 at t = 1"),
        ("nonconvex_average", {"gap": -1.0}, "initial gap gap in [0, inf); got -1.0"),
        ("nonconvex_average", {"steps": 0}, "1 <= steps; got 0"),
    ]
    for name, changed, text in outside:
        assert refusal(name, **changed) == f"required: {text}"
    for name in ("schedule", "eta", "rho", "gamma"):
        assert refusal("nonconvex_average", **{name: -1.0}).endswith("; got -1.0")
    for name in ("gap", "distance"):
        assert refusal("convex_average_gap", **{name: -1.0}).endswith("; got -1.0")
    unbounded = refusal("nonconvex_average", sigma=math.inf)
    assert unbounded == "required: BOUNDED_VARIANCE, sigma < inf; got inf"


def test_defaults_and_numbers_beyond_the_floating_range():
    bound, arguments = (
        ALL["nonconvex_average"],
        {"schedule": 0.5, "eta": 0.5, "constants": ProblemConstants(L=1.0)},
    )
    rich = {**arguments, "steps": 1, "gap": 1.0}
    assert bound.evaluate(rho=0.3, **rich) == bound.evaluate(rho=0.3, gamma=1.0, **rich)
    assert bound.evaluate(rho=1e200, **rich) == math.inf
    assert isinstance(bound, RunBound) and isinstance(ALL["one_step_smooth"], OneStepBound)
    step = {"p": 0.5, "eta": 0.5, "rho": 0.1, "constants": ProblemConstants(L=1.0)}
    smooth = ALL["one_step_smooth"]
    assert smooth.evaluate(gradient_norm=0.0, **step) == 0
    assert ALL["one_step_noisy"].evaluate(gradient_norm=0.0, **step) > 0
    assert smooth.evaluate(gradient_norm=1.0, **step) == smooth.evaluate(gradient_norm=1.0, gamma=1.0, **step)
    with pytest.raises(DomainError, match="squares and products are finite"):
        smooth.evaluate(gradient_norm=1e200, **step)
    for name in ("p", "eta", "rho", "gamma", "gradient_norm"):
        with pytest.raises(DomainError, match=r"got -1.0$"):
            smooth.evaluate(**({"gradient_norm": 1.0} | step | {name: -1.0}))
