"""A progress bar for long simulations, on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from rst_theory.simulation.setting import Tell

__all__ = ["INTERVAL", "PATIENCE", "told"]

PATIENCE = 2.0
"""Seconds before a bar appears."""

INTERVAL = 0.25
"""Seconds between its updates."""


@contextlib.contextmanager
def told(progress: Tell | bool | None) -> Iterator[Tell]:
    """Who is told the share that is done: `progress` itself, nobody (False), or by default a bar.

    The bar appears once a simulation has taken `PATIENCE` seconds, where stderr is a terminal, and leaves no
    trace when it ends. True shows it whatever stderr is.

    Raises:
        TypeError: neither a function, a bool nor None.
    """
    if callable(progress):
        yield progress
    elif progress is False or (progress is None and not (sys.stderr and sys.stderr.isatty())):
        yield lambda share: None
    elif progress is None or progress is True:
        bar = _Bar()
        try:
            yield bar
        finally:
            bar.close()
    else:
        raise TypeError(f"progress must be a function of the share, a bool or None; got {progress!r}")


class _Bar:
    """Share, elapsed and remaining time, drawn by rich; no thread draws it between the calls."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._due = self._began + PATIENCE
        self._bar: Any = None

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + INTERVAL
        if self._bar is None:
            self._bar = _drawn(self._began)
        self._bar.update(self._bar.task_ids[0], completed=share, refresh=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _drawn(began: float) -> Any:
    from rich import console, progress

    bar = progress.Progress(
        progress.TextColumn("simulating"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("elapsed,"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("remaining"),
        console=console.Console(stderr=True),
        auto_refresh=False,
        transient=True,
        get_time=time.monotonic,
    )
    bar.add_task("", total=1.0)
    bar.tasks[0].start_time = began
    bar.start()
    return bar
