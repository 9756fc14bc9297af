"""Known vulnerabilities of what the package is installed with, and why each core dependency is there.

`python -m tests.campaigns.audit [--tool PROGRAM]` has pip-audit (a program of its own, not among the
package's dependencies) look up every version in constraints.txt with its vulnerability service. Exit status 0
where none is known, 1 where one is, 3 where service or program are out of reach: then nothing is known.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rst_theory.files import write_table

__all__ = ["CORE", "main"]

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
SECONDS = 300

CORE = {
    "numpy": "arrays: schedules, trials, cost laws, the reference simulation",
    "scipy": "special functions, quantiles, root finding, optimisation",
    "sympy": "exact forms of schedules, costs and bounds",
    "matplotlib": "figures",
    "torch": "the optimizer and training; simulation on a GPU",
    "typer": "the command line",
    "rich": "tables and progress on a terminal",
    "jinja2": "the report, with everything escaped",
}
"""The dependencies without which the package does not work, and what each is for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Look every version up, print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tool", default="pip-audit", help="the program pip-audit")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the table")
    asked = parser.parse_args(arguments)
    pinned = _pinned(ROOT / "constraints.txt")
    report, why = _report(asked.tool)
    if report is None:
        rows = [_row(name, version, "not reachable") for name, version in pinned.items()]
        print(f"nothing is known of {len(rows)} packages: {why}", file=sys.stderr)
    else:
        known = {_canonical(d["name"]): d for d in report["dependencies"]}
        rows = [_row(name, version, _found(known.get(name))) for name, version in pinned.items()]
    rows.sort(
        key=lambda row: (list(CORE).index(row["package"]) if row["purpose"] else len(CORE), row["package"])
    )
    write_table(asked.results, "audit", rows)
    unknown = [row for row in rows if row["vulnerabilities"] == "not reachable"]
    bad = [row for row in rows if row["vulnerabilities"] not in ("none", "not reachable")]
    for row in bad:
        print(f"{row['package']} {row['version']}: {row['vulnerabilities']}")
    print(f"{len(rows)} packages, {len(bad)} with known vulnerabilities, {len(unknown)} not looked up")
    return 1 if bad else 3 if unknown else 0


def _pinned(path: Path) -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {
        _canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _row(name: str, version: str, found: str) -> dict[str, Any]:
    return {"package": name, "version": version, "purpose": CORE.get(name, ""), "vulnerabilities": found}


def _found(dependency: dict[str, Any] | None) -> str:
    """The names of the known vulnerabilities, with the versions that mend them."""
    if dependency is None or "skip_reason" in dependency:  # an index without such data knows no package
        return "not reachable"
    said = [
        f"{v['id']} (mended in {', '.join(v['fix_versions']) or 'no version'})" for v in dependency["vulns"]
    ]
    return "; ".join(said) or "none"


def _report(tool: str) -> tuple[dict[str, Any] | None, str]:
    """What the program found, or None and why there is nothing; it ends with 1 in either case."""
    program = shutil.which(tool)
    if program is None:
        return None, f"there is no program {tool}"
    command = [program, "--requirement", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
        report = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return None, f"the service did not answer within {SECONDS} s"
    except json.JSONDecodeError:
        return None, (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
    return (report, "") if "dependencies" in report else (None, "pip-audit gave another report")


if __name__ == "__main__":
    sys.exit(main())
