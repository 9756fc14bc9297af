"""The closed forms and rates of the master bound, against its sums taken term by term."""

from __future__ import annotations

import dataclasses
import math

import mpmath
import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP
from hypothesis import given, settings, strategies as st

import rst_theory as rst
from rst_theory.bounds import nonconvex_average
from rst_theory.bounds.rates import (
    _cosine_powers,
    _growth,
    _hurwitz,
    _integral,
    _letters,
    _number,
    _Phase,
    _prefix,
    closed_form,
    rate,
    tuned,
)
from rst_theory.notation import QUANTITIES, DomainError, ProblemConstants

NOISY, EXACT = ProblemConstants(L=1.25, sigma=0.4), ProblemConstants(L=1.25)
GAP = 0.8
GAMMA = 1.5

CONSTANT, ROOT = rst.Constant(0.3), rst.InverseSqrt(0.6)
LINEAR, COSINE = rst.Linear(0.7, 0.1), rst.Cosine(0.7, 0.1)
PROBABILITIES = [
    rst.Constant(0.5),
    rst.Piecewise(0.2, 0.9, 0.3),
    rst.Piecewise(0, 1, 0.5),
    rst.Linear(1, 0.25),
    rst.Cosine(0, 1),
    rst.Periodic(3),
    rst.InverseSqrt(1),
]
PARAMETERS = [
    (CONSTANT, CONSTANT),
    (CONSTANT, ROOT),
    (CONSTANT, COSINE),
    (ROOT, CONSTANT),
    (ROOT, ROOT),
    (LINEAR, CONSTANT),
    (LINEAR, LINEAR),
    (COSINE, COSINE),
]
EVERY = [
    *((p, eta, rho) for p in PROBABILITIES for eta, rho in ((CONSTANT, CONSTANT), (ROOT, ROOT))),
    *((rst.Constant(0.5), eta, rho) for eta, rho in PARAMETERS[1:]),
    *((p, LINEAR, LINEAR) for p in PROBABILITIES[2:]),
    *((p, COSINE, COSINE) for p in PROBABILITIES[2:]),
]
MIXED = [(COSINE, LINEAR), (LINEAR, COSINE), (ROOT, COSINE), (COSINE, ROOT)]


def term_by_term(p, eta, rho, T, constants):
    """The master bound with (1 - e)(1 - e/2) in U^2 where eta is not constant, from arrays over the steps."""
    L, sigma = constants.L, constants.sigma
    q, step, radius = p.values(T) * GAMMA, eta.values(T), rho.values(T)
    e = L * step
    mixed = (1 - e) ** 2 / (1 - e / 2) if isinstance(eta, rst.Constant) else (1 - e) * (1 - e / 2)
    W = math.fsum(step * (1 - e / 2))
    U2 = math.fsum((q * L * radius) ** 2 * step * mixed)
    noise = q * L**2 * radius * step**2 * sigma + L * step**2 * sigma**2 / 2
    C = GAP + math.fsum(noise + L**3 * step**2 * q * GAMMA * radius**2 / 2)
    return ((math.sqrt(U2) + math.sqrt(U2 + 4 * C)) / 2) ** 2 / W


def master(p, eta, rho, T, constants):
    return nonconvex_average.evaluate(
        schedule=p, steps=T, eta=eta, rho=rho, gamma=GAMMA, constants=constants, gap=GAP
    )


def has_closed_products(p, eta, rho):
    """A Cosine stands in no product with a Linear or an InverseSqrt."""
    families = {type(s) for s in (p, eta, rho)}
    return rst.Cosine not in families or not families & {rst.Linear, rst.InverseSqrt}


# Closed forms


@pytest.mark.parametrize("p, eta, rho", EVERY, ids=str)
def test_the_closed_form_is_the_sum(p, eta, rho):
    closed = closed_form(p, eta, rho, GAMMA)
    for T in (7, 40):
        value, whole = closed.value(T, NOISY, GAP), master(p, eta, rho, T, NOISY)
        if has_closed_products(p, eta, rho):
            assert value == pytest.approx(term_by_term(p, eta, rho, T, NOISY), rel=NUMERIC)
            assert closed.exact == isinstance(eta, rst.Constant)
        if closed.exact:
            assert value == pytest.approx(whole, rel=NUMERIC)
        loss = 1.1 if has_closed_products(p, eta, rho) else 4.5
        assert whole * (1 - NUMERIC) <= value <= loss * whole


