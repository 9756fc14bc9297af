"""The page: complete, self-contained, safe, deterministic; its numbers are those of the tables."""

from __future__ import annotations

import base64
import copy
import hashlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import sympy
from hypothesis import example, given, settings, strategies as st
from test_plots import tables as plain_tables, write

import rst_theory as rst
from rst_theory import bounds, plots
from rst_theory.cost import closed_form
from rst_theory.notation import QUANTITIES
from rst_theory.plots.tables import SCHEMA
from rst_theory.report import numbers, render
from rst_theory.report.mathml import MathError, mathml
from rst_theory.report.words import CAPTIONS, PLACES
from rst_theory.schedules import PRESETS, preset

VOID = {"meta", "link", "br", "hr", "img", "input"}
NOTES = ("title", "rule", "change", "command")
QUESTIONS = [
    {
        "id": key,
        "statement": f"The statement of question {key.lower()}.",
        "verdict": "verified",
        "number": None,
        "evidence": f"The evidence on {key}.",
        "figure": figure,
        "source": None,
        "title": f"The title of {key.lower()}",
        "rule": f"The rule of {key}.",
        "change": f"What would change {key}.",
        "command": f"python -m {key.lower()}",
    }
    for key, figure in (("Q10", None), ("Q2", "cost"))
]
RECHECK = [
    {
        "table": "cost", "value": "mean", "compared": 1200, "disagree": 0, "least_p": 1.0, "level": 1e-10,
        "worst": "constant p=0.5", "fresh": 100.0, "committed": 100.0,
    },
    {
        "table": "digits_summary", "value": "accuracy", "compared": 4, "disagree": 1, "least_p": 1e-12,
        "level": 1e-10, "worst": "SAM", "fresh": 0.75, "committed": 0.915,
    },
]  # fmt: skip


def tables() -> dict[str, Any]:
    """A complete results folder, with questions beside the claims."""
    contents = plain_tables()
    claims = [{**dict.fromkeys(NOTES), **claim} for claim in contents["claims"]]
    return {**contents, "claims": [*claims, *copy.deepcopy(QUESTIONS)]}


DRAWN = [key for key, (source, _) in plots.FIGURES.items() if source in tables()]


