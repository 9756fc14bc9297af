"""The note on reliability: it follows from the tables, names what exists, and hides no shortfall."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from tests.campaigns import figures, note
from tests.campaigns.kill_jobs import JOBS
from tests.campaigns.promises import SECTIONS, promise
from tests.campaigns.versions import ENVIRONMENTS

TESTS = Path(__file__).parent
CAMPAIGNS = TESTS / "campaigns"
PROMISES = [each for section in SECTIONS for each in section.promises]
HELD = sorted({name for each in PROMISES for name in each.held})


def statements(path):
    return ast.parse(path.read_text(encoding="utf-8")).body


def functions(path):
    return [node for node in statements(path) if isinstance(node, ast.FunctionDef)]


def targets():
    """Of the Makefile."""
    return re.findall(r"^(\w+):", (TESTS.parent / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def asked(function):
    """What the promises ask of the tables through a function."""
    return {
        name
        for each in PROMISES
        if getattr(each.figures, "func", None) is function
        for name in each.figures.args
    }


# What it says


def test_the_committed_note_follows_from_the_committed_tables():
    committed = note.NOTE.read_text(encoding="utf-8")
    assert committed == note.note(), "`python -m tests.campaigns.note` writes the note anew"


def test_its_lines_are_short_and_its_links_lead_somewhere():
    text = note.note()
    anchors = re.findall(r'<a id="(\w+)"></a>', text)
    assert len(anchors) == len({*anchors})
    assert {*re.findall(r"\]\(#(\w+)\)", text)} <= {*anchors}
    assert [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")] == []
    for file, anchor in re.findall(r"`(\w+\.md)#(\w+)`", text):
        assert f'<a id="{anchor}"></a>' in (note.NOTE.parent / file).read_text(encoding="utf-8")


def test_no_cell_of_a_table_breaks_its_row():
    columns = {"| p": 3, "| c": 4, "| r": 3}
    for table in re.findall(r"(?:^\|.*\n)+", note.note(), re.MULTILINE):
        rows = table.splitlines()
        assert {row.count("|") for row in rows} == {columns[rows[0][:3]] + 1}


# What it names is there


def test_every_test_that_is_named_is_there():
    named = {}
    for name in HELD:
        file, _, test = name.partition("::")
        if not name.startswith("make "):
            named.setdefault(file, set()).update([f"test_{test}"] if test else [])
    for file, tests in named.items():
        path = TESTS / f"test_{file}.py"
        assert path.exists(), file
        assert not tests or tests <= {node.name for node in functions(path)}, file


def test_every_file_of_tests_holds_a_promise():
    """One of its own, or one that is there: in tests/campaigns/promises.py."""
    files = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    assert files - {name.split("::")[0] for name in HELD} == set()


def test_every_promise_is_held_by_something_or_says_that_it_is_not():
    assert [each.words for each in PROMISES if not each.held and not each.short] == []
    assert len({each.words for each in PROMISES}) == len(PROMISES)


def test_every_target_that_is_named_is_one_of_the_makefile():
    assert {name.removeprefix("make ") for name in HELD if name.startswith("make ")} <= {*targets()}
    for campaign in note.CAMPAIGNS:
        way, _, name = note.command(campaign.module).rpartition(" ")
        assert name in targets() if way == "make" else name == f"tests.campaigns.{campaign.module}"


def test_every_campaign_that_writes_a_table_is_there():
    found = {
        (path.stem, name)
        for path in CAMPAIGNS.glob("*.py")
        for name in re.findall(r'write_table\((?:asked\.results|results|RESULTS), "(\w+)"', path.read_text())
    }
    assert found == {(campaign.module, campaign.table) for campaign in note.CAMPAIGNS}


def test_every_limit_is_asked_for_and_no_other():
    cases = {
        function.name.replace("_", " ")
        for function in functions(CAMPAIGNS / "limits.py")
        if any(isinstance(node, ast.Call) and node.func.id == "case" for node in function.decorator_list)
    }
    assert asked(figures.limits) == cases


def test_every_parser_that_is_fuzzed_is_asked_for_and_no_other():
    (parsers,) = (
        {key.value for key in node.value.keys}
        for node in statements(CAMPAIGNS / "fuzz_targets.py")
        if isinstance(node, ast.AnnAssign) and node.target.id == "TARGETS"
    )
    assert asked(figures.fuzz) == parsers


def test_every_job_and_environment_is_asked_for_and_no_other():
    assert asked(figures.kills) == {*JOBS}
    assert asked(figures.versions) == {environment.name for environment in ENVIRONMENTS}


# What falls short is said


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Writes a table in place of the committed ones, of which there are none."""
    monkeypatch.setattr(figures, "RESULTS", tmp_path)

    def write(name, *rows):
        (tmp_path / f"{name}.json").write_text(json.dumps({"columns": list(rows[0]), "rows": rows}))

    return write


