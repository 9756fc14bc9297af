"""Question: on real data with noisy labels, what do RST and G-RST gain over SGD, and at what cost?

Design: scikit-learn's digits with 30 % of the training labels redrawn, a small convolutional network, SGD
with momentum, four methods on common random numbers: the seed decides split, noise, initial weights,
batches and the uniform numbers behind the trials. Differences are paired. Rule fixed before the run: a
method beats another where the 99 % t interval of the paired difference lies above 0.

The batch size and the learning rate (the defaults of `TrainConfig`) were picked among seven settings, on
seeds of their own, for differences between the methods that are easy to see; milder settings showed smaller
ones (`paper_notes/claims.md#c5`). So the order of the methods is evidence, the size of the gaps is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import rst_theory as rst
from experiments.paired import history_rows, run_rows, summary_rows, train_all
from experiments.pool import spread
from experiments.question import Check
from experiments.settings import Size
from rst_theory.files import write_table
from rst_theory.training import RunRecord, TrainConfig

__all__ = ["CHECKS", "run"]

CHECKS = (
    Check("digits_summary", ("method",), "accuracy", ("accuracy_low", "accuracy_high"), repetitions="runs"),
)

FIRST_SEED = 100
"""Seeds below and from 1000 on were looked at while the setting was chosen."""


def run(size: Size, results: Path) -> Iterator[float]:
    """Write digits_runs, digits_summary and digits_history; yields the share that is done."""
    records: list[list[RunRecord]] = []
    tasks = [(FIRST_SEED + i, size.epochs, size.runs / "digits") for i in range(size.repetitions)]
    yield from spread(repetition, tasks, size.processes, records)
    write_table(results, "digits_runs", list(run_rows(records)))
    write_table(results, "digits_summary", list(summary_rows(records)))
    write_table(results, "digits_history", list(history_rows(records)))


def repetition(seed: int, epochs: int, runs: Path) -> list[RunRecord]:
    """All methods at one seed."""
    return train_all(TrainConfig(rst.Constant(0.0), rho=0.1, epochs=epochs, seed=seed), runs)