class Page(HTMLParser):
    """A page read strictly: every element must be closed, in order; tags, texts and tables are kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []  # text, and the path of the elements around it
        self.tables: list[list[list[str]]] = []
        self.feed(self.source)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.open[-3:], self.getpos())

    def handle_data(self, data: str) -> None:
        self.inside.append((data, "/".join(self.open)))
        if self.tables and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        shown = (data for data, path in self.inside if not path.endswith(("style", "title", "script")))
        return " ".join("".join(shown).split())

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(name)) is not None]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("results"), tables())


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    output = tmp_path_factory.mktemp("site") / "report" / "index.html"
    assert render(folder, output) == output
    assert [path.name for path in output.parent.iterdir()] == ["index.html"]
    return Page(output)


# The whole page.


def test_the_page_is_one_valid_document(page: Page) -> None:
    assert page.source.lstrip().startswith("<!DOCTYPE html>")
    for tag in ("html", "head", "h1", "main", "body", "header", "nav"):
        assert page.count(tag) == 1, tag
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert ("html", {"lang": "en"}) in page.tags
    labels = page.attributes("aria-labelledby")
    assert labels and set(labels) <= set(ids)


def test_the_page_needs_no_network(page: Page) -> None:
    assert not {"iframe", "object", "embed", "img"} & {tag for tag, _ in page.tags}
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            if name.split(":")[-1] in ("href", "src", "srcset", "data", "action"):
                assert value is not None
                local = value.startswith("#") or value == "data:,"
                local |= tag == "image" and value.startswith("data:image/png;base64,")  # a map of many cells
                assert local or (tag == "a" and value.startswith("https://arxiv.org/")), (tag, value)
            assert not name.startswith("on")
    style = "".join(data for data, path in page.inside if path.endswith("style"))
    assert style and "@import" not in style and "url(" not in style and "@font-face" not in style
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    script = "".join(
        data for data, path in page.inside if path == "html/body/script" and '"use strict"' in data
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert script and policy is not None
    assert dict(part.split(" ", 1) for part in policy.split("; ")) == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "grid"},
        {},
    ]
    for word in ("eval(", "new Function", "innerHTML", "insertAdjacentHTML", "document.write", "fetch("):
        assert word not in script


def test_links_and_references_lead_somewhere(page: Page) -> None:
    ids = set(page.attributes("id"))
    for value in page.attributes("href"):
        if value.startswith("#"):
            assert value[1:] in ids, value
    for reference in re.findall(r"url\(#([^)]*)\)", page.source):
        assert reference in ids


def test_every_figure_is_there_in_two_widths_with_words_for_it(page: Page) -> None:
    assert page.count("figure") == page.count("figcaption") == len(DRAWN)
    drawings = [attrs for tag, attrs in page.tags if tag == "svg" and "data-axes" in attrs]
    assert len(drawings) == 2 * len(DRAWN)
    widths = {float((attrs["viewbox"] or "").split()[2]) / 72 for attrs in drawings}
    assert sorted(widths) == pytest.approx([plots.SINGLE, plots.DOUBLE])
    for attrs in drawings:
        assert attrs["role"] == "img" and len(attrs["aria-label"] or "") > 30
    for key in DRAWN:
        assert f"figure-{key}" in page.attributes("id")


def test_every_figure_has_a_caption_and_one_place() -> None:
    assert set(plots.FIGURES) == set(CAPTIONS)
    placed = [key for section in PLACES.values() for key in section]
    assert len(placed) == len(set(placed)) and set(placed) <= set(plots.FIGURES)


def test_the_gallery_shows_every_figure(page: Page) -> None:
    shown = [attrs["href"] for tag, attrs in page.tags if tag == "use" and "wide" in (attrs["href"] or "")]
    assert [f"#{key}-wide" for key in DRAWN] == [href for href in shown if href and href.endswith("-wide")]
    assert page.attributes("data-drawing") == [f"{key}-wide" for key in DRAWN]


def test_what_has_a_label_in_a_figure_carries_it_on_the_page(page: Page) -> None:
    """By hand, the curves of the figure of training: each method's with its axes, and its band without."""
    start = page.source.index('<svg id="training-wide"')
    drawing = page.source[start : page.source.index("</svg>", start)]
    for method in ("SGD", "RST", "G-RST", "SAM"):
        assert (
            f'data-series="{method}" data-label="{method}" data-axes="0"><title>{method}</title>' in drawing
        )
        assert f'data-series="{method}" data-label="{method} band"><title>{method} band</title>' in drawing
        assert f'<g data-series="{method}">' in drawing  # its name at the end of the curve
    (axes,) = json.loads(next(a["data-axes"] or "" for _, a in page.tags if a.get("id") == "training-wide"))
    assert axes["x"]["name"] == "epoch" and axes["y"]["name"] == "test accuracy"
    # The last mark of SGD's curve, 10 epochs and .95 - .5/10, is where the axes say.
    curve = re.search(r'data-label="SGD" [^>]*>.*?<path d="M ([^"]*)"', drawing, re.DOTALL)
    assert curve is not None
    x, y = map(float, curve[1].split()[-2:])
    for place, axis, value in ((x, axes["x"], 10), (y, axes["y"], 0.9)):
        begin, end = axis["places"]
        least, most = axis["ends"]
        assert least + (place - begin) / (end - begin) * (most - least) == pytest.approx(value, rel=1e-3)


def test_styles_of_the_drawings_do_not_leak(page: Page) -> None:
    assert page.count("style") == 1
    assert "<!--" not in page.source and "<metadata" not in page.source


