"""The tests, and a few thousand numbers, under the oldest and newest versions of what the package stands on.

`python -m tests.campaigns.versions [--python 3.12=PATH] [--only NAME] [--processes 2]` makes a virtual
environment for each entry of `ENVIRONMENTS` under `runs/versions/`, runs in it `fingerprint` and the tests of
`TESTS` (those that ask for torch, where it is not there, are counted apart), and compares the numbers with
those of the first environment, to `NUMERIC`. What a file of tests gave is kept while it and the package read
the same. Exit status 1 where a test fails or a number differs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from rst_theory.files import read_json, write_json, write_table
from tests.campaigns import digests

__all__ = ["ENVIRONMENTS", "NUMERIC", "Environment", "compare", "counts"]

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
STATE = ROOT / "runs" / "versions"
NUMERIC = 1e-10
"""Relative: different algorithms, or versions of a library, for one number."""

COMMON = (
    *("jinja2>=3.1", "typer>=0.12", "rich>=13", "mpmath>=1.3", "pytest>=8", "pytest-xdist>=3.5"),
    *("pepit>=0.3", "clarabel>=0.9", "joblib>=1.4", "scikit-learn>=1.4", "pandas>=2"),
)
NEWEST = ("numpy", "scipy", "sympy", "matplotlib", "numba", "hypothesis")
OLDEST = (
    *("numpy==1.26.*", "scipy==1.11.*", "sympy==1.13.*", "matplotlib==3.10.*", "numba==0.60.*"),
    "hypothesis==6.100.*",
)
MISSING = "ModuleNotFoundError"

TESTS = (
    *("allocation", "average", "convex", "cost", "display", "expressions", "files", "method", "notation"),
    *("one_step", "optim", "poisson_binomial", "problems", "realized", "refusals", "schedules"),
    *("simulation", "streams", "trials", "versions"),
)
"""The quicker half of what calls NumPy, SciPy, SymPy, matplotlib, Numba, Hypothesis and torch.

