"""What defines a training run; the same config on the same machine gives the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch

from rst_theory.notation import QUANTITIES, Ascent, DomainError, FloatArray, Interval, natural
from rst_theory.schedules import Constant, Schedule, from_dict, matched_gamma, sequence
from rst_theory.training.data import AUGMENTATIONS, DATA
from rst_theory.training.models import MODELS
from rst_theory.training.rates import Rate
from rst_theory.trials import Trials, TrialsKind

__all__ = ["Base", "Precision", "TrainConfig", "real"]

Precision = Literal["float32", "float64", "bfloat16"]
Base = Literal["sgd", "adamw"]

_SCHEDULED = {
    "schedule": QUANTITIES["p"],
    "rho": QUANTITIES["rho"],
    "gamma": QUANTITIES["gamma"],
    "degree": QUANTITIES["degree"],
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "data": tuple(DATA),
    "model": tuple(MODELS),
    "base": get_args(Base),
    "rate": get_args(Rate),
    "augmentation": AUGMENTATIONS,
    "trials": get_args(TrialsKind),
    "ascent": get_args(Ascent),
    "precision": get_args(Precision),
}
_REAL = {
    "learning_rate": Interval(low=0.0, low_open=True),
    "momentum": Interval(0.0, 1.0, high_open=True),
    "weight_decay": Interval(low=0.0),
    "warmup": Interval(0.0, 1.0, high_open=True),
    "label_noise": Interval(0.0, 1.0),
    "label_smoothing": Interval(0.0, 1.0),
    "max_gamma": QUANTITIES["gamma"].domain,
    "clip": Interval(low=0.0, low_open=True),
}
_FLAGS = ("nesterov", "adaptive", "channels_last")
_OPTIONAL = ("degree", "max_gamma", "clip", "test_size")
_DIGITS_FOR_TRAINING = 900
_MOST_STEPS = 10**7
"""Of a run: its trials, radii and coefficients are tables in memory."""


@dataclass(frozen=True)
class TrainConfig:
    """A run of SGD or AdamW under RST.

    Attributes:
        schedule: the probabilities p_t; Constant(0) is the base optimizer, Constant(1) is SAM.
        gamma: the mixing coefficients, a number or a schedule.
        rho: the radii, a number or a schedule.
        data: a name in `DATA`.
        model: a name in `MODELS`.
        epochs: passes over the training data.
        batch_size: examples in a minibatch; the last one of an epoch has what is left.
        learning_rate: the largest of the run.
        momentum: of SGD, or the first beta of AdamW; in [0, 1).
        weight_decay: the base optimizer's.
        label_noise: the fraction of training labels that are redrawn uniformly over the classes.
        train_size: training examples; None is the whole training part of the data, of the digits 900.
        seed: the repetition. Split, label noise, initial weights, batch order, augmentation and the uniform
            numbers behind the trials come from it alone, so that methods are compared on common random
            numbers.
        trials: "independent" or "systematic".
        ascent: "normalized" or "unnormalized".
        precision: "float32", "float64", or "bfloat16": float32 weights, products in bfloat16 (autocast).
        degree: in place of gamma: the degree of regularization kappa_t that gamma_t = kappa_t / p_t gives.
        max_gamma: with a degree, a cap on those coefficients.
        adaptive: radii relative to the size of each weight (ASAM).
        clip: the largest norm of the direction that the base optimizer is given; None is no limit.
        base: "sgd" or "adamw".
        nesterov: Nesterov's momentum, for SGD.
        rate: how the learning rate falls, "cosine", "step" or "constant": `rates.rate_scheduler`.
        warmup: the share of the steps in which the learning rate rises linearly, in [0, 1).
        label_smoothing: the weight of the uniform distribution in the target, in [0, 1].
        augmentation: of the training images, a name in `AUGMENTATIONS`.
        channels_last: whether images lie in memory with their channels last.
        test_size: the accuracy after each epoch is that on so many of the test examples, the first ones; None
            is all.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: an unknown name, or values that exclude each other; as a DomainError a number outside its
            domain.
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
    train_size: int | None = None
    seed: int = 0
    trials: TrialsKind = "independent"
    ascent: Ascent = "normalized"
    precision: Precision = "float32"
    degree: Schedule | float | None = None
    max_gamma: float | None = None
    adaptive: bool = False
    clip: float | None = None
    base: Base = "sgd"
    nesterov: bool = False
    rate: Rate = "cosine"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    augmentation: str = "none"
    channels_last: bool = False
    test_size: int | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False; got {getattr(self, name)!r}")
        for name, domain in _REAL.items():
            if not self._absent(name):
                self._set(name, real(name, getattr(self, name), domain))
        for name in ("epochs", "batch_size"):
            self._set(name, natural(name, getattr(self, name), least=1))
        self._set("train_size", natural("train_size", self.examples, 1, below=self._most_examples + 1))
        if self.test_size is not None:
            self._set("test_size", natural("test_size", self.test_size, 1, below=self._all_tests + 1))
        self._set("seed", natural("seed", self.seed, below=2**64))
        if self.steps > _MOST_STEPS:
            raise DomainError(f"epochs times the minibatches of one <= {_MOST_STEPS}", self.steps)
        for name, quantity in _SCHEDULED.items():
            value = getattr(self, name)
            if self._absent(name):
                continue
            if name == "schedule" and not isinstance(value, Schedule):
                raise TypeError(f"schedule must be a Schedule, such as Constant(0.5); got {value!r}")
            if name != "schedule" and isinstance(value, Constant):
                value = float(value.value)  # one way to write it, so that equal runs have equal configs
            if not isinstance(value, Schedule):
                self._set(name, quantity.check(value))
            sequence(value, self.steps, quantity)
        self._refuse_contradictions()
        self.coefficients()

    def _refuse_contradictions(self) -> None:
        if self.degree is not None and self.gamma != 1.0:
            raise ValueError(f"give gamma or degree, not both; got {self.gamma} and {self.degree}")
        if self.max_gamma is not None and self.degree is None:
            raise ValueError("max_gamma caps the coefficients that a degree asks for: give degree")
        if self.nesterov and (self.base != "sgd" or self.momentum == 0):
            raise ValueError(
                f"nesterov needs base 'sgd' and a momentum > 0; got {self.base!r} and {self.momentum}"
            )

    @property
    def examples(self) -> int:
        """The number of training examples."""
        if self.train_size is not None:
            return self.train_size
        return _DIGITS_FOR_TRAINING if self.data == "digits" else DATA[self.data].train

    @property
    def steps_per_epoch(self) -> int:
        """Minibatches of an epoch."""
        return -(-self.examples // self.batch_size)

    @property
    def steps(self) -> int:
        """T, the number of steps of the run."""
        return self.epochs * self.steps_per_epoch

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def parameters(self) -> int:
        """The number of weights of the model."""
        data = DATA[self.data]
        with torch.device("meta"):
            model = MODELS[self.model](data.shape, data.classes)
        return sum(p.numel() for p in model.parameters())

    def coins(self) -> Trials:
        """The trials that the run will see."""
        return Trials(sequence(self.schedule, self.steps, QUANTITIES["p"]), self.seed, self.trials)

    def coefficients(self) -> FloatArray:
        """The mixing coefficients gamma_t, float64 (T,), given or from the degree.

        Raises:
            DomainError: the degree asks for one beyond the floating range, and max_gamma is None.
        """
        if self.degree is None:
            return sequence(self.gamma, self.steps, QUANTITIES["gamma"])
        return matched_gamma(self.schedule, self.steps, self.degree, self.max_gamma).gamma

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold; `from_dict` takes it back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v.to_dict() if isinstance(v, Schedule) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainConfig:
        """The config that `to_dict` described; fields that are left out have their defaults.

        Raises:
            TypeError: no dict.
            ValueError: an unknown field, or no schedule; and what the constructor raises.
        """
        if not isinstance(plain, Mapping):
            raise TypeError(f"the dict of a TrainConfig must be a dict; got {plain!r}")
        unknown = set(plain) - {f.name for f in fields(cls)}
        if unknown or "schedule" not in plain:
            wrong = f"unknown fields {', '.join(sorted(unknown))}" if unknown else "no schedule"
            raise ValueError(f"not the dict of a TrainConfig: {wrong}")
        values: dict[str, Any] = {
            name: from_dict(v) if isinstance(v, Mapping) else v for name, v in plain.items()
        }
        return cls(**values)

    def require_same(self, saved: Mapping[str, Any], where: object) -> None:
        """Check that `saved`, from `to_dict` of this version or an older one, describes this config.

        Raises:
            ValueError: it does not, and the first difference is named; or it describes no config.
        """
        try:
            theirs = TrainConfig.from_dict(saved).to_dict()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where} holds no config of a run: {error}") from error
        for name, ours in self.to_dict().items():
            if theirs[name] != ours:
                raise ValueError(
                    f"{where} is of another run: its {name} is {theirs[name]}, this config's is {ours}"
                )

    @property
    def _most_examples(self) -> int:
        """What can be trained on; where there is no test set of its own, one example is left for the test."""
        return DATA[self.data].train - (DATA[self.data].test is None)

    @property
    def _all_tests(self) -> int:
        """The number of test examples, of which `test_size` may be a part."""
        data = DATA[self.data]
        return data.train - self.examples if data.test is None else data.test

    def _absent(self, name: str) -> bool:
        return name in _OPTIONAL and getattr(self, name) is None

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def real(name: str, value: Any, domain: Interval) -> float:
    """A number as a float, where it lies in the domain.

    Raises:
        TypeError: no number.
        DomainError: one outside the domain.
    """
    try:
        if isinstance(value, str | bytes):
            raise TypeError("text is not a number")
        number = float(value)
    except OverflowError as error:
        raise DomainError(f"{name} in {domain}", value) from error
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a real number; got {value!r}") from error
    if not domain.contains(number):
        raise DomainError(f"{name} in {domain}", value)
    return number
