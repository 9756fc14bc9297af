"""Which function is the worst for a perturbed step, over the plane of step size and gradient norm."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rst_theory.bounds.one_step import Regime, regime, worst_function
from rst_theory.notation import QUANTITIES, DomainError, FloatArray
from rst_theory.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_regimes"]

Map = npt.NDArray[np.int64]
"""Indices into `_REGIMES` at the centres of the cells of the unit square, the bottom row first."""

_REGIMES = tuple(Regime)
_HUE = {
    Regime.DESCENT: "sgd",
    Regime.OVERSHOOT: "periodic",
    Regime.SHORT: "linear",
    Regime.LONG: "cosine",
    Regime.INTERIOR: "piecewise",
    Regime.SLIVER: "inversesqrt",
}
"""The label whose colour in `style` each regime is drawn in."""

_EXAMPLE = {
    Regime.DESCENT: (0.5, 1.3, 1.0),
    Regime.OVERSHOOT: (0.8, 0.2, 1.5),
    Regime.SHORT: (0.6, 0.7, 3.0),
    Regime.LONG: (0.5, 0.6, 7.0),
    Regime.INTERIOR: (0.6, 0.3, 2.0),
    Regime.SLIVER: (0.24, 0.12, 8.5),
}
"""A point of each regime, (eta L, G/(gamma L rho), gamma), whose worst function is sketched."""

_MOST = 1.3  # the end of either axis of a map
_COARSE, _DOUBLINGS = 64, 2
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP, _SIDE = 0.46, 0.06, 0.24, 0.44, 0.14, 1.85
_SKETCH_TOP, _SKETCH, _SKETCH_BOTTOM, _CELL = 0.2, 0.55, 0.06, 1.1
_HEADING = 0.24


@style.styled
def plot_regimes(gammas: Sequence[float] = (1.0, 4.0, 8.0), width: float = style.DOUBLE) -> Figure:
    """The regimes of `rst_theory.bounds.one_step_smooth`: a map per gamma, and the worst function of each.

    Args:
        gammas: mixing coefficients, each > 0.
        width: of the figure, in inches.

    Raises:
        DomainError: no gamma, or one that is not positive.
    """
    if not gammas:
        raise DomainError("at least one mixing coefficient gamma", gammas)
    for gamma in gammas:
        if not QUANTITIES["gamma"].check(gamma) > 0:
            raise DomainError("mixing coefficient gamma > 0", gamma)
    columns = max(1, min(len(gammas), round((width - _LEFT - _RIGHT) / (_SIDE + _GAP))))
    across = (width - _LEFT - _RIGHT - (columns - 1) * _GAP) / columns
    high, pitch = min(across, _SIDE), _TOP + min(across, _SIDE) + _BOTTOM
    maps = math.ceil(len(gammas) / columns) * pitch
    beside = min(len(_EXAMPLE), max(1, int(width / _CELL)))
    lines = math.ceil(len(_EXAMPLE) / beside)
    figure = style.blank(width, maps + _HEADING + lines * (_SKETCH_TOP + _SKETCH + _SKETCH_BOTTOM))
    for i, gamma in enumerate(gammas):
        line, column = divmod(i, columns)
        left, top = _LEFT + column * (across + _GAP), line * pitch + _TOP
        axes = style.axes_at(figure, left, top, across, high, f"γ = {gamma:g}")
        _draw_map(axes, _regimes(gamma), across / _MOST, high / _MOST)
        axes.set_xlabel("step size $\\eta L$")
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            style.label_y(axes, "gradient norm $G/(\\gamma L\\rho)$", 0.3)
    _explain(figure, maps)
    cell = (width - _RIGHT) / beside
    for i, (name, point) in enumerate(_EXAMPLE.items()):
        line, column = divmod(i, beside)
        top = maps + _HEADING + line * (_SKETCH_TOP + _SKETCH + _SKETCH_BOTTOM) + _SKETCH_TOP
        _sketch(style.axes_at(figure, _RIGHT + column * cell, top, cell - _RIGHT, _SKETCH), name, *point)
    return figure


@functools.cache
def _regimes(gamma: float) -> Map:
    """The map: coarse cells first, then halved ones, looked at again where neighbours differ."""

    def look(at: tuple[npt.NDArray[np.intp], ...], n: int) -> list[int]:
        places = zip(*(((index + 0.5) / n).tolist() for index in at), strict=True)
        return [_REGIMES.index(regime(x, y * gamma, gamma)) for y, x in places]

    n = _COARSE
    everywhere = np.nonzero(np.ones((n, n)))
    cells = np.reshape(look(everywhere, n), (n, n))
    for _ in range(_DOUBLINGS):
        n *= 2
        cells = cells.repeat(2, axis=0).repeat(2, axis=1)
        around = np.pad(cells, 1, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3))
        edge = np.nonzero(windows.min(axis=(2, 3)) != windows.max(axis=(2, 3)))
        cells[edge] = look(edge, n)
    return cells


def _fill(name: Regime) -> FloatArray:
    """The colour of a regime, pale enough to be written on: red, green and blue in [0, 1]."""
    colour = style.colour(_HUE[name])
    return np.array([1 - 0.38 * (1 - int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5)])


def _draw_map(axes: Axes, cells: Map, inch_x: float, inch_y: float) -> None:
    """Colour the plane and name the regimes, those that are too small from the right margin."""
    axes.set(xlim=(0, _MOST), ylim=(0, _MOST), facecolor=_fill(Regime.DESCENT))
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    axes.grid(visible=False)
    centres = np.concatenate([[0.0], (np.arange(len(cells)) + 0.5) / len(cells), [1.0]])
    for index, name in enumerate(_REGIMES):
        inside = np.pad((cells == index).astype(float), 1, mode="edge")
        if inside.any():
            axes.contourf(centres, centres, inside, levels=[0.5, 1.5], colors=[tuple(_fill(name))], zorder=1)
    axes.text(0.5, (1 + _MOST) / 2, "descent", ha="center", va="center_baseline", **_type(Regime.DESCENT))
    shown = [name for index, name in enumerate(_REGIMES) if (cells == index).any()]
    boxes = {name: ((style.text_width(name.name.lower()) + 0.1) / inch_x, 0.14 / inch_y) for name in shown}
    rooms = {name: _room(cells == _REGIMES.index(name), *boxes[name]) for name in shown}
    small = [(name, x, y) for name, (x, y, fits) in rooms.items() if not fits]
    heights = style.spread([y for _, _, y in small], 0.12 / inch_y, 0.06, 0.94)
    free = np.ones(cells.shape, dtype=bool)  # of the lines to the names in the margin
    for (name, x, y), height in zip(small, heights, strict=True):
        ink = style.ink(_HUE[name])
        axes.plot([x, 1.02], [y, height], color=ink, lw=0.6, zorder=2)
        axes.plot([x], [y], "o", color=ink, ms=1.6, zorder=2)
        axes.text(1.03, height, name.name.lower(), va="center_baseline", **_type(name))
        along = np.linspace(x, 1, 4 * len(free), endpoint=False)
        free[
            (np.interp(along, [x, 1], [y, height]) * len(free)).astype(int), (along * len(free)).astype(int)
        ] = False
    for name, (_, _, fits) in rooms.items():
        if fits:
            x, y, _ = _room((cells == _REGIMES.index(name)) & free, *boxes[name])
            axes.text(x, y, name.name.lower(), ha="center", va="center_baseline", **_type(name))


def _type(name: Regime) -> dict[str, Any]:
    return {"size": style.SMALL, "color": style.ink(_HUE[name]), "weight": "bold", "zorder": 3}


def _room(inside: npt.NDArray[np.bool_], width: float, height: float) -> tuple[float, float, bool]:
    """Where to write in a region of the unit square: x, y, and whether a box of this size fits there.

    It is the point farthest from the edge of the region, of those at which the box fits if there are any.
    """
    from scipy.ndimage import distance_transform_edt, minimum_filter

    n = len(inside)
    box = (math.ceil(height * n), math.ceil(width * n))
    centres = minimum_filter(inside, box, mode="constant", cval=False)
    depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(np.argmax(np.where(centres, depth, 0) if centres.any() else depth), (n, n))
    return float((column + 0.5) / n), float((row + 0.5) / n), bool(centres.any())


def _explain(figure: Figure, top: float) -> None:
    across, down = figure.get_size_inches()
    figure.text(
        _RIGHT / across,
        1 - (top + 0.06) / down,
        "$f\\,'$ of each worst function:   ● $x$   ▲ perturbed $y$   ○ stepped to $x^+$",
        va="top",
        size=style.SMALL,
    )


def _sketch(axes: Axes, name: Regime, e: float, ratio: float, gamma: float) -> None:
    """The derivative of the worst function at a point of the plane; L = rho = 1."""
    f = worst_function(eta=e, rho=1.0, gamma=gamma, gradient_norm=ratio * gamma, L=1.0)

    def slope(x: float) -> float:
        return float(f.gradient(np.array([x]))[0])

    end = -e * ((1 - gamma) * slope(0.0) + gamma * slope(1.0))
    low, high = min(0.0, end), max(1.0, end)
    reach = 0.3 * (high - low)
    line = sorted({low - reach, high + reach, *(float(knot) for knot in f.knots)})
    axes.axhline(0, color="#777777", lw=0.6)
    axes.plot(line, [slope(x) for x in line], color=style.ink(_HUE[name]), lw=1.4)
    for x, marker, face in ((0.0, "o", style.INK), (1.0, "^", style.INK), (end, "o", "white")):
        axes.plot([x], [slope(x)], marker, mfc=face, mec=style.INK, mew=0.8, ms=4, zorder=3)
    axes.margins(x=0, y=0.15)
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[], facecolor=_fill(name))
    axes.spines[:].set_visible(False)
    axes.set_title(name.name.lower(), size=style.SMALL, weight="bold", color=style.ink(_HUE[name]), pad=3)
