"""Where randomized sharpness-aware steps are stable on a quadratic: predicted curves over a measured map."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rst_theory.bounds.quadratics import critical_radius
from rst_theory.notation import FloatArray
from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_stability"]

_FIELDS = (
    *("panel", "x", "y", "p", "gamma", "eta", "rho"),
    *("growth", "sure_low", "sure_high", "predicted", "falling"),
)
_NAMES = {
    "p": "probability $p$",
    "gamma": "mixing $\\gamma$",
    "eta": "step size $\\eta L$",
    "rho": "radius $\\rho L$",
}
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP, _KEY, _BAR = 0.44, 0.2, 0.28, 0.42, 0.5, 0.42, 0.56
_LARGEST = 5.0  # the growth factor at the end of the scale, at whose other end its inverse stands
_POINTS = 400  # of the predicted curves
_BEYOND = 50.0  # the logarithm of what is far beyond any map


@style.styled
def plot_stability(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """The measured growth factor of the mean square over planes of parameters, L = 1.

    Over it the boundary that is predicted for the mean square and that for almost every single run. A dot:
    more than half of the single runs converged. A cross: the factor is not told apart from 1.

    Args:
        rows: of the table `stability`: panel, x, y, p, gamma, eta, rho, growth, sure_low, sure_high,
            predicted and falling. A panel varies two of the four parameters and keeps the others.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("stability", rows, only=_FIELDS)
    panels = style.ordered(row["panel"] for row in table)
    beside = 2
    across = (width - _LEFT - _RIGHT - (beside - 1) * _GAP) / beside
    high = min(across, 1.9)
    pitch = _TOP + high + _BOTTOM
    lines = -(-len(panels) // beside)
    figure = style.blank(width, _KEY + lines * pitch + _BAR)
    style.key(
        figure,
        "line: predicted boundary of the mean square\n"
        "dashed: predicted boundary of single runs\n"
        "•  most single runs converged   ×  not told apart from 1",
    )
    for i, panel in enumerate(panels):
        line, column = divmod(i, beside)
        left, top = _LEFT + column * (across + _GAP), _KEY + line * pitch + _TOP
        title = style.fitted(panel, across + (_RIGHT if column else _GAP) - 0.06, style.STRONG)
        axes = style.axes_at(figure, left, top, across, high, title)
        _draw(axes, [row for row in table if row["panel"] == panel])
    _draw_scale(figure, width, _KEY + lines * pitch)
    return figure


def _colours() -> Any:
    """From what shrinks, blue, over white to what grows, vermilion."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(
        "growth", [style.colour("rst"), "#ffffff", style.colour("g-rst")]
    )


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    key_x, key_y = _varied(rows)
    x, y = (sorted({row[key] for row in rows}) for key in ("x", "y"))
    cells = np.full((len(y), len(x)), np.nan)
    for row in rows:
        growth = min(max(row["growth"], 1 / _LARGEST), _LARGEST)
        cells[y.index(row["y"]), x.index(row["x"])] = np.log(growth)
    edges_x, edges_y, end = _edges(x), _edges(y), float(np.log(_LARGEST))
    axes.pcolormesh(edges_x, edges_y, cells, cmap=_colours(), vmin=-end, vmax=end, rasterized=True)
    for marker, size, mine in (
        (".", 1.3, [row for row in rows if row["falling"] > 0.5]),
        ("x", 3.0, [row for row in rows if row["sure_low"] < 1 < row["sure_high"]]),
    ):
        at = [row["x"] for row in mine], [row["y"] for row in mine]
        axes.plot(*at, marker, color=style.INK, ms=size, mew=0.5, ls="none", label=f"_{marker}")
    axes.set(xlim=(edges_x[0], edges_x[-1]), ylim=(edges_y[0], edges_y[-1]))
    _draw_boundaries(axes, rows[0], key_x, key_y)
    axes.grid(visible=False)
    axes.locator_params(nbins=4)
    axes.set_xlabel(_NAMES[key_x])
    style.label_y(axes, _NAMES[key_y], 0.28)


def _varied(rows: Sequence[Row]) -> tuple[str, str]:
    """The parameters along the two axes: probability and mixing, or step size and radius."""
    varied = [(row["x"], row["y"]) == (row["p"], row["gamma"]) for row in rows]
    return ("p", "gamma") if all(varied) else ("eta", "rho")


def _edges(centres: Sequence[float]) -> FloatArray:
    """The edges of cells with these centres."""
    c = np.asarray(centres)
    half = np.diff(c) / 2 if c.size > 1 else np.array([max(abs(c[0]), 1.0) / 2])
    return np.concatenate([[c[0] - half[0]], c[:-1] + half if c.size > 1 else [], [c[-1] + half[-1]]])


def _draw_boundaries(axes: Axes, row: Row, key_x: str, key_y: str) -> None:
    """The predicted boundaries at the largest eigenvalue, L = 1, within the limits of the axes."""
    low, high = axes.get_xlim()
    edge = 2.0 if key_x == "eta" else 1.0
    across = np.linspace(max(low, 0), min(high, edge), _POINTS + 2)[1:-1].tolist()
    kept = {key: row[key] for key in ("eta", "p") if key != key_x}
    # gamma and rho enter as a product alone, whose bound either boundary gives.
    other = row["gamma"] if key_y == "rho" else row["rho"]
    lines: list[tuple[str, str, Callable[..., float]]] = [("mean square", "-", critical_radius)]
    if kept.get("p") != 1:  # without coins the two are one
        lines.append(("single runs", "--", _critical_radius_of_runs))
    for label, dashes, critical in lines:
        up = [critical(L=1.0, **{key_x: x}, **kept) / other for x in across]
        axes.plot(across, up, dashes, color=style.INK, lw=1.2, label=label)


def _critical_radius_of_runs(*, L: float, eta: float, p: float) -> float:
    """Where (1-p) log|1 - e| + p log|1 - e (1 + k)| = 0: e (1 + k) = 1 + |1 - e|^(-(1-p)/p), k = rho L."""
    e = eta * L
    exponent = -(1 - p) / p * math.log(abs(1 - e)) if e != 1 else math.inf
    return ((1 + math.exp(min(exponent, _BEYOND))) / e - 1) / L


def _draw_scale(figure: Figure, width: float, top: float) -> None:
    axes = style.axes_at(figure, _LEFT, top + 0.1, width - _LEFT - _RIGHT, 0.08)
    end = float(np.log(_LARGEST))
    axes.imshow(
        np.linspace(-end, end, 256)[None, :], cmap=_colours(), aspect="auto", extent=(-end, end, 0, 1)
    )
    axes.set(yticks=[], xlim=(-end, end))
    ticks = {"≤ 0.2": 1 / _LARGEST, "0.5": 0.5, "1": 1.0, "2": 2.0, "≥ 5": _LARGEST}
    axes.set_xticks(np.log(list(ticks.values())), list(ticks))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("measured growth of the mean square in a step")
