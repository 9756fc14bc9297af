"""Degree times radius: tables from runs with known differences, the rules, the drift along a valley."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

import rst_theory as rst
from experiments import degree_times_radius as question, order, valley
from experiments.degree_times_radius import CELLS, CHECKS, PRODUCTS
from experiments.equal_products import METHODS, Cell
from experiments.networks import SETTINGS, Outcome, config_of, key_of
from experiments.recheck import recheck
from experiments.settings import CHECK, FULL, QUICK
from rst_theory.files import read_table, write_table
from rst_theory.method import step
from rst_theory.plots import ResultsError, plot_collapse, plot_drift
from tests.conftest import ONE_STEP, TRAJECTORY

SAM, RARE = METHODS[0], METHODS[4]
NOISY = SETTINGS[0]


def finished(config, accuracy, eigenvalue=math.e, trace=10.0):
    record = None if eigenvalue is None else SimpleNamespace()
    return Outcome(config, record, accuracy, accuracy, accuracy, 0.1, eigenvalue, trace)


def runs(accuracy_of, eigenvalue_of=lambda cell, i: math.e, seeds=20, cells=CELLS):
    """Outcomes in the order of the configurations, from functions of the cell and the number of the seed."""
    listed = question.configs(NOISY, seeds, cells)
    return [
        finished(
            config,
            accuracy_of(cells[k % len(cells)], k // len(cells)),
            eigenvalue_of(cells[k % len(cells)], k // len(cells)),
        )
        for k, config in enumerate(listed)
    ]


WOBBLE = np.random.default_rng(5).standard_normal(20)


def rows_by_cell(outcomes, cells=CELLS):
    rows = question.collapse_rows(NOISY, cells, outcomes)
    return {(row["product"], row["p"], row["gamma"]): row for row in rows}


# What is run


def test_runs_come_seed_by_seed_and_product_by_product():
    expected = []
    for seed in (2000, 2001):
        for product in (0.05, 0.1, 0.2):
            for p, gamma in ((1.0, 1.0), (0.5, 1.0), (0.5, 2.0), (0.25, 1.0), (0.25, 4.0)):
                expected.append(config_of(NOISY, seed, p, gamma=gamma, rho=product / (p * gamma)))
    assert question.configs(NOISY, 2) == expected


def test_sam_and_spread_are_shared_with_the_question_of_order():
    mine, theirs = ({key_of(c) for c in configs(NOISY, 1)} for configs in (question.configs, order.configs))
    assert len(mine & theirs) == 2  # SAM at rho = .1, and p = 1/2 at rho = .1, which is q rho = .05


# The rule


def test_differences_are_paired_and_their_intervals_simultaneous():
    outcomes = runs(lambda cell, i: 0.9 + 0.05 * WOBBLE[i] + (cell.p < 1) * 0.004 * np.sin(i))
    row = rows_by_cell(outcomes)[0.1, *RARE]
    paired = stats.ttest_rel([0.004 * np.sin(i) for i in range(20)], np.zeros(20))
    low, high = paired.confidence_interval(1 - 0.01 / 4)
    assert row["accuracy_difference"] == pytest.approx(np.mean(0.004 * np.sin(np.arange(20))), rel=1e-10)
    assert row["accuracy_difference_low"] == pytest.approx(low, rel=1e-9)
    assert row["accuracy_difference_high"] == pytest.approx(high, rel=1e-9)
    assert row["accuracy_high"] - row["accuracy_low"] > 0.05  # seeds differ more than methods do
    assert row["seeds"] == 20 and row["diverged"] == 0
    assert row["rho"] == pytest.approx(0.1, rel=1e-15) and row["pairs_per_step"] == 1.25


@pytest.mark.parametrize(
    "shift, noise, verdict",
    [
        (0.0, 0.001, "collapse"),
        (0.01, 0.001, "collapse"),  # excludes 0, within the margin
        (0.0145, 0.002, "break"),  # excludes 0, leaves the margin
        (-0.05, 0.001, "break"),
        (0.0, 0.05, "open"),
    ],
)
def test_one_method_decides_on_its_product_alone(shift, noise, verdict):
    odd = np.where(np.arange(20) % 2, 1, -1)

    def accuracy(cell, i):
        return 0.9 + 0.01 * WOBBLE[i] + (cell == Cell(0.1, *RARE)) * (shift + noise * odd[i])

    rows = rows_by_cell(runs(accuracy))
    assert {rows[0.1, *method]["accuracy_verdict"] for method in METHODS} == {verdict}
    assert {rows[product, *SAM]["accuracy_verdict"] for product in (0.05, 0.2)} == {"collapse"}
    assert {row["eigenvalue_verdict"] for row in rows.values()} == {"collapse"}


@pytest.mark.parametrize("factor, verdict", [(1.2, "collapse"), (1.4, "break"), (0.7, "break")])
def test_sharpness_is_compared_as_a_logarithm(factor, verdict):
    def eigenvalue(cell, i):
        return np.exp(WOBBLE[i]) * (factor if cell.p == 0.5 else 1.0)

    row = rows_by_cell(runs(lambda cell, i: 0.9, eigenvalue))[0.05, 0.5, 2.0]
    assert row["eigenvalue_verdict"] == verdict
    assert row["eigenvalue_difference"] == pytest.approx(math.log(factor), rel=1e-9)


def test_a_run_that_diverged_is_counted_and_leaves_its_pair_out_of_the_sharpness():
    def eigenvalue(cell, i):
        if (cell, i) == (Cell(0.2, *RARE), 3):
            return None
        return np.exp(WOBBLE[i]) * (2.0 if cell.p == 0.25 else 1.0)

    row = rows_by_cell(runs(lambda cell, i: 0.9, eigenvalue))[0.2, *RARE]
    assert row["diverged"] == 1 and row["seeds"] == 20
    assert row["eigenvalue_difference"] == pytest.approx(math.log(2), rel=1e-9)


def test_runs_no_better_than_twice_a_guess_are_counted(tables):
    outcomes = runs(lambda cell, i: 0.15 if cell == Cell(0.2, *RARE) and i < 3 else 0.9)
    rows = rows_by_cell(outcomes)
    assert rows[0.2, *RARE]["failed"] == 3 and sum(row["failed"] for row in rows.values()) == 3
    write_table(tables, "collapse", list(rows.values()))
    expected = "3 of 300 runs end no better than twice a guess, 3 of them among the 20 of p = 0.25, gamma = 4"
    assert expected in question.answer(tables).evidence


def test_one_seed_has_means_but_no_intervals_and_decides_nothing():
    row = rows_by_cell(runs(lambda cell, i: 0.9, seeds=1))[0.1, 0.5, 2.0]
    assert row["accuracy"] == 0.9 and row["accuracy_difference"] == 0
    assert row["accuracy_low"] is None and row["accuracy_difference_high"] is None
    assert row["accuracy_verdict"] == row["eigenvalue_verdict"] == "open"


# The drift along the valley


@pytest.mark.parametrize("p, gamma", [(1.0, 1.0), (0.25, 4.0), (0.0, 1.0)])
def test_the_drift_is_that_of_a_plain_loop(p, gamma, monkeypatch):
    monkeypatch.setattr(valley, "_STEPS", 60)
    found = valley.drifts(0.3, p, gamma, replicas=3)
    noise = 0.3 * np.random.default_rng(valley._SEED).standard_normal((3, 60))
    for i, product in enumerate(valley.PRODUCTS):
        rho = product / (p * gamma) if p else 0.0
        for replica in range(3):
            coins = rst.Trials(np.full(60, p), valley._SEED, replica=replica).sequence()
            x, y = 3.0, 1.01 / 3
            for t in range(60):
                label = 1 + noise[replica, t]
                r = x * y - label
                gx, gy = r * y, r * x
                if coins[t]:
                    length = math.sqrt(gx * gx + gy * gy)
                    u, v = x + rho * gx / length, y + rho * gy / length
                    gx = (1 - gamma) * gx + gamma * (u * v - label) * v
                    gy = (1 - gamma) * gy + gamma * (u * v - label) * u
                x, y = x - 0.005 * gx, y - 0.005 * gy
            start = 9 - (1.01 / 3) ** 2
            expected = math.log(start / (x * x - y * y)) / (60 * 0.005)
            assert found[i][replica] == pytest.approx(expected, rel=1e-9, abs=TRAJECTORY)


def test_a_perturbed_step_shrinks_the_imbalance_as_the_docstring_says():
    # D is quadratic in eta, so half the difference at eta and -eta is its linear part exactly.
    draw = np.random.default_rng(3)
    for _ in range(50):
        x, y, label = draw.uniform(0.3, 3, size=3)
        rho, gamma, eta = draw.uniform(0.01, 0.5, size=3)

        def gradient(z, label=label):
            return (z[0] * z[1] - label) * z[::-1]

        ends = [step(np.array([x, y]), gradient, True, e, rho, gamma) for e in (eta, -eta)]
        linear = ((ends[0][0] ** 2 - ends[0][1] ** 2) - (ends[1][0] ** 2 - ends[1][1] ** 2)) / 2
        r, w = x * y - label, math.hypot(x, y)
        rate = abs(r) / w + rho + np.sign(r) * rho**2 * x * y / w**3
        assert linear == pytest.approx(
            -2 * eta * gamma * rho * (x * x - y * y) * rate, rel=1e-9, abs=ONE_STEP
        )


def test_without_noise_the_drift_is_twice_q_rho_squared():
    # Beyond it stands what steps of the size eta add: 2 eta (q rho)^2 w^2 at most of SAM and of gamma < 1.
    w2 = 9 + (1.01 / 3) ** 2
    for gamma in (0.25, 1.0):
        for product, (drift,) in zip(valley.PRODUCTS, valley.drifts(0.0, 1.0, gamma, 1), strict=True):
            second_order = 2 * product * product / gamma
            assert second_order < drift < second_order + 2.5 * 0.005 * product**2 * w2


def test_the_prediction_is_that_of_the_docstring():
    excess = synthetic(dict.fromkeys(valley.DRIFT_METHODS, 1.0))
    row = next(r for r in valley.drift_rows(0.1, excess) if (r["p"], r["product"]) == (0.0625, 0.01))
    w2, e = 9 + (1.01 / 3) ** 2, 0.1 * stats.halfnorm.mean()
    first, second = 2 * 0.01 * e / w2**0.5, 2 * 0.01 * 0.01
    of_steps = 0.005 * (2 * 0.01 * e * w2**0.5 + 0.01**2 * w2 / 0.0625)
    assert row["first_order"] == pytest.approx(first, rel=1e-12)
    assert row["predicted"] == pytest.approx(first + second + of_steps, rel=1e-12)


def synthetic(factors, replicas=200, spread=0.01):
    """Drifts in proportion to q rho, each method's times a factor, with a spread of its own."""
    draw = np.random.default_rng(11)
    products = np.array(valley.PRODUCTS)[:, None]
    return {
        method: factor * products * (1 + spread * draw.standard_normal((len(products), replicas)))
        for method, factor in factors.items()
    }


