"""Question: how fast is the engine beside what a researcher would write instead?

Design: every competitor runs the work of `work`, with the same replicas and the same eleven points of
measurement, in a process of its own; the competitors take turns, A B C A B C …, after one run each that is
not counted; medians. Slow ones run fewer steps: nanoseconds are per replica, step and coordinate.

On a quadratic the second gradient can be folded into the first by hand. NumPy in place, torch and sharded
JAX are written so; jit(scan) is measured both ways, as it would be written for any problem (two calls of a
gradient, to which the targets refer) and folded. A first run had the folded form alone, which
without noise is about twice as fast; both are in the table.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.benchmarks.work import SEGMENTS, Work
from experiments.benchmarks.worker import Worker, jax_python
from rst_theory.files import write_table

__all__ = ["CONTESTANTS", "FULL", "QUICK", "Contestant", "Plan", "run", "target_rows"]

OURS, OURS_ONE = "rst_theory, 2 threads", "rst_theory, 1 thread"
IN_PLACE, SCAN, SHARDED, LOOP = (
    "NumPy in place, SFC64",
    "JAX jit(scan), 2 threads",
    "JAX sharded by hand, 2 devices",
    "loop around a torch SAM",
)
NORMALS = "normals alone, 1 thread"

_TWO = {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
_ONE_DEVICE = {"XLA_FLAGS": ""}
_TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


@dataclass(frozen=True)
class Contestant:
    """A way to run the work.

    Attributes:
        name: in the tables.
        module: of `competitors`.
        options: of its `prepare`.
        share: of the steps of the plan that it runs.
        environment: of its process.
        replicas: instead of those of the plan, for a loop over replicas whose time is linear in them.
        dimensions: that it is run at; all where empty.
        noise: whether it runs with noise alone (True), without alone (False), or both (None).
    """

    name: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    environment: dict[str, str] = field(default_factory=lambda: _TWO)
    replicas: int | None = None
    dimensions: tuple[int, ...] = ()
    noise: bool | None = None

    def enters(self, work: Work) -> bool:
        """Whether it runs this work."""
        return (not self.dimensions or work.dimension in self.dimensions) and self.noise in (
            None,
            work.noise > 0,
        )

    def part(self, work: Work) -> Work:
        """The work with this contestant's number of steps."""
        segment = max(1, round(self.share * work.segment))
        return replace(work, steps=segment * SEGMENTS, replicas=self.replicas or work.replicas)


CONTESTANTS = (
    Contestant(OURS, "ours", {"backend": "numba", "threads": 2}),
    Contestant(OURS_ONE, "ours", {"backend": "numba", "threads": 1}),
    Contestant(NORMALS, "normals", noise=True),
    Contestant("NumPy plain", "numpy_loops", {"in_place": False}, share=0.1),
    Contestant(IN_PLACE, "numpy_loops"),
    Contestant("NumPy in place, 2 threads", "numpy_loops", {"threads": 2}),
    Contestant("torch eager, 2 threads", "torch_batched", share=0.1),
    Contestant("torch compiled, 2 threads", "torch_batched", {"compiled": True}, share=0.1),
    Contestant(SCAN, "jax_scan", {"folded": False}, environment=_ONE_DEVICE),
    Contestant("JAX jit(scan), folded by hand", "jax_scan", environment=_ONE_DEVICE),
    Contestant(SHARDED, "jax_scan", {"devices": 2}, environment=_TWO_DEVICES),
    Contestant(LOOP, "sam_loop", share=0.1, replicas=4, dimensions=(20,), noise=True),
)

_SHARDINGS = (
    ("threefry2x32", None),
    ("threefry2x32", 10),
    ("threefry2x32", 50),
    ("threefry2x32", 500),
    ("rbg", None),
    ("unsafe_rbg", None),
)
"""Candidates for the best sharding by hand: generator, and replicas of a block."""

TARGETS: tuple[tuple[str, bool, dict[int, float]], ...] = (
    (SCAN, True, {20: 16, 100: 13, 1000: 11}),
    (SHARDED, True, {20: 10, 100: 8, 1000: 7}),
    (IN_PLACE, True, {20: 16, 100: 16, 1000: 16}),
    (LOOP, True, {20: 5000}),
    (SCAN, False, {20: 8, 100: 5, 1000: 4}),
)
"""At least this many times as fast, by competitor, noise and dimension."""


@dataclass(frozen=True)
class Plan:
    """What is run: every work with every contestant, so often."""

    works: tuple[Work, ...]
    repeats: int


_SIZES = ((20, 10_000, 1_000), (100, 4_000, 500), (1_000, 1_000, 200))
FULL = Plan(tuple(Work(*size, noise=noise) for noise in (0.1, 0.0) for size in _SIZES), repeats=5)
QUICK = Plan(tuple(replace(work, replicas=1_000, steps=100) for work in FULL.works), repeats=2)


