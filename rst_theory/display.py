"""Pieces of HTML that result objects show themselves with in a notebook.

Whatever is not made by a function of this module is escaped, so that no label, path or formula of a user
can become markup. Every piece is well-formed XML with one root.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

__all__ = ["Html", "code", "formula", "joined", "number", "sparkline", "stack", "table"]

_WIDTH, _HEIGHT, _MARGIN = 160, 36, 3
_MOST_POINTS = 160


class Html(str):
    """Text that is markup already; all other text is escaped where it is shown."""

    __slots__ = ()


def _html(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def number(value: float) -> str:
    """A number in four significant digits, as the tables of a notebook show it."""
    return f"{value:.4g}"


def code(value: object) -> Html:
    """A text as it was typed, which nothing typesets; objects by their `repr`."""
    return Html(f"<code>{escape(value if isinstance(value, str) else repr(value))}</code>")


def formula(latex: str) -> Html:
    """A formula in LaTeX, without dollar signs, that the notebook typesets."""
    return Html(f"<span>${escape(latex)}$</span>")


def joined(parts: Iterable[object], separator: str = ", ") -> Html:
    """Several pieces in a row."""
    return Html(f"<span>{escape(separator).join(map(_html, parts))}</span>")


def stack(*parts: object) -> Html:
    """Several pieces below each other."""
    return Html(f"<div>{''.join(f'<div>{_html(part)}</div>' for part in parts)}</div>")


def table(rows: Iterable[Sequence[object]], heading: Sequence[object] = (), title: object = "") -> Html:
    """A table, its first column left-aligned.

    Args:
        rows: cells, `Html` or anything else by its `str`.
        heading: the cells above the columns, where there are any.
        title: above it all.
    """
    lines = [f"<tr>{''.join(_cell('th', cell) for cell in heading)}</tr>"] if heading else []
    lines += [f"<tr>{''.join(_cell('td', cell) for cell in row)}</tr>" for row in rows]
    caption = f'<caption style="text-align: left">{_html(title)}</caption>' if title else ""
    return Html(f"<table>{caption}<tbody>{''.join(lines)}</tbody></table>")


def _cell(tag: str, content: object) -> str:
    return f'<{tag} style="text-align: left">{_html(content)}</{tag}>'


def sparkline(values: npt.ArrayLike, low: float | None = None, high: float | None = None) -> Html:
    """A sequence as a small curve, an inline SVG in the colour of the text around it.

    Args:
        values: shape (n,), n >= 1. Where there are more than the picture has room for, it shows some of them,
            the first and the last included. What is not finite is left out.
        low: the value at the lower edge; the least of the values if left out.
        high: the value at the upper edge; the greatest if left out.

    Raises:
        ValueError: values of another shape.
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 1 or y.size == 0:
        raise ValueError(f"a curve needs values of shape (n,), n >= 1; got shape {y.shape}")
    at = np.unique(np.linspace(0, y.size - 1, min(y.size, _MOST_POINTS)).round().astype(int))
    drawn = [(i, v) for i, v in zip(at.tolist(), y[at].tolist(), strict=True) if math.isfinite(v)]
    bottom = min((v for _, v in drawn), default=0.0) if low is None else low
    top = max((v for _, v in drawn), default=1.0) if high is None else high
    span = top - bottom or 1.0
    across, down = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    points = " ".join(
        f"{_MARGIN + across * i / max(1, y.size - 1):.1f},{_MARGIN + down * (1 - (v - bottom) / span):.1f}"
        for i, v in drawn
    )
    return Html(
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"></polyline></svg>'
    )
