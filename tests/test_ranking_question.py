"""Allocations beside the constant schedule: the paired ratio, the table, the rule, and the figure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import COMPARISON_ALARM, in_this_process
from scipy import stats

import rst_theory as rst
from experiments import ranking
from experiments.ranking import GOALS, answer, ratio_interval
from experiments.recheck import recheck
from experiments.settings import QUICK, RESULTS, Size
from rst_theory import plots
from rst_theory.files import read_table, write_table

TINY = Size("quick", replicas=64)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tables of two settings in 20 steps."""
    folder = tmp_path_factory.mktemp("tiny")
    patch = pytest.MonkeyPatch()
    patch.setattr(ranking, "spread", in_this_process)
    patch.setattr(ranking, "T", 20)
    list(ranking.run(TINY, folder))
    patch.undo()
    return {name: read_table(folder / f"{name}.json") for name in ("ranking", "believed", "allocation")}


def test_the_ratio_of_proportional_samples_is_exact():
    sample = np.array([1.0, 2.0, 4.0])
    assert ratio_interval(3 * sample, sample) == pytest.approx((3.0, 3.0, 3.0), rel=1e-12)


def test_the_interval_of_a_ratio_is_the_delta_method_written_out():
    first, second = [1.0, 1.5, 0.5, 1.2], [2.0, 2.5, 1.0, 2.1]
    a, c = sum(first) / 4, sum(second) / 4
    deviations = [x / a - y / c for x, y in zip(first, second, strict=True)]
    spread = math.sqrt(sum(d * d for d in deviations) / 3)
    half = stats.t.isf(0.01 / 7 / 2, 3) * spread / 2
    expected = (a / c, a / c * math.exp(-half), a / c * math.exp(half))
    assert ratio_interval(np.array(first), np.array(second), 7) == pytest.approx(expected, rel=1e-12)


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says():
    draw, repetitions = np.random.default_rng(5), 2000
    missed = 0
    for _ in range(repetitions):
        common = draw.normal(0, 0.05, 32)
        first, second = np.exp(common + draw.normal(0, 0.02, 32)), 2 * np.exp(common)
        truth = math.exp(0.02**2 / 2) / 2
        _, low, high = ratio_interval(first, second, 1)
        missed += not low <= truth <= high
    # The delta method is exact to first order in .05; twice the nominal rate is allowed for the rest.
    assert missed <= stats.binom.isf(COMPARISON_ALARM, repetitions, 0.02)


def test_the_metric_of_a_group_is_that_of_its_replicas():
    problem = rst.problems.Quadratic([0.2, 1.0], noise=0.1)
    eta, rho = rst.Cosine(0.8, 0.1).values(12), 0.3
    run = rst.simulate(problem, 0.5, steps=12, eta=eta, rho=rho, replicas=64, seed=4, keep=True)
    a = eta * (1 - eta / 2)  # L = 1
    for goal, bound in GOALS.items():
        by_hand = []
        for group in range(32):
            own = []
            for points in (run.points[group], run.points[group + 32]):
                if goal == "average":
                    squared = [(0.2 * x[0]) ** 2 + x[1] ** 2 for x in points[:-1]]
                    own.append(sum(a * squared) / sum(a))
                else:
                    own.append((0.2 * points[-1][0] ** 2 + points[-1][1] ** 2) / 2)
            by_hand.append(sum(own) / 2)
        assert ranking._by_group(run, bound) == pytest.approx(by_hand, rel=1e-10)


def test_a_row_is_the_ratio_of_the_measured_means(tiny):
    measured = {
        (*(row[key] for key in ranking.Where._fields), row["schedule"], row["predictor"]): row["measured"]
        for row in tiny["ranking"]
    }
    assert len(tiny["allocation"]) == 6  # two goals; two theories on the quadratic, one on the other
    for row in tiny["allocation"]:
        where = tuple(row[key] for key in ranking.Where._fields)

        def of(name, where=where, row=row):
            return measured[(*where, name, row["predictor"])]

        assert row["groups"] == 32
        assert row["relative"] == pytest.approx(of(row["schedule"]) / of("constant"), rel=1e-9)
        for end in ("best", "worst"):
            assert row[f"{end}_relative"] == pytest.approx(of(row[end]) / of("constant"), rel=1e-9)
        assert row["over_best"] == pytest.approx(of(row["schedule"]) / of(row["best"]), rel=1e-9)
        every = [value for key, value in measured.items() if key[:4] == where and key[5] == row["predictor"]]
        assert of(row["best"]) == min(every) and of(row["worst"]) == max(every)
        assert row["relative_low"] <= row["relative"] <= row["relative_high"]


