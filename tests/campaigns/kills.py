"""Jobs that are killed, at any moment or at every point of their writes: what is whole then, and in the end.

A job runs in a process group of its own, forked from a server that has loaded the libraries, so that a kill
costs no start of an interpreter; or it is a real command line. After each kill every file must be whole:
readable, and what it was before the job or what it is after an uninterrupted one. Then the job is run again,
to its end or the next kill, and all its files in the end are compared, bit for bit, with those of the
uninterrupted one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rst_theory.files import read_json, write_json
from tests.campaigns.crash_points import CrashPoints

__all__ = [
    "AIMS",
    "Aim",
    "Job",
    "Outcome",
    "Running",
    "crash",
    "points",
    "preload",
    "sequence",
    "uninterrupted",
]

Contents = dict[str, str]
Run = Callable[[Path], int]

PATIENCE = 600.0
"""Seconds that a job may take to end, or to die; on a machine that does other things beside."""

_SERVER = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Job:
    """Something that works in a folder, and goes on there when it is run again.

    Attributes:
        name: of the job.
        run: does it, with the processes that it usually has; returns the exit status. A function of a
            module, like the next three.
        alone: does the same in one process.
        command: the command line that does it.
        prepare: makes the folder what it is before the job.
        digest: the content of a whole file but for times.
        changing: the files that have other contents in between; it is enough that they can be read.
    """

    name: str
    run: Run
    alone: Run
    command: Callable[[Path], list[str]]
    prepare: Callable[[Path], None]
    digest: Callable[[Path], str]
    changing: frozenset[str] = frozenset()

    def contents(self, folder: Path) -> Contents:
        """The digest of every file by its place; of files that are being written there is none."""
        return {name: self.digest(folder / name) for name in _names(folder) if not _temporary(name)}

    def broken(self, folder: Path, before: Contents, after: Contents) -> Iterator[str]:
        """The files that are not whole, and why."""
        for name in _names(folder):
            if _temporary(name):
                continue
            try:
                content = self.digest(folder / name)
            except FileNotFoundError:  # a temporary file of a process that is still at work has its name now
                continue
            except Exception as error:  # whatever half a file brings its reader to raise
                yield f"{name} cannot be read: {error}"
                continue
            if name not in self.changing and content not in (before.get(name), after.get(name)):
                yield f"{name} is neither what it was nor what it will be"


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _temporary(name: str) -> bool:
    return Path(name).name.startswith(".")


# Processes


def preload(modules: Sequence[str]) -> None:
    """What the server loads, once, before it forks the first job."""
    _SERVER.set_forkserver_preload(list(modules))


class Running:
    """A job at work, as the leader of a process group.

    Args:
        run: the function, or the words of a command line.
        folder: where it works; what it prints goes into a file beside that.
        crash_at: the point of its writes at which it kills itself; 0 to have them counted.
    """

    def __init__(self, run: Run | list[str], folder: Path, crash_at: int | None = None) -> None:
        begun, beginning = _SERVER.Pipe(duplex=False)
        self._process = _SERVER.Process(target=_lead, args=(beginning, run, folder, crash_at))
        self._process.start()
        beginning.close()
        begun.recv_bytes()
        self.group = int(self._process.pid or 0)

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """The exit status, negative for a signal; None where it is still at work after so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode

    def members(self) -> dict[int, str]:
        """The processes of the group that are alive, with their command lines."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group) == self.group and state not in "ZX":
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        return found

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill what is left of the group, and wait until nothing is."""
        while self.members():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)
            time.sleep(0.005)
        self._process.join()


def _lead(beginning: Any, run: Run | list[str], folder: Path, crash_at: int | None) -> None:
    """A job's first process."""
    os.setsid()
    # What a shell runs in the background would ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    beginning.send_bytes(b"begun")
    if isinstance(run, list):
        os.execv(run[0], run)
    watch = CrashPoints(folder, crash_at)
    if crash_at is not None:
        watch.install()
    status = 1
    try:
        status = run(folder)
    except KeyboardInterrupt:
        status = 130  # as of a command
    except BaseException:
        traceback.print_exc()
    if crash_at == 0:
        write_json(folder.with_suffix(".points"), watch.passed)
    sys.stdout.flush()
    os._exit(status)  # else it would wait for the workers of a grid, which stay for the next one


# What is killed, and when


@dataclass(frozen=True)
class Aim:
    """Which processes get which signal, and how the job may end then.

    Attributes:
        number: of the signal.
        whom: "all" processes of the job, its "leader" or one "worker".
        statuses: with which the leader may end; 0 too, where it was done before it took notice.
    """

    number: signal.Signals
    whom: str
    statuses: frozenset[int]

    def shoot(self, running: Running, dice: random.Random) -> bool:
        """Send the signal; whether there was one to send it to."""
        if self.whom == "worker":
            workers = [
                pid
                for pid, command in sorted(running.members().items())
                if pid != running.group and "resource_tracker" not in command
            ]
            targets = [dice.choice(workers)] if workers else []
        else:
            targets = [running.group]
        try:
            for pid in targets:
                (os.killpg if self.whom == "all" else os.kill)(pid, self.number)
        except ProcessLookupError:
            return False
        return bool(targets)


