"""Schedules that the theory finds optimal, beside the constant one of equal cost, the best and the worst."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_allocation"]

_KEY, _TITLE, _BOTTOM, _PITCH, _GAP, _EDGE = 0.34, 0.26, 0.42, 0.17, 0.16, 0.1
_MOST = 1.7  # inches for names, whatever they are
_SETTING = ("problem", "noise", "eta", "budget")
_QUANTITIES = {"squared_gradient_norm": "Average squared gradient", "final_gap": "Last gap"}
_MARKS = {"allocated": ("o", -0.17, 4.2), "spectrum": ("D", 0.17, 3.4)}
"""Marker, height within the row, and size, by the first word of a schedule."""


@style.styled
def plot_allocation(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """The metric of each allocation over that of the constant schedule, log scale; a row per setting.

    Filled: the theory ranked all schedules of the setting as the runs did; open: it did not. The grey line
    runs from the best schedule measured to the worst. Intervals hold together at 99 %.

    Args:
        rows: of the table `allocation`.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("allocation", rows)
    lines: list[tuple[str, Row | None]] = []
    for problem in style.ordered(row["problem"] for row in table):
        mine = [row for row in table if row["problem"] == problem]
        settings = {tuple(row[key] for key in _SETTING): row for row in reversed(mine)}
        lines += [(problem, None), *((_label(row), row) for row in reversed(settings.values()))]
    quantities = [q for q in _QUANTITIES if any(row["quantity"] == q for row in table)]
    left = min(max(style.text_width(label) for label, _ in lines) + 0.14, _MOST)
    columns = len(quantities) if width > 5 else 1
    across = (width - left - _EDGE - _GAP * (columns - 1)) / columns
    height = _PITCH * len(lines)
    panel = _TITLE + height + _BOTTOM
    figure = style.blank(width, _KEY + len(quantities) // columns * panel)
    for i, quantity in enumerate(quantities):
        line, column = divmod(i, columns)
        axes = style.axes_at(
            figure,
            left + column * (across + _GAP),
            _KEY + line * panel + _TITLE,
            across,
            height,
            _QUANTITIES[quantity],
        )
        style.label_rows(axes, [label for label, _ in lines], left - 0.08)
        for text, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
            text.set_fontweight("bold" if row is None else "normal")
        axes.tick_params(labelleft=column == 0)
        _draw(axes, [row for row in table if row["quantity"] == quantity], [row for _, row in lines])
        axes.set_xlabel("times the constant schedule's")
    style.key(
        figure,
        "● allocated by a bound    ◆ by the spectrum    | best and worst\n"
        "filled: the theory ranked all schedules as the runs did    open: not",
    )
    return figure


def _label(row: Row) -> str:
    return f"{row['eta']} η, σ = {row['noise']:g}, p = {row['budget']:g}"


def _draw(axes: Axes, rows: Sequence[Row], lines: Sequence[Row | None]) -> None:
    names = [
        f"{key}{end}" for key in ("relative", "best_relative", "worst_relative") for end in ("_low", "_high")
    ]
    values = [row[name] for row in rows for name in names]
    axes.set_xscale("log")
    axes.set_xlim(min(*values, 0.5) / 1.3, max(*values, 2.0) * 1.3)
    style.log_axis(axes.xaxis, *axes.get_xlim())
    axes.grid(visible=False, axis="y")
    axes.axvline(1, color=style.colour("constant"), lw=0.9, label="constant")
    places = {tuple(line[key] for key in _SETTING): y for y, line in enumerate(lines) if line is not None}
    for row in rows:
        y = places[tuple(row[key] for key in _SETTING)]
        marker, height, size = _MARKS[row["schedule"].partition(",")[0]]
        axes.plot([row["best_relative"], row["worst_relative"]], [y, y], color="#c4c4c4", lw=0.9, zorder=1)
        for end in ("best", "worst"):
            _interval(axes, y, row, f"{end}_relative", "#8a8a8a", 0.35)
            axes.plot([row[f"{end}_relative"]], [y], "|", color="#8a8a8a", ms=5, mew=1.0, zorder=1)
        shade = style.colour(row["schedule"])
        _interval(axes, y + height, row, "relative", shade, 0.4)
        axes.plot(
            [row["relative"]],
            [y + height],
            marker,
            mec=shade,
            mfc=shade if row["believed"] else "white",
            ms=size,
            mew=0.9,
            label=row["schedule"],
            zorder=3,
        )


def _interval(axes: Axes, y: float, row: Row, key: str, shade: str, alpha: float) -> None:
    axes.plot([row[f"{key}_low"], row[f"{key}_high"]], [y, y], color=shade, lw=3.2, alpha=alpha, zorder=2)
