"""One look for every figure: sizes, colours, type, and labels that never overlap.

Lengths are inches, type sizes points. A figure is laid out by hand, so that the same rows always give the
same picture, whatever the user's own settings of Matplotlib are; those are never touched.

Colours: Okabe & Ito, "Color Universal Design" (2008), without its yellow, which is too pale for lines,
and with wine and indigo of P. Tol's muted scheme. A label has the same colour in every figure.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "DOUBLE",
    "INK",
    "LOOK",
    "SINGLE",
    "SMALL",
    "STRONG",
    "axes_at",
    "blank",
    "colour",
    "dashes",
    "fitted",
    "ink",
    "interval",
    "key",
    "label_ends",
    "label_rows",
    "label_y",
    "log_axis",
    "ordered",
    "spread",
    "styled",
    "text_width",
]

SINGLE, DOUBLE = 3.4, 7.0
"""Widths of one and of two columns of a printed page."""

SMALL, STRONG = 6.5, 8.0
"""Sizes of labels and of headings."""

INK, _FAINT = "#222222", "#e4e4e4"
_LINE = SMALL * 1.3 / 72  # the height of a line of labels

LOOK: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.6,
    "axes.labelsize": 7.0,
    "axes.titlesize": STRONG,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.unicode_minus": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": "#777777",
    "ytick.color": "#777777",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.solid_capstyle": "butt",
    "svg.fonttype": "path",
    "svg.hashsalt": "rst_theory",
    "savefig.dpi": 200,
}
"""Matplotlib's settings, over its defaults."""

_COLOURS = {
    "sgd": "#6b6b6b",
    "sam": "#000000",
    "g-rst": "#d55e00",
    "rst": "#0072b2",
    "constant": "#0072b2",
    "piecewise": "#e69f00",
    "linear": "#009e73",
    "cosine": "#cc79a7",
    "periodic": "#56b4e9",
    "inversesqrt": "#882255",
}
_OTHER = "#332288"
_DASHES = ("-", (0, (4, 1.2)), (0, (1.2, 1)), (0, (6, 1.2, 1.2, 1.2)))

P = ParamSpec("P")
F = TypeVar("F")


def styled(function: Callable[P, F]) -> Callable[P, F]:
    """Run a function in the look of this module; the settings outside stay as they were."""

    @functools.wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> F:
        from matplotlib import style

        with style.context(LOOK, after_reset=True):
            return function(*args, **kwargs)

    return within


def _family(label: str) -> str:
    match = re.match(r"[a-z-]+", label.casefold())
    return match[0] if match else ""


def colour(label: str) -> str:
    """The colour of a method or schedule, from the first word of its label alone."""
    return _COLOURS.get(_family(label).removesuffix("-"), _OTHER)


def ink(label: str) -> str:
    """The label's colour, dark enough to be read as text on white."""
    channels = (int(colour(label)[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(0.62 * channel):02x}" for channel in channels)


def dashes(labels: Iterable[str]) -> dict[str, Any]:
    """A line style for each label, so that labels of one colour differ."""
    seen: dict[str, int] = {}
    chosen: dict[str, Any] = {}
    for label in labels:
        n = seen[colour(label)] = seen.get(colour(label), -1) + 1
        chosen[label] = _DASHES[n % len(_DASHES)]
    return chosen


T = TypeVar("T", bound=Hashable)


def ordered(values: Iterable[T]) -> list[T]:
    """The values without repetition, in order of first appearance."""
    return list(dict.fromkeys(values))


@functools.cache
def text_width(text: str, size: float = SMALL) -> float:
    """The width of a text, set on one line in the type of this module."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    prop = FontProperties(family="DejaVu Sans", size=size)
    width: float = TextToPath().get_text_width_height_descent(" ".join(text.split()), prop, ismath=False)[0]
    return width / 72


def fitted(text: str, width: float, size: float = SMALL) -> str:
    """A text on one line, cut with an ellipsis where it is wider than `width`."""
    line = " ".join(text.split())
    if text_width(line, size) <= width:
        return line
    while line and text_width(line + "…", size) > width:
        line = line[:-1]
    return line.rstrip() + "…"


def blank(width: float, height: float) -> Figure:
    """An empty figure that belongs to no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float, title: str = "") -> Axes:
    """Axes by the inches from the left and the top edge of the figure to theirs."""
    across, down = figure.get_size_inches()
    axes = figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    if title:
        axes.set_title(title, pad=5, parse_math=False)
    return axes


def key(figure: Figure, text: str) -> None:
    """A line at the top left that says what the marks of a figure mean."""
    across, down = figure.get_size_inches()
    figure.text(0.06 / across, 1 - 0.06 / down, text, va="top", size=SMALL, color="#555555")


def label_rows(axes: Axes, labels: Sequence[str], width: float) -> None:
    """Name the rows of a dot plot, the first on top; each label within `width` inches."""
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), [fitted(label, width) for label in labels], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def label_y(axes: Axes, text: str, distance: float = 0.42) -> None:
    """Name the vertical axis, this many inches from it, so that the names of panels line up."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101  axes always have one
    axes.set_ylabel(text)
    axes.yaxis.set_label_coords(-distance / (axes.get_position().width * figure.get_figwidth()), 0.5)


def log_axis(axis: Axis, low: float, high: float, most: int = 5) -> None:
    """Ticks for a log axis from `low` to `high`: at most `most` of them, with at least two numbers."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

    ticks: list[float] = []
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**k for k in decades for d in digits if low <= d * 10.0**k <= high]
        if len(ticks) <= most:
            break
    ticks = ticks[:: math.ceil(len(ticks) / most)] if ticks else ticks
    if len(ticks) < 2:
        ticks = [
            x
            for x in MaxNLocator(most - 1, steps=[1, 2, 5, 10]).tick_values(low, high)
            if low <= x <= high and x > 0
        ]
    plain = all(1e-3 <= x < 1e4 for x in ticks)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([f"{x:g}" if plain else _power(x) for x in ticks]))
    axis.set_minor_locator(NullLocator())


