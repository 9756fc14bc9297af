"""One execution of a fuzz target under limits of time and memory, and what to make of a finding."""

from __future__ import annotations

import hashlib
import resource
import signal
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Hang", "Warned", "finding", "keep", "limit_memory", "minimised", "place", "warnings_are_findings"]

MEMORY = 2**30
"""The bytes that it may take beyond what the process had before."""


class Hang(BaseException):
    """An execution took too long; no handler for ordinary errors stops it."""


class Warned(BaseException):
    """A warning was given."""


def limit_memory() -> None:
    """Make what asks for more than `MEMORY` fail."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def warnings_are_findings() -> None:
    """Turn every warning into `Warned`, which no code under test takes for an error of its own."""

    def warned(message: Warning | str, category: type[Warning], *_: Any) -> None:
        raise Warned(f"{category.__name__}: {message}")

    warnings.resetwarnings()
    warnings.simplefilter("always")
    warnings.showwarning = warned


def finding(check: Callable[[bytes], None], data: bytes, seconds: float = 1.0) -> BaseException | None:
    """What a check raised on these bytes within this processor time; None where every promise is kept."""

    def stop(*_: Any) -> None:
        raise Hang(f"more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        check(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return None


def place(error: BaseException) -> str:
    """The kind of a finding and where in the package it arose: findings of one place are one finding."""
    kind = type(error).__name__
    frames = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for cause in (error, error.__cause__)
        if cause is not None
        for frame in traceback.extract_tb(cause.__traceback__)
        if "rst_theory" in frame.filename or Path(frame.filename).name == "fuzz_targets.py"
    ]
    if isinstance(error, Hang):  # it may be stopped anywhere
        return f"{kind} in {frames[1] if len(frames) > 1 else '?'}"
    return f"{kind} at {frames[-1] if frames else '?'}"


def minimised(check: Callable[[bytes], None], data: bytes, tries: int = 500) -> bytes:
    """Shorter bytes with the same finding: leaves out ever smaller pieces as long as it stays."""
    found = finding(check, data)
    if found is None or isinstance(found, Hang):
        return data
    where, size = place(found), len(data) // 2
    while size:
        at = 0
        while at < len(data) and tries:
            shorter = data[:at] + data[at + size :]
            tries -= 1
            again = finding(check, shorter)
            if again is not None and place(again) == where:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def keep(folder: Path, name: str, check: Callable[[bytes], None], data: bytes, error: BaseException) -> None:
    """Write a finding down, once for each place: its bytes, and beside them a test that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    where = place(error)
    stem = hashlib.sha256(where.encode()).hexdigest()[:12]
    if (folder / f"{stem}.txt").exists():
        return
    small = minimised(check, data)
    (folder / f"{stem}.bin").write_bytes(small)
    story = "".join(traceback.format_exception(error, limit=-6))
    message = f"{error}".splitlines()[0][:200] if str(error) else ""
    line = f'    ("{name}", {small!r}),  # {where}: {message}\n'
    (folder / f"{stem}.txt").write_text(line + "\n" + story, encoding="utf-8", errors="backslashreplace")
