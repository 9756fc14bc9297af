"""The families of schedule functions.

Symbol key: t the step, T the number of steps, u = t/(T-1) the clock from 0 to 1 (u = 0 when T = 1).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from rst_theory.notation import DomainError, FloatArray, natural
from rst_theory.schedules import expressions
from rst_theory.schedules.base import Number, Schedule, fraction, is_symbolic, nonnegative, rational

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


@dataclass(frozen=True, repr=False)
class Constant(Schedule):
    """The same value at every step: s(t) = value."""

    value: Number

    @property
    def has_horizon(self) -> bool:
        return False

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        return rational(self.value)

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return np.full(t.shape, float(self.value))

    def mean(self, T: Any = None) -> sympy.Expr:
        return rational(self.value)


@dataclass(frozen=True, repr=False)
class Piecewise(Schedule):
    """Two phases: s(t) = first while t < switch T, then second; the first phase has ceil(switch T) steps."""

    first: Number
    second: Number
    switch: Number

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_symbolic(self.switch):
            nonnegative("Piecewise switch", self.switch, most=1)

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        return sympy.Piecewise(
            (rational(self.first), t < rational(self.switch) * T), (rational(self.second), True)
        )

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return np.where(t < math.ceil(fraction(self.switch) * T), float(self.first), float(self.second))

    def mean(self, T: Any = None) -> sympy.Expr:
        import sympy

        first, second, switch = map(rational, (self.first, self.second, self.switch))
        share = switch if T is None else sympy.ceiling(switch * T) / sympy.sympify(T)
        return share * first + (1 - share) * second


@dataclass(frozen=True, repr=False)
class Linear(Schedule):
    """A straight line: s(t) = (1 - u) start + u end; both end values are reached."""

    start: Number
    end: Number

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        u = _clock(t, T)
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
        return start + (end - start) * (1 - sympy.cos(sympy.pi * _clock(t, T))) / 2

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return _between(self, np.sin(np.pi / 2 * (t / max(1, T - 1))) ** 2)

    def mean(self, T: Any = None) -> sympy.Expr:
        return _symmetric_mean(self, T)


def _clock(t: Any, T: Any) -> sympy.Expr:
    import sympy

    return sympy.sympify(t) / sympy.Max(1, T - 1)


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
    return sympy.Piecewise((start, sympy.Eq(T, 1)), ((start + end) / 2, True))


@dataclass(frozen=True, repr=False)
class InverseSqrt(Schedule):
    """The slow decay of stochastic approximation: s(t) = scale/sqrt(t + 1)."""

    scale: Number

    @property
    def has_horizon(self) -> bool:
        return False

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        return rational(self.scale) / sympy.sqrt(sympy.sympify(t) + 1)

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return np.asarray(float(self.scale) / np.sqrt(t + 1))

    def mean(self, T: Any = None) -> sympy.Expr:
        """Scale H(T, 1/2)/T with the generalised harmonic number H(T, s) = sum of k^-s, k = 1 … T."""
        import sympy

        if T is None:
            return sympy.Integer(0)
        return rational(self.scale) * sympy.harmonic(T, sympy.Rational(1, 2)) / sympy.sympify(T)


@dataclass(frozen=True, repr=False)
class Periodic(Schedule):
    """A certain trial at every `every`-th step, from the first on: s(t) = 1 where every divides t, else 0."""

    every: int

    def __post_init__(self) -> None:
        natural("Periodic every", self.every, least=1)

    @property
    def has_horizon(self) -> bool:
        return False

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        return sympy.Piecewise((1, sympy.Eq(sympy.Mod(t, self.every), 0)), (0, True))

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        return np.where(t % self.every == 0, 1.0, 0.0)

    def mean(self, T: Any = None) -> sympy.Expr:
        import sympy

        if T is None:
            return sympy.Rational(1, self.every)
        return sympy.ceiling(sympy.sympify(T) / self.every) / sympy.sympify(T)


@dataclass(frozen=True, repr=False)
class Tabulated(Schedule):
    """A table of values, one for each step: it fits runs of exactly its own length and has no limit."""

    table: tuple[float, ...]

    def __post_init__(self) -> None:
        table = np.asarray(self.table, dtype=np.float64)
        if table.ndim != 1 or table.size == 0:
            raise ValueError(f"Tabulated needs values of shape (T,) with T >= 1; got shape {table.shape}")
        bad = ~(np.isfinite(table) & (table >= 0))
        if bad.any():
            t = int(np.argmax(bad))
            raise DomainError("Tabulated values finite and >= 0", float(table[t]), f"t = {t}")
        object.__setattr__(self, "table", tuple(table.tolist()))

    def _require_length(self, T: Any) -> None:
        if getattr(T, "is_Integer", isinstance(T, int)) and len(self.table) != T:
            raise DomainError(f"T = {len(self.table)}, the number of values of Tabulated", T)

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        self._require_length(T)
        t = sympy.sympify(t)
        if t.is_Integer:
            return rational(self.table[natural("t", int(t), below=len(self.table))])
        return sympy.Piecewise(*((rational(v), sympy.Eq(t, i)) for i, v in enumerate(self.table)))

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        self._require_length(T)
        return np.array(self.table)[t.astype(np.intp)]

    def mean(self, T: Any = None) -> sympy.Expr:
        import sympy

        if T is None:
            raise DomainError("a number of steps T: a table has no limit as T grows", None)
        self._require_length(T)
        total = sum(map(fraction, self.table))
        return sympy.Rational(total.numerator, total.denominator) / len(self.table)

    def __repr__(self) -> str:
        shown = ", ".join(f"{v:g}" for v in self.table[:4])
        return f"Tabulated([{shown}{', …' if len(self.table) > 4 else ''}], T = {len(self.table)})"


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
        return expressions.symbolic(self.text, t, T)

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
            T = sympy.sympify(T)
            if T.is_Integer and T <= _EXACT_TERMS:
                return sympy.Add(*(self.expression(sympy.Integer(i), T) for i in range(int(T)))) / T
            return sympy.Sum(self.expression(k, T), (k, 0, T - 1)) / T
        return expressions.limit_of_mean(self.text)


@dataclass(frozen=True, repr=False)
class Joined(Schedule):
    """Schedules one after the other, each on its own clock: ((schedule, fraction of the steps), …).

    The fractions add to 1. With c_i the sum of the first i of them, part i runs over
    ceil(c_{i-1} T) <= t < ceil(c_i T) as if these were all the steps there are.
    """

    parts: tuple[tuple[Schedule, Number], ...]

    def __post_init__(self) -> None:
        parts = tuple((schedule, share) for schedule, share in self.parts)
        if not parts:
            raise ValueError("Joined needs at least one part")
        for schedule, share in parts:
            if not isinstance(schedule, Schedule):
                raise TypeError(f"Joined parts must be (schedule, fraction) pairs; got {schedule!r}")
            if not is_symbolic(share):
                nonnegative("Joined fraction", share, most=1)
        shares = [share for _, share in parts]
        if not any(map(is_symbolic, shares)):
            total = sum(map(fraction, shares), start=Fraction(0))
            if abs(total - 1) > 1e-9:
                raise DomainError("Joined fractions that add to 1", float(total))
        object.__setattr__(self, "parts", parts)

    @property
    def free_symbols(self) -> set[Any]:
        symbols: set[Any] = set()
        for schedule, share in self.parts:
            symbols |= schedule.free_symbols | (share.free_symbols if is_symbolic(share) else set())  # type: ignore[union-attr]
        return symbols

    def _bounds(self, T: int) -> list[int]:
        """The first step of each part, and T."""
        ends = itertools.accumulate(fraction(share) for _, share in self.parts[:-1])
        return [0, *(min(T, math.ceil(end * T)) for end in ends), T]

    def _symbolic_bounds(self, T: Any) -> list[Any]:
        import sympy

        ends = itertools.accumulate(rational(share) for _, share in self.parts[:-1])
        return [sympy.Integer(0), *(sympy.ceiling(end * T) for end in ends), sympy.sympify(T)]

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        import sympy

        bounds = self._symbolic_bounds(T)
        return sympy.Piecewise(
            *(
                (schedule.expression(t - begin, end - begin), t < end)
                for (schedule, _), begin, end in zip(self.parts, bounds, bounds[1:], strict=False)
                if end - begin != 0
            )
        )

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        bounds = self._bounds(T)
        values = np.empty(t.shape)
        for (schedule, _), begin, end in zip(self.parts, bounds, bounds[1:], strict=False):
            here = (begin <= t) & (t < end)
            if here.any():
                values[here] = schedule._values(t[here] - begin, end - begin)
        return values

    def mean(self, T: Any = None) -> sympy.Expr:
        import sympy

        if T is None:
            return sympy.Add(*(rational(share) * schedule.mean() for schedule, share in self.parts))
        bounds = self._symbolic_bounds(T)
        return sympy.Add(
            *(
                (end - begin) * schedule.mean(end - begin)
                for (schedule, _), begin, end in zip(self.parts, bounds, bounds[1:], strict=False)
                if end - begin != 0
            )
        ) / sympy.sympify(T)

    def __repr__(self) -> str:
        return f"Joined({', '.join(f'{schedule!r} for {share}' for schedule, share in self.parts)})"
