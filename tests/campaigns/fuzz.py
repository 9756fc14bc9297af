"""Long fuzz of every parser, guided by coverage, and of the numeric functions, by their properties.

    python -m tests.campaigns.fuzz [--executions N] [TARGET ...]

Every target runs in a process of its own, one after the other; each has its share of the executions, and of
the last run of each the figures are kept. Corpora and findings lie under runs/fuzz/TARGET: the corpus is
where the next run begins, and a finding is the shortest input that shows it, beside it the line that holds it
in tests/test_fuzz.py. Exit status: 0 nothing found, 1 findings, 2 atheris is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rst_theory.files import read_json, write_json, write_table

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "fuzz"
RESULTS = ROOT / "tests" / "campaigns" / "results"
EXECUTIONS = 1_000_000
SHARE_OF_PROPERTIES = 0.02  # each; an example takes longer than an execution of a parser

_STATUS = re.compile(r"^#(?P<done>\d+)\s.*?cov: (?P<coverage>\d+) ft: \d+ corp: (?P<corpus>\d+)")
_EXECUTED = re.compile(r"^stat::number_of_executed_units:\s*(?P<done>\d+)")
_ENDINGS = ("crash-", "timeout-", "oom-")  # of what libFuzzer leaves behind


def shares(executions: int, names: list[str]) -> dict[str, int]:
    """The executions of each of these targets."""
    from tests.campaigns.fuzz_properties import PROPERTIES
    from tests.campaigns.fuzz_targets import TARGETS

    all_of_them = sum(target.share for target in TARGETS.values())
    of_parsers = 1 - SHARE_OF_PROPERTIES * len(PROPERTIES)
    share = {name: target.share / all_of_them * of_parsers for name, target in TARGETS.items()}
    share |= dict.fromkeys(PROPERTIES, SHARE_OF_PROPERTIES)
    return {name: max(1, round(executions * share[name])) for name in names}


def run_target(name: str, executions: int) -> dict[str, Any]:
    """Fuzz one target; the figures of this run."""
    from tests.campaigns.fuzz_targets import TARGETS, memory

    folder = RUNS / name
    module = "fuzz_child" if name in TARGETS else "fuzz_properties"
    command = [sys.executable, "-m", f"tests.campaigns.{module}", name, str(folder), str(executions)]
    start = time.monotonic()
    row: dict[str, Any] = {"target": name, "executions": 0, "seconds": 0.0, "coverage": 0, "corpus": 0}
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory()) as scratch:  # libFuzzer cleans up nothing
        place = os.environ | {"TMPDIR": scratch}
        pipe = {"stderr": subprocess.PIPE, "text": True, "errors": "replace"}
        with subprocess.Popen(command, cwd=ROOT, env=place, **pipe) as process:
            for line in process.stderr or ():
                _note(row, line)
                tell(f"{name}: {row['executions']:,} of {executions:,}", last=False)
    row["seconds"] = round(time.monotonic() - start, 1)
    found = list(stories(folder / "findings"))
    if process.returncode and not found:
        found = [f"the process ended with status {process.returncode}"]
    row["findings"] = len(found)
    tell(", ".join(f"{key} {value}" for key, value in row.items()))
    for story in found:
        print(story)
    write_json(folder / "figures.json", row)
    return row


def _note(row: dict[str, Any], line: str) -> None:
    """Take over what a line of libFuzzer's says."""
    if status := _STATUS.search(line):
        row |= {"coverage": int(status["coverage"]), "corpus": int(status["corpus"])}
    if status := status or _EXECUTED.search(line):
        row["executions"] = int(status["done"])


def stories(findings: Path) -> Iterator[str]:
    """What was found: as the line of a test, with where it arose."""
    if not findings.is_dir():
        return
    for path in sorted(findings.iterdir()):
        if path.suffix == ".txt":
            yield path.read_text(encoding="utf-8")
        elif path.name.startswith(_ENDINGS):
            yield f'    ("{findings.parent.name}", {path.read_bytes()!r}),  # {path.name.partition("-")[0]}\n'


def tell(text: str, last: bool = True) -> None:
    """A line of progress, which the next one replaces on a terminal; elsewhere only last ones are shown."""
    if sys.stdout.isatty():
        print(f"\r{text:<110}", end="\n" if last else "", flush=True)
    elif last:
        print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign."""
    from tests.campaigns.fuzz_properties import PROPERTIES
    from tests.campaigns.fuzz_targets import TARGETS

    names = [*TARGETS, *PROPERTIES]
    parser = argparse.ArgumentParser(description="Long fuzz of the parsers and the numeric functions.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--executions", type=int, default=EXECUTIONS, help="of all targets together")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.targets) - set(names):
        parser.error(f"no targets: {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    if importlib.util.find_spec("atheris") is None:
        print("the fuzzing needs atheris: pip install 'rst-theory[fuzz]'", file=sys.stderr)
        return 2
    executions = shares(asked.executions, names)
    for name in asked.targets or names:
        run_target(name, executions[name])
    rows = [read_json(path) for name in names if (path := RUNS / name / "figures.json").exists()]
    write_table(RESULTS, "fuzz", rows)
    done, found = (sum(row[key] for row in rows) for key in ("executions", "findings"))
    print(f"{done:,} executions of {len(rows)} targets, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
