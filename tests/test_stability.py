"""Stability on quadratics: growth factors with exact intervals, the rule, and the map drawn of them."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from conftest import COMPARISON_ALARM, ONE_STEP, in_this_process, z_threshold
from scipy import stats

from experiments import stability
from experiments.settings import QUICK
from experiments.stability import FOLLOWED, PANELS, SPECTRUM, Where
from rst_theory import plots
from rst_theory.bounds import critical_radius, lyapunov_exponent
from rst_theory.files import read_table, write_table

WHERE = Where(p=0.3, gamma=2.0, eta=0.9, rho=0.8)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The tables of a quick run, by name."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stability, "spread", in_this_process)
        shares = list(stability.run(QUICK, folder))
    assert shares == sorted(shares) and shares[-1] == 1.0
    return {name: read_table(folder / f"{name}.json") for name in ("stability", "stability_runs")}


def answered(folder, tables, **changed):
    for name, rows in {**tables, **changed}.items():
        write_table(folder, name, rows)
    return stability.answer(folder)


def step_factor(lam, where, coin):
    """One step from x = 1 without noise, written out."""
    gradient = lam
    perturbed = lam * (1 + where.rho * gradient)
    direction = (1 - where.gamma) * gradient + where.gamma * perturbed if coin else gradient
    return 1 - where.eta * direction


def exact_growth(where):
    return max(
        (1 - where.p) * step_factor(lam, where, 0) ** 2 + where.p * step_factor(lam, where, 1) ** 2
        for lam in SPECTRUM
    )


def test_runs_with_common_noise_differ_by_the_recursion_without_it():
    before, after, coins = stability._difference(WHERE, 3, 1, 64)
    assert set(coins) == {0, 1}
    for row, coin in enumerate(coins):
        expected = [step_factor(lam, WHERE, coin) for lam in SPECTRUM]
        np.testing.assert_allclose(after[row] / before[row], expected, rtol=10 * ONE_STEP)


def test_the_interval_of_the_growth_holds_the_enumerated_one():
    # False alarm: the sure interval misses with probability at most 1e-6/1600.
    assert stability.FALSE_ALARM / (len(PANELS) * stability.CELLS**2) < COMPARISON_ALARM
    row = stability.growth(WHERE, 5)
    assert row["sure_low"] < row["growth_low"] < row["growth"] < row["growth_high"] < row["sure_high"]
    assert row["sure_low"] < exact_growth(WHERE) < row["sure_high"]
    assert row["sure_high"] - row["sure_low"] < 0.5 * row["growth"]


def test_growth_without_coins_is_exact():
    for p in (0.0, 1.0):
        row = stability.growth(WHERE._replace(p=p), 5, replicas=32)
        for key in ("growth", "growth_low", "growth_high", "sure_low", "sure_high"):
            assert row[key] == pytest.approx(exact_growth(WHERE._replace(p=p)), rel=1e-9)


@pytest.mark.parametrize("k", [0, 1, 17, 39, 40])
def test_the_interval_of_a_proportion_is_the_exact_one(k):
    low, high = stability.proportion(k, 40, 0.99)
    expected = stats.binomtest(k, 40).proportion_ci(0.99, method="exact")
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-8, abs=1e-12)


def test_the_predicted_sign_is_that_of_the_critical_radius():
    for panel in PANELS:
        for i in range(0, stability.CELLS, 3):
            for j in range(0, stability.CELLS, 3):
                where = panel.cell(i, j)
                inside = where.eta < 2 and where.rho < critical_radius(
                    L=1.0, eta=where.eta, p=where.p, gamma=where.gamma
                )
                assert (stability.predicted(where) < 1) == inside, where
                assert stability.predicted(where) == pytest.approx(exact_growth(where), rel=1e-9)


def test_single_runs_converge_between_the_boundaries_and_diverge_beyond():
    exponents = [lyapunov_exponent(lam=lam, **FOLLOWED._asdict()) for lam in SPECTRUM]
    assert stability.predicted(FOLLOWED) > 1 and max(exponents) < 0
    assert stability.falling(FOLLOWED, 1) == 1.0
    assert stability.falling(FOLLOWED._replace(eta=2.1), 1) == 0.0


def test_the_mean_square_that_is_followed_is_the_sum_over_all_coins():
    rows = stability.followed(4096)
    for t in (0, 1, 5):
        expected = sum(
            stats.binom.pmf(k, t, FOLLOWED.p)
            * (step_factor(lam, FOLLOWED, 1) ** k * step_factor(lam, FOLLOWED, 0) ** (t - k)) ** 2
            for lam in SPECTRUM
            for k in range(t + 1)
        ) / len(SPECTRUM)
        assert rows[t]["exact"] == pytest.approx(expected, rel=1e-10)
    first = rows[1]
    error = (first["measured_high"] - first["measured"]) / stats.t.isf(0.005, 4095)
    assert abs(first["measured"] - first["exact"]) < z_threshold() * error
    # The median of one step is the factor of the likelier coin, in the resolution of the sketch.
    base = sum(step_factor(lam, FOLLOWED, 0) ** 2 for lam in SPECTRUM) / len(SPECTRUM)
    assert first["median"] == pytest.approx(base, rel=1 / 64)


def test_the_verdict_follows_the_rule(tables, tmp_path):
    found = answered(tmp_path, tables)
    assert found.verdict == "verified"
    assert found.number == f"0 of {len(tables['stability'])} cells"
    cells = copy.deepcopy(tables["stability"])
    wrong = next(row for row in cells if row["predicted"] > 1 and row["sure_low"] > 1)
    wrong |= {"sure_low": 0.8, "sure_high": 1.01}
    assert answered(tmp_path, tables, stability=cells).verdict == "verified"  # its interval holds 1
    wrong["sure_high"] = 0.99
    found = answered(tmp_path, tables, stability=cells)
    assert (found.verdict, found.number) == ("refuted", f"1 of {len(cells)} cells")
    cells = copy.deepcopy(tables["stability"])
    next(row for row in cells if row["predicted"] < 1)["sure_low"] = 1.01
    assert answered(tmp_path, tables, stability=cells).verdict == "refuted"


def test_a_smaller_run_has_cells_of_the_full_one(tables):
    full = {
        (panel.name, *(getattr(panel.cell(i, j), key) for key in (panel.x, panel.y)))
        for panel in PANELS
        for i in range(stability.CELLS)
        for j in range(stability.CELLS)
    }
    keys = [(row["panel"], row["x"], row["y"]) for row in tables["stability"]]
    assert len(set(keys)) == len(keys) and set(keys) <= full


# The figure


def test_the_drawn_boundary_has_growth_one(tables):
    figure = plots.plot_stability(tables["stability"])
    for axes, panel in zip(figure.axes, PANELS, strict=False):
        (line,) = (line for line in axes.lines if line.get_label() == "mean square")
        for x, y in line.get_xydata()[:: stability.CELLS]:
            where = Where(**{panel.x: float(x), panel.y: float(y), **dict(panel.kept)})
            factors = [1 - where.eta, 1 - where.eta * (1 + where.gamma * where.rho)]
            assert (1 - where.p) * factors[0] ** 2 + where.p * factors[1] ** 2 == pytest.approx(1, rel=1e-9)
        runs = [line for line in axes.lines if line.get_label() == "single runs"]
        assert len(runs) == (panel.name != "SAM")
        seen = [point for point in (runs[0].get_xydata() if runs else ()) if point[1] <= axes.get_ylim()[1]]
        assert len(seen) > 100 or not runs
        for x, y in seen[:: stability.CELLS]:
            where = Where(**{panel.x: float(x), panel.y: float(y), **dict(panel.kept)})
            assert lyapunov_exponent(lam=1.0, **where._asdict()) == pytest.approx(0, abs=1e-9)


def test_the_map_and_its_marks_are_those_of_the_table(tables):
    figure = plots.plot_stability(tables["stability"], width=plots.SINGLE)
    for axes, panel in zip(figure.axes, PANELS, strict=False):
        rows = [row for row in tables["stability"] if row["panel"] == panel.name]
        marks = {
            label: sum(len(line.get_xdata()) for line in axes.lines if line.get_label() == label)
            for label in ("_.", "_x")
        }
        assert marks["_."] == sum(row["falling"] > 0.5 for row in rows)
        assert marks["_x"] == sum(row["sure_low"] < 1 < row["sure_high"] for row in rows)
        (mesh,) = axes.collections[:1]
        drawn = np.exp(np.sort(np.asarray(mesh.get_array()).ravel()))
        expected = np.sort(np.clip([row["growth"] for row in rows], 0.2, 5))
        np.testing.assert_allclose(drawn, expected, rtol=1e-9)


def test_a_map_may_have_one_cell(tables):
    assert plots.plot_stability(tables["stability"][:1]).axes
    assert math.isfinite(tables["stability"][0]["predicted_exponent"])
