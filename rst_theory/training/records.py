"""The record of a finished run: what was run, with what, and what came of it."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rst_theory
from rst_theory import display
from rst_theory.files import read_json, write_json
from rst_theory.notation import Interval, natural
from rst_theory.training.config import TrainConfig, real

__all__ = ["RunRecord", "environment", "load_record", "save_record"]

_FORMAT = 2
_TICK = 1e-9  # seconds: no clock is finer, and some stand still
_LATER: dict[str, Any] = {"device": "cpu", "processes": 1}
"""What format 1 did not say, since nothing else was possible."""
_HISTORIES = {"train_loss": Interval(), "test_accuracy": Interval(0.0, 1.0)}
_UNKNOWN: dict[str, Any] = {"data_sha256": None}
"""What the first records of format 2 did not say."""


@dataclass(frozen=True, repr=False)
class RunRecord:
    """A finished run, with everything needed to rerun it.

    Attributes:
        config: what defines the run.
        environment: versions of python, numpy, torch and rst_theory, the platform, and the git revision of
            the package's source (None where there is none).
        threads: the number of torch threads; other numbers may change the last bits.
        device: "cpu", or the name of the GPU.
        processes: how many shared every minibatch.
        train_loss: the mean loss over the minibatches of each epoch, at the unperturbed weights.
        test_accuracy: the fraction of test examples classified rightly after each epoch.
        steps: T.
        pairs: propagation pairs spent: one for each step, one more for each perturbed step.
        predicted_pairs: the same number, from the trials before the run.
        expected_pairs: its expectation by the law of the cost, T + p_0 + … + p_{T-1}.
        wall_seconds: spent in the steps alone, not in evaluation or files.
        weights_sha256: of the final weights.
        data_sha256: of the examples, in their order; None in older records.
    """

    config: TrainConfig
    environment: dict[str, str | None]
    threads: int
    train_loss: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    steps: int
    pairs: int
    predicted_pairs: int
    expected_pairs: float
    wall_seconds: float
    weights_sha256: str
    device: str
    processes: int
    data_sha256: str | None = None

    @property
    def final_test_accuracy(self) -> float:
        """The test accuracy after the last epoch."""
        return self.test_accuracy[-1]

    @property
    def pairs_per_step(self) -> float:
        """Propagation pairs relative to SGD: 1 for SGD, 2 for SAM."""
        return self.pairs / self.steps

    @property
    def images_per_second(self) -> float:
        """Training examples seen per second of the steps, each counted once a step."""
        return self.config.epochs * self.config.examples / max(self.wall_seconds, _TICK)

    def __repr__(self) -> str:
        c = self.config
        return (
            f"<RunRecord: {c.model} on {c.data}, {c.schedule!r}, seed {c.seed}, {c.epochs} epochs, "
            f"{self.pairs_per_step:.3f} pairs a step, test accuracy {self.final_test_accuracy:.4f}>"
        )

    def _repr_html_(self) -> str:
        c = self.config
        mixing = f"gamma = {c.gamma}" if c.degree is None else f"degree = {c.degree}"
        rows = [
            ("method", display.joined([display.code(c.schedule), f"rho = {c.rho}", mixing])),
            ("network", f"{c.model} on {c.data}, {c.epochs} epochs, {self.steps:,} steps, seed {c.seed}"),
            (
                "pairs",
                f"{self.pairs:,}; planned {self.predicted_pairs:,}, expected {self.expected_pairs:,.1f}",
            ),
            ("pairs a step", display.number(self.pairs_per_step)),
            ("test accuracy", f"{self.final_test_accuracy:.4f} after the last epoch"),
            ("over the epochs", display.sparkline(self.test_accuracy)),
            ("weights", display.code(self.weights_sha256[:16])),
        ]
        return display.table(rows, title="Finished run")

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold; `from_dict` takes it back."""
        plain = asdict(self) | {
            "config": self.config.to_dict(),
            "train_loss": list(self.train_loss),
            "test_accuracy": list(self.test_accuracy),
        }
        derived = {
            "final_test_accuracy": self.final_test_accuracy,
            "images_per_second": self.images_per_second,
        }
        return {"format": _FORMAT, **derived, **plain}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> RunRecord:
        """The record that `to_dict` described, in this format or the one before.

        Raises:
            TypeError: a field of the wrong type.
            ValueError: not such a dict; as a DomainError a number outside its domain.
        """
        if isinstance(plain, dict) and plain.get("format") == 1:
            plain = {**plain, **_LATER, "format": _FORMAT}
        if not isinstance(plain, dict) or plain.get("format") != _FORMAT:
            raise ValueError(
                f"not a run record of format 1 or {_FORMAT}: read it with the version of rst_theory that "
                "wrote it, or delete it to run again"
            )
        names = {f.name for f in fields(cls)}
        plain = _UNKNOWN | plain
        if missing := names - set(plain):
            raise ValueError(f"not a run record: it has no {', '.join(sorted(missing))}")
        values = {name: plain[name] for name in names}
        values["config"] = TrainConfig.from_dict(plain["config"])
        _require_sound(values)
        for name in _HISTORIES:
            values[name] = tuple(plain[name])
        return cls(**values)


