"""Every schedule as a small picture: p over the run, and its mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rst_theory.notation import FloatArray
from rst_theory.plots import style
from rst_theory.plots.rows import Laws, cost_rows
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_schedules", "resolved"]

_LEFT, _TOP, _BOTTOM = 0.3, 0.24, 0.42
_GAP, _HEIGHT, _PITCH = 0.14, 0.52, 0.86
_CELL = 1.15


@style.styled
def plot_schedules(rows: Laws, width: float = style.DOUBLE, *, steps: int = 1000) -> Figure:
    """The probability p over the steps, one panel per schedule, with its mean as a dashed line.

    A schedule that changes faster than its points can show is drawn by its mean alone, and says so.

    Args:
        rows: schedules or laws of the cost, in a list or by their names; or rows of the table `cost`,
            its fields name, values (p at evenly spaced steps) and share (the mean).
        width: of the figure, in inches.
        steps: T of a schedule that is given without its law.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("cost", cost_rows(rows, steps), only=("name", "values", "share"))
    columns = max(1, min(len(table), int((width - _LEFT) / _CELL)))
    lines = math.ceil(len(table) / columns)
    cell = (width - _LEFT - 0.06) / columns
    figure = style.blank(width, _TOP + (lines - 1) * _PITCH + _HEIGHT + _BOTTOM)
    for i, row in enumerate(table):
        line, column = divmod(i, columns)
        axes = style.axes_at(figure, _LEFT + column * cell, _TOP + line * _PITCH, cell - _GAP, _HEIGHT)
        _draw(axes, row)
        axes.set_title(style.fitted(row["name"], cell - 0.06), size=style.SMALL, pad=3, parse_math=False)
        axes.tick_params(labelleft=column == 0, labelbottom=i + columns >= len(table))
        if column == 0:
            axes.set_ylabel("$p$", rotation=0, labelpad=2, va="center")
            axes.set_xlabel("share of the run" if line == lines - 1 else "")
    return figure


def _draw(axes: Axes, row: Row) -> None:
    shade, values = style.colour(row["name"]), np.asarray(row["values"], dtype=float)
    if resolved(values, row["share"]):
        share = np.linspace(0, 1, len(values))
        axes.fill_between(share, values, color=shade, alpha=0.15, lw=0)
        axes.plot(share, values, color=shade, label="p", clip_on=False)
    else:
        height = 0.1 if row["share"] > 0.5 else 0.7
        axes.text(
            0.5, height, "too fast to draw", ha="center", size=style.SMALL, color=style.ink(row["name"])
        )
    axes.axhline(row["share"], color=style.INK, lw=0.7, ls=(0, (3, 2)), label="mean")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_yticks([0, 1])
    axes.grid(visible=False)


def resolved(values: FloatArray, mean: float) -> bool:
    """Whether the points show the schedule: they have its mean, and it turns seldom between them."""
    turns = np.count_nonzero(np.diff(np.sign(np.diff(values))))
    return bool(abs(values.mean() - mean) < 0.05 and turns < len(values) / 4)