def test_the_same_folder_gives_the_same_bytes_in_another_process(
    folder: Path, page: Page, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from rst_theory.report import render;"
        "render(Path(sys.argv[1]), Path(sys.argv[2]));"
        "heavy = {'torch', 'matplotlib.pyplot', 'scipy.stats'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    output = tmp_path / "index.html"
    environment = {**os.environ, "PYTHONHASHSEED": "11"}
    subprocess.run([sys.executable, "-c", code, folder, output], check=True, env=environment)
    assert output.read_text(encoding="utf-8") == page.source


# From claim to evidence.


def test_claims_come_with_verdict_number_evidence_and_link(page: Page) -> None:
    ids = ["C1", "C2", "C3", "C4", "C5", "Q2", "Q10"]
    assert [i for i in page.attributes("id") if i.startswith("claim-")] == [f"claim-{i}" for i in ids]
    claims = page.text[page.text.index("claims and their verdicts") : page.text.index("Run again on this")]
    parts = re.split(r"(?=[CQ]\d+ [A-Z])", claims)[-len(ids) :]
    given = tables()["claims"]
    for part, claim in zip(parts, [*given[:4], None, given[5], given[4]], strict=True):
        if claim is None:
            continue
        for field in ("id", "statement", "verdict"):
            assert claim[field] in part
        assert (claim["number"] or "") in part
        assert (claim["evidence"] or "No evidence yet.") in part
        assert (f"See the figure “{claim['figure']}”." in part) == (claim["figure"] is not None)
    assert "open" in parts[4] and "No evidence yet." in parts[4]  # C5 has no row
    for part, claim in zip(parts[5:], (given[5], given[4]), strict=True):
        for field in NOTES:
            assert claim[field] in part
        assert f"Rule{claim['rule']}" in part and "What would change our mind" in part
    assert "Rule" not in parts[0]


def test_the_verdicts_stand_first_in_one_table(page: Page) -> None:
    overview = page.tables[0]
    assert [row[0].split()[0] for row in overview[1:]] == ["C1", "C2", "C3", "C4", "C5", "Q2", "Q10"]
    assert overview[1][1].split() == ["✓", "verified"] and overview[1][2] == "1.498 pairs a step"
    assert overview[6][0] == "Q2 The title of q2" and overview[6][2] == "–"
    assert overview[5][1].split() == ["○", "open"]


def test_questions_come_with_their_figures(page: Page) -> None:
    section = page.text[page.text.index("5 The questions", page.text.index("4 Training a")) :]
    assert section.index("Q2 The title of q2") < section.index("Q10 The title of q10")
    assert "See the figure “cost”." in section[: section.index("Q10 The")]  # it stands in its own section


# The smaller run on this machine.


def test_without_a_smaller_run_the_page_says_so(page: Page, tmp_path: Path) -> None:
    assert "Nothing was run again for this page" in page.text
    (tmp_path / "fresh").mkdir()
    again = Page(render(tmp_path, tmp_path / "index.html", tmp_path / "fresh"))
    assert "Nothing was run again for this page" in again.text
    with pytest.raises(NotADirectoryError, match="nowhere"):
        render(tmp_path, tmp_path / "index.html", tmp_path / "nowhere")


def test_a_smaller_run_that_disagrees_is_said_at_the_top(tmp_path: Path) -> None:
    fresh = write(tmp_path / "fresh", {"recheck": RECHECK, "provenance": tables()["provenance"]})
    page = Page(render(tmp_path, tmp_path / "index.html", fresh))
    assert page.text.index("1 values differ on this machine.") < page.text.index("claims and their verdicts")
    assert "1 of 1 204 values differ from the committed tables." in page.text.replace("\u202f", " ")
    assert "is 1.20 × 10⁻⁷." in page.text  # 1204 comparisons at 1e-10 each
    rows = page.tables[1][1:]
    assert rows[0] == ["digits summary", "accuracy", "3 of 4", "1.00 × 10⁻¹²", "SAM", "0.750", "0.915"]
    assert rows[1][2].replace("\u202f", " ") == "1 200 of 1 200" and rows[1][4:] == ["–", "–", "–"]


def test_a_smaller_run_that_agrees(tmp_path: Path) -> None:
    page = Page(
        render(tmp_path, tmp_path / "index.html", write(tmp_path / "fresh", {"recheck": RECHECK[:1]}))
    )
    assert "All 1 200 values agree with the committed tables." in page.text.replace("\u202f", " ")
    assert "differ on this machine" not in page.text


def test_headlines_are_the_numbers_of_the_tables(page: Page) -> None:
    for expected in (
        "+0.077 [+0.073, +0.082] at 99 % test accuracy of G-RST over SGD on digits with noisy labels "
        "(0.917 against 0.840)",
        "+0.002 [−0.002, +0.007] at 99 % test accuracy of G-RST over SAM",
        "75 % of SAM's propagation pairs",
        "9 of 9 simulated settings respect the master bound; bound over measured runs from 1.50 to 1.50",
        "12 of 12 training runs spent exactly the pairs",
    ):
        assert expected in page.text


def test_tables_hold_the_numbers_of_the_results(page: Page) -> None:
    _, cost, measured, agreement, training, runs = page.tables
    assert agreement[1:] == [
        ["nonconvex average", "400", "0", "1.00", "2.50"],
        ["sgd average", "401", "1", "1.00", "2.50"],
    ]
    assert len(cost) == 1 + 2 + 4  # head, two groups, four schedules
    assert cost[2][0].startswith("constant p=0.3") and cost[2][1:7] == [
        "60", "[44, 77]", "6.50", "1.30", "0.650", "60",
    ]  # fmt: skip
    assert cost[3][6] == "100 or 101"
    assert cost[2][9] == "3/10" and cost[-1][9] == "–"
    assert len(measured) == 1 + 3 + 9
    assert measured[2] == ["SGD", "0.0123 [0.0119, 0.0127]", "0.0185", "1.50", "0.500", "1", "450"]
    assert measured[-1][1:3] == ["(6.78 [6.58, 6.98]) × 10⁻⁹", "1.02 × 10⁻⁸"]
    assert len(training) == 1 + 4
    assert training[3][0].startswith("G-RST")
    assert training[3][1:] == [
        "0.917 [0.906, 0.929]", "+0.077 [+0.073, +0.082]", "+0.002 [−0.002, +0.007]", "1.50", "1.50",
        "1.50 [1.25, 1.75]",
    ]  # fmt: skip
    assert training[1][2] == "–" and training[4][3] == "–"
    assert len(runs) == 1 + 12
    assert runs[2] == ["RST", "0", "0.900", "600", "600", "600 [574, 626]", "400", "1.50", "1.25"]


def test_the_bound_comes_with_its_formula_assumptions_and_domain(page: Page) -> None:
    section = page.text[page.text.index("2 Bounds beside") : page.text.index("4 Training a")]
    assert bounds.nonconvex_average.title in section and bounds.nonconvex_average.source in section
    formulas = [attrs["alttext"] for tag, attrs in page.tags if tag == "math"]
    for line in bounds.nonconvex_average.latex().split(",\\quad "):
        assert line in formulas
    for condition in bounds.nonconvex_average.domain:
        assert condition.latex in formulas
    for assumption in bounds.nonconvex_average.assumptions:
        for i, part in enumerate(assumption.value.split("$")):
            assert part in formulas if i % 2 else " ".join(part.split()) in section


def test_a_violated_bound_is_said(tmp_path: Path) -> None:
    contents = {"bounds": tables()["bounds"]}
    contents["bounds"][0].update(bound=0.011, ratio=0.894)
    page = Page(render(write(tmp_path, contents), tmp_path / "index.html"))
    assert "8 of 9 simulated settings" in page.text
    assert page.tables[1][2][3] == "0.894 violated"


def test_provenance_and_how_to_make_it_again(page: Page) -> None:
    section = page.text[page.text.index("7 How this was made", page.text.index("4 Training a")) :]
    for expected in (
        "2024-02-03T04:05:06+00:00",
        "0123456789abcdef",
        "Python 3.11.9, numpy 2.0.0",
        "make report",
    ):
        assert expected in section
    assert "cost 1.50, training 20.0" in section
    assert "A quick run." not in page.text


def test_a_quick_run_says_so(tmp_path: Path) -> None:
    contents = {"provenance": {**tables()["provenance"], "quick": True, "revision": None}}
    page = Page(render(write(tmp_path, contents), tmp_path / "index.html"))
    assert "A quick run." in page.text and "revision" not in page.text


# Folders that are not complete, files that are not right, texts that are hostile.


def test_an_empty_folder_gives_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    page = Page(render(tmp_path, tmp_path / "index.html"))
    for name in {"claims", "agreement", "provenance", *(source for source, _ in plots.FIGURES.values())}:
        assert f"{name}.json is not in the results folder" in page.text
    assert page.text.count("No evidence yet.") == 5
    assert page.count("figure") == 0 and page.count("table") == 1


def test_a_figure_that_is_not_there_is_not_linked(tmp_path: Path) -> None:
    contents = {name: tables()[name] for name in ("claims", "digits_summary")}
    page = Page(render(write(tmp_path, contents), tmp_path / "index.html"))
    assert "The figure “pairs” is not there yet." in page.text
    assert "digits_runs.json is not in the results folder" in page.text
    assert "#figure-pairs" not in page.attributes("href")


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="nowhere"):
        render(tmp_path / "nowhere", tmp_path / "index.html")


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("cost", {"share": "half"}, r"cost\.json, row 1: field 'share'"),
        ("claims", {"verdict": "true"}, r"claims\.json, row 1: field 'verdict' must be one of verified"),
        ("claims", {"figure": "no such"}, r"claims\.json, row 1: field 'figure'.*'no such'"),
        ("claims", {"id": "C2"}, r"claims\.json, row 2: field 'id' repeats 'C2'"),
        ("bounds", {"measured": 0.0}, r"bounds\.json, row 1: field 'measured'"),
    ],
)
def test_a_malformed_file_leaves_the_old_page(
    name: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    contents = {name: tables()[name]}
    contents[name][0].update(change)
    folder = write(tmp_path / "results", contents)
    output = tmp_path / "index.html"
    output.write_text("the page before")
    with pytest.raises(plots.ResultsError, match=message):
        render(folder, output)
    assert output.read_text() == "the page before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "results"]


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}&lt;$x$ --><style>"
    contents = tables()
    for name, content in contents.items():
        for row in [content] if isinstance(content, dict) else content:
            for field, kind in SCHEMA[name].items():
                if (
                    kind.kind in ("text", "parameter")
                    and not kind.choices
                    and (name, field) != ("claims", "figure")
                ):
                    row[field] = hostile + (row["id"] if (name, field) == ("claims", "id") else "")
                elif kind.kind == "names":
                    row[field] = {hostile: hostile}
                elif kind.kind == "timings":
                    row[field] = {hostile: 1.0}
    fresh = write(tmp_path / "fresh", {"recheck": [{**RECHECK[1], "worst": hostile}]})
    page = Page(render(write(tmp_path, contents), tmp_path / "index.html", fresh))
    assert "img" not in {tag for tag, _ in page.tags}
    assert page.count("style") == 1 and page.count("script") == 2
    shown = [data for data, path in page.inside if not path.endswith("script")]
    assert "49" not in [word for data in shown for word in data.split()]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.text.count("<script>alert(1)</script>") > 20


