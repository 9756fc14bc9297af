"""Does it matter when the sharpness-aware steps are taken? Accuracy and sharpness at one cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_order"]

_HEAD, _TOP, _BOTTOM, _LEFT, _RIGHT, _GAP, _PITCH = 0.2, 0.32, 0.44, 0.52, 0.12, 0.2, 0.17
_FAMILIES = {
    "early": "piecewise",
    "late": "piecewise",
    "spread": "constant",
    "rising": "linear",
    "falling": "linear",
}
"""The schedules by the names of their colours."""
_PANELS = (
    ("accuracy", "test accuracy"),
    ("log_eigenvalue", "log of the largest eigenvalue"),
)


@style.styled
def plot_order(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Test accuracy and, beside it, sharpness of each schedule; a block for each setting.

    Lines are 99 % intervals of the mean. Between SGD and SAM stand the schedules of one cost.

    Args:
        rows: of the table `order`; what could not be measured is not drawn.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("order", rows)
    settings = style.ordered(row["setting"] for row in table)
    beside = 2 if width > 5 and len(settings) > 1 else 1
    room = width / beside
    across = (room - _LEFT - _RIGHT - _GAP) / 2
    own = [[row for row in table if row["setting"] == setting] for setting in settings]
    height = _PITCH * max(map(len, own))
    block = _TOP + height + _BOTTOM
    figure = style.blank(width, _HEAD + -(-len(settings) // beside) * block)
    style.key(figure, "dot: mean over the seeds; line: its 99 % interval; dashed: SGD and SAM")
    for i, setting in enumerate(settings):
        line, column = divmod(i, beside)
        top = _HEAD + line * block + _TOP
        for j, (value, name) in enumerate(_PANELS):
            left = column * room + _LEFT + j * (across + _GAP)
            title = "" if j else style.fitted(setting, room - _LEFT, 7)
            axes = style.axes_at(figure, left, top, across, _PITCH * len(own[i]))
            axes.set_title(title, pad=4, size=7, weight="bold", parse_math=False)
            _draw(axes, own[i], value)
            axes.set_xlabel(name)
            if j:
                axes.tick_params(labelleft=False)
    return figure


def _draw(axes: Axes, rows: Sequence[Row], value: str) -> None:
    style.label_rows(axes, [row["schedule"] for row in rows], _LEFT - 0.08)
    axes.grid(visible=False, axis="y")
    for y, row in enumerate(rows):
        schedule = row["schedule"]
        shade = style.colour(_FAMILIES.get(str(schedule), str(schedule)))
        if row[value] is None:
            continue
        if schedule in ("SGD", "SAM"):
            axes.axvline(row[value], color=shade, lw=0.6, ls=(0, (3, 2)), alpha=0.6, zorder=0.5)
        if row[f"{value}_low"] is not None:
            axes.plot([row[f"{value}_low"], row[f"{value}_high"]], [y, y], color=shade, lw=3.6, alpha=0.4)
        axes.plot([row[value]], [y], "o", color=shade, ms=2.8)
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=4)
