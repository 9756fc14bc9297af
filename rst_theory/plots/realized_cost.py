"""The pairs that runs spent beside the exact law of every schedule: all means, and a few whole laws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_realized_cost"]

_KEY, _TITLE, _BOTTOM, _PITCH, _GAP, _EDGE = 0.2, 0.26, 0.42, 0.128, 0.14, 0.08
_LAW_LEFT, _LAW_HEIGHT, _LAW_BETWEEN = 0.5, 0.62, 0.42
_Z = 2.5758293035489004  # of the standard normal, 99 % lie within +-_Z
_KINDS = {"independent": "Independent trials", "systematic": "Systematic trials"}
_MARKS = {"training": ("o", "none", 3.4), "simulation": ("o", None, 2.4)}
"""Marker, face (None: the colour of the schedule) and size."""


@style.styled
def plot_realized_cost(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """The standardised deviation of every mean from the law's, and the whole law of a few schedules.

    A deviation is (mean - E N) sqrt(n)/sd(N), standard normal for large n; the band holds 99 % of them. The
    laws shown, by the simulation: of the independent ones with the largest, the middle and the least standard
    deviation, and of the systematic ones with the middle one.

    Args:
        rows: of the table `realized_cost`.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("realized_cost", rows)
    schedules = style.ordered(row["schedule"] for row in table)
    kinds = [kind for kind in _KINDS if any(row["kind"] == kind for row in table)]
    laws = _laws(table)
    beside = width > 5
    left = min(max(map(style.text_width, schedules)) + 0.1, 0.34 * style.SINGLE if not beside else 1.6)
    height, top = _PITCH * len(schedules), _KEY + _TITLE
    room = 0.72 * width if beside and laws else width - _EDGE
    across = (room - left - _GAP * (len(kinds) - 1)) / len(kinds)
    lines, pitch = math.ceil(len(laws) / 2), _LAW_HEIGHT + _LAW_BETWEEN
    tall = top + height + _BOTTOM
    under = top + len(laws) * pitch if beside else tall + _TITLE + lines * pitch
    figure = style.blank(width, max(tall, under) if laws else tall)
    reach = max([4.0, *(1.08 * abs(z) for row in table if (z := _deviation(row)) is not None)])
    for i, kind in enumerate(kinds):
        axes = style.axes_at(figure, left + i * (across + _GAP), top, across, height, _KINDS[kind])
        style.label_rows(axes, schedules, left - 0.08)
        axes.tick_params(labelleft=i == 0)
        _draw_deviations(axes, [row for row in table if row["kind"] == kind], schedules, reach)
    if beside:
        pitch = max((height + _LAW_BETWEEN) / max(len(laws), 1), pitch)
        size = (width - room - _LAW_LEFT - _EDGE, pitch - _LAW_BETWEEN)
        corners = [(room + _LAW_LEFT, top + k * pitch) for k in range(len(laws))]
    else:
        size = (width / 2 - _LAW_LEFT - _EDGE, _LAW_HEIGHT)
        corners = [(_LAW_LEFT + k % 2 * width / 2, tall + _TITLE + k // 2 * pitch) for k in range(len(laws))]
    for k, (law, corner) in enumerate(zip(laws, corners, strict=True)):
        axes = style.axes_at(figure, *corner, *size)
        title = style.fitted(law["schedule"], size[0], style.SMALL)
        axes.set_title(title, pad=3, size=style.SMALL, parse_math=False)
        _draw_law(axes, law)
        if k >= len(laws) - (1 if beside else 2):
            axes.set_xlabel("extra pairs" + ", systematic" * (law["kind"] == "systematic"))
    style.key(figure, "○ training    ● simulation    – certain    band: 99 % by the exact law")
    return figure


def _laws(table: Sequence[Row]) -> list[Row]:
    """The rows whose whole law is shown."""
    simulated = [row for row in table if row["source"] == "simulation" and row["exact_sd"] > 0]
    found = []
    for kind, places in (("independent", (1.0, 0.5, 0.0)), ("systematic", (0.5,))):
        mine = sorted((row for row in simulated if row["kind"] == kind), key=lambda row: row["exact_sd"])
        found += [mine[round(place * (len(mine) - 1))] for place in places[: len(mine)]]
    return found


def _deviation(row: Row) -> float | None:
    """The standardised deviation of the mean; None where the cost is certain and the mean is that."""
    difference = row["mean"] - row["exact_mean"]
    if row["exact_sd"] > 0:
        return float(difference * math.sqrt(row["runs"]) / row["exact_sd"])
    return None if abs(difference) < 1e-9 * max(row["exact_mean"], 1) else math.copysign(9.0, difference)


def _draw_deviations(axes: Axes, rows: Sequence[Row], schedules: Sequence[str], reach: float) -> None:
    axes.axvspan(-_Z, _Z, color="#ececec", lw=0, label="99 %")
    axes.axvline(0, color="#777777", lw=0.8)
    axes.grid(visible=False)
    for row in rows:
        y, shade, z = schedules.index(row["schedule"]), style.colour(row["schedule"]), _deviation(row)
        marker, face, size = _MARKS[row["source"]]
        if z is None:
            axes.plot([0], [y], "_", color=style.INK, ms=5, mew=1.2)
        else:
            axes.plot([z], [y], marker, mec=shade, mfc=face or shade, ms=size, mew=0.8, label=row["source"])
    axes.set_xlim(-reach, reach)
    axes.set_xticks([-3, 0, 3])
    axes.set_xlabel("deviation / its sd")


def _draw_law(axes: Axes, row: Row) -> None:
    """The share of runs at each number of pairs, with 99 % intervals (Wilson 1927), and the exact law."""
    n, shade = row["runs"], style.colour(row["schedule"])
    pairs = range(row["least"], row["least"] + len(row["counted"]))
    for k, count in zip(pairs, row["counted"], strict=True):
        share, shrink = count / n, 1 + _Z**2 / n
        middle = (share + _Z**2 / (2 * n)) / shrink
        half = _Z / shrink * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
        axes.plot([k, k], [middle - half, middle + half], color=shade, lw=1.6, alpha=0.5)
    axes.plot(pairs, [count / n for count in row["counted"]], "o", color=shade, ms=1.8, label="runs")
    exact: dict[str, Any] = {"color": style.INK, "lw": 0.7, "label": "law"}
    if len(pairs) > 2:
        axes.plot(pairs, row["probability"], **exact)
    else:
        axes.plot(pairs, row["probability"], "_", ms=14, **exact)
        axes.set_xlim(pairs[0] - 1, pairs[-1] + 1)
        axes.set_xticks(list(pairs))
    axes.set_ylim(0, 1.15 * max(*row["probability"], *(count / n for count in row["counted"]), 0.0))
    axes.locator_params(axis="y", nbins=3)
    if len(pairs) > 2:
        axes.locator_params(axis="x", nbins=4)
    style.label_y(axes, "share of runs", 0.36)