@pytest.mark.parametrize("eta, rho", MIXED, ids=str)
def test_where_a_product_has_no_closed_sum_the_closed_bound_is_larger(eta, rho):
    closed = closed_form(0.5, eta, rho, GAMMA)
    assert not closed.exact
    for T in (6, 50, 1000):
        whole = master(rst.Constant(0.5), eta, rho, T, NOISY)
        assert whole * (1 - NUMERIC) <= closed.value(T, NOISY, GAP) <= 2.5 * whole


@given(
    eta=st.tuples(st.floats(0, 0.8), st.floats(0.01, 0.8)),
    rho=st.tuples(st.floats(0, 3), st.floats(0, 3)),
    p=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    T=st.integers(6, 200),
    family=st.sampled_from([rst.Linear, rst.Cosine]),
)
@settings(max_examples=8)
def test_closed_forms_of_lines_and_cosines_hold_everywhere(eta, rho, p, T, family):
    """Step sizes may reach 0, where the master bound itself is not stated."""
    run = family(*p), family(*eta), family(*rho)
    value = closed_form(*run, GAMMA).value(T, NOISY, GAP)
    assert value == pytest.approx(term_by_term(*run, T, NOISY), rel=1e-9)


def test_a_step_size_that_ends_at_zero_is_the_master_bound_without_that_step():
    eta, T = rst.Cosine(0.6, 0), 50
    run = [s.values(T)[:-1] for s in (rst.Cosine(1, 0), eta, rst.Cosine(0.6, 0))]
    whole = nonconvex_average.evaluate(
        schedule=rst.Tabulated(tuple(run[0])),
        steps=T - 1,
        eta=run[1],
        rho=run[2],
        constants=NOISY,
        gap=GAP,
    )
    value = closed_form(rst.Cosine(1, 0), eta, rst.Cosine(0.6, 0)).value(T, NOISY, GAP)
    assert whole <= value <= 1.1 * whole


def test_the_formulas_for_constants_and_inverse_square_roots():
    """As in the table of paper_notes/rates.md."""
    T, L = QUANTITIES["steps"].symbol, QUANTITIES["L"].symbol
    p, eta, rho, gamma = (QUANTITIES[k].symbol for k in ("p", "eta", "rho", "gamma"))
    constant = closed_form(rst.Constant(p), rst.Constant(eta), rst.Constant(rho), rst.Constant(gamma))
    assert constant.exact
    assert sympy.simplify(constant.W - T * eta * (1 - L * eta / 2)) == 0
    U2 = T * (p * gamma * L * rho) ** 2 * eta * (1 - L * eta) ** 2 / (1 - L * eta / 2)
    assert sympy.simplify(constant.U2 - U2) == 0
    root = closed_form(rst.Constant(p), rst.InverseSqrt(eta), rst.InverseSqrt(rho))
    half = sympy.Rational(1, 2)
    assert sympy.expand(root.W - eta * sympy.harmonic(T, half) + L * eta**2 / 2 * sympy.harmonic(T, 1)) == 0
    assert root.U2.coeff(sympy.harmonic(T, 3 * half)) == p**2 * L**2 * rho**2 * eta


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize(
    "j, m, k",
    [(0, 0, 0), (1, 0, 0), (3, 0, 0), (0, 1, 0), (0, 2, 0), (2, 3, 0), (1, 4, 0), (0, 0, 1), (0, 0, 4)],
)
def test_each_product_of_letters_sums_in_closed_form(j, m, k, every):
    """u = t/(T-1), v = 1/sqrt(t+1) and c = cos(pi u) over steps 0, every, …, as numbers and as an expression.

    At T = 7 every third step meets the fourth power of the cosine in one place.
    """
    symbol = QUANTITIES["steps"].symbol
    for T in (7, 22):
        for n in (sympy.ceiling(symbol / every), sympy.Integer(1), sympy.Integer(2)):
            closed, steps = _prefix(j, m, k, n, every, symbol), range(0, T, every)[: int(n.subs(symbol, T))]
            with mpmath.workdps(60):
                found = _number(closed, T, EXACT, 1.0), closed.subs(symbol, T).evalf(60)
                terms = []
                for t in steps:
                    u = mpmath.mpf(t) / (T - 1)
                    terms.append(u**j * mpmath.cos(mpmath.pi * u) ** k / mpmath.sqrt(t + 1) ** m)
                for number in found:
                    assert abs(mpmath.mpf(number) - mpmath.fsum(terms)) <= mpmath.mpf(10) ** -50


