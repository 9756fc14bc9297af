"""Methods compared on common random numbers: their runs, and the tables of their paired differences.

The seed decides split, label noise, initial weights, batches and the uniform numbers behind the trials,
whatever the method; so the differences between methods are taken seed by seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

import rst_theory as rst
from experiments.settings import CONFIDENCE
from rst_theory.cost import CostLaw
from rst_theory.notation import FloatArray
from rst_theory.training import RunRecord, TrainConfig, train

__all__ = ["METHODS", "Method", "history_rows", "run_rows", "summary_rows", "train_all"]


class Method(NamedTuple):
    """A method by its constant probability and mixing coefficient."""

    name: str
    p: float
    gamma: float


METHODS = (
    Method("SGD", 0.0, 1.0),
    Method("RST", 0.5, 1.0),
    Method("G-RST", 0.5, 2.0),
    Method("SAM", 1.0, 1.0),
)

Repetitions = Sequence[Sequence[RunRecord]]
"""The records of each seed, in the order of `METHODS`."""


def train_all(config: TrainConfig, runs: Path, data_dir: Path | None = None) -> list[RunRecord]:
    """All methods at the seed of a config, one after the other in one process, in an order that it rotates.

    Args:
        config: the run, but for its method.
        runs: the folder in which each run has one of its own; finished runs are not run again.
        data_dir: where the files of the data are.

    Returns:
        Their records, in the order of `METHODS`.
    """
    records: dict[str, RunRecord] = {}
    turn = config.seed % len(METHODS)
    for method in METHODS[turn:] + METHODS[:turn]:
        own = replace(config, schedule=rst.Constant(method.p), gamma=method.gamma)
        key = hashlib.sha256(json.dumps(own.to_dict(), sort_keys=True).encode()).hexdigest()[:12]
        folder = runs / f"{method.name}-{own.seed}-{key}"
        records[method.name] = train(own, folder, threads=1, data_dir=data_dir)
    return [records[method.name] for method in METHODS]


def run_rows(repetitions: Repetitions, **setting: Any) -> Iterator[dict[str, Any]]:
    """A row for each run: accuracy, pairs beside their law, time; the setting comes first in each."""
    for records in repetitions:
        for method, record in zip(METHODS, records, strict=True):
            low, high = CostLaw(record.config.schedule, record.steps).interval(CONFIDENCE)
            yield setting | {
                "method": method.name,
                "p": method.p,
                "gamma": method.gamma,
                "seed": record.config.seed,
                "accuracy": record.final_test_accuracy,
                "pairs": record.pairs,
                "planned_pairs": record.predicted_pairs,
                "expected_pairs": record.expected_pairs,
                "expected_low": record.steps + low,
                "expected_high": record.steps + high,
                "steps": record.steps,
                "seconds": record.wall_seconds,
                "seconds_vs_sgd": record.wall_seconds / records[0].wall_seconds,
            }


def summary_rows(repetitions: Repetitions, **setting: Any) -> Iterator[dict[str, Any]]:
    """A row for each method: mean accuracy, cost, and paired differences to SGD and SAM, with intervals."""
    by_method = _by_method(repetitions)
    accuracy = {
        name: np.array([record.final_test_accuracy for record in mine]) for name, mine in by_method.items()
    }
    for method in METHODS:
        mine = by_method[method.name]
        seconds = np.array([r.wall_seconds for r in mine]) / [r.wall_seconds for r in by_method["SGD"]]
        row = setting | {"method": method.name, "p": method.p, "gamma": method.gamma, "runs": len(mine)}
        row |= _interval("accuracy", accuracy[method.name])
        row["pairs_per_step"] = float(np.mean([record.pairs_per_step for record in mine]))
        row["expected_pairs_per_step"] = mine[0].expected_pairs / mine[0].steps
        row["seconds_vs_sgd"] = float(np.median(seconds))
        row["seconds_low"], row["seconds_high"] = float(seconds.min()), float(seconds.max())
        for other in ("SGD", "SAM"):
            row |= _interval(f"versus_{other.lower()}", accuracy[method.name] - accuracy[other])
        yield row


def history_rows(repetitions: Repetitions, **setting: Any) -> Iterator[dict[str, Any]]:
    """A row for each method and epoch: mean accuracy and its interval."""
    for name, mine in _by_method(repetitions).items():
        accuracy = np.array([record.test_accuracy for record in mine])
        for epoch, sample in enumerate(accuracy.T, start=1):
            row = _interval("accuracy", sample)
            yield setting | {
                "method": name,
                "epoch": epoch,
                "accuracy": row["accuracy"],
                "low": row["accuracy_low"],
                "high": row["accuracy_high"],
            }


def _by_method(repetitions: Repetitions) -> dict[str, list[RunRecord]]:
    return {m.name: [records[i] for records in repetitions] for i, m in enumerate(METHODS)}


def _interval(name: str, sample: FloatArray) -> dict[str, float]:
    """Mean and t interval of a sample of at least two."""
    mean = float(sample.mean())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, sample.size - 1) * stats.sem(sample))
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
