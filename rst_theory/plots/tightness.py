"""How far each bound lies above the exact worst case: every setting a dot, the median a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_tightness"]

_FIELDS = ("bound", "steps", "ratio", "exact")
_PITCH, _TOP, _BOTTOM, _RIGHT = 0.2, 0.4, 0.42, 0.14
_HALF = 0.32  # of the height of a row, over which its dots are spread
_STEPS = {1: "#cc79a7", 2: "#e69f00", 3: "#009e73", 4: "#0072b2"}
_MORE = "#332288"


@style.styled
def plot_tightness(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Bound over program, per bound; at the right the median and the largest.

    Hollow dots stand where the program is itself an upper bound of the worst case, so that the bound may be
    closer to it than the dot says.

    Args:
        rows: of the table `tightness`; the fields bound, steps, ratio and exact.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("tightness", rows, only=_FIELDS)
    names = style.ordered(row["bound"] for row in table)
    groups = [[row for row in table if row["bound"] == name] for name in names]
    words = [name.replace("_", " ") for name in names]
    left = min(max(map(style.text_width, words)) + 0.1, 0.4 * width)
    numbers = max(style.text_width(_summary(group)) for group in groups)
    height = _PITCH * len(names)
    figure = style.blank(width, _TOP + height + _BOTTOM)
    axes = style.axes_at(figure, left, _TOP, width - left - numbers - _RIGHT, height)
    style.label_rows(axes, words, left - 0.08)
    axes.set_xscale("log")
    largest = max(row["ratio"] for row in table)
    axes.set_xlim(0.98, max(largest * 1.1, 1.3))
    style.log_axis(axes.xaxis, *axes.get_xlim())
    axes.axvline(1, color=style.INK, lw=0.6)
    axes.grid(visible=False, axis="y")
    for y, group in enumerate(groups):
        _draw(axes, y, group)
        axes.annotate(
            _summary(group),
            (1, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            size=style.SMALL,
        )
    axes.set_xlabel("bound / exact worst case")
    _key(figure, table)
    return figure


def _draw(axes: Axes, y: int, rows: Sequence[Row]) -> None:
    offsets = np.linspace(-_HALF, _HALF, len(rows)) if len(rows) > 1 else np.zeros(1)
    order = np.argsort([row["steps"] for row in rows], kind="stable")  # the steps in bands, the fewest on top
    for offset, i in zip(offsets, order, strict=True):
        shade = _STEPS.get(rows[i]["steps"], _MORE)
        face = shade if rows[i]["exact"] else "none"
        axes.plot([rows[i]["ratio"]], [y + offset], "o", ms=1.6, mfc=face, mec=shade, mew=0.4, alpha=0.8)
    median = float(np.median([row["ratio"] for row in rows]))
    axes.plot([median, median], [y - 0.42, y + 0.42], color=style.INK, lw=1)


def _summary(rows: Sequence[Row]) -> str:
    ratios = [row["ratio"] for row in rows]
    return f"{np.median(ratios):.3f}, {max(ratios):.2f}"


def _key(figure: Figure, table: Sequence[Row]) -> None:
    steps = sorted({row["steps"] for row in table})
    across, down = figure.get_size_inches()
    x = 0.06
    for n in steps:
        text = f"● {n} step{'s' if n > 1 else ''}"
        figure.text(x / across, 1 - 0.06 / down, text, va="top", size=style.SMALL, color=_STEPS.get(n, _MORE))
        x += style.text_width(text) + 0.12
    rest = "○ program not exact   | median     at the right: median, largest"
    figure.text(0.06 / across, 1 - 0.2 / down, rest, va="top", size=style.SMALL, color="#555555")
