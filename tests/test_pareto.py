"""The Pareto front: the choice on validation examples, the paired verdict on others, the rule."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from experiments import pareto as question, places
from experiments.networks import SETTINGS, Outcome, config_of, key_of
from experiments.pareto import CHECKS, FIRST_SEED, GRIDS, TARGET, Choice
from experiments.recheck import recheck
from experiments.settings import CHECK, FULL, QUICK
from rst_theory.files import read_table, write_table
from rst_theory.plots import ResultsError, plot_pareto

NOISY = SETTINGS[0]
WOBBLE = np.random.default_rng(11).standard_normal((2, 20))


def finished(config, test, validation=0.5):
    record = SimpleNamespace(pairs_per_step=1 + config.schedule.value)
    return Outcome(config, record, 0.0, validation, test, 0.1, 1.0, 1.0)


def judged(setting, accuracy_of):
    """Test runs of every method, from a function of its name and the number of the seed."""
    return {
        method: [finished(config_of(setting, FIRST_SEED + i, p), accuracy_of(method, i)) for i in range(20)]
        for method, (p, _) in GRIDS.items()
    }


CHOSEN = {method: choices[0] for method, (_, choices) in GRIDS.items()}


# The choice


def tuning(best):
    """Tuning runs in which the given choices of G-RST with p = 1/4 are the best, with equal means."""
    seeds = {3000: 0.01, 3001: -0.01, 3002: 0.02, 3003: -0.02}
    runs = []
    for method in list(GRIDS)[1:]:
        for config in question.tuning_configs(NOISY, method):
            leads = method == TARGET and (config.gamma, config.rho) in best
            runs.append(finished(config, 0.0, 0.7 + 0.1 * leads + seeds[config.seed]))
    return question.tuning_rows(NOISY, runs)


def test_a_tuning_row_has_the_mean_of_its_own_four_seeds():
    rows = tuning({(2, 0.2)})
    assert len(rows) == 6 * 6
    leading = [row for row in rows if row["validation_accuracy"] > 0.75]
    assert [(row["method"], row["gamma"], row["rho"]) for row in leading] == [(TARGET, 2, 0.2)]
    assert leading[0]["validation_accuracy"] == pytest.approx(0.8, rel=1e-12)
    assert leading[0]["product"] == pytest.approx(0.25 * 2 * 0.2, rel=1e-12)
    assert all(row["seeds"] == 4 for row in rows)


@pytest.mark.parametrize(
    "ties, chosen",
    [
        ({(2, 0.3)}, (2, 0.3)),
        ({(2, 0.3), (4, 0.05)}, (4, 0.05)),  # q rho .15 and .05
        ({(4, 0.15), (2, 0.2)}, (2, 0.2)),  # .15 and .1
        ({(2, 0.1), (4, 0.05)}, (4, 0.05)),  # equal: the first of the grid
    ],
)
def test_the_best_on_validation_examples_is_chosen_and_ties_go_to_the_smaller_product(ties, chosen):
    row = question.best([row for row in tuning(ties) if row["method"] == TARGET])
    assert (row["gamma"], row["rho"]) == chosen


def test_every_tuned_method_has_the_same_budget():
    assert {len(choices) for method, (_, choices) in GRIDS.items() if method != "SGD"} == {6}


# The verdict on other examples


def test_the_difference_to_sam_is_paired_and_simultaneous_over_the_settings():
    def accuracy(method, i):
        return 0.9 + 0.02 * WOBBLE[0, i] + (-0.01 + 0.004 * WOBBLE[1, i] if method == TARGET else 0.0)

    rows = {row["method"]: row for row in question.pareto_rows(NOISY, CHOSEN, judged(NOISY, accuracy))}
    difference = -0.01 + 0.004 * WOBBLE[1]
    test = stats.ttest_1samp(difference, 0)
    row = rows[TARGET]
    assert row["versus_sam"] == pytest.approx(difference.mean(), rel=1e-9)
    assert (row["versus_sam_low"], row["versus_sam_high"]) == pytest.approx(test.confidence_interval(0.99))
    # four settings on digits
    assert (row["family_low"], row["family_high"]) == pytest.approx(test.confidence_interval(1 - 0.01 / 4))
    assert row["effect"] == pytest.approx(difference.mean() / difference.std(ddof=1), rel=1e-9)
    assert (row["p"], row["pairs_per_step"], row["seeds"], row["diverged"]) == (0.25, 1.25, 20, 0)
    assert (rows["SAM"]["versus_sam"], rows["SAM"]["within"]) == (0.0, "holds")


def test_a_run_that_diverged_counts_as_a_guess_and_is_counted():
    of = judged(NOISY, lambda method, i: 0.9)
    of[TARGET][0] = Outcome(of[TARGET][0].config, None, 0.1, 0.1, 0.1, None, None, None)
    row = {row["method"]: row for row in question.pareto_rows(NOISY, CHOSEN, of)}[TARGET]
    assert (row["accuracy"], row["diverged"]) == (pytest.approx((19 * 0.9 + 0.1) / 20), 1)
    assert row["versus_sam"] == pytest.approx(-0.04)


@pytest.mark.parametrize(
    "gap, spread, within",
    [
        (0.01, 0.001, "holds"),
        (-0.002, 0.001, "holds"),  # worse, but within half a point
        (-0.005, 0.001, "open"),
        (-0.02, 0.001, "refuted"),
        (-0.02, 0.1, "open"),
    ],
)
def test_within_half_a_point_is_judged_by_the_interval(gap, spread, within):
    noise = spread * (WOBBLE[1] - WOBBLE[1].mean())
    of = judged(NOISY, lambda method, i: 0.9 + (gap + noise[i] if method == TARGET else 0.0))
    rows = {row["method"]: row for row in question.pareto_rows(NOISY, CHOSEN, of)}
    assert rows[TARGET]["within"] == within


def answered(folder, gaps):
    rows = []
    for setting, gap in zip(SETTINGS, gaps, strict=False):

        def accuracy(method, i, gap=gap):
            return 0.9 + 0.02 * WOBBLE[0, i] + (gap + 0.001 * WOBBLE[1, i] if method == TARGET else 0.0)

        rows += question.pareto_rows(setting, CHOSEN, judged(setting, accuracy))
    write_table(folder, "pareto", rows)
    return question.answer(folder)


@pytest.mark.parametrize(
    "gaps, verdict, holds",
    [
        ((0.0, 0.01, 0.0, 0.0), "supported", 4),
        ((-0.02, -0.02, -0.02, -0.02), "refuted", 0),
        ((0.0, 0.0, 0.0, -0.02), "open", 3),
        ((0.0, 0.0, 0.0, 0.0, -0.02), "supported", 4),  # Fashion-MNIST decides nothing
    ],
)
def test_the_statement_needs_every_setting_on_digits(gaps, verdict, holds, tmp_path):
    found = answered(tmp_path, gaps)
    assert (found.verdict, found.number) == (verdict, f"within half a point in {holds} of 4 settings")
    assert ("on Fashion-MNIST" in found.evidence) == (len(gaps) > 4)


# The run


@pytest.fixture
def asked(monkeypatch):
    """No network is trained: accuracies are functions of q rho and the seed, the best q rho is .1."""
    monkeypatch.delenv("FASHION_MNIST", raising=False)
    listed = []

    def outcomes(configs, processes, found, data_dir=None, runs=None, sharpness=True):
        listed.append(configs)
        for done, config in enumerate(configs, start=1):
            strength = config.schedule.value * config.gamma * config.rho
            jitter = 0.01 * WOBBLE[0, config.seed % 20] + 0.001 * math.sin(config.seed + 9 * strength)
            level = 0.9 - abs(strength - 0.1) + jitter
            found[key_of(config)] = finished(config, level, level)
            yield done / len(configs)

    monkeypatch.setattr(places, "outcomes", outcomes)
    return listed


def test_the_choices_are_tested_on_other_seeds(asked, tmp_path):
    shares = list(question.run(FULL, tmp_path))
    assert all(a <= b for a, b in pairwise(shares)) and shares[-1] == 1.0
    choices = [r for r in read_table(tmp_path / "pareto_choices.json") if r["setting"] == NOISY.label]
    assert {row["method"]: Choice(row["gamma"], row["rho"]) for row in choices} == {
        "SGD": (1, 0.0),
        "G-RST p=0.125": (8, 0.1),  # q rho = .1 in all
        "G-RST p=0.25": (4, 0.1),
        "RST p=0.25": (1, 0.45),  # .1125 is the nearest
        "G-RST p=0.5": (2, 0.1),
        "RST p=0.5": (1, 0.2),
        "SAM": (1, 0.1),
    }
    assert choices[0]["validation_accuracy"] is None
    tuned, other = asked[:2]
    assert (len(tuned), len(other)) == (6 * 6 * 4, 7 * 20)
    assert not {config.seed for config in tuned} & {config.seed for config in other}
    rows = read_table(tmp_path / "pareto.json")
    assert [(row["setting"], row["method"]) for row in rows] == [
        (setting.label, method) for setting in SETTINGS[:4] for method in GRIDS
    ]


def test_what_was_measured_on_fashion_mnist_is_kept(asked, tmp_path):
    list(question.run(FULL, tmp_path))
    for name in ("pareto", "pareto_choices", "pareto_tuning"):
        rows = read_table(tmp_path / f"{name}.json")
        write_table(tmp_path, name, [*rows, {**rows[-1], "setting": SETTINGS[4].label}])
    list(question.run(FULL, tmp_path))
    for name in ("pareto", "pareto_choices", "pareto_tuning"):
        kept = [row["setting"] for row in read_table(tmp_path / f"{name}.json")]
        assert kept.count(SETTINGS[4].label) == 1 and kept[-1] == SETTINGS[4].label


@pytest.mark.parametrize("size, setting, seeds", [(CHECK, SETTINGS[0], 3), (QUICK, SETTINGS[2], 1)])
def test_a_smaller_run_tunes_nothing_and_is_a_part_of_the_full_one(
    size, setting, seeds, asked, tmp_path, monkeypatch
):
    full, fresh = tmp_path / "full", tmp_path / "fresh"
    list(question.run(FULL, full))
    monkeypatch.setattr(question, "RESULTS", full)
    del asked[:]
    list(question.run(size, fresh))
    (configs,) = asked
    assert len(configs) == 2 * seeds and {config.seed for config in configs} <= set(range(2000, 2003))
    found = recheck(CHECKS, fresh, full)
    assert len(found) == len(CHECKS) and sum(row["disagree"] for row in found) == 0
    rows = read_table(fresh / "pareto.json")
    assert {(row["setting"], row["method"]) for row in rows} == {
        (setting.label, TARGET),
        (setting.label, "SAM"),
    }
    assert not (fresh / "pareto_tuning.json").exists()


# The figure


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_marks_stand_at_the_means_of_the_table_and_the_band_about_sam(width):
    rows = question.pareto_rows(NOISY, CHOSEN, judged(NOISY, lambda m, i: 0.9 + 0.01 * len(m) * WOBBLE[0, i]))
    (axes,) = plot_pareto(rows, width).axes
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    heights = sorted(float(line.get_ydata()[0]) for line in marks)
    assert heights == sorted(row["accuracy"] for row in rows)
    for line in marks:
        assert min(abs(line.get_xdata()[0] - row["pairs_per_step"]) for row in rows) < 0.02
    sam = next(row["accuracy"] for row in rows if row["method"] == "SAM")
    (band,) = axes.patches
    assert (band.get_y(), band.get_height()) == pytest.approx((sam - 0.005, 0.01))
    assert sorted(text.get_text() for text in axes.texts) == sorted(row["method"].split()[0] for row in rows)


def test_wrong_rows_are_named():
    with pytest.raises(ResultsError, match="pareto, row 1: field 'setting' is missing"):
        plot_pareto([{"method": "SAM"}])
