"""The schedule functions of the source by their names, and schedules from dicts and command lines.

The source (arXiv 2203.09962 and its authors' public research code) parametrises each with one number p;
the table stands in `paper_notes/notation.md#schedules`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from rst_theory.notation import QUANTITIES, DomainError, FloatArray
from rst_theory.schedules import families
from rst_theory.schedules.base import Number, Schedule, fraction, is_symbolic, sequence
from rst_theory.schedules.expressions import TOO_LARGE
from rst_theory.schedules.families import Constant, Cosine, FromExpression, Joined, Linear, Piecewise

__all__ = ["PRESETS", "MatchedGamma", "from_dict", "matched_gamma", "parse", "preset"]

FAMILIES: dict[str, type[Schedule]] = {name: getattr(families, name) for name in families.__all__}

PRESETS = (
    "constant",
    "piecewise1",
    "piecewise2",
    "piecewise3",
    "linear1",
    "linear2",
    "cosine_up",
    "cosine_down",
)


def preset(name: str, p: Number = 0.5, original: bool = False) -> Schedule:
    """A schedule function of the source by its name.

    Args:
        name: one of `PRESETS`.
        p: its parameter in [0, 1], or a SymPy expression; without meaning for the cosine presets.
        original: reproduce the authors' clock, t/T with `<=` between phases, instead of ours.

    Raises:
        ValueError: an unknown name.
        DomainError: p outside [0, 1], or on the original clock too small to stand in a formula.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    if is_symbolic(p):
        if original:
            raise ValueError("the original clock needs a number p")
        return _ours(name, p, _symbolic_line)
    QUANTITIES["p"].check(p)
    exact = fraction(p)
    return _original(name, _simplest(exact)) if original else _ours(name, exact, _line)


def _line(p: Fraction) -> tuple[Fraction, Fraction]:
    """The ends of linear1: from 0 to 2p, or, where that would pass 1, from 2p - 1 to 1."""
    return max(Fraction(0), 2 * p - 1), min(Fraction(1), 2 * p)


def _symbolic_line(p: Any) -> tuple[Any, Any]:
    import sympy

    return sympy.Max(0, 2 * p - 1), sympy.Min(1, 2 * p)


def _ours(name: str, p: Any, line: Callable[[Any], tuple[Any, Any]]) -> Schedule:
    match name:
        case "constant":
            return Constant(p)
        case "piecewise1":
            return Piecewise(0.0, 1.0, p)
        case "piecewise2":
            return Piecewise(1.0, 0.0, p)
        case "piecewise3":
            return Piecewise(p, 1 - p, 0.5)
        case "linear1":
            return Linear(*line(p))
        case "linear2":
            return Linear(p, 1 - p)
        case "cosine_up":
            return Cosine(0.0, 1.0)
        case _:
            return Cosine(1.0, 0.0)


def _simplest(p: Fraction) -> Fraction:
    """The simplest rational that is the same float: their p T is a float, where a third of 3 steps is one."""
    simple = p.limit_denominator(10**6)
    return simple if float(simple) == float(p) else p


def _original(name: str, p: Fraction) -> Schedule:
    match name:
        case "constant":
            return Constant(p)
        case "cosine_up":
            return FromExpression("1/2 - cos(pi * t / T) / 2")
        case "cosine_down":
            return FromExpression("1/2 + cos(pi * t / T) / 2")
    if p.denominator >= TOO_LARGE:  # of a formula
        raise DomainError(f"p = a/b, b < {TOO_LARGE:g}, on the original clock", float(p))
    first_phase = f"{p.denominator} * t <= {p.numerator} * T"
    match name:
        case "piecewise1":
            return FromExpression(f"0 if {first_phase} else 1")
        case "piecewise2":
            return FromExpression(f"1 if {first_phase} else 0")
        case "piecewise3":
            return FromExpression(f"{p} if 2 * t <= T else {1 - p}")
        case "linear1":
            start, end = _line(p)
            return FromExpression(f"{start} + ({end - start}) * t / T")
        case _:
            return FromExpression(f"{p} + ({1 - 2 * p}) * t / T")


class MatchedGamma(NamedTuple):
    """Mixing coefficients gamma_t and the degrees p_t gamma_t that they attain, float64 (T,) each."""

    gamma: FloatArray
    degree: FloatArray


def matched_gamma(
    schedule: float | FloatArray | Schedule,
    T: int,
    degree: float | FloatArray | Schedule,
    max_gamma: float | None = None,
) -> MatchedGamma:
    """G-RST at a given degree of regularization: gamma_t = degree_t / p_t.

    Where p_t = 0 no coefficient can help: the step is SGD, gamma_t = 0 and the degree attained is 0.

    Args:
        schedule: p(t): a schedule, an array (T,), or a number.
        T: the number of steps.
        degree: the degree asked for, likewise.
        max_gamma: cap on the coefficients, for schedules that come near 0; the degree attained then
            falls short, and the result says by how much.

    Raises:
        DomainError: a coefficient beyond the floating range, named with its t, where max_gamma is None.
    """
    p = sequence(schedule, T, QUANTITIES["p"])
    wanted = sequence(degree, T, QUANTITIES["degree"])
    with np.errstate(over="ignore"):
        gamma = np.divide(wanted, p, out=np.zeros_like(p), where=p > 0)
    if max_gamma is not None:
        gamma = np.minimum(gamma, QUANTITIES["gamma"].check(max_gamma))
    if not np.isfinite(gamma).all():
        t = int(np.argmin(np.isfinite(gamma)))
        raise DomainError(
            "degree / p within the floating range, or max_gamma given", f"p = {p[t]}", f"t = {t}"
        )
    return MatchedGamma(gamma, p * gamma)


