"""What `.ci/run` does and how long it takes, in a fresh clone with a virtual environment of its own.

`python -m tests.campaigns.fresh_clone` clones the last commit into a temporary folder, sets it up as the
README says, and runs the checks and the tests. Exit status 1 where one fails; the clone is deleted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rst_theory.files import write_table
from tests.campaigns.versions import counts

__all__ = ["STAGES", "main"]

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
STAGES = {"set up": ("make", ".venv/.installed"), "check": ("make", "check"), "test": ("make", "test")}


def main() -> int:
    """Run the stages one after the other, until one fails; print and write the table."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # some tests work as another user
        clone, report = Path(scratch) / "clone", Path(scratch) / "tests.xml"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        asked = {**os.environ, "CI": "1", "PYTEST_ADDOPTS": f"--junitxml={report}"}
        for stage, command in STAGES.items():
            start = time.monotonic()
            status = subprocess.run(command, check=False, cwd=clone, env=asked).returncode
            seconds = round(time.monotonic() - start)
            rows.append({"stage": stage, "status": status, "seconds": seconds, **_counted(report, stage)})
            print(rows[-1], flush=True)
            if status:
                break
    write_table(RESULTS, "fresh_clone", rows)
    return int(len(rows) < len(STAGES) or any(row["status"] for row in rows))


def _counted(report: Path, stage: str) -> dict[str, int]:
    """How many tests passed and failed, where that is known."""
    if stage != "test" or not report.exists():
        return {"passed": 0, "failed": 0}
    passed, missing, failed = counts(report)
    return {"passed": passed, "failed": missing + len(failed)}


if __name__ == "__main__":
    sys.exit(main())
