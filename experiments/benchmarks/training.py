"""Question: what does a step of training cost beyond that of SGD, above the extra pairs that it takes?

Design: SGD with momentum in the plainest loop, RST with p = 1/2 and SAM (p = 1) around the same SGD, each
with a network of its own from the same seed and the same minibatches, in one process. They run blocks of
steps in turns, in an order that rotates; ratios are paired by rounds. The trials are systematic: a block
of an even number of steps has exactly half of them perturbed, so the pairs that were taken and those
expected agree, and what is left of the ratio over 1 + mean p is the price of the method's own work.
Minibatches are laid out beforehand: their preparation, alike for all, would only flatter the ratios. The
optimizer is given the model, so that statistics of batch normalization are counted once.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from experiments.benchmarks.ratios import paired_ratio
from rst_theory.files import write_table
from rst_theory.optim import RST
from rst_theory.training.data import DATA, as_floats, load_data
from rst_theory.training.models import build_model

__all__ = ["FULL", "PROBABILITIES", "QUICK", "Block", "Task", "measure", "rows_of", "run", "target_rows"]

PROBABILITIES: dict[str, float | None] = {"SGD": None, "RST, p = 1/2": 0.5, "SAM": 1.0}
"""The contestants, with their p; None is the base without RST."""

_MINIBATCHES = 16


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        name: in the tables.
        data: a key of `DATA`.
        model: a key of `MODELS`.
        minibatch: its size.
        threads: of torch.
        steps: of a block; even.
        rounds: blocks of each contestant.
        target: of the ratio over 1 + mean p, at most.
    """

    name: str
    data: str
    model: str
    minibatch: int
    threads: int
    steps: int
    rounds: int
    target: float

    def __post_init__(self) -> None:
        if self.steps < 2 or self.steps % 2:
            raise ValueError(
                f"a block needs an even number of steps, so that p = 1/2 is met; got {self.steps}"
            )


FULL = (
    Task("ResNet-18 on Fashion-MNIST", "fashion-mnist", "resnet18", 32, 2, steps=10, rounds=12, target=1.03),
    Task("CNN on digits", "digits", "cnn", 30, 1, steps=100, rounds=60, target=1.08),
)
QUICK = (
    Task("ResNet-18 on Fashion-MNIST", "fashion-mnist", "resnet18", 4, 2, steps=2, rounds=3, target=1.03),
    Task("CNN on digits", "digits", "cnn", 30, 1, steps=20, rounds=10, target=1.08),
)


@dataclass(frozen=True)
class Block:
    """What one block of steps took.

    Attributes:
        seconds: in all.
        steps: how many.
        perturbed: how many of them took a second pair.
    """

    seconds: float
    steps: int
    perturbed: int


def run(results: Path, tasks: Sequence[Task] = FULL, data_dir: Path | None = None) -> None:
    """Write benchmark_training and benchmark_training_targets, and print their rows.

    Args:
        results: the folder.
        tasks: what is trained.
        data_dir: where the files of Fashion-MNIST are; random images of its shape without.
    """
    rows = []
    for task in tasks:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            blocks = process.submit(measure, task, data_dir).result()
        random = _is_random(task, data_dir)
        rows += [{**row, "random_images": random} for row in rows_of(task, blocks)]
        for row in rows[-len(blocks) :]:
            print(row, flush=True)
    write_table(results, "benchmark_training", rows)
    targets = target_rows(rows, tasks)
    for row in targets:
        print(row, flush=True)
    write_table(results, "benchmark_training_targets", targets)


def measure(task: Task, data_dir: Path | None) -> dict[str, list[Block]]:
    """The blocks of each contestant, in the order of the rounds; sets the threads of this process."""
    torch.set_num_threads(task.threads)
    minibatches = _minibatches(task, data_dir)
    contestants = [(name, _steps(task, p, minibatches)) for name, p in PROBABILITIES.items()]
    blocks: dict[str, list[Block]] = {name: [] for name in PROBABILITIES}
    for _, block in contestants:
        block()  # not counted: allocators and kernels get ready
    for i in range(task.rounds):
        first = i % len(contestants)
        for name, block in contestants[first:] + contestants[:first]:
            blocks[name].append(block())
    return blocks


