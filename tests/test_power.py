"""The ledger of the statistical tests: complete, within the suite's false alarm, and true."""

from __future__ import annotations

import ast
import math
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import test_models
import test_quadratics
import test_trials
import torch
from conftest import COMPARISON_ALARM, FALSE_ALARM, STATISTICAL_TESTS
from scipy import stats

from rst_theory.files import read_table
from tests.campaigns import power
from tests.campaigns.power import LEDGER, POWER

TESTS = Path(__file__).parent
THRESHOLDS = {"z_threshold", "COMPARISON_ALARM", "FALSE_ALARM"}
BY_HAND = {"standard_error", "sem", "stderr"}
TIMES = 200

BY_TEST = {entry.test: entry for entry in LEDGER}


# It is complete


@cache
def functions(file):
    """The functions of a test file by name, with their syntax."""
    text = (TESTS / file).read_text(encoding="utf-8")
    lines, found = text.splitlines(), {}
    if not any(word in text for word in THRESHOLDS | BY_HAND):
        return {}  # parsing takes longest
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node, "\n".join(lines[node.lineno - 1 : node.end_lineno])
    return found


def names(node):
    """Every name and attribute that is read in a piece of syntax."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr


def statistical(file):
    """The tests of a file that use a threshold, themselves or through a function of the file."""
    reads = {name: {*names(node)} for name, (node, _) in functions(file).items()}
    through, found = set(THRESHOLDS), set()
    while found != (found := {name for name, read in reads.items() if read & through}):
        through |= {name for name in found if not name.startswith("test_")}
    return {f"{file}::{name}" for name in found if name.startswith("test_")}


FILES = sorted(path.name for path in TESTS.glob("test_*.py"))
NOT_STATISTICAL = {
    "test_power.py::test_an_entry_says_what_its_test_does",
    "test_power.py::test_all_false_alarms_together_are_those_of_the_suite",
    "test_power.py::test_a_use_of_a_threshold_is_seen",
}


def test_every_use_of_a_threshold_is_in_the_ledger_and_nothing_else():
    found = set().union(*map(statistical, FILES)) - NOT_STATISTICAL
    assert found == {*BY_TEST} and len(BY_TEST) == len(LEDGER)


def test_a_use_of_a_threshold_is_seen(tmp_path, monkeypatch):
    (tmp_path / "test_x.py").write_text(
        "def far(z):\n    return z > conftest.z_threshold()\n"
        "def farther(z):\n    return far(z)\n"
        "def test_a():\n    assert not farther(1)\n"
        "def test_b():\n    assert p > COMPARISON_ALARM / 2\n"
        "def test_c():\n    assert True\n"
    )
    monkeypatch.setitem(globals(), "TESTS", tmp_path)
    assert statistical("test_x.py") == {"test_x.py::test_a", "test_x.py::test_b"}


def hand_written(node):
    """Comparisons with a number of standard errors that nothing computed."""
    for part in ast.walk(node):
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mult):
            sides = {type(side): side for side in (part.left, part.right)}
            number = sides.get(ast.Constant)
            if number is not None and isinstance(number.value, int | float) and number.value >= 2:
                other = part.right if part.left is number else part.left
                if BY_HAND & {*names(other)}:
                    yield part.lineno


@pytest.mark.parametrize("file", FILES)
def test_no_threshold_is_a_number_of_standard_errors_by_hand(file):
    asserted = [
        part
        for node, _ in functions(file).values()
        for part in ast.walk(node)
        if isinstance(part, ast.Assert)
    ]
    assert [line for part in asserted for line in hand_written(part)] == []


@pytest.mark.parametrize("bad", ["abs(x) < 4 * run.standard_error", "x.mean() <= stats.sem(y) * 6.5"])
def test_a_threshold_by_hand_is_seen(bad):
    assert list(hand_written(ast.parse(f"assert {bad}")))
    assert not list(hand_written(ast.parse("assert x < z_threshold(4) * run.standard_error")))


@pytest.mark.parametrize("entry", LEDGER, ids=lambda entry: entry.test)
def test_an_entry_says_what_its_test_does(entry):
    file, name = entry.test.split("::")
    _, source = functions(file)[name]
    text = (TESTS / file).read_text(encoding="utf-8")
    assert entry.written in (text if entry.written.startswith("TINY") else source)
    assert entry.comparisons >= 1 and entry.samples >= 1 and entry.compares
    assert 0 < entry.alarm <= 10 * COMPARISON_ALARM
    assert math.isfinite(entry.smallest) and entry.smallest > 0
    assert entry.defect.count("{:.2g}") == 1


def test_all_false_alarms_together_are_those_of_the_suite():
    assert math.fsum(entry.alarm for entry in LEDGER) <= FALSE_ALARM
    assert pytest.approx(COMPARISON_ALARM) == FALSE_ALARM / STATISTICAL_TESTS


def test_the_committed_table_is_the_ledger():
    assert read_table(power.RESULTS / "power.json") == power.rows()


# It is true: formulas against exact laws, and defects that are there


def test_the_smallest_defects_by_hand():
    """z(1e-8) = 5.7307 and z(.01) = 2.3263, to five digits from a table."""
    assert power.mean(100, 1e-8) == pytest.approx(0.80570, abs=2e-5)
    assert power.t_test(10**6, 1e-8) == pytest.approx(power.mean(10**6, 1e-8), rel=1e-3)
    # A coin of many throws is normal, and the exact law needs a whole number of heads.
    normal = power.cell(10**6, 0.5, 1e-8) * 0.5
    assert power.coin(10**6, 0.5, 1e-8) == pytest.approx(normal, abs=2e-6)
    # Two cells: chi-square is the square of the normal deviate of one of them, whose share is one half.
    assert power.chi_square(10**6, 2, 1e-8) == pytest.approx(power.mean(10**6, 1e-8), rel=1e-6)
    # Chi-square of n degrees has mean n and variance 2 n.
    assert power.variance(10**6, 1e-8) == pytest.approx(power.mean(10**6, 1e-8) * math.sqrt(2), rel=0.02)
    assert power.kolmogorov(10**4, 1e-8) == pytest.approx(power.massart(10**4, 1e-8), rel=2e-3)


def biased_coins(rng, monkeypatch):
    """Trials of which the fair coin is biased, one replica after the other."""
    entry = BY_TEST["test_trials.py::test_every_marginal_is_kept"]

    class Coins:
        """What the test asks of the coins of many replicas, drawn as sums."""

        def __init__(self, p, seed, kind, replicas):
            self.p, self.n = np.where(p == 0.5, 0.5 + entry.smallest, p), len(replicas)

        def __len__(self):
            return self.n

        def sum(self, axis):
            return rng.binomial(self.n, self.p)

    trials = test_trials.Trials

    fair = {}

    def of_seed(p, seed, kind):
        if seed not in fair:
            coins = trials(p, seed).sequence()
            fair[seed] = SimpleNamespace(sequence=lambda: coins)
        return fair[seed]

    monkeypatch.setattr(test_trials, "sequences", Coins)
    monkeypatch.setattr(test_trials, "Trials", of_seed)
    return lambda: test_trials.test_every_marginal_is_kept("independent")


def uneven_uniforms(rng, monkeypatch):
    """Uniforms of which one cell of 64 is too frequent."""
    more = BY_TEST["test_trials.py::test_uniforms_fill_the_unit_interval_evenly"].smallest / 64

    def uniform(seed, t):
        u = rng.random(len(t))
        moved = rng.random(len(t)) < more / (1 - 1 / 64)
        return np.where(moved, (17 + u) / 64, u)

    monkeypatch.setattr(test_trials, "uniform", uniform)
    return test_trials.test_uniforms_fill_the_unit_interval_evenly


def wide_weights(rng, monkeypatch):
    """Initial weights of the patches of a transformer whose variance is too large."""
    more = BY_TEST["test_models.py::test_the_transformer_begins_as_it_says"].smallest
    size = 192 * 4
    return lambda: test_models.assert_variance(
        torch.from_numpy(rng.normal(0, math.sqrt((1 + more) / 4), size)), 1 / 4
    )


def wrong_law(rng, monkeypatch):
    """A law whose distribution function is too small at one point: at the median of what is drawn."""
    less = BY_TEST["test_quadratics.py::test_simulation_without_noise_follows_the_law"].smallest
    law = SimpleNamespace(distances=np.array([0.5]), cdf=np.array([0.5 - less]))

    def check():
        threshold, distance = test_quadratics.distance_to(law, np.sort(rng.random(4096)))
        assert distance <= threshold

    return check


@pytest.mark.parametrize("defect", [biased_coins, uneven_uniforms, wide_weights, wrong_law])
def test_the_stated_defect_is_detected(defect, monkeypatch):
    """Each case fails falsely with probability at most COMPARISON_ALARM: of 200 tests that find a defect with
    probability .99 so few do."""
    check, red = defect(np.random.default_rng(12), monkeypatch), 0
    for _ in range(TIMES):
        try:
            check()
        except AssertionError:
            red += 1
    assert red >= stats.binom.ppf(COMPARISON_ALARM, TIMES, POWER)
