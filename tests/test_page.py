"""The page in a browser: what it shows, loads and does, on wide and on narrow screens, and in print."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_plots import write
from test_report import RECHECK, tables

import rst_theory as rst
from rst_theory import plots
from rst_theory.report import explorer, numbers, render

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None and os.environ.get("CI"):
    raise RuntimeError("no chromium: .ci/run installs it")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

# A label that would end the script or begin an element, were it not escaped.
HOSTILE = "</script><img src=x onerror=alert(1)>'\""
WIDTHS = (1200, 390, 320)
SLOW = ("tightness", "one_step", "price")  # to draw


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    contents = tables()
    for name in SLOW:
        del contents[name]
    for row in contents["curves"]:
        row["schedule"] = HOSTILE if row["schedule"] == "Periodic(2)" else row["schedule"]
    fresh = write(folder / "fresh", {"recheck": RECHECK, "provenance": contents["provenance"]})
    return render(write(folder / "results", contents), folder / "index.html", fresh)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage"],
        )
        yield chromium
        chromium.close()


class Opened:
    """The page, opened without a network; what it asked for and complained about is kept."""

    def __init__(self, browser: Any, path: Path, width: int, **options: Any) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        self.context.set_offline(True)
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " (event) => console.error('violation: ' + event.violatedDirective))"
        )
        self.page.goto(path.as_uri())

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).text_content())

    def set(self, name: str, index: int) -> None:
        """Move a slider, or choose a family, as a reader does."""
        control = self.page.locator(f"#explorer [name={name}]")
        control.select_option(str(index)) if name == "family" else control.fill(str(index))


@pytest.fixture(scope="module")
def opened(browser: Any, path: Path) -> Iterator[dict[int, Opened]]:
    pages = {width: Opened(browser, path, width, has_touch=width < 400) for width in WIDTHS}
    yield pages
    for one in pages.values():  # after all that the tests did with them
        assert one.complaints == []
        assert one.requests == [path.as_uri()]
        one.context.close()


@pytest.fixture
def wide(opened: dict[int, Opened]) -> Opened:
    return opened[1200]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_loaded_and_nothing_is_wrong(opened: dict[int, Opened], path: Path, width: int) -> None:
    assert opened[width].requests == [path.as_uri()]
    assert opened[width].complaints == []
    assert not opened[width].page.locator("img").count()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_scrolls_sideways(opened: dict[int, Opened], width: int) -> None:
    page = opened[width].page
    scroll, client = page.evaluate(
        "[document.scrollingElement.scrollWidth, document.scrollingElement.clientWidth]"
    )
    assert scroll <= client == width
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= client


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_shown_once_at_a_readable_size(opened: dict[int, Opened], width: int) -> None:
    sizes = opened[width].page.evaluate(
        """() => [...document.querySelectorAll('figure')].map((figure) => [figure.id,
             [...figure.querySelectorAll('svg')].map((svg) => svg.getBoundingClientRect())
               .filter((box) => box.width > 0).map((box) => [box.width, box.height])])"""
    )
    drawn = {key for key, (source, _) in plots.FIGURES.items() if source in {*tables()} - {*SLOW}}
    assert {key for key, _ in sizes} == {f"figure-{key}" for key in drawn}
    for key, shown in sizes:
        assert len(shown) == 1, key
        assert shown[0][0] > 0.7 * width and shown[0][1] > 60, (key, shown)


# The explorer.


def _bound(schedule: Any, T: int, eta: float, rho: float, gamma: float) -> float:
    """The master bound by hand, from its formula in paper_notes/master_bound.md."""
    L, sigma, gap = explorer.CONSTANTS.L, explorer.CONSTANTS.sigma, explorer.GAP
    U2 = C = W = 0.0
    for p in schedule.values(T):
        a, q = eta * (1 - L * eta / 2), float(p) * gamma
        W += a
        U2 += (q * L * rho * eta * abs(1 - L * eta)) ** 2 / a
        C += q * L**2 * rho * eta**2 * sigma + L * eta**2 / 2 * (sigma**2 + q * gamma * (L * rho) ** 2)
    C += gap
    return ((math.sqrt(U2) + math.sqrt(U2 + 4 * C)) / 2) ** 2 / W


CHOICES = [
    (0, (3,), rst.Constant(0.3), (0, 0, 0, 0)),
    (1, (1, 3), rst.Linear(0.25, 0.75), (1, 3, 2, 2)),
    (2, (2, 0), rst.Cosine(1.0, 0.0), (2, 6, 3, 3)),
    (3, (1, 1), rst.Piecewise(0.25, 0.75, 0.25), (1, 2, 1, 1)),
    (4, (4,), rst.Periodic(5), (2, 1, 3, 0)),
    (5, (1,), rst.InverseSqrt(0.5), (0, 5, 0, 3)),
]


@pytest.mark.parametrize("family, parameters, schedule, others", CHOICES)
def test_sliders_show_what_the_package_computes(
    wide: Opened, family: int, parameters: tuple[int, ...], schedule: Any, others: tuple[int, int, int, int]
) -> None:
    wide.set("family", family)
    for i, index in enumerate(parameters):
        wide.set(f"parameter-{i}", index)
    for name, index in zip(("T", "eta", "rho", "gamma"), others, strict=True):
        wide.set(name, index)
    T, eta, rho, gamma = (
        values[i]
        for values, i in zip(
            (explorer.STEPS, explorer.ETA, explorer.RHO, explorer.GAMMA), others, strict=True
        )
    )
    law = rst.CostLaw(schedule, T)
    low, high = law.interval(0.99)
    assert wide.text("#explorer-schedule-says").startswith(f"{schedule}, T = {T}, ")
    assert float(wide.text("#explorer-mean-says")) == round(law.mean, 1)
    assert wide.text("#explorer-interval-says") == f"[{low}, {high}]"
    assert float(wide.text("#explorer-sgd-says")) == float(f"{law.pairs_relative_to_sgd:.3g}")
    assert float(wide.text("#explorer-sam-says")) == float(f"{law.pairs_relative_to_sam:.3g}")
    for name, one, mixing in (
        ("bound", schedule, gamma),
        ("bound-sgd", rst.Constant(0.0), 1.0),
        ("bound-sam", rst.Constant(1.0), 1.0),
    ):
        shown = float(wide.text(f"#explorer-{name}-says"))
        assert shown == pytest.approx(_bound(one, T, eta, rho, mixing), rel=5.1e-3)
    # The drawings: p(t) from its least to its most, and as many steps of the law as it has chances.
    p = schedule.probabilities(T)
    heights = [150 - 138 * float(v) for v in (p.min(), p.max())]  # as the frame lies in the drawing
    drawn = _places(wide, "#explorer-p .curve")[:, 1]
    assert [drawn.max(), drawn.min()] == pytest.approx(heights, abs=0.1)
    bars = _places(wide, "#explorer-law .curve")
    shown_chances = int((law.pmf() / law.pmf().max() >= 0.5e-3).sum())
    assert abs((len(bars) - 2) // 2 - shown_chances) <= 1


def _places(opened: Opened, selector: str) -> Any:
    d = opened.page.locator(selector).get_attribute("d")
    return np.array([[float(x) for x in pair.split()] for pair in re.findall(r"[ML]([-\d. ]+)", d)])


@pytest.mark.parametrize("name", ["parameter-0", "parameter-1", "T", "eta", "rho", "gamma"])
def test_the_keyboard_moves_every_slider_and_the_drawings_follow(wide: Opened, name: str) -> None:
    wide.set("family", 0)
    wide.set("family", 1)  # a family begins in the same place whenever it is chosen
    for other, index in (("parameter-1", 2), ("T", 1), ("eta", 1), ("rho", 1), ("gamma", 1)):
        wide.set(other, index)
    slider = wide.page.locator(f"#explorer [name={name}]")

    def drawn() -> list[str]:
        paths = wide.page.locator("#explorer .panel path, #explorer .panel circle")
        return list(paths.evaluate_all("(all) => all.map((one) => one.outerHTML)"))

    before, value = drawn(), slider.get_attribute("aria-valuetext")
    slider.focus()
    wide.page.keyboard.press("ArrowRight")
    assert drawn() != before
    assert slider.get_attribute("aria-valuetext") != value
    wide.page.keyboard.press("ArrowLeft")
    assert drawn() == before and slider.get_attribute("aria-valuetext") == value


def test_every_control_has_a_name_and_the_numbers_are_read_out(wide: Opened) -> None:
    unnamed = wide.page.evaluate(
        """() => [...document.querySelectorAll('#explorer input, #explorer select')]
             .filter((one) => !one.labels.length || !one.labels[0].textContent.trim()).length"""
    )
    assert unnamed == 0
    assert wide.page.locator("#explorer .numbers[aria-live=polite]").count() == 1


def test_only_the_parameters_of_the_family_are_shown(wide: Opened) -> None:
    for i, family in enumerate(explorer.FAMILIES):
        wide.set("family", i)
        for slot in range(2):
            shown = wide.page.locator(f"#explorer [name=parameter-{slot}]").is_visible()
            assert shown == (slot < len(family.parameters))
        names = wide.page.locator("#explorer [data-parameter]:not([hidden]) span")
        assert names.all_text_contents() == list(family.parameters)


def test_the_grid_is_complete_and_small() -> None:
    for family in explorer.FAMILIES:
        schedules = list(family.schedules())
        assert len(schedules) == math.prod(map(len, family.parameters.values()))
        assert len(family.begin) == len(family.parameters)
        for values, schedule in zip(product(*family.parameters.values()), schedules, strict=True):
            assert schedule == family.make(*values)


# The figures.


def test_what_the_pointer_is_at_is_named_and_the_rest_is_dimmed(wide: Opened) -> None:
    page = wide.page
    curve = page.locator('#training-wide [data-label="SAM"]')
    curve.scroll_into_view_if_needed()
    # In the place of the last epoch, 10, where SAM has .95 - .05 + .012.
    x, y = curve.evaluate(
        """(mark) => { const path = mark.querySelector(':scope > path');
             const end = path.getPointAtLength(path.getTotalLength()).matrixTransform(path.getScreenCTM());
             return [end.x, end.y]; }"""
    )
    page.mouse.move(x - 0.5, y)
    tip = page.locator(".tip")
    assert tip.is_visible()
    assert tip.locator("strong").text_content() == "SAM"
    assert tip.locator("span").all_text_contents() == ["epoch: 10", "test accuracy: 0.912"]
    assert "lit" in curve.get_attribute("class")
    assert float(curve.evaluate("(one) => getComputedStyle(one).opacity")) == 1
    other = page.locator('#training-wide [data-label="SGD"]')
    assert float(other.evaluate("(one) => getComputedStyle(one).opacity")) < 0.5
    page.mouse.move(1, 1)
    assert not tip.is_visible()
    assert float(other.evaluate("(one) => getComputedStyle(one).opacity")) == 1


def test_arrow_keys_name_the_series_of_a_figure(wide: Opened) -> None:
    page = wide.page
    page.locator("#figure-convergence .wide").focus()
    names = []
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        names.append(page.locator(".tip strong").text_content())
    assert set(names) == {"SGD", "constant p=0.25", "constant p=0.5", HOSTILE, "SAM"}
    page.keyboard.press("Escape")
    assert not page.locator(".tip").is_visible()


def test_a_tap_names_a_point(opened: dict[int, Opened]) -> None:
    page = opened[390].page
    mark = page.locator('#accuracy-narrow [data-label="SAM"] use').first
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2 + 6, box["y"] + box["height"] / 2)
    assert page.locator(".tip strong").text_content() == "SAM"
    assert "0.915" in page.locator(".tip").inner_text()


def test_a_drawing_can_be_saved(wide: Opened, tmp_path: Path) -> None:
    with wide.page.expect_download() as download:
        wide.page.locator('button[data-drawing="training-wide"]').click()
    assert download.value.suggested_filename == "training.svg"
    download.value.save_as(tmp_path / "training.svg")
    text = (tmp_path / "training.svg").read_text(encoding="utf-8")
    assert text.startswith("<svg ") and 'xmlns="http://www.w3.org/2000/svg"' in text
    wide.requests[:] = [url for url in wide.requests if not url.startswith("data:image/svg+xml")]


# Print, the dark, and no script.


def test_print_hides_controls_and_opens_the_evidence(wide: Opened) -> None:
    page = wide.page
    page.emulate_media(media="print")
    for selector in ("nav", "#explorer form", "#gallery", ".tip"):
        assert not page.locator(selector).is_visible()
    assert page.locator("#explorer .panels").is_visible()
    assert page.locator("#explorer-bound-says").is_visible()
    for form, shown in (("wide", True), ("narrow", False)):
        assert page.locator(f"#figure-cost .{form}").is_visible() == shown
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#claim-Q2 dl").is_visible()
    page.emulate_media(media="screen")


def test_in_the_dark_words_are_light_and_figures_stay_on_white(wide: Opened) -> None:
    def brightness(selector: str, what: str) -> float:
        colour = wide.page.locator(selector).first.evaluate(f"(one) => getComputedStyle(one).{what}")
        return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 765

    wide.page.emulate_media(color_scheme="dark")
    assert brightness("body", "backgroundColor") < 0.2 < 0.8 < brightness("body", "color")
    assert brightness("#figure-cost .wide", "backgroundColor") == 1
    wide.page.emulate_media(color_scheme="light")
    assert brightness("body", "backgroundColor") == 1


def test_without_its_script_the_page_says_so_and_shows_the_rest(browser: Any, path: Path) -> None:
    still = Opened(browser, path, 390, java_script_enabled=False)
    assert still.page.locator("#explorer .scriptless").is_visible()
    assert not still.page.locator("#explorer form").is_visible()
    assert still.page.locator("#figure-cost .narrow svg").is_visible()
    assert still.page.locator("#cost-narrow title").count() > 0
    assert not still.page.locator("#gallery button").first.is_visible()
    still.context.close()


def test_three_digits_are_those_of_the_page() -> None:
    """The explorer stores what `numbers.three` shows, so that nothing is rounded twice."""
    for x in (0.123456, 1.98765, 0.00123456, 12.3456):
        assert float(numbers.three(x)) == float(f"{x:.3g}")
