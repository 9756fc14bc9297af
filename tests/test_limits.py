"""The limits of resources in a small form; that with memory and time is `tests/campaigns/limits.py`."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

import rst_theory as rst
from rst_theory.files import read_table
from tests.campaigns import limits

SCALE = 2e-4
"""2000 steps, 200 coordinates."""


@pytest.mark.parametrize("name", limits.CASES)
def test_a_use_at_its_limit_is_right_or_refused(name):
    row = limits.run(name, SCALE)
    assert row["kept"] == "yes", row


def test_the_campaign_sees_what_is_wrong(monkeypatch):
    """A wrong value, a bad argument that is taken, a refusal where there should be a value."""
    wrong = {
        "value": limits.Case(lambda T, d: limits.Outcome(1.0, 2.0, 0.5), 10**6),
        "nan": limits.Case(lambda T, d: limits.Outcome(float("nan"), 2.0, 0.5), 10**6),
        "taken": limits.Case(lambda T, d: None, 10**6, refuses="anything"),
        "other words": limits.Case(lambda T, d: rst.CostLaw(0.5, 0), 10**6, refuses="anything"),
        "refused": limits.Case(lambda T, d: rst.CostLaw(0.5, 0), 10**6),
    }
    monkeypatch.setattr(limits, "CASES", wrong)
    for name in wrong:
        assert limits.run(name, SCALE)["kept"] == "no", name


def test_the_campaign_runs_cases_apart_keeps_them_and_writes_its_table(tmp_path, monkeypatch, capsys):
    places = ["--scale", str(SCALE), "--state", str(tmp_path / "state"), "--results", str(tmp_path)]
    one = "a schedule of no steps"
    monkeypatch.setattr(limits, "CASES", {one: limits.CASES[one]})
    assert limits.main(places) == 0
    (row,) = read_table(tmp_path / "limits.json")
    assert (row["case"], row["kept"]) == (one, "yes") and 0 < row["peak_mib"] < row["most_mib"]
    monkeypatch.setattr(limits.subprocess, "run", lambda *_, **__: pytest.fail("it ran again"))
    assert limits.main(places) == 0
    changed = next((tmp_path / "state").iterdir())
    changed.write_text(json.dumps(row | {"kept": "no"}))
    assert limits.main(places) == 1
    assert "1 broken: a schedule of no steps" in capsys.readouterr().out


def test_a_case_that_holds_too_much_memory_or_dies_is_broken(tmp_path, monkeypatch):
    row = limits.run("one step", SCALE)
    monkeypatch.setattr(limits, "_in_a_process", lambda *_: row | {"peak_mib": row["most_mib"] + 1})
    assert limits._kept("one step", SCALE, tmp_path)["kept"].startswith("no: more than 400 MiB")
    monkeypatch.undo()
    monkeypatch.setattr(limits.sys, "executable", "false")
    assert limits._in_a_process("one step", SCALE)["found"].startswith("status 1")


def test_the_coins_of_a_long_run_take_little_memory_and_are_those_of_its_parts():
    """A million of them: each would take two hundred bytes if all were drawn at once."""
    p = np.random.default_rng(0).random(10**6)
    tracemalloc.start()
    try:
        coins = rst.Trials(p, seed=5, replica=3).sequence()
        assert tracemalloc.get_traced_memory()[1] < 120 * 2**20
    finally:
        tracemalloc.stop()
    for first in (0, 2**18 - 5, 2**18, 2**19 - 1, 10**6 - 10):
        for t in range(first, first + 10):
            assert coins[t] == rst.trials.coin(p[t], 5, t, 3)
