"""Where the questions about networks are asked, and what their tables have in common.

All settings of `networks` on digits belong to every full run; those on Fashion-MNIST do where the environment
variable FASHION_MNIST names the directory of its images. Where it does not, what a table says about them is
kept as it is. Smaller runs ask in one setting.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.networks import NETWORK_RUNS, SETTINGS, Outcome, Setting, key_of, outcomes
from experiments.settings import Size
from experiments.statistics import mean_interval
from rst_theory.files import read_table
from rst_theory.training import TrainConfig

__all__ = [
    "estimate",
    "images",
    "logarithms",
    "outcomes_of",
    "pairs_per_step",
    "seeds_at",
    "settings_at_hand",
    "with_kept_rows",
]

Row = dict[str, Any]
_FASHION_SEEDS = 5


def images(setting: Setting) -> Path | None:
    """The directory of the setting's images; None where they come with a package or none is named."""
    directory = os.environ.get("FASHION_MNIST")
    return Path(directory) if directory and setting.data == "fashion-mnist" else None


def settings_at_hand(size: Size) -> list[Setting]:
    """Those of a full run, in the order of `SETTINGS`; one on noisy digits for a smaller run."""
    if size.full:
        return [setting for setting in SETTINGS if setting.data == "digits" or images(setting) is not None]
    return [Setting("digits", "long" if size.level == "check" else "short", 0.3)]


def seeds_at(setting: Setting, size: Size) -> int:
    """The number of paired seeds: `size.repetitions`, at most 5 on Fashion-MNIST, one for a first look."""
    if size.level == "quick":
        return 1
    return size.repetitions if setting.data == "digits" else min(size.repetitions, _FASHION_SEEDS)


def outcomes_of(
    setting: Setting,
    configs: Sequence[TrainConfig],
    size: Size,
    found: list[Outcome],
    sharpness: bool = True,
) -> Iterator[float]:
    """Run what has not been run; yields the share that is done, fills `found` in the order of the configs."""
    by_key: dict[str, Outcome] = {}
    runs = size.runs / NETWORK_RUNS.name
    yield from outcomes(configs, size.processes, by_key, images(setting), runs, sharpness)
    found.extend(by_key[key_of(config)] for config in configs)


def pairs_per_step(runs: Sequence[Outcome]) -> list[float | None]:
    """What each run spent; None where it diverged."""
    return [None if run.record is None else run.record.pairs_per_step for run in runs]


def with_kept_rows(rows: Sequence[Row], results: Path, name: str) -> list[Row]:
    """New rows, and after them those of the table as it stands whose setting on Fashion-MNIST is not in them.

    Args:
        rows: with the label of a setting in the column "setting".
        results: folder of the table.
        name: of the table; nothing is kept where it is not there yet.
    """
    table = results / f"{name}.json"
    fresh = {row["setting"] for row in rows}
    theirs = {setting.label for setting in SETTINGS if setting.data == "fashion-mnist"} - fresh
    kept = [row for row in read_table(table) if row["setting"] in theirs] if table.exists() else []
    return [*rows, *kept]


def logarithms(values: Sequence[float | None]) -> list[float | None]:
    """None where nothing was measured, as of a run that diverged, or where the estimate is not positive."""
    return [math.log(value) if value is not None and value > 0 else None for value in values]


def estimate(name: str, values: Sequence[float | None]) -> Row:
    """The columns name, name_low, name_high: the mean of what is known with its interval; null where unknown.

    Args:
        name: of the columns.
        values: a number for each seed; None where it could not be measured.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    mean = float(np.mean(known)) if known else None
    _, low, high = mean_interval(known) if len(known) > 1 else (None, None, None)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}