_KILLED = frozenset({-signal.SIGKILL})
AIMS = {
    "random moment": Aim(signal.SIGKILL, "all", _KILLED),
    "random moment, the caller alone": Aim(signal.SIGKILL, "leader", _KILLED),
    "random moment, one worker": Aim(signal.SIGKILL, "worker", frozenset({1})),
    "SIGINT": Aim(signal.SIGINT, "all", frozenset({130, -signal.SIGINT})),
    "SIGTERM": Aim(signal.SIGTERM, "all", frozenset({130, -signal.SIGTERM})),
}
"""By the name of the kind of kill. Where Python is not yet at work, or nobody asks for the signal, a request
to stop is a death by it, which a shell shows as 130 and 143."""


@dataclass
class Outcome:
    """What came of a job that was killed, once or several times, and run again to its end.

    Attributes:
        kills: how many hit before the job was done.
        statuses: with which the job ended after each signal.
        broken: what was not whole, or not as promised.
        temporary: files of interrupted writes that were left beside the result.
        orphans: processes that outlived the caller until the next call was done.
        identical: whether the result is that of an uninterrupted job.
        seconds: that it took.
    """

    kills: int = 0
    statuses: list[int | None] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    temporary: int = 0
    orphans: int = 0
    identical: bool = False
    seconds: float = 0.0


def uninterrupted(job: Job, folder: Path, run: Run | list[str]) -> tuple[Contents, float]:
    """The contents that the job leaves, and the seconds that it takes.

    Raises:
        RuntimeError: it fails.
    """
    _begin(job, folder)
    start = time.monotonic()
    with Running(run, folder) as running:
        status, seconds = running.wait(), time.monotonic() - start
    if status != 0:
        raise RuntimeError(f"{job.name} ended with {status}: see {folder.with_suffix('.log')}")
    return job.contents(folder), seconds


def sequence(
    job: Job,
    folder: Path,
    run: Run | list[str],
    after: Contents,
    aim: Aim,
    dice: random.Random,
    seconds: float,
    most: int = 5,
) -> Outcome:
    """Begin the job, kill it at a random moment, go on, kill it again, up to so often; then let it end.

    Args:
        job: the job.
        folder: for it alone.
        run: its function or command line.
        after: the contents that an uninterrupted one leaves.
        aim: what gets which signal.
        dice: for the moments, uniform over `seconds`.
        seconds: that an uninterrupted one takes.
        most: so many kills.
    """
    found, start = Outcome(), time.monotonic()
    before = _begin(job, folder)
    with contextlib.ExitStack() as all_calls:
        orphaned: list[Running] = []
        for _ in range(most):
            running = all_calls.enter_context(Running(run, folder))
            hit = running.wait(dice.uniform(0.0, seconds)) is None and aim.shoot(running, dice)
            status = running.wait()
            if hit:
                found.kills += status != 0
                found.statuses.append(status)
            if status not in aim.statuses | {0}:
                found.broken.append(f"it ended with {status}: see {folder.with_suffix('.log')}")
            if aim.whom == "leader":
                orphaned.append(running)  # its workers may write while the next call does
            else:
                running.end()
            found.broken += job.broken(folder, before, after)
            if status == 0:
                break
        _to_the_end(job, folder, run, after, found)
        found.orphans = sum(len(running.members()) for running in orphaned)
    found.seconds = time.monotonic() - start
    return found


def points(job: Job, folder: Path) -> list[str]:
    """The names of the points of all writes of an uninterrupted job, in one process."""
    _begin(job, folder)
    with Running(job.alone, folder, crash_at=0) as running:
        running.wait()
    return list(read_json(folder.with_suffix(".points")))


def crash(job: Job, folder: Path, after: Contents, at: int) -> Outcome:
    """Run the job, in one process, until point `at` of its writes; then again to the end."""
    found, start = Outcome(), time.monotonic()
    before = _begin(job, folder)
    with Running(job.alone, folder, crash_at=at) as running:
        found.statuses.append(running.wait())
    found.kills = int(found.statuses[0] == -signal.SIGKILL)
    if not found.kills:
        found.broken.append(f"it was not killed at point {at}: it ended with {found.statuses[0]}")
    found.broken += job.broken(folder, before, after)
    _to_the_end(job, folder, job.alone, after, found)
    found.seconds = time.monotonic() - start
    return found


def _begin(job: Job, folder: Path) -> Contents:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job.prepare(folder)
    return job.contents(folder)


def _to_the_end(job: Job, folder: Path, run: Run | list[str], after: Contents, found: Outcome) -> None:
    """Run the job again, though it may be done, and compare what it leaves."""
    with Running(run, folder) as running:
        status = running.wait()
    if status != 0:
        found.broken.append(f"run again, it ended with {status}: see {folder.with_suffix('.log')}")
    broken = list(job.broken(folder, {}, after))
    found.broken += broken
    found.identical = status == 0 and not broken and job.contents(folder) == after
    found.temporary = sum(map(_temporary, _names(folder)))
