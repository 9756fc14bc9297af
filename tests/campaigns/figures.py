"""What the tables of the campaigns and of the experiments say of a promise, in a few words.

Each function raises `FileNotFoundError` where its table is not there yet.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rst_theory.files import read_table
from tests.campaigns.faults import PLANS
from tests.campaigns.kill_jobs import JOBS

__all__ = ["RESULTS", "Figures", "detects", "rooms", "table", "took"]

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
EXPERIMENTS = ROOT / "experiments" / "results"

KILLS = 100
"""Of each job, at random moments, that were asked for."""
EXECUTIONS = 1_000_000
SUITE_SECONDS = 600
LEAST_KILLED = 95.0
LEAST_COVERED = 97.0
FALSE_ALARM = 1e-6
MUTATED = ("notation", "method", "schedules", "trials", "cost", "bounds", "allocation", "optim")
"""The rooms whose mutants were asked for."""

Row = dict[str, Any]


class Figures(NamedTuple):
    """What a table says, and where that falls short of what was asked, why."""

    said: str = ""
    short: str = ""


def table(name: str, folder: Path | None = None) -> list[Row]:
    """The rows of a table of the campaigns, or of another folder.

    Raises:
        FileNotFoundError: it is not there yet.
    """
    return _rows((folder or RESULTS) / f"{name}.json")


@functools.cache
def _rows(path: Path) -> list[Row]:
    return read_table(path)


def _chosen(name: str, column: str, wanted: Sequence[str]) -> tuple[list[Row], str]:
    """The rows that are wanted, all where nothing is said; and which of them are not there."""
    rows = [row for row in table(name) if not wanted or row[column] in wanted]
    absent = [each for each in wanted if each not in {row[column] for row in rows}]
    return rows, f"not run yet: {', '.join(absent)}" if absent else ""


def _sum(rows: Iterable[Row], column: str) -> int:
    return sum(row[column] for row in rows)


def _and(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def took(name: str) -> str:
    """How long the parts of a campaign took together, by its table; "" where that does not say it."""
    rows = _or_none(name)
    if not rows or "seconds" not in rows[0]:
        return ""
    seconds = sum(row["seconds"] for row in rows)
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _per_cent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %"


# Kills


def _is_a_kill(row: Row) -> bool:
    return not row["kind"].startswith("SIG")


def _same(rows: Sequence[Row]) -> str:
    same, compared, broken = (
        _sum(rows, name) for name in ("bit-identical", "results compared", "broken files or promises")
    )
    return f"{same} of {compared} results bit-identical, {broken} broken files"


def _amiss(rows: Sequence[Row]) -> str:
    differ = _sum(rows, "results compared") - _sum(rows, "bit-identical")
    broken = _sum(rows, "broken files or promises")
    return _and(f"{differ} results differ" if differ else "", f"{broken} files broken" if broken else "")


def _not_run(rows: Sequence[Row], jobs: Iterable[str], kill: bool) -> str:
    """The kinds of kills, or of requests to stop, that are planned and have no row."""
    done = {(row["job"], row["kind"], row["started"]) for row in rows}
    planned = [(job, plan.kind, plan.started) for job in jobs for plan in PLANS if job in plan.jobs]
    absent = [f"{job} ({kind}, {how})" for job, kind, how in planned if (job, kind, how) not in done]
    absent = [text for text in absent if ("SIG" not in text) == kill]
    return f"not run yet: {', '.join(absent)}" if absent else ""


def kills(*jobs: str) -> Figures:
    """SIGKILLs of these jobs, of all where none is named."""
    jobs = jobs or tuple(JOBS)
    rows = [row for row in table("kills") if row["job"] in jobs and _is_a_kill(row)]
    at_random = [row for row in rows if row["kind"].startswith("random")]
    few = []
    for job in jobs:
        of_job = _sum((row for row in at_random if row["job"] == job), "kills")
        if of_job < KILLS:
            few.append(f"{of_job} kills at random moments of {job}, {KILLS} were asked for")
    at_writes = _sum(rows, "kills") - _sum(at_random, "kills")
    said = f"{_sum(at_random, 'kills')} SIGKILLs at random moments, {at_writes} at the points of its writes"
    return Figures(f"{said}: {_same(rows)}", _and(_amiss(rows), *few, _not_run(rows, jobs, kill=True)))


def whole_files() -> Figures:
    """Files that were looked at after every signal."""
    rows = table("kills")
    broken = _sum(rows, "broken files or promises")
    said = f"{broken} broken files after {_sum(rows, 'kills')} signals"
    return Figures(said, f"{broken} files broken" if broken else "")


def stops() -> Figures:
    """SIGINT and SIGTERM."""
    rows = [row for row in table("kills") if not _is_a_kill(row)]
    signals = ", ".join(f"{row['kills']} {row['kind']} of {row['job']} ({row['started']})" for row in rows)
    said = f"{signals}: {_same(rows)}" if rows else ""
    return Figures(said, _and(_amiss(rows), _not_run(rows, JOBS, kill=False)))


def left_behind() -> Figures:
    """Processes and temporary files after a kill."""
    rows = table("kills")
    processes, files = _sum(rows, "processes left"), _sum(rows, "temporary files left")
    said = f"{processes} processes left by {_sum(rows, 'kills')} signals, {files} temporary files"
    return Figures(said, f"{processes} processes left" if processes else "")


# Fuzz


def fuzz(*targets: str) -> Figures:
    """Executions of these targets, or of all."""
    rows, absent = _chosen("fuzz", "target", targets)
    n, found = _sum(rows, "executions"), _sum(rows, "findings")
    few = f"{EXECUTIONS:,} were asked for" if not targets and n < EXECUTIONS else ""
    said = f"{n:,} executions" + ("" if targets else f" of {len(rows)} targets") + f", {found} findings"
    return Figures(said if rows else "", _and(few, f"{found} findings" if found else "", absent))


# Mutants and coverage


def _mutated_files() -> set[str]:
    package = ROOT / "rst_theory"
    found = {path for room in MUTATED for path in (package / room).rglob("*.py")}
    found |= {path for room in MUTATED if (path := package / f"{room}.py").exists()}
    return {path.relative_to(package).as_posix() for path in found if path.name != "__init__.py"}


def mutants() -> Figures:
    """The share that is killed, and what was not tried."""
    rows = table("mutants")
    n, killed, waiting = (_sum(rows, name) for name in ("mutants", "killed", "not_run"))
    absent, tried = len(_mutated_files() - {row["file"] for row in rows}), n - waiting
    said = f"{killed:,} of {tried:,} mutants in {len(rows)} files killed ({_per_cent(killed, tried)})"
    few = f"fewer than {LEAST_KILLED:g} % killed" if 100 * killed < LEAST_KILLED * tried else ""
    return Figures(
        said,
        _and(
            few,
            f"{waiting:,} mutants not run" if waiting else "",
            f"{absent} files not tried yet" if absent else "",
        ),
    )


def survivors() -> Figures:
    """Those that have a reason, and those that have none."""
    rows = table("mutants")
    listed, others = _sum(rows, "equivalent"), _sum(rows, "unexplained")
    return Figures(
        f"{listed} survivors are listed with their reasons",
        f"{others} survivors are neither killed nor explained" if others else "",
    )


def coverage() -> Figures:
    """Lines and branches."""
    row = next(row for row in table("branches") if row["room"] == "all")
    few = f"{LEAST_COVERED:g} % were asked for" if row["per_cent"] < LEAST_COVERED else ""
    of_what = f"{row['lines']:,} lines and {row['branches']:,} branches, by {row['tests']:,} tests"
    return Figures(f"{row['per_cent']} % of {of_what}", few)


def rooms() -> list[tuple[str, str, str]]:
    """Each room of the package with the words for its mutants and for its coverage."""
    killed: dict[str, list[Row]] = {}
    covered: dict[str, str] = {}
    for row in _or_none("mutants"):
        killed.setdefault(row["file"].split("/")[0].removesuffix(".py"), []).append(row)
    for row in _or_none("branches"):
        covered[row["room"]] = f"{row['per_cent']} %"
    names = sorted({*killed, *covered, *MUTATED} - {"all"}) + (["all"] if "all" in covered else [])
    return [(name, _of_room(name, killed.get(name, [])), covered.get(name, "not run yet")) for name in names]


def _or_none(name: str) -> list[Row]:
    try:
        return table(name)
    except FileNotFoundError:
        return []


def _of_room(name: str, rows: list[Row]) -> str:
    if name not in MUTATED:
        return ""
    tried = _sum(rows, "mutants") - _sum(rows, "not_run")
    if not tried:
        return "not run yet"
    files = {file for file in _mutated_files() if file.split("/")[0].removesuffix(".py") == name}
    listed, others = _sum(rows, "equivalent"), _sum(rows, "unexplained")
    said = f"{_sum(rows, 'killed'):,} of {tried:,} ({_per_cent(_sum(rows, 'killed'), tried)})"
    said += f", {listed} equivalent" if listed else ""
    said += f", {others} unexplained" if others else ""
    return said + (f"; {len(rows)} of {len(files)} files" if len(rows) < len(files) else "")


# Versions


def versions(*environments: str) -> Figures:
    """Tests and numbers in these environments."""
    rows, absent = _chosen("versions", "environment", environments)
    said, bad = [], []
    for row in rows:
        inside = ", ".join(f"{name} {row[name]}" for name in ("numpy", "scipy", "sympy", "torch"))
        said.append(f"{row['environment']} (Python {row['python']}, {inside}): {row['passed']:,} passed")
        if row["failed"]:
            bad.append(f"{row['failed']} failed in {row['environment']}")
    return Figures("; ".join(said), _and(*bad, absent))


def same_numbers() -> Figures:
    """By how much the numbers of the environments differ."""
    rows = table("versions")
    numbers, largest = rows[0]["numbers"], max(row["largest_difference"] for row in rows)
    said = (
        f"{numbers:,} numbers in each of {len(rows)} environments, largest relative difference {largest:.1e}"
    )
    return Figures(said, "more than 1e-10" if largest > 1e-10 else "")


# A fresh clone


def _stages() -> dict[str, Row]:
    return {row["stage"]: row for row in table("fresh_clone")}


def suite() -> Figures:
    """The tests and their time."""
    if (row := _stages().get("test")) is None:
        return Figures(short="the checks before it failed")
    return Figures(
        f"{row['passed']:,} passed, {row['failed']} failed, in {row['seconds'] / 60:.1f} minutes",
        _and(
            f"{row['failed']} failed" if row["failed"] else "",
            f"{SUITE_SECONDS // 60} minutes were asked for" if row["seconds"] > SUITE_SECONDS else "",
        ),
    )


def set_up() -> Figures:
    """The stages and their times."""
    rows = table("fresh_clone")
    said = ", ".join(f"{row['stage']} {row['seconds']} s" for row in rows)
    return Figures(said, "; ".join(f"{row['stage']} failed" for row in rows if row["status"]))


# Limits


def limits(*cases: str) -> Figures:
    """What the package did in these cases."""
    rows, absent = _chosen("limits", "case", cases)
    broken = [row["case"] for row in rows if row["kept"] != "yes"]
    slowest, largest = (max((row[name] for row in rows), default=0) for name in ("seconds", "peak_mib"))
    said = f"{len(rows) - len(broken)} of {len(rows)} cases kept, at most {slowest:.1f} s and {largest:,} MiB"
    return Figures(said if rows else "", _and(f"broken: {', '.join(broken)}" if broken else "", absent))


# Statistics and audit


def power() -> Figures:
    """The ledger of the statistical tests."""
    rows = table("power")
    total = sum(row["false_alarm"] for row in rows)
    said = (
        f"{len(rows)} tests with {_sum(rows, 'comparisons'):,} comparisons, false alarms {total:.1e} in all"
    )
    return Figures(said, f"more than {FALSE_ALARM:g}" if total > FALSE_ALARM else "")


def detects(test: str) -> str:
    """The smallest defect that a statistical test detects; "" of a test that is none.

    Args:
        test: as `cost::the_trials_follow_the_law`.
    """
    file, _, name = test.partition("::")
    found = [row["defect"] for row in _or_none("power") if row["test"] == f"test_{file}.py::test_{name}"]
    return f"detects {found[0]}" if found else ""


def audit() -> Figures:
    """Known vulnerabilities."""
    rows = table("audit")
    unknown = [row for row in rows if row["vulnerabilities"] == "not reachable"]
    bad = [row["package"] for row in rows if row["vulnerabilities"] not in ("none", "not reachable")]
    core = sum(bool(row["purpose"]) for row in rows)
    said = f"{core} core dependencies of {len(rows)} pinned packages"
    return Figures(
        f"{said}; {len(rows) - len(unknown)} looked up",
        _and(
            f"known vulnerabilities in {', '.join(bad)}" if bad else "",
            f"the vulnerability service was not reachable for {len(unknown)} packages" if unknown else "",
        ),
    )


# Tables of the experiments


def agreement() -> Figures:
    """Random instances beside every bound."""
    rows = table("agreement", EXPERIMENTS)
    violations, instances = _sum(rows, "violations"), max(row["instances"] for row in rows)
    said = f"{_sum(rows, 'compared'):,} comparisons of {len(rows)} bounds on {instances:,} random instances"
    return Figures(f"{said}: {violations} violations", f"{violations} violations" if violations else "")


def one_step() -> Figures:
    """The one-step values beside programs."""
    rows = table("one_step", EXPERIMENTS)
    largest, bad = max(row["largest_difference"] for row in rows), _sum(rows, "violations")
    said = (
        f"{_sum(rows, 'points'):,} random points in every regime, largest relative difference {largest:.1e}"
    )
    return Figures(f"{said}, {bad} violations", f"{bad} violations" if bad else "")


def tightness() -> Figures:
    """Bounds over runs beside programs."""
    rows = table("tightness_summary", EXPERIMENTS)
    bad, unsolved = _sum(rows, "violations"), _sum(rows, "unsolved")
    said = (
        f"{_sum(rows, 'settings'):,} settings: {bad} violations, {unsolved} programs not solved and left out"
    )
    return Figures(said, f"{bad} violations" if bad else "")


def pairs_spent() -> Figures:
    """Runs beside the exact law."""
    rows = table("realized_cost", EXPERIMENTS)
    n, off = _sum(rows, "runs"), _sum(rows, "unannounced")
    said = f"{n:,} runs, {off} of them spent other pairs than announced"
    return Figures(said, f"{off} runs off plan" if off else "")


def peers() -> Figures:
    """Defects of another package, looked for in ours."""
    rows = table("peers", EXPERIMENTS)
    right, theirs = _sum(rows, "ours_is_right"), _sum(rows, "peer_is_right")
    peer = " ".join(rows[0]["of"].split()[:2])
    said = f"ours is right in {right} of {len(rows)} probes, {peer} in {theirs}"
    return Figures(said, f"wrong in {len(rows) - right}" if right < len(rows) else "")


def targets(*tables: str) -> Figures:
    """Speeds and sizes that were aimed at."""
    rows = [row for name in tables for row in table(name, EXPERIMENTS) if row["met"] is not None]
    met = sum(bool(row["met"]) for row in rows)
    missed = f"{len(rows) - met} not reached" if met < len(rows) else ""
    return Figures(f"{met} of {len(rows)} targets reached", missed)
