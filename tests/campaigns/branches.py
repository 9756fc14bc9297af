"""Branch coverage of the package by its tests; child processes are counted.

`python -m tests.campaigns.branches [TEST FILE ...] [--processes 2]` runs each file of tests under coverage.py,
in a process of its own, and where none is named, all of them; then it writes a row per room. What a file of
tests ran is kept under runs/coverage, and not measured again while that file, conftest.py and all of the
package that it ran read the same. Compiled code leaves no trace: kernels count where tests/test_uncompiled.py
runs them as plain Python. What needs a GPU is left out where it says "# GPU only", and by name in
`[tool.coverage]` in pyproject.toml. Exit status 1 below `LEAST`, or where a test fails.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coverage import Coverage

from rst_theory.files import read_json, write_json, write_table
from tests.campaigns.versions import counts

__all__ = ["LEAST", "rows_of"]

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
STATE = ROOT / "runs" / "coverage"
LEAST = 97.0
"""Per cent of lines and branches."""

COUNTS = ("num_statements", "missing_lines", "num_branches", "missing_branches")


def measured(test: Path) -> dict[str, Any]:
    """What a file of tests did: how many passed, which failed, and what its data rest on."""
    kept, folder = STATE / f"{test.stem}.json", STATE / test.stem
    if kept.exists():
        known = read_json(kept)
        if not known["failed"] and known["rests_on"] == _digests(known["rests_on"]):
            return dict(known)
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    report = folder / "tests.xml"
    command = [
        sys.executable,
        "-m",
        "coverage",
        "run",
        f"--data-file={folder / 'part'}",
        "-m",
        "pytest",
        "-q",
    ]
    command += ["-p", "no:cacheprovider", f"--junitxml={report}", str(test)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        subprocess.run(command, check=False, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    passed, _, failed = counts(report)
    data = _combined(test.stem, folder.glob("part.*")).get_data()
    result = {
        "test": test.name,
        "rests_on": _digests([str(test), str(test.with_name("conftest.py")), *data.measured_files()]),
        "passed": passed,
        "failed": failed,
        "seconds": round(time.monotonic() - start),
    }
    write_json(kept, result)
    return result


def _combined(name: str, parts: Iterable[Path]) -> Coverage:
    """Data of several processes or tests in one file, called `name`."""
    coverage = Coverage(data_file=str(STATE / f"{name}.data"))
    coverage.erase()
    coverage.combine(map(str, parts), keep=True)
    coverage.save()
    return coverage


def _digests(names: Iterable[str]) -> dict[str, str]:
    """What each file holds, by its name; nothing for one that is not there any more."""
    paths = map(Path, sorted(names))
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.exists() else "" for p in paths}


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


def main(names: Sequence[Path], processes: int) -> int:
    """Measure, print what is not run, write the table."""
    tests = [path.resolve() for path in names] or sorted((ROOT / "tests").glob("test_*.py"))
    passed, failed = 0, False
    with ThreadPoolExecutor(processes) as pool:
        for result in pool.map(measured, tests):
            passed += result["passed"]
            failed |= bool(result["failed"])
            print(f"{result['test']}: {result['passed']} passed, {result['seconds']} s", flush=True)
            for test in result["failed"]:
                print(f"  failed: {test}", flush=True)
    coverage = _combined("all", [STATE / f"{test.stem}.data" for test in tests])
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
        write_table(RESULTS, "branches", [{**row, "tests": passed} for row in rows])
    return int(failed or rows[-1]["per_cent"] < LEAST)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", nargs="*", type=Path, metavar="TEST FILE")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    sys.exit(main(arguments.tests, arguments.processes))
