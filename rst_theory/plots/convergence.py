"""How the squared gradient norm falls along the run, per schedule, and how that compares with SGD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rst_theory.plots import style
from rst_theory.plots.rows import Runs, curve_rows
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_convergence"]

_TOP, _BOTTOM, _LEFT, _GAP = 0.3, 0.42, 0.54, 0.06
_HEIGHT, _LINE = 1.4, 0.121


@style.styled
def plot_convergence(rows: Runs, width: float = style.DOUBLE, *, problem: str = "") -> Figure:
    """The mean squared gradient norm along the run with its 99 % band, per problem, log-log.

    Where the curves of a problem include one named SGD, and all have its steps, a second panel shows them
    divided by its mean: below 1 is faster or lower than SGD.

    Args:
        rows: simulations of one problem by the names of their schedules; or rows of `curves.json`: problem,
            schedule, and the lists t, mean, low and high.
        width: of the figure, in inches.
        problem: the name of the problem, where simulations are given.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("curves", curve_rows(rows, problem))
    groups = [
        [row for row in table if row["problem"] == problem]
        for problem in style.ordered(row["problem"] for row in table)
    ]
    panels = [[group, *_relative(group)] for group in groups]
    names = min(max(style.text_width(row["schedule"]) for row in table) + 0.24, 0.42 * width)
    height = max(_HEIGHT, _LINE * (max(map(len, groups)) - 1))
    pitch = _TOP + height + _BOTTOM
    beside = max(map(len, panels)) if width > 5 else 1
    across = (width - names - beside * _LEFT - (beside - 1) * _GAP) / beside
    places = _places(panels, beside)
    figure = style.blank(width, (1 + max(line for line, _ in places)) * pitch)
    flat = [(group, panel) for group in panels for panel in group]
    for (line, column), (group, panel) in zip(places, flat, strict=True):
        relative = panel is not group[0]
        axes = style.axes_at(
            figure,
            _LEFT + column * (across + _LEFT + _GAP),
            _TOP + line * pitch,
            across,
            height,
            "relative to SGD" if relative else style.fitted(panel[0]["problem"], across + _GAP, style.STRONG),
        )
        _draw(axes, panel)
        if panel is group[-1]:
            style.label_ends(axes, [(r["schedule"], r["t"][-1] + 1, r["mean"][-1]) for r in panel], names)
        if relative:
            axes.axhline(1, color=style.colour("SGD"), lw=0.6)
        style.label_y(axes, "divided by SGD's" if relative else "mean of $\\|\\nabla f(x_t)\\|^2$")
        axes.set_xlabel("step $t + 1$")
    return figure


def _relative(group: Sequence[Row]) -> list[list[Row]]:
    """The curves divided by the mean of the one that is named SGD, or nothing where that cannot be."""
    for sgd in group:
        if sgd["schedule"].casefold() == "sgd" and len(group) > 1 and min(sgd["mean"]) > 0:
            if any(list(row["t"]) != list(sgd["t"]) for row in group):
                return []
            mean = np.asarray(sgd["mean"], dtype=float)
            scaled: list[Row] = [
                {**row, **{key: np.asarray(row[key], dtype=float) / mean for key in ("mean", "low", "high")}}
                for row in group
            ]
            return [scaled]
    return []


def _places(panels: Sequence[Sequence[object]], beside: int) -> list[tuple[int, int]]:
    """Line and column of every panel: those of one problem beside each other where there is room."""
    places: list[tuple[int, int]] = []
    line = 0
    for group in panels:
        for i in range(len(group)):
            places.append((line + i // beside, i % beside))
        line += -(-len(group) // beside)
    return places


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    means = np.concatenate([np.asarray(row["mean"], dtype=float) for row in rows])
    positive = means[means > 0]
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    room = (high / low) ** 0.05 * 1.02
    last = max(max(row["t"]) for row in rows) + 1
    axes.set(xscale="log", yscale="log", xlim=(1, max(last, 2)), ylim=(low / room, high * room))
    style.log_axis(axes.xaxis, *axes.get_xlim())
    style.log_axis(axes.yaxis, *axes.get_ylim())
    styles = style.dashes(row["schedule"] for row in rows)
    for row in rows:
        name, shade = row["schedule"], style.colour(row["schedule"])
        t = np.asarray(row["t"], dtype=float) + 1
        mean, below, above = (np.maximum(row[key], low / room) for key in ("mean", "low", "high"))
        axes.fill_between(t, below, above, color=shade, alpha=0.2, lw=0, label=f"{name} band")
        axes.plot(t, mean, color=shade, ls=styles[name], lw=1, label=name)