@pytest.mark.parametrize("s, a", [(2, 100), (mpmath.mpf(1) / 2, 99), (mpmath.mpf(3) / 2, 250), (-2.5, 1000)])
def test_the_zeta_function_to_fifty_digits(s, a):
    with mpmath.workdps(60):
        assert mpmath.almosteq(_hurwitz(s, mpmath.mpf(a)), mpmath.zeta(s, a), mpmath.mpf(10) ** -50)
        assert _hurwitz(mpmath.mpf(3)) == mpmath.zeta(3)


@pytest.mark.parametrize(
    "begin, end, every", [(0, 1, 1), (0, sympy.Rational(3, 10), 1), (sympy.Rational(3, 10), 1, 1), (0, 1, 3)]
)
@pytest.mark.parametrize(
    "j, m, k",
    [
        (0, 0, 0),
        (2, 0, 0),
        (0, 1, 0),
        (2, 1, 0),
        (0, 2, 0),
        (1, 2, 0),
        (0, 3, 0),
        (0, 0, 3),
        (0, 0, 4),
        (0, 1, 3),
        (1, 0, 1),
        (0, 2, 3),
        (0, 4, 1),
    ],
)
def test_each_product_of_letters_grows_as_it_is_said_to(j, m, k, begin, end, every):
    """Over the steps of a phase; what is left is of the order 1/sqrt(T) or smaller."""
    T, (u, v, c) = 30_000, _letters()
    phase = _Phase(1, begin, end, every)
    t = np.arange(int(begin * T), int(end * T), every, dtype=np.float64)
    total = math.fsum((t / (T - 1)) ** j * (t + 1) ** (-m / 2) * np.cos(math.pi * t / (T - 1)) ** k)
    said = [
        float(coefficient) * T**power * math.log(T) ** logs
        for (power, logs), coefficient in _growth(u**j * v**m * c**k, phase)
    ]
    assert total == pytest.approx(math.fsum(said), abs=5 / math.sqrt(T))


@pytest.mark.parametrize("j, k", [(1, 3), (2, 1)])
def test_the_integral_of_a_power_and_powers_of_the_cosine(j, k):
    with mpmath.workdps(30):
        exact = mpmath.quad(lambda y: y**j * mpmath.cos(mpmath.pi * y) ** k, [0, 1])
    assert float(_integral(j, 0, k, 1)) == pytest.approx(float(exact), rel=ONE_STEP)


def test_a_product_that_does_not_grow_in_closed_form_is_refused():
    u, v, c = _letters()
    for term in (u * v * c, u * v**2 * c):
        with pytest.raises(DomainError, match="no product of"):
            list(_growth(term, _Phase(1, 0, 1, 1)))


def test_powers_of_a_cosine_by_its_multiples():
    for k in range(6):
        for x in (0.3, 2.0):
            multiples = sum(float(w) * math.cos(m * x) for m, w in _cosine_powers(k).items())
            assert math.cos(x) ** k == pytest.approx(multiples, rel=ONE_STEP)


@pytest.mark.parametrize("p, rest", [(rst.Linear(0.2, 0.8), COSINE), (rst.Cosine(0.2, 0.8), LINEAR)], ids=str)
def test_of_two_families_that_do_not_mix_the_one_of_fewer_letters_is_put_at_its_largest(p, rest):
    """The probability alone is not of the family of radius and coefficient, and stands at its largest."""
    mixed, at_largest = closed_form(p, 0.3, rest, rest), closed_form(0.8, 0.3, rest, rest)
    assert (mixed.W, mixed.U2, mixed.C) == (at_largest.W, at_largest.U2, at_largest.C)
    assert at_largest.exact and not mixed.exact


