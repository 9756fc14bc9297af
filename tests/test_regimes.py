"""The map of the regimes: every cell shows its regime, every regime has its name, no names overlap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rst_theory.bounds.one_step import Regime, regime
from rst_theory.notation import DomainError
from rst_theory.plots import DOUBLE, SINGLE, encoded, regimes
from rst_theory.plots.regimes import plot_regimes

NAMES = [name.name.lower() for name in Regime]


def boxes_of(axes):
    """The names written on a map, with the boxes around them in its coordinates."""
    renderer = axes.get_figure().canvas.get_renderer()
    to_data = axes.transData.inverted()
    return {text.get_text(): text.get_window_extent(renderer).transformed(to_data) for text in axes.texts}


def maps(figure):
    return [axes for axes in figure.axes if axes.get_title(loc="left").startswith("γ")]


@pytest.fixture(scope="module")
def figure():
    return plot_regimes()


@pytest.mark.parametrize("column, gamma", [(0, 1.0), (1, 4.0), (2, 8.0)])
def test_every_cell_has_the_colour_of_its_regime(figure, column, gamma):
    axes = maps(figure)[column]
    assert axes.get_title(loc="left") == f"γ = {gamma:g}"
    colours = {name: tuple(regimes._fill(name)) for name in Regime}
    assert len(set(colours.values())) == len(Regime)
    assert to_rgb(axes.get_facecolor()) == pytest.approx(colours[Regime.DESCENT])
    areas = [
        (tuple(area.get_facecolor()[0][:3]), path) for area in axes.collections for path in area.get_paths()
    ]
    compared = 0
    for x, y in np.random.default_rng(column).uniform(0.01, 0.99, (300, 2)):
        around = {regime(x + dx, (y + dy) * gamma, gamma) for dx in (-1e-2, 1e-2) for dy in (-1e-2, 1e-2)}
        if around == {regime(x, y * gamma, gamma)}:  # away from the borders, which are drawn to half a cell
            (name,) = around
            (shown,) = (colour for colour, path in areas if path.contains_point((x, y)))
            assert shown == pytest.approx(colours[name]), (x, y, name)
            compared += 1
    assert compared > 200


@pytest.mark.parametrize("width", [SINGLE, DOUBLE])
def test_every_regime_on_a_map_is_named_once_and_names_do_not_overlap(width):
    figure = plot_regimes((1.0, 8.0), width=width)
    for axes, gamma in zip(maps(figure), (1.0, 8.0), strict=True):
        middles = (np.arange(40) + 0.5) / 40
        there = {regime(e, r * gamma, gamma).name.lower() for e, r in itertools.product(middles, middles)}
        written = [text.get_text() for text in axes.texts]
        assert sorted(written) == sorted({*written})
        assert there | {"descent"} <= {*written} <= {*NAMES}
        boxes = boxes_of(axes).values()
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert all(box.x1 <= axes.get_xlim()[1] for box in boxes)


def test_a_name_lies_in_its_region_or_a_line_leads_there_that_crosses_no_name(figure):
    for axes, gamma in zip(maps(figure), (1.0, 4.0, 8.0), strict=True):
        inside = {name: box for name, box in boxes_of(axes).items() if box.x0 < 1}
        for name, box in inside.items():
            for x, y in itertools.product((box.x0, box.x1), (box.y0, box.y1)):
                assert regime(x, y * gamma, gamma).name.lower() == name
        lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 1]
        assert len(lines) == len(axes.texts) - len(inside)
        for start, end in lines:
            assert regime(start[0], start[1] * gamma, gamma) in (Regime.SLIVER, Regime.INTERIOR)
            along = start + np.linspace(0, 1, 500)[:, None] * (end - start)
            assert not any(box.contains(x, y) for box in inside.values() for x, y in along)


def test_the_sketches_are_worst_functions_of_their_regimes(figure):
    sketches = [axes for axes in figure.axes if axes not in maps(figure)]
    assert [axes.get_title(loc="left") for axes in sketches] == NAMES
    for axes, (name, (e, ratio, gamma)) in zip(sketches, regimes._EXAMPLE.items(), strict=True):
        assert regime(e, ratio * gamma, gamma) is name
        _, curve, here, perturbed, end = axes.lines
        assert (here.get_xdata()[0], perturbed.get_xdata()[0]) == (0, 1)
        assert here.get_ydata()[0] == pytest.approx(ratio * gamma)
        step = e * ((1 - gamma) * here.get_ydata()[0] + gamma * perturbed.get_ydata()[0])
        assert end.get_xdata()[0] == pytest.approx(-step)
        for mark in (here, perturbed, end):
            assert np.interp(mark.get_xdata()[0], *curve.get_data()) == pytest.approx(mark.get_ydata()[0])


def test_the_same_arguments_give_the_same_bytes(figure):
    for ending in ("png", "svg"):
        assert encoded(plot_regimes((2.0,)), ending) == encoded(plot_regimes((2.0,)), ending)


@pytest.mark.parametrize(
    "gammas, message", [((), "at least one"), ((1.0, 0.0), "gamma > 0"), ((-1.0,), "gamma")]
)
def test_the_coefficients_are_checked(gammas, message):
    with pytest.raises(DomainError, match=message):
        plot_regimes(gammas)
