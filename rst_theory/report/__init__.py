"""A results folder as one page: from each claim to its evidence, in a single file that needs no network."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from rst_theory.bounds import nonconvex_average
from rst_theory.files import write_atomically
from rst_theory.notation import QUANTITIES, Assumption
from rst_theory.plots import DOUBLE, FIGURES, SINGLE, Results, Row, figures
from rst_theory.plots.schedules import resolved
from rst_theory.report import explorer, numbers
from rst_theory.report.drawings import inline, sparkline
from rst_theory.report.mathml import MathError, mathml
from rst_theory.report.words import CAPTIONS, VERDICTS, claims, description, headlines, homeless

__all__ = ["render"]


def render(results: Path, output: Path, fresh: Path | None = None) -> Path:
    """Write the report on a results folder as one self-contained HTML page.

    Everything on it comes from the folder, but for the values of the explorer, which are computed: the
    figures are drawn from its tables and inlined, equations are MathML, and nothing is loaded from
    elsewhere. Its one script only looks up and draws what is embedded. Files that are not there yet are
    named on the page; the same folders give the same bytes. The page appears whole or not at all.

    Args:
        results: the folder with the tables, as `rst_theory.plots.Results` reads it.
        output: the path of the page.
        fresh: a folder with the tables of a smaller run; the page shows its `recheck` and provenance.

    Returns:
        The path of the page.

    Raises:
        NotADirectoryError: there is no such folder.
        ResultsError: a file is malformed; the message names the file, the row and the field.
    """
    found = Results.read(Path(results))
    again = Results() if fresh is None else Results.read(Path(fresh), ("recheck", "provenance"))
    drawings, shown, script = _drawings(found), claims(found), _packaged("page.js")
    page = (
        _environment()
        .from_string(_packaged("page.html"))
        .render(
            style=Markup(_packaged("style.css")),  # noqa: S704  ours
            script=Markup(script),  # noqa: S704  ours
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
            results=found,
            again=again,
            headlines=headlines(found),
            claims=shown,
            verdicts=VERDICTS,
            captions=CAPTIONS,
            figures=drawings,
            questions=homeless(FIGURES, shown),
            sources={key: source for key, (source, _) in FIGURES.items()},
            explorer=explorer,
            grid=_grid(),
            bound=nonconvex_average,
            # in the order of their declaration: that of a set changes from run to run
            assumptions=[a for a in Assumption if a in nonconvex_average.assumptions],
            symbols=[QUANTITIES[key] for key in ("steps", "p", "gamma", "eta", "rho", "L", "sigma", "gap")],
        )
    )
    write_atomically(Path(output), page)
    return Path(output)


@cache  # the same for every folder
def _grid() -> Markup:
    """The grid of the explorer as JSON in a <script> element; nothing in it can end that."""
    text = json.dumps(explorer.grid(), separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704


def _drawings(found: Results) -> dict[str, dict[str, Any]]:
    """Every figure in two widths, by key, for wide pages and for phones; and the size of the wide one."""
    drawn: dict[str, dict[str, Any]] = {}
    for form, width in (("narrow", SINGLE), ("wide", DOUBLE)):
        for key, figure in figures(found, width).items():
            drawing = drawn.setdefault(key, {})
            drawing[form] = inline(figure, f"{key}-{form}", description(key, found))
            drawing["size"] = [round(float(inches) * 72, 2) for inches in figure.get_size_inches()]
    return drawn


def _packaged(name: str) -> str:
    return files(__package__ or __name__).joinpath(name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        three=numbers.three,
        count=numbers.count,
        estimate=numbers.estimate,
        accuracy=_accuracy,
        math=_math,
        display=partial(_math, display=True),
        prose=_prose,
        sparkline=_sparkline,
        grouped=_grouped,
        common=_common,
        parameter=_parameter,
    )
    return environment


def _math(latex: str, display: bool = False) -> Markup:
    """A formula; where it is beyond our MathML, its LaTeX as code."""
    try:
        return Markup(mathml(latex, display))  # noqa: S704  every text in it is escaped there
    except MathError:
        return Markup("<code>{}</code>").format(latex)


def _prose(text: str) -> Markup:
    """A sentence with formulas between dollar signs."""
    parts = re.split(r"\$([^$]*)\$", text)
    return Markup("").join(_math(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def _accuracy(row: Row, name: str, sign: str = "-") -> str:
    """An accuracy, or a difference of two, with its interval."""
    ends = numbers.interval(row[f"{name}_low"], row[f"{name}_high"], sign=sign)
    return f"{numbers.fixed(row[name], sign=sign)} {ends}"


def _sparkline(row: Row) -> Markup:
    import numpy as np

    clear = resolved(np.asarray(row["values"], dtype=float), row["share"])
    return sparkline(row["values"]) if clear else Markup("")


def _grouped(rows: Iterable[Row], key: str) -> dict[Any, list[Row]]:
    """The rows by one of their fields, in order of first appearance."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _common(rows: Iterable[Row], key: str) -> str:
    """The values that a field takes, each once."""
    return ", ".join(map(_parameter, dict.fromkeys(row[key] for row in rows)))


def _parameter(value: float | str) -> str:
    """A number as it was given, or the name of a schedule."""
    if isinstance(value, str):
        return value
    return numbers.count(value) if value == round(value) else f"{value:g}"
