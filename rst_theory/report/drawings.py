"""Figures as parts of a page: inline SVG without identifiers that collide, links or styles that leak."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from markupsafe import Markup
from matplotlib.figure import Figure

from rst_theory.plots import encoded

__all__ = ["inline", "sparkline"]

_DROPPED = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_COORDINATES = re.compile(r'(?<=\s)(?:d|x|y)="[^"]*"')
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def inline(figure: Figure, key: str, description: str) -> Markup:
    """A figure of ours as an <svg> element that scales with its container.

    It is safe markup because Matplotlib wrote it: texts are paths in it, and its comments are dropped.

    Args:
        figure: drawn by `rst_theory.plots`.
        key: goes before every identifier in it; unique on the page.
        description: what screen readers say.
    """
    svg = _DROPPED.sub("", encoded(figure, "svg").decode())
    opening = re.search(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', svg)
    if opening is None:
        raise ValueError("Matplotlib's SVG has no root element with a viewBox")
    body = svg[opening.end() :]
    body = re.sub(r'\bid="', f'id="{key}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{key}-', body).replace("url(#", f"url(#{key}-")
    body = _COORDINATES.sub(lambda d: _LONG_NUMBER.sub(_shorter, d[0]), body)
    body = re.sub(r"\n\s*", "\n", body).strip()
    return Markup(  # noqa: S704
        f'<svg viewBox="{opening[1]}" role="img" aria-label="{escape(description)}">\n{body}'
    )


def _shorter(number: re.Match[str]) -> str:
    """To a hundredth of a point, which is finer than any screen or printer."""
    return f"{float(number[0]):.2f}"


def sparkline(values: Sequence[float]) -> Markup:
    """Values in [0, 1] as a line, 64 by 18 pixels; decoration for a table that says the same in words."""
    last = max(len(values) - 1, 1)
    points = " ".join(f"{1 + 62 * i / last:.1f},{17 - 16 * float(v):.1f}" for i, v in enumerate(values))
    return Markup(  # noqa: S704
        '<svg class="sparkline" viewBox="0 0 64 18" width="64" height="18" aria-hidden="true">'
        f'<polyline points="{points}"></polyline></svg>'
    )
