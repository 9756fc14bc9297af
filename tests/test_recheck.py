"""A smaller run beside the committed one: what agrees, what does not, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.question import Check
from experiments.recheck import MismatchError, recheck
from experiments.statistics import holm, mean_interval, paired_difference
from rst_theory.files import write_table

CHECK = Check("accuracy", ("method",), "accuracy", ("low", "high"), "runs")


def rows_of(samples):
    rows = []
    for method, sample in samples.items():
        if len(sample) > 1:
            mean, low, high = mean_interval(sample)
        else:
            mean, low, high = float(sample[0]), None, None
        rows.append({"method": method, "accuracy": mean, "low": low, "high": high, "runs": len(sample)})
    return rows


def compared(tmp_path, fresh, committed, check=CHECK):
    write_table(tmp_path / "fresh", check.table, fresh)
    write_table(tmp_path / "committed", check.table, committed)
    return recheck([check], tmp_path / "fresh", tmp_path / "committed")[0]


def test_part_of_a_sample_agrees_with_the_whole(tmp_path):
    draw = np.random.default_rng(1)
    whole = {"SGD": draw.normal(0.8, 0.02, 20), "SAM": draw.normal(0.9, 0.02, 20)}
    part = {name: sample[:1] for name, sample in whole.items()}
    row = compared(tmp_path, rows_of(part), rows_of(whole))
    assert row["compared"] == 2 and row["disagree"] == 0


def test_the_p_value_is_that_of_the_t_statistic(tmp_path):
    draw = np.random.default_rng(2)
    whole, part = draw.normal(0.8, 0.02, 20), draw.normal(0.83, 0.02, 4)
    row = compared(tmp_path, rows_of({"SGD": part}), rows_of({"SGD": whole}))
    t = (part.mean() - whole.mean()) / (whole.std(ddof=1) * np.sqrt(1 / 4 + 1 / 20))
    assert row["least_p"] == pytest.approx(2 * stats.t.sf(abs(t), 19), rel=1e-9)


def test_another_mean_disagrees(tmp_path):
    draw = np.random.default_rng(3)
    row = compared(
        tmp_path,
        rows_of({"SGD": draw.normal(0.5, 0.02, 4)}),
        rows_of({"SGD": draw.normal(0.8, 0.02, 20)}),
    )
    assert row["disagree"] == 1 and row["worst"] == "SGD"


def test_exact_values_must_be_equal(tmp_path):
    exact = Check("cost", ("name",), "mean")
    same = compared(tmp_path, [{"name": "a", "mean": 1.0}], [{"name": "a", "mean": 1 + 1e-12}], exact)
    other = compared(tmp_path, [{"name": "a", "mean": 1.0}], [{"name": "a", "mean": 1 + 1e-8}], exact)
    assert (same["disagree"], other["disagree"]) == (0, 1)


def test_two_intervals_without_a_count_add_their_errors(tmp_path):
    check = Check("slopes", ("name",), "slope", ("low", "high"))
    z = stats.norm.isf(0.005)
    fresh = [{"name": "a", "slope": 0.0, "low": -3 * z, "high": 3 * z}]
    full = [{"name": "a", "slope": 10.0, "low": 10 - 4 * z, "high": 10 + 4 * z}]
    row = compared(tmp_path, fresh, full, check)
    assert row["least_p"] == pytest.approx(2 * stats.norm.sf(2.0), rel=1e-9)


def test_what_is_missing_on_one_side_alone_disagrees(tmp_path):
    exact = Check("cost", ("name",), "mean")
    assert compared(tmp_path, [{"name": "a", "mean": None}], [{"name": "a", "mean": 1.0}], exact)["disagree"]
    both = compared(tmp_path, [{"name": "a", "mean": None}], [{"name": "a", "mean": None}], exact)
    assert both["disagree"] == 0 and both["fresh"] is None


def test_a_row_that_the_full_run_lacks_is_an_error(tmp_path):
    draw = np.random.default_rng(4)
    with pytest.raises(MismatchError, match="no row"):
        compared(tmp_path, rows_of({"LookSAM": draw.random(3)}), rows_of({"SGD": draw.random(3)}))


def test_tables_that_were_not_run_again_are_skipped(tmp_path):
    write_table(tmp_path / "committed", "accuracy", rows_of({"SGD": np.arange(3.0)}))
    (tmp_path / "fresh").mkdir()
    assert recheck([CHECK], tmp_path / "fresh", tmp_path / "committed") == []


# Statistics


def test_intervals_are_those_of_scipy():
    x = np.random.default_rng(5).normal(size=17)
    found = stats.ttest_1samp(x, 0.0)
    interval = found.confidence_interval(0.99)
    assert mean_interval(x)[1:] == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_paired_differences_are_those_of_scipy():
    draw = np.random.default_rng(6)
    a, b = draw.normal(size=9), draw.normal(size=9)
    found = stats.ttest_rel(a, b)
    interval = found.confidence_interval(0.998)
    ours = paired_difference(a, b, confidence=0.998)
    assert ours[:4] == pytest.approx(((a - b).mean(), interval.low, interval.high, found.pvalue), rel=1e-10)
    assert ours.effect == pytest.approx(found.statistic / 3, rel=1e-12)


def test_equal_samples_differ_by_nothing():
    assert paired_difference([1.0, 2.0], [1.0, 2.0]) == (0.0, 0.0, 0.0, 1.0, 0.0)
    assert paired_difference([1.0, 2.0], [0.0, 1.0])[3:] == (0.0, np.inf)


def test_holm_is_the_textbook_example():
    # sorted .005, .01, .03, .04 times 4, 3, 2, 1, then the running maximum
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("sample", [[1.0], [], [1.0, np.nan]])
def test_too_small_samples_are_refused(sample):
    with pytest.raises(ValueError, match="at least two finite numbers"):
        mean_interval(sample)


def test_unpaired_samples_and_wrong_p_values_are_refused():
    with pytest.raises(ValueError, match="one size"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="p values"):
        holm([1.5])