# Numbers.


@pytest.mark.parametrize(
    "x, text",
    [
        (0, "0"),
        (0.955, "0.955"),
        (0.9999, "1.00"),
        (1.4801, "1.48"),
        (-0.0341, "−0.0341"),
        (12.345, "12.3"),
        (999.6, "1 000"),
        (12345, "12 300"),
        (123456, "1.23 × 10⁵"),
        (0.00012, "0.000120"),
        (0.0000123, "1.23 × 10⁻⁵"),
        (-1e-20, "−1.00 × 10⁻²⁰"),
    ],
)
def test_three_significant_digits(x: float, text: str) -> None:
    assert numbers.three(x).replace("\u202f", " ") == text


def _read(text: str) -> float:
    plain = text.replace("\u202f", "").replace("−", "-")
    digits, _, power = plain.partition(" × 10")
    return float(digits) * 10.0 ** float(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)


@given(st.floats(1e-300, 1e300), st.booleans())
@example(9.995, False)
@example(0.99999, True)
@settings(max_examples=200)
def test_three_digits_are_close(x: float, negative: bool) -> None:
    x = -x if negative else x
    assert math.isclose(_read(numbers.three(x)), x, rel_tol=5.1e-3)


@pytest.mark.parametrize(
    "numbers_, text",
    [
        ((0.9551, 0.9478, 0.9624), "0.955 [0.948, 0.962]"),
        ((0.28551, 0.28542, 0.28560), "0.28551 [0.28542, 0.28560]"),
        ((0.0, 0.0, 0.0), "0 [0, 0]"),
        ((12.0, 11.0, 13.0), "12.0 [11.0, 13.0]"),
        ((1234.5, 1200.0, 1269.0), "1 234 [1 200, 1 269]"),
        ((2e-8, 1e-8, 3e-8), "(2.00 [1.00, 3.00]) × 10⁻⁸"),
    ],
)
def test_estimates_share_their_decimals(numbers_: tuple[float, float, float], text: str) -> None:
    assert numbers.estimate(*numbers_).replace("\u202f", " ") == text


