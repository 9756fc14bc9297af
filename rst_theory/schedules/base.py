"""What a schedule is: a frozen value that holds one function of the step, in SymPy and in NumPy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from fractions import Fraction
from numbers import Rational
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rst_theory import display
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
    the symbolic form and in counting steps, and they are kept as floats, or as Fractions where no float
    prints so. Parameters may be SymPy symbols; then only the symbolic forms are to be had.
    """

    def __post_init__(self) -> None:
        for f in fields(self):
            checked = nonnegative(f"{type(self).__name__} {f.name}", getattr(self, f.name))
            object.__setattr__(self, f.name, checked)

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
        T = None if T is None else natural("T", T, least=1)
        t = natural("t", t, below=T)
        self._require_numbers()
        values = self._values(np.array([t], dtype=np.float64), T or t + 1)
        return float(_nonnegative_values(self, values, first=t)[0])

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
        return f"$\\displaystyle {self._latex()}$"

    def _repr_html_(self) -> str:
        formula = display.formula(rf"s(t) = {self._latex()}, \quad t = 0, \dots, T - 1")
        return display.stack(display.code(self), formula, self._picture())

    def _latex(self) -> str:
        import sympy

        t, T = QUANTITIES["t"].symbol, QUANTITIES["steps"].symbol
        return str(sympy.latex(self.expression(t, T)))

    def _picture(self) -> display.Html:
        """The values as a small curve, from 0 to 1 or to their greatest; in its place why there are none."""
        try:
            values = self.values(self._shown_steps)
        except (TypeError, DomainError) as error:  # free symbols, or a value that no schedule has
            return display.code(str(error))
        numbers = {"mean": values.mean(), "least": values.min(), "greatest": values.max()}
        words = ", ".join(f"{name} {display.number(value)}" for name, value in numbers.items())
        curve = display.sparkline(values, low=0.0, high=max(1.0, values.max()))
        return display.joined([curve, f"T = {values.size}: {words}"], " ")

    @property
    def _shown_steps(self) -> int:
        return 100

    def _require_numbers(self) -> None:
        if self.free_symbols:
            names = ", ".join(sorted(map(str, self.free_symbols)))
            raise TypeError(f"{self!r} has the free symbols {names}; numeric values need numbers")


def _nonnegative_values(schedule: Schedule, values: FloatArray, first: int = 0) -> FloatArray:
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        i = int(np.argmax(bad))
        raise DomainError(f"values of {schedule!r} finite and >= 0", float(values[i]), f"t = {first + i}")
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


def nonnegative(name: str, value: Any, most: float = math.inf) -> Any:
    """A parameter >= 0 (and <= most) as its `decimal`; a symbolic one stays as it is.

    Raises:
        TypeError: not a real number.
        DomainError: negative, beyond `most`, or not finite.
    """
    if is_symbolic(value):
        return value
    if isinstance(value, bool | np.ndarray) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a real number; got {value!r}")
    if not (_finite(value) and 0 <= value <= most):
        domain = "finite and >= 0" if math.isinf(most) else f"in [0, {most:g}]"
        raise DomainError(f"{name} {domain}", value)
    return decimal(fraction(value))


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def fraction(value: Any) -> Fraction:
    """A decimal parameter as the exact rational that it prints as: 0.1 is 1/10."""
    if isinstance(value, Rational):
        return Fraction(int(value.numerator), int(value.denominator))
    return Fraction(str(float(value)))


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


def clock(t: Any, T: Any) -> tuple[sympy.Expr, sympy.Expr]:
    """A step and the number of steps in SymPy; never from text, which SymPy would execute.

    Raises:
        TypeError: text, or a number that is no integer.
        DomainError: a number outside t = 0, …, T-1 or T = 1, 2, ….
    """
    T = horizon(T)
    t = _sympified("t", t)
    if t.is_number:
        natural("t", t, below=int(T) if T.is_number else None)
    return t, T


def horizon(T: Any) -> sympy.Expr:
    """The number of steps in SymPy, as in `clock`."""
    T = _sympified("T", T)
    if T.is_number:
        natural("T", T, least=1)
    return T


def _sympified(name: str, value: Any) -> sympy.Expr:
    import sympy

    try:
        expression = sympy.sympify(value, strict=True)
    except sympy.SympifyError:
        expression = None
    if not isinstance(expression, sympy.Expr):
        raise TypeError(f"{name} must be an integer or a SymPy expression; got {value!r}")
    return expression


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
