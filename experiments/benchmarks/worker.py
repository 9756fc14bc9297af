"""Competitors in processes of their own, so that thread pools, devices and memory of one disturb no other.

A worker reads one request a line, JSON on its standard input, and answers each with one line of JSON. It
keeps what it has prepared and compiled, so that several workers can be asked in turn: A B C A B C …
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TextIO

import numpy as np

from experiments.benchmarks.work import Measured, Run, Work

__all__ = ["Answer", "Worker", "jax_python", "peak_memory", "serve"]

ROOT = Path(__file__).resolve().parents[2]


class Answer(NamedTuple):
    """What a worker says of one run.

    Attributes:
        seconds: of the run.
        preparing: seconds of getting ready, imports and compilation ahead of time included; 0 if it was.
        before: the largest memory of the process before the run, in bytes.
        after: the same after the run.
        measured: the moments.
    """

    seconds: float
    preparing: float
    before: int
    after: int
    measured: Measured


class Worker:
    """A process that runs one module of `competitors`.

    Args:
        competitor: the module's name.
        python: the interpreter; this one by default.
        environment: variables beside those of this process.
    """

    def __init__(
        self, competitor: str, python: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.competitor = competitor
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", "experiments.benchmarks.worker", competitor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )

    def run(self, work: Work, **options: Any) -> Answer:
        """Run a work once.

        Raises:
            RuntimeError: the run failed; the message is the worker's.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"work": work.plain(), "options": options}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker for {self.competitor} ended with status {process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.competitor}: {answer['error']}")
        measured = Measured(np.array(answer.pop("means")), np.array(answer.pop("errors")))
        return Answer(**answer, measured=measured)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()  # the end of its input ends it


def jax_python() -> str | None:
    """The interpreter that has JAX: that of the variable JAX_PYTHON, or this one; None without."""
    python = os.environ.get("JAX_PYTHON") or sys.executable
    found = subprocess.run([python, "-c", "import jax"], check=False, capture_output=True)
    return python if found.returncode == 0 else None


def peak_memory() -> int:
    """The most memory that this process has held, in bytes.

    Linux hands the peak of the parent down to `getrusage` of a child, so its own account is read where
    there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(competitor: str, requests: TextIO, answers: TextIO) -> None:
    """Answer requests until they end; an error is an answer."""
    runs: dict[str, Run] = {}
    for line in requests:
        try:
            answer = _answer(competitor, line, runs)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _answer(competitor: str, line: str, runs: dict[str, Run]) -> dict[str, Any]:
    begin = time.perf_counter()
    if line not in runs:
        request = json.loads(line)
        module = importlib.import_module(f"experiments.benchmarks.competitors.{competitor}")
        runs.clear()  # what was compiled for another work is not needed again
        runs[line] = module.prepare(Work(**request["work"]), **request["options"])
    ready, before = time.perf_counter(), peak_memory()
    measured = runs[line]()
    return {
        "seconds": time.perf_counter() - ready,
        "preparing": ready - begin,
        "before": before,
        "after": peak_memory(),
        "means": measured.means.tolist(),
        "errors": measured.errors.tolist(),
    }


if __name__ == "__main__":
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    serve(sys.argv[1], sys.stdin, answers)
