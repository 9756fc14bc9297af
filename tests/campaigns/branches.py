"""Branch coverage of the package by its tests: kernels run as plain Python, child processes are counted.

`python -m tests.campaigns.branches [PYTEST ARGUMENTS]` runs the tests under coverage.py with
NUMBA_DISABLE_JIT=1 and, where nothing is said of which, all of them and writes a row per room. What needs a
GPU is left out by name (`[tool.coverage]` in pyproject.toml). Exit status 1 below `LEAST`, or where a test
fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from rst_theory.files import read_json, write_table

__all__ = ["LEAST", "rows_of"]

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
STATE = ROOT / "runs" / "coverage"
LEAST = 97.0
"""Per cent of lines and branches."""

COUNTS = ("num_statements", "missing_lines", "num_branches", "missing_branches")


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


def main(arguments: list[str]) -> int:
    """Measure, print the files that fall short, write the table."""
    STATE.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "1"}

    def coverage(*words: str) -> int:
        command = [sys.executable, "-m", "coverage", *words]
        return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode

    coverage("erase")
    failed = coverage("run", "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *arguments)
    report = STATE / "report.json"
    if coverage("combine", "--quiet") or coverage("json", "--quiet", "-o", str(report)):
        return 1
    files = read_json(report)["files"]
    for name, file in sorted(files.items()):
        if missing := [*file["missing_lines"], *map(tuple, file["missing_branches"])]:
            print(f"{name}: {file['summary']['percent_covered']:.1f} %, not run: {missing}")
    rows = rows_of(files)
    for row in rows:
        print(row)
    if not arguments:
        write_table(RESULTS, "branches", rows)
    return int(bool(failed) or rows[-1]["per_cent"] < LEAST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