@given(middle=st.floats(-1e6, 1e6), below=st.floats(0, 1e3), above=st.floats(0, 1e3))
def test_estimates_keep_what_the_interval_tells(middle: float, below: float, above: float) -> None:
    low, high = middle - below, middle + above
    text = numbers.estimate(middle, low, high)
    factor, _, power = text.partition(") × 10")
    scale = _read("1 × 10" + power) if power else 1.0
    shown = [_read(part) * scale for part in re.findall(r"[−\d.\u202f]+", factor)]
    size = max(abs(middle), abs(low), abs(high))
    assert len(shown) == 3
    for value, exact in zip(shown, (middle, low, high), strict=True):
        assert abs(value - exact) <= max(0.0051 * size, 1e-300)
        assert abs(value - exact) <= max(0.51 * (high - low) / 2, 0.0051 * size, 1e-300)


@pytest.mark.parametrize("x, text", [(5, "5"), (1234567, "1 234 567"), (438.6, "438.6"), (2000.0, "2 000")])
def test_counts(x: float, text: str) -> None:
    assert numbers.count(x).replace("\u202f", " ") == text


def test_signs() -> None:
    assert numbers.fixed(0.0771, sign="+") == "+0.077"
    assert numbers.fixed(-0.0771, sign="+") == "−0.077"
    assert numbers.fixed(-0.0001, sign="+") == "0.000"
    assert numbers.interval(-0.01, 0.02, 2, "+") == "[−0.01, +0.02]"


