"""The kit: what is right passes, and every planted fault is found and called by its name."""

from __future__ import annotations

import dataclasses
import doctest
import math
import subprocess
import sys

import numpy as np
import pytest
import sympy
from conftest import COMPARISON_ALARM
from hypothesis import HealthCheck, given, settings, strategies as st
from scipy import stats

import rst_theory as rst
from rst_theory import problems as house, testing
from rst_theory.notation import Assumption, DomainError
from rst_theory.problems import FromFunctions, Problem
from rst_theory.schedules import FAMILIES, PRESETS, preset, sequence
from rst_theory.schedules.base import rational
from rst_theory.testing import (
    ContractViolation,
    check_problem,
    check_schedule,
    law,
    mixing_coefficients,
    noise,
    objectives,
    problems,
    radii,
    schedules,
    step_sizes,
    trials,
)
from rst_theory.testing.contract import FALSE_ALARM

few = settings(max_examples=30, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


# What is right passes


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_keeps_the_contract(name):
    slow = name in ("FromExpression", "Joined")
    check_schedule(FAMILIES[name], max_examples=3 if slow else 8, skip={"closed form"} if slow else ())


@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_keeps_the_contract(name, original):
    slow = {"limit", "closed form"} if original else ()
    check_schedule(preset(name, 0.3, original), steps=[1, 2, 3, 5], skip=slow)


@pytest.mark.parametrize("name", objectives._FAMILIES)
def test_every_problem_keeps_the_contract(name):
    check_problem(problems([name]), max_examples=2 if name == "FromFunctions" else 5)


def test_every_registered_problem_has_a_strategy():
    classes = {name for name in house.__all__ if isinstance(getattr(house, name), type)}
    concrete = {name for name in classes if issubclass(getattr(house, name), Problem)} - {"Problem"}
    assert concrete == {*objectives._FAMILIES}


def test_the_problems_of_usual_size_keep_the_contract():
    for name in ("quadratic", "flat-and-sharp", "rippled", "least-squares"):
        check_problem(house.BY_NAME[name]())


# Schedules of a user's own


@dataclasses.dataclass(frozen=True, repr=False)
class Ramp(rst.Schedule):
    """From 0 to `end` in a straight line; the faults below are planted in it."""

    end: float

    def _values(self, t, T):
        return float(self.end) * (t / max(1, T - 1))

    def expression(self, t, T):
        return rational(self.end) * t / sympy.Max(1, T - 1)

    def mean(self, T=None):
        if T is None:
            return rational(self.end) / 2
        return sympy.Piecewise((0, sympy.Eq(T, 1)), (rational(self.end) / 2, True))


def test_a_right_schedule_of_a_users_own_passes_in_every_form():
    check_schedule(Ramp, max_examples=20)
    check_schedule(Ramp(0.7))
    check_schedule(st.builds(Ramp, st.floats(0, 1)), max_examples=3, skip={"limit"})
    check_schedule(Ramp(3), probability=False, steps=[1, 4], skip={"limit"})


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(schedules(["Linear", "Piecewise", "Tabulated"]))
def test_a_check_may_stand_inside_a_test_of_hypothesis(schedule):
    check_schedule(schedule, skip={"limit"})


class Clock(Ramp):
    def _values(self, t, T):
        return float(self.end) * (t / T)


class SymbolicClock(Ramp):
    def expression(self, t, T):
        return rational(self.end) * t / T


class OnlyInSymbols(Ramp):
    def expression(self, t, T):
        return rational(self.end) * t / (sympy.Max(1, T - 1) if sympy.sympify(T).is_number else T)


class Unevaluated(Ramp):
    def expression(self, t, T):
        return sympy.Symbol("x") * t


class Mean(Ramp):
    def mean(self, T=None):
        return rational(self.end) / 2


class MeanInSymbols(Ramp):
    def mean(self, T=None):
        return super().mean(T) if T is None or sympy.sympify(T).is_number else rational(self.end) / 2 + 1 / T


class InexactMean(Ramp):
    def mean(self, T=None):
        return sympy.Float(float(super().mean(T)))


class Limit(Ramp):
    def mean(self, T=None):
        return rational(self.end) * sympy.Rational(26, 51) if T is None else super().mean(T)


class AboveOne(Ramp):
    def _values(self, t, T):
        return 1.25 * super()._values(t, T)


class Negative(Ramp):
    def _values(self, t, T):
        return super()._values(t, T) - 0.25


class NotANumber(Ramp):
    def _values(self, t, T):
        with np.errstate(all="ignore"):
            return float(self.end) * (t / np.float64(T - 1))


class Single(Ramp):
    def _values(self, t, T):
        return super()._values(t, T).astype(np.float32)


class SingleInside(Ramp):
    def _values(self, t, T):
        return super()._values(t, T).astype(np.float32).astype(np.float64)


class Column(Ramp):
    def _values(self, t, T):
        return super()._values(t, T)[:, None]


class Raises(Ramp):
    def _values(self, t, T):
        return super()._values(t, T) * (1 / (T - 1))


class Random(Ramp):
    def _values(self, t, T):
        return np.random.default_rng().uniform(size=t.shape)  # another at every call


class Counting(Ramp):
    calls = [0]  # noqa: RUF012

    def _values(self, t, T):
        self.calls[0] += 1
        return super()._values(t, T) / self.calls[0]


class FirstLength(Ramp):
    def _values(self, t, T):
        if not hasattr(self, "_first"):
            object.__setattr__(self, "_first", T)
        return float(self.end) * (t / max(1, self._first, T - 1))


class Shared(Ramp):
    kept = {}  # noqa: RUF012

    def _values(self, t, T):
        key = self.end, tuple(t), T
        if key not in self.kept:
            self.kept[key] = super()._values(t, T)
        return self.kept[key]


class Endless(Ramp):
    @property
    def has_horizon(self):
        return False


class OtherProbabilities(Ramp):
    def probabilities(self, T):
        return super().probabilities(T) / 2


class NoDict(Ramp):
    def to_dict(self):
        return {"family": "NoDict"}


class NotJson(Ramp):
    def to_dict(self):
        return {"family": "NotJson", "end": math.nan}


class Silent(Ramp):
    def __repr__(self):
        return "a schedule"


class Forgotten(rst.Schedule):
    """Its parameter is no field, for the class is not decorated."""

    def __init__(self):
        object.__setattr__(self, "level", 0.5)

    def _values(self, t, T):
        return np.full(t.shape, self.level)

    def expression(self, t, T):
        return sympy.Rational(1, 2)

    def mean(self, T=None):
        return sympy.Rational(1, 2)


FAULTS = {
    Clock: {"expression", "mean"},
    SymbolicClock: {"expression"},
    OnlyInSymbols: {"expression"},
    Unevaluated: {"expression"},
    Mean: {"mean"},
    MeanInSymbols: {"mean"},
    InexactMean: {"mean"},
    Limit: {"limit"},
    AboveOne: {"values"},
    Negative: {"values"},
    NotANumber: {"values"},
    Single: {"values"},
    SingleInside: {"expression", "mean"},
    Column: {"values"},
    Raises: {"values"},
    Random: {"same answer"},
    Counting: {"same answer"},
    FirstLength: {"same answer"},
    Shared: {"same answer"},
    Endless: {"horizon"},
    OtherProbabilities: {"probabilities"},
    NoDict: {"plain dict"},
    NotJson: {"plain dict"},
    Silent: {"equality"},
    Forgotten: {"equality"},
}


@pytest.mark.parametrize("family", FAULTS, ids=lambda family: family.__name__)
def test_a_faulty_schedule_is_caught_and_its_broken_promise_named(family):
    with pytest.raises(ContractViolation) as caught:
        check_schedule(family, max_examples=10, skip={"limit"} - FAULTS[family])
    assert {*caught.value.promises} == FAULTS[family]
    text = str(caught.value)
    assert text.startswith(f"{family.__name__} breaks ") and "smallest example: " in text


def test_the_smallest_example_is_small_enough_to_check_in_the_head():
    with pytest.raises(ContractViolation) as caught:
        check_schedule(Clock, skip={"mean", "limit"}, max_examples=20)
    assert str(caught.value) == (
        "Clock breaks a promise\n\n"
        "expression: the expression is the value, to 1e-10 of the largest\n"
        "    smallest example: Clock(1.0), T = 2\n"
        "    at t = 1 the value is 0.5, the expression 1"
    )


def test_a_single_faulty_schedule_is_told_at_its_least_number_of_steps():
    with pytest.raises(
        AssertionError, match=r"smallest example: AboveOne\(0.9\), T = 2\n +at t = 1 the value is 1.1"
    ):
        check_schedule(AboveOne(0.9))


def test_a_wrong_law_or_biased_coins_are_caught(monkeypatch):
    class WrongLaw(rst.CostLaw):
        @property
        def variance(self):
            return super().variance + 1e-6

    right = law.sequences
    with monkeypatch.context() as patch:
        patch.setattr(law, "CostLaw", WrongLaw)
        with pytest.raises(ContractViolation, match="independent trials: the variance is"):
            check_schedule(Ramp(1), skip={"limit"})
    with monkeypatch.context() as patch:
        patch.setattr(law, "sequences", lambda p, *rest: right(np.minimum(1, p + 0.1), *rest))
        with pytest.raises(ContractViolation, match="heads at t = ") as caught:
            check_schedule(rst.Constant(0.5), skip={"limit"})
        assert caught.value.promises == ("trials",)


def test_exact_tails_of_the_binomial_law():
    n = law.REPLICAS
    seen, chance = np.array([0, 0, 3, 1000, 1999, n, n]), np.array([0.0, 1e-3, 1e-3, 0.45, 0.99, 0.99, 1.0])
    both = [
        min(stats.binom.cdf(k, n, p), stats.binom.sf(k - 1, n, p)) for k, p in zip(seen, chance, strict=True)
    ]
    np.testing.assert_allclose(law._tail(seen, chance), 2 * np.array(both), rtol=1e-8)


@pytest.mark.parametrize(
    "wrong, arguments, error, match",
    [
        (0.5, {}, TypeError, "a schedule, a class of them, or a strategy"),
        (int, {}, TypeError, "a schedule, a class of them, or a strategy"),
        (rst.Constant(sympy.Symbol("a")), {}, TypeError, "has free symbols"),
        (rst.Constant(1), {"skip": {"nonsense"}}, ValueError, "no promise nonsense to skip; there are"),
        (rst.Constant(1), {"steps": [0]}, DomainError, "1 <= steps"),
        (rst.Tabulated([1, 1]), {"steps": [3]}, ValueError, "refuses every number of steps tried"),
        (st.just(3), {}, TypeError, "the strategy must make schedules; got 3"),
        (st.nothing(), {}, ValueError, "gives no example"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_said(wrong, arguments, error, match):
    with pytest.raises(error, match=match):
        check_schedule(wrong, **arguments)


def test_a_field_without_a_known_strategy_is_named():
    @dataclasses.dataclass(frozen=True, repr=False)
    class Named(Ramp):
        colour: str

    with pytest.raises(
        TypeError, match=r"Named colour is of type str; give a strategy .*builds\(Named, colour=…\)"
    ):
        check_schedule(Named)


def test_a_long_table_is_checked_at_its_own_length():
    check_schedule(rst.Tabulated([0.25] * 40), skip={"closed form"})


# Problems of a user's own


class Bowl(Problem):
    """f(x) = 3/2 x_1^2 + 1/2 x_2^2; the faults below are planted in it."""

    name = "bowl"
    lam = np.array([3.0, 1.0])

    def __init__(self, **changes):
        constants = {
            "L": 3.0, "mu": 1.0, "f_star": 0.0, "claims": [Assumption.STRONGLY_CONVEX], "noise": 0.5,
            "minimizer": [0.0, 0.0], **changes,
        }  # fmt: skip
        super().__init__(2, [1.0, 1.0], **constants)

    def value(self, x):
        return 0.5 * (self.lam * self._points(x) ** 2).sum(axis=-1)

    def gradient(self, x):
        return self.lam * self._points(x)


class Factor(Bowl):
    def gradient(self, x):
        return 1.001 * super().gradient(x)


class Transposed(Bowl):
    def gradient(self, x):
        return super().gradient(x)[..., ::-1]


class SingleGradient(Bowl):
    def gradient(self, x):
        return super().gradient(x).astype(np.float32)


class SingleGradientInside(Bowl):
    def gradient(self, x):
        return super().gradient(x).astype(np.float32).astype(np.float64)


class SingleValueInside(Bowl):
    def value(self, x):
        return super().value(x).astype(np.float32).astype(np.float64)


class SlightlyOff(Bowl):
    """Its value accepts complex numbers, so that an error of 1e-8 is seen."""

    def value(self, x):
        return 0.5 * (self.lam * np.asarray(x) ** 2).sum(axis=-1)

    def gradient(self, x):
        return (1 + 1e-8) * super().gradient(x)


class OnePoint(Bowl):
    def value(self, x):
        return np.asarray(0.5 * (self.lam * self._points(x) ** 2).sum())


class Writes(Bowl):
    def gradient(self, x):
        x *= self.lam
        return x


class Contagious(Bowl):
    def gradient(self, x):
        g = super().gradient(x)
        return g + 0 * g.sum()


class Overflows(Bowl):
    def value(self, x):
        x = self._points(x)
        return super().value(x) + 0 * np.exp(10 * x).sum(axis=-1)


class Biased(Bowl):
    def sample(self, generator, replicas):
        return super().sample(generator, replicas) + 0.15  # sigma = 0.71


class Correlated(Bowl):
    def sample(self, generator, replicas):
        return np.tile(super().sample(generator, 1), (replicas, 1))


class Unrepeatable(Bowl):
    def sample(self, generator, replicas):
        return super().sample(np.random.default_rng(), replicas)


class Steeper(Bowl):
    """The noise turns the landscape: L holds for the gradient, not for each stochastic one."""

    def stochastic_gradient(self, x, minibatch):
        return super().stochastic_gradient(x, minibatch) + 0.5 * np.sign(minibatch[:, :1]) * self._points(x)


class Noisy(Bowl):
    def stochastic_gradient(self, x, minibatch):
        return super().stochastic_gradient(x, minibatch) + 0.1


BROKEN = {
    "L too small": (lambda: Bowl(L=2.9), {"L"}),
    "mu too large": (lambda: Bowl(mu=1.1), {"mu"}),
    "f_star too large": (lambda: Bowl(f_star=0.01), {"f_star"}),
    "f_star too small": (lambda: Bowl(f_star=-0.01), {"f_star", "mu"}),
    "wrong minimizer": (lambda: Bowl(minimizer=[0.1, 0.0]), {"f_star"}),
    "claims without mu": (lambda: Bowl(mu=0.0), {"claims"}),
    "sigma too small": (lambda: Bowl(sigma=0.9 * 0.5 * math.sqrt(2)), {"sigma"}),
    "sigma of one coordinate": (lambda: Bowl(sigma=0.5), {"sigma"}),
    "noise without sigma": (lambda: Noisy(noise=0.0), {"noise"}),
    "gradient off by a factor": (Factor, {"gradient"}),
    "gradient off by 1e-8": (SlightlyOff, {"gradient"}),
    "gradient transposed": (Transposed, {"gradient"}),
    "gradient float32": (SingleGradient, {"shapes"}),
    "gradient computed in float32": (SingleGradientInside, {"precision"}),
    "value computed in float32": (SingleValueInside, {"precision"}),
    "value of one point": (OnePoint, {"shapes"}),
    "gradient writes to x": (Writes, {"shapes"}),
    "rows that spoil others": (Contagious, {"finite"}),
    "overflow": (Overflows, {"finite"}),
    "biased": (Biased, {"unbiased", "sigma"}),
    "one noise for all": (Correlated, {"unbiased"}),
    "unrepeatable": (Unrepeatable, {"noise"}),
    "steeper minibatches": (Steeper, {"L"}),
    "ripple called convex": (
        lambda: FromFunctions(
            lambda u: u * u / 2 + np.sin(u) ** 2, lambda u: u + np.sin(2 * u), 1,
            L=3, f_star=0, claims=[Assumption.CONVEX], separable=True,
        ),
        {"mu"},
    ),
    "ripple with too large a Polyak-Lojasiewicz constant": (
        lambda: FromFunctions(
            lambda x: np.sum(x * x / 2 + np.sin(x) ** 2), lambda x: x + np.sin(2 * x), 1,
            L=3, mu=0.26, f_star=0, claims=[Assumption.POLYAK_LOJASIEWICZ],
        ),
        {"mu"},
    ),
    "own gradient off by a sign": (
        lambda: FromFunctions(lambda x: 0.5 * x @ x, lambda x: -x, 3, L=1, f_star=0),
        {"gradient"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_faulty_problem_is_caught_and_its_broken_promise_named(name):
    make, promises = BROKEN[name]
    with pytest.raises(ContractViolation) as caught:
        check_problem(make())
    found = {*caught.value.promises}
    assert found == promises or (found > promises == {"unbiased"} and name == "one noise for all")


@pytest.mark.parametrize(
    "changes",
    [{}, {"noise": 0.0}, {"L": 7.0}, {"mu": 0.5}, {"sigma": 5.0}, {"sigma": math.inf}, {"minimizer": None}],
    ids=str,
)
def test_a_right_problem_of_a_users_own_passes(changes):
    """Constants need not be the best."""
    check_problem(Bowl(**changes))


def test_a_lower_bound_that_is_not_attained_is_no_fault():
    check_problem(Bowl(f_star=-1.0, minimizer=None, mu=0.0, claims=[Assumption.CONVEX]))


def test_a_value_that_loses_digits_to_cancellation_passes():
    def value(x):
        return np.sum(np.sqrt(1e4 + x * x) - 1e2)

    own = FromFunctions(value, lambda x: x / np.sqrt(1e4 + x * x), 2, L=0.01, f_star=-1e-12)
    check_problem(own)


def test_points_are_told_as_simply_as_they_can_be():
    with pytest.raises(ContractViolation) as caught:
        check_problem(Factor())
    assert "at x = (0, 0), y = (1, 0)" in str(caught.value) or "at x = (1, 0), y = (0, 0)" in str(
        caught.value
    )
    with pytest.raises(ContractViolation, match=r"at x = \(0, 0\): the value is 0, f_star = 0.01"):
        check_problem(Bowl(f_star=0.01, minimizer=None))


def test_only_problems_can_be_checked_as_problems():
    with pytest.raises(TypeError, match="a problem, or a strategy that makes them; got 3"):
        check_problem(3)
    with pytest.raises(ValueError, match="no promise nonsense to skip; there are shapes"):
        check_problem(Bowl(), skip={"nonsense"})


# The statistical tests


NULLS = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "signs": lambda rng, size: rng.choice([-1.0, 1.0], size),
    "rare and large": lambda rng, size: np.where(rng.uniform(size=size) < 1e-3, 1.0, 0.0)
    * rng.choice([-1.0, 1.0], size) / math.sqrt(1e-3),
    "skew": lambda rng, size: 1.0 - rng.exponential(size=size),
}  # fmt: skip


@pytest.mark.parametrize("law", NULLS)
def test_false_alarms_are_as_rare_as_stated_under_every_law(law):
    """Laws of mean 0 and variance 1; at an alarm of .05 in 1,000 tests of 200 draws."""
    draws = NULLS[law](np.random.default_rng(9), (1000, 200))
    alarms = [sum(noise.mean_is_not_zero(row, 1.0, 0.05) for row in draws)]
    alarms.append(sum(noise.mean_exceeds(row**2, 1.0, 0.05) for row in draws))
    assert max(alarms) <= stats.binom.isf(COMPARISON_ALARM / 8, 1000, 0.05)


def test_the_stated_defects_are_found_with_probability_99_percent():
    """Over 300 repetitions, each at the alarm of one coordinate of three: at most 3 + what chance allows."""
    rng, n, alarm = np.random.default_rng(10), noise.REPLICAS, FALSE_ALARM / 24
    biased = sum(noise.mean_is_not_zero(rng.standard_normal(n) + 0.16, 1.0, alarm) for _ in range(300))
    squared = rng.chisquare(3, (300, n)) / 3 / 0.9**2
    assert biased >= stats.binom.ppf(COMPARISON_ALARM, 300, 0.99)
    assert sum(noise.mean_exceeds(row, 1.0, alarm) for row in squared) >= stats.binom.ppf(
        COMPARISON_ALARM, 300, 0.99
    )


# Strategies


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.25, 0.75), (0.0, 3.0), (0.5, 0.5), (1.0, 1e6)])
def test_schedules_stay_between_their_bounds(low, high):
    @few
    @given(schedules(min_value=low, max_value=high, steps=6))
    def holds(schedule):
        values = schedule.values(6)
        assert low * (1 - 1e-15) <= values.min() and values.max() <= high * (1 + 1e-15)

    holds()


def test_every_kind_of_schedule_is_drawn():
    drawn = set()

    @settings(few, max_examples=150)
    @given(schedules())
    def draw(schedule):
        drawn.add(type(schedule).__name__)

    @settings(few, max_examples=100)
    @given(schedules(["Joined"], max_depth=2))
    def draw_joined(joined):
        drawn.update(f"a part {type(part).__name__}" for part, _ in joined.parts)

    draw()
    draw_joined()
    assert {*FAMILIES} <= drawn
    assert {"a part Joined", "a part Tabulated", "a part FromExpression"} <= drawn


@pytest.mark.parametrize("family, edge", [
    ("Constant", lambda s: s.value == 0),
    ("Constant", lambda s: s.value == 1),
    ("Piecewise", lambda s: s.switch == 0),
    ("Piecewise", lambda s: s.switch == 1),
    ("Linear", lambda s: s.start == s.end),
    ("Tabulated", lambda s: len(s.table) == 1),
    ("Joined", lambda s: len(s.parts) > 1 and any(share == 0 for _, share in s.parts)),
])  # fmt: skip
def test_the_edges_are_drawn(family, edge):
    seen = []

    @settings(few, max_examples=150)
    @given(schedules([family], max_depth=1))
    def draw(schedule):
        seen.append(edge(schedule))

    draw()
    assert any(seen)


@few
@given(st.data(), st.integers(1, 6))
def test_sequences_fit_a_run(data, T):
    for make, key in ((step_sizes, "eta"), (radii, "rho"), (mixing_coefficients, "gamma")):
        drawn = data.draw(make(T, max_value=2.0))
        values = sequence(drawn, T, rst.notation.QUANTITIES[key])
        assert values.shape == (T,) and values.min() >= 0 and values.max() <= 2


def test_sequences_are_of_all_three_kinds():
    kinds = set()

    @few
    @given(radii(3))
    def draw(drawn):
        kinds.add("schedule" if isinstance(drawn, rst.Schedule) else type(drawn).__name__)

    draw()
    assert kinds == {"float", "ndarray", "schedule"}


@few
@given(trials(), trials(4, kinds=["systematic"]))
def test_trials_are_drawn(any_of_them, systematic):
    assert any_of_them.sequence().dtype == bool and 1 <= any_of_them.steps <= 8
    assert systematic.steps == 4 and systematic.kind == "systematic"


@few
@given(problems(max_dimension=2))
def test_problems_are_small(problem):
    assert isinstance(problem, Problem) and problem.dimension <= 2


@pytest.mark.parametrize(
    "make, error, match",
    [
        (lambda: schedules(["Nonsense"]), ValueError, "unknown families Nonsense; known: Constant"),
        (lambda: schedules(["Periodic"], max_value=0.5), ValueError, "none of .* has its values in"),
        (lambda: schedules(min_value=-1), DomainError, "0 <= min_value"),
        (lambda: schedules(max_value=math.inf), DomainError, "0 <= min_value"),
        (lambda: problems(["Nonsense"]), ValueError, "unknown families Nonsense; known: Quadratic"),
    ],
)
def test_strategies_refuse(make, error, match):
    with pytest.raises(error, match=match):
        make()


# The room


def test_the_worked_example_is_as_it_is_told():
    result = doctest.testmod(testing)
    assert result.attempted > 5 and result.failed == 0


def test_hypothesis_is_loaded_when_it_is_needed_and_missed_by_its_name():
    code = (
        "import sys, rst_theory as rst\nfrom rst_theory import *\n"
        "rst.testing, rst.check_schedule\nassert 'hypothesis' not in sys.modules\n"
        "sys.modules['hypothesis'] = None\n"
        "rst.check_schedule(rst.Constant(0.5), skip={'limit'}, steps=[2])\n"
        "rst.check_problem(rst.Quadratic([1.0]))\n"
        "for use in (lambda: rst.testing.schedules(), lambda: rst.check_schedule(rst.Constant)):\n"
        "    try: use()\n"
        "    except ImportError as error: assert \"pip install 'rst-theory[testing]'\" in str(error)\n"
        "    else: raise SystemExit('no error')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_name_that_the_room_does_not_have():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        testing.nonsense
