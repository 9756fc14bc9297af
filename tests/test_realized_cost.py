"""The pairs that runs spend beside the exact law: the counting, the tests, the rule, and the figure."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from conftest import in_this_process

import rst_theory as rst
from experiments import realized_cost
from experiments.realized_cost import T, answer, measure, simulated_pairs, trained_pairs
from experiments.recheck import recheck
from experiments.settings import QUICK, RESULTS
from rst_theory import plots
from rst_theory.files import read_table, write_table

EVERYWHERE = [("training", "independent"), ("training", "systematic"), ("simulation", "systematic")]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    patch = pytest.MonkeyPatch()
    patch.setattr(realized_cost, "spread", in_this_process)
    shares = list(realized_cost.run(QUICK, folder))
    patch.undo()
    assert shares == sorted(shares) and shares[-1] == 1.0
    return folder


@pytest.mark.parametrize("kind", ["independent", "systematic"])
def test_passes_of_a_certain_schedule_are_those_counted_by_hand(kind):
    every_second = sum(t % 2 == 0 for t in range(T))
    for schedule, pairs in ((rst.Constant(0.0), 0), (rst.Constant(1.0), T), (rst.Periodic(2), every_second)):
        assert trained_pairs(schedule, 3, kind) == pairs
        assert set(simulated_pairs(schedule, 5, kind).tolist()) == {pairs}


def test_the_counted_passes_follow_the_coins_of_the_seed():
    uniforms = np.array([[rst.trials.uniform(seed, t) for t in range(T)] for seed in range(4)])
    expected = [sum(u < 0.3 for u in row) for row in uniforms]
    assert [trained_pairs(rst.Constant(0.3), seed, "independent") for seed in range(4)] == expected


def test_mean_and_deviation_of_the_law_are_binomial():
    row = measure("simulation", "Constant(0.1)", "independent", 400)
    assert row["exact_mean"] == pytest.approx(0.1 * T, rel=1e-12)
    assert row["exact_sd"] == pytest.approx(math.sqrt(T * 0.1 * 0.9), rel=1e-12)
    assert sum(row["counted"]) == 400
    pairs = range(row["least"], row["most"] + 1)
    assert row["probability"] == pytest.approx(
        [math.comb(T, k) * 0.1**k * 0.9 ** (T - k) for k in pairs], rel=1e-9
    )
    mean = sum(k * count for k, count in zip(pairs, row["counted"], strict=True)) / 400
    assert row["mean"] == pytest.approx(mean, rel=1e-12)
    assert row["z"] == pytest.approx((mean - 0.1 * T) * 20 / row["exact_sd"], rel=1e-9)


@pytest.mark.parametrize(
    ("pmf", "expected"),
    [
        ([0.01, 0.04, 0.5, 0.4, 0.05], [(3, 0.05), (50, 0.5), (40, 0.4), (7, 0.05)]),
        ([0.25, 0.71, 0.02, 0.01, 0.01], [(1, 0.25), (99, 0.75)]),
        ([0.0, 0.0, 1.0, 0.0, 0.0], [(100, 1.0)]),
    ],
)
def test_bins_are_pooled_from_below_and_the_rest_joins_the_last(pmf, expected):
    counted = np.array([1, 2, 50, 40, 7])
    bins = realized_cost._pooled(counted, np.array(pmf))
    assert [one.runs for one in bins] == [runs for runs, _ in expected]
    assert [one.probability for one in bins] == pytest.approx([p for _, p in expected], rel=1e-12)


def test_the_p_value_of_a_bin_is_the_sum_over_all_that_is_no_likelier():
    n, runs, probability = 20, 3, 0.4
    weights = [math.comb(n, k) * probability**k * (1 - probability) ** (n - k) for k in range(n + 1)]
    two_sided = sum(w for w in weights if w <= weights[runs] * (1 + 1e-12))
    bins = [realized_cost.Bin(runs, probability), realized_cost.Bin(n - runs, 1 - probability)]
    assert realized_cost._law_p_value(bins, n) == pytest.approx(2 * two_sided, rel=1e-9)


def test_a_quick_run_is_part_of_the_committed_one(quick):
    rows = recheck(realized_cost.CHECKS, quick, RESULTS)
    assert len(rows) == len(realized_cost.CHECKS)
    assert all(row["disagree"] == 0 for row in rows)
    assert answer(quick).verdict == "verified"


def test_the_committed_verdict_counts_every_training_run():
    rows = read_table(RESULTS / "realized_cost.json")
    told = answer(RESULTS)
    trained = sum(row["runs"] for row in rows if row["source"] == "training")
    assert told.verdict == "verified" and told.number == f"0 of {trained:,} runs off plan"
    assert {(row["source"], row["kind"]) for row in rows} >= set(EVERYWHERE)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "verified"),
        ({"unannounced": 1}, "refuted"),
        ({"impossible": 1}, "refuted"),
        ({"p_law": 1e-9}, "refuted"),
        ({"p_mean": 1e-9}, "refuted"),
        ({"p_law": 9e-7}, "verified"),  # one of many
    ],
)
def test_one_fault_in_one_row_decides(tmp_path, change, verdict):
    rows = copy.deepcopy(read_table(RESULTS / "realized_cost.json"))
    rows[0].update(change)
    write_table(tmp_path, "realized_cost", rows)
    assert answer(tmp_path).verdict == verdict


def test_counts_of_another_schedule_are_told_from_the_law():
    spent = simulated_pairs(rst.Constant(0.55), 2000, "independent")
    row = realized_cost._judged(spent, rst.CostLaw(rst.Constant(0.5), T))
    assert row["p_law"] < 1e-9 and row["p_mean"] < 1e-9
    # The right mean with the wrong spread is seen by the law alone.
    spent = simulated_pairs(rst.Linear(0.0, 1.0), 20_000, "independent")
    row = realized_cost._judged(spent, rst.CostLaw(rst.Constant(0.5), T))
    assert row["p_law"] < 1e-9 and row["p_mean"] > 1e-6
    assert realized_cost._judged(spent, rst.CostLaw(rst.Linear(0.0, 1.0), T))["p_law"] > 1e-9


def a_row(schedule, kind, source, mean, sd=2.0):
    return {
        "schedule": schedule,
        "kind": kind,
        "source": source,
        "runs": 100,
        "mean": mean,
        "exact_mean": 10.0,
        "exact_sd": sd,
        "least": 9,
        "counted": [30, 40, 30],
        "probability": [0.3, 0.4, 0.3],
    }


ROWS = [
    a_row("constant p=0.5", "independent", "training", 10.2),
    a_row("constant p=0.5", "independent", "simulation", 9.9),
    a_row("Periodic(2)", "independent", "simulation", 10.0, sd=0.0),
    a_row("constant p=0.5", "systematic", "simulation", 10.1, sd=0.5),
]


@pytest.mark.parametrize("width", [plots.SINGLE, plots.DOUBLE])
def test_marks_stand_at_the_standardised_deviations(width):
    figure = plots.plot_realized_cost(ROWS, width=width)
    places = {
        (axes.get_title(loc="left"), line.get_label()): line.get_xdata()[0]
        for axes in figure.axes
        for line in axes.get_lines()
        if line.get_label() in ("training", "simulation")
    }
    assert places == {
        ("Independent trials", "training"): pytest.approx(1.0),
        ("Independent trials", "simulation"): pytest.approx(-0.5),
        ("Systematic trials", "simulation"): pytest.approx(2.0),
    }


def test_a_law_is_drawn_beside_the_shares_of_its_runs():
    figure = plots.plot_realized_cost(ROWS)
    (axes,) = [axes for axes in figure.axes if axes.get_xlabel() == "extra pairs, systematic"]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["runs"].get_ydata()) == [0.3, 0.4, 0.3]
    assert list(lines["law"].get_xdata()) == [9, 10, 11]


def test_rows_without_a_law_are_refused():
    with pytest.raises(plots.ResultsError, match="'counted' is missing"):
        plots.plot_realized_cost([{key: value for key, value in ROWS[0].items() if key != "counted"}])
