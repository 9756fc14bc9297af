"""The law of the extra propagation pairs: rational enumeration, exact sums, and the trials themselves."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
import sympy
from conftest import COMPARISON_ALARM, NUMERIC
from hypothesis import assume, example, given, settings, strategies as st

from rst_theory import CostLaw, Trials
from rst_theory.cost import TailMethod, closed_form
from rst_theory.cost.symbolic import _Square
from rst_theory.cost.systematic import SystematicSum
from rst_theory.notation import QUANTITIES, DomainError
from rst_theory.schedules import (
    PRESETS,
    Constant,
    Cosine,
    FromExpression,
    InverseSqrt,
    Joined,
    Linear,
    Periodic,
    Piecewise,
    Schedule,
    Tabulated,
    preset,
)

METHODS = get_args(TailMethod)
ROUNDING = Fraction(
    1, 10**11
)  # relative: of a law that is right to 1e-10 by promise and 1e-12 by measurement

probabilities = st.lists(
    st.one_of(
        st.sampled_from([0.0, 1.0, 0.5, 0.25, 5e-324, 1e-200, 1 - 2**-53]),
        st.floats(0, 1),
        st.floats(0, 100).map(lambda x: 10.0**-x),
        st.floats(0, 15).map(lambda x: 1 - 10.0**-x),
    ),
    min_size=1,
    max_size=10,
)


def enumerated(p: list[float]) -> list[Fraction]:
    law = [Fraction(1)]
    for q in map(Fraction, p):
        law = [a * (1 - q) + b * q for a, b in zip([*law, Fraction(0)], [Fraction(0), *law], strict=True)]
    return law


def systematic(p: list[float]) -> list[Fraction]:
    total = sum(map(Fraction, p), start=Fraction(0))
    law = [Fraction(0)] * (len(p) + 1)
    law[math.ceil(total)] += total - math.floor(total)
    law[math.floor(total)] += 1 - (total - math.floor(total))
    return law


def relative(value: float, exact: Fraction) -> Fraction:
    """The relative error, where the exact value is at least 1e-290."""
    if exact < Fraction(1, 10**290):
        assert 0 <= value <= 1e-289
        return Fraction(0)
    return abs(Fraction(value) - exact) / exact


@given(probabilities, st.sampled_from(["independent", "systematic"]))
@example([1.0], "systematic")
@example([0.0], "systematic")
@example([0.5, 0.5], "systematic")
@example([0.5, 0.5 - 2**-54], "systematic")  # the float sum is 1, the sum is not
@example([0.75] * 3 + [1e-30], "systematic")
@example([1.0, 1.0, 5e-324], "systematic")
@example([0.9, 0.1, 1.0], "systematic")
@settings(max_examples=200)
def test_law_against_rational_arithmetic(p: list[float], kind: str) -> None:
    T = len(p)
    law = CostLaw(p, T, kind)
    exact = enumerated(p) if kind == "independent" else systematic(p)
    mean = sum((k * v for k, v in enumerate(exact)), start=Fraction(0))
    variance = sum(((k - mean) ** 2 * v for k, v in enumerate(exact)), start=Fraction(0))

    assert law.mean == pytest.approx(float(mean), rel=1e-15, abs=0)
    assert law.variance == pytest.approx(float(variance), rel=1e-14, abs=0)
    assert law.standard_deviation == pytest.approx(math.sqrt(variance), rel=1e-14, abs=0)
    assert law.pairs_relative_to_sgd == pytest.approx(float((T + mean) / T), rel=1e-15)
    assert law.pairs_relative_to_sam == pytest.approx(float((T + mean) / (2 * T)), rel=1e-15)
    assert law.pmf().shape == (T + 1,)
    for k in range(T + 1):
        below, above = sum(exact[: k + 1], start=Fraction(0)), sum(exact[k + 1 :], start=Fraction(0))
        assert relative(float(law.pmf()[k]), exact[k]) < NUMERIC
        assert relative(law.cdf(k), below) < NUMERIC
        assert relative(law.sf(k), above) < NUMERIC
        assert law.cdf(k + 0.5) == law.cdf(k)
        logarithm = math.log(exact[k].numerator) - math.log(exact[k].denominator) if exact[k] else -math.inf
        assert law.log_pmf(k) == pytest.approx(logarithm, rel=NUMERIC, abs=NUMERIC)
    assert law.cdf(-1) == law.cdf(-math.inf) == law.sf(T) == law.sf(math.inf) == 0
    assert law.sf(-1) == law.sf(-math.inf) == law.cdf(T) == law.cdf(math.inf) == 1


@given(
    probabilities,
    st.one_of(
        st.floats(0, 1), st.sampled_from([0.5, 0.25, 0.75, 0.99]), st.floats(0, 300).map(lambda x: 10.0**-x)
    ),
    st.sampled_from(["independent", "systematic"]),
)
@example([0.5], 0.5, "independent")
@example([0.5] * 3, 0.5, "independent")
@example([0.5] * 3, 0.125, "independent")
@example([0.5] * 3, 0.875, "independent")
@example([0.5] * 3, 0.0, "independent")
@example([0.5] * 3, 1.0, "independent")
@example([1.0, 1e-200, 0.0], 0.0, "independent")
@example([1.0, 1e-200, 0.0], 1.0, "independent")
@example([0.5], 0.5, "systematic")
@settings(max_examples=200)
def test_quantiles_and_intervals(p: list[float], a: float, kind: str) -> None:
    law = CostLaw(p, len(p), kind)
    exact = enumerated(p) if kind == "independent" else systematic(p)
    support = [k for k, v in enumerate(exact) if v]
    k = law.quantile(a)
    assert isinstance(k, int)
    assert support[0] <= k <= support[-1]
    level = Fraction(a)
    at, before = sum(exact[: k + 1], start=Fraction(0)), sum(exact[:k], start=Fraction(0))
    if a <= 0.5:
        assert at >= level * (1 - ROUNDING) or k == support[-1]
        assert before <= level * (1 + ROUNDING)
    else:
        assert 1 - at <= (1 - level) * (1 + ROUNDING)
        assert 1 - before >= (1 - level) * (1 - ROUNDING)
    low, high = law.interval(a)
    assert low <= high
    assert sum(exact[low : high + 1]) >= level - ROUNDING


def test_a_level_that_is_attained_is_found() -> None:
    for T in range(1, 15):
        law = CostLaw(0.5, T)
        for k in range(T):
            level = sum(math.comb(T, i) for i in range(k + 1)) / 2**T
            assert law.quantile(level) == k
            assert law.quantile(level + 1e-9) == k + 1
        assert law.quantile(0) == 0
        assert law.quantile(1) == T


def test_quantiles_are_resolved_in_both_far_tails() -> None:
    """At p = 1/2 the two tails mirror each other; 1 - 1e-15 is within rounding of what it says."""
    law = CostLaw(0.5, 10_000)
    tail = 2.0**-50
    assert law.quantile(tail) == 10_000 - law.quantile(1 - tail)
    assert law.sf(law.quantile(1 - tail)) <= tail < law.sf(law.quantile(1 - tail) - 1)
    low, high = law.interval(0.99)
    assert low + high == 10_000
    assert 120 < high - 5_000 < 135  # 2.576 deviations of 50


@given(probabilities, st.integers(-2, 12), st.floats(-0.5, 0.5))
@example([0.5], 1, 0.0)
@example([1.0], 1, 0.0)
@example([1.0], 2, 0.0)
@example([0.5] * 9, 5, 0.0)
@example([5e-324, 0.99999999], 1, 0.0)
@example([1e-200, 0.5, 0.5], 2, 1e-9)
@settings(max_examples=300)
def test_tail_bounds_hold_and_are_in_order(p: list[float], k: int, shift: float) -> None:
    law = CostLaw(p, len(p))
    exact = enumerated(p)
    for at in (k, k + shift):
        if at > law.mean:
            tail = sum((v for j, v in enumerate(exact) if j >= at), start=Fraction(0))
        elif at < law.mean:
            tail = sum((v for j, v in enumerate(exact) if j <= at), start=Fraction(0))
        else:
            tail = Fraction(1)
        bound = {method: law.tail_bound(at, method) for method in METHODS}
        for value in bound.values():
            assert 0 <= value <= 1
            assert value >= tail * (1 - ROUNDING) - Fraction(1, 10**290)
        assert bound["chernoff"] <= bound["hoeffding"] * (1 + 1e-12)
        assert bound["chernoff"] <= bound["bernstein"] * (1 + 1e-12)
        assert law.tail_bound(at) == bound["chernoff"]


def test_tail_bounds_by_hand() -> None:
    law = CostLaw(0.25, 100)  # mean 25, variance 18.75
    assert law.tail_bound(25) == 1
    for k in (15, 35):
        assert law.tail_bound(k, "hoeffding") == pytest.approx(math.exp(-2), rel=1e-14)
        assert law.tail_bound(k, "bernstein") == pytest.approx(math.exp(-50 / (18.75 + 10 / 3)), rel=1e-14)
    chernoff = (25 / 35) ** 35 * (75 / 65) ** 65
    assert law.tail_bound(35, "chernoff") == pytest.approx(chernoff, rel=1e-12)
    assert law.tail_bound(100) == pytest.approx(0.25**100, rel=1e-12)
    assert law.tail_bound(101) == law.tail_bound(math.inf) == law.tail_bound(-math.inf) == 0
    assert CostLaw([0.5, 1, 0], 3).tail_bound(2, "hoeffding") == pytest.approx(math.exp(-0.5))


def test_tail_bounds_of_a_long_run() -> None:
    """Where the law is known far out: Chernoff's bound is above the tail, and by at most a factor T + 1."""
    law = CostLaw(Linear(0.0, 1.0), 100_000)
    for deviations in (0.5, 3, 10, 30):
        k = math.ceil(law.mean + deviations * law.standard_deviation)
        tail = law.sf(k - 1)
        assert tail > 1e-290
        assert tail <= law.tail_bound(k) <= (law.T + 1) * tail
        assert law.tail_bound(k) <= law.tail_bound(k, "bernstein")
        assert law.tail_bound(k) <= law.tail_bound(k, "hoeffding")