def _power(x: float) -> str:
    digits, exponent = f"{x:.3e}".split("e")
    leading = f"{float(digits):g}"
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if leading == "1" else f"${leading}\\times{power}$"


def interval(axes: Axes, y: float, row: tuple[float, float, float], label: str, name: str) -> None:
    """A dot at the first number with a line from the second to the third, in the colour of the label."""
    middle, low, high = row
    axes.plot(
        [low, high], [y, y], color=colour(label), lw=3.6, alpha=0.4, label=f"{name} interval", clip_on=False
    )
    axes.plot([middle], [y], "o", color=colour(label), ms=2.4, label=name, clip_on=False)


def spread(positions: Sequence[float], gap: float, least: float, most: float) -> list[float]:
    """Positions moved as little as possible so that neighbours are `gap` apart, within [least, most].

    The order is kept. Least squares under those conditions, by pooling neighbours that violate them; where
    there is no room for all, they are spaced evenly.
    """
    n = len(positions)
    if n > 1 and (n - 1) * gap > most - least:
        gap = (most - least) / (n - 1)
    order = sorted(range(n), key=lambda i: (positions[i], i))
    blocks: list[list[float]] = []  # each: sum of the shifted positions, their number
    for rank, i in enumerate(order):
        blocks.append([positions[i] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, number = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += number
    anchors = [total / number for total, number in blocks for _ in range(int(number))]
    moved = [0.0] * n
    for rank, i in enumerate(order):
        moved[i] = min(max(anchors[rank], least), most - (n - 1) * gap) + rank * gap
    return moved


def label_ends(axes: Axes, ends: Sequence[tuple[str, float, float]], width: float) -> None:
    """Name curves at their right ends, beside the axes, with thin lines from the ends to the names.

    Args:
        axes: with its limits and scales final.
        ends: for each curve its label and the last point's coordinates.
        width: the inches that a name may take.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101  axes always have one
    across, down = figure.get_size_inches()
    box = axes.get_position()
    inch_x, inch_y = 1 / (box.width * across), 1 / (box.height * down)
    to_axes = axes.transScale + axes.transLimits
    points = [to_axes.transform((x, y)) for _, x, y in ends]
    heights = spread([float(y) for _, y in points], _LINE * inch_y, 0.0, 1.0)
    for (label, _, _), (x, y), height in zip(ends, points, heights, strict=True):
        axes.plot(
            [x, 1 + 0.03 * inch_x, 1 + 0.13 * inch_x],
            [y, y, height],
            transform=axes.transAxes,
            clip_on=False,
            color=colour(label),
            lw=0.5,
            alpha=0.7,
        )
        axes.text(
            1 + 0.16 * inch_x,
            height,
            fitted(label, width - 0.16),
            transform=axes.transAxes,
            va="center_baseline",
            size=SMALL,
            color=ink(label),
            parse_math=False,
        )