@pytest.mark.parametrize(
    "factor, spread, verdict", [(1.05, 0.01, "collapse"), (1.2, 0.01, "break"), (1.0, 2.0, "open")]
)
def test_drifts_are_judged_by_their_ratio_to_sam(factor, spread, verdict):
    factors = dict.fromkeys(valley.DRIFT_METHODS, 1.0) | {RARE: factor}
    rows = valley.drift_rows(1.0, synthetic(factors, spread=spread))
    assert {row["verdict"] for row in rows} == {verdict}
    assert all(row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows)
    if spread < 1:
        assert next(row["ratio"] for row in rows if (row["p"], row["gamma"]) == RARE) == pytest.approx(
            factor, rel=0.01
        )


def test_the_interval_of_a_ratio_covers():
    # 400 paired samples of 50 with ratio 1.5: at 99 % about 4 miss; 20 or more with probability below 1e-8.
    draw = np.random.default_rng(8)
    missed = 0
    for _ in range(400):
        common = draw.standard_normal(50)
        second = 1 + 0.2 * common + 0.1 * draw.standard_normal(50)
        first = 1.5 + 0.2 * common + 0.1 * draw.standard_normal(50)
        found = valley._ratio(first, second, 0.99)
        missed += not found.low <= 1.5 <= found.high
    assert stats.binom.sf(19, 400, 0.01) < 1e-8
    assert missed < 20


