"""What every schedule costs beyond SGD: the expected share of extra pairs, with its exact interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.rows import Laws, cost_rows
from rst_theory.plots.tables import checked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_cost"]

_PITCH = 0.155
_TOP, _BOTTOM, _RIGHT, _NUMBERS = 0.28, 0.42, 0.08, 0.42


@style.styled
def plot_cost(rows: Laws, width: float = style.DOUBLE, *, steps: int = 1000) -> Figure:
    """The expected extra pairs per step with the 99 % interval of the exact law: SGD is 0, SAM is 1.

    Args:
        rows: laws of the cost or schedules, in a list or by their names; or rows of the table `cost`,
            its fields name, steps, share, low and high.
        width: of the figure, in inches.
        steps: T of a schedule that is given without its law.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("cost", cost_rows(rows, steps), only=("name", "steps", "share", "low", "high"))
    names = [row["name"] for row in table]
    left = min(max(map(style.text_width, names)) + 0.1, max(0.33 * width, 1.35))
    height = _PITCH * len(table)
    figure = style.blank(width, _TOP + height + _BOTTOM)
    axes = style.axes_at(figure, left, _TOP, width - left - _RIGHT - _NUMBERS, height)
    style.label_rows(axes, names, left - 0.08)
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    for y, row in enumerate(table):
        low, high = row["low"] / row["steps"], row["high"] / row["steps"]
        style.interval(axes, y, (row["share"], low, high), row["name"], row["name"])
        place = 1 + 0.1 / (width - left - _RIGHT - _NUMBERS)
        axes.text(
            place,
            y,
            f"{row['share']:.3f}",
            transform=axes.get_yaxis_transform(),
            va="center_baseline",
            size=style.SMALL,
        )
    for x, name in ((0, "SGD"), (1, "SAM")):
        axes.axvline(x, color=style.colour(name), lw=1)
        axes.text(
            x, -0.75, name, ha="center", va="bottom", size=style.SMALL, weight="bold", color=style.ink(name)
        )
    axes.set_xlabel("extra propagation pairs per step, with 99 % interval")
    return figure
