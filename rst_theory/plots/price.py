"""What a strength of regularization costs: guaranteed propagation pairs relative to SGD's, per method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_price"]

_TOP, _BOTTOM, _LEFT, _RIGHT, _GAP, _HEIGHT = 0.3, 0.42, 0.5, 0.1, 0.12, 1.7
_DEAREST = 10.0


@style.styled
def plot_price(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Pairs that guarantee an accuracy over those of SGD, against the strength; a panel per noise level.

    Args:
        rows: of the table `price`: method, noise (sigma/sqrt(eps)), strength (L q rho/sqrt(eps)), p and
            pairs_vs_sgd.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("price", rows)
    levels = style.ordered(row["noise"] for row in table)
    beside = len(levels) if width > 5 else 1
    across = (width - _LEFT - _RIGHT - (beside - 1) * _GAP) / beside
    pitch = _TOP + _HEIGHT + _BOTTOM
    figure = style.blank(width, -(-len(levels) // beside) * pitch)
    for i, noise in enumerate(levels):
        line, column = divmod(i, beside)
        left = _LEFT + column * (across + _GAP)
        title = "no noise" if noise == 0 else f"σ = {noise:g} √ε"
        axes = style.axes_at(figure, left, _TOP + line * pitch, across, _HEIGHT, title)
        _draw(axes, [row for row in table if row["noise"] == noise])
        if column == 0:
            style.label_y(axes, "pairs to ε, relative to SGD", 0.36)
        else:
            axes.tick_params(labelleft=False)
        axes.set_xlabel("strength $L q \\rho / \\sqrt{\\varepsilon}$")
        if i == len(levels) - 1:
            axes.legend(loc="lower right", frameon=False, fontsize=style.SMALL, handlelength=2.4)
    return figure


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set(xlim=(0, max(row["strength"] for row in rows)), ylim=(1, _DEAREST), yscale="log")
    style.log_axis(axes.yaxis, 1, _DEAREST)
    methods = style.ordered(row["method"] for row in rows)  # the dearest at strength 0 first
    styles = style.dashes(methods)
    for method in methods:
        curve = [row for row in rows if row["method"] == method]
        axes.plot(
            [row["strength"] for row in curve],
            [row["pairs_vs_sgd"] for row in curve],
            color=style.colour(method),
            ls=styles[method],
            label=method,
        )
