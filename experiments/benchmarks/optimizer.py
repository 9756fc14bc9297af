"""Question: how long does a SAM step work beyond its passes and the step of its base?

Design: parameters of the shapes of real networks, float32, on the CPU with two threads, under SGD without
momentum. The closure computes nothing: it lays out tensors as large as activations, writes into all of
them and frees them, then hands out gradients in memory allocated afresh, as backward does. The own work of
a step is the time of `step` less that of the closures and of the base's step, all read in that same step;
so freeing the first gradients is own work, of everyone. The first pass of pytorch_optimizer's SAM is its
caller's and no part of `step`.

Every contestant lives in a process of its own, with an allocator of its own; they take turns, in an order
that rotates. A turn is the median of its steps; ratios are paired by rounds. What allocating afresh costs
depends on what else is allocated: the GNU allocator hands large blocks back to the system until it has seen
blocks of up to 32 MB come and go, then keeps them. So there are three settings, `ACTIVATIONS`: large tensors
alone, a mixture of sizes as in a network whose layers shrink, and none; the targets stand for the first two.

Floor: the reads and writes of the method, counted in sizes of all parameters, at the best rate at which
this machine streams tensors of that size, measured in the same rounds: the fastest of the kernels in
`STREAMS`, reads and writes counted alike.

    swap                norm 1, perturbed weights 3, check of the second gradient 1            = 5
    with gamma not 1    swap 5, mixture 3                                                      = 8
    copy                norm 1, kept weights 2, perturbation in place 3, back 2, check 1       = 9
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from experiments.benchmarks.ratios import paired_ratio
from rst_theory.files import write_table
from rst_theory.optim import RST
from rst_theory.training.models import MODELS

__all__ = [
    "ACTIVATIONS",
    "CONTESTANTS",
    "FULL",
    "QUICK",
    "STREAMS",
    "Contestant",
    "Plan",
    "run",
    "shapes_of",
    "target_rows",
]

RHO, RATE, THREADS = 0.05, 1e-4, 2
PEER, PEER_FOREACH = "pytorch_optimizer SAM", "pytorch_optimizer SAM, foreach"
SAM, MIXED, COPY = "RST, gamma 1, swap", "RST, gamma 2, swap", "RST, gamma 1, copy"
FLOOR_TARGET = 1.4
ACTIVATIONS: dict[str, tuple[int, ...]] = {
    "large": (200, 150, 100, 50),
    "mixed": (128, 64, 32, 16, 8, 4, 2, 1) * 2,
    "none": (),
}
"""Sizes, in MB, of the tensors that live together before each pass."""


def _rst(parameters: list[nn.Parameter], **options: Any) -> RST:
    return RST(SGD(parameters, lr=RATE), 1.0, rho=RHO, **options)


def _peer(parameters: list[nn.Parameter], **options: Any) -> Any:
    peer = importlib.import_module("pytorch_optimizer")
    return peer.SAM(parameters, SGD, rho=RHO, lr=RATE, **options)


def _weighted_peer(parameters: list[nn.Parameter]) -> Any:
    """Its gamma / (1 - gamma) is our gamma, here 2."""
    peer = importlib.import_module("pytorch_optimizer")
    model = nn.ParameterList(parameters)
    return peer.WSAM(model, parameters, SGD, rho=RHO, gamma=2 / 3, decouple=False, lr=RATE)


@dataclass(frozen=True)
class Contestant:
    """A way to take a SAM step.

    Attributes:
        name: in the tables.
        build: from parameters to the optimizer.
        moves: reads and writes of the method, in sizes of all parameters; None for peers.
        target: of its time over that of the peer's SAM, at most.
        called: whether the caller runs the first pass.
    """

    name: str
    build: Callable[[list[nn.Parameter]], Any]
    moves: int | None = None
    target: float | None = None
    called: bool = False

    @property
    def is_peer(self) -> bool:
        """Whether it needs pytorch_optimizer."""
        return self.moves is None


CONTESTANTS = (
    Contestant(PEER, _peer, called=True),
    Contestant(PEER_FOREACH, lambda parameters: _peer(parameters, foreach=True), called=True),
    Contestant("pytorch_optimizer WSAM, gamma 2", _weighted_peer),
    Contestant(SAM, lambda parameters: _rst(parameters, storage="swap"), moves=5, target=0.4),
    Contestant(MIXED, lambda parameters: _rst(parameters, gamma=2.0, storage="swap"), moves=8, target=0.6),
    Contestant(COPY, lambda parameters: _rst(parameters, storage="copy"), moves=9, target=0.6),
)

STREAMS: dict[str, tuple[int, Callable[[Tensor, Tensor, Tensor], object]]] = {
    "copy_": (2, lambda x, y, z: z.copy_(x)),
    "add, out=": (3, lambda x, y, z: torch.add(x, y, alpha=RHO, out=z)),
    "add_": (3, lambda x, y, z: x.add_(y, alpha=RHO)),
    "dot": (1, lambda x, y, z: torch.dot(x, x)),
    "norm": (1, lambda x, y, z: torch.linalg.vector_norm(x)),
}
"""Kernels, with the reads and writes of one tensor each."""


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        models: keys of `MODELS`.
        rounds: in which each contestant takes one turn.
        steps: of a turn.
        activations: keys of `ACTIVATIONS`.
    """

    models: tuple[str, ...]
    rounds: int
    steps: int
    activations: tuple[str, ...] = tuple(ACTIVATIONS)


