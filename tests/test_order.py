"""Order of the schedule: tables from runs with known differences, the rule, and what settings are asked."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from experiments import networks, order as question, places
from experiments.networks import SETTINGS, Outcome, key_of
from experiments.order import CHECKS, SCHEDULES
from experiments.recheck import recheck
from experiments.settings import CHECK, FULL, QUICK, Size
from rst_theory.files import read_table, write_json, write_table
from rst_theory.plots import ResultsError, plot_order

NOISY, CLEAN = SETTINGS[:2]
WOBBLE = np.random.default_rng(3).standard_normal((2, 40))


def finished(config, accuracy=0.9, eigenvalue=math.e, trace=10.0, loss=0.1):
    record = SimpleNamespace(pairs_per_step=1.5)
    return Outcome(config, record, accuracy, accuracy, accuracy, loss, eigenvalue, trace)


def diverged(config):
    return Outcome(config, None, 0.1, 0.1, 0.1, None, None, None)


def runs(setting, accuracy_of, seeds=20):
    """The outcomes of each schedule, from a function of its name and the number of the seed."""
    listed = question.configs(setting, seeds)
    return {
        name: [finished(config, accuracy_of(name, i)) for i, config in enumerate(listed[k :: len(SCHEDULES)])]
        for k, name in enumerate(SCHEDULES)
    }


def early_leads(name, i):
    return 0.8 + 0.02 * WOBBLE[0, i] + (0.03 + 0.01 * WOBBLE[1, i] if name == "early" else 0.0)


# Tables


def test_means_and_intervals_are_those_of_a_plain_t_interval():
    of = runs(NOISY, early_leads)
    rows = {row["schedule"]: row for row in question.order_rows(NOISY, of)}
    assert list(rows) == list(SCHEDULES)
    values = [early_leads("early", i) for i in range(20)]
    low, high = stats.t.interval(0.99, 19, np.mean(values), stats.sem(values))
    row = rows["early"]
    assert row["accuracy"] == pytest.approx(np.mean(values), rel=1e-12)
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((low, high), rel=1e-12)
    assert row["log_eigenvalue"] == pytest.approx(1.0, rel=1e-12)
    assert row["log_trace"] == pytest.approx(math.log(10), rel=1e-12)
    assert (row["train_loss"], row["pairs_per_step"], row["seeds"]) == (pytest.approx(0.1), 1.5, 20)


def test_a_run_that_diverged_counts_as_a_guess_and_is_counted():
    of = runs(NOISY, lambda name, i: 0.9)
    of["late"][3] = diverged(of["late"][3].config)
    row = {row["schedule"]: row for row in question.order_rows(NOISY, of)}["late"]
    assert row["accuracy"] == pytest.approx((19 * 0.9 + 0.1) / 20, rel=1e-12)
    assert (row["seeds"], row["diverged"], row["train_loss"]) == (20, 1, pytest.approx(0.1))
    seeds = {
        (row["measure"], row["first"], row["second"]): row["seeds"]
        for row in question.difference_rows(NOISY, of)
    }
    assert seeds["accuracy", "early", "late"] == 20
    assert seeds["train_loss", "early", "late"] == seeds["log_trace", "late", "spread"] == 19
    assert seeds["train_loss", "early", "spread"] == 20


def test_differences_are_paired_seed_by_seed():
    rows = question.difference_rows(NOISY, runs(NOISY, early_leads))
    row = next(r for r in rows if (r["measure"], r["first"], r["second"]) == ("accuracy", "early", "late"))
    gain = 0.03 + 0.01 * WOBBLE[1, :20]
    test = stats.ttest_1samp(gain, 0)
    assert row["difference"] == pytest.approx(gain.mean(), rel=1e-9)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(test.confidence_interval(0.99))
    assert row["p_value"] == pytest.approx(test.pvalue, rel=1e-6)
    assert row["effect"] == pytest.approx(gain.mean() / gain.std(ddof=1), rel=1e-9)
    assert len(rows) == 4 * 3


def test_each_measure_of_a_data_set_is_a_family_of_its_own():
    def row(setting, measure, p):
        return {"setting": setting.label, "measure": measure, "p_value": p, "adjusted_p": None}

    rows = [row(NOISY, "accuracy", 0.01), row(CLEAN, "accuracy", 0.02), row(CLEAN, "accuracy", 0.5)]
    rows += [
        row(NOISY, "train_loss", 0.04),
        row(SETTINGS[4], "accuracy", 0.03),
        row(NOISY, "log_trace", None),
    ]
    # by hand, Holm: .01 3, .02 2, .5 1
    assert [r["adjusted_p"] for r in question.adjusted(rows)] == [
        pytest.approx(0.03),
        pytest.approx(0.04),
        0.5,
        0.04,
        0.03,
        None,
    ]
    assert rows[0]["adjusted_p"] is None  # the rows given are left alone


# The rule


def answered(folder, gains):
    """The answer where early leads late and spread by so much in each setting on digits."""
    rows = []
    for setting, gain in zip(SETTINGS, gains, strict=False):

        def accuracy(name, i, gain=gain):
            places_ = {"early": 0, "late": 10, "spread": 20}
            jitter = 0.01 * WOBBLE[1, i + places_[name]] if name in places_ else 0.0
            return 0.8 + 0.02 * WOBBLE[0, i] + jitter + (gain if name == "early" else 0.0)

        rows += question.difference_rows(setting, runs(setting, accuracy))
    write_table(folder, "order_differences", question.adjusted(rows))
    return question.answer(folder)


@pytest.mark.parametrize(
    "gains, verdict, number",
    [
        ((0.05, 0.05, -0.05, 0.05), "supported", "it matters in 4 of 4 settings"),
        ((0.05, 0.0, 0.05, 0.05), "open", "it matters in 3 of 4 settings"),
        ((0.0, 0.0, 0.0, 0.0), "open", "it matters in 0 of 4 settings"),
        (
            (0.05, 0.05, 0.05, 0.05, 0.0),
            "supported",
            "it matters in 4 of 4 settings",
        ),  # Fashion decides nothing
    ],
)
def test_the_statement_needs_every_setting_on_digits(gains, verdict, number, tmp_path):
    found = answered(tmp_path, gains)
    assert (found.verdict, found.number) == (verdict, number)
    assert ("fashion-mnist" in found.evidence) == (len(gains) > 4)


def test_late_is_best_only_where_it_leads_both(tmp_path):
    rows = []
    for setting in SETTINGS[:4]:
        leads = {"late": 0.05, "early": 0.0, "spread": 0.0 if setting is CLEAN else 0.05}

        def accuracy(name, i, leads=leads):
            return 0.8 + leads.get(name, 0.0) + 0.01 * WOBBLE[len(name) % 2, i + 2 * len(name)]

        rows += question.difference_rows(setting, runs(setting, accuracy))
    write_table(tmp_path, "order_differences", question.adjusted(rows))
    evidence = question.answer(tmp_path).evidence
    assert "clean data is supported in long, clean labels" in evidence
    assert "not supported in short, clean labels" in evidence


# The run


@pytest.fixture
def finished_runs(monkeypatch, tmp_path):
    """Runs whose files are there already: none is trained, and no process begins."""
    monkeypatch.delenv("FASHION_MNIST", raising=False)
    asked = []

    def outcomes(configs, processes, found, data_dir=None, runs=None, sharpness=True):
        asked.append((len(configs), data_dir, runs))
        for done, config in enumerate(configs, start=1):
            name = next(name for name, schedule in SCHEDULES.items() if schedule == config.schedule)
            found[key_of(config)] = finished(config, early_leads(name, config.seed - question.FIRST_SEED))
            yield done / len(configs)

    monkeypatch.setattr(places, "outcomes", outcomes)
    return asked


def test_a_full_run_asks_all_settings_on_digits_and_keeps_the_others(finished_runs, tmp_path):
    shares = list(question.run(FULL, tmp_path))
    assert all(a <= b for a, b in pairwise(shares)) and shares[-1] == 1.0
    assert [n for n, _, _ in finished_runs] == [140] * 4
    rows = read_table(tmp_path / "order.json")
    assert [row["setting"] for row in rows] == [s.label for s in SETTINGS[:4] for _ in SCHEDULES]
    kept = {**rows[0], "setting": SETTINGS[5].label}
    write_table(tmp_path, "order", [kept, *rows[1:]])
    list(question.run(FULL, tmp_path))
    assert read_table(tmp_path / "order.json") == [*rows, kept]


def test_fashion_mnist_is_asked_with_five_seeds_where_its_directory_is_named(
    finished_runs, tmp_path, monkeypatch
):
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path / "images"))
    list(question.run(FULL, tmp_path))
    assert [n for n, _, _ in finished_runs] == [140] * 4 + [35] * 4
    assert [directory for _, directory, _ in finished_runs] == [None] * 4 + [tmp_path / "images"] * 4
    assert question.answer(tmp_path).verdict == "supported"


@pytest.mark.parametrize("size, runs_asked", [(CHECK, 3 * 5), (QUICK, 5)])
def test_a_smaller_run_is_a_part_of_the_full_one(size, runs_asked, finished_runs, tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST", "nowhere")
    full, fresh = tmp_path / "full", tmp_path / "fresh"
    list(question.run(FULL, full))
    list(question.run(size, fresh))
    assert finished_runs[-1][0] == runs_asked and finished_runs[-1][2] == size.runs / "networks"
    found = recheck(CHECKS, fresh, full)
    assert len(found) == len(CHECKS) and sum(row["disagree"] for row in found) == 0
    assert {row["setting"] for row in read_table(fresh / "order.json")} == {
        SETTINGS[0 if size is CHECK else 2].label
    }


def test_finished_runs_are_read_and_not_trained_again(tmp_path, monkeypatch):
    def in_this_process(function, tasks, processes, results):
        results.extend(function(*task) for task in tasks)
        yield 1.0

    runs_folder = tmp_path / "runs"
    monkeypatch.setattr(networks, "spread", in_this_process)
    monkeypatch.setattr(networks, "train", None)
    monkeypatch.setattr(Size, "runs", property(lambda self: runs_folder))
    wanted = question.configs(SETTINGS[2], 1, ("SGD", "early", "late", "spread", "SAM"))
    for i, config in enumerate(wanted):
        write_json(
            runs_folder / networks.NETWORK_RUNS.name / f"{key_of(config)}.json",
            {"format": 1, "config": config.to_dict(), "record": None, "accuracy": 0.1 * i}
            | dict.fromkeys(("validation_accuracy", "test_accuracy"), 0.5)
            | dict.fromkeys(("train_loss", "largest_eigenvalue", "trace")),
        )
    list(question.run(QUICK, tmp_path / "results"))
    rows = read_table(tmp_path / "results" / "order.json")
    assert [row["accuracy"] for row in rows] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert [row["diverged"] for row in rows] == [1] * 5
    assert {row["accuracy_low"] for row in rows} == {None}  # one seed has no interval


# The figure


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_marks_stand_at_the_means_of_the_table(width):
    of = runs(NOISY, early_leads)
    rows = [row for setting in SETTINGS[:3] for row in question.order_rows(setting, of)]
    rows[1] |= {"log_eigenvalue": None, "log_eigenvalue_low": None, "log_eigenvalue_high": None}
    panels = plot_order(rows, width).axes
    assert len(panels) == 6

    def marks(axes):
        return [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]

    assert marks(panels[0]) == [row["accuracy"] for row in rows[:7]]
    assert marks(panels[1]) == [row["log_eigenvalue"] for row in rows[:7] if row["log_eigenvalue"]]
    bars = [list(line.get_xdata()) for line in panels[0].lines if line.get_linewidth() > 3]
    assert bars == [[row["accuracy_low"], row["accuracy_high"]] for row in rows[:7]]


def test_wrong_rows_are_named():
    with pytest.raises(ResultsError, match="order, row 1: field 'schedule' is missing"):
        plot_order([{"setting": "digits"}])