# Formulas.


def tree(latex: str) -> str:
    """The MathML of a formula, as nested tags and texts, checked to be XML."""

    def shown(element: ElementTree.Element) -> str:
        inner = " ".join(filter(None, [(element.text or "").strip(), *map(shown, element)]))
        return f"{element.tag}({inner})"

    root = ElementTree.fromstring(mathml(latex).replace("&nbsp;", "&#160;"))
    assert root.tag == "math" and root.get("alttext") == latex and len(root) == 1
    return " ".join(map(shown, root[0]))


@pytest.mark.parametrize(
    "latex, expected",
    [
        ("p_t", "msub(mi(p) mi(t))"),
        ("x_t^2", "msubsup(mi(x) mi(t) mn(2))"),
        ("x^2_t", "msubsup(mi(x) mi(t) mn(2))"),
        ("{p}_{t}", "msub(mrow(mi(p)) mrow(mi(t)))"),
        ("x^12", "msup(mi(x) mn(1)) mn(2)"),
        ("x^{12}", "msup(mi(x) mrow(mn(12)))"),
        (r"\frac12", "mfrac(mn(1) mn(2))"),
        (r"\tfrac12 L^3", "mfrac(mn(1) mn(2)) msup(mi(L) mn(3))"),
        (r"\frac{3 T}{10}", "mfrac(mrow(mn(3) mi(T)) mrow(mn(10)))"),
        (r"\sqrt{t + 1}", "msqrt(mrow(mi(t) mo(+) mn(1)))"),
        (r"\sqrt[3]{x}", "mroot(mrow(mi(x)) mrow(mn(3)))"),
        (r"\sum_{t=0}^{T - 1} x", "munderover(mo(∑) mrow(mi(t) mo(=) mn(0)) mrow(mi(T) mo(−) mn(1))) mi(x)"),
        (r"\min_{t} c", "munder(mo(min) mrow(mi(t))) mi(c)"),
        (
            r"\left\lceil{\frac{T}{5}}\right\rceil",
            "mrow(mo(⌈) mrow(mrow(mfrac(mrow(mi(T)) mrow(mn(5))))) mo(⌉))",
        ),
        (r"\left.x\right|", "mrow(mrow(mi(x)) mo(|))"),
        (
            r"\begin{cases} 0 & \text{for}\: t < 3 \\1 & \text{otherwise} \end{cases}",
            "mrow(mo({) mtable(mtr(mtd(mrow(mn(0))) mtd(mrow(mtext(for) mspace() mi(t) mo(<) mn(3)))) "
            "mtr(mtd(mrow(mn(1))) mtd(mrow(mtext(otherwise))))))",
        ),
        (r"\mathbb{E}\|\nabla f\|", "mi(𝔼) mo(‖) mi(∇) mi(f) mo(‖)"),
        (r"\cos{\left(x \right)}", "mrow(mi(cos) mo(\u2061)) mrow(mrow(mo(() mrow(mi(x)) mo())))"),
        (r"t \bmod 5 = 0", "mi(t) mo(mod) mn(5) mo(=) mn(0)"),
        (r"f > -\infty", "mi(f) mo(>) mo(−) mi(∞)"),
        (r"\operatorname{harmonic}(T, s)", "mi(harmonic) mo(() mi(T) mo(,) mi(s) mo())"),
        ("f'", "msup(mi(f) mo(′))"),
        ("0.25", "mn(0.25)"),
        (r"\text{<b>&amp;}", "mtext(<b>&amp;)"),
        (r"\operatorname{<b>}", "mi(<b>)"),
        (r"\mathrm{a & b}", "mi(a & b)"),
        ("a < b & c"[:5], "mi(a) mo(<) mi(b)"),
        ("", ""),
    ],
)
def test_formulas_have_the_structure_of_their_latex(latex: str, expected: str) -> None:
    assert tree(latex) == expected