Left out are long tests (dozens of kernels to compile, semidefinite programs, processes, pages in a browser)
and those of the experiments: `make test` runs them with the newest versions alone.
"""


class Environment(NamedTuple):
    """What is installed and run.

    Attributes:
        name: of its folder and its row.
        python: version of the interpreter, such as "3.12".
        packages: requirements.
        torch: whether torch 2.13 is there too.
    """

    name: str
    python: str
    packages: tuple[str, ...]
    torch: bool = False


ENVIRONMENTS = (
    Environment("newest", "3.11", NEWEST),
    Environment("oldest beside torch", "3.11", OLDEST, torch=True),
    Environment("Python 3.12", "3.12", NEWEST),
    Environment("Python 3.13", "3.13", NEWEST),
)


def installed(environment: Environment, python: Path) -> Path:
    """The interpreter of the environment, made where it is not there yet."""
    folder = STATE / environment.name.replace(" ", "-")
    own = folder / "bin" / "python"
    wanted = [*environment.packages, *COMMON, *(["torch==2.13.0"] if environment.torch else [])]
    done = folder / "installed.json"
    if not done.exists() or read_json(done) != wanted:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted], check=True)
        subprocess.run([*pip, "--no-deps", "--no-warn-conflicts", "--editable", "."], check=True, cwd=ROOT)
        write_json(done, wanted)
    return own


def run(environment: Environment, python: Path, processes: int) -> dict[str, Any]:
    """The versions and the numbers of an environment, and what became of its tests."""
    own = installed(environment, python)
    folder = own.parents[1]
    numbers = folder / "fingerprint.json"
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    quiet["NUMBA_CACHE_DIR"] = str(folder / "kernels")  # else they would take turns in one place
    subprocess.run([own, "-m", "tests.campaigns.fingerprint", numbers], check=True, cwd=ROOT, env=quiet)
    package = sorted((ROOT / "rst_theory").rglob("*.py"))
    common = digests.of_files((*package, ROOT / "tests" / "conftest.py", folder / "installed.json"))

    def tested(test: Path) -> dict[str, Any]:
        kept, report = folder / f"{test.stem}.json", folder / f"{test.stem}.xml"
        key = common + digests.of_files([test])
        if kept.exists() and (known := read_json(kept))["key"] == key and not known["failed"]:
            return dict(known)
        start = time.monotonic()
        command = [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", test]
        with report.with_suffix(".log").open("w") as log:
            subprocess.run(command, check=False, cwd=ROOT, env=quiet, stdout=log, stderr=log)
        passed, missing, failed = counts(report)
        seconds = round(time.monotonic() - start)
        print(f"  {test.name}: {passed} passed, {seconds} s", flush=True)
        found = {"passed": passed, "could_not_run": missing, "failed": failed, "seconds": seconds}
        write_json(kept, {"key": key, **found})
        return found

    with ThreadPoolExecutor(processes) as pool:
        found = list(pool.map(tested, (ROOT / "tests" / f"test_{name}.py" for name in TESTS)))
    sums = {key: sum(one[key] for one in found) for key in ("passed", "could_not_run", "seconds")}
    failed = [name for one in found for name in one["failed"]]
    return {**read_json(numbers), **sums, "files": len(found), "failed": failed}


def counts(report: Path) -> tuple[int, int, list[str]]:
    """How many tests passed, how many miss a module that is not there, and the names of those that failed."""
    passed = missing = 0
    failed = []
    for case in ElementTree.parse(report).iter("testcase"):
        broken = [child for child in case if child.tag in ("failure", "error")]
        if any(MISSING in "".join(child.itertext()) for child in broken):
            missing += 1
        elif broken:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif not any(child.tag == "skipped" for child in case):
            passed += 1
    return passed, missing, failed


def compare(numbers: dict[str, float], reference: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Each number that differs at all from the reference, with its relative difference."""
    if numbers.keys() != reference.keys():
        names = sorted(numbers.keys() ^ reference.keys())
        raise ValueError(f"the fingerprints name different numbers: {', '.join(names[:5])}")
    for name, value in numbers.items():
        if value != (other := reference[name]):
            yield name, abs(value - other) / max(abs(value), abs(other))


def main(pythons: dict[str, Path], only: str | None, processes: int) -> int:
    """Run the environments at hand, print and write the table; 0 where all is well."""
    rows: list[dict[str, Any]] = []
    reference: dict[str, float] | None = None
    bad = 0
    for environment in ENVIRONMENTS:
        if only not in (None, environment.name):
            continue
        if environment.python not in pythons:
            print(f"{environment.name}: left out, no Python {environment.python} was named", flush=True)
            continue
        result = run(environment, pythons[environment.python], processes)
        reference = reference or result["numbers"]
        differ = list(compare(result["numbers"], reference))
        largest = max((difference for _, difference in differ), default=0.0)
        for name in result["failed"]:
            print(f"  failed: {name}")
        for name, difference in differ:
            if difference > NUMERIC:
                print(f"  differs by {difference:.1e}: {name}")
        bad += bool(result["failed"]) or largest > NUMERIC
        rows.append(
            {
                "environment": environment.name,
                **result["versions"],
                "torch": "2.13" if environment.torch else "none",
                "test_files": result["files"],
                "passed": result["passed"],
                "could_not_run": result["could_not_run"],
                "failed": len(result["failed"]),
                "numbers": len(result["numbers"]),
                "not_equal": len(differ),
                "largest_difference": largest,
                "seconds": result["seconds"],
            }
        )
        print(rows[-1], flush=True)
        if only is None:
            write_table(RESULTS, "versions", rows)
    return int(bad > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", default=[], metavar="VERSION=PATH")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=[environment.name for environment in ENVIRONMENTS])
    arguments = parser.parse_args()
    here = {f"{sys.version_info.major}.{sys.version_info.minor}": Path(sys.executable)}
    named = {version: Path(path) for version, path in (entry.split("=", 1) for entry in arguments.python)}
    sys.exit(main(here | named, arguments.only, arguments.processes))