FULL = Plan(("resnet18", "wrn28-10"), rounds=9, steps=3)
QUICK = Plan(("resnet18", "wrn28-10"), rounds=8, steps=1, activations=("mixed",))


def run(results: Path, plan: Plan = FULL) -> None:
    """Write benchmark_optimizer, …_rates and …_targets, and print their rows."""
    contestants: Sequence[Contestant] = CONTESTANTS
    if importlib.util.find_spec("pytorch_optimizer") is None:
        print("pytorch_optimizer is not there (it comes with the extra bench): its rows are left out")
        contestants = [c for c in contestants if not c.is_peer]
    rows: list[dict[str, Any]] = []
    rates: list[dict[str, Any]] = []
    for model in plan.models:
        size = 4 * sum(shape.numel() for shape in shapes_of(model))
        for activations in plan.activations:
            seconds, streams = _race(contestants, model, activations, plan)
            best = _best_stream(streams)
            rates += _rate_rows(model, activations, size, streams)
            rows += _rows(contestants, model, activations, size, seconds, best, streams[best])
    write_table(results, "benchmark_optimizer", rows)
    write_table(results, "benchmark_optimizer_rates", rates)
    targets = target_rows(rows)
    for row in [*rates, *targets]:
        print(row, flush=True)
    write_table(results, "benchmark_optimizer_targets", targets)


def shapes_of(model: str) -> list[torch.Size]:
    """The shapes of the parameters of a network for 3 x 32 x 32 images in 10 classes."""
    with torch.device("meta"):
        return [p.shape for p in MODELS[model]((3, 32, 32), 10).parameters()]


# ---- in the process of a contestant


