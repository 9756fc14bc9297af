"""What can be asked of the optimizer beside the plan of its run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from rst_theory.notation import Interval, Quantity
from rst_theory.optim.perturbation import Storage

__all__ = ["OFFSET", "Options"]

OFFSET = 0.01
"""Of adaptive perturbations: eta of arXiv 2102.11600, section 5."""

_POSITIVE = Interval(low=0.0, low_open=True)
_NUMBERS = (
    Quantity("adaptive_offset", "offset", r"\eta", Interval(low=0.0)),
    Quantity("clip_direction", "largest length", "c", _POSITIVE),
    Quantity("clip_ascent", "largest length", "c", _POSITIVE),
)


@dataclass(frozen=True, eq=False)
class Options:
    """As the arguments of `RST`.

    Raises:
        DomainError: a number outside its domain.
        ValueError: an unknown storage.
        TypeError: a model that is no module, or what should be a number is none.
    """

    adaptive_offset: float
    clip_direction: float | None
    clip_ascent: float | None
    model: nn.Module | None
    sync_perturbation: bool
    replay_randomness: bool
    storage: Storage

    def __post_init__(self) -> None:
        for number in _NUMBERS:
            value = getattr(self, number.key)
            if value is not None or number.key == "adaptive_offset":
                object.__setattr__(self, number.key, number.check(value))
        if self.storage not in get_args(Storage):
            allowed = " or ".join(map(repr, get_args(Storage)))
            raise ValueError(f"storage must be {allowed}; got {self.storage!r}")
        if self.model is not None and not isinstance(self.model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module; got {type(self.model).__name__}")

    def to_dict(self) -> dict[str, Any]:
        """What the result of a run depends on, as plain data."""
        names = ("adaptive_offset", "clip_direction", "clip_ascent", "sync_perturbation", "replay_randomness")
        return {name: getattr(self, name) for name in names}
