"""Network runs for several questions at once: each is run once, measured at its end, and kept as a file.

A run is keyed by a hash of its configuration, so that questions which ask for the same run share it, and a
second call goes on where the first was stopped. Measured at the last weights, besides what `RunRecord` says:
accuracy on two halves of the examples that were not trained on, one for choosing (its labels are as noisy as
those of the training set, as they would be where nobody knows the right ones) and one for the verdict; and
the sharpness on training examples.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

import rst_theory as rst
from experiments.pool import spread
from experiments.settings import RUNS
from rst_theory.files import read_json, write_json
from rst_theory.schedules import Schedule
from rst_theory.training import (
    DATA,
    Hessian,
    RunRecord,
    Split,
    TrainConfig,
    as_floats,
    train,
    trained,
)
from rst_theory.training.seeds import generator

__all__ = ["NETWORK_RUNS", "SETTINGS", "Outcome", "Setting", "config_of", "key_of", "outcome", "outcomes"]

NETWORK_RUNS = RUNS / "networks"
_SHARPNESS_EXAMPLES = 300
_HUTCHINSON_VECTORS = 20
_FORMAT = 1


class Setting(NamedTuple):
    """Where a question is asked: the data, for how long, and the share of labels that are redrawn."""

    data: Literal["digits", "fashion-mnist"]
    length: Literal["short", "long"]
    label_noise: float

    @property
    def label(self) -> str:
        """For tables and figures."""
        labels = f"{100 * self.label_noise:.0f} % labels redrawn" if self.label_noise else "clean labels"
        return f"{self.data}, {self.length}, {labels}"


SETTINGS = tuple(
    Setting(data, length, noise)
    for data in ("digits", "fashion-mnist")
    for length in ("long", "short")
    for noise in (0.3, 0.0)
)
"""Digits: 900 training images, minibatches of 30. Fashion-MNIST: 1,000 training images, minibatches of 50.
Both: the small convolutional network, SGD with momentum .9, a cosine from .05, 40 epochs (long) or 10."""

_EPOCHS = {"long": 40, "short": 10}


@dataclass(frozen=True)
class Outcome:
    """A finished run and what was measured at its end; None where it diverged.

    Attributes:
        config: what was run.
        record: of the run.
        accuracy: on all examples that were not trained on.
        validation_accuracy: on the first half of them, with noisy labels: for choosing.
        test_accuracy: on the other half.
        train_loss: at the last weights, on the training examples as labelled.
        largest_eigenvalue: of the Hessian on 300 training examples; None also where it was not asked for.
        trace: of that Hessian, by 20 random vectors; likewise.
    """

    config: TrainConfig
    record: RunRecord | None
    accuracy: float
    validation_accuracy: float
    test_accuracy: float
    train_loss: float | None
    largest_eigenvalue: float | None
    trace: float | None

    @property
    def diverged(self) -> bool:
        """Whether the run ended in numbers that are not finite; its accuracies are then those of a guess."""
        return self.record is None


def config_of(
    setting: Setting,
    seed: int,
    schedule: Schedule | float,
    *,
    rho: float = 0.1,
    gamma: float = 1.0,
    **changes: Any,
) -> TrainConfig:
    """The configuration of a method in a setting."""
    p = schedule if isinstance(schedule, Schedule) else rst.Constant(schedule)
    config = TrainConfig(
        p, rho=rho, gamma=gamma, label_noise=setting.label_noise, epochs=_EPOCHS[setting.length], seed=seed
    )
    if setting.data != "digits":
        size: dict[str, Any] = {"data": setting.data, "train_size": 1000, "batch_size": 50, "test_size": 100}
        config = replace(config, **size)
    return replace(config, **changes)


def key_of(config: TrainConfig) -> str:
    """The name of a run."""
    return hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:20]


def outcomes(
    configs: Sequence[TrainConfig],
    processes: int,
    found: dict[str, Outcome],
    data_dir: Path | None = None,
    runs: Path = NETWORK_RUNS,
    sharpness: bool = True,
) -> Iterator[float]:
    """Run what has not been run, side by side; yields the share that is done, fills `found` by `key_of`."""
    unique = {key_of(config): config for config in configs}
    results: list[Outcome] = []
    tasks = [(config, data_dir, runs, sharpness) for config in unique.values()]
    yield from spread(outcome, tasks, processes, results)
    found.update(zip(unique, results, strict=True))


def outcome(
    config: TrainConfig,
    data_dir: Path | None = None,
    runs: Path = NETWORK_RUNS,
    sharpness: bool = True,
) -> Outcome:
    """The outcome of a run: from its file where that holds what is asked for, else by running it.

    Args:
        config: what is run.
        data_dir: of images that come with no package.
        runs: folder of the files.
        sharpness: whether it is measured too, which takes as long as a short run.
    """
    file = runs / f"{key_of(config)}.json"
    if file.exists():
        known = _from_dict(config, read_json(file), file)
        if known.diverged or known.trace is not None or not sharpness:
            return known
    folder = runs / key_of(config)
    try:
        record = train(config, folder, threads=1, data_dir=data_dir)
    except FloatingPointError:
        chance = 1 / DATA[config.data].classes
        plain: dict[str, Any] = dict.fromkeys(("train_loss", "largest_eigenvalue", "trace"))
        plain |= dict.fromkeys(("accuracy", "validation_accuracy", "test_accuracy"), chance)
        plain |= {"record": None}
    else:
        model, split = trained(config, folder, data_dir=data_dir)
        plain = _measured(config, model, split, sharpness) | {"record": record.to_dict()}
    write_json(file, {"format": _FORMAT, "config": config.to_dict(), **plain})
    shutil.rmtree(folder, ignore_errors=True)
    return _from_dict(config, read_json(file), file)


def _measured(config: TrainConfig, model: nn.Module, split: Split, sharpness: bool) -> dict[str, Any]:
    def floats(images: Tensor) -> Tensor:
        return as_floats(images, config.dtype)

    test_images = floats(split.test_inputs)
    with torch.no_grad():
        guessed = torch.cat([model(part).argmax(1) for part in torch.split(test_images, 1000)])
    right = (guessed == split.test_labels).double()
    half = len(right) // 2
    noisy = split.test_labels[:half].numpy().copy()
    draw = generator(config.seed, "validation noise")
    redrawn = draw.permutation(half)[: round(config.label_noise * half)]
    noisy[redrawn] = draw.integers(DATA[config.data].classes, size=redrawn.size)
    images = floats(split.train_inputs)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(images), split.train_labels)
    measured: dict[str, Any] = {
        "accuracy": right.mean().item(),
        "validation_accuracy": float((guessed[:half].numpy() == noisy).mean()),
        "test_accuracy": right[half:].mean().item(),
        "train_loss": loss.item(),
        "largest_eigenvalue": None,
        "trace": None,
    }
    if sharpness:
        some = slice(_SHARPNESS_EXAMPLES)
        hessian = Hessian(model, images[some], split.train_labels[some])
        measured["largest_eigenvalue"] = hessian.largest_eigenvalue(tolerance=1e-2, seed=config.seed)
        measured["trace"] = hessian.trace(_HUTCHINSON_VECTORS, seed=config.seed).mean
    return measured


def _from_dict(config: TrainConfig, plain: Any, file: Path) -> Outcome:
    if not isinstance(plain, dict) or plain.get("format") != _FORMAT:
        raise ValueError(f"{file} is not the outcome of a run of format {_FORMAT}")
    config.require_same(plain["config"], file)
    record = None if plain["record"] is None else RunRecord.from_dict(plain["record"])
    measures = (
        "accuracy",
        "validation_accuracy",
        "test_accuracy",
        "train_loss",
        "largest_eigenvalue",
        "trace",
    )
    return Outcome(config, record, **{name: plain[name] for name in measures})
