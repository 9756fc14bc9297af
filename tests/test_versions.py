"""The campaigns over versions and over branches, in short: how they read reports, and what they compare."""

import itertools
import math
from pathlib import Path

import pytest

from tests.campaigns import branches, fresh_clone, versions
from tests.campaigns.fingerprint import fingerprint

REPORT = """<testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="left_out"><skipped message="no GPU"/></testcase>
<testcase classname="a" name="wrong"><failure message="assert 1 == 2">assert 1 == 2</failure></testcase>
<testcase classname="" name="b"><error>ModuleNotFoundError: No module named 'torch'</error></testcase>
<testcase classname="c" name="both"><failure>1</failure><error>2</error></testcase>
</testsuite></testsuites>"""


def test_tests_are_counted_as_passed_failed_or_without_their_module(tmp_path):
    report = tmp_path / "tests.xml"
    report.write_text(REPORT)
    assert versions.counts(report) == (1, 1, ["a::wrong", "c::both"])


def test_numbers_that_differ_are_told_with_their_relative_difference():
    numbers, reference = {"a": 1.0, "b": 0.0, "c": -2.0}, {"a": 1.0, "b": 1e-300, "c": -2.5}
    assert list(versions.compare(numbers, reference)) == [("b", 1.0), ("c", 0.2)]


def test_fingerprints_of_different_numbers_are_not_compared():
    with pytest.raises(ValueError, match="name different numbers: b, c"):
        list(versions.compare({"a": 1.0, "b": 1.0}, {"a": 1.0, "c": 1.0}))


def test_a_fingerprint_is_of_finite_numbers_each_with_a_name_of_its_own():
    numbers = list(itertools.islice(fingerprint(), 300))
    assert len(dict(numbers)) == 300
    assert all(name and isinstance(value, float) and math.isfinite(value) for name, value in numbers)


def of(*numbers):
    names = ("num_statements", "missing_lines", "num_branches", "missing_branches")
    return {"summary": dict(zip(names, numbers, strict=True))}


def test_what_the_tests_ran_is_summed_over_rooms():
    files = {
        "rst_theory/cost/law.py": of(50, 2, 20, 1),
        "rst_theory/cost/symbolic.py": of(20, 0, 10, 7),
        "rst_theory/method.py": of(0, 0, 0, 0),
    }
    assert [tuple(row.values()) for row in branches.rows_of(files)] == [
        ("cost", 70, 2, 30, 8, 90.0),
        ("method", 0, 0, 0, 0, 100.0),
        ("all", 70, 2, 30, 8, 90.0),
    ]


def test_lines_of_a_file_that_has_changed_do_not_count(tmp_path, monkeypatch):
    coverage = pytest.importorskip("coverage")
    monkeypatch.setattr(branches, "STATE", tmp_path)
    same, changed = str(tmp_path / "same.py"), str(tmp_path / "changed.py")
    data = coverage.CoverageData(str(tmp_path / "test_x.data"))
    data.add_arcs({same: {(-1, 1)}, changed: {(-1, 1)}})
    for path in (same, changed):
        Path(path).write_text("1")
    rests_on = {path: branches._digest(path) for path in (same, changed)}
    Path(changed).write_text("2")
    (tmp_path / "now").mkdir()
    (copy,) = branches._of_today([{"test": "test_x.py", "rests_on": rests_on}], tmp_path / "now")
    now = coverage.CoverageData(str(copy))
    now.read()
    assert now.lines(same) == [1] and not now.lines(changed)


def test_a_stage_that_did_not_test_counts_no_test(tmp_path):
    report = tmp_path / "tests.xml"
    assert fresh_clone._counted(report, "test") == {"passed": 0, "failed": 0}
    report.write_text(REPORT)
    assert fresh_clone._counted(report, "check") == {"passed": 0, "failed": 0}
    assert fresh_clone._counted(report, "test") == {"passed": 1, "failed": 3}


def test_the_clone_is_set_up_checked_and_tested_by_what_the_makefile_has():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert "VENV := .venv" in makefile and "STAMP := $(VENV)/.installed" in makefile
    assert [words[1] for words in fresh_clone.STAGES.values()] == [".venv/.installed", "check", "test"]
