"""Schedules: every family against its formula written out again in exact fractions."""

import copy
import dataclasses
import itertools
import json
import math
import pickle
import sys
from fractions import Fraction
from itertools import accumulate, pairwise

import mpmath
import numpy as np
import pytest
import sympy
from conftest import NUMERIC, ONE_STEP
from hypothesis import example, given, settings, strategies as st

from rst_theory import display
from rst_theory.notation import QUANTITIES, DomainError
from rst_theory.schedules import (
    FAMILIES,
    PRESETS,
    Constant,
    Cosine,
    FromExpression,
    InverseSqrt,
    Joined,
    Linear,
    MatchedGamma,
    Periodic,
    Piecewise,
    Schedule,
    Tabulated,
    from_dict,
    matched_gamma,
    parse,
    preset,
    sequence,
)

mpmath.mp.dps = 40

LENGTHS = st.one_of(st.sampled_from([1, 2, 3]), st.integers(1, 25))
NUMBERS = st.one_of(
    st.sampled_from([0, 1, 0.0, 1.0, 0.1, 0.3, 1 / 3, 2 / 3, 0.7, Fraction(1, 3), 1e-300, 1e300, 5e-324]),
    st.floats(0, 1),
    st.floats(0, 1e6),
    st.fractions(0, 3, max_denominator=50),
)
SHARES = st.one_of(st.sampled_from([0, 1, 0.0, 0.5, 1.0, 1 / 3, 0.29, 1e-9]), st.floats(0, 1))
ATOL = 1e-300
"""Absolute: where floats are no longer of full precision."""


def exact(x):
    """A decimal parameter as the rational that it prints as."""
    return x if isinstance(x, Fraction) else Fraction(repr(x))


def real(x):
    return mpmath.mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else mpmath.mpf(x)


# Every family with its formula: a schedule of T steps, and its value at t in fractions or in 40 digits


def piecewise(first, second, switch):
    return lambda t, T: exact(first) if t < exact(switch) * T else exact(second)


def linear(start, end):
    return lambda t, T: exact(start) + (exact(end) - exact(start)) * Fraction(t, max(1, T - 1))


def cosine(start, end):
    def value(t, T):
        wave = (1 - mpmath.cospi(mpmath.mpf(t) / max(1, T - 1))) / 2
        return (1 - wave) * real(exact(start)) + wave * real(exact(end))

    return value


def table(values):
    def value(t, T):
        assert len(values) == T
        return exact(values[t])

    return value


def joined(parts):
    def value(t, T):
        ends = accumulate((exact(share) for _, share in parts[:-1]), initial=Fraction(0))
        starts = [*(math.ceil(c * T) for c in ends), T]
        for (part, _), (begin, end) in zip(parts, pairwise(starts), strict=True):
            if begin <= t < end:
                return part(t - begin, end - begin)
        raise AssertionError("a step in no part")

    return value


@st.composite
def families(draw, T, depth=1, names=tuple(FAMILIES)):
    """A schedule that fits T steps and its formula."""
    name = draw(st.sampled_from([n for n in names if depth or n != "Joined"]))
    number = lambda: draw(NUMBERS)  # noqa: E731
    match name:
        case "Constant":
            v = number()
            return Constant(v), lambda t, T: exact(v)
        case "Piecewise":
            a, b, c = number(), number(), draw(SHARES)
            return Piecewise(a, b, c), piecewise(a, b, c)
        case "Linear":
            a, b = number(), number()
            return Linear(a, b), linear(a, b)
        case "Cosine":
            a, b = number(), number()
            return Cosine(a, b), cosine(a, b)
        case "InverseSqrt":
            v = number()
            return InverseSqrt(v), lambda t, T: real(exact(v)) / mpmath.sqrt(t + 1)
        case "Periodic":
            n = draw(st.integers(1, 12))
            return Periodic(n), lambda t, T: Fraction(t % n == 0)
        case "Tabulated":
            values = draw(st.lists(st.floats(0, 1e6), min_size=T, max_size=T))
            return Tabulated(values), table(values)
        case "FromExpression":
            a, b = draw(st.integers(0, 9)), draw(st.integers(1, 9))
            text = f"{a}/{b} + t/T if 2*t < T else {b}*u"
            return FromExpression(
                text
            ), lambda t, T: Fraction(a, b) + Fraction(t, T) if 2 * t < T else b * Fraction(t, max(1, T - 1))
        case "Joined":
            cuts = sorted(draw(st.lists(st.integers(0, 20), max_size=3)))
            shares = [Fraction(b - a, 20) for a, b in pairwise([0, *cuts, 20])]
            starts = [*(math.ceil(c * T) for c in accumulate(shares[:-1], initial=Fraction(0))), T]
            parts = [draw(families(max(1, b - a), depth - 1)) for a, b in pairwise(starts)]
            if draw(st.booleans()):
                shares = [float(share) for share in shares]
            return (
                Joined([(part, share) for (part, _), share in zip(parts, shares, strict=True)]),
                joined([(formula, share) for (_, formula), share in zip(parts, shares, strict=True)]),
            )


@st.composite
def runs(draw, **options):
    T = draw(LENGTHS)
    return *draw(families(T, depth=2, **options)), T


