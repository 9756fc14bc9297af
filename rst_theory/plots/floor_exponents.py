"""The floor of the average squared gradient over radius, degree and step size; schedules that leave it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_floor_exponents"]

_FIELDS = ("panel", "method", "x", "instance", "value", "low", "high", "floor", "bound", "exponent")
_TITLES = {
    "rho": ("Over the radius", "radius $\\rho$"),
    "q": ("Over the degree", "degree $q = p\\gamma$"),
    "eta": ("Over the step size", "step size $\\eta L$"),
    "run": ("Held, and let go", "time $\\eta L t$"),
}
"""The heading of each panel and the name of its horizontal axis."""

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT, _KEY = 0.52, 1.42, 0.28, 0.44, 1.6, 0.3
_LEAST = 1e-8
"""Of the runs over time, relative to the floor: what is less is drawn at the bottom."""


@style.styled
def plot_floor_exponents(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Average squared gradients, L = 1, over rho, q and eta L, and along runs that start at the floor.

    Args:
        rows: of the table `floor_points`: panel, method, x, instance, value with its interval low and high,
            floor, bound and exponent.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("floor_points", rows, only=_FIELDS)
    panels = [panel for panel in _TITLES if any(row["panel"] == panel for row in table)]
    beside = 2 if width > 5 else 1
    room, pitch = width / beside, _TOP + _HEIGHT + _BOTTOM
    figure = style.blank(width, _KEY + -(-len(panels) // beside) * pitch)
    style.key(
        figure,
        "● instance that holds the walk   ○ quadratic   bars: 99 %\n"
        "dotted: floor $(qL\\rho)^2$   dashed: master bound of the run",
    )
    for i, panel in enumerate(panels):
        line, column = divmod(i, beside)
        title, name = _TITLES[panel]
        left, top = column * room + _LEFT, _KEY + line * pitch + _TOP
        axes = style.axes_at(figure, left, top, room - _LEFT - _RIGHT, _HEIGHT, title)
        mine = [row for row in table if row["panel"] == panel]
        if panel == "run":
            _draw_runs(axes, mine)
            style.label_y(axes, "squared gradient / $(qL\\rho)^2$", 0.4)
        else:
            _draw_points(axes, mine)
            style.label_y(axes, "average squared gradient", 0.4)
        axes.set_xlabel(name)
    return figure


def _draw_points(axes: Axes, rows: Sequence[Row]) -> None:
    values = [row[key] for row in rows for key in ("value", "floor", "bound") if row[key]]
    x = [row["x"] for row in rows if row["x"] > 0]
    axes.set(xscale="log", yscale="log")
    for set_limits, numbers in ((axes.set_xlim, x), (axes.set_ylim, values)):
        set_limits(0.75 * min(numbers), max(numbers) / 0.75)
    style.log_axis(axes.xaxis, *axes.get_xlim(), most=4)
    style.log_axis(axes.yaxis, *axes.get_ylim(), most=6)
    ends = []
    for rank, method in enumerate(style.ordered(row["method"] for row in rows)):
        shade, exponent = style.colour(method), None
        for instance in ("window", "quadratic"):
            curve = [row for row in rows if row["method"] == method and row["instance"] == instance]
            if not curve:
                continue
            at, exponent = [row["x"] for row in curve], curve[0]["exponent"]
            axes.plot(at, [row["floor"] for row in curve], ":", color=style.INK, lw=0.8, label="_floor")
            bounds = [(row["x"], row["bound"]) for row in curve if row["bound"] is not None]
            if bounds:
                axes.plot(*zip(*bounds, strict=True), color=shade, ls=(0, (4, 2)), lw=0.7, label="_bound")
            axes.vlines(
                at,
                [row["low"] for row in curve],
                [row["high"] for row in curve],
                color=shade,
                lw=2.4,
                alpha=0.4,
            )
            axes.plot(
                at,
                [row["value"] for row in curve],
                "o",
                color=shade,
                mfc=shade if instance == "window" else "white",
                ms=max(4.6 - 0.9 * rank, 2.0),  # so that equal points show
                mew=0.8,
                label=method,
            )
            last = curve[-1]
        slope = "" if exponent is None else f": {exponent:.2f}"
        ends.append((method + slope, last["x"], last["value"]))
    style.label_ends(axes, ends, _RIGHT - 0.06)


def _draw_runs(axes: Axes, rows: Sequence[Row]) -> None:
    methods = style.ordered(row["method"] for row in rows)
    styles = style.dashes(methods)
    axes.set(yscale="log", xlim=(0, max(row["x"] for row in rows) or 1), ylim=(_LEAST, 8))
    style.log_axis(axes.yaxis, _LEAST, 8)
    axes.locator_params(axis="x", nbins=5)
    ends = []
    for method in methods:
        curve = [row for row in rows if row["method"] == method]
        x = [row["x"] for row in curve]
        low, value, high = ([max(row[key], _LEAST) for row in curve] for key in ("low", "value", "high"))
        axes.fill_between(x, low, high, color=style.colour(method), alpha=0.25, lw=0, label=f"{method} band")
        axes.plot(x, value, color=style.colour(method), ls=styles[method], label=method)
        ends.append((method, x[-1], value[-1]))
    style.label_ends(axes, ends, _RIGHT - 0.06)