def test_a_minus_after_a_relation_is_a_sign() -> None:
    assert '<mo form="prefix">−</mo>' in mathml("x > -1")
    assert "prefix" not in mathml("x - 1") and "prefix" not in mathml("(x) - 1")


@pytest.mark.parametrize(
    "latex",
    [
        r"\newcommand{x}", r"\frac{1}", "{", "}", "x_", "x^1^2", "_", "a & b", r"a \\ b", r"\left( x",
        r"\right)", r"\left\frac x\right)", r"\begin{array} 1 \end{array}", r"\begin{cases} 1", r"\mathbb{Q}",
        r"\text{a", "\\", r"\left< x \right>", "{" * 5000, r"\sqrt[3", r"\mathrm",
        r"\href{javascript:alert(1)}{x}",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_an_error(latex: str) -> None:
    with pytest.raises(MathError):
        mathml(latex)


PIECES = [*"xT12+-=<>&\"'(){}[]_^,.\\ ", r"\frac", r"\left(", r"\right)", r"\text{", "<b>", r"\begin{cases}"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=300)
def test_any_text_gives_well_formed_mathml_or_an_error(latex: str) -> None:
    try:
        result = mathml(latex)
    except MathError:
        return
    root = ElementTree.fromstring(result.replace("&nbsp;", "&#160;"))
    wanted = {
        "mfrac": 2,
        "msub": 2,
        "msup": 2,
        "munder": 2,
        "mover": 2,
        "mroot": 2,
        "msubsup": 3,
        "munderover": 3,
    }
    assert {e.tag for e in root.iter()} <= {
        *wanted, "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msqrt", "mtable", "mtr", "mtd",
    }  # fmt: skip
    for element in root.iter():
        assert len(element) == wanted.get(element.tag, len(element))


def _schedules() -> list[rst.Schedule]:
    families = [
        rst.InverseSqrt(1.0),
        rst.Periodic(5),
        rst.Joined(((rst.Constant(0.2), 0.5), (rst.Linear(0, 1), 0.5))),
        rst.FromExpression("0.5+0.5*cos(pi*t/T)"),
        rst.FromExpression("exp(-t/T) if t < T/2 else 0"),
    ]
    return [*(preset(name, 0.3) for name in PRESETS), *families]


@pytest.mark.parametrize("schedule", _schedules(), ids=repr)
def test_every_schedule_and_its_mean_can_be_shown(schedule: rst.Schedule) -> None:
    t, T = QUANTITIES["t"].symbol, QUANTITIES["steps"].symbol
    mathml(sympy.latex(schedule.expression(t, T)))
    mathml(sympy.latex(closed_form(schedule).mean))


@pytest.mark.parametrize("name", list(bounds.ALL))
def test_every_bound_assumption_and_condition_can_be_shown(name: str) -> None:
    bound = bounds.ALL[name]
    conditions = [c.latex for c in bound.domain if isinstance(c, bounds.Condition)]
    texts = [bound.latex(), *conditions]
    texts += [part for a in bound.assumptions for part in a.value.split("$")[1::2]]
    for text in texts:
        mathml(text, display=True)


def test_a_formula_beyond_us_is_shown_as_code(tmp_path: Path) -> None:
    contents = {"cost": tables()["cost"]}
    contents["cost"][0]["formula"] = r"\unknown{<b>}"
    page = Page(render(write(tmp_path, contents), tmp_path / "index.html"))
    assert r"\unknown{<b>}" in [cell for table in page.tables for row in table for cell in row]
    assert ("\\unknown{<b>}", "code") in [(data, path.split("/")[-1]) for data, path in page.inside]


def test_of_a_smaller_run_the_comparison_alone_is_read(tmp_path: Path) -> None:
    fresh = write(tmp_path / "fresh", {"recheck": [RECHECK[0]]})
    (fresh / "collapse.json").write_text("rows of one seed, which have no intervals", encoding="utf-8")
    page = Page(render(write(tmp_path, {"cost": tables()["cost"]}), tmp_path / "index.html", fresh))
    assert RECHECK[0]["table"] in page.text