class _Steps:
    """A contestant at work."""

    def __init__(self, contestant: Contestant, shapes: Sequence[torch.Size], activations: str) -> None:
        self.contestant, self.activations = contestant, ACTIVATIONS[activations]
        generator = torch.Generator().manual_seed(0)
        self.parameters = [nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
        self.gradients = [torch.randn(s, generator=generator) for s in shapes]
        self.optimizer = contestant.build(self.parameters)
        base: Any = self.optimizer.base_optimizer if contestant.is_peer else self.optimizer.base
        self.elsewhere = 0.0
        base.step = self._timed(base.step)
        self.closure = self._timed(self._pass)

    def turn(self, steps: int) -> float:
        """The median of the own work of some steps, in seconds."""
        return statistics.median(self._own_seconds() for _ in range(steps))

    def _own_seconds(self) -> float:
        if self.contestant.called:
            self.closure()
        self.elsewhere = 0.0
        begin = time.perf_counter()
        self.optimizer.step(self.closure)
        return time.perf_counter() - begin - self.elsewhere

    def _timed(self, function: Callable[[], object]) -> Callable[[], object]:
        def timed() -> object:
            begin = time.perf_counter()
            result = function()
            self.elsewhere += time.perf_counter() - begin
            return result

        return timed

    def _pass(self) -> Tensor:
        for p in self.parameters:
            p.grad = None
        activations = [torch.ones(megabytes * 250_000) for megabytes in self.activations]
        del activations
        for p, g in zip(self.parameters, self.gradients, strict=True):
            p.grad = g.clone()
        return torch.zeros(())


class _Streams:
    """Plain kernels on flat tensors as large as all parameters together."""

    def __init__(self, shapes: Sequence[torch.Size]) -> None:
        self.tensors = tuple(torch.rand(sum(s.numel() for s in shapes)) for _ in range(3))

    def turn(self) -> dict[str, float]:
        """The fastest of a few runs of each kernel, in seconds."""
        return {name: min(self._seconds(kernel) for _ in range(4)) for name, (_, kernel) in STREAMS.items()}

    def _seconds(self, kernel: Callable[[Tensor, Tensor, Tensor], object]) -> float:
        begin = time.perf_counter()
        kernel(*self.tensors)
        return time.perf_counter() - begin


_at_work: _Steps | _Streams


def _start(name: str | None, model: str, activations: str) -> None:
    """Make ready what this process is for: a contestant, or the kernels where there is no name."""
    global _at_work
    torch.set_num_threads(THREADS)
    shapes = shapes_of(model)
    if name is None:
        _at_work = _Streams(shapes)
    else:
        (contestant,) = (c for c in CONTESTANTS if c.name == name)
        _at_work = _Steps(contestant, shapes, activations)


def _turn(*arguments: Any) -> Any:
    return _at_work.turn(*arguments)


# ---- in the process that asks


def _race(
    contestants: Sequence[Contestant], model: str, activations: str, plan: Plan
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of every round: of each contestant's step, and of each kernel."""
    seconds: dict[str, list[float]] = {c.name: [] for c in contestants}
    streams: dict[str, list[float]] = {name: [] for name in STREAMS}
    with ExitStack() as stack:

        def process(name: str | None) -> ProcessPoolExecutor:
            context = multiprocessing.get_context("spawn")
            return stack.enter_context(
                ProcessPoolExecutor(
                    1, mp_context=context, initializer=_start, initargs=(name, model, activations)
                )
            )

        kernels, processes = process(None), [(c.name, process(c.name)) for c in contestants]
        for warm in processes:
            warm[1].submit(_turn, 2).result()
        kernels.submit(_turn).result()
        for i in range(plan.rounds):
            first = i % len(processes)
            for name, contestant in processes[first:] + processes[:first]:
                seconds[name].append(contestant.submit(_turn, plan.steps).result())
            for name, of_kernel in kernels.submit(_turn).result().items():
                streams[name].append(of_kernel)
    return seconds, streams


def _best_stream(streams: dict[str, list[float]]) -> str:
    """The kernel that moves the most bytes a second."""
    return max(streams, key=lambda name: STREAMS[name][0] / statistics.median(streams[name]))


def _rate_rows(
    model: str, activations: str, size: int, streams: dict[str, list[float]]
) -> list[dict[str, Any]]:
    best = _best_stream(streams)
    return [
        {
            "shapes": model,
            "activations": activations,
            "kernel": name,
            "moves": STREAMS[name][0],
            "ms": 1e3 * statistics.median(seconds),
            "gb_per_second": 1e-9 * STREAMS[name][0] * size / statistics.median(seconds),
            "best": name == best,
        }
        for name, seconds in streams.items()
    ]


def _rows(
    contestants: Sequence[Contestant],
    model: str,
    activations: str,
    size: int,
    seconds: dict[str, list[float]],
    stream: str,
    stream_seconds: Sequence[float],
) -> list[dict[str, Any]]:
    """A row per contestant."""
    peers = [c.name for c in contestants if c.name in (PEER, PEER_FOREACH)]
    peer = min(peers, key=lambda name: statistics.median(seconds[name]), default=None)
    per_move = [s / STREAMS[stream][0] for s in stream_seconds]
    rows = []
    for c in contestants:
        own = seconds[c.name]
        floor = None if c.moves is None else [c.moves * s for s in per_move]
        over_floor = None if floor is None else paired_ratio(own, floor)
        over_peer = None if peer is None else paired_ratio(own, seconds[peer])
        rows.append(
            {
                "shapes": model,
                "parameters": size // 4,
                "activations": activations,
                "contestant": c.name,
                "rounds": len(own),
                "ms": 1e3 * statistics.median(own),
                "fastest_ms": 1e3 * min(own),
                "slowest_ms": 1e3 * max(own),
                "peer": peer,
                "over_peer": over_peer and over_peer.median,
                "over_peer_low": over_peer and over_peer.low,
                "over_peer_high": over_peer and over_peer.high,
                "moves": c.moves,
                "floor_ms": floor and 1e3 * statistics.median(floor),
                "over_floor": over_floor and over_floor.median,
                "over_floor_low": over_floor and over_floor.low,
                "over_floor_high": over_floor and over_floor.high,
                "confidence": paired_ratio(own, own).confidence,
            }
        )
        print(f"{c.name:<32} {model:<9} {activations:<6} {rows[-1]['ms']:.2f} ms", flush=True)
    return rows


def target_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ratios that were aimed at, each at most its target, where there are activations."""
    targets = {c.name: c.target for c in CONTESTANTS if c.target is not None}
    return [
        {
            "quantity": f"{row['contestant']}: time over that of {what}",
            "shapes": row["shapes"],
            "activations": row["activations"],
            "measured": row[key],
            "low": row[f"{key}_low"],
            "high": row[f"{key}_high"],
            "target": target,
            "at": "most",
            "met": row[key] <= target,
        }
        for row in rows
        if ACTIVATIONS[row["activations"]] and row["contestant"] in targets
        for what, key, target in (
            (row["peer"], "over_peer", targets[row["contestant"]]),
            ("the floor", "over_floor", FLOOR_TARGET),
        )
        if row[key] is not None
    ]