def test_a_table_that_is_not_there_is_said(tables):
    text = note.note()
    for campaign in note.CAMPAIGNS:
        assert f"not run yet (`{note.command(campaign.module)}`)" in text
    assert text.count("[**not run yet**](#short)") == len(note.CAMPAIGNS)


def kill(job, kind, started="forked", kills=100):
    row = {"job": job, "kind": kind, "started": started, "kills": kills, "results compared": 9}
    row |= {"bit-identical": 9, "broken files or promises": 0, "temporary files left": 0}
    return row | {"processes left": 0, "seconds": 1800.0}


def test_kills_that_are_too_few_or_lose_something_are_said(tables):
    at_writes = kill("report", "every point of the writes", kills=5)
    rows = [at_writes, kill("report", "random moment"), kill("report", "random moment", "command line", 10)]
    tables("kills", *rows, kill("pool", "random moment", kills=99))
    said, short = figures.kills("report")
    assert said == "110 SIGKILLs at random moments, 5 at the points of its writes: " + (
        "27 of 27 results bit-identical, 0 broken files"
    )
    assert short == ""
    short = figures.kills("pool").short
    assert short.startswith(
        "99 kills at random moments of pool, 100 were asked for; not run yet: pool (every point"
    )
    assert figures.kills("train").short.startswith("0 kills at random moments of train")
    assert "train (SIGINT, forked)" in figures.stops().short and "random" not in figures.stops().short
    assert figures.took("kills") == "2.0 h"


def test_results_that_differ_after_a_kill_are_said(tables):
    row = kill("grid", "random moment")
    bad = {"bit-identical": 7, "broken files or promises": 1, "processes left": 3}
    tables("kills", row | bad, kill("grid", "SIGTERM") | bad)
    assert figures.kills("grid").short.startswith("2 results differ; 1 files broken; not run yet")
    assert figures.stops().short.startswith("2 results differ; 1 files broken; not run yet")
    assert figures.whole_files() == ("2 broken files after 200 signals", "2 files broken")
    assert figures.left_behind().short == "6 processes left"


@pytest.mark.parametrize("executions, few", [(999_999, "1,000,000 were asked for"), (1_000_000, "")])
def test_fuzz_that_is_too_short_or_finds_something_is_said(tables, executions, few):
    rows = [
        {"target": name, "executions": n, "findings": 0} for name, n in (("word", executions - 9), ("idx", 9))
    ]
    tables("fuzz", *rows)
    assert figures.fuzz() == (f"{executions:,} executions of 2 targets, 0 findings", few)
    assert figures.fuzz("idx", "cifar") == ("9 executions, 0 findings", "not run yet: cifar")
    assert figures.fuzz("cifar") == ("", "not run yet: cifar")


def test_findings_of_the_fuzz_are_said(tables):
    tables("fuzz", {"target": "idx", "executions": 10**7, "findings": 2})
    assert figures.fuzz().short == figures.fuzz("idx").short == "2 findings"


def mutated(**changes):
    return {
        "file": "method.py", "mutants": 100, "killed": 95, "equivalent": 5, "unexplained": 0, "not_run": 0
    } | changes  # fmt: skip


def test_mutants_that_live_wait_or_were_not_tried_are_said(tables, monkeypatch):
    monkeypatch.setattr(figures, "MUTATED", ("method", "trials"))
    trials = mutated(file="trials.py", killed=94)
    tables("mutants", mutated(), trials | {"unexplained": 1})
    assert figures.mutants() == ("189 of 200 mutants in 2 files killed (94.50 %)", "fewer than 95 % killed")
    short = "1 survivors are neither killed nor explained"
    assert figures.survivors() == ("10 survivors are listed with their reasons", short)
    figures._rows.cache_clear()
    tables("mutants", mutated(mutants=110, not_run=10))
    assert figures.mutants().short == "10 mutants not run; 1 files not tried yet"
    assert figures.survivors().short == ""
    assert figures.rooms() == [
        ("method", "95 of 100 (95.00 %), 5 equivalent", "not run yet"),
        ("trials", "not run yet", "not run yet"),
    ]


