"""Independent tasks side by side, one process a core, with results in the order of the tasks."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

__all__ = ["spread"]

Result = TypeVar("Result")


def spread(
    function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], processes: int, results: list[Result]
) -> Iterator[float]:
    """Run function(*task) for every task; yields the share that is done and fills `results` at the end.

    An exception in a task cancels those not yet begun and is raised here; so is an interrupt.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures = [pool.submit(function, *task) for task in tasks]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                yield done / len(tasks)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        results.extend(future.result() for future in futures)
