"""Question: on Fashion-MNIST, clean and with noisy labels, what do RST and G-RST gain over SGD and SAM?

Design: 10,000 of the training images, all 10,000 test images, the small convolutional network, minibatches
of 100, SGD with the learning rate, momentum and cosine of `TrainConfig`'s defaults, no augmentation; clean,
and with 30 % of the training labels redrawn. SGD, RST (p = .5), G-RST (p = .5, gamma = 2) and SAM, all with
rho = .1, on common random numbers: five seeds decide images, noise, initial weights, batches and the uniform
numbers behind the trials. Accuracy is that after the last epoch; differences are paired.

Rule fixed before the run: a method beats another where the 99 % t interval of the paired difference lies
above 0. No setting was tried beforehand, and none is left out.

`python -m experiments.fashion --data-dir DIR`, or with the directory in the variable FASHION_MNIST; a second
call goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

import rst_theory as rst
from experiments.paired import history_rows, run_rows, summary_rows, train_all
from experiments.pool import spread
from experiments.settings import RESULTS, RUNS
from rst_theory.files import write_table
from rst_theory.training import RunRecord, TrainConfig

__all__ = ["Design", "main", "run"]

FIRST_SEED = 100
LABEL_NOISE = (0.0, 0.3)


@dataclass(frozen=True)
class Design:
    """The size of the runs.

    Attributes:
        train_size: training images.
        epochs: of each run.
        repetitions: paired seeds.
        processes: run side by side, each with one thread.
    """

    train_size: int = 10_000
    epochs: int = 12
    repetitions: int = 5
    processes: int = 2


def run(data_dir: Path, results: Path, design: Design) -> Iterator[float]:
    """Write fashion_runs, fashion_summary and fashion_history; yields the share that is done."""
    tasks = [
        (data_dir, noise, FIRST_SEED + i, design) for i in range(design.repetitions) for noise in LABEL_NOISE
    ]
    records: list[list[RunRecord]] = []
    yield from spread(repetition, tasks, design.processes, records)
    by_noise = {noise: records[i :: len(LABEL_NOISE)] for i, noise in enumerate(LABEL_NOISE)}
    for name, rows in (("runs", run_rows), ("summary", summary_rows), ("history", history_rows)):
        table = [row for noise, mine in by_noise.items() for row in rows(mine, label_noise=noise)]
        write_table(results, f"fashion_{name}", table)


def repetition(data_dir: Path, label_noise: float, seed: int, design: Design) -> list[RunRecord]:
    """All methods at one seed."""
    config = TrainConfig(
        rst.Constant(0.0),
        rho=0.1,
        data="fashion-mnist",
        model="cnn",
        epochs=design.epochs,
        batch_size=100,
        label_noise=label_noise,
        train_size=design.train_size,
        seed=seed,
    )
    return train_all(config, RUNS / "fashion", data_dir)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 2 without the files, 130 after an interrupt."""
    parser = argparse.ArgumentParser(prog="python -m experiments.fashion")
    parser.add_argument("--data-dir", default=os.environ.get("FASHION_MNIST"), help="of the IDX files")
    directory = parser.parse_args(arguments).data_dir
    if directory is None:
        print("error: give --data-dir, or the variable FASHION_MNIST", file=sys.stderr)
        return 2
    shares = run(Path(directory), RESULTS, Design())
    tasks = Design().repetitions * len(LABEL_NOISE)
    try:
        for _ in track(shares, "Fashion-MNIST", total=tasks):
            pass
    except KeyboardInterrupt:
        print("Interrupted. The runs are kept; the same command goes on from them.", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
