"""How cheap can SAM's tuned accuracy be had? Accuracy against pairs per step, every method tuned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_pareto"]

_HEAD, _TOP, _BOTTOM, _LEFT, _RIGHT, _HEIGHT = 0.2, 0.3, 0.44, 0.54, 0.08, 1.8
_MARGIN = 0.005
_APART = 0.012  # of methods of one cost, in pairs per step
_LONG = 5.0  # times the median length: an interval that does not set the scale


@style.styled
def plot_pareto(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Test accuracy of every tuned method over the pairs per step; a panel for each setting.

    Lines are 99 % intervals of the mean. The band lies within half a point of the mean of SAM. An interval
    several times as long as the others of its panel, as one run that gave way makes it, leaves the panel.

    Args:
        rows: of the table `pareto`.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("pareto", rows)
    settings = style.ordered(row["setting"] for row in table)
    beside = 2 if width > 5 else 1
    room = width / beside
    block = _TOP + _HEIGHT + _BOTTOM
    figure = style.blank(width, _HEAD + -(-len(settings) // beside) * block)
    style.key(figure, "line: 99 % interval (a long one is cut); band: half a point about SAM")
    for i, setting in enumerate(settings):
        line, column = divmod(i, beside)
        left, top = column * room + _LEFT, _HEAD + line * block + _TOP
        axes = style.axes_at(figure, left, top, room - _LEFT - _RIGHT, _HEIGHT)
        axes.set_title(style.fitted(setting, room - _LEFT, 7), pad=4, size=7, weight="bold", parse_math=False)
        _draw(axes, [row for row in table if row["setting"] == setting])
        axes.set_xlabel("propagation pairs per step")
        if column == 0:
            style.label_y(axes, "test accuracy")
    return figure


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    sams = [row["accuracy"] for row in rows if row["method"] == "SAM"]
    for sam in sams:
        axes.axhspan(sam - _MARGIN, sam + _MARGIN, color="#000000", alpha=0.07, lw=0)
    columns = [[row for row in rows if row["p"] == p] for p in sorted({row["p"] for row in rows})]
    for column in columns:
        column.sort(key=lambda row: -row["accuracy"])  # the best on top
    low, high = _limits(rows, [sam + _MARGIN for sam in sams])
    for i, column in enumerate(columns):
        for place, row in enumerate(column):
            x = row["pairs_per_step"] + _APART * (2 * place - len(column) + 1)
            shade = style.colour(row["method"])
            axes.plot([x, x], [row["accuracy_low"], row["accuracy_high"]], color=shade, lw=2.4, alpha=0.4)
            axes.plot([x], [row["accuracy"]], "o", color=shade, ms=3.6)
            above = _above(columns, i, place)
            end = min(row["accuracy_high"], high) if above else max(row["accuracy_low"], low)
            _name(axes, row, (x, end), above=above)
    axes.set_xlim(0.9, 2.1)
    axes.set_xticks([1, 1.25, 1.5, 1.75, 2])
    pad = 0.14 * (high - low)
    axes.set_ylim(low - pad, high + pad)
    axes.locator_params(axis="y", nbins=6)


def _limits(rows: Sequence[Row], others: Sequence[float]) -> tuple[float, float]:
    """The least and the largest accuracy that the panel shows: every mean, every interval but a long one."""
    lengths = sorted(row["accuracy_high"] - row["accuracy_low"] for row in rows)
    usual = [
        row
        for row in rows
        if row["accuracy_high"] - row["accuracy_low"] <= _LONG * lengths[len(lengths) // 2]
    ]
    means = [row["accuracy"] for row in rows]
    low = min(means + [row["accuracy_low"] for row in usual])
    return low, max([*means, *others] + [row["accuracy_high"] for row in usual])


def _above(columns: Sequence[Sequence[Row]], i: int, place: int) -> bool:
    """Whether a name stands above its interval: the best of a cost does; one alone avoids its neighbour's."""
    if len(columns[i]) > 1 or i + 1 == len(columns):
        return place == 0
    return _short(columns[i][0]) != _short(columns[i + 1][0])


def _short(row: Row) -> str:
    """The name without p, which is where the point stands."""
    return str(row["method"]).partition(" ")[0]


def _name(axes: Axes, row: Row, end: tuple[float, float], *, above: bool) -> None:
    axes.annotate(
        _short(row),
        end,
        xytext=(0, 2 if above else -2),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        size=style.SMALL,
        weight="bold",
        color=style.ink(row["method"]),
        parse_math=False,
    )
