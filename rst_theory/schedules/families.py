"""The families of schedule functions.

Symbol key: t the step, T the number of steps, u = t/(T-1) the clock from 0 to 1 (u = 0 when T = 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from rst_theory.notation import DomainError, FloatArray, natural
from rst_theory.schedules import expressions
from rst_theory.schedules.base import (
    Number,
    Schedule,
    clock,
    fraction,
    horizon,
    is_symbolic,
    nonnegative,
    rational,
)

if TYPE_CHECKING:
    import sympy

__all__ = [
    "Constant",
    "Cosine",
    "FromExpression",
    "InverseSqrt",
    "Joined",
    "Linear",
    "Periodic",
    "Piecewise",
    "Tabulated",
]

_EXACT_TERMS = 1000  # a sum of more terms than this stays an unevaluated SymPy Sum
_MAX_DEPTH = 20  # of Joined schedules within each other: far from where Python's stack ends
_MAX_PERIOD = 2**53  # the floats count steps exactly up to here


@dataclass(frozen=True, repr=False)
class Constant(Schedule):
    """The same value at every step: s(t) = value."""

    value: Number

    @property
    def has_horizon(self) -> bool:
        return False

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        clock(t, T)
        return rational(self.value)

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return np.full(t.shape, float(self.value))

    def mean(self, T: Any = None) -> sympy.Expr:
        if T is not None:
            horizon(T)
        return rational(self.value)


@dataclass(frozen=True, repr=False)
class Piecewise(Schedule):
    """Two phases: s(t) = first while t < switch T, then second; the first phase has ceil(switch T) steps."""

    first: Number
    second: Number
    switch: Number

    def __post_init__(self) -> None:
        super().__post_init__()
        nonnegative("Piecewise switch", self.switch, most=1)

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        t, T = clock(t, T)
        return sympy.Piecewise(
            (rational(self.first), t < rational(self.switch) * T), (rational(self.second), True)
        )

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return np.where(t < math.ceil(fraction(self.switch) * T), float(self.first), float(self.second))

    def mean(self, T: Any = None) -> sympy.Expr:
        import sympy

        first, second, switch = map(rational, (self.first, self.second, self.switch))
        if T is None:
            return switch * first + (1 - switch) * second
        T = horizon(T)
        steps = sympy.ceiling(switch * T)
        return (steps * first + (T - steps) * second) / T


@dataclass(frozen=True, repr=False)
class Linear(Schedule):
    """A straight line: s(t) = (1 - u) start + u end; both end values are reached."""

    start: Number
    end: Number

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        u = _from_0_to_1(t, T)
        return (1 - u) * rational(self.start) + u * rational(self.end)

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return _between(self, t / max(1, T - 1))

    def mean(self, T: Any = None) -> sympy.Expr:
        return _symmetric_mean(self, T)


@dataclass(frozen=True, repr=False)
class Cosine(Schedule):
    """Half a cosine wave: s(t) = start + (end - start) (1 - cos(pi u))/2."""

    start: Number
    end: Number

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        start, end = rational(self.start), rational(self.end)
        return start + (end - start) * (1 - sympy.cos(sympy.pi * _from_0_to_1(t, T))) / 2

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return _between(self, np.sin(np.pi / 2 * (t / max(1, T - 1))) ** 2)

    def mean(self, T: Any = None) -> sympy.Expr:
        return _symmetric_mean(self, T)


def _from_0_to_1(t: Any, T: Any) -> sympy.Expr:
    import sympy

    t, T = clock(t, T)
    return t / sympy.Max(1, T - 1)


def _between(schedule: Linear | Cosine, weight: FloatArray) -> FloatArray:
    """(1 - weight) start + weight end, kept between the two against rounding."""
    start, end = float(schedule.start), float(schedule.end)
    return np.clip((1 - weight) * start + weight * end, min(start, end), max(start, end))


def _symmetric_mean(schedule: Linear | Cosine, T: Any) -> sympy.Expr:
    """The weights at t and T-1-t add to 1, so the mean is the midpoint; at T = 1 only the start is seen."""
    import sympy

    start, end = rational(schedule.start), rational(schedule.end)
    if T is None:
        return (start + end) / 2
    return sympy.Piecewise((start, sympy.Eq(horizon(T), 1)), ((start + end) / 2, True))


@dataclass(frozen=True, repr=False)
class InverseSqrt(Schedule):
    """The slow decay of stochastic approximation: s(t) = scale/sqrt(t + 1)."""

    scale: Number

    @property
    def has_horizon(self) -> bool:
        return False

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        t, _ = clock(t, T)
        return rational(self.scale) / sympy.sqrt(t + 1)

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return np.asarray(float(self.scale) / np.sqrt(t + 1))

    def mean(self, T: Any = None) -> sympy.Expr:
        """H(T, 1/2) scale/T with the generalised harmonic number H(T, s) = sum of k^-s, k = 1 … T.

        For a large number T it is written zeta(1/2) - zeta(1/2, T + 1), the same by Hurwitz's zeta function.
        """
        import sympy

        if T is None:
            return sympy.Integer(0)
        T, half = horizon(T), sympy.Rational(1, 2)
        if T.is_Integer and T > _EXACT_TERMS:
            return rational(self.scale) * (sympy.zeta(half) - sympy.zeta(half, T + 1)) / T
        return rational(self.scale) * sympy.harmonic(T, half) / T


@dataclass(frozen=True, repr=False)
class Periodic(Schedule):
    """A certain trial at every `every`-th step, from the first on: s(t) = 1 where every divides t, else 0."""

    every: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", natural("Periodic every", self.every, least=1))
        if self.every > _MAX_PERIOD:
            raise DomainError(f"Periodic every <= {_MAX_PERIOD}", self.every)

    @property
    def has_horizon(self) -> bool:
        return False

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        t, _ = clock(t, T)
        return sympy.Piecewise((1, sympy.Eq(sympy.Mod(t, self.every), 0)), (0, True))

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return np.where(t % self.every == 0, 1.0, 0.0)

    def mean(self, T: Any = None) -> sympy.Expr:
        import sympy

        if T is None:
            return sympy.Rational(1, self.every)
        T = horizon(T)
        return sympy.ceiling(T / self.every) / T


@dataclass(frozen=True)
class Tabulated(Schedule):
    """A table of values, one for each step: it fits runs of exactly its own length and has no limit."""

    table: tuple[float, ...]

    def __post_init__(self) -> None:
        try:
            table = np.asarray(self.table, dtype=np.float64)
        except OverflowError as error:
            raise DomainError("Tabulated values finite and >= 0", "an integer beyond all floats") from error
        if table.ndim != 1 or table.size == 0:
            raise ValueError(f"Tabulated needs values of shape (T,) with T >= 1; got shape {table.shape}")
        bad = ~(np.isfinite(table) & (table >= 0))
        if bad.any():
            t = int(np.argmax(bad))
            raise DomainError("Tabulated values finite and >= 0", float(table[t]), f"t = {t}")
        object.__setattr__(self, "table", tuple(table.tolist()))

    def _require_length(self, T: Any) -> None:
        if not is_symbolic(T) and len(self.table) != T:
            raise DomainError(f"T = {len(self.table)}, the number of values of Tabulated", T)

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        t, T = clock(t, T)
        self._require_length(T)
        if t.is_Integer:
            return rational(self.table[natural("t", t, below=len(self.table))])
        return sympy.Piecewise(*((rational(v), sympy.Eq(t, i)) for i, v in enumerate(self.table)))

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        self._require_length(T)
        return np.array(self.table)[t.astype(np.intp)]

    def mean(self, T: Any = None) -> sympy.Expr:
        import sympy

        if T is None:
            raise DomainError("a number of steps T: a table has no limit as T grows", None)
        self._require_length(horizon(T))
        total = sum(map(fraction, self.table))
        return sympy.Rational(total.numerator, total.denominator) / len(self.table)

    def __repr__(self) -> str:
        shown = ", ".join(f"{v:g}" for v in self.table[:4])
        return f"Tabulated([{shown}{', …' if len(self.table) > 4 else ''}], T = {len(self.table)})"

    def _latex(self) -> str:
        shown = [f"{v:.4g}" for v in self.table[:4]] + [r"\dots"] * (len(self.table) > 4)
        return rf"\left({', '.join(shown)}\right)_t"

    @property
    def _shown_steps(self) -> int:
        return len(self.table)


@dataclass(frozen=True, repr=False)
class FromExpression(Schedule):
    """A formula in t and T given as text, in the little language of `rst_theory.schedules.expressions`.

    Nothing of the text is ever executed by Python. A SymPy expression is taken by its text.

    Raises:
        ValueError: what is not in the language, with its column.
    """

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", str(self.text).strip())
        expressions.parse(self.text)

    @property
    def has_horizon(self) -> bool:
        return bool(expressions.names(self.text) & {"T", "u"})

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        return expressions.symbolic(self.text, *clock(t, T))

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return expressions.numeric(self.text, t, T)

    def mean(self, T: Any = None) -> sympy.Expr:
        """Finite T: the exact sum over its terms, kept as an unevaluated SymPy Sum beyond 1,000 of them.

        The limit: the integral over u in [0, 1] of the limit of s(u T), which is what the mean tends to
        for bounded piecewise continuous formulas of t/T and t.

        Raises:
            ValueError: SymPy finds no closed form of the limit.
        """
        import sympy

        if T is not None:
            k = sympy.Symbol("t", integer=True, nonnegative=True)
            T = horizon(T)
            if T.is_Integer and T <= _EXACT_TERMS:
                return sympy.Add(*(self.expression(sympy.Integer(i), T) for i in range(int(T)))) / T
            return sympy.Sum(self.expression(k, T), (k, 0, T - 1)) / T
        return expressions.limit_of_mean(self.text)


def _depth(schedule: Schedule) -> int:
    return 1 + max(_depth(part) for part, _ in schedule.parts) if isinstance(schedule, Joined) else 0


@dataclass(frozen=True)
class Joined(Schedule):
    """Schedules one after the other, each on its own clock: ((schedule, fraction of the steps), …).

    The fractions add to 1. With c_i the sum of the first i of them, part i runs over
    ceil(c_{i-1} T) <= t < ceil(c_i T) as if these were all the steps there are.
    """

    parts: tuple[tuple[Schedule, Number], ...]

    def __post_init__(self) -> None:
        parts = tuple(
            (schedule, nonnegative("Joined fraction", share, most=1)) for schedule, share in self.parts
        )
        if not parts:
            raise ValueError("Joined needs at least one part")
        for schedule, _ in parts:
            if not isinstance(schedule, Schedule):
                raise TypeError(f"Joined parts must be (schedule, fraction) pairs; got {schedule!r}")
        if _depth(self) > _MAX_DEPTH:
            raise ValueError(f"Joined schedules lie at most {_MAX_DEPTH} deep in each other")
        shares = [share for _, share in parts]
        if not any(map(is_symbolic, shares)):
            total = sum(map(fraction, shares), start=Fraction(0))
            if abs(total - 1) > 1e-9 or total - fraction(shares[-1]) > 1:
                raise DomainError("Joined fractions that add to 1", float(total))
        object.__setattr__(self, "parts", parts)

    @property
    def free_symbols(self) -> set[Any]:
        symbols: set[Any] = set()
        for schedule, share in self.parts:
            symbols |= schedule.free_symbols | (share.free_symbols if is_symbolic(share) else set())  # type: ignore[union-attr]
        return symbols

    def _ends(self, exact: Callable[[Any], Any]) -> list[Any]:
        """0, c_1, c_2, …, 1, the fractions made exact."""
        return [0, *itertools.accumulate(exact(share) for _, share in self.parts[:-1]), 1]

    def _nonempty(self, bounds: list[Any]) -> Iterator[tuple[Schedule, Any, Any]]:
        for (schedule, _), begin, end in zip(self.parts, bounds, bounds[1:], strict=False):
            if begin != end:
                yield schedule, begin, end

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        t, T = clock(t, T)
        pieces = []
        for schedule, begin, end in self._nonempty([sympy.ceiling(c * T) for c in self._ends(rational)]):
            inside = t < end
            if inside is not sympy.false:
                pieces.append((schedule.expression(t - begin, end - begin), inside))
            if inside is sympy.true:
                break
        return sympy.Piecewise(*pieces)

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        values = np.empty(t.shape)
        for schedule, begin, end in self._nonempty([math.ceil(c * T) for c in self._ends(fraction)]):
            here = (begin <= t) & (t < end)
            if here.any():
                values[here] = schedule._values(t[here] - begin, end - begin)
        return values

    def mean(self, T: Any = None) -> sympy.Expr:
        import sympy

        ends = self._ends(rational)
        if T is None:
            shares = self._nonempty(ends)
            return sympy.Add(*((end - begin) * schedule.mean() for schedule, begin, end in shares))
        T = horizon(T)
        steps = self._nonempty([sympy.ceiling(c * T) for c in ends])
        total = sympy.Add(*((end - begin) * schedule.mean(end - begin) for schedule, begin, end in steps))
        return total / T

    def __repr__(self) -> str:
        return f"Joined({', '.join(f'{schedule!r} for {share}' for schedule, share in self.parts)})"
