"""Hypothesis strategies for schedules, for the sequences that a run is given, and for trials.

The simplest come first: Hypothesis shrinks towards constants, round numbers and few steps.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

from rst_theory.notation import DomainError, FloatArray
from rst_theory.schedules import (
    FAMILIES,
    PRESETS,
    Constant,
    Cosine,
    FromExpression,
    InverseSqrt,
    Joined,
    Linear,
    Periodic,
    Piecewise,
    Schedule,
    Tabulated,
    preset,
)
from rst_theory.schedules.base import Number, fraction
from rst_theory.testing.extra import needed
from rst_theory.testing.lengths import fitting_steps
from rst_theory.trials import Trials, TrialsKind

with needed():
    from hypothesis import reject, strategies as st

__all__ = [
    "instances",
    "mixing_coefficients",
    "radii",
    "runs_of",
    "schedules",
    "step_sizes",
    "trials",
]

_MOST_STEPS = 8


def schedules(
    families: Collection[str] | None = None,
    *,
    min_value: float = 0.0,
    max_value: float = 1.0,
    steps: int | None = None,
    max_depth: int = 1,
) -> st.SearchStrategy[Schedule]:
    """Schedules of every family, and the presets.

    Args:
        families: names in `rst_theory.schedules.FAMILIES`, or "preset"; unless given, all whose values fit
            between the bounds (`Periodic` needs both 0 and 1, `InverseSqrt` 0, presets all of [0, 1]).
        min_value: of the schedules, >= 0.
        max_value: likewise.
        steps: a number of steps that every schedule is to fit; unless given, a `Tabulated` schedule, and a
            `Joined` one that holds such, may fit few, which `rst_theory.testing.fitting_steps` finds.
        max_depth: how deep `Joined` schedules may be nested; 0 for none.

    Raises:
        DomainError: bounds that are not 0 <= min_value <= max_value < infinity.
        ValueError: no family fits, or an unknown one is asked for.
    """
    if not 0 <= min_value <= max_value < math.inf:
        raise DomainError("0 <= min_value <= max_value, finite", f"[{min_value}, {max_value}]")
    if unknown := sorted({*(families or ())} - {*FAMILIES, "preset"}):
        raise ValueError(f"unknown families {', '.join(unknown)}; known: {', '.join([*FAMILIES, 'preset'])}")
    made = _by_family(min_value, max_value, steps, max_depth)
    names = [name for name in made if families is None or name in families]
    if not names:
        raise ValueError(f"none of {families} has its values in [{min_value}, {max_value}]")
    return st.one_of(*(made[name] for name in names))


@functools.cache
def _by_family(
    low: float, high: float, steps: int | None, depth: int
) -> dict[str, st.SearchStrategy[Schedule]]:
    """What makes each family that fits, the simplest first; kept, since Hypothesis prepares each once."""
    number, share = _numbers(low, high), _numbers(0.0, 1.0)
    made: dict[str, st.SearchStrategy[Schedule]] = {
        "Constant": st.builds(Constant, number),
        "Piecewise": st.builds(Piecewise, number, number, share),
        "Linear": st.builds(Linear, number, number),
        "Cosine": st.builds(Cosine, number, number),
        "Tabulated": _tables(low, high, steps),
        "FromExpression": st.builds(FromExpression, _formulas(low, high)),
    }
    if low == 0:
        made["InverseSqrt"] = st.builds(InverseSqrt, number)
    if low == 0 and high >= 1:
        made["Periodic"] = st.builds(Periodic, st.integers(1, 12))
        p = st.fractions(0, 1, max_denominator=100)
        made["preset"] = st.builds(preset, st.sampled_from(PRESETS), p, st.booleans())
    if depth > 0:
        made["Joined"] = _joined(low, high, steps, depth)
    return made


def _numbers(low: float, high: float) -> st.SearchStrategy[Number]:
    """Numbers in [low, high]: the ends, round ones, exact thirds and sevenths, and any float."""
    width = fraction(high) - fraction(low)
    parts = st.fractions(0, 1, max_denominator=7) | st.integers(0, 100).map(lambda n: Fraction(n, 100))
    exact: st.SearchStrategy[Any] = parts.map(lambda part: fraction(low) + width * part)
    floats: st.SearchStrategy[Any] = st.floats(low, high, allow_subnormal=False)
    return st.sampled_from([float(low), float(high)]) | exact | exact.map(_clipped(low, high)) | floats


def _clipped(low: float, high: float) -> Callable[[Fraction], float]:
    return lambda value: min(max(float(value), low), high)


def _tables(low: float, high: float, steps: int | None) -> st.SearchStrategy[Schedule]:
    table = st.lists(st.floats(low, high), min_size=steps or 1, max_size=steps or _MOST_STEPS)
    return table.map(lambda values: Tabulated(tuple(values)))


def _joined(low: float, high: float, steps: int | None, depth: int) -> st.SearchStrategy[Schedule]:
    """Up to three parts, each of any family, at fractions that may be 0."""

    def part(length: int | None) -> st.SearchStrategy[Schedule]:
        made = _by_family(low, high, length, depth - 1)
        return st.one_of(*(made[name] for name in made if length or name != "Tabulated"))

    def joined(drawn: tuple[list[int], int | None]) -> st.SearchStrategy[Schedule]:
        weights, T = drawn
        shares = [Fraction(weight, sum(weights)) for weight in weights]
        lengths: list[int | None] = [None] * len(shares)
        if T is not None:
            ends = [math.ceil(c * T) for c in accumulate(shares, initial=Fraction(0))]
            lengths = [max(1, end - begin) for begin, end in pairwise(ends)]
        parts = st.tuples(*map(part, lengths))
        return parts.map(lambda made: Joined(tuple(zip(made, shares, strict=True))))

    weights = st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(any)
    length = st.just(steps) if steps else st.none() | st.integers(1, _MOST_STEPS)
    return st.tuples(weights, length).flatmap(joined)


_ATOMS = ("u", "t/T", "1", "0", "1/2", "0.3", "1/(t + 1)", "exp(-t)", "2**(-3*u)", "u**2", "sqrt(u)")
_TESTS = (
    "t < 1",
    "2*t < T",
    "3*t <= 2*T and t > 0",
    "not t == 2",
    "t - 2*floor(t/2) == 0",
    "T >= 3 or t != 1",
)
_SHAPES = (
    "1 - {0}",
    "{0}*{1}",
    "({0} + {1})/2",
    "min({0}, {1})",
    "max({0}, {1})",
    "abs({0} - {1})",
    "0.5 - 0.5*cos(pi*{0})",
    "tanh({0})",
    "sin({0})",
    "log(1 + {0})",
    "exp(-{0})",
    "{0} if {2} else {1}",
)
"""Each takes numbers in [0, 1] to a number there, so smoothly that rounding stays rounding."""


def _formulas(low: float, high: float) -> st.SearchStrategy[str]:
    """Texts of the language of `rst_theory.schedules.expressions` with values in [low, high]."""
    leaves = st.sampled_from(_ATOMS)

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        parts = st.tuples(st.sampled_from(_SHAPES), inner, inner, st.sampled_from(_TESTS))
        return parts.map(lambda drawn: f"({drawn[0].format(*drawn[1:])})")

    unit = st.recursive(leaves, grown, max_leaves=3)
    if (low, high) == (0, 1):
        return unit
    return unit.map(lambda text: f"min({high!r}, {low!r} + {high - low!r}*{text})")


def step_sizes(
    steps: int, *, min_value: float = 0.0, max_value: float = 1.0
) -> st.SearchStrategy[float | FloatArray | Schedule]:
    """Step sizes eta for a run: numbers, arrays (steps,) and schedules that fit it, 0 among them.

    Args:
        steps: T >= 1.
        min_value: of the step sizes, >= 0.
        max_value: likewise.

    Raises:
        DomainError: bounds as for `schedules`.
    """
    kinds: list[st.SearchStrategy[Any]] = [
        _numbers(min_value, max_value).map(float),
        _tables(min_value, max_value, steps).map(lambda table: table.values(steps)),
        schedules(min_value=min_value, max_value=max_value, steps=steps),
    ]
    return st.integers(0, len(kinds) - 1).flatmap(lambda kind: kinds[kind])


def radii(
    steps: int, *, min_value: float = 0.0, max_value: float = 1.0
) -> st.SearchStrategy[float | FloatArray | Schedule]:
    """Radii rho for a run, as `step_sizes`."""
    return step_sizes(steps, min_value=min_value, max_value=max_value)


def mixing_coefficients(
    steps: int, *, min_value: float = 0.0, max_value: float = 4.0
) -> st.SearchStrategy[float | FloatArray | Schedule]:
    """Mixing coefficients gamma for a run, as `step_sizes`."""
    return step_sizes(steps, min_value=min_value, max_value=max_value)


def trials(
    steps: int | None = None, *, kinds: Sequence[TrialsKind] = ("independent", "systematic")
) -> st.SearchStrategy[Trials]:
    """Trials with any probabilities, 0 and 1 among them.

    Args:
        steps: T; any from 1 to 8 unless given.
        kinds: of the trials.
    """
    probabilities = _tables(0.0, 1.0, steps).map(lambda table: table.values(fitting_steps(table)[0]))
    seeds = st.integers(0, 2**64 - 1)
    return st.builds(Trials, probabilities, seeds, st.sampled_from(kinds), st.integers(0, 2**32 - 1))


def instances(family: type[Schedule], *, max_value: float = 1.0) -> st.SearchStrategy[Schedule]:
    """Schedules of one class, of the package or of a user's own.

    Args:
        family: of the package; or a dataclass whose fields are of type float, int or Schedule.
        max_value: of its numbers.

    Raises:
        TypeError: a field of another type, or one without a declared type.
    """
    if FAMILIES.get(family.__name__) is family:
        return schedules([family.__name__], max_value=max_value)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "float": _numbers(0.0, max_value).map(float),
        "Number": _numbers(0.0, max_value),
        "int": st.integers(1, 12),
        "Schedule": schedules(max_value=max_value, max_depth=0),
    }
    fields = {
        f.name: getattr(f.type, "__name__", str(f.type)).split(".")[-1] for f in dataclasses.fields(family)
    }
    for name, kind in fields.items():
        if kind not in kinds:
            raise TypeError(
                f"{family.__name__} {name} is of type {kind}; give a strategy instead of the class: "
                f"hypothesis.strategies.builds({family.__name__}, {name}=…)"
            )

    def made(arguments: dict[str, Any]) -> Schedule:
        try:
            return family(**arguments)
        except ValueError:  # a parameter outside the domain that the class states
            reject()

    return st.fixed_dictionaries({name: kinds[kind] for name, kind in fields.items()}).map(made)


def runs_of(
    made: st.SearchStrategy[Schedule], lengths: Sequence[int] | None = None
) -> st.SearchStrategy[tuple[Schedule, int]]:
    """Schedules, each with a number of steps that it does not refuse."""

    def run(schedule: Schedule) -> st.SearchStrategy[tuple[Schedule, int]]:
        if not isinstance(schedule, Schedule):
            raise TypeError(f"the strategy must make schedules; got {schedule!r}")
        fitting = fitting_steps(schedule, lengths)
        return st.tuples(st.just(schedule), st.sampled_from(fitting[:2]) | st.sampled_from(fitting))

    return made.flatmap(run)
