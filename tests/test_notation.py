"""The vocabulary: domains, quantities, assumptions, constants."""

import dataclasses
import math
import pickle
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
from hypothesis import assume, given, strategies as st

from rst_theory.notation import (
    QUANTITIES,
    Assumption,
    DomainError,
    Interval,
    ProblemConstants,
    Quantity,
    natural,
)

REALS = st.floats(allow_nan=True, allow_infinity=True)
NOT_NUMBERS = ["0.5", b"1", None, 1j, [0.5, 0.5], sympy.Symbol("x"), object()]
NATURALS = [key for key, q in QUANTITIES.items() if q.integer]


# Intervals


@given(REALS, REALS, st.booleans(), st.booleans(), st.lists(REALS, max_size=6))
def test_membership_is_the_definition(low, high, low_open, high_open, xs):
    assume(not math.isnan(low) and not math.isnan(high))
    interval = Interval(low, high, low_open, high_open)
    expected = [
        math.isfinite(x)
        and (low < x or (x == low and not low_open))
        and (x < high or (x == high and not high_open))
        for x in xs
    ]
    assert interval.contains(xs).tolist() == expected


@pytest.mark.parametrize(
    "interval, text",
    [
        (Interval(), "(-inf, inf)"),
        (Interval(0, 1), "[0, 1]"),
        (Interval(0, 0.5, low_open=True), "(0, 0.5]"),
        (Interval(-1, 2, high_open=True), "[-1, 2)"),
    ],
)
def test_intervals_print_as_mathematics(interval, text):
    assert str(interval) == text


# Quantities


@pytest.mark.parametrize("key", QUANTITIES)
@given(x=REALS)
def test_check_accepts_exactly_the_domain(key, x):
    quantity = QUANTITIES[key]
    inside = bool(quantity.domain.contains(x)) and not (quantity.integer and x != math.floor(x))
    if inside:
        assert quantity.check(x) == x
        assert type(quantity.check(x)) is (int if quantity.integer else float)
        assert quantity.check_all([x]).tolist() == [x]
        return
    for check in (quantity.check, lambda x: quantity.check_all([x])):
        with pytest.raises(DomainError, match=quantity.name) as error:
            check(x)
        assert str(quantity.domain) in error.value.condition
        assert error.value.value == x or math.isnan(x)


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize("key", ["p", "steps"])
def test_what_is_no_number_is_refused(key, value):
    with pytest.raises(TypeError, match=f"{QUANTITIES[key].name} {key} must be"):
        QUANTITIES[key].check(value)
    if not isinstance(value, list | type(None)):
        with pytest.raises(TypeError, match=f"{QUANTITIES[key].name} {key} must be"):
            QUANTITIES[key].check_all([value])


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.array(0.5), Fraction(1, 2), sympy.Rational(1, 2), torch.tensor(0.5)]
)
def test_every_kind_of_real_number_is_one(value):
    assert QUANTITIES["p"].check(value) == 0.5


def test_integers_are_not_rounded_and_huge_ones_have_no_room():
    assert QUANTITIES["steps"].check(2**53 + 1) == 2**53 + 1
    with pytest.raises(DomainError):
        QUANTITIES["rho"].check(10**400)
    with pytest.raises(DomainError):
        QUANTITIES["rho"].check_all([0.1, 10**400])


@given(
    st.lists(st.floats(0, 1), max_size=8),
    st.sampled_from([-1e-300, 1 + 2**-52, math.nan, math.inf]),
    st.data(),
)
def test_the_first_bad_entry_is_named_by_its_step(values, bad, data):
    t = data.draw(st.integers(0, len(values)))
    with pytest.raises(DomainError, match=rf"probability p in \[0, 1\]; got {bad} at t = {t}$"):
        QUANTITIES["p"].check_all([*values[:t], bad, *values[t:], bad])