def _require_sound(values: Mapping[str, Any]) -> None:
    """Check the type and the range of everything in a record but its config.

    Raises:
        TypeError: another type.
        ValueError: no history; as a DomainError a number outside its domain.
    """
    for name in ("threads", "steps", "pairs", "predicted_pairs", "processes"):
        natural(name, values[name], 1, below=2**63)
    for name in ("expected_pairs", "wall_seconds"):
        real(name, values[name], Interval(low=0.0))
    for name, domain in _HISTORIES.items():
        if not isinstance(values[name], list | tuple) or not values[name]:
            raise ValueError(f"{name} must be a list of numbers, one for each epoch; got {values[name]!r}")
        for value in values[name]:
            real(name, value, domain)
    known = values["environment"]
    texts = {"environment": list(known.values()) if isinstance(known, dict) else [0]}
    texts |= {name: [values[name]] for name in ("weights_sha256", "device", "data_sha256")}
    for name, found in texts.items():
        known_to_all = name in ("weights_sha256", "device")
        if not all(isinstance(text, str) or (text is None and not known_to_all) for text in found):
            raise TypeError(f"{name} must be text; got {values[name]!r}")


def save_record(record: RunRecord, path: str | Path) -> None:
    """Write a record as JSON, atomically, with a checksum by which `load_record` sees a change.

    Raises:
        OSError: it cannot be written; the file that was there is still there.
    """
    plain = record.to_dict()
    write_json(Path(path), plain | {"sha256": _sha256(plain)})


def load_record(path: str | Path) -> RunRecord:
    """Read a record.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no record, or was changed since it was written (older ones cannot tell).
    """
    try:
        plain = read_json(Path(path))
        seal = plain.pop("sha256", None) if isinstance(plain, dict) else None
        if seal is not None and seal != _sha256(plain):
            raise ValueError("it was changed or damaged: its SHA-256 is of another content")
        return RunRecord.from_dict(plain)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{path} is not a run record: {error}") from error


def _sha256(plain: dict[str, Any]) -> str:
    """Of plain data, whatever the order of its keys and the space between them."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def environment() -> dict[str, str | None]:
    """What a run depends on beside its config."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "rst_theory": rst_theory.__version__,
        "platform": platform.platform(),
        "git_revision": _git_revision(),
    }


@functools.cache
def _git_revision() -> str | None:
    """The commit of the package's source, with "-dirty" where the source differs; None where untracked."""
    source = Path(__file__)
    package = str(source.parent.parent)

    def git(*arguments: str) -> str:
        command = ["git", "-C", package, *arguments]
        return subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", str(source))
        commit = git("rev-parse", "HEAD")
        return f"{commit}-dirty" if git("status", "--porcelain", "--", package) else commit
    except (OSError, subprocess.SubprocessError):
        return None