def test_what_is_allowed_is_the_difference_of_mean_directions_at_the_start():
    excess = synthetic(dict.fromkeys(valley.DRIFT_METHODS, 0.5), spread=0.0)
    row = next(
        r for r in valley.drift_rows(1.0, excess) if (r["p"], r["gamma"], r["product"]) == (0.25, 1.0, 0.01)
    )
    w = math.sqrt(9 + (1.01 / 3) ** 2)
    apart = 0.01 * 3 * (w + 0.04) * 0.03 / 2
    speed = 0.5 * 0.01 * (9 - (1.01 / 3) ** 2) / (2 * w)  # along the valley, of SAM
    assert row["rho"] == pytest.approx(0.04) and row["allowed"] == pytest.approx(apart / speed, rel=1e-10)
    assert all(r["allowed"] == 0 for r in valley.drift_rows(1.0, excess) if r["rho"] == r["product"])


def test_exponents_of_a_power_law_are_found():
    draw = np.random.default_rng(2)
    excess = {}
    for p, gamma in valley.DRIFT_METHODS:
        products = np.array(valley.PRODUCTS)[:, None]
        law = 3 * products**1.1 * (products / (p * gamma)) ** 0.4
        excess[p, gamma] = law * (1 + 0.01 * draw.standard_normal((4, 200)))
    row = valley.exponent_row(0.1, excess)
    for name, exponent in (("product_exponent", 1.1), ("radius_exponent", 0.4)):
        # Twenty blocks: a t interval that misses by more than its half width has probability below 1e-4.
        half = row[f"{name}_high"] - row[name]
        assert 0 < half < 0.01 and abs(row[name] - exponent) < 3 * half
    assert row["sigma"] == 0.1 and row["blocks"] == 20


