"""The floor of the average squared gradient: measured points, fitted exponents, the rule, and the figure."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from conftest import COMPARISON_ALARM, NUMERIC, in_this_process
from scipy import stats

from experiments import floor_exponents
from experiments.floor_exponents import HELD, Point, points
from experiments.settings import FULL
from experiments.statistics import mean_interval
from rst_theory import plots
from rst_theory.bounds import nonconvex_average
from rst_theory.files import read_table, write_table


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The tables of all points, with shorter runs."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor_exponents, "spread", in_this_process)
        patch.setattr(floor_exponents, "TIME", 1)
        patch.setattr(floor_exponents, "LONGEST", 20_000)
        patch.setattr(floor_exponents, "QUADRATIC_STEPS", 4096)
        patch.setitem(floor_exponents.BLOCKS, "full", 4)
        shares = list(floor_exponents.run(FULL, folder))
    assert shares == sorted(shares) and shares[-1] == 1.0
    return {name: read_table(folder / f"{name}.json") for name in ("floor_points", "floor_exponents")}


def answered(folder, tables, **changed):
    for name, rows in {**tables, **changed}.items():
        write_table(folder, name, rows)
    return floor_exponents.answer(folder)


def point(instance, p, gamma=1.0, eta=0.3, slack=0.1, steps=400, rho=1.0):
    return Point("rho", "SAM", rho, instance, p, gamma, eta, rho, slack, steps)


def lies_within(sample, expected):
    """Whether a mean agrees with a number, with the false alarm of one comparison."""
    interval = mean_interval(sample, 1 - COMPARISON_ALARM)
    return interval.low <= expected <= interval.high


# What is measured


def test_a_run_without_coins_is_the_loop_written_out():
    where = point("quadratic", 1.0, eta=0.3, steps=50, rho=2.0)
    x, squares = 0.3 * 2.0, []
    for _ in range(50):
        squares.append(x * x)
        x -= 0.3 * (x + 2.0 * math.copysign(1, x))
    assert floor_exponents.measure(where, 1, 2) == pytest.approx([np.mean(squares)] * 2, rel=NUMERIC)


@pytest.mark.parametrize("p, gamma, e", [(0.25, 2.0, 0.999), (0.5, 1.0, 0.7)])
def test_the_quadratic_has_its_stationary_average(p, gamma, e):
    where = point("quadratic", p, gamma, eta=e, steps=4096)
    expected = p * (e * gamma) ** 2 / ((2 - e) * (e + 2 * p * (1 - e)))
    # The first steps, from another law than the stationary one, weigh less than one in a thousand.
    sample = np.array(floor_exponents.measure(where, 7, 64))
    assert lies_within(sample * (1 + np.linspace(-1e-3, 1e-3, 32)), expected)


def test_the_walk_in_its_window_has_the_average_of_the_autoregression():
    p, e = 0.5, 1e-3
    w = floor_exponents._slack(p, 1.0, e)
    deviation = math.sqrt(p * (1 - p) * e / (2 - e))
    assert w == pytest.approx(5 * (1 - 4 * w) * deviation, rel=1e-12)
    where = point("window", p, eta=e, slack=w, steps=40_000)
    expected = (1 - 4 * w) ** 2 * (p**2 + deviation**2)
    sample = np.array(floor_exponents.measure(where, 3, 32))
    assert lies_within(sample, expected)
    assert sample.std() / math.sqrt(32) < 0.01 * expected


@pytest.mark.parametrize("instance", ["window", "quadratic"])
def test_the_bound_of_a_point_is_that_of_its_whole_run(instance):
    where = point(instance, 0.4, gamma=1.5, steps=300, rho=0.7)
    problem = where.problem()
    expected = nonconvex_average.evaluate(
        schedule=0.4,
        steps=300,
        eta=0.3,
        rho=0.7,
        gamma=1.5,
        constants=problem.constants,
        gap=float(problem.gap(problem.start)),
    )
    assert floor_exponents.bound(where) == pytest.approx(expected, rel=NUMERIC)
    assert where.floor == pytest.approx((0.4 * 1.5 * 0.7) ** 2)


def test_a_smaller_run_has_points_of_the_full_one():
    full = points("full")
    assert len({(one.panel, one.method, one.x) for one in full}) == len(full)
    for level in ("check", "quick"):
        assert set(points(level)) < set(full)
        lines = {(one.panel, one.method) for one in points(level) if one.panel != "eta"}
        whole = [one for one in full if (one.panel, one.method) in lines]
        assert set(whole) <= set(points(level))  # an exponent is fitted to the same points


# What is fitted


def test_exponents_are_those_of_a_regression_in_each_block():
    draw = np.random.default_rng(4)
    chosen = [one for one in points("full") if (one.panel, one.method) == ("rho", "SAM")]
    samples = {one: one.x**1.7 * np.exp(draw.normal(0, 0.1, 5)) for one in chosen}
    (fit,) = floor_exponents._fits(samples)
    x = np.log([one.x for one in chosen])
    slopes = [
        stats.linregress(x, np.log([samples[one][block] for one in chosen])).slope for block in range(5)
    ]
    assert (fit["exponent"], fit["low"], fit["high"]) == pytest.approx(mean_interval(slopes), rel=1e-9)
    assert fit["family_low"] == pytest.approx(fit["low"], rel=1e-9)  # the only line


def test_equal_numbers_have_no_spread():
    assert floor_exponents._interval(np.full(7, 0.1)) == (0.1, 0.1, 0.1)


def test_the_interval_for_many_comparisons_is_the_t_interval_of_that_level():
    sample = np.random.default_rng(5).normal(1, 0.1, 8)
    row = {**floor_exponents._estimate(sample)}
    wide = mean_interval(sample, 1 - 0.01 / 30)
    assert floor_exponents._low(row, 30) == pytest.approx(wide.low, rel=1e-8)


# The rule


def test_the_verdict_follows_the_rule(tables, tmp_path):
    assert answered(tmp_path, tables).verdict == "supported"
    fits = copy.deepcopy(tables["floor_exponents"])
    small = next(fit for fit in fits if fit["eta"] == floor_exponents.SMALL)
    small |= {"family_low": 1.5, "family_high": 1.91}
    assert answered(tmp_path, tables, floor_exponents=fits).verdict == "supported"
    small["family_high"] = 1.89
    assert answered(tmp_path, tables, floor_exponents=fits).verdict == "refuted"
    fits = copy.deepcopy(tables["floor_exponents"])
    large = next(fit for fit in fits if fit["eta"] != floor_exponents.SMALL)
    large |= {"family_low": 0.9, "family_high": 1.1}
    assert answered(tmp_path, tables, floor_exponents=fits).verdict == "supported"


def test_an_average_above_its_bound_leaves_it_open(tables, tmp_path):
    rows = copy.deepcopy(tables["floor_points"])
    rows[0]["bound"] = rows[0]["low"] / 2
    assert answered(tmp_path, tables, floor_points=rows).verdict == "open"


@pytest.mark.parametrize("held", [held for held in HELD if floor_exponents._decays(held)])
def test_a_schedule_that_stays_leaves_it_open(tables, tmp_path, held):
    rows = copy.deepcopy(tables["floor_points"])
    last = [row for row in rows if row["method"] == held.method][-1]
    constant = [row for row in rows if row["method"] == floor_exponents._constant(held)][-1]
    last["high"] = 0.011 * constant["low"]
    assert answered(tmp_path, tables, floor_points=rows).verdict == "open"


# The figure


def test_every_point_is_drawn_at_its_value(tables):
    rows = tables["floor_points"]
    figure = plots.plot_floor_exponents(rows)
    assert len(figure.axes) == 4
    for axes, panel in zip(figure.axes, ("rho", "q", "eta"), strict=False):
        drawn = sorted(
            (line.get_label(), float(x), float(y))
            for line in axes.lines
            if line.get_marker() == "o"
            for x, y in line.get_xydata()
        )
        assert drawn == sorted(
            (row["method"], row["x"], row["value"]) for row in rows if row["panel"] == panel
        )
    curves = {line.get_label(): line for line in figure.axes[3].lines if not line.get_label().startswith("_")}
    for held in HELD:
        values = [row["value"] for row in rows if row["panel"] == "run" and row["method"] == held.method]
        assert list(curves[held.method].get_ydata()) == [max(value, 1e-8) for value in values]
