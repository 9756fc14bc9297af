"""Runs a compiled kernel over chunks of replicas on several threads, and yields the parts in order."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import numpy.typing as npt

from rst_theory.notation import FloatArray
from rst_theory.problems.form import Coupled, Separable
from rst_theory.simulation.estimates import SLOTS, Moments
from rst_theory.simulation.fused.kernel import run
from rst_theory.simulation.fused.lanes import LANES, TILE
from rst_theory.simulation.fused.plug import Plug
from rst_theory.simulation.reference import BLOCK
from rst_theory.simulation.setting import Part, Setting, Tell
from rst_theory.simulation.sketch import BINS
from rst_theory.trials import comb

__all__ = ["aligned", "parts"]

_CHUNKS = 64
"""Pieces of a run, at most."""

_LEAST = 2**22
"""Replicas x steps x coordinates of a piece, at least: fewer are not worth a piece of their own."""

_POLL = 0.05  # seconds


def parts(setting: Setting, tell: Tell, threads: int | None = None) -> Iterator[Part]:
    """Run the replicas, chunk by chunk.

    Raises:
        ValueError: the problem has no compiled form.
        DivergenceError: a replica left the floating-point range; replica and step are named.
    """
    run = _Run(setting)
    waiting = deque(run.chunks())
    if len(waiting) == 1 and run.work < _LEAST:  # over before a thread could be begun
        yield run.chunk(*waiting.popleft())
        tell(1.0)
        return
    running: deque[Future[Part]] = deque()
    workers = min(threads or _cores(), len(waiting))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="rst_theory")
    try:
        while waiting or running:
            while waiting and len(running) <= workers:
                running.append(pool.submit(run.chunk, *waiting.popleft()))
            while not wait([running[0]], timeout=_POLL).done:
                run.tell(tell)
            yield running.popleft().result()
            run.tell(tell)
    finally:
        run.stop[0] = 1
        pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Run:
    """A setting in the form that a kernel takes, ready to run any chunk of its replicas."""

    def __init__(self, setting: Setting) -> None:
        form = setting.form
        if form is None:
            raise ValueError(
                f"the numba backend needs a problem with a compiled form; got {setting.problem!r}"
            )
        self.setting = setting
        self.form = form
        self.plug = Plug(form)
        self.times = np.append(setting.times, setting.steps)
        increments, before = comb(setting.p)
        self.data = tuple(_frozen(array) for array in form.data)
        parameters = {
            "f_star": setting.problem.constants.f_star,
            "minimizer": setting.problem.minimizer if "squared_distance" in setting.measured else np.empty(0),
            "start": setting.start,
            "thresholds": setting.p * 2.0**53,
            "eta": setting.eta,
            "rho": setting.rho,
            "gamma": setting.gamma,
            "normalized": setting.ascent == "normalized",
            "systematic": setting.trials == "systematic",
            "increments": increments,
            "before": before,
            "seed": np.uint64(setting.seed),
            "times": self.times,
        }
        self.parameters = {
            name: _frozen(given) if isinstance(given, np.ndarray) else given
            for name, given in parameters.items()
        }
        self.stop = np.zeros(1, dtype=np.int64)
        self.done: list[npt.NDArray[np.int64]] = []
        self.blocks = _blocks(setting.first, setting.first + setting.replicas)
        self.work = self.blocks * LANES * setting.steps * setting.start.size

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of replicas, cut at multiples of LANES.

        They depend on the setting alone, so that no result depends on the threads.
        """
        first, end = self.setting.first, self.setting.first + self.setting.replicas
        least = -(-_LEAST * self.blocks // self.work)
        step = max(-(-self.blocks // _CHUNKS), least) * LANES
        for origin in range(first - first % LANES, end, step):
            yield max(first, origin), min(end, origin + step)

    def tell(self, tell: Tell) -> None:
        """Say what share of the blocks is done."""
        share = sum(int(done[0]) for done in self.done) / self.blocks
        if share > 0:
            tell(share)

    def chunk(self, first: int, end: int, watch: bool = False) -> Part:
        """Run the replicas first, …, end - 1.

        Where one leaves the floating range, those that the reference runs side by side with it are run again,
        with an eye on every step, for the one that left it first.
        """
        setting, T, K, d = self.setting, self.setting.steps, self.times.size, self.setting.start.size
        shape = (len(setting.measured), K, SLOTS)
        means, squares = aligned(shape), aligned(shape)
        sketch = np.zeros((shape[0], K, BINS if setting.quantiles else 0), dtype=np.uint32)
        points = np.empty((end - first if setting.keep else 0, T + 1, d))
        extra_pairs = np.empty(end - first, dtype=np.int64)
        failure, done = np.full(2, -1), np.zeros(1, dtype=np.int64)
        if not watch:
            self.done.append(done)
        rows, batch = (self.form.rows, self.form.batch) if isinstance(self.form, Coupled) else (0, 0)
        run(
            plug=self.plug,
            data=self.data,
            rows=rows,
            sigma=setting.problem.noise,
            **self.parameters,
            first=first,
            end=end,
            means=means,
            squares=squares,
            sketch=sketch,
            extra_pairs=extra_pairs,
            points=points,
            failure=failure,
            watch=watch,
            stop=self.stop,
            done=done,
            x=aligned((d, LANES)),
            room=aligned((1 if isinstance(self.form, Separable) else 4, d, LANES)),
            indices=np.zeros((batch, LANES), dtype=np.int64),
            normals=aligned((TILE, LANES)),
            state=aligned((4, LANES)).view(np.uint64),
            offsets=aligned((LANES,)).view(np.uint64),
            lanes=aligned((10, LANES)),
        )
        replica, t = failure
        if watch:
            raise setting.divergence(int(replica), int(t))
        if replica >= 0:
            block = replica - replica % BLOCK
            end = setting.first + setting.replicas
            self.chunk(max(setting.first, block), min(end, block + BLOCK), watch=True)
        counts = np.bincount(np.arange(first, end) % SLOTS, minlength=SLOTS)
        quantities = setting.measured
        return Part(
            moments={
                name: Moments(counts, np.ascontiguousarray(means[m].T), np.ascontiguousarray(squares[m].T))
                for m, name in enumerate(quantities)
            },
            extra_pairs=extra_pairs,
            points=points if setting.keep else None,
            counts={name: sketch[m] for m, name in enumerate(quantities)} if setting.quantiles else None,
        )


def _blocks(first: int, end: int) -> int:
    return (end - 1) // LANES - first // LANES + 1


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, contiguous and read-only: one type for the compiler, whatever it was."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def aligned(shape: tuple[int, ...]) -> FloatArray:
    """Zeros that begin at a cache line: a vector across two of them is read twice as slowly."""
    size = math.prod(shape)
    room = np.zeros(size + 8)
    return room[-(room.ctypes.data // 8) % 8 :][:size].reshape(shape)
