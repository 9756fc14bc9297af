"""Does the product of degree and radius say it all? What was measured at equal products, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rst_theory.plots import style
from rst_theory.plots.tables import Row, checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_cells", "key_height", "mark", "mark_key", "plot_collapse"]

_TOP, _BOTTOM, _LEFT, _RIGHT, _GAP, _BETWEEN, _HEIGHT = 0.46, 0.42, 0.48, 0.06, 0.36, 0.18, 1.25
_ROW, _COLUMN, _KEY = 0.15, 0.86, 0.1
_SHAPES = {1.0: "o", 0.5: "s", 0.25: "^"}


@style.styled
def plot_collapse(rows: Iterable[Row], width: float = style.DOUBLE) -> Figure:
    """Accuracy and sharpness against the product q rho, a mark for each p and gamma; a column per setting.

    Lines are 99 % intervals of the mean; the word above each product is the verdict on it, from paired
    differences.

    Args:
        rows: of the table `collapse`.
        width: of the figure, in inches.

    Raises:
        ResultsError: rows that are not of that form.
    """
    table = checked("collapse", rows)
    settings = style.ordered(row["setting"] for row in table)
    columns = 4 if width > 5 else 2
    across = (width - _LEFT - _RIGHT - (columns - 1) * _GAP) / columns
    head = key_height(table, width)
    block = _TOP + 2 * _HEIGHT + _BETWEEN + _BOTTOM
    figure = style.blank(width, head + -(-len(settings) // columns) * block)
    mark_key(figure, table)
    for i, setting in enumerate(settings):
        own = [row for row in table if row["setting"] == setting]
        left = _LEFT + i % columns * (across + _GAP)
        top = head + i // columns * block + _TOP
        accuracy = style.axes_at(figure, left, top, across, _HEIGHT)
        start, _, end = setting.rpartition(", ")
        lines = [style.fitted(part, across, 7) for part in (start, end) if part]
        accuracy.set_title("\n".join(lines), pad=11, size=7, parse_math=False)
        draw_cells(accuracy, own, "accuracy", "accuracy_verdict")
        low, high = accuracy.get_ylim()
        accuracy.set_ylim(max(low, 0), min(high, 1))  # no accuracy lies beyond, though an interval ends there
        accuracy.tick_params(labelbottom=False)
        sharpness = style.axes_at(figure, left, top + _HEIGHT + _BETWEEN, across, _HEIGHT)
        draw_cells(sharpness, own, "log_eigenvalue", "eigenvalue_verdict")
        sharpness.set_xlabel("$q\\rho$")
        for axes in (accuracy, sharpness):
            axes.locator_params(axis="y", nbins=5)
        if i % columns == 0:
            style.label_y(accuracy, "test accuracy", 0.36)
            style.label_y(sharpness, "log of the largest eigenvalue", 0.36)
    return figure


def draw_cells(axes: Axes, rows: Sequence[Row], value: str, verdict: str) -> None:
    """A value with its interval for each product and, side by side, each (p, gamma); null is not drawn.

    Args:
        axes: to draw in.
        rows: with product, p, gamma, the value and its ends.
        value: the field drawn; its ends are value_low and value_high.
        verdict: the field with the word above each product.
    """
    products = sorted({row["product"] for row in rows})
    methods = style.ordered((row["p"], row["gamma"]) for row in rows)
    step = 0.8 / len(methods)
    for row in rows:
        if row[value] is None:
            continue
        place = methods.index((row["p"], row["gamma"])) - (len(methods) - 1) / 2
        x = products.index(row["product"]) + step * place
        look = mark(row)
        if row[f"{value}_low"] is not None:
            ends = [row[f"{value}_low"], row[f"{value}_high"]]
            axes.plot([x, x], ends, color=look["color"], lw=1.8, alpha=0.4)
        axes.plot([x], [row[value]], ls="", ms=2.8, **look)
    for i, product in enumerate(products):
        word = next(row[verdict] for row in rows if row["product"] == product)
        axes.annotate(
            word,
            (i, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            size=6,
            color=style.INK if word == "break" else "#777777",
            weight="bold" if word == "break" else "normal",
        )
    axes.set_xlim(-0.5, len(products) - 0.5)
    axes.set_xticks(range(len(products)), [f"{product:g}" for product in products])
    axes.grid(visible=False, axis="x")
    for edge in range(len(products) - 1):
        axes.axvline(edge + 0.5, color="#e4e4e4", lw=0.5)


def mark(row: Row) -> dict[str, Any]:
    """The look of a (p, gamma): the colour of its method, a shape for p, hollow where gamma < 1."""
    p, gamma = row["p"], row["gamma"]
    colour = style.colour("G-RST" if gamma != 1 else "SAM" if p == 1 else "RST")
    face = "white" if gamma < 1 else colour
    return {"color": colour, "marker": _SHAPES.get(p, "D"), "mfc": face, "mew": 0.7}


def _methods(rows: Sequence[Row]) -> list[Row]:
    """A row of each (p, gamma)."""
    return list({(row["p"], row["gamma"]): row for row in rows}.values())


def _in_a_line(width: float) -> int:
    return max(int((width - 0.1) / _COLUMN), 1)


def key_height(rows: Sequence[Row], width: float) -> float:
    """The height of the key, in inches."""
    return _KEY + _ROW * -(-len(_methods(rows)) // _in_a_line(width))


def mark_key(figure: Figure, rows: Sequence[Row]) -> None:
    """What the marks mean, in lines at the top of the figure."""
    width, down = figure.get_size_inches()
    axes = style.axes_at(figure, 0, 0, width, down)
    axes.set(xlim=(0, width), ylim=(down, 0))
    axes.axis("off")
    for i, row in enumerate(_methods(rows)):
        line, place = divmod(i, _in_a_line(width))
        x, y = 0.1 + _COLUMN * place, _KEY + _ROW * line
        axes.plot([x], [y], ls="", ms=3.5, **mark(row))
        sam = (row["p"], row["gamma"]) == (1, 1)
        text = "SAM" if sam else f"p {_short(row['p'])}, γ {_short(row['gamma'])}"
        axes.text(x + 0.08, y, text, va="center_baseline", size=style.SMALL)


def _short(number: float) -> str:
    return f"{number:.4g}".removeprefix("0") if 0 < number < 1 else f"{number:g}"