def from_dict(plain: Mapping[str, Any]) -> Schedule:
    """The schedule that `to_dict` described.

    Raises:
        ValueError: an unknown family, or fields that are not exactly those of the family; as a DomainError
            a number outside its domain.
        TypeError: a field of the wrong type.
    """
    if not isinstance(plain, Mapping) or plain.get("family") not in list(FAMILIES):
        raise ValueError(
            f"a schedule's dict names its family, one of {', '.join(FAMILIES)}; got {plain!r:.200}"
        )
    family = FAMILIES[plain["family"]]
    arguments = {key: value for key, value in plain.items() if key != "family"}
    if set(arguments) != set(family.__dataclass_fields__):
        wanted = ", ".join(family.__dataclass_fields__)
        raise ValueError(f"{plain['family']} has the fields {wanted}; got {', '.join(arguments):.200}")
    if family is Joined:
        pairs = _entries("parts", arguments, lambda part: isinstance(part, list | tuple) and len(part) == 2)
        return Joined(tuple((from_dict(part), _number(share)) for part, share in pairs))
    if family is families.Tabulated:
        return families.Tabulated(_entries("table", arguments, lambda value: isinstance(value, float | int)))
    if family is FromExpression:
        return FromExpression(arguments["text"])
    return family(**{key: _number(value) for key, value in arguments.items()})


def _entries(name: str, arguments: Mapping[str, Any], right: Callable[[Any], bool]) -> tuple[Any, ...]:
    entries = arguments[name]
    if not isinstance(entries, list | tuple) or not all(map(right, entries)):
        what = "pairs of a schedule and a number" if name == "parts" else "numbers"
        raise TypeError(f"the {name} of a schedule must be a list of {what}; got {entries!r:.200}")
    return tuple(entries)


_LONGEST_DECIMAL = 1000
_LONGEST_FRACTION = 4000  # a decimal as it is kept: as many digits, twice, and those of its exponent
_NUMBER = re.compile(r"\d+(\.\d*)?([eE][+-]?\d{1,3})?|\.\d+([eE][+-]?\d{1,3})?|\d+/0*[1-9]\d*", re.ASCII)
_SPECIFICATION = re.compile(r"(?P<name>\w+)(?::(?P<arguments>.*))?", re.DOTALL)


def _number(value: Any) -> Any:
    """Text as the rational that it prints as; anything else as it is.

    Raises:
        ValueError: the text is not a number >= 0 in the floating range.
    """
    if not isinstance(value, str):
        return value
    short = len(value) <= (_LONGEST_FRACTION if "/" in value else _LONGEST_DECIMAL)
    if not short or not _NUMBER.fullmatch(value) or (number := Fraction(value)) > sys.float_info.max:
        raise ValueError(f"{value!r} is not a number such as 0.3, 1e-3 or 1/3")
    return number


def parse(text: str) -> Schedule:
    """A schedule from one word of a command line.

    `0.5` is constant; `linear1:p=0.3` a preset; `linear:0,1`, `cosine:start=0,end=1` a family by its
    fields; `formula:0.5 + 0.5*cos(pi*t/T)` a formula.

    Raises:
        ValueError: what is not understood, and what would be.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return Constant(_number(text))
    match = _SPECIFICATION.fullmatch(text)
    name, arguments = (match["name"].lower(), match["arguments"]) if match else ("", None)
    if name == "formula":
        return FromExpression(arguments or "")
    positional, named = _arguments(arguments, text)
    if name in PRESETS and not positional and set(named) <= {"p"}:
        return preset(name, **named)
    families_by_name = {n.lower(): f for n, f in FAMILIES.items() if f not in (Joined, FromExpression)}
    if name not in families_by_name:
        known = ", ".join(sorted({*PRESETS, *families_by_name, "formula"}))
        raise ValueError(f"unknown schedule {text!r}; known: {known}; for example linear1:p=0.3")
    family = families_by_name[name]
    if family is families.Tabulated and not named:
        return families.Tabulated(tuple(positional))
    fields = list(family.__dataclass_fields__)
    values = {**dict(zip(fields, positional, strict=False)), **named}
    if (
        len(positional) > len(fields)
        or set(values) != set(fields)
        or len(values) != len(positional) + len(named)
    ):
        raise ValueError(f"{name} takes {', '.join(fields)}; got {text!r}")
    if family is families.Periodic:
        if values["every"].denominator != 1:
            raise ValueError(f"periodic takes an integer; got {text!r}")
        values["every"] = int(values["every"])
    return family(**values)


def _arguments(text: str | None, whole: str) -> tuple[list[Any], dict[str, Any]]:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for word in text.split(",") if text else ():
        key, equals, value = (part.strip() for part in word.rpartition("="))
        if key in named or (named and not equals):
            raise ValueError(f"{word!r} in {whole!r} is not name=number, with each name once, at the end")
        if equals:
            named[key] = _number(value)
        else:
            positional.append(_number(value))
    return positional, named
