"""One run from three sides: what was measured, the exact worst case, and the bounds; a row per bound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.rows import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_comparison"]

_HINTED = 1.08  # type on a screen of few dots is that much wider than its outlines
_PITCH, _TOP, _BOTTOM, _RIGHT = 0.2, 0.26, 0.42, 0.14


@style.styled
def plot_comparison(rows: Iterable[Comparison], width: float = style.DOUBLE) -> Figure:
    """Measured mean with its 99 % interval, worst case and bound, each in units of the worst case.

    Args:
        rows: as `comparison_row` makes them, at least one.
        width: of the figure, in inches.

    Raises:
        ValueError: no rows.
    """
    table = list(rows)
    if not table:
        raise ValueError("nothing to compare: no bound applies")
    names = [row.bound.replace("_", " ") for row in table]
    left = min(_HINTED * max(map(style.text_width, names)) + 0.1, 0.45 * width)
    figure = style.blank(width, _TOP + _PITCH * len(names) + _BOTTOM)
    axes = style.axes_at(figure, left, _TOP, width - left - _RIGHT, _PITCH * len(names))
    style.label_rows(axes, names, left - 0.08)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("in units of the worst case")
    for y, row in enumerate(table):
        middle, low, high = (v / row.worst for v in (row.measured, row.low, row.high))
        style.interval(axes, y, (middle, max(low, 0.0), high), "rst", "measured")
        face = style.INK if row.exact else "white"
        axes.plot([1], [y], "D", ms=3, mfc=face, mec=style.INK, mew=0.7, label="worst case")
        axes.plot(
            [row.value / row.worst], [y], "|", ms=8, mew=1.6, color=style.colour("g-rst"), label="bound"
        )
    axes.set_xlim(left=0)
    style.key(figure, "● measured, with 99 % interval   ◆ worst case (◇ an upper bound of it)   | bound")
    return figure