# The run, the answer, the check


def fake(monkeypatch, accuracy_of):
    """No network is trained and no process begun; the drifts are those of 30 steps."""

    def outcomes_of(setting, configs, size, found):
        for config in configs:
            cell = Cell(
                config.rho * config.schedule.value * config.gamma, config.schedule.value, config.gamma
            )
            i = config.seed - question.FIRST_SEED
            found.append(finished(config, accuracy_of(cell, i), np.exp(WOBBLE[i])))
        yield 1.0

    def spread(function, tasks, processes, results, keep=None):
        results.extend(function(*task) for task in tasks)
        yield 1.0

    monkeypatch.delenv("FASHION_MNIST", raising=False)
    monkeypatch.setattr(question, "outcomes_of", outcomes_of)
    monkeypatch.setattr(valley, "spread", spread)
    monkeypatch.setattr(valley, "_STEPS", 30)


def equal(cell, i):
    return 0.9 + 0.01 * WOBBLE[i] + 0.001 * math.sin(i + 7 * cell.p + cell.gamma)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake(monkeypatch, equal)
        shares = list(question.run(dataclasses.replace(FULL, replicas=64), folder))
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    return folder


@pytest.fixture
def tables(computed, tmp_path):
    """A copy to change."""
    return Path(shutil.copytree(computed, tmp_path / "tables"))


@pytest.mark.parametrize("size", [QUICK, CHECK])
def test_a_smaller_run_reproduces_the_tables(size, tables, tmp_path, monkeypatch):
    fake(monkeypatch, equal)
    fresh = tmp_path / "fresh"
    list(question.run(dataclasses.replace(size, replicas=32), fresh))
    found = recheck(CHECKS, fresh, tables)
    assert len(found) == 4 and sum(row["disagree"] for row in found) == 0
    assert len(read_table(fresh / "collapse.json")) == (2 if size is QUICK else 5)


def rewritten(folder, name, change):
    rows = [row | change(row) for row in read_table(folder / f"{name}.json")]
    write_table(folder, name, rows)


def agreeing(folder):
    rewritten(folder, "drift", lambda row: {"verdict": "collapse"})
    rewritten(
        folder, "collapse", lambda row: {"accuracy_verdict": "collapse", "eigenvalue_verdict": "collapse"}
    )


