"""How the average squared gradient falls with the horizon, beside the bounds on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rst_theory.plots import style
from rst_theory.plots.tables import ResultsError, Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_decay", "plot_decay_exact"]

_LEFT, _RIGHT, _GAP, _HEIGHT, _BETWEEN, _TITLE, _BOTTOM = 0.62, 0.16, 0.34, 1.15, 0.12, 0.26, 0.42
_MARGIN, _SAMPLE, _LEGEND_LINE = 0.08, 0.22, 0.14
_BOUNDS, _BAND, _DASHED = "bounds", "#9a9a9a", (0, (4, 2))
_SHOWN = ("value", "bound")
_CLEAR = 1.6  # room below the curves for a line of text, as a factor


@style.styled
def plot_decay(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """The bound's metric against the horizon with noisy gradients, log-log: problems by parameters.

    Lines are means with their 99 % bands. Between the dashed lines lie the bounds of all schedules. In each
    panel stands the range of the slopes between the last two horizons.

    Args:
        rows: of the table `decay_curves`.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form, or none with noisy gradients.
    """
    return _drawn(rows, width, "noisy")


@style.styled
def plot_decay_exact(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """The same with exact gradients.

    Args:
        rows: of the table `decay_curves`.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form, or none with exact gradients.
    """
    return _drawn(rows, width, "exact")


def _drawn(rows: Iterable[Row], width: float, gradients: str) -> Figure:
    """A column for each problem and a row for each choice of parameters; narrow: two columns."""
    table = [row for row in checked("decay_curves", rows) if row["gradients"] == gradients]
    if not table:
        raise ResultsError(f"decay_curves: no rows with {gradients} gradients")
    problems, parameters, schedules = (
        style.ordered(row[key] for row in table) for key in ("problem", "parameters", "schedule")
    )
    columns = min(len(problems), 4 if width > 5 else 2)
    places = _placed([*schedules, _BOUNDS], width)
    top = places[-1][1] + 0.1
    block = _TITLE + len(parameters) * (_HEIGHT + _BETWEEN) - _BETWEEN + _BOTTOM
    across = (width - _LEFT - _RIGHT - (columns - 1) * _GAP) / columns
    figure = style.blank(width, top + -(-len(problems) // columns) * block)
    for i, problem in enumerate(problems):
        line, column = divmod(i, columns)
        mine = [row for row in table if row["problem"] == problem]
        lowest, highest = (pick(row[key] for row in mine for key in _SHOWN) for pick in (min, max))
        for j, chosen in enumerate(parameters):
            axes = style.axes_at(
                figure,
                _LEFT + column * (across + _GAP),
                top + line * block + _TITLE + j * (_HEIGHT + _BETWEEN),
                across,
                _HEIGHT,
                style.fitted(problem, across + _RIGHT, style.STRONG) if j == 0 else "",
            )
            panel = [row for row in mine if row["parameters"] == chosen]
            axes.set(xscale="log", yscale="log", ylim=(lowest / 2 / _CLEAR, highest * 1.6))
            _draw(axes, panel, schedules)
            style.log_axis(axes.xaxis, *axes.get_xlim(), most=4)
            style.log_axis(axes.yaxis, *axes.get_ylim(), most=4)
            if column == 0:
                style.label_y(axes, f"η, ρ {chosen.replace('1/sqrt(t)', 'as 1/√t')}", 0.46)
                axes.yaxis.label.set_parse_math(False)
            axes.tick_params(labelbottom=j == len(parameters) - 1)
            if j == len(parameters) - 1:
                axes.set_xlabel("horizon $T$", labelpad=2)
    _legend(figure, schedules, places)
    return figure


def _draw(axes: Axes, rows: Sequence[Row], schedules: Sequence[str]) -> None:
    styles = style.dashes(schedules)
    horizons = sorted({row["steps"] for row in rows})
    bounds = [[row["bound"] for row in rows if row["steps"] == T] for T in horizons]
    least, largest = ([pick(some) for some in bounds] for pick in (min, max))
    axes.fill_between(horizons, least, largest, color=_BAND, alpha=0.18, lw=0, label=_BOUNDS)
    for end, name in zip((least, largest), ("least bound", "largest bound"), strict=True):
        axes.plot(horizons, end, color=_BAND, lw=0.8, ls=_DASHED, label=name)
    for place, schedule in enumerate(schedules):
        curve = sorted((row for row in rows if row["schedule"] == schedule), key=lambda row: row["steps"])
        T = [row["steps"] for row in curve]
        floor = axes.get_ylim()[0]
        low, high = [max(row["low"], floor) for row in curve], [row["high"] for row in curve]
        shade = style.colour(schedule)
        axes.fill_between(T, low, high, color=shade, alpha=0.25, lw=0, label=f"{schedule} interval")
        mean = [row["value"] for row in curve]
        # Curves often coincide: the later ones lie wider below.
        axes.plot(
            T,
            mean,
            color=shade,
            ls=styles[schedule],
            lw=0.9 + 0.25 * place,
            zorder=3 - place / 10,
            label=schedule,
        )
    axes.set_xlim(horizons[0] / 1.2, horizons[-1] * 1.2)
    slopes = [row["local_slope"] for row in rows if row["steps"] == horizons[-1]]
    if None not in slopes:
        ends = style.ordered(f"{pick(slopes):z.2f}" for pick in (min, max))
        text = f"slope {' to '.join(ends)}".replace("-", "−")
        axes.text(0.04, 0.05, text, transform=axes.transAxes, size=style.SMALL, color=style.INK)


def _legend(figure: Figure, schedules: Sequence[str], places: Sequence[tuple[float, float]]) -> None:
    """A piece of each line with its name, at the places of their left ends."""
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches()
    styles = style.dashes(schedules) | {_BOUNDS: _DASHED}
    for name, (left, top) in zip([*schedules, _BOUNDS], places, strict=True):
        ends, y = (left / width, (left + _SAMPLE) / width), 1 - top / height
        shade = _BAND if name == _BOUNDS else style.colour(name)
        figure.add_artist(Line2D(ends, (y, y), color=shade, ls=styles[name], lw=1.2))
        figure.text(
            ends[1] + 0.04 / width,
            y,
            style.fitted(name, width - _SAMPLE - 0.2),
            va="center_baseline",
            size=style.SMALL,
            parse_math=False,
        )


def _placed(names: Sequence[str], width: float) -> list[tuple[float, float]]:
    """Inches from the left and the top, line by line."""
    places: list[tuple[float, float]] = []
    left, top = _MARGIN, _LEGEND_LINE
    for name in names:
        needed = _SAMPLE + 0.2 + style.text_width(name)
        if left > _MARGIN and left + needed > width:
            left, top = _MARGIN, top + _LEGEND_LINE
        places.append((left, top))
        left += needed
    return places