@pytest.mark.parametrize("per_cent, short", [(96.99, "97 % were asked for"), (97.0, "")])
def test_lines_that_are_not_run_are_said(tables, per_cent, short):
    row = {"lines": 10_000, "branches": 2000, "per_cent": per_cent, "tests": 8000}
    tables("branches", {"room": "cost"} | row | {"per_cent": 99.5}, {"room": "all"} | row)
    said = f"{per_cent} % of 10,000 lines and 2,000 branches, by 8,000 tests"
    assert figures.coverage() == (said, short)
    assert figures.rooms()[-1] == ("all", "", f"{per_cent} %")


def test_versions_that_fail_differ_or_are_not_there_are_said(tables):
    row = {"environment": "newest", "python": "3.11.9", "numpy": "2.4", "scipy": "1.17", "sympy": "1.14"}
    row |= {"torch": "none", "passed": 5000, "failed": 0, "numbers": 7000, "largest_difference": 1e-12}
    tables("versions", row, row | {"environment": "oldest", "failed": 2, "largest_difference": 2e-10})
    said = "newest (Python 3.11.9, numpy 2.4, scipy 1.17, sympy 1.14, torch none): 5,000 passed"
    assert figures.versions("newest") == (said, "")
    assert figures.versions("oldest").short == "2 failed in oldest"
    assert figures.versions("Python 3.13") == ("", "not run yet: Python 3.13")
    assert figures.same_numbers() == (
        "7,000 numbers in each of 2 environments, largest relative difference 2.0e-10",
        "more than 1e-10",
    )


def test_limits_that_are_broken_or_not_run_are_said(tables):
    row = {"case": "one step", "kept": "yes", "seconds": 1.25, "peak_mib": 1234}
    tables("limits", row, row | {"case": "a table", "kept": "no: more than 1500 MiB", "peak_mib": 1600})
    assert figures.limits("one step") == ("1 of 1 cases kept, at most 1.2 s and 1,234 MiB", "")
    assert figures.limits("one step", "a table").short == "broken: a table"
    assert figures.limits("a formula") == ("", "not run yet: a formula")


def test_vulnerabilities_and_what_was_not_looked_up_are_said(tables):
    row = {"package": "numpy", "purpose": "arrays", "vulnerabilities": "none"}
    bad = {"package": "rich", "vulnerabilities": "X-1 (mended in 2)"}
    away = {"package": "idna", "purpose": "", "vulnerabilities": "not reachable"}
    tables("audit", row, row | bad, row | away)
    assert figures.audit() == (
        "2 core dependencies of 3 pinned packages; 2 looked up",
        "known vulnerabilities in rich; the vulnerability service was not reachable for 1 packages",
    )


def test_false_alarms_that_are_too_many_are_said(tables):
    row = {"test": "test_x.py::test_y", "comparisons": 3, "false_alarm": 6e-7, "defect": "a bias of 0.1"}
    tables("power", row, row | {"test": "test_x.py::test_z"})
    assert figures.power() == (
        "2 tests with 6 comparisons, false alarms 1.2e-06 in all",
        "more than 1e-06",
    )
    assert (figures.detects("x::y"), figures.detects("x::other")) == ("detects a bias of 0.1", "")


def test_what_falls_short_is_said_in_its_row_and_in_the_list(tables, monkeypatch):
    row = {"target": "word", "executions": 5, "findings": 1}
    tables("fuzz", row, row | {"target": "idx", "findings": 0})
    promises = (
        promise("Words are read", "fuzz", figures=lambda: figures.fuzz("word"), short="slowly"),
        promise("Images are read", "fuzz", figures=lambda: figures.fuzz("idx")),
        promise("Cards are read", short="by nobody"),
    )
    monkeypatch.setattr(note, "SECTIONS", (SECTIONS[0]._replace(promises=promises),))
    text = note.note()
    assert "\n3 promises, of which 2 fall short" in text
    words, cards = "1 findings; slowly", "by nobody"
    assert f"\n- [Words are read](#kit): {words}.\n- [Cards are read](#kit): {cards}.\n\n" in text
    assert f"\n| Words are read | `fuzz` | 5 executions, 1 findings; **short:** {words} |\n" in text
    assert "\n| Images are read | `fuzz` | 5 executions, 0 findings |\n" in text
    assert f"\n| Cards are read |  | **short:** {cards} |\n" in text