def run(results: Path, plan: Plan = FULL, contestants: Sequence[Contestant] = CONTESTANTS) -> None:
    """Write benchmark_simulation and benchmark_simulation_targets, and print their rows."""
    python = jax_python()
    if python is None:
        print("JAX is not there (set JAX_PYTHON to an interpreter that has it): its rows are left out")
        contestants = [c for c in contestants if c.module != "jax_scan"]
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        workers = {
            c.name: stack.enter_context(
                Worker(c.module, python if c.module == "jax_scan" else None, c.environment)
            )
            for c in contestants
        }
        for work in plan.works:
            entered = [_best_sharding(c, work, workers) for c in contestants if c.enters(work)]
            rows += _race(work, entered, workers, plan.repeats)
    write_table(results, "benchmark_simulation", rows)
    targets = target_rows(rows)
    engine = next((c for c in contestants if c.name == OURS), None)
    if engine is not None:
        targets += _cold_rows(engine, plan.works[0], rows)
    for row in targets:
        print(row, flush=True)
    write_table(results, "benchmark_simulation_targets", targets)


def _race(
    work: Work, contestants: Sequence[Contestant], workers: dict[str, Worker], repeats: int
) -> list[dict[str, Any]]:
    """A row per contestant; the first of the rounds is not counted."""
    seconds: dict[str, list[float]] = {c.name: [] for c in contestants}
    preparing: dict[str, float] = {}
    for _ in range(1 + repeats):
        for c in contestants:
            answer = workers[c.name].run(c.part(work), **c.options)
            seconds[c.name].append(answer.seconds)
            preparing.setdefault(c.name, answer.preparing)
    rows = []
    for c in contestants:
        first, *times = seconds[c.name]
        part, median = c.part(work), statistics.median(times)
        rows.append(
            {
                "competitor": c.name,
                "dimension": work.dimension,
                "noise": work.noise,
                "replicas": part.replicas,
                "steps": part.steps,
                "repeats": len(times),
                "seconds": median,
                "fastest": min(times),
                "slowest": max(times),
                "ns_per_unit": 1e9 * median / part.units,
                "us_per_replica_step": 1e6 * median / (part.replicas * part.steps),
                "first_seconds": preparing[c.name] + first,
                "options": ", ".join(f"{key}={value}" for key, value in c.options.items()),
            }
        )
        print(
            f"{c.name:<32} d={work.dimension:<5} noise={work.noise:<4} {rows[-1]['ns_per_unit']:.3f} ns",
            flush=True,
        )
    return rows


def _best_sharding(contestant: Contestant, work: Work, workers: dict[str, Worker]) -> Contestant:
    """The sharded contestant with the options that are fastest on this work; any other as it is."""
    if contestant.name != SHARDED:
        return contestant
    short = replace(contestant, share=0.1).part(work)
    share = short.replicas // 2
    best, least = contestant, float("inf")
    for generator, block in _SHARDINGS:
        if block and (block >= share or share % block):
            continue
        options = {"devices": 2, "block": block, "generator": generator}
        workers[contestant.name].run(short, **options)
        seconds = workers[contestant.name].run(short, **options).seconds
        if seconds < least:
            best, least = replace(contestant, options=options), seconds
    return best


def _target(
    what: str, dimension: int | None, noise: bool | None, value: float, target: float, most: bool = False
) -> dict[str, Any]:
    return {
        "quantity": what,
        "dimension": dimension,
        "noise": noise,
        "measured": value,
        "target": target,
        "at": "most" if most else "least",
        "met": bool(value <= target if most else value >= target),
    }


def target_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ratios that were aimed at, of those that the rows hold; lower is better for the floor alone."""
    ns = {(row["competitor"], row["dimension"], row["noise"] > 0): row["ns_per_unit"] for row in rows}
    targets = [
        _target(f"times as fast as {name}", d, noise, ns[name, d, noise] / ns[OURS, d, noise], target)
        for name, noise, by_dimension in TARGETS
        for d, target in by_dimension.items()
        if {(name, d, noise), (OURS, d, noise)} <= set(ns)
    ]
    for d in sorted({d for _, d, _ in ns}):
        noisy, quiet, normals = (OURS_ONE, d, True), (OURS_ONE, d, False), (NORMALS, d, True)
        if {noisy, quiet, normals} <= set(ns):
            floor = ns[normals] + ns[quiet]
            name = f"1 thread over the floor of {floor:.3f} ns, normals and the noiseless run"
            targets.append(_target(name, d, True, ns[noisy] / floor, 1.3, most=True))
        if {noisy, (OURS, d, True)} <= set(ns):
            targets.append(_target("2 threads over 1", d, True, ns[noisy] / ns[OURS, d, True], 1.8))
    return targets


def _cold_rows(engine: Contestant, work: Work, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first call of a process, with a warm disk cache and with none, beside the warm one."""

    def first_call(environment: dict[str, str]) -> float:
        with Worker(engine.module, environment={**engine.environment, **environment}) as worker:
            answer = worker.run(work, **engine.options)
        return answer.preparing + answer.seconds

    (warm,) = (
        row["seconds"]
        for row in rows
        if (row["competitor"], row["dimension"], row["noise"]) == (OURS, work.dimension, work.noise)
    )
    cold = statistics.median(first_call({}) for _ in range(5))
    with tempfile.TemporaryDirectory() as folder:
        compiled = first_call({"NUMBA_CACHE_DIR": folder})
    noise = work.noise > 0
    name = f"seconds of a first call, kernels on disk; warm {warm:.3f}, compiling too {compiled:.1f}"
    return [_target(name, work.dimension, noise, cold, 1.0, most=True)]