def test_an_allocation_is_believed_with_its_own_predictor(tiny):
    believed = {
        (*(row[key] for key in ranking.Where._fields), row["predictor"]): (row["tau"], row["believed"])
        for row in tiny["believed"]
    }
    for row in tiny["allocation"]:
        where = tuple(row[key] for key in ranking.Where._fields)
        assert believed[(*where, row["predictor"])] == (row["tau"], row["believed"])
        assert row["predictor"].startswith("trials") == row["schedule"].startswith("spectrum")


def test_a_quick_run_is_part_of_the_committed_one(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "spread", in_this_process)
    list(ranking.run(QUICK, tmp_path))
    rows = recheck(ranking.CHECKS, tmp_path, RESULTS)
    assert [row["value"] for row in rows] == ["measured", "predicted"]
    assert all(row["disagree"] == 0 for row in rows)


def test_all_comparisons_are_counted():
    rows = read_table(RESULTS / "ranking.json")
    metrics = {"nonconvex_average", "pl_last_iterate"}
    others = [row for row in rows if row["predictor"] in metrics and row["schedule"] != "constant"]
    assert len(others) == ranking.COMPARISONS


def test_one_loss_refutes(tmp_path):
    rows = read_table(RESULTS / "allocation.json")
    lost = sum(not row["wins"] for row in rows)
    told = answer(RESULTS)
    assert told.verdict == ("refuted" if lost else "supported")
    assert told.number == f"{len(rows) - lost} of {len(rows)} win"
    for wins, verdict in (([True, True], "supported"), ([True, False], "refuted")):
        some = [{**row, "wins": won} for row, won in zip(rows[:2], wins, strict=True)]
        write_table(tmp_path, "allocation", some)
        assert answer(tmp_path).verdict == verdict


def a_row(schedule, quantity, relative, believed, noise=0.0):
    row = {
        "problem": "quadratic",
        "noise": noise,
        "eta": "cosine",
        "budget": 0.5,
        "quantity": quantity,
        "schedule": schedule,
        "believed": believed,
    }
    for key, value in (("relative", relative), ("best_relative", 0.5), ("worst_relative", 30.0)):
        row |= {key: value, f"{key}_low": 0.9 * value, f"{key}_high": 1.1 * value}
    return row


ROWS = [
    a_row("allocated, average", "squared_gradient_norm", 2.0, believed=False),
    a_row("spectrum, average", "squared_gradient_norm", 0.5, believed=True),
    a_row("allocated, last", "final_gap", 0.8, believed=True, noise=0.1),
]


@pytest.mark.parametrize("width", [plots.SINGLE, plots.DOUBLE])
def test_a_theory_that_ranked_the_schedules_is_filled(width):
    figure = plots.plot_allocation(ROWS, width=width)
    marks = {
        line.get_label(): line
        for axes in figure.axes
        for line in axes.get_lines()
        if line.get_label() in {row["schedule"] for row in ROWS}
    }
    for row in ROWS:
        line = marks[row["schedule"]]
        assert line.get_xdata()[0] == row["relative"]
        assert (line.get_markerfacecolor() == "white") == (not row["believed"])


def test_every_setting_has_a_row_of_the_figure():
    figure = plots.plot_allocation(ROWS)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["quadratic", "cosine η, σ = 0, p = 0.5", "cosine η, σ = 0.1, p = 0.5"]


def test_intervals_the_wrong_way_round_are_refused():
    with pytest.raises(plots.ResultsError, match="'relative_low'"):
        plots.plot_allocation([{**ROWS[0], "relative_low": 5.0}])
