"""The jobs that are killed: a training, a grid of simulations, a report, and tasks side by side."""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any
from unittest import mock

from rst_theory.files import read_json, read_table, write_table
from tests.campaigns.kills import Job

__all__ = ["JOBS", "NOT_COMPARED"]

NOT_COMPARED = ("wall_seconds", "images_per_second", "seconds", "git_revision", "sha256")
"""Fields of a record or a checkpoint that tell the time, and the checksum over them; the revision is that of
the source when the run ends. Everything else is compared."""

COST = Path(__file__).parents[2] / "experiments" / "results" / "cost.json"
OLD_PAGE = "<!doctype html><title>The page before</title></html>\n"


def digest(path: Path) -> str:
    """The SHA-256 of a whole file but for what is not compared.

    Raises:
        Exception: it is damaged.
    """
    content: Any = path.read_bytes()
    if path.name == "record.json":
        from rst_theory.training import load_record

        load_record(path)  # which looks at its checksum
    if path.suffix == ".json":
        content = _without_times(read_json(path))
    elif path.suffix == ".pt":
        from rst_theory.training.checkpoints import load_checkpoint

        content = _without_times(load_checkpoint(path))
    elif path.suffix == ".npz":
        from rst_theory.simulation import Trajectories

        Trajectories.load(path)
    elif path.suffix == ".html" and not content.endswith(b"</html>\n"):
        raise ValueError("the page has no end")
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in NOT_COMPARED}
    if isinstance(value, list | tuple):
        return [_without_times(v) for v in value]
    if hasattr(value, "numpy"):
        return value.dtype, value.shape, value.contiguous().numpy().tobytes()
    return value


def _nothing(folder: Path) -> None:
    """The folder is empty before the job."""


def _python(name: str, folder: Path) -> list[str]:
    # imported, since a pool tells its tasks by the name of their module
    code = "import sys; from tests.campaigns.kill_jobs import main; sys.exit(main())"
    return [sys.executable, "-c", code, name, str(folder)]


def _rst_theory(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("rst-theory")), *words]


# A training whose steps depend on what came before: momentum, rate, coins, augmentation, noisy labels


def _train_words(folder: Path) -> list[str]:
    words = "train --schedule 0.5 --gamma 1.5 --model mlp --train-size 80 --label-noise 0.3 --epochs 2"
    words += " --augmentation crop --batch-size 20 --momentum 0.9 --precision float64 --threads 1 --folder"
    return [*words.split(), str(folder / "run")]


def train(folder: Path) -> int:
    """The command line in this process; with a checkpoint after every step, as if each took a minute."""
    from rst_theory.cli import main
    from rst_theory.training import loop

    with mock.patch.object(loop, "SECONDS_BETWEEN_SAVES", 0.0):
        return main(_train_words(folder))


def train_command(folder: Path) -> list[str]:
    """The same with a checkpoint after every epoch."""
    return _rst_theory(*_train_words(folder))


# A grid of simulations


def grid(folder: Path, processes: int = 2) -> int:
    """Six cells, and the table of them."""
    import rst_theory as rst

    found = rst.simulate_grid(
        rst.problems.Quadratic([1.0, 0.4, 0.1], noise=0.2),
        {"never": 0.0, "half": 0.5, "rising": rst.Linear(0.0, 1.0)},
        steps=100,
        eta=0.3,
        rho=0.1,
        replicas=32,
        repetitions=2,
        backend="numpy",
        folder=folder / "cells",
        processes=processes,
        progress=False,
    )
    if found.partial:
        return 130
    rows = [cell._asdict() | {"gap": run.final_gap.mean} for cell, run in found.items()]
    write_table(folder, "grid", rows)
    return 0


def grid_alone(folder: Path) -> int:
    """The same in one process."""
    return grid(folder, processes=1)


def grid_command(folder: Path) -> list[str]:
    """The same in a new interpreter."""
    return _python("grid", folder)


# A report


def _report_words(folder: Path) -> list[str]:
    return ["report", "--results", str(folder / "results"), "--output", str(folder / "page.html")]


def report(folder: Path) -> int:
    """The command line in this process."""
    from rst_theory.cli import main

    return main(_report_words(folder))


def report_command(folder: Path) -> list[str]:
    """The command line."""
    return _rst_theory(*_report_words(folder))


def report_prepare(folder: Path) -> None:
    """There is a page, of other results."""
    write_table(folder / "results", "cost", read_table(COST)[:3])
    (folder / "page.html").write_text(OLD_PAGE, encoding="utf-8")


# Tasks side by side, as the experiments have them


def pool(folder: Path) -> int:
    """Eight tasks, and the table of what they found."""
    from experiments.pool import spread

    found: list[dict[str, float]] = []
    try:
        for _ in spread(measure, [(seed,) for seed in range(8)], 2, found, keep=folder / "kept"):
            pass
    except KeyboardInterrupt:  # as `python -m experiments` does
        return 130
    write_table(folder, "pool", found)
    return 0


def pool_forked(folder: Path) -> int:
    """The same with workers that are forked too, and begin at once."""
    fork = multiprocessing.get_context("fork")
    with mock.patch("experiments.pool.multiprocessing.get_context", return_value=fork):
        return pool(folder)


def pool_alone(folder: Path) -> int:
    """The same in one process."""
    from experiments import pool as room

    with mock.patch.object(room, "ProcessPoolExecutor", _AtOnce):
        return pool(folder)


def pool_command(folder: Path) -> list[str]:
    """The same in a new interpreter."""
    return _python("pool", folder)


def measure(seed: int) -> dict[str, float]:
    """A task that takes a while."""
    time.sleep(0.05)
    dice = random.Random(seed)
    return {"seed": seed, "mean": sum(dice.random() for _ in range(1000)) / 1000}


class _AtOnce(Executor):
    """Runs a task when it is submitted."""

    def __init__(self, *_: object, **options: object) -> None:
        pass

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **options))
        return future


def _jobs() -> Iterator[Job]:
    yield Job("train", train, train, train_command, _nothing, digest, frozenset({"run/checkpoint.pt"}))
    yield Job("grid", grid, grid_alone, grid_command, _nothing, digest)
    yield Job("report", report, report, report_command, report_prepare, digest)
    yield Job("pool", pool_forked, pool_alone, pool_command, _nothing, digest)


JOBS = {job.name: job for job in _jobs()}
"""By name."""


def main(words: Sequence[str] | None = None) -> int:
    """Do one of the jobs that have no command line of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("grid", "pool"))
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(words)
    return {"grid": grid, "pool": pool}[asked.name](asked.folder)
