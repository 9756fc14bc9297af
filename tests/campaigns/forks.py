"""Processes forked from one that has everything ready: quick to start, alike, limited in what they take."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["forked"]

WALL = 60  # so many seconds of the clock for each of the processor, on a machine that does other things too
MEMORY = 4 << 30  # bytes that a process may take beyond what was there


def forked(
    tasks: Iterable[Any],
    work: Callable[[Any, Callable[[Any], None]], None],
    limit: Callable[[Any], float],
    processes: int,
) -> Iterator[tuple[Any, list[Any], bool | None, float]]:
    """Run work(task, say) for each task in a process of its own.

    Yields (task, what was said, how it ended, seconds of its processor); it ended True where it came to its
    end, None where it took more than limit(task) seconds, False where it died.
    """
    running: dict[int, tuple[Any, Any, float]] = {}
    tasks = iter(tasks)
    while True:
        while len(running) < processes and (task := next(tasks, None)) is not None:
            seconds, answers = limit(task), tempfile.TemporaryFile("w+")  # noqa: SIM115
            pid = os.fork()
            if not pid:
                _child(functools.partial(work, task), answers, seconds)
            running[pid] = task, answers, time.monotonic() + WALL * seconds
        if not running:
            return
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid not in running:
            for other, (_, _, deadline) in running.items():
                if time.monotonic() > deadline:
                    os.kill(other, signal.SIGKILL)
            time.sleep(0.005)
            continue
        task, answers, deadline = running.pop(pid)
        answers.seek(0)
        said = [json.loads(line) for line in answers.read().splitlines()]
        answers.close()
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status)
        late = killed == signal.SIGXCPU or (killed == signal.SIGKILL and time.monotonic() > deadline)
        yield task, said, None if late else status == 0, usage.ru_utime + usage.ru_stime


def _child(work: Callable[[Callable[[Any], None]], None], answers: Any, seconds: float) -> None:
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(quiet, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 10))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
        if pages:
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)

        def say(answer: Any) -> None:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

        work(say)
        status = 0
    finally:
        os._exit(status)