def test_check_all_keeps_shape_and_never_writes_to_its_argument():
    given_ = np.array([[0.0, 0.25], [0.5, 1.0]])
    assert np.array_equal(QUANTITIES["p"].check_all(given_), given_)
    assert QUANTITIES["p"].check_all(0.5).shape == ()
    assert QUANTITIES["p"].check_all(np.array([True, False])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("values", [np.array([1j]), [[0.1], [0.2, 0.3]], ["0.5"]])
def test_check_all_refuses_what_it_would_have_to_reinterpret(values):
    with pytest.raises(TypeError, match="must be real numbers"):
        QUANTITIES["p"].check_all(values)


@pytest.mark.parametrize("key", QUANTITIES)
def test_symbols_print_as_their_latex_and_know_their_domain(key):
    quantity = QUANTITIES[key]
    assert quantity.key == key and quantity.name and quantity.latex
    symbol = quantity.symbol
    assert str(symbol) == quantity.latex and symbol == quantity.symbol
    assert symbol.is_real and (symbol.is_integer is True) == quantity.integer
    assert bool(symbol.is_nonnegative) == (quantity.domain.low >= 0)
    assert bool(symbol.is_positive) == bool(quantity.domain.low >= 1 or quantity.domain.low_open)


def test_no_two_quantities_share_a_letter():
    assert len({q.latex for q in QUANTITIES.values()}) == len(QUANTITIES)


# Naturals


@given(st.integers(-5, 30), st.integers(-3, 10), st.none() | st.integers(-3, 20))
def test_natural_is_a_range(value, least, below):
    inside = least <= value and (below is None or value < below)
    for kind in (int, np.int64, sympy.Integer):
        if inside:
            result = natural("n", kind(value), least, below)
            assert result == value and type(result) is int
        else:
            with pytest.raises(DomainError, match=f"{least} <= n.*; got {value}"):
                natural("n", kind(value), least, below)


@pytest.mark.parametrize(
    "value", [1.0, True, "1", None, np.float64(2), np.True_, Fraction(2), np.array([1, 2])]
)
def test_natural_refuses_what_is_no_integer(value):
    with pytest.raises(TypeError):
        natural("n", value)


# Assumptions and constants


def test_assumptions_say_what_they_are():
    assert all("$" in member.value for member in Assumption)
    assert len({member.value for member in Assumption}) == len(Assumption)
    of_the_run = {member.name for member in Assumption if member.of_the_run}
    assert of_the_run == {"SAME_MINIBATCH", "INDEPENDENT_TRIALS", "NORMALIZED_ASCENT", "UNNORMALIZED_ASCENT"}


def test_constants_are_checked_and_become_floats():
    constants = ProblemConstants(L=2, mu=np.float32(0.5), sigma=1, f_star=-3)
    assert (constants.L, constants.mu, constants.sigma, constants.f_star) == (2.0, 0.5, 1.0, -3.0)
    assert all(type(value) is float for value in vars(constants).values())
    assert ProblemConstants(1.0) == ProblemConstants(1, 0, 0, None)
    assert ProblemConstants(L=2, mu=2).mu == 2


@pytest.mark.parametrize("infinity", [math.inf, np.float64("inf"), np.float32("inf")])
def test_noise_without_a_bound_is_infinite(infinity):
    constants = ProblemConstants(L=1, sigma=infinity)
    assert constants.sigma == math.inf and type(constants.sigma) is float
    with pytest.raises(DomainError, match=r"noise level sigma in \[0, inf\)"):
        QUANTITIES["sigma"].check(infinity)


@pytest.mark.parametrize(
    "bad",
    [
        {"sigma": -math.inf},
        {"sigma": 10**400},
        {"L": 0},
        {"L": -1},
        {"L": math.inf},
        {"mu": -0.1},
        {"mu": 1.1},
        {"sigma": math.nan},
        {"f_star": -math.inf},
    ],
)
def test_constants_outside_their_domains_are_refused(bad):
    with pytest.raises(DomainError):
        ProblemConstants(**{"L": 1.0, **bad})


@pytest.mark.parametrize("at", ["", "t = 3"])
def test_domain_errors_carry_their_parts_across_processes(at):
    error = DomainError("probability p in [0, 1]", 1.5, at)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.condition, copy.value, copy.at, str(copy)) == (error.condition, error.value, at, str(error))
    assert str(error) == "required: probability p in [0, 1]; got 1.5" + (" at t = 3" if at else "")
    assert isinstance(error, ValueError)


def test_a_quantity_of_ones_own_works_alike():
    width = Quantity("w", "width", "w", Interval(0, 2, low_open=True))
    assert width.check(2) == 2.0
    with pytest.raises(DomainError, match=r"width w in \(0, 2\]; got 0"):
        width.check(0)


# What mutants of the room showed to be missing


def test_the_table_is_the_one_in_the_notes():
    notes = (Path(__file__).parents[1] / "paper_notes" / "notation.md").read_text(encoding="utf-8")
    notes = notes.partition("A propagation pair")[0]
    rows = re.findall(r"^\| `(\w+)` \| \$(.+)\$ \| (.+) \| (?:(integer) in )?(.+) \|$", notes, re.MULTILINE)
    table = [(q.key, q.latex, q.name, "integer" * q.integer, str(q.domain)) for q in QUANTITIES.values()]
    assert rows == table and list(QUANTITIES) == [key for key, *_ in rows]


def test_the_vocabulary_cannot_be_changed():
    for value, field in ((Interval(0, 1), "low"), (QUANTITIES["p"], "key"), (ProblemConstants(1.0), "L")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, 2)


def test_everything_real_can_be_asked_for_membership():
    assert Interval(0, 1).contains([Fraction(1, 2), 2**70, True]).tolist() == [True, False, True]


@pytest.mark.parametrize("below, words", [(None, "3 <= n"), (5, "3 <= n < 5")])
def test_a_natural_out_of_range_is_told_its_range(below, words):
    with pytest.raises(DomainError, match=f"^required: {words}; got 2$") as caught:
        natural("n", 2, 3, below)
    assert (caught.value.condition, caught.value.value, caught.value.at) == (words, 2, "")


def test_an_integer_is_asked_for_as_one():
    with pytest.raises(DomainError, match=r"number of steps steps an integer in \[1, inf\); got 1.5$"):
        QUANTITIES["steps"].check(1.5)


def test_an_open_end_is_no_member_and_naturals_begin_at_0():
    inside = Interval(0, 1, low_open=True, high_open=True).contains(np.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(inside, [False, True, False])
    assert Interval(0, 1).contains(np.array([0.0, 1.0])).all()
    assert natural("n", 0) == 0
    with pytest.raises(DomainError):
        natural("n", -1)
