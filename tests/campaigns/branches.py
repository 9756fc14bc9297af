"""Branch coverage of the package by its tests; child processes are counted.

`python -m tests.campaigns.branches [TEST FILE ...] [--processes 2] [--kept]` runs all files of tests, or
those that are named, each under coverage.py in a process of its own. What a file of tests ran is kept under
runs/coverage, and it is run again where it, conftest.py or a file of the package that it ran has changed;
with --kept nothing is run. A line counts where a test ran it as its file reads now. Compiled code leaves no
trace: kernels count where tests/test_uncompiled.py runs them as plain Python. What needs a GPU is left out
where it says "# GPU only", and by name under `[tool.coverage]` in pyproject.toml. At the end of all files a
row per room is written. Exit status 1 below `LEAST`, or where a test fails.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rst_theory.files import read_json, write_json, write_table
from tests.campaigns.versions import counts

if TYPE_CHECKING:
    from coverage import Coverage

__all__ = ["LEAST", "rows_of"]

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
STATE = ROOT / "runs" / "coverage"
LEAST = 97.0
"""Per cent of lines and branches."""

COUNTS = ("num_statements", "missing_lines", "num_branches", "missing_branches")


def kept(test: Path) -> dict[str, Any]:
    """What is kept of a file of tests; nothing passed where it was never measured."""
    path = STATE / f"{test.stem}.json"
    nothing = {"test": test.name, "rests_on": {}, "passed": 0, "failed": ["not measured"], "seconds": 0}
    return dict(read_json(path)) if path.exists() else nothing


def measured(test: Path) -> dict[str, Any]:
    """What a file of tests did: how many passed, which failed, and what its data rest on."""
    known, folder = kept(test), STATE / test.stem
    if not known["failed"] and not _changed(known["rests_on"]):
        return known
    began, start = time.time(), time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    report = folder / "tests.xml"
    command = [sys.executable, "-m", "coverage", "run", f"--data-file={folder / 'part'}"]
    command += ["-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", str(test)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        subprocess.run(command, check=False, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    passed, _, failed = counts(report)
    data = _combined(test.stem, folder.glob("part.*"), keep=True).get_data()
    paths = [str(test), str(test.with_name("conftest.py")), *sorted(data.measured_files())]
    result = {
        "test": test.name,
        "rests_on": {
            p: _digest(p) if Path(p).stat().st_mtime < began else "changed meanwhile" for p in paths
        },
        "passed": passed,
        "failed": failed,
        "seconds": round(time.monotonic() - start),
    }
    write_json(STATE / f"{test.stem}.json", result)
    return result


def _digest(name: str) -> str:
    path = Path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "not there"


def _changed(digests: dict[str, str]) -> list[str]:
    """The files that read otherwise than they did."""
    return [name for name, digest in digests.items() if digest != _digest(name)]


def _combined(name: str, parts: Iterable[Path], keep: bool) -> Coverage:
    """Data of several processes or tests in one file, called `name`."""
    from coverage import Coverage

    coverage = Coverage(data_file=str(STATE / f"{name}.data"))
    coverage.erase()
    coverage.combine(map(str, parts), keep=keep)
    coverage.save()
    return coverage


def _of_today(results: Iterable[dict[str, Any]], folder: Path) -> Iterator[Path]:
    """The data of each file of tests, without what it ran of files that have changed since."""
    from coverage import CoverageData

    for result in results:
        if (source := (STATE / result["test"]).with_suffix(".data")).exists():
            copy = shutil.copy(source, folder)
            data = CoverageData(str(copy))
            data.read()
            data.purge_files(_changed(result["rests_on"]))
            yield copy


def rows_of(files: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each room and one for the whole, from the files of coverage.py's JSON report."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    for name, file in files.items():
        room = Path(name).parts[1].removesuffix(".py")
        for key in COUNTS:
            sums[room][key] += file["summary"][key]
            sums["all"][key] += file["summary"][key]
    rows = []
    for room in sorted(sums, key=lambda name: (name == "all", name)):
        n = sums[room]
        parts = n["num_statements"] + n["num_branches"]
        missed = n["missing_lines"] + n["missing_branches"]
        row = {"room": room, "lines": n["num_statements"], "lines_missed": n["missing_lines"]}
        row |= {"branches": n["num_branches"], "branches_missed": n["missing_branches"]}
        rows.append({**row, "per_cent": round(100 * (1 - missed / parts), 2) if parts else 100.0})
    return rows


def main(names: Sequence[Path], processes: int, only_kept: bool) -> int:
    """Measure, print what is not run, write the table."""
    tests = [path.resolve() for path in names] or sorted((ROOT / "tests").glob("test_*.py"))
    results = []
    with ThreadPoolExecutor(processes) as pool:
        for result in pool.map(kept if only_kept else measured, tests):
            results.append(result)
            print(f"{result['test']}: {result['passed']} passed, {result['seconds']} s", flush=True)
            for test in result["failed"]:
                print(f"  failed: {test}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        coverage = _combined("all", _of_today(results, Path(folder)), keep=False)
    report = STATE / "report.json"
    coverage.json_report(outfile=str(report))
    files = read_json(report)["files"]
    for name, file in sorted(files.items()):
        if missing := [*file["missing_lines"], *map(tuple, file["missing_branches"])]:
            print(f"{name}: {file['summary']['percent_covered']:.1f} %, not run: {missing}")
    rows = rows_of(files)
    for row in rows:
        print(row)
    if not names:
        passed = sum(result["passed"] for result in results)
        write_table(RESULTS, "branches", [{**row, "tests": passed} for row in rows])
    return int(any(result["failed"] for result in results) or rows[-1]["per_cent"] < LEAST)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", nargs="*", type=Path, metavar="TEST FILE")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kept", action="store_true", help="run nothing: count what is kept")
    arguments = parser.parse_args()
    sys.exit(main(arguments.tests, arguments.processes, arguments.kept))
