"""How the test accuracy grows over the epochs, per method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_training"]

_TOP, _BOTTOM, _LEFT, _HEIGHT = 0.12, 0.42, 0.54, 2.1


@style.styled
def plot_training(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Mean test accuracy after each epoch with its 99 % band, per method.

    The axis shows what lies after the first 15 % of the epochs; the steep beginning enters from below.

    Args:
        rows: of the table `digits_history`: method, epoch, accuracy, low and high.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("digits_history", rows)
    methods = style.ordered(row["method"] for row in table)
    names = min(max(map(style.text_width, methods)) + 0.24, 0.3 * width)
    figure = style.blank(width, _TOP + _HEIGHT + _BOTTOM)
    axes = style.axes_at(figure, _LEFT, _TOP, width - _LEFT - names, _HEIGHT)
    styles = style.dashes(methods)
    ends: list[tuple[str, float, float]] = []
    for method in methods:
        epochs = sorted((row for row in table if row["method"] == method), key=lambda row: row["epoch"])
        x, y, low, high = ([row[key] for row in epochs] for key in ("epoch", "accuracy", "low", "high"))
        axes.fill_between(x, low, high, color=style.colour(method), alpha=0.18, lw=0, label=f"{method} band")
        axes.plot(x, y, color=style.colour(method), ls=styles[method], label=method)
        ends.append((method, x[-1], y[-1]))
    axes.set_xlim(min(row["epoch"] for row in table), max(max(row["epoch"] for row in table), 2))
    last = axes.get_xlim()[1]
    late = [row for row in table if row["epoch"] > 0.15 * last] or table
    end = [row["low"] for row in late if row["epoch"] > 0.5 * last]
    bottom, top = min(end + [row["accuracy"] for row in late]), max(row["high"] for row in late)
    pad = 0.05 * (top - bottom) + 0.005
    axes.set_ylim(max(bottom - pad, 0), min(top + pad, 1))
    axes.set_xlabel("epoch")
    style.label_y(axes, "test accuracy")
    style.label_ends(axes, ends, names)
    return figure
