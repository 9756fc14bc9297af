"""What accuracy the propagation pairs buy: every method at its cost, and its lead over SGD and SAM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_accuracy", "plot_fashion"]

_ENDS = ("", "_low", "_high")
_INTERVALS = ("accuracy", "versus_sgd", "versus_sam")
_FIELDS = ("method", "pairs_per_step", *(f"{name}{end}" for name in _INTERVALS for end in _ENDS))
_TOP, _BOTTOM, _LEFT, _RIGHT, _HEIGHT = 0.34, 0.42, 0.54, 0.3, 1.75
_PITCH, _NUMBERS = 0.2, 1.25


@style.styled
def plot_accuracy(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Test accuracy over the pairs per step, and the paired differences to SGD and to SAM.

    Bars and lines are 99 % intervals: of the mean, and of the mean of the paired differences.

    Args:
        rows: of the table `digits_summary`; the fields method, pairs_per_step, accuracy, versus_sgd,
            versus_sam, and the last three with _low and _high.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("digits_summary", rows, only=_FIELDS)
    return _drawn([(table, "Accuracy against cost")], width)


@style.styled
def plot_fashion(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """The same on Fashion-MNIST, once for each share of redrawn training labels.

    Args:
        rows: of the table `fashion_summary`; the fields of `plot_accuracy`, and label_noise.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("fashion_summary", rows, only=("label_noise", *_FIELDS))
    noises = sorted({row["label_noise"] for row in table})
    titles = [
        f"{noise:.0%} of labels redrawn".replace("%", " %") if noise else "Clean labels" for noise in noises
    ]
    settings = [[row for row in table if row["label_noise"] == noise] for noise in noises]
    return _drawn(list(zip(settings, titles, strict=True)), width)


def _drawn(settings: Sequence[tuple[Sequence[Row], str]], width: float) -> Figure:
    """A row of panels for each setting; one column where the figure is narrow."""
    beside = width > 5
    room = width / 2 if beside else width
    pairs = [_differences(table) for table, _ in settings]
    labels = [[f"{row['method']} − {other.upper()}" for row, other in mine] for mine in pairs]
    heights = [_TOP + _PITCH * max(len(mine), 1) + _BOTTOM for mine in pairs]
    panel = _TOP + _HEIGHT + _BOTTOM
    tall = [panel + (0 if beside else height) for height in heights]
    figure = style.blank(width, sum(tall))
    for i, (table, title) in enumerate(settings):
        top = sum(tall[:i]) + _TOP
        _draw_accuracy(style.axes_at(figure, _LEFT, top, room - _LEFT - _RIGHT, _HEIGHT, title), table)
        if pairs[i]:
            left = min(max(map(style.text_width, labels[i])) + 0.12, 0.35 * room)
            x, y, height = (room, top, _HEIGHT) if beside else (0, top + panel, _PITCH * len(pairs[i]))
            across = room - left - _NUMBERS
            axes = style.axes_at(figure, x + left, y, across, height, "Paired differences")
            _draw_differences(axes, pairs[i], labels[i], left - 0.08)
    return figure


def _differences(table: Sequence[Row]) -> list[tuple[Row, str]]:
    """Each method beside SGD and beside SAM, but not SGD beside SAM and back."""
    return [
        (row, other)
        for other in ("sgd", "sam")
        for row in table
        if row["method"].casefold() != other and not (other == "sam" and row["method"].casefold() == "sgd")
    ]


def _draw_accuracy(axes: Axes, table: Sequence[Row]) -> None:
    lows, highs = [row["accuracy_low"] for row in table], [row["accuracy_high"] for row in table]
    pad = 0.08 * (max(highs) - min(lows) or 0.1)
    x = [row["pairs_per_step"] for row in table]
    axes.set_xlim(min(0.9, min(x) - 0.1), max(2.1, max(x) + 0.1))
    axes.set_ylim(max(min(lows) - pad, 0), min(max(highs) + pad, 1))
    for row in table:
        name, shade = row["method"], style.colour(row["method"])
        at = row["pairs_per_step"]
        ends = [row["accuracy_low"], row["accuracy_high"]]
        axes.plot([at, at], ends, color=shade, lw=2.4, alpha=0.4, label=f"{name} interval")
        axes.plot([at], [row["accuracy"]], "o", color=shade, ms=4.5, label=name)
    _name_points(axes, table)
    axes.set_xlabel("propagation pairs per step")
    style.label_y(axes, "test accuracy")


def _name_points(axes: Axes, table: Sequence[Row]) -> None:
    """Names beside the points, on the side with room; points of about one cost share their column."""
    low, high = axes.get_ylim()
    gap = 0.14 / _HEIGHT * (high - low)
    middle = sum(axes.get_xlim()) / 2
    for column in _columns(table):
        heights = style.spread([row["accuracy"] for row in column], gap, low, high)
        right = max(row["pairs_per_step"] for row in column) <= middle + 0.3
        for row, height in zip(column, heights, strict=True):
            axes.annotate(
                style.fitted(row["method"], 0.8),
                (row["pairs_per_step"], height),
                xytext=(6 if right else -6, 0),
                textcoords="offset points",
                ha="left" if right else "right",
                va="center_baseline",
                size=7,
                weight="bold",
                color=style.ink(row["method"]),
                parse_math=False,
            )


def _columns(table: Sequence[Row]) -> list[list[Row]]:
    columns: list[list[Row]] = []
    for row in sorted(table, key=lambda row: row["pairs_per_step"]):
        if columns and row["pairs_per_step"] - columns[-1][-1]["pairs_per_step"] < 0.35:
            columns[-1].append(row)
        else:
            columns.append([row])
    return columns


def _draw_differences(
    axes: Axes, pairs: Sequence[tuple[Row, str]], labels: Sequence[str], left: float
) -> None:
    style.label_rows(axes, labels, left)
    axes.grid(visible=False, axis="y")
    axes.axvline(0, color="#777777", lw=0.8)
    for y, ((row, other), label) in enumerate(zip(pairs, labels, strict=True)):
        middle, low, high = (row[f"versus_{other}{end}"] for end in _ENDS)
        style.interval(axes, y, (middle, low, high), row["method"], label)
        axes.annotate(
            f"{middle:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−"),
            (1, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            size=style.SMALL,
        )
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("difference in test accuracy")