@given(probabilities, st.floats(-1, 11))
@example([0.5], 1.0)
@example([0.5], 0.0)
@example([0.25, 0.5, 1.0], 2.0)
@settings(max_examples=100)
def test_systematic_tails_are_exact(p: list[float], k: float) -> None:
    law = CostLaw(p, len(p), "systematic")
    assume(k != law.mean)
    upper = k > law.mean
    tail = sum((v for j, v in enumerate(systematic(p)) if (j >= k if upper else j <= k)), start=Fraction(0))
    for method in METHODS:
        assert relative(law.tail_bound(k, method), tail) < NUMERIC
    assert law.tail_bound(law.mean) == 1


def test_tails_sum_from_the_small_end() -> None:
    """P(N <= k) and P(N > k) of a binomial law from exact integers, near 1e-290 and in between."""
    T = 2000
    law = CostLaw(0.5, T)
    ways = [math.comb(T, k) for k in range(T + 1)]
    for k in (100, 200, 230, 500, 900, 999, 1000, 1001, 1500, 1770, 1850):
        below = Fraction(sum(ways[: k + 1]), 2**T)
        assert relative(law.cdf(k), below) < NUMERIC
        assert relative(law.sf(k), 1 - below) < NUMERIC


@pytest.mark.parametrize("kind", ["independent", "systematic"])
def test_the_trials_follow_the_law(kind: str) -> None:
    """All replicas together are one long run: its cost must lie in its law's interval."""
    T, replicas = 60, 2000
    p = Linear(0.0, 0.5).probabilities(T)
    law = CostLaw(p, T, kind)
    costs = [Trials(p, seed=7, kind=kind, replica=r).extra_pairs for r in range(replicas)]
    if kind == "systematic":
        assert law.mean == pytest.approx(15)
        p = np.append(p, 0.3)
        law = CostLaw(p, T + 1, "systematic")
        costs = [Trials(p, seed=7, kind="systematic", replica=r).extra_pairs for r in range(replicas)]
        assert set(costs) == {15, 16}
        low, high = CostLaw(law.mean - 15, replicas).interval(1 - COMPARISON_ALARM)
        assert low <= costs.count(16) <= high
    else:
        low, high = CostLaw(np.tile(p, replicas), T * replicas).interval(1 - COMPARISON_ALARM)
        assert low <= sum(costs) <= high