def agree(symbolic, value):
    """Exactly where the formula is rational, to 25 digits where it is not."""
    if isinstance(value, Fraction) and symbolic.is_Rational:
        return symbolic == sympy.Rational(value.numerator, value.denominator)
    value = real(value)
    return abs(mpmath.mpf(symbolic.evalf(40)) - value) <= 1e-25 * max(abs(value), mpmath.mpf(ATOL))


t_, T_ = QUANTITIES["t"].symbol, QUANTITIES["steps"].symbol


@given(runs())
@settings(max_examples=200)
@example((Piecewise(0, 1, 0.28), piecewise(0, 1, 0.28), 100))  # 0.28 * 100 > 28 in floats
@example((Linear(1, 0.1), linear(1, 0.1), 1))
@example((Joined([(Tabulated([1, 2]), 0.5), (Tabulated([3]), 0.5)]), lambda t, T: Fraction(t + 1), 3))
def test_values_and_expressions_are_the_formula(run):
    schedule, formula, T = run
    expected = [formula(t, T) for t in range(T)]
    values = schedule.values(T)
    assert values.shape == (T,) and values.dtype == np.float64
    assert np.allclose(values, [float(real(v)) for v in expected], rtol=ONE_STEP, atol=ATOL)
    for t in {0, T // 2, T - 1}:
        assert schedule.at(t, T) == values[t]
    for t, value in enumerate(expected):
        assert agree(schedule.expression(t, T), value)


@given(runs())
@settings(max_examples=100)
def test_expressions_in_symbols_specialise(run):
    schedule, formula, T = run
    general, in_t = schedule.expression(t_, T_), schedule.expression(t_, T)
    for t in {0, T // 2, T - 1}:
        assert agree(general.subs({t_: t, T_: T}), formula(t, T))
        assert agree(in_t.subs(t_, t), formula(t, T))


@given(runs())
@settings(max_examples=150)
def test_means_are_exact(run):
    schedule, formula, T = run
    expected = [formula(t, T) for t in range(T)]
    rational = all(isinstance(value, Fraction) for value in expected)
    mean = sum(expected if rational else map(real, expected)) / T
    assert agree(schedule.mean(T), mean)
    if not isinstance(schedule, FromExpression):
        assert agree(schedule.mean(T_).subs(T_, T).doit(), mean)


@pytest.mark.parametrize(
    "schedule, rate",
    [
        (Constant(0.3), lambda T: 0),
        (Piecewise(1, 0.2, 0.3), lambda T: 1 / T),
        (Linear(0, 0.7), lambda T: 0),
        (Cosine(1, 0.2), lambda T: 0),
        (InverseSqrt(0.9), lambda T: 2 / math.sqrt(T)),
        (Periodic(7), lambda T: 1 / T),
        (FromExpression("1 - u**2"), lambda T: 1 / T),
        (
            Joined([(Linear(0, 1), 0.3), (Joined([(Periodic(3), 0.5), (Constant(1), 0.5)]), 0.7)]),
            lambda T: 6 / T,
        ),
        (Joined([(Constant(0.5), 1 / 3)] * 3), lambda T: 0),
        (Joined([(Constant(1), 0), (Piecewise(0, 1, Fraction(1, 3)), 1)]), lambda T: 1 / T),
    ],
    ids=lambda value: repr(value) if isinstance(value, Schedule) else "",
)
def test_means_tend_to_the_limit_at_the_stated_rate(schedule, rate):
    """Each phase boundary is off by less than a step, and every value here is at most 1."""
    for T in (2, 3, 10, 101, 997):
        assert abs(schedule.mean(T) - schedule.mean()).evalf(20) <= rate(T) + 1e-15
    T = 100_003
    assert abs(schedule.values(T).mean() - float(schedule.mean())) <= rate(T) + NUMERIC


@pytest.mark.parametrize(
    "schedule, limit",
    [
        (Constant(0.3), "3/10"),
        (Piecewise(0.1, 0.7, 0.25), "11/20"),
        (Linear(0.1, 0.2), "3/20"),
        (Cosine(0.1, 0.2), "3/20"),
        (InverseSqrt(5), "0"),
        (Periodic(3), "1/3"),
        (Joined([(Linear(0, 1), 0.3), (Constant(1), 0.7)]), "17/20"),
        (Joined([(Constant(0.5), 1 / 3)] * 3), "1/2"),
    ],
    ids=str,
)
def test_limits_by_hand(schedule, limit):
    assert schedule.mean() == sympy.Rational(limit)


@pytest.mark.parametrize(
    "schedule",
    [
        InverseSqrt(0.7),
        Periodic(7),
        Piecewise(0.3, 0.9, 0.123),
        Joined([(InverseSqrt(1), 0.5), (Cosine(0, 1), 0.5)]),
    ],
)
@pytest.mark.parametrize("T", [1000, 1001, 250_000])
def test_means_of_long_runs(schedule, T):
    assert float(schedule.mean(T)) == pytest.approx(schedule.values(T).mean(), rel=NUMERIC)
    if isinstance(schedule, InverseSqrt):
        assert schedule.mean(T).has(sympy.zeta) == (T > 1000)


def test_a_long_formula_stays_a_sum():
    formula = FromExpression("(t + 1)/T")
    mean = formula.mean(5000)
    assert mean == sympy.Sum((t_ + 1) / 5000, (t_, 0, 4999)) / 5000
    assert sympy.simplify(mean.doit()) == sympy.Rational(5001, 10000)
    assert formula.mean(1000) == sympy.Rational(1001, 2000) and formula.mean(1001).has(sympy.Sum)


def test_each_part_has_the_mean_of_its_own_steps():
    joined = Joined([(Constant(0), 0.5), (InverseSqrt(1), 0.5)])
    assert sympy.simplify(joined.mean(4) - (1 + 1 / sympy.sqrt(2)) / 4) == 0


def test_expressions_at_a_symbol_and_at_a_number():
    """Of a table in the symbol T a step is still one of its own."""
    assert [Periodic(3).expression(t_, T_).subs(t_, t) for t in range(5)] == [1, 0, 0, 1, 0]
    table = Tabulated([0.5, 0.25])
    assert [table.expression(t_, 2).subs(t_, t) for t in range(2)] == [sympy.S.Half, sympy.Rational(1, 4)]
    assert table.expression(1, T_) == sympy.Rational(1, 4)
    with pytest.raises(DomainError, match=r"^required: 0 <= t < 2; got 2$"):
        table.expression(2, T_)


# Presets


def authors(name, p, t, T):
    """The table of the source: t from 0, the clock t/T, and `<=` between phases."""
    match name:
        case "constant":
            return p
        case "piecewise1":
            return Fraction(0) if t <= p * T else Fraction(1)
        case "piecewise2":
            return Fraction(1) if t <= p * T else Fraction(0)
        case "piecewise3":
            return p if t <= Fraction(T, 2) else 1 - p
        case "linear1":
            return (
                2 * p * Fraction(t, T) if p <= Fraction(1, 2) else (2 * p - 1) + 2 * (1 - p) * Fraction(t, T)
            )
        case "linear2":
            return p + 2 * (Fraction(1, 2) - p) * Fraction(t, T)
        case "cosine_up":
            return mpmath.mpf(1) / 2 - mpmath.cospi(mpmath.mpf(t) / T) / 2
        case "cosine_down":
            return mpmath.mpf(1) / 2 + mpmath.cospi(mpmath.mpf(t) / T) / 2


def ours(name, p):
    """The general forms of the same table, on our clock."""
    return {
        "constant": lambda t, T: p,
        "piecewise1": piecewise(Fraction(0), Fraction(1), p),
        "piecewise2": piecewise(Fraction(1), Fraction(0), p),
        "piecewise3": piecewise(p, 1 - p, Fraction(1, 2)),
        "linear1": linear(Fraction(0), 2 * p) if 2 * p <= 1 else linear(2 * p - 1, Fraction(1)),
        "linear2": linear(p, 1 - p),
        "cosine_up": cosine(Fraction(0), Fraction(1)),
        "cosine_down": cosine(Fraction(1), Fraction(0)),
    }[name]


MEANS = {
    "constant": lambda p: p,
    "piecewise1": lambda p: 1 - p,
    "piecewise2": lambda p: p,
    "piecewise3": lambda p: Fraction(1, 2),
    "linear1": lambda p: p,
    "linear2": lambda p: Fraction(1, 2),
    "cosine_up": lambda p: Fraction(1, 2),
    "cosine_down": lambda p: Fraction(1, 2),
}
FRACTIONS = st.fractions(0, 1, max_denominator=200) | st.integers(0, 10**6).map(lambda n: Fraction(n, 10**6))


@pytest.mark.parametrize("original", [True, False])
@pytest.mark.parametrize("name", PRESETS)
@given(FRACTIONS, LENGTHS, st.booleans())
@settings(max_examples=40)
@example(Fraction(1, 3), 3, True)
@example(Fraction(0), 1, True)
@example(Fraction(1), 2, False)
def test_presets_are_the_table(name, original, p, T, as_float):
    formula = (
        (lambda t, T: authors(name, p, t, T)) if original else ours(name, exact(float(p)) if as_float else p)
    )
    schedule = preset(name, float(p) if as_float else p, original)
    probabilities = schedule.probabilities(T)
    for t in range(T):
        assert probabilities[t] == pytest.approx(float(real(formula(t, T))), rel=ONE_STEP, abs=ONE_STEP)
        assert agree(schedule.expression(t, T), formula(t, T))
    assert from_dict(schedule.to_dict()) == schedule


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_means_of_the_table(name):
    for p in map(Fraction, ("0", "0.2", "1/3", "1/2", "0.8", "1")):
        assert_the_means_of_the_table(name, p)


def assert_the_means_of_the_table(name, p):
    mean = MEANS[name](p)
    assert preset(name, p).mean() == sympy.Rational(mean.numerator, mean.denominator)
    assert abs(preset(name, p, original=True).values(10_000).mean() - mean) <= 1.5e-4
    symbol = sympy.Symbol("p", nonnegative=True)
    general = preset(name, symbol)
    assert sympy.nsimplify(general.mean().subs(symbol, p)) == sympy.Rational(mean.numerator, mean.denominator)
    for t in range(4):
        value = general.expression(t, 4).subs(symbol, sympy.Rational(p.numerator, p.denominator))
        assert value == preset(name, p).expression(t, 4)


def test_a_quirk_of_the_source_is_reproduced_and_not_inherited():
    assert preset("linear1", 0.5, original=True).values(100).mean() == pytest.approx(0.495, rel=NUMERIC)
    assert preset("linear1", 0.5).mean(100) == sympy.Rational(1, 2)
    assert (preset("piecewise2", 0.3, original=True).values(10) == 1).sum() == 4
    assert (preset("piecewise2", 0.3).values(10) == 1).sum() == 3


def test_presets_take_a_probability():
    for name, p in itertools.product(PRESETS, [-0.1, 1.1, math.nan, math.inf]):
        with pytest.raises(DomainError, match=f"probability p in \\[0, 1\\]; got {p}"):
            preset(name, p)


def test_a_probability_too_small_for_the_original_clock():
    text = "required: p = a/b, b < 1e+300, on the original clock; got 1e-301"
    for name in ("piecewise1", "piecewise2", "piecewise3", "linear1", "linear2"):
        with pytest.raises(DomainError) as told:
            preset(name, 1e-301, original=True)
        assert str(told.value) == text
        with pytest.raises(DomainError, match="on the original clock"):
            preset(name, Fraction(1, int(1e300)), original=True)
        assert preset(name, 1e-300, original=True).values(3).min() >= 0
    assert preset("constant", 1e-301, original=True).values(2).tolist() == [1e-301] * 2
    for name in ("cosine_up", "cosine_down"):
        assert preset(name, 1e-301, original=True) == preset(name, 0.5, original=True)


def test_preset_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="unknown preset 'linear3'; known: constant, piecewise1"):
        preset("linear3")
    with pytest.raises(ValueError, match="needs a number p"):
        preset("linear1", sympy.Symbol("p"), original=True)
    with pytest.raises(TypeError, match=r"probability p must be a real number; got '0\.3'"):
        preset("linear1", "0.3")


# Validation


TWO_NUMBERS = {"Linear": Linear, "Cosine": Cosine}


@pytest.mark.parametrize(
    "make, field",
    [
        (Constant, "Constant value"),
        (InverseSqrt, "InverseSqrt scale"),
        (lambda v: Linear(v, 1), "Linear start"),
        (lambda v: Cosine(1, v), "Cosine end"),
        (lambda v: Piecewise(v, 1, 0.5), "Piecewise first"),
        (lambda v: Piecewise(1, v, 0.5), "Piecewise second"),
        (lambda v: Piecewise(1, 1, v), "Piecewise switch"),
        (lambda v: Joined([(Constant(1), v), (Constant(1), 1)]), "Joined fraction"),
    ],
)
def test_parameters_outside_their_domain_are_named(make, field):
    for bad in (-1e-9, -math.inf, math.inf, math.nan, -1, Fraction(-1, 3), 10**400, sympy.Integer(-1)):
        with pytest.raises(DomainError, match=rf"{field} (finite and >= 0|in \[0, 1\])"):
            make(bad)


def test_parameters_that_are_no_numbers_are_refused():
    makes = [Constant, InverseSqrt, lambda v: Linear(0, v), lambda v: Joined([(Constant(1), v)])]
    not_numbers = ["0.5", None, True, 1j, [0.5], np.array(0.5), np.array([0.5])]
    for make, bad in itertools.product(makes, not_numbers):
        with pytest.raises(TypeError, match="must be a real number"):
            make(bad)


@pytest.mark.parametrize(
    "make, error, match",
    [
        (lambda: Piecewise(0, 1, 1.5), DomainError, r"Piecewise switch in \[0, 1\]; got 1.5"),
        (lambda: Periodic(0), DomainError, "1 <= Periodic every; got 0"),
        (lambda: Periodic(2.0), TypeError, "Periodic every must be an integer; got 2.0"),
        (lambda: Tabulated([]), ValueError, r"shape \(T,\) with T >= 1; got shape \(0,\)"),
        (lambda: Tabulated([[1.0]]), ValueError, r"got shape \(1, 1\)"),
        (lambda: Tabulated([0.5, -0.5, math.nan]), DomainError, "values finite and >= 0; got -0.5 at t = 1"),
        (lambda: Tabulated([0.5, math.nan]), DomainError, "got nan at t = 1"),
        (lambda: Joined([]), ValueError, "at least one part"),
        (lambda: Joined([(0.5, 1.0)]), TypeError, "must be .schedule, fraction. pairs; got 0.5"),
        (lambda: Joined([(Constant(1), 0.5)]), DomainError, "Joined fractions that add to 1; got 0.5"),
        (lambda: Joined([(Constant(1), 1), (Constant(1), 1)]), DomainError, "add to 1; got 2.0"),
        (lambda: Joined([(Constant(1), 1), (Constant(1), 1e-10), (Constant(1), 0)]), DomainError, "add to 1"),
        (lambda: FromExpression("t +"), ValueError, "not a formula"),
        (lambda: Linear(0, 2).probabilities(5), DomainError, r"probability p in \[0, 1\]; got 1.5 at t = 3"),
        (lambda: Tabulated([0.5, 1.5, 7]).probabilities(3), DomainError, "got 1.5 at t = 1"),
        (lambda: FromExpression("2 - t").values(5), DomainError, ">= 0; got -1.0 at t = 3"),
        (lambda: FromExpression("2 - t").at(4, 5), DomainError, ">= 0; got -2.0 at t = 4"),
        (lambda: FromExpression("1/(t - 2)**2").values(5), DomainError, "got inf at t = 2"),
        (lambda: FromExpression("sqrt(3 - t)").values(5), DomainError, "got nan at t = 4"),
        (lambda: Tabulated([1, 2]).values(3), DomainError, "T = 2, the number of values.* got 3"),
        (lambda: Tabulated([1, 2]).mean(np.int64(3)), DomainError, "T = 2, the number of values.* got 3"),
        (lambda: Tabulated([1, 2]).expression(t_, 3), DomainError, "T = 2, the number of values.* got 3"),
        (lambda: Tabulated([1, 2]).mean(), DomainError, "a table has no limit"),
        (lambda: Joined([(Tabulated([1, 2]), 0.5), (Constant(1), 0.5)]).values(6), DomainError, "got 3"),
        (lambda: Linear(0, 1).at(0), DomainError, "a number of steps T for Linear"),
        (lambda: Linear(0, 1).at(3, 3), DomainError, "0 <= t < 3; got 3"),
        (lambda: Constant(1).at(-1), DomainError, "0 <= t; got -1"),
        (lambda: Constant(1).at(0, 0), DomainError, "1 <= T; got 0"),
        (lambda: Constant(1).at(1, 2.5), TypeError, "T must be an integer; got 2.5"),
        (lambda: Constant(1).at(0.5), TypeError, "t must be an integer; got 0.5"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_the_step_and_the_value(make, error, match):
    with pytest.raises(error, match=match):
        make()


EXAMPLES = [
    *(Constant(0.3), Piecewise(0, 1, 0.5), Linear(0, 1), Cosine(1, 0), InverseSqrt(0.5), Periodic(3)),
    *(Tabulated([0.1, 0.2, 0.3]), FromExpression("1 - u"), Joined([(Linear(0, 1), 0.5), (Constant(1), 0.5)])),
]


def test_every_family_is_among_the_examples():
    assert {type(s).__name__ for s in EXAMPLES} == set(FAMILIES)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=str)
def test_no_face_accepts_a_bad_number_of_steps(schedule):
    faces = (schedule.values, schedule.probabilities, schedule.mean, lambda T: schedule.expression(0, T))
    bad = (0, -1, 2.5, "3", "__import__('os')", True, math.inf, sympy.Rational(1, 2), sympy.oo, [3])
    for face, T in itertools.product(faces, bad):
        with pytest.raises((TypeError, DomainError)):
            face(T)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=str)
def test_no_expression_accepts_a_bad_step(schedule):
    for t in (-1, 3, 0.5, "0", "__import__('os')", None, True):
        with pytest.raises((TypeError, DomainError)):
            schedule.expression(t, 3)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: Constant(1).values(0), DomainError, "required: 1 <= T; got 0"),
        (lambda: Constant(1).mean(0), DomainError, "required: 1 <= T; got 0"),
        (
            lambda: Constant(1).mean("3"),
            TypeError,
            "T must be an integer or a SymPy expression; got '3'",
        ),
        (
            lambda: Constant(1).expression("0", 3),
            TypeError,
            "t must be an integer or a SymPy expression; got '0'",
        ),
        (lambda: Constant(1).expression(3, 3), DomainError, "required: 0 <= t < 3; got 3"),
        (lambda: Constant(1).expression(-1, T_), DomainError, "required: 0 <= t; got -1"),
    ],
)
def test_steps_are_refused_by_their_names(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == words


def test_steps_are_floats_and_may_be_numbers_beside_a_symbol():
    """t**t in integers would overflow from t = 16 on."""
    power = FromExpression("t**t + 0*T")
    assert power.values(30) == pytest.approx([float(t**t) for t in range(30)], rel=ONE_STEP)
    assert power.at(29, 30) == pytest.approx(float(29**29), rel=ONE_STEP)
    assert Linear(0, 1).expression(2, T_) == 2 / sympy.Max(1, T_ - 1)


# Schedules as values


@pytest.mark.parametrize(
    "schedule, low, high, words",
    [
        (Linear(0, 3), 0.0, 3.0, "T = 100: mean 1.5, least 0, greatest 3"),
        (Constant(0.3), 0.0, 1.0, "T = 100: mean 0.3, least 0.3, greatest 0.3"),
        (Tabulated([0.5, 0.25]), 0.0, 1.0, "T = 2: mean 0.375, least 0.25, greatest 0.5"),
    ],
)
def test_a_notebook_shows_the_values(schedule, low, high, words):
    values = schedule.values(2 if isinstance(schedule, Tabulated) else 100)
    picture = f"<span>{display.sparkline(values, low=low, high=high)} {words}</span>"
    assert picture in schedule._repr_html_()


@given(runs())
def test_round_trip_through_json(run):
    schedule, _, T = run
    back = from_dict(json.loads(json.dumps(schedule.to_dict(), allow_nan=False)))
    assert back == schedule and hash(back) == hash(schedule) and repr(back) == repr(schedule)
    assert np.array_equal(back.values(T), schedule.values(T))


@pytest.mark.parametrize("schedule", EXAMPLES, ids=str)
def test_schedules_are_frozen_values(schedule):
    for twin in (
        copy.deepcopy(schedule),
        pickle.loads(pickle.dumps(schedule)),
        dataclasses.replace(schedule),
    ):
        assert twin == schedule and hash(twin) == hash(schedule)
    assert sum(schedule == other for other in EXAMPLES) == 1 and len({*EXAMPLES, schedule}) == len(EXAMPLES)
    field = dataclasses.fields(schedule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, field, 1)
    written = schedule.values(3)
    written[:] = 7
    assert not np.array_equal(schedule.values(3), written)
    assert schedule._repr_latex_().startswith("$\\displaystyle ") and schedule._repr_latex_().endswith("$")


@pytest.mark.parametrize(
    "schedule, text",
    [
        (Constant(0.1), "Constant(0.1)"),
        (Constant(Fraction(1, 3)), "Constant(1/3)"),
        (Piecewise(0.0, 1.0, 0.5), "Piecewise(0.0, 1.0, 0.5)"),
        (Periodic(3), "Periodic(3)"),
        (Tabulated([0.1, 0.2]), "Tabulated([0.1, 0.2], T = 2)"),
        (Tabulated([1, 2, 3, 4, 5]), "Tabulated([1, 2, 3, 4, …], T = 5)"),
        (FromExpression(" t/T "), "FromExpression(t/T)"),
        (Joined([(Periodic(2), 0), (Constant(1), 1)]), "Joined(Periodic(2) for 0.0, Constant(1.0) for 1.0)"),
        (Constant(sympy.Symbol("a")), "Constant(a)"),
    ],
)  # fmt: skip
def test_schedules_print_as_what_they_are(schedule, text):
    assert repr(schedule) == str(schedule) == text


@pytest.mark.parametrize(
    "value",
    [0.1, Fraction(1, 10), np.float64(0.1), sympy.Rational(1, 10), np.longdouble("0.1"), sympy.Float("0.1")],
)
def test_one_number_in_any_costume_is_one_schedule(value):
    assert Constant(value) == Constant(0.1) and type(Constant(value).value) is float
    assert Constant(value).mean() == sympy.Rational(1, 10)
    assert json.loads(json.dumps(Constant(value).to_dict())) == {"family": "Constant", "value": 0.1}


def test_whole_numbers_are_kept_whole():
    assert Constant(2**53 + 1).mean() == 2**53 + 1
    assert Constant(np.int64(1)) == Constant(1) == Constant(1.0)
    assert type(Periodic(np.int64(3)).every) is int


@pytest.mark.parametrize(
    "plain",
    [
        *(
            None,
            5,
            "Constant",
            [],
            {},
            {"family": "Nothing"},
            {"family": ["Constant"]},
            {"family": "Constant"},
        ),
        *({"family": "Constant", "value": 1, "more": 2}, {"family": "Linear", "start": 0}, {"value": 1}),
        *(
            {"family": "Constant", "value": text}
            for text in ("x", "1/0", "nan", "1e999999999", "-1", "1e400", "", "٣")
        ),
        {"family": "Constant", "value": -1},
        {"family": "Constant", "value": math.nan},
        {"family": "FromExpression", "text": "__import__('os')"},
        {"family": "Joined", "parts": [[{"family": "Nothing"}, 1]]},
        {"family": "Joined", "parts": []},
    ],
)
def test_dicts_that_describe_nothing_are_refused(plain):
    with pytest.raises(ValueError):
        from_dict(plain)


CONSTANT = {"family": "Constant", "value": 1}


def test_lists_in_dicts_are_lists_of_what_they_should_be():
    parts = [5, "ab", {}, [[CONSTANT, 1, 1]], [[CONSTANT]], ["ab"], [5]]
    tables = [5, "12", {"1": 2}, ["1"], [[1.0]], [None]]
    for family, field, what, bad in (
        ("Joined", "parts", "pairs of a schedule and a number", parts),
        ("Tabulated", "table", "numbers", tables),
    ):
        for entries in bad:
            with pytest.raises(TypeError) as caught:
                from_dict({"family": family, field: entries})
            said = f"the {field} of a schedule must be a list of {what}; got {entries!r}"
            assert str(caught.value) == said


def test_missing_fields_are_named():
    with pytest.raises(ValueError, match=r"^Linear has the fields start, end; got start$"):
        from_dict({"family": "Linear", "start": 0})


def test_numbers_in_text_have_a_longest_form_and_a_greatest_value():
    most = int(sys.float_info.max)
    for text, value, beyond in (
        ("0.1" + "0" * 997, 0.1, "0.1" + "0" * 998),
        ("1/" + "0" * 3997 + "4", 0.25, "1/" + "0" * 3998 + "4"),
        (str(most), float(most), str(most + 1)),
    ):
        assert parse(text) == Constant(value)
        with pytest.raises(ValueError, match="is not a number such as"):
            parse(beyond)


def test_the_original_clock_knows_a_float_by_its_simplest_fraction():
    """With a denominator of up to a million; beyond, it is the decimal that it prints as."""
    near, far = (preset("piecewise1", 1 / n, original=True).text for n in (999_983, 1_500_007))
    assert near == "0 if 999983 * t <= 1 * T else 1"
    decimal = Fraction(repr(1 / 1_500_007))
    assert far == f"0 if {decimal.denominator} * t <= {decimal.numerator} * T else 1"


def test_a_horizon_is_where_values_depend_on_it():
    for schedule in [*EXAMPLES, FromExpression("1/(t + 1)"), FromExpression("0.5"), FromExpression("t/T")]:
        if not schedule.has_horizon:
            assert np.array_equal(schedule.values(20)[:7], schedule.values(7))
            assert schedule.at(6) == schedule.values(7)[6]
    horizonless = {
        repr(s) for s in [*EXAMPLES, FromExpression("1/(t + 1)"), FromExpression("e")] if not s.has_horizon
    }
    assert horizonless == {
        "Constant(0.3)",
        "InverseSqrt(0.5)",
        "Periodic(3)",
        "FromExpression(1/(t + 1))",
        "FromExpression(e)",
    }


# Symbols as parameters


def test_symbolic_parameters_have_symbolic_forms_only():
    a, b = sympy.symbols("a b", nonnegative=True)
    schedule = Joined([(Linear(a, 1), b), (Constant(0.5), 1 - b)])
    assert schedule.free_symbols == Linear(a, b).free_symbols == {a, b}
    assert Linear(0, 1).free_symbols == set()
    assert sympy.simplify(schedule.mean() - (b * (a + 1) / 2 + (1 - b) / 2)) == 0
    assert Linear(a, b).mean(5) == (a + b) / 2 and Linear(a, b).mean(1) == a
    assert sympy.simplify(Linear(a, b).expression(1, 3) - (a + b) / 2) == 0
    for face in (
        lambda: schedule.values(3),
        lambda: schedule.at(0, 3),
        schedule.to_dict,
        lambda: schedule.probabilities(3),
    ):
        with pytest.raises(TypeError, match="has the free symbols a, b; numeric values need numbers"):
            face()


@given(FRACTIONS)
def test_linear1_costs_p_whatever_p(p):
    symbol = sympy.Symbol("p", nonnegative=True)
    assert preset("linear1", symbol).mean().subs(symbol, sympy.Rational(p)) == sympy.Rational(p)


# Command lines


@pytest.mark.parametrize(
    "text, schedule",
    [
        ("0.5", Constant(0.5)),
        (" 1/3 ", Constant(Fraction(1, 3))),
        (".5e0", Constant(0.5)),
        ("linear1", preset("linear1")),
        ("linear1:p=0.3", preset("linear1", 0.3)),
        ("LINEAR1: p = 3/10 ", preset("linear1", 0.3)),
        ("cosine_up", Cosine(0.0, 1.0)),
        ("constant:p=0.2", Constant(0.2)),
        ("constant:0.2", Constant(0.2)),
        ("linear:0,1", Linear(0, 1)),
        ("linear:0, end=1", Linear(0, 1)),
        ("cosine:start=0,end=1", Cosine(0, 1)),
        ("piecewise:0,1,switch=1/3", Piecewise(0, 1, Fraction(1, 3))),
        ("inversesqrt:2", InverseSqrt(2)),
        ("periodic:4", Periodic(4)),
        ("periodic:every=4.0", Periodic(4)),
        ("tabulated:0.1,0.2, 1/4", Tabulated([0.1, 0.2, 0.25])),
        ("formula:0.5 + 0.5*cos(pi*t/T)", FromExpression("0.5 + 0.5*cos(pi*t/T)")),
        ("Formula: min(1, t)", FromExpression("min(1, t)")),
    ],
)
def test_command_lines(text, schedule):
    assert parse(text) == schedule


@pytest.mark.parametrize(
    "text, match",
    [
        ("", "unknown schedule ''"),
        ("nonsense", "unknown schedule 'nonsense'; known: constant, cosine"),
        ("-0.5", "unknown schedule"),
        ("nan", "unknown schedule"),
        ("linear1:q=0.3", "unknown schedule"),
        ("linear1:0.3", "unknown schedule"),
        ("joined:1", "unknown schedule"),
        ("linear1:p=1.5", "probability p"),
        ("linear1:p=x", "'x' is not a number such as"),
        ("linear1:p=0.3,p=0.4", "each name once"),
        ("linear:start=0,1", "at the end"),
        ("linear:0", "linear takes start, end; got 'linear:0'"),
        ("linear:0,1,2", "linear takes start, end"),
        ("linear:0,start=1", "linear takes start, end"),
        ("linear:0,,1", "'' is not a number"),
        ("linear:0,-1", "'-1' is not a number"),
        ("linear:0,inf", "'inf' is not a number"),
        ("linear:0,1e999", "'1e999' is not a number"),
        ("linear:0,1e999999999", "is not a number"),
        ("linear:0,1/0", "'1/0' is not a number"),
        ("1/0", "unknown schedule"),
        ("1e999", "'1e999' is not a number"),
        ("9" * 4000, "is not a number"),
        ("periodic:2.5", "periodic takes an integer; got 'periodic:2.5'"),
        ("periodic:0", "1 <= Periodic every"),
        ("tabulated:", "shape"),
        ("tabulated:table=1", "shape"),
        ("formula:", "not a formula"),
        ("formula:__import__('os')", "column"),
        ("formula:1\n+2", r"the character '\\n' is not part of the language"),
        ("linear:__import__('os'),1", "is not a number"),
        ("٣", "unknown schedule"),
    ],
)
def test_command_lines_that_mean_nothing(text, match):
    with pytest.raises(ValueError, match=match):
        parse(text)


@given(st.text(max_size=30) | st.text(st.sampled_from("linear1cosp:=0.,e/ "), max_size=20))
@settings(max_examples=200)
def test_any_command_line_is_a_schedule_or_a_value_error(text):
    try:
        schedule = parse(text)
    except ValueError:
        return
    assert isinstance(schedule, Schedule) and from_dict(schedule.to_dict()) == schedule


# Matched coefficients and sequences


UNIT = st.one_of(st.sampled_from([0.0, 1.0, 1e-300, 5e-324, 0.25]), st.floats(0, 1))


@given(st.lists(st.tuples(UNIT, st.floats(0, 4)), min_size=1, max_size=20), st.none() | st.floats(0, 100))
def test_matched_coefficients_attain_the_degree_where_they_can(pairs, most):
    p, degree = (np.array(column) for column in zip(*pairs, strict=True))
    beyond = [q > 0 and Fraction(d) / Fraction(q) > Fraction(1.79e308) for q, d in pairs]
    if most is None and any(beyond):
        with pytest.raises(DomainError, match=f"max_gamma given; got p = .* at t = {beyond.index(True)}$"):
            matched_gamma(Tabulated(p), len(p), degree)
        return
    gamma, attained = matched_gamma(Tabulated(p), len(p), degree, most)
    for t, (q, d) in enumerate(pairs):
        wanted = Fraction(d) / Fraction(q) if q else Fraction(0)
        expected = wanted if most is None else min(wanted, Fraction(most))
        assert gamma[t] == pytest.approx(float(expected), rel=ONE_STEP, abs=ATOL)
        assert attained[t] == pytest.approx(float(expected * Fraction(q)), rel=ONE_STEP, abs=1e-15)
        assert q or gamma[t] == attained[t] == 0
    assert gamma.dtype == attained.dtype == np.float64


def test_matched_coefficients_by_hand():
    result = matched_gamma(Linear(0, 1), 5, 0.5)
    assert isinstance(result, MatchedGamma)
    assert result.gamma.tolist() == [0, 2, 1, 0.5 / 0.75, 0.5] and result.degree[0] == 0
    assert np.allclose(result.degree[1:], 0.5, rtol=ONE_STEP)
    capped = matched_gamma(Linear(0, 1), 5, Constant(0.5), max_gamma=1)
    assert capped.gamma.tolist() == [0, 1, 1, 0.5 / 0.75, 0.5]
    assert capped.degree[:3].tolist() == [0, 0.25, 0.5]
    assert matched_gamma(0.25, 2, [1, 2]).gamma.tolist() == [4, 8]


@pytest.mark.parametrize(
    "arguments, match",
    [
        ((Linear(0, 2), 5, 1.0), "probability p"),
        ((Constant(0.5), 5, -1.0), "degree of regularization degree in"),
        ((Constant(0.5), 5, [1.0, 2.0]), r"shape \(5,\); got shape \(2,\)"),
        ((Constant(0.5), 0, 1.0), "1 <= T"),
        ((Constant(0.5), 5, 1.0, -1.0), "mixing coefficient gamma"),
        ((Constant(1e-320), 5, 1.0), "max_gamma given; got p = 1e-320 at t = 0"),
    ],
)
def test_matching_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        matched_gamma(*arguments)


@given(st.floats(0, 1e6), st.integers(1, 9))
def test_sequences_of_every_kind_are_arrays(value, T):
    rho = QUANTITIES["rho"]
    expected = [value] * T
    for parameter in (value, np.full(T, value), [value] * T, Constant(value), Tabulated([value] * T)):
        array = sequence(parameter, T, rho)
        assert array.dtype == np.float64 and array.tolist() == expected
        array[:] = -1  # one's own copy
    assert sequence(np.array(value), T, rho).tolist() == expected
    assert sequence(Linear(0, 1), 3, rho).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    "parameter, T, key, error, match",
    [
        (-0.1, 3, "rho", DomainError, r"radius rho in \[0, inf\); got -0.1$"),
        ([0.1, 0.1, math.nan], 3, "rho", DomainError, "radius rho .* got nan at t = 2"),
        (Linear(0, 2), 3, "p", DomainError, "probability p .* got 2.0 at t = 2"),
        (
            [0.1, 0.2],
            3,
            "eta",
            ValueError,
            r"step size eta must be a number or have shape \(3,\); got shape \(2,\)",
        ),
        ([[0.1]], 1, "eta", ValueError, r"got shape \(1, 1\)"),
        (0.1, 0, "eta", DomainError, "1 <= T; got 0"),
        ("0.1", 3, "eta", TypeError, "step size eta must be real numbers; got '0.1'"),
        (Tabulated([1.0]), 3, "eta", DomainError, "T = 1, the number of values"),
    ],
)
def test_sequences_refuse(parameter, T, key, error, match):
    with pytest.raises(error, match=match):
        sequence(parameter, T, QUANTITIES[key])


def test_the_limits_of_depth_and_period_are_exact_and_slopes_are_shown_by_their_ends():
    nested = Constant(0.5)
    for _ in range(20):
        nested = Joined(((nested, 1.0),))
    with pytest.raises(ValueError, match="at most 20 deep"):
        Joined(((nested, 1.0),))
    assert Periodic(2**53).every == 2**53
    with pytest.raises(ValueError):
        Periodic(2**53 + 1)
    assert (repr(Linear(0.25, 1.0)), repr(Cosine(1.0, 0.0))) == (
        "Linear(0.25, 1.0)",
        "Cosine(1.0, 0.0)",
    )