def _is_random(task: Task, data_dir: Path | None) -> bool:
    return task.data != "digits" and data_dir is None


def _minibatches(task: Task, data_dir: Path | None) -> list[tuple[Tensor, Tensor]]:
    data, size = DATA[task.data], _MINIBATCHES * task.minibatch
    if _is_random(task, data_dir):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (size, *data.shape), dtype=torch.uint8, generator=generator)
        labels = torch.randint(data.classes, (size,), generator=generator)
    else:
        split = load_data(task.data, size, 0.0, 0, data_dir)
        images, labels = split.train_inputs, split.train_labels
    inputs = as_floats(images, torch.float32)
    return list(zip(inputs.chunk(_MINIBATCHES), labels.chunk(_MINIBATCHES), strict=True))


def _steps(task: Task, p: float | None, minibatches: Sequence[tuple[Tensor, Tensor]]) -> Callable[[], Block]:
    """A contestant, ready to run its next block."""
    data = DATA[task.data]
    model = build_model(task.model, data.shape, data.classes, seed=0)
    base = SGD(model.parameters(), lr=0.01, momentum=0.9)
    horizon = task.steps * (task.rounds + 1)
    rst = None if p is None else RST(base, p, horizon, rho=0.05, trials="systematic", model=model)
    done = 0

    def closure() -> Tensor:
        inputs, labels = minibatches[done % len(minibatches)]
        base.zero_grad()
        loss = cross_entropy(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def block() -> Block:
        nonlocal done
        before = 0 if rst is None else rst.perturbed_steps
        begin = time.perf_counter()
        for _ in range(task.steps):
            if rst is None:
                closure()
                base.step()
            else:
                rst.step(closure)
            done += 1
        seconds = time.perf_counter() - begin
        return Block(seconds, task.steps, 0 if rst is None else rst.perturbed_steps - before)

    return block


def rows_of(task: Task, blocks: dict[str, list[Block]]) -> list[dict[str, Any]]:
    """A row per contestant: its time over SGD's, and that over the pairs expected and taken."""
    sgd = [b.seconds for b in blocks["SGD"]]
    rows = []
    for name, own in blocks.items():
        seconds = [b.seconds for b in own]
        mean_p = PROBABILITIES[name] or 0.0
        taken = [1 + b.perturbed / b.steps for b in own]
        ratio = paired_ratio(seconds, sgd)
        over_expected = paired_ratio(seconds, [s * (1 + mean_p) for s in sgd])
        over_taken = paired_ratio(seconds, [s * pairs for s, pairs in zip(sgd, taken, strict=True)])
        rows.append(
            {
                "task": task.name,
                "contestant": name,
                "minibatch": task.minibatch,
                "threads": task.threads,
                "rounds": len(own),
                "steps": sum(b.steps for b in own),
                "ms_per_step": 1e3 * statistics.median(b.seconds / b.steps for b in own),
                "mean_p": mean_p,
                "pairs_taken": statistics.mean(taken),
                "over_sgd": ratio.median,
                "over_sgd_low": ratio.low,
                "over_sgd_high": ratio.high,
                "over_pairs_expected": over_expected.median,
                "over_pairs_expected_low": over_expected.low,
                "over_pairs_expected_high": over_expected.high,
                "over_pairs_taken": over_taken.median,
                "over_pairs_taken_low": over_taken.low,
                "over_pairs_taken_high": over_taken.high,
                "confidence": ratio.confidence,
            }
        )
    return rows


def target_rows(rows: Sequence[dict[str, Any]], tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The time of a step over (1 + mean p) that of SGD, at most the target of its task."""
    targets = {task.name: task.target for task in tasks}
    return [
        {
            "quantity": f"{row['contestant']}: time of a step over (1 + mean p) that of SGD",
            "task": row["task"],
            "measured": row["over_pairs_expected"],
            "low": row["over_pairs_expected_low"],
            "high": row["over_pairs_expected_high"],
            "target": targets[row["task"]],
            "at": "most",
            "met": row["over_pairs_expected"] <= targets[row["task"]],
        }
        for row in rows
        if PROBABILITIES[row["contestant"]] is not None
    ]
