"""What a schedule is: a frozen value that holds one function of the step, in SymPy and in NumPy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, DomainError, FloatArray, Quantity, natural

if TYPE_CHECKING:
    import sympy

Number: TypeAlias = "float | Fraction | sympy.Expr"
"""A parameter of a schedule: a real number, or a SymPy expression where the symbolic form is wanted."""


@dataclass(frozen=True)
class Schedule(ABC):
    """A nonnegative function of the step t = 0, …, T-1; used as p_t it must lie in [0, 1].

    A family is a frozen dataclass whose fields are its parameters, with one formula written twice:
    `expression` for SymPy, `_values` for NumPy. Decimal parameters mean what they print: 0.1 is 1/10 in
    the symbolic form and in counting steps. Parameters may be SymPy symbols; then only the symbolic forms
    are to be had.
    """

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not is_symbolic(value):
                nonnegative(f"{type(self).__name__} {f.name}", value)

    @abstractmethod
    def expression(self, t: Any, T: Any) -> sympy.Expr:
        """The value at step t of T, exact: SymPy symbols or integers in, a SymPy expression out."""

    @abstractmethod
    def _values(self, t: FloatArray, T: int) -> FloatArray:
        """The values at the steps t, 0 <= t < T, in float64."""

    @abstractmethod
    def mean(self, T: Any = None) -> sympy.Expr:
        """The exact mean over t = 0, …, T-1; without T its limit as T grows."""

    def values(self, T: int) -> FloatArray:
        """The values at t = 0, …, T-1, float64 (T,).

        Raises:
            TypeError: T is no integer, or a parameter is a symbol.
            DomainError: T < 1, or a value that is negative or not finite, named with its t.
        """
        T = natural("T", T, least=1)
        self._require_numbers()
        return _nonnegative_values(self, self._values(np.arange(T, dtype=np.float64), T))

    def at(self, t: int, T: int | None = None) -> float:
        """The value at one step; T may be left out where the schedule has no horizon.

        Raises:
            DomainError: T missing where it is needed, or t outside 0, …, T-1.
        """
        if T is None and self.has_horizon:
            raise DomainError(f"a number of steps T for {self!r}, whose values depend on it", None)
        t = natural("t", t, below=T)
        self._require_numbers()
        return float(_nonnegative_values(self, self._values(np.array([t], dtype=np.float64), T or t + 1))[0])

    def probabilities(self, T: int) -> FloatArray:
        """The values at t = 0, …, T-1 as probabilities, float64 (T,).

        Raises:
            DomainError: a value outside [0, 1], named with its t.
        """
        return QUANTITIES["p"].check_all(self.values(T))

    @property
    def has_horizon(self) -> bool:
        """Whether the value at t depends on T; False for a schedule that can run without an end."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """The schedule as a plain dict that JSON can hold; `from_dict` takes it back."""
        self._require_numbers()
        plain = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        return {"family": type(self).__name__, **plain}

    @property
    def free_symbols(self) -> set[Any]:
        """The SymPy symbols among the parameters; empty for an ordinary schedule."""
        symbols: set[Any] = set()
        for f in fields(self):
            value = getattr(self, f.name)
            if is_symbolic(value):
                symbols |= value.free_symbols
        return symbols

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(str(getattr(self, f.name)) for f in fields(self))})"

    def _repr_latex_(self) -> str:
        import sympy

        t, T = QUANTITIES["t"].symbol, QUANTITIES["steps"].symbol
        return f"$\\displaystyle {sympy.latex(self.expression(t, T))}$"

    def _require_numbers(self) -> None:
        if self.free_symbols:
            names = ", ".join(sorted(map(str, self.free_symbols)))
            raise TypeError(f"{self!r} has the free symbols {names}; numeric values need numbers")


def _nonnegative_values(schedule: Schedule, values: FloatArray) -> FloatArray:
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        t = int(np.argmax(bad))
        raise DomainError(f"values of {schedule!r} finite and >= 0", float(values[t]), f"t = {t}")
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_dict()
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def is_symbolic(value: object) -> bool:
    """True for a SymPy expression with free symbols."""
    return bool(getattr(value, "free_symbols", None)) and not isinstance(value, Schedule)


def nonnegative(name: str, value: object, most: float | None = None) -> None:
    """Check a numeric parameter: finite, >= 0 (and <= most)."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a real number; got {value!r}")
    number = float(value)
    if not (np.isfinite(number) and number >= 0 and (most is None or number <= most)):
        domain = "finite and >= 0" if most is None else f"in [0, {most:g}]"
        raise DomainError(f"{name} {domain}", value)


def fraction(value: Any) -> Fraction:
    """A decimal parameter as the exact rational that it prints as: 0.1 is 1/10."""
    return value if isinstance(value, Fraction) else Fraction(str(float(value)))


def rational(value: Any) -> sympy.Expr:
    """A parameter in SymPy: numbers become exact rationals, symbols stay."""
    import sympy

    if is_symbolic(value):
        return value
    exact = fraction(value)
    return sympy.Rational(exact.numerator, exact.denominator)


def decimal(value: Fraction) -> float | Fraction:
    """The float that prints as exactly this rational where there is one, else the rational."""
    number = float(value)
    return number if fraction(number) == value else value


def sequence(parameter: float | npt.ArrayLike | Schedule, T: int, quantity: Quantity) -> FloatArray:
    """A step size, radius, coefficient or probability over t = 0, …, T-1, float64 (T,).

    Args:
        parameter: a number, an array of length T, or a `Schedule`.
        T: the number of steps.
        quantity: what it is; its domain is enforced.

    Raises:
        ValueError: an array whose shape is neither () nor (T,).
        DomainError: a value outside the domain, named with its t.
    """
    T = natural("T", T, least=1)
    if isinstance(parameter, Schedule):
        return quantity.check_all(parameter.values(T))
    array = quantity.check_all(parameter)
    if array.shape not in ((), (T,)):
        raise ValueError(
            f"{quantity.name} {quantity.key} must be a number or have shape ({T},); got shape {array.shape}"
        )
    return np.array(np.broadcast_to(array, (T,)))
