"""How the time of a simulation grows with replicas, steps and coordinates, on one thread and on two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_scaling"]

_TOP, _BOTTOM, _LEFT, _RIGHT, _GAP, _HEIGHT = 0.28, 0.42, 0.52, 0.14, 0.14, 1.7
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#332288")


@style.styled
def plot_scaling(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Seconds against size on log-log axes; a panel per variable, a line per number of threads.

    Thin lines have slope 1, through the largest run of each series.

    Args:
        rows: of the table `benchmark_scaling`: variable, value, threads, seconds and exponent.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("benchmark_scaling", rows)
    variables = style.ordered(row["variable"] for row in table)
    beside = len(variables) if width > 5 else 1
    across = (width - _LEFT - _RIGHT - (beside - 1) * _GAP) / beside
    pitch = _TOP + _HEIGHT + _BOTTOM
    figure = style.blank(width, -(-len(variables) // beside) * pitch)
    low, high = (f(row["seconds"] for row in table) for f in (min, max))
    for i, variable in enumerate(variables):
        line, column = divmod(i, beside)
        axes = style.axes_at(figure, _LEFT + column * (across + _GAP), _TOP + line * pitch, across, _HEIGHT)
        _draw(axes, [row for row in table if row["variable"] == variable], (0.5 * low, 2 * high))
        if column == 0:
            style.label_y(axes, "seconds", 0.4)
        else:
            axes.tick_params(labelleft=False)
    style.key(figure, "dots: medians   thin lines: slope 1 through the largest   β: fitted exponent")
    return figure


def _draw(axes: Axes, rows: Sequence[Row], limits: tuple[float, float]) -> None:
    values = [row["value"] for row in rows]
    across = (min(values) / 1.4, max(values) * 1.4)
    axes.set(xscale="log", yscale="log", xlim=across, ylim=limits)
    style.log_axis(axes.xaxis, *across)
    style.log_axis(axes.yaxis, *limits)
    axes.set_xlabel(rows[0]["variable"])
    for n, colour in zip(style.ordered(row["threads"] for row in rows), _COLOURS, strict=False):
        mine = sorted((row for row in rows if row["threads"] == n), key=lambda row: float(row["value"]))
        x, y = ([row[key] for row in mine] for key in ("value", "seconds"))
        label = f"{n} thread{'s' if n > 1 else ''}, β = {mine[0]['exponent']:.2f}"
        axes.plot(x, y, "o", ms=3, color=colour, label=label)
        axes.plot(x, y[-1] * np.array(x) / x[-1], color=colour, lw=0.6, alpha=0.7)
    axes.legend(loc="upper left", frameon=False, fontsize=style.SMALL, handletextpad=0.2, borderpad=0.2)