@pytest.mark.parametrize(
    "table, column",
    [("collapse", "accuracy_verdict"), ("collapse", "eigenvalue_verdict"), ("drift", "verdict")],
)
def test_the_smallest_product_decides(tables, table, column):
    agreeing(tables)
    assert question.answer(tables).verdict == "supported"
    smallest = {"collapse": 0.05, "drift": 0.0025}[table]
    for found, verdict in (("open", "open"), ("break", "refuted")):
        agreeing(tables)
        rewritten(tables, table, lambda row: {column: found if row["product"] > smallest else "collapse"})  # noqa: B023
        assert question.answer(tables).verdict == "supported"
        rewritten(tables, table, lambda row: {column: found})  # noqa: B023
        assert question.answer(tables).verdict == verdict


def test_without_noise_a_drift_that_breaks_refutes_nothing(tables):
    agreeing(tables)
    rewritten(tables, "drift", lambda row: {"verdict": "collapse" if row["sigma"] == 1.0 else "break"})
    assert question.answer(tables).verdict == "supported"


def test_the_evidence_says_what_the_tables_say(tables):
    agreeing(tables)
    where = lambda row: row["setting"] == NOISY.label and row["product"] == 0.2  # noqa: E731
    rewritten(tables, "collapse", lambda row: {"accuracy_verdict": "break"} if where(row) else {})
    known = {
        "accuracy_difference": -0.05,
        "accuracy_difference_low": -0.06,
        "accuracy_difference_high": -0.04,
    }
    rewritten(tables, "collapse", lambda row: known if where(row) and row["gamma"] == 4 else {})
    found = question.answer(tables)
    assert found.number == "accuracy agrees in 11 of 12"
    assert f"accuracy collapses in 11, breaks in 1 ({NOISY.label} at 0.2) and is open in 0" in found.evidence
    assert "0 of 1200 runs end no better than twice a guess; 0 diverged" in found.evidence
    assert "-0.050 [-0.060, -0.040], of p = 0.25, gamma = 4 at q rho = 0.2" in found.evidence


# The figures


def drawn(axes):
    """The heights of the marks."""
    return sorted(line.get_ydata()[0] for line in axes.lines if line.get_marker() not in ("None", None, ""))


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_marks_stand_at_the_values_of_the_table(tables, width):
    rows = read_table(tables / "collapse.json")
    rows[0]["log_eigenvalue"] = rows[0]["log_eigenvalue_low"] = rows[0]["log_eigenvalue_high"] = None
    panels = plot_collapse(rows, width).axes[1:]  # the first holds the key
    own = [row for row in rows if row["setting"] == NOISY.label]
    assert len(panels) == 2 * 4
    assert drawn(panels[0]) == sorted(row["accuracy"] for row in own)
    assert drawn(panels[1]) == sorted(row["log_eigenvalue"] for row in own[1:])
    words = [text.get_text() for text in panels[0].texts]
    assert words == [
        next(r["accuracy_verdict"] for r in own if r["product"] == product) for product in PRODUCTS
    ]


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_drifts_stand_at_the_values_of_the_table(tables, width):
    rows = [
        row | {"drift_low": 0.9 * row["drift"]}
        for row in read_table(tables / "drift.json")
        if row["drift"] > 0
    ]
    *by_sigma, scaled = plot_drift(rows, width).axes[1:]
    for axes, sigma in zip(by_sigma, valley.SIGMAS, strict=True):
        assert drawn(axes) == sorted(row["drift"] for row in rows if row["sigma"] == sigma)
    assert drawn(scaled) == pytest.approx(sorted(row["drift"] / 2 / row["product"] for row in rows))


@pytest.mark.parametrize("plot, name", [(plot_collapse, "collapse"), (plot_drift, "drift")])
def test_a_verdict_that_is_none_is_refused(tables: Path, plot, name):
    rows = read_table(tables / f"{name}.json")
    column = {"collapse": "accuracy_verdict", "drift": "verdict"}[name]
    rows[0][column] = "maybe"
    with pytest.raises(ResultsError, match=f"row 1: field '{column}' must be one of collapse, break, open"):
        plot(rows)
