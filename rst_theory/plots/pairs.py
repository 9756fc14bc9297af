"""Pairs that runs spent, beside what the law and the plan said they would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_pairs"]

_FIELDS = (
    "method",
    "seed",
    "pairs",
    "planned_pairs",
    "expected_pairs",
    "expected_low",
    "expected_high",
    "steps",
)
_KEY, _TOP, _BOTTOM, _LEFT, _RIGHT, _HEIGHT = 0.2, 0.3, 0.42, 0.54, 0.12, 1.45


@style.styled
def plot_pairs(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Pairs per step of every run whose cost is random, beside the plan and the law's 99 % interval.

    Dots are what the run spent, rings what its trials announced before it began; the line is the law's
    mean, the band its interval. Methods whose cost is certain are left out, unless there are no others.

    Args:
        rows: of the table `digits_runs`; the fields method, seed, pairs, planned_pairs, expected_pairs,
            expected_low, expected_high and steps.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("digits_runs", rows, only=_FIELDS)
    random = [row for row in table if row["expected_low"] < row["expected_high"]] or table
    methods = style.ordered(row["method"] for row in random)
    columns = len(methods) if width > 5 else 1
    lines = len(methods) // columns
    across = (width - _LEFT) / columns
    figure = style.blank(width, _KEY + lines * (_TOP + _HEIGHT + _BOTTOM))
    ends = [row[key] / row["steps"] for row in random for key in ("pairs", "expected_low", "expected_high")]
    pad = 0.12 * (max(ends) - min(ends) or 0.1)
    for i, method in enumerate(methods):
        line, column = divmod(i, columns)
        axes = style.axes_at(
            figure,
            _LEFT + column * across,
            _KEY + _TOP + line * (_TOP + _HEIGHT + _BOTTOM),
            across - _RIGHT,
            _HEIGHT,
            style.fitted(method, across, style.STRONG),
        )
        axes.set_ylim(min(ends) - pad, max(ends) + pad)
        _draw(axes, [row for row in random if row["method"] == method])
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            style.label_y(axes, "pairs per step")
        axes.set_xlabel("seed")
    style.key(figure, "● spent    ○ announced before the run    band: the law's 99 % interval")
    return figure


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    shade = style.colour(rows[0]["method"])
    places = range(len(rows))

    def per_step(key: str) -> list[float]:
        return [row[key] / row["steps"] for row in rows]

    edges = [-0.5, *(x + 0.5 for x in places)]
    for key, look in (("expected_pairs", (0, (3, 2))), ("expected_low", "-"), ("expected_high", "-")):
        heights = per_step(key)
        axes.stairs(heights, edges, baseline=None, color=style.INK, lw=0.7, ls=look, label=key)
    axes.stairs(
        per_step("expected_high"),
        edges,
        baseline=per_step("expected_low"),
        fill=True,
        color=shade,
        alpha=0.14,
    )
    axes.plot(
        places, per_step("planned_pairs"), "o", mfc="none", mec=style.INK, mew=0.7, ms=6, label="planned"
    )
    axes.plot(places, per_step("pairs"), "o", color=shade, ms=3, label="pairs")
    axes.set_xlim(-0.5, len(rows) - 0.5)
    step = max(1, len(rows) // 8)
    axes.set_xticks(places[::step], [str(row["seed"]) for row in rows[::step]])
    axes.grid(visible=False, axis="x")
