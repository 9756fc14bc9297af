"""What defines a training run; the same config on the same machine gives the same weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from rst_theory.notation import QUANTITIES, Ascent, DomainError, Interval, natural
from rst_theory.schedules import Schedule, from_dict, sequence
from rst_theory.training.data import DATA
from rst_theory.training.models import MODELS
from rst_theory.trials import Trials, TrialsKind

__all__ = ["Precision", "TrainConfig"]

Precision = Literal["float32", "float64"]

_SCHEDULED = {"schedule": QUANTITIES["p"], "rho": QUANTITIES["rho"], "gamma": QUANTITIES["gamma"]}
_CHOICES: dict[str, tuple[str, ...]] = {
    "data": tuple(DATA),
    "model": tuple(MODELS),
    "trials": get_args(TrialsKind),
    "ascent": get_args(Ascent),
    "precision": get_args(Precision),
}
_REAL = {
    "learning_rate": Interval(low=0.0, low_open=True),
    "momentum": Interval(0.0, 1.0, high_open=True),
    "weight_decay": Interval(low=0.0),
    "label_noise": Interval(0.0, 1.0),
}


@dataclass(frozen=True)
class TrainConfig:
    """A run of SGD with momentum and a cosine learning rate, under RST.

    Attributes:
        schedule: the probabilities p_t; Constant(0) is SGD, Constant(1) is SAM.
        gamma: the mixing coefficients, a number or a schedule.
        rho: the radii, a number or a schedule.
        data: a name in `DATA`.
        model: a name in `MODELS`.
        epochs: passes over the training data.
        batch_size: examples in a minibatch; the last one of an epoch has what is left.
        learning_rate: at the first step; from there half a cosine wave down to 0.
        momentum: of the base optimizer, in [0, 1).
        weight_decay: its L2 coefficient.
        label_noise: the fraction of training labels that are redrawn uniformly over the classes.
        train_size: training examples; the rest is for the test.
        seed: the repetition. Split, label noise, initial weights, batch order and the uniform numbers
            behind the trials come from it alone, so that methods are compared on common random numbers.
        trials: "independent" or "systematic".
        ascent: "normalized" or "unnormalized".
        precision: "float32" or "float64".

    Raises:
        TypeError: a value of the wrong type.
        ValueError: an unknown name; as a DomainError a number outside its domain.
    """

    schedule: Schedule
    gamma: Schedule | float = 1.0
    rho: Schedule | float = 0.1
    data: str = "digits"
    model: str = "cnn"
    epochs: int = 40
    batch_size: int = 30
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    label_noise: float = 0.3
    train_size: int = 900
    seed: int = 0
    trials: TrialsKind = "independent"
    ascent: Ascent = "normalized"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")
        for name, domain in _REAL.items():
            self._set(name, _real(name, getattr(self, name), domain))
        for name in ("epochs", "batch_size"):
            self._set(name, natural(name, getattr(self, name), least=1))
        self._set("train_size", natural("train_size", self.train_size, 1, below=DATA[self.data].examples))
        self._set("seed", natural("seed", self.seed, below=2**64))
        for name, quantity in _SCHEDULED.items():
            value = getattr(self, name)
            if not isinstance(value, Schedule):
                if name == "schedule":
                    raise TypeError(f"schedule must be a Schedule, such as Constant(0.5); got {value!r}")
                self._set(name, quantity.check(value))
            sequence(value, self.steps, quantity)

    @property
    def steps(self) -> int:
        """T, the number of steps of the run."""
        return self.epochs * math.ceil(self.train_size / self.batch_size)

    def coins(self) -> Trials:
        """The trials that the run will see."""
        return Trials(sequence(self.schedule, self.steps, QUANTITIES["p"]), self.seed, self.trials)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold; `from_dict` takes it back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v.to_dict() if isinstance(v, Schedule) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainConfig:
        """The config that `to_dict` described; fields that are left out have their defaults.

        Raises:
            ValueError: an unknown field, or no schedule; and what the constructor raises.
        """
        unknown = set(plain) - {f.name for f in fields(cls)}
        if unknown or "schedule" not in plain:
            wrong = f"unknown fields {', '.join(sorted(unknown))}" if unknown else "no schedule"
            raise ValueError(f"not the dict of a TrainConfig: {wrong}")
        values: dict[str, Any] = {
            name: from_dict(v) if isinstance(v, Mapping) else v for name, v in plain.items()
        }
        return cls(**values)

    def require_same(self, saved: Mapping[str, Any], where: object) -> None:
        """Check that `saved`, from `to_dict`, describes this config.

        Raises:
            ValueError: it does not; the first difference is named.
        """
        for name, ours in self.to_dict().items():
            if name not in saved or saved[name] != ours:
                theirs = saved.get(name, "missing")
                raise ValueError(
                    f"{where} is of another run: its {name} is {theirs}, this config's is {ours}"
                )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def _real(name: str, value: Any, domain: Interval) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a real number; got {value!r}") from error
    if not domain.contains(number):
        raise DomainError(f"{name} in {domain}", value)
    return number
