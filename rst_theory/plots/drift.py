"""Drift along a valley of minima towards the flattest, at equal products of degree and radius."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rst_theory.plots import style
from rst_theory.plots.collapse import draw_cells, key_height, mark, mark_key
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_drift"]

_TOP, _BOTTOM, _LEFT, _RIGHT, _HEIGHT = 0.36, 0.42, 0.66, 0.5, 1.6


@style.styled
def plot_drift(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """The drift against q rho, a panel per strength of the noise; and drift/(2 q rho) against rho.

    In the last panel points on a level line know q rho alone; the curves are what the second order adds.
    Lines at the marks are 99 % intervals.

    Args:
        rows: of the table `drift`.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("drift", rows)
    sigmas = sorted({row["sigma"] for row in table})
    columns = 2 if width > 5 else 1
    room, pitch = width / columns, _TOP + _HEIGHT + _BOTTOM
    head = key_height(table, width)
    figure = style.blank(width, head + -(-(len(sigmas) + 1) // columns) * pitch)
    mark_key(figure, table)
    titles = [f"σ = {sigma:g}" for sigma in sigmas]
    panels = [
        style.axes_at(
            figure,
            i % columns * room + _LEFT,
            head + i // columns * pitch + _TOP,
            room - _LEFT - _RIGHT,
            _HEIGHT,
        )
        for i in range(len(sigmas) + 1)
    ]
    for axes, title in zip(panels, [*titles, "Divided by 2qρ"], strict=True):
        axes.set_title(title, pad=11)
    for axes, sigma in zip(panels, sigmas, strict=False):
        axes.set_yscale("log")
        draw_cells(axes, [row for row in table if row["sigma"] == sigma], "drift", "verdict")
        style.log_axis(axes.yaxis, *axes.get_ylim())
        axes.set_xlabel("$q\\rho$")
        style.label_y(axes, "drift", 0.5)
    _draw_scaled(panels[-1], table, sigmas, titles)
    return figure


def _draw_scaled(axes: Axes, table: Sequence[Row], sigmas: Sequence[float], titles: Sequence[str]) -> None:
    radii = [row["rho"] for row in table]
    low, high = min(radii) / 1.3, max(radii) * 1.3
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    grid = np.geomspace(low, high, 60)
    ends = []
    for sigma, title in zip(sigmas, titles, strict=True):
        own = [row for row in table if row["sigma"] == sigma]
        first = own[0]["first_order"] / (2 * own[0]["product"])
        axes.plot(grid, first + grid, color="#777777", lw=0.8)
        if first:
            axes.plot([low, high], [first, first], color="#777777", lw=0.8, ls=(0, (4, 1.2)))
        ends.append((title, high, first + high))
        for row in own:
            twice = 2 * row["product"]
            axes.plot(
                [row["rho"]] * 2,
                [row["drift_low"] / twice, row["drift_high"] / twice],
                color=mark(row)["color"],
                lw=1.8,
                alpha=0.4,
            )
            axes.plot([row["rho"]], [row["drift"] / twice], ls="", ms=2.8, **mark(row))
    heights = [row["drift"] / (2 * row["product"]) for row in table]
    axes.set_ylim(min(heights) / 1.5, max(heights) * 1.5)
    style.log_axis(axes.xaxis, low, high)
    style.log_axis(axes.yaxis, *axes.get_ylim())
    style.label_ends(axes, ends, _RIGHT)
    axes.set_xlabel("$\\rho$")
    style.label_y(axes, "drift / $2q\\rho$", 0.5)
