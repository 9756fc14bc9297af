"""Independent tasks side by side, one process a core, with results in the order of the tasks."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import rst_theory
from rst_theory.files import read_json, write_json

__all__ = ["spread"]

Result = TypeVar("Result")


def spread(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    processes: int,
    results: list[Result],
    keep: Path | None = None,
) -> Iterator[float]:
    """Run function(*task) for every task; yields the share that is done and fills `results` at the end.

    An exception in a task cancels those not yet begun and is raised here; so is an interrupt.

    Args:
        function: of a module.
        tasks: its arguments, which can be sent to another process; with `keep`, their repr must say it all.
        processes: run side by side.
        results: is filled in the order of the tasks.
        keep: a folder in which the result of each task, plain data that JSON can hold, is kept, so that a
            second call with the same function, tasks and version does not run it again. A change in the
            module of the function makes all its results new.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _end_with_the_caller) as pool:
        if keep is None:
            futures = [pool.submit(function, *task) for task in tasks]
        else:
            futures = [pool.submit(_kept, _file(keep, function, task), function, task) for task in tasks]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                yield done / len(tasks)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        results.extend(future.result() for future in futures)


def _end_with_the_caller() -> None:
    """In a worker, which ends when the caller does: killed, or by Ctrl-C, which is the caller's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    caller = multiprocessing.parent_process()
    assert caller is not None

    def follow() -> None:
        caller.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _kept(file: Path, function: Callable[..., Result], task: tuple[Any, ...]) -> Result:
    if file.exists():
        result: Result = read_json(file)["result"]
        return result
    result = function(*task)
    write_json(file, {"task": repr(task), "result": result})
    return result


def _file(folder: Path, function: Callable[..., Any], task: tuple[Any, ...]) -> Path:
    source = sys.modules[function.__module__].__file__
    digest = hashlib.sha256(Path(source).read_bytes() if source else b"")
    digest.update(f"{rst_theory.__version__} {function.__module__}.{function.__qualname__} {task!r}".encode())
    return folder / f"{digest.hexdigest()[:20]}.json"