def test_a_closed_form_is_an_expression_and_takes_what_its_families_take():
    closed = closed_form(0.5, 0.3, 0.2, GAMMA)
    point = {"steps": 9, "L": 1.25, "sigma": 0.4, "gap": GAP}
    letters = {QUANTITIES[key].symbol: number for key, number in point.items()}
    assert float(closed.bound.subs(letters)) == pytest.approx(closed.value(9, NOISY, GAP), rel=NUMERIC)
    one = master(rst.Constant(0.5), rst.Constant(0.3), rst.Constant(0.2), 1, NOISY)
    assert closed.value(1, NOISY, GAP) == pytest.approx(one, rel=NUMERIC)
    every = {"p": rst.Periodic(2), "eta": CONSTANT, "rho": CONSTANT}
    assert closed_form(*every.values(), GAMMA).value(7, NOISY, GAP) == pytest.approx(
        master(**every, T=7, constants=NOISY), rel=NUMERIC
    )
    assert rate(0.5, 0.3, 0.2) == rate(0.5, 0.3, 0.2, 1.0) != rate(0.5, 0.3, 0.2, 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        closed.W = closed.C
    rising = closed_form(0.5, rst.Linear(0.1, 0.8), 0.1)
    assert rising.value(2, NOISY, GAP) > 0  # up to 1/L
    with pytest.raises(DomainError, match=r"0 <= eta_t <= 1/L, not all 0; got 0\.81"):
        closed_form(0.5, rst.Linear(0.1, 0.81), 0.1).value(2, NOISY, GAP)


def test_the_factor_that_stands_in_for_the_quotient_is_larger():
    e = sympy.Symbol("e", positive=True)
    assert sympy.expand((1 - e / 2) ** 2 - (1 - e) - e**2 / 4) == 0


def test_a_number_of_steps_that_no_array_could_hold():
    closed = closed_form(0.5, 0.1, 0.2)
    assert closed.value(10**15, EXACT, 1.0) == pytest.approx(closed.value(10**14, EXACT, 1.0), rel=1e-11)
    decaying = closed_form(0.5, ROOT, ROOT)
    ratio = decaying.value(10**14, EXACT, 1.0) / decaying.value(10**12, EXACT, 1.0)
    assert ratio == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize(
    "run, T, message",
    [
        ((0.5, 1.6, 0.1), 10, r"0 < eta_t < 2/L; got 1.6"),
        ((0.5, 0.0, 0.1), 10, r"0 < eta_t < 2/L; got 0.0"),
        ((0.5, rst.InverseSqrt(0.9), 0.1), 10, r"0 <= eta_t <= 1/L, not all 0; got 0.9"),
        ((0.5, rst.Linear(0, 0), 0.1), 10, r"0 <= eta_t <= 1/L, not all 0; got 0.0"),
        ((0.5, COSINE, 0.1), 5, "6 <= steps"),
        ((0.5, LINEAR, 0.1), 1, "2 <= steps"),
    ],
)
def test_the_domain_of_a_closed_form(run, T, message):
    closed = closed_form(*run)
    with pytest.raises(DomainError, match=message):
        closed.value(T, NOISY, GAP)


def test_other_families_and_symbols_are_refused_where_they_must_be():
    with pytest.raises(DomainError, match="Constant, Linear, Cosine or InverseSqrt"):
        closed_form(0.5, rst.Piecewise(0.1, 0.2, 0.5), 0.1)
    with pytest.raises(DomainError, match="Constant, Linear, Cosine or InverseSqrt"):
        rate(rst.Tabulated((0.5, 0.5)), 0.1, 0.1)
    with pytest.raises(DomainError, match="no product of"):
        rate(COSINE, ROOT, LINEAR)
    closed = closed_form(0.5, 0.1, rst.Constant(sympy.Symbol("r", positive=True)))
    with pytest.raises(TypeError, match="numbers in place of r"):
        closed.value(10, NOISY, GAP)


# Rates

RATED = [
    *((p, eta, rho) for p in PROBABILITIES for eta, rho in ((CONSTANT, CONSTANT), (ROOT, ROOT))),
    *((rst.Constant(0.5), eta, rho) for eta, rho in PARAMETERS[1:]),
    (rst.Piecewise(0, 1, 0.5), ROOT, CONSTANT),
    (rst.Piecewise(0.2, 0.9, 0.3), CONSTANT, ROOT),
    (rst.Linear(1, 0.25), LINEAR, LINEAR),
    (rst.Cosine(0, 1), COSINE, COSINE),
    (rst.Periodic(3), ROOT, CONSTANT),
    (rst.Periodic(3), LINEAR, LINEAR),
]


def numeric(expression, constants):
    """As a function of T; zeta values and the like become rationals, one and the same in every expression."""
    letters = {"L": constants.L, "sigma": constants.sigma, "gap": GAP}
    expression = expression.subs({QUANTITIES[k].symbol: sympy.Rational(str(v)) for k, v in letters.items()})
    special = expression.atoms(sympy.zeta, sympy.polygamma, sympy.Ci, sympy.fresnelc, type(sympy.EulerGamma))
    expression = expression.xreplace({atom: sympy.Rational(str(atom.evalf(30))) for atom in special})
    return sympy.lambdify(QUANTITIES["steps"].symbol, expression, "mpmath")


@pytest.mark.parametrize("constants", [NOISY, EXACT], ids=["noise", "no noise"])
@pytest.mark.parametrize("p, eta, rho", RATED, ids=str)
def test_the_rate_is_that_of_the_bound(p, eta, rho, constants):
    """Its asymptote meets the bound summed over 10^4 and 6 10^5 steps; its leading term meets the asymptote.

    Where logarithms stand against constants the latter takes a T beyond any run, 10^5000, and what is
    left is of the order 1/sqrt(log T).
    """
    found = rate(p, eta, rho, GAMMA, noise=constants.sigma > 0)
    limit, leading, asymptote = (numeric(expression, constants) for expression in found)
    errors = []
    for T in (10_200, 600_000):
        errors.append(abs(term_by_term(p, eta, rho, T, constants) / float(asymptote(mpmath.mpf(T))) - 1))
    assert errors[1] <= max(errors[0], NUMERIC)
    assert errors[1] <= 0.04
    with mpmath.workdps(6_000):
        T = mpmath.mpf(10) ** 5_000
        ratio = float((asymptote(T) - limit(T)) / leading(T))
    assert ratio == pytest.approx(1, abs=0.07)
    if rst.InverseSqrt not in {type(s) for s in (p, eta, rho)}:  # then no logarithms, and the error is 1/T^2
        beyond = term_by_term(p, eta, rho, 10_200, constants) - float(limit(1))
        assert beyond == pytest.approx(float(leading(10_200)), rel=1e-3)


def test_the_floors_of_constant_parameters():
    """Without noise the limit is the floor; with eta -> 0 it is (q L rho)^2 for each degree."""
    for degree in (0.25, 1.0, 1.5):
        floor = numeric(rate(0.5, 1e-6, 0.3, 2 * degree, noise=False).limit, EXACT)(1)
        assert float(floor) == pytest.approx((degree * 1.25 * 0.3) ** 2, rel=1e-4)


@pytest.mark.parametrize("p", PROBABILITIES[:6], ids=str)
def test_with_small_constant_steps_the_floor_is_the_mean_of_the_squared_degree(p):
    floor = numeric(rate(p, 1e-7, 0.3, GAMMA, noise=False).limit, EXACT)(1)
    mean = np.mean((p.values(600_000) * GAMMA * 1.25 * 0.3) ** 2)
    assert float(floor) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("family, share", [(rst.Linear, 1 / 2), (rst.Cosine, 5 / 8)])
def test_the_floor_where_the_radius_decays_with_the_step_size(family, share):
    floor = numeric(rate(0.5, family(1e-7, 0), family(0.3, 0), GAMMA, noise=False).limit, EXACT)(1)
    assert float(floor) == pytest.approx(share * (0.5 * GAMMA * 1.25 * 0.3) ** 2, rel=1e-4)


def test_the_table_of_rates():
    """The lines of paper_notes/rates.md whose terms are short."""
    p, eta, rho, gamma = (QUANTITIES[k].symbol for k in ("p", "eta", "rho", "gamma"))
    T, L, sigma = (QUANTITIES[k].symbol for k in ("steps", "L", "sigma"))
    q, e = p * gamma, L * eta
    constants = {
        "L": 1.25,
        "sigma": 0.4,
        "p": 0.3,
        "eta": 0.5,
        "rho": 0.7,
        "gamma": 2.0,
        "gap": GAP,
        "steps": 9,
    }
    point = {QUANTITIES[k].symbol: v for k, v in constants.items()}
    size, radius = (rst.Constant(eta), rst.InverseSqrt(eta)), (rst.Constant(rho), rst.InverseSqrt(rho))
    trial = p * (1 - p) * gamma**2 * L**2 * rho**2
    mixing = 2 * q * L ** sympy.Rational(3, 2) * rho * sigma * sympy.sqrt(eta) * (1 - e)
    root, log = sympy.sqrt(T), sympy.log(T)
    lines = {
        (0, 1): (
            L * eta * sigma**2 / (2 - e),
            mixing / (2 - e) ** sympy.Rational(3, 2) * sympy.sqrt(log / T),
        ),
        (1, 0): ((q * L * rho) ** 2, L * eta / 2 * (sigma**2 + 2 * q * L * rho * sigma + trial) * log / root),
        (1, 1): (0, L * eta * sigma**2 / 4 * log / root),
    }
    for (i, j), expected in lines.items():
        found = rate(rst.Constant(p), size[i], radius[j], rst.Constant(gamma))
        for one, other in zip(found, expected, strict=False):
            assert float(one.subs(point)) == pytest.approx(
                float(sympy.sympify(other).subs(point)), rel=NUMERIC
            )


def test_without_trials_the_gap_over_the_steps_is_left_beyond_the_floor():
    limit, leading = (numeric(term, NOISY) for term in rate(0.0, CONSTANT, ROOT, GAMMA)[:2])
    beyond = closed_form(0.0, CONSTANT, ROOT, GAMMA).value(100, NOISY, GAP) - float(limit(1))
    assert beyond == pytest.approx(float(leading(100)), rel=NUMERIC)


# Tuned constants


@pytest.mark.parametrize("degree, beta", [(1, 0), (0.5, 0.7), (2, 0.7)])
def test_tuned_constants_reach_their_rate_and_are_the_best(degree, beta):
    choice = tuned(degree, beta)
    T = 10**14
    letters = {"steps": T, "L": 1.25, "sigma": 0.4, "gap": GAP}
    values = {QUANTITIES[k].symbol: v for k, v in letters.items()}
    eta, rho, constant = (float(expression.subs(values)) for expression in choice)

    def scaled(step):
        return math.sqrt(T) * closed_form(0.5, step, rho, 2 * degree).value(T, NOISY, GAP)

    assert scaled(eta) == pytest.approx(constant, rel=2e-3)
    assert scaled(eta) < min(scaled(0.8 * eta), scaled(1.25 * eta))


def test_tuned_constants_name_what_they_refuse():
    with pytest.raises(DomainError, match=r"degree .*; got -1"):
        tuned(-1, 0.5)
    with pytest.raises(DomainError, match=r"beta .*; got -1"):
        tuned(0.5, -1)


@pytest.mark.parametrize("every, T", [(7, 15), (35, 71), (3, 7), (4, 9)])
def test_steps_that_meet_the_cosine_in_one_place_are_summed(every, T):
    """Where l k is a multiple of 2 (T-1), the quotient of sines is 0/0 and the sum is the number of steps."""
    constants = ProblemConstants(L=1.0, sigma=0.2)
    gamma = rst.Cosine(2.0, 0.5)
    for eta, rho in ((0.3, 0.4), (rst.Cosine(0.5, 0.1), rst.Cosine(0.4, 0.1))):
        closed = closed_form(rst.Periodic(every), eta, rho, gamma)
        run = {"schedule": rst.Periodic(every), "steps": T, "eta": eta, "rho": rho, "gamma": gamma}
        value = rst.bounds.nonconvex_average.evaluate(constants=constants, gap=1.0, **run)
        found = closed.value(T, constants, 1.0)
        if closed.exact:
            assert found == pytest.approx(value, rel=NUMERIC)
        else:
            assert found >= value * (1 - NUMERIC)


def test_a_schedule_that_is_no_probability_is_refused():
    levels = rst.Piecewise(1.5, 0.5, 0.5), rst.Piecewise(0.5, 1.5, 0.5), rst.Linear(2.0, 0.0)
    for schedule in (1.5, rst.Linear(0.0, 2.0), rst.InverseSqrt(1.2), *levels):
        for function in (closed_form, rate):
            with pytest.raises(DomainError, match="probability"):
                function(schedule, 0.3, 0.4)
