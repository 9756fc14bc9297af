"""The bound beside what was measured: an interval, a mark, and the ratio of the two."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_bounds"]

_FIELDS = ("problem", "schedule", "measured", "low", "high", "bound", "ratio")
_PITCH, _TOP, _BOTTOM, _BETWEEN = 0.155, 0.5, 0.42, 0.2
_RIGHT = 0.14


@style.styled
def plot_bounds(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """The measured metric with its 99 % interval and the bound, per schedule; a panel per problem.

    At the right of each row stands bound/measured, in bold red where the interval lies above the bound.

    Args:
        rows: of the table `bounds`; the fields problem, schedule, measured, low, high, bound and ratio.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("bounds", rows, only=_FIELDS)
    problems = style.ordered(row["problem"] for row in table)
    schedules = style.ordered(row["schedule"] for row in table)
    columns = 2 if width > 5 and len(problems) > 1 else 1
    lines = math.ceil(len(problems) / columns)
    left = min(max(map(style.text_width, schedules)) + 0.1, 0.36 * width)
    across = (width - left) / columns
    ratios = max(style.text_width(_ratio(row)) for row in table)
    height = _PITCH * len(schedules)
    figure = style.blank(width, _TOP + lines * (height + _BOTTOM) + (lines - 1) * _BETWEEN)
    for i, problem in enumerate(problems):
        line, column = divmod(i, columns)
        axes = style.axes_at(
            figure,
            left + column * across,
            _TOP + line * (height + _BOTTOM + _BETWEEN),
            across - ratios - _RIGHT,
            height,
            style.fitted(problem, across, style.STRONG),
        )
        style.label_rows(axes, schedules, left - 0.08)
        axes.tick_params(labelleft=column == 0)
        if i + columns >= len(problems):
            axes.set_xlabel("weighted average of $\\|\\nabla f(x_t)\\|^2$")
        _draw(axes, [row for row in table if row["problem"] == problem], schedules)
    style.key(figure, "● measured, with 99 % interval    | bound    × bound / measured")
    return figure


def _draw(axes: Axes, rows: Sequence[Row], schedules: Sequence[str]) -> None:
    values = [row[key] for row in rows for key in ("measured", "high", "bound")]
    values += [row["low"] for row in rows if row["low"] > 0]
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 1.3, max(values) * 1.3)
    style.log_axis(axes.xaxis, *axes.get_xlim())
    axes.grid(visible=False, axis="y")
    for row in rows:
        y, name = schedules.index(row["schedule"]), row["schedule"]
        axes.plot([row["measured"], row["bound"]], [y, y], color="#bbbbbb", lw=0.6, zorder=1)
        low = max(row["low"], axes.get_xlim()[0])
        style.interval(axes, y, (row["measured"], low, row["high"]), name, name)
        axes.plot(
            [row["bound"]], [y], marker="|", ms=6.5, mew=1.5, color=style.colour(name), label=f"{name} bound"
        )
        violated = row["low"] > row["bound"]
        axes.annotate(
            _ratio(row),
            (1, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            size=style.SMALL,
            weight="bold" if violated else "normal",
            color="#b00020" if violated else style.INK,
        )


def _ratio(row: Row) -> str:
    return f"×{row['ratio']:#.3g}"
