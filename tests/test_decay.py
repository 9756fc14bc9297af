"""The experiment on rates: what it measures, how it fits, and which verdict follows from which tables."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from experiments import decay
from experiments.decay import CELLS, HORIZONS, Cell, answer, measure, pace
from experiments.settings import FULL, QUICK
from experiments.statistics import Interval
from rst_theory import plots
from rst_theory.files import read_table, write_table
from tests.conftest import COMPARISON_ALARM, NUMERIC, ONE_STEP

LAMBDA = np.geomspace(0.05, 1.0, 10)
BLOCKS = 32


# What is measured


def sam_by_hand(perturbed, eta, rho):
    """Squared gradients along a run on the quadratic from all ones, with a SAM step where told."""
    x, squares = np.ones(10), []
    for sam, e, r in zip(perturbed, eta, rho, strict=True):
        g = LAMBDA * x
        squares.append(float(g @ g))
        x = x - e * (LAMBDA * (x + r * g / math.sqrt(g @ g)) if sam else g)
    return np.array(squares)


def weighted(squares, eta):
    a = [e * (1 - e / 2) for e in eta]
    return float(np.dot(a, squares)) / sum(a)


@pytest.mark.parametrize("schedule, perturbed", [("SGD", [0] * 9), ("SAM", [1] * 9), ("RST late", None)])
def test_decaying_parameters_give_the_weighted_average_of_a_loop_written_by_hand(schedule, perturbed):
    found = np.array(measure(Cell("quadratic", "exact", "1/sqrt(t)", schedule), (4, 9)))
    for column, T in enumerate((4, 9)):
        steps = [0.5 / math.sqrt(t + 1) for t in range(T)]
        trials = perturbed[:T] if perturbed else [t >= 0.5 * T for t in range(T)]
        expected = weighted(sam_by_hand(trials, steps, steps), steps)
        np.testing.assert_allclose(found[:, column], np.full(BLOCKS, expected), rtol=9 * ONE_STEP)


def test_tuned_constants_depend_on_the_horizon_and_constants_do_not():
    for parameters, factor in (("tuned to T", 100), ("constant", None)):
        found = np.array(measure(Cell("quadratic", "exact", parameters, "SAM"), (4, 9)))
        for column, T in enumerate((4, 9)):
            ratio = factor / T if factor else 1.0
            eta, rho = [0.2 * ratio**0.5] * T, [0.2 * ratio**0.25] * T
            expected = weighted(sam_by_hand([1] * T, eta, rho), eta)
            np.testing.assert_allclose(found[:, column], np.full(BLOCKS, expected), rtol=9 * ONE_STEP)


def test_blocks_of_noisy_sgd_have_the_mean_of_the_exact_recursion():
    """False alarm: COMPARISON_ALARM, for normal blocks."""
    T = 60
    found = np.array(measure(Cell("quadratic", "noisy", "constant", "SGD"), (T,)))[:, 0]
    m, squares = np.ones(10), []
    for _ in range(T):
        squares.append(float(LAMBDA**2 @ m))
        m = (1 - 0.2 * LAMBDA) ** 2 * m + 0.2**2
    t = (found.mean() - np.mean(squares)) / (found.std(ddof=1) / math.sqrt(BLOCKS))
    assert len(found) == BLOCKS
    assert abs(t) < stats.t.isf(COMPARISON_ALARM / 2, BLOCKS - 1)


# How slopes are fitted and judged


def test_a_slope_is_judged_by_its_wider_simultaneous_interval():
    single, joint = (stats.t.isf(0.005 / n, BLOCKS - 1) for n in (1, len(CELLS)))

    def judged(low, high):
        """The word for a slope whose simultaneous interval, less its reference -.5, is this."""
        middle, half = (low + high) / 2 - 0.5, (high - low) / 2 * single / joint
        return pace(Interval(middle, middle - half, middle + half), -0.5, BLOCKS)

    assert judged(-0.09, -0.051) == "faster"
    assert judged(-0.049, 0.049) == "as fast"
    assert judged(-0.051, 0.049) == "not slower"
    assert judged(-0.2, 0.051) == "undecided"
    assert judged(0.049, 0.06) == "undecided"
    assert judged(0.051, 0.06) == "slower"


RATES = {"1/sqrt(t)": -0.47, "tuned to T": -0.5, "constant": 0.0}


def made(monkeypatch, folder, slopes=RATES, scale=0.5, size=FULL):
    """Tables of a run whose metrics are `scale` of the bound at the first horizon and then powers of T."""

    def powers(function, tasks, processes, found, keep):
        assert function is measure
        for done, (cell, horizons) in enumerate(tasks, start=1):
            factors = 1 + 0.01 * np.sin(np.arange(BLOCKS))
            level = scale * decay._bound(cell, horizons[0]) * factors / factors.mean()
            curve = (np.array(horizons) / horizons[0]) ** slopes[cell.parameters]
            found.append(np.outer(level, curve).tolist())
            yield done / len(tasks)

    monkeypatch.setattr(decay, "spread", powers)
    shares = list(decay.run(size, folder))
    assert shares == sorted(shares) and shares[-1] == 1
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    # Far enough below the bounds that a floor does not cross those that fall to 0.
    folder = made(patch, tmp_path_factory.mktemp("decay"), scale=1e-4)
    patch.undo()
    return folder


def test_power_laws_have_their_exponents_and_rates_theirs(tables):
    rows = read_table(tables / "decay.json")
    assert len(rows) == len(CELLS) == 4 * 2 * 3 * 6
    for row in rows:
        for end in ("slope", "slope_low", "slope_high"):
            assert row[end] == pytest.approx(RATES[row["parameters"]], abs=NUMERIC)
        T = np.array([10_000, 31_623, 100_000] if row["parameters"] == "constant" else HORIZONS[2:])
        assert (row["steps_from"], row["steps_to"]) == (T[0], T[-1])
        curve = {"log T/sqrt(T)": np.log(T) / np.sqrt(T), "1/sqrt(T)": T**-0.5, "1/T": 1 / T, "floor": T**0.0}
        expected = np.polyfit(np.log(T), np.log(curve[row["rate"]]), 1)[0]
        assert row["rate_slope"] == pytest.approx(expected, abs=NUMERIC)
    rates = {(row["parameters"], row["gradients"], row["schedule"]): row["rate"] for row in rows}
    assert rates["1/sqrt(t)", "noisy", "SAM"] == "log T/sqrt(T)"
    assert rates["1/sqrt(t)", "exact", "SAM"] == rates["tuned to T", "noisy", "SAM"] == "1/sqrt(T)"
    assert rates["constant", "exact", "SGD"] == "1/T"
    assert rates["constant", "noisy", "SGD"] == rates["constant", "exact", "SAM"] == "floor"


def test_local_slopes_lie_between_neighbouring_horizons(tables):
    for row in read_table(tables / "decay_curves.json"):
        if row["steps"] == HORIZONS[0]:
            assert row["local_slope"] is None
        else:
            assert row["local_slope"] == pytest.approx(RATES[row["parameters"]], abs=NUMERIC)


def test_rates_that_are_kept_support_the_statement(tables):
    found = answer(tables)
    assert found.verdict == "supported"
    assert "0 of 1008 measured values" in found.evidence
    assert "96 of these 96 slopes" in found.evidence
    assert "24 of 24 are level" in found.evidence


@pytest.mark.parametrize(
    "parameters, slope, verdict",
    [
        ("1/sqrt(t)", -0.3, "refuted"),
        ("tuned to T", -0.44, "refuted"),
        ("constant", 0.06, "refuted"),
        ("constant", -0.06, "open"),
    ],
)
def test_one_slope_decides(tables, tmp_path, parameters, slope, verdict):
    """A row of the table is judged again as if its slope were another, with an interval of no width."""
    rows = read_table(tables / "decay.json")
    row = next(r for r in rows if r["parameters"] == parameters and r["gradients"] == "noisy")
    row |= {"slope": slope, "pace": pace(Interval(slope, slope, slope), row["rate_slope"], BLOCKS)}
    write_table(tmp_path, "decay", rows)
    write_table(tmp_path, "decay_curves", read_table(tables / "decay_curves.json"))
    assert answer(tmp_path).verdict == verdict


@pytest.mark.parametrize("errors, verdict", [(4.0, "supported"), (20.0, "refuted")])
def test_a_value_above_the_bound_refutes_where_chance_does_not_explain_it(tables, tmp_path, errors, verdict):
    """1e-6 over 1,008 values is 8 standard errors with 31 degrees of freedom."""
    rows = read_table(tables / "decay_curves.json")
    half = stats.t.isf(0.005, BLOCKS - 1) * rows[5]["bound"] / 100
    value = rows[5]["bound"] * (1 + errors / 100)
    rows[5] |= {"value": value, "low": value - half, "high": value + half}
    write_table(tmp_path, "decay_curves", rows)
    write_table(tmp_path, "decay", read_table(tables / "decay.json"))
    assert answer(tmp_path).verdict == verdict


def test_a_smaller_run_has_the_rows_of_the_shorter_horizons(tables, tmp_path, monkeypatch):
    made(monkeypatch, tmp_path, scale=1e-4, size=replace(QUICK))
    assert not (tmp_path / "decay.json").exists()
    full = read_table(tables / "decay_curves.json")
    assert read_table(tmp_path / "decay_curves.json") == [row for row in full if row["steps"] <= 1000]


# The figures


def curves():
    """Rows as the table `decay_curves` has them, of three horizons."""
    return [
        {
            "problem": problem,
            "gradients": gradients,
            "parameters": parameters,
            "schedule": schedule,
            "steps": T,
            "value": size * level * T**slope,
            "low": 0.9 * size * level * T**slope,
            "high": 1.1 * size * level * T**slope,
            "bound": 7 * (level + 1) * T**slope,
            "local_slope": None if T == 100 else slope,
        }
        for problem in ("quadratic", "flat and sharp", "rippled quadratic")
        for parameters, slope in (("1/sqrt(t)", -0.4), ("constant", -0.01))
        for level, schedule in enumerate(("SGD", "RST p=0.5", "RST late", "SAM"), start=1)
        for T in (100, 1000, 10_000)
        for gradients, size in (("noisy", 2.0), ("exact", 1.0))
    ]


@pytest.mark.parametrize("width", [plots.SINGLE, plots.DOUBLE])
@pytest.mark.parametrize("gradients, draw", [("noisy", plots.plot_decay), ("exact", plots.plot_decay_exact)])
def test_each_panel_shows_its_curves_the_hull_of_the_bounds_and_the_slopes(width, gradients, draw):
    rows = curves()
    panels = draw(rows, width=width).axes
    assert len(panels) == 6
    for axes, (problem, parameters) in zip(
        panels,
        [
            (problem, parameters)
            for problem in ("quadratic", "flat and sharp", "rippled quadratic")
            for parameters in ("1/sqrt(t)", "constant")
        ],
        strict=True,
    ):
        mine = [
            row
            for row in rows
            if (row["problem"], row["gradients"], row["parameters"]) == (problem, gradients, parameters)
        ]
        lines = {line.get_label(): line for line in axes.get_lines()}
        for schedule in ("SGD", "RST p=0.5", "RST late", "SAM"):
            curve = [row for row in mine if row["schedule"] == schedule]
            assert list(lines[schedule].get_xdata()) == [100, 1000, 10_000]
            assert list(lines[schedule].get_ydata()) == [row["value"] for row in curve]
            (band,) = (c for c in axes.collections if c.get_label() == f"{schedule} interval")
            ends = {float(y) for y in band.get_paths()[0].vertices[:, 1]}
            assert ends == {row[end] for row in curve for end in ("low", "high")}
        for name, schedule in (("least bound", "SGD"), ("largest bound", "SAM")):
            expected = [row["bound"] for row in mine if row["schedule"] == schedule]
            assert list(lines[name].get_ydata()) == expected
        assert [text.get_text() for text in axes.texts] == [
            f"slope −{0.4 if 'sqrt' in parameters else 0.01:.2f}"
        ]


def test_rows_without_such_gradients_are_an_error():
    rows = [row for row in curves() if row["gradients"] == "exact"]
    with pytest.raises(plots.ResultsError, match="no rows with noisy gradients"):
        plots.plot_decay(rows)
