"""Figures as parts of a page: inline SVG without identifiers that collide, links or styles that leak.

What has a label in a figure carries it on the page too, as `data-series` (whose curve it is) and
`data-label` (what of it), with a <title> that browsers show without a script. `data-axes` of a curve or
point is the place of its axes in the list that the whole drawing carries under the same name: their title,
and for both directions the name, the scale, its ends, and where they lie in the drawing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import count
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from rst_theory.plots import encoded
from rst_theory.report.mathml import plain

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["inline", "sparkline"]

_DROPPED = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_PLACES = re.compile(r'(?<=\s)(?:d|x|y)="[^"]*"|translate\([^)]*\)')
_LINES = re.compile(r"[ML] [-\d. ]+(?:L [-\d. ]+)+")  # whose commands need not be repeated
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_REFERENCE = re.compile(r'(href="#|url\(#)([^")]*)')
_PART = re.compile(r" (?:band|interval|bound|mean)$")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def inline(figure: Figure, key: str, description: str) -> Markup:
    """A figure of ours as an <svg> element that scales with its container.

    It is safe markup because Matplotlib wrote it, whose texts are paths and whose comments are dropped, and
    because what is added to it is escaped.

    Args:
        figure: drawn by `rst_theory.plots`; the identifiers of its labelled parts are set.
        key: goes before every identifier in it; unique on the page.
        description: what screen readers say.
    """
    marks = {f"mark-{i}": (artist, series) for i, (artist, series) in enumerate(_named(figure))}
    for name, (artist, _) in marks.items():
        artist.set_gid(name)
    svg = _DROPPED.sub("", encoded(figure, "svg").decode())
    opening = re.search(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', svg)
    if opening is None:
        raise ValueError("Matplotlib's SVG has no root element with a viewBox")
    body = _compact(svg[opening.end() :])
    for name, (artist, series) in marks.items():
        body = body.replace(f'<g id="{name}">', _opened(figure, artist, series))
    axes = json.dumps([_described(one) for one in figure.axes], ensure_ascii=False)
    return Markup(  # noqa: S704
        f'<svg id="{key}" viewBox="{opening[1]}" role="img" aria-label="{escape(description)}" '
        f'data-axes="{escape(axes)}">\n{_renamed(body, key)}'
    )


def sparkline(values: Sequence[float]) -> Markup:
    """Values in [0, 1] as a line, 64 by 18 pixels; decoration for a table that says the same in words."""
    last = max(len(values) - 1, 1)
    points = " ".join(f"{1 + 62 * i / last:.1f},{17 - 16 * float(v):.1f}" for i, v in enumerate(values))
    return Markup(  # noqa: S704
        '<svg class="sparkline" viewBox="0 0 64 18" width="64" height="18" aria-hidden="true">'
        f'<polyline points="{points}"></polyline></svg>'
    )


def _named(figure: Figure) -> Iterator[tuple[Artist, str]]:
    """What has a label, and the texts that are such a label, with the series that they belong to."""
    from matplotlib.text import Text

    series: set[str] = set()
    for axes in figure.axes:
        for artist in (*axes.lines, *axes.collections, *axes.patches):
            label = str(artist.get_label())
            if label and not label.startswith("_"):
                series.add(_PART.sub("", label))
                yield artist, _PART.sub("", label)
    for axes in figure.axes:
        ticks: list[Text] = [*axes.xaxis.get_majorticklabels(), *axes.yaxis.get_majorticklabels()]
        for text in (*axes.texts, *ticks):
            beginning = text.get_text().removesuffix("…")
            whole = beginning == text.get_text()
            found = [
                name for name in series if name == beginning or (not whole and name.startswith(beginning))
            ]
            if len(found) == 1:
                yield text, found[0]


def _opened(figure: Figure, artist: Artist, series: str) -> str:
    """The tag that begins a labelled part, and its title."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import StepPatch
    from matplotlib.text import Text

    if isinstance(artist, Text):
        return f'<g data-series="{escape(series)}">'
    label = escape(str(artist.get_label()).replace("_", " "))
    place = ""
    if isinstance(artist, Line2D | StepPatch) and artist.axes is not None:
        place = f' data-axes="{[*map(id, figure.axes)].index(id(artist.axes))}"'
    return f'<g data-series="{escape(series)}" data-label="{label}"{place}><title>{label}</title>'


def _described(axes: Axes) -> dict[str, Any]:
    """What turns a place in a drawing into numbers: title, and name, scale, ends and places of both axes."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101  axes always have one
    across, down = figure.get_size_inches() * 72
    box = axes.get_position()
    return {
        "title": axes.get_title(loc="left"),
        "x": _direction("x", axes, figure.axes, [box.x0 * across, box.x1 * across]),
        "y": _direction("y", axes, figure.axes, [(1 - box.y0) * down, (1 - box.y1) * down]),
    }


def _direction(which: str, axes: Axes, others: Sequence[Axes], places: list[float]) -> dict[str, Any] | None:
    """One axis; None where it has names instead of numbers, or a scale that is neither linear nor log."""
    axis: Axis = getattr(axes, f"{which}axis")
    scale = axis.get_scale()
    ticks = axis.get_major_formatter().format_ticks([float(tick) for tick in axis.get_majorticklocs()])
    if not all(map(_is_number, ticks)) or scale not in ("linear", "log"):
        return None
    labels = {getattr(one, f"get_{which}label")() for one in others} - {""}
    own = getattr(axes, f"get_{which}label")() or (labels.pop() if len(labels) == 1 else which)
    return {
        "name": plain(own),
        "log": scale == "log",
        "ends": [float(end) for end in getattr(axes, f"get_{which}lim")()],
        "places": [round(float(place), 2) for place in places],
    }


def _is_number(text: str) -> bool:
    """Whether a tick's text stands for a number, set as a formula or not."""
    return text.startswith("$") or re.fullmatch(r"[−+-]?[\d.,\s]*(?:e[+-]?\d+)?\s*%?", text) is not None


def _compact(svg: str) -> str:
    """The same drawing in fewer bytes."""
    svg = _PLACES.sub(lambda d: _LONG_NUMBER.sub(_shorter, " ".join(d[0].split())), svg)
    svg = _LINES.sub(lambda run: run[0][0] + run[0][1:].replace("L ", ""), svg)
    svg = re.sub(r' transform="translate\((\S+) 0\)"/>', r' x="\1"/>', svg)  # of a glyph
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def _shorter(number: re.Match[str]) -> str:
    """To a hundredth of a point, which is finer than any screen or printer."""
    text = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _renamed(svg: str, key: str) -> str:
    """With short identifiers that begin with `key`, and none that nothing refers to."""
    numbers = count()
    short = {name: f"{key}-{_base36(next(numbers))}" for name in dict.fromkeys(_found(svg))}
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{short[found[1]]}"' if found[1] in short else "", svg)
    return _REFERENCE.sub(lambda found: found[1] + short[found[2]], svg.replace("xlink:href", "href"))


def _found(svg: str) -> list[str]:
    return [name for _, name in _REFERENCE.findall(svg)]


def _base36(n: int) -> str:
    return (_base36(n // 36) if n >= 36 else "") + _DIGITS[n % 36]