RATIONAL: list[Schedule] = [
    Constant(0.3),
    Constant(0),
    Constant(1),
    Piecewise(0.0, 1.0, 0.3),
    Piecewise(0.3, 0.7, 0.5),
    Piecewise(0.9, 0.2, 1),
    Linear(0.0, 1.0),
    Linear(0.9, 0.25),
    Cosine(0.0, 1.0),
    Cosine(0.9, 0.2),
    InverseSqrt(0.8),
    Periodic(1),
    Periodic(3),
    Joined(((Linear(0.0, 1.0), 0.3), (Constant(0.4), 0.2), (Cosine(1.0, 0.2), 0.5))),
    Joined(((Joined(((Periodic(2), 0.5), (Linear(0.5, 0.25), 0.5))), 0.5), (FromExpression("t / T"), 0.5))),
    FromExpression("0.5 * exp(-t / T)"),
    *(preset(name, p=0.3, original=original) for name in PRESETS for original in (False, True)),
]


@pytest.mark.parametrize("schedule", RATIONAL, ids=repr)
@pytest.mark.parametrize("kind", ["independent", "systematic"])
def test_closed_form_is_the_sum_over_the_steps(schedule: Schedule, kind: str) -> None:
    t = sympy.Symbol("t")
    for T in (1, 2, 3, 4, 7, 10):
        terms = [schedule.expression(sympy.Integer(i), sympy.Integer(T)) for i in range(T)]
        mean = sympy.Add(*terms)
        if kind == "independent":
            variance = sympy.Add(*(p * (1 - p) for p in terms))
        else:
            part = mean - sympy.floor(mean)
            variance = part * (1 - part)
        law = CostLaw(schedule, T, kind)
        form = law.closed_form()
        assert not form.mean.has(t)
        assert abs(sympy.N(form.mean - mean, 40)) < 1e-30
        assert abs(sympy.N(form.variance - variance, 40)) < 1e-30
        if mean.is_Rational and variance.is_Rational:
            assert form.mean.is_Rational
            assert form.variance.is_Rational
        assert law.mean == pytest.approx(float(mean), rel=1e-14, abs=1e-16)
        if kind == "independent":
            assert law.variance == pytest.approx(float(variance), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("schedule", RATIONAL, ids=repr)
def test_closed_form_in_the_symbol(schedule: Schedule) -> None:
    form = closed_form(schedule)
    (T,) = form.mean.free_symbols | form.variance.free_symbols or {sympy.Symbol("T")}
    if not isinstance(schedule, FromExpression):
        assert not form.mean.has(sympy.Sum, sympy.Max) and not form.variance.has(sympy.Sum, sympy.Max)
    for steps in (8, 11, 20) if isinstance(schedule, Joined) else (1, 2, 3, 8, 11):
        exact = CostLaw(schedule, steps).closed_form()
        assert abs(sympy.N(form.mean.subs(T, steps).doit() - exact.mean, 40)) < 1e-30
        assert abs(sympy.N(form.variance.subs(T, steps).doit() - exact.variance, 40)) < 1e-30


def test_closed_forms_that_are_known() -> None:
    T = closed_form(Linear(0.0, 1.0)).mean.free_symbols.pop()
    line = CostLaw(Linear(0.0, 1.0), 101).closed_form()
    assert (line.mean, line.variance, line.per_step_limit) == (
        sympy.Rational(101, 2),
        sympy.Rational(101, 2) - sum(sympy.Rational(t, 100) ** 2 for t in range(101)),
        sympy.Rational(1, 2),
    )
    assert closed_form(Constant(0.3)).variance == sympy.Rational(21, 100) * T
    wave = CostLaw(Cosine(0.0, 1.0), 1_000_000).closed_form()
    assert wave.variance == sympy.Rational(999_999, 8)
    assert CostLaw(Constant(0.35), 10, "systematic").closed_form().variance == sympy.Rational(1, 4)


@pytest.mark.parametrize(
    "schedule",
    [Linear(0.1, 0.7), Cosine(0.9, 0.2), InverseSqrt(0.8), preset("linear1", 0.3, original=True)],
    ids=repr,
)
def test_closed_form_of_a_long_run(schedule: Schedule) -> None:
    law = CostLaw(schedule, 200_000)
    form = law.closed_form()
    assert not form.mean.has(sympy.Sum) and not form.variance.has(sympy.Sum)
    assert float(form.mean) == pytest.approx(law.mean, rel=1e-12)
    assert float(form.variance) == pytest.approx(law.variance, rel=1e-12)


def test_what_has_no_closed_form_stays_a_sum() -> None:
    law = CostLaw(FromExpression("sqrt(u)"), 5_000)
    form = law.closed_form()
    assert form.variance.has(sympy.Sum)
    assert float(form.variance) == pytest.approx(law.variance, rel=1e-12)
    assert form.per_step_limit == sympy.Rational(2, 3)


def test_no_limit_is_none() -> None:
    values = (0.5, 0.25, 1.0)
    form = CostLaw(Tabulated(values), 3).closed_form()
    assert (form.mean, form.variance, form.per_step_limit) == (
        sympy.Rational(7, 4),
        sympy.Rational(7, 16),
        None,
    )


def test_numbers_and_arrays_in_place_of_a_schedule() -> None:
    s = Linear(0.0, 1.0)
    from_schedule, from_array = CostLaw(s, 5), CostLaw(s.probabilities(5), 5)
    np.testing.assert_array_equal(from_schedule.pmf(), from_array.pmf())
    assert from_array.closed_form().variance == from_schedule.closed_form().variance == sympy.Rational(5, 8)
    assert CostLaw(0.5, 4).closed_form().mean == 2
    assert CostLaw(1, 4).mean == 4


def test_what_it_returns_cannot_be_changed() -> None:
    p = np.array([0.5, 0.25])
    law = CostLaw(p, 2)
    p[:] = 0
    assert law.mean == 0.75
    with pytest.raises(ValueError, match="read-only"):
        law.pmf()[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        law.probabilities[0] = 1


def test_errors() -> None:
    law = CostLaw(0.5, 3)
    with pytest.raises(ValueError, match="kind must be 'independent' or 'systematic'; got 'fair'"):
        CostLaw(0.5, 3, "fair")
    with pytest.raises(ValueError, match=r"shape \(3,\); got shape \(2,\)"):
        CostLaw([0.5, 0.5], 3)
    with pytest.raises(DomainError, match="1 <= T"):
        CostLaw(0.5, 0)
    with pytest.raises(TypeError, match="T must be an integer"):
        CostLaw(0.5, 3.0)
    with pytest.raises(DomainError, match=r"probability p in \[0, 1\]; got 1.2.* at t = 1"):
        CostLaw(Linear(0.0, 2.4), 3)
    for level in (-0.1, 1.1, math.nan):
        with pytest.raises(DomainError, match="level a in"):
            law.quantile(level)
        with pytest.raises(DomainError, match="level a in"):
            law.interval(level)
    for function in (law.cdf, law.sf, law.tail_bound):
        with pytest.raises(DomainError, match="k a real number"):
            function(math.nan)
        with pytest.raises(TypeError, match="k must be a real number"):
            function("two")
    with pytest.raises(TypeError, match="k must be an integer"):
        law.log_pmf(1.5)
    with pytest.raises(ValueError, match="method must be one of"):
        law.tail_bound(3, "markov")


@pytest.mark.parametrize("T", [4, 20, 21])
def test_the_eventual_mean_is_the_mean_of_long_runs(T: int) -> None:
    symbol = QUANTITIES["steps"].symbol
    there_and_back = Joined(((Linear(0, 1), 0.5), (Linear(1, 0), 0.5)))
    short = Linear(0.2, 0.7), Cosine(1, 0), Piecewise(0.1, 0.9, 0.3), Periodic(3), InverseSqrt(0.5)
    for schedule in (*short, there_and_back):
        eventual = closed_form(schedule).eventual_mean
        assert not eventual.has(sympy.Piecewise)
        expected = schedule.values(T).sum()
        assert float(eventual.subs(symbol, T)) == pytest.approx(expected, rel=NUMERIC)


# What mutants of the room showed to be missing


def test_a_law_is_itself_alone_and_cannot_be_changed() -> None:
    law, other = CostLaw([0.5, 0.25], np.int64(2)), CostLaw([0.5, 0.25], 2)
    assert law != other and len({law, other}) == 2
    assert type(law.T) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        law.T = 3  # type: ignore[misc]


def test_outside_the_support_nothing_has_a_probability() -> None:
    law = CostLaw([0.5, 0.25], 2)
    for k in (-1, -1000, 3, 1000):
        assert law.log_pmf(k) == -math.inf
    for far in (10**400, 1e300, math.inf):
        assert (law.cdf(far), law.sf(far), law.cdf(-far), law.sf(-far)) == (1, 0, 0, 1)
        assert law.tail_bound(far) == law.tail_bound(-far) == 0


def test_extreme_quantiles() -> None:
    """The greatest value is one even where its probability underflows; 0 may be one of the upper half."""
    assert CostLaw([1e-200] * 3, 3).quantile(1) == 3
    assert CostLaw([0.1], 1).quantile(0.6) == 0
    assert CostLaw([0.1], 1).quantile(0.95) == 1


def test_certain_trials_leave_no_tail() -> None:
    law = CostLaw([1.0, 0.0], 2)
    for method in ("chernoff", "hoeffding"):
        assert law.tail_bound(2, method) == law.tail_bound(0, method) == 0
        assert law.tail_bound(1, method) == 1


def test_the_number_of_terms_decides_between_a_number_and_a_sum() -> None:
    """Up to 1,000 terms are added, one more stays as it is; a table is added whatever its length."""
    for schedule, kept in ((FromExpression("t"), sympy.Sum), (InverseSqrt(1), sympy.harmonic)):
        assert _Square(schedule).mean(sympy.Integer(1000)).is_Rational
        assert _Square(schedule).mean(sympy.Integer(1001)).has(kept)
    assert closed_form(Tabulated([0.5] * 1001), 1001).variance == sympy.Rational(1001, 4)


def test_closed_forms_are_written_simply() -> None:
    """Cases outermost, one for T = 1; sums of powers of t by Faulhaber's formulas."""
    T = QUANTITIES["steps"].symbol
    line = closed_form(Linear(0.0, 1.0)).variance
    assert isinstance(line, sympy.Piecewise) and line.args[0] == (0, sympy.Eq(T, 1))
    assert sympy.cancel(line.args[1].expr - T * (T - 2) / (6 * (T - 1))) == 0
    parts = closed_form(Joined(((Constant(0.5), 0.5), (Constant(0.25), 0.5)))).variance
    assert not parts.has(sympy.Sum) and parts.subs(T, 10) == sympy.Rational(5, 4) + sympy.Rational(15, 16)
    formula = closed_form(FromExpression("t / T"))
    assert sympy.expand(formula.mean - (T - 1) / 2) == 0
    assert formula.variance == (T**2 - 1) / (6 * T)


def test_a_closed_form_is_a_value_and_takes_no_text() -> None:
    form = closed_form(Constant(0.5), 3)
    assert (form.mean, form.variance) == (sympy.Rational(3, 2), sympy.Rational(3, 4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        form.mean = 2  # type: ignore[misc]
    with pytest.raises(sympy.SympifyError):
        closed_form(Constant(0.5), "3")


def test_a_law_prints_as_its_arguments_and_takes_no_others() -> None:
    assert repr(CostLaw(0.5, 3)) == "CostLaw(schedule=0.5, T=3, kind='independent')"
    with pytest.raises(TypeError, match="probabilities"):
        CostLaw(0.5, 3, probabilities=np.zeros(3))  # type: ignore[call-arg]


@pytest.mark.parametrize("bad", [[], 0.5, [[0.5]]])
def test_a_systematic_sum_has_a_sequence_of_probabilities(bad: object) -> None:
    with pytest.raises(ValueError, match=r"shape \(T,\) with T >= 1; got shape"):
        SystematicSum(bad)  # type: ignore[arg-type]
