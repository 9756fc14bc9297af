"""Every point of a process's writes at which it could die, counted, and one of them at which it does."""

from __future__ import annotations

import builtins
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["CrashPoints"]

_CALLS = ("open", "fsync", "chmod", "replace", "rename", "unlink", "mkdir")


class CrashPoints:
    """The points before and after each call that changes what lies below a folder, and within each write.

    It sees what Python does, from `os.open` to `Path.write_text`, whoever asks for it; a library that opens
    a file by itself it does not see. One process can install one, which stays until that process ends.

    Args:
        folder: below which changes count.
        at: the number of the point, from 1, at which the process kills itself; None or 0 for never.

    Attributes:
        passed: the names of the points so far.
    """

    def __init__(self, folder: Path, at: int | None = None) -> None:
        self.folder, self.at = folder.resolve(), at
        self.passed: list[str] = []

    def install(self) -> None:
        """From now on, calls are counted."""
        for name in _CALLS:
            setattr(os, name, self._around(name, getattr(os, name)))
        builtins.open = io.open = self._opening(io.open)  # type: ignore[assignment]

    def point(self, name: str) -> None:
        """Here the process may die."""
        self.passed.append(name)
        if len(self.passed) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, *arguments: Any, **options: Any) -> Any:
            reads = name == "open" and not arguments[0] & (os.O_CREAT | os.O_TRUNC)
            if reads or not self._concerns(path):
                return call(path, *arguments, **options)
            self.point(f"before {name}")
            result = call(path, *arguments, **options)
            self.point(f"after {name}")
            return result

        return counted

    def _opening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or not self._concerns(path):
                return call(path, mode, *arguments, **options)
            file = _Watched(call(path, mode, *arguments, **options), self.point)
            self.point("after open")  # where it was truncated, it is empty now
            return file

        return opened

    def _concerns(self, path: Any) -> bool:
        """Whether a path, or the file of a descriptor, lies below the folder."""
        place = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)
        return self.folder in Path(os.path.abspath(os.fsdecode(place))).parents


class _Watched:
    """An open file whose writes happen in two halves."""

    def __init__(self, file: Any, point: Callable[[str], None]) -> None:
        self._file, self._point = file, point

    def write(self, content: Any) -> int:
        half = len(content) // 2
        self._point("before write")
        self._file.write(content[:half])
        self._file.flush()
        self._point("half-written")
        self._file.write(content[half:])
        self._point("after write")
        return len(content)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
