"""Numbers as a reader wants them: three significant digits, intervals in brackets, real minus signs."""

from __future__ import annotations

import math

__all__ = ["count", "estimate", "fixed", "interval", "three"]

_THIN = "\N{NARROW NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def three(x: float) -> str:
    """A number to three significant digits: 0.955, 1.48, 12 300, 1.20 × 10⁻⁵."""
    if x == 0:
        return "0"
    digits, exponent = f"{x:.2e}".split("e")
    power = int(exponent)
    if not -4 <= power < 5:
        return f"{digits} × 10{str(power).translate(_SUPERSCRIPT)}".replace("-", _MINUS)
    return fixed(float(f"{x:.2e}"), max(2 - power, 0))


def count(x: float) -> str:
    """A number of things: grouped by thousands, with one decimal where it is no whole number."""
    return fixed(x, 0 if x == round(x) else 1)


def interval(low: float, high: float, decimals: int = 3, sign: str = "-") -> str:
    """Two ends in brackets."""
    return f"[{fixed(low, decimals, sign)}, {fixed(high, decimals, sign)}]"


def estimate(middle: float, low: float, high: float) -> str:
    """A number with its interval, both to the decimals that the wider of value and interval deserves.

    That is three significant digits of the number, or one of the half-width where that is more. Numbers
    beyond the range of plain decimals share one power of ten.
    """
    size = max(abs(middle), abs(low), abs(high))
    if size < 1e-300:  # beyond the range of powers of ten
        return f"0 {interval(0, 0, 0)}"
    power = math.floor(math.log10(size))
    if not -4 <= power < 5:
        scale = 10.0**power
        plain = estimate(middle / scale, low / scale, high / scale)
        return f"({plain}) × 10{str(power).translate(_SUPERSCRIPT)}"
    half = (high - low) / 2
    decimals = max(2 - power, -math.floor(math.log10(half)) if half > 0 else 0, 0)
    return f"{fixed(middle, decimals)} {interval(low, high, decimals)}"


def fixed(x: float, decimals: int = 3, sign: str = "-") -> str:
    """A number with this many decimals; sign "+" writes a plus before what is positive."""
    text = f"{x:{sign},.{decimals}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")  # nothing has no sign
    return text.replace(",", _THIN).replace("-", _MINUS)
