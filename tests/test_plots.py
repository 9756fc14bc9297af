"""Figures: what is drawn equals the tables, no labels overlap, and the same results give the same bytes."""

from __future__ import annotations

import copy
import functools
import json
import os
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from matplotlib.colors import to_rgb
from scipy import stats
from scipy.optimize import isotonic_regression

import rst_theory as rst
from rst_theory import plots
from rst_theory.files import read_table, write_json, write_table
from rst_theory.plots import gallery, style
from rst_theory.plots.schedules import resolved
from rst_theory.plots.tables import SCHEMA

METHODS = ("SGD", "RST", "G-RST", "SAM")


def _cost() -> list[dict[str, Any]]:
    shapes = {
        "constant p=0.3": [0.3] * 5,
        "linear1 p=0.5": [0.0, 0.25, 0.5, 0.75, 1.0],
        "Joined(Linear(0.0, 1.0) for 0.25, Constant(0.5) for 0.5, Cosine(1.0, 0.0) for 0.25)": [0.5] * 5,
        "Periodic(2)": [1.0, 0.0, 0.0, 0.0, 0.0],
    }
    shares = [0.3, 0.5, 0.5, 0.5]
    return [
        {
            "name": name,
            "group": "preset" if i < 2 else "family",
            "schedule": f"Schedule({i})",
            "steps": 200,
            "formula": r"\frac{3 t}{5 \max\left(1, T - 1\right)}",
            "mean_formula": r"\left\lceil{\frac{T}{2}}\right\rceil",
            "limit": None if i == 3 else "3/10",
            "mean": 200 * share,
            "standard_deviation": 6.5,
            "low": round(200 * share) - 16,
            "high": round(200 * share) + 17,
            "share": share,
            "pairs_vs_sgd": 1 + share,
            "pairs_vs_sam": (1 + share) / 2,
            "systematic_low": round(200 * share),
            "systematic_high": round(200 * share) + i % 2,
            "values": values,
        }
        for i, ((name, values), share) in enumerate(zip(shapes.items(), shares, strict=True))
    ]


def _bounds() -> list[dict[str, Any]]:
    measured = {"SGD": 0.0123, "constant p=0.5": 0.0345, "SAM": 0.0678}
    return [
        {
            "problem": problem,
            "schedule": name,
            "mean_p": 0.5,
            "steps": 300,
            "eta": 0.2,
            "rho": "InverseSqrt(0.5)",
            "gamma": 1.0,
            "replicas": 64,
            "measured": scale * value,
            "standard_error": 0.01 * scale * value,
            "low": 0.97 * scale * value,
            "high": 1.03 * scale * value,
            "bound": 1.5 * scale * value,
            "ratio": 1.5,
            "expected_pairs": 450.0,
        }
        for problem, scale in (("quadratic", 1.0), ("flat and sharp", 40.0), ("rippled", 1e-7))
        for name, value in measured.items()
    ]


def _curves() -> list[dict[str, Any]]:
    t = [0, 1, 3, 9, 29, 99]
    curves = []
    for problem in ("quadratic", "flat and sharp"):
        for i, name in enumerate(("SGD", "constant p=0.25", "constant p=0.5", "Periodic(2)", "SAM")):
            mean = [2.0 * (1 + 0.1 * i) / (1 + s) + 1e-3 for s in t]
            low, high = [0.9 * m for m in mean], [1.1 * m for m in mean]
            curves.append(
                {"problem": problem, "schedule": name, "t": t, "mean": mean, "low": low, "high": high}
            )
    return curves


def _runs() -> list[dict[str, Any]]:
    p = dict(zip(METHODS, (0.0, 0.5, 0.5, 1.0), strict=True))
    return [
        {
            "method": method,
            "p": p[method],
            "gamma": 2.0 if method == "G-RST" else 1.0,
            "seed": seed,
            "accuracy": 0.9 + 0.001 * seed,
            "pairs": 400 + int(400 * p[method]) + (7 * seed if p[method] == 0.5 else 0),
            "planned_pairs": 400 + int(400 * p[method]) + (7 * seed if p[method] == 0.5 else 0),
            "expected_pairs": 400 + 400 * p[method],
            "expected_low": 400 + int(400 * p[method]) - (26 if p[method] == 0.5 else 0),
            "expected_high": 400 + int(400 * p[method]) + (26 if p[method] == 0.5 else 0),
            "steps": 400,
            "seconds": 1.5,
            "seconds_vs_sgd": 1.25,
        }
        for seed in range(3)
        for method in METHODS
    ]


def _summary() -> list[dict[str, Any]]:
    accuracies = dict(zip(METHODS, (0.8401, 0.8812, 0.9173, 0.9154), strict=True))
    rows = []
    for method, accuracy in accuracies.items():
        row: dict[str, Any] = {
            "method": method,
            "p": 0.5,
            "gamma": 1.0,
            "runs": 3,
            "accuracy": accuracy,
            "accuracy_low": accuracy - 0.011,
            "accuracy_high": accuracy + 0.012,
            "pairs_per_step": {"SGD": 1.0, "SAM": 2.0}.get(method, 1.4983),
            "expected_pairs_per_step": {"SGD": 1.0, "SAM": 2.0}.get(method, 1.5),
            "seconds_vs_sgd": 1.5,
            "seconds_low": 1.25,
            "seconds_high": 1.75,
        }
        for other in ("SGD", "SAM"):
            difference = accuracy - accuracies[other]
            row[f"versus_{other.lower()}"] = difference
            row[f"versus_{other.lower()}_low"] = difference - 0.004
            row[f"versus_{other.lower()}_high"] = difference + 0.005
        rows.append(row)
    return rows


def _history() -> list[dict[str, Any]]:
    return [
        {
            "method": method,
            "epoch": epoch,
            "accuracy": 0.95 - 0.5 / epoch + 0.004 * i,
            "low": 0.94 - 0.5 / epoch + 0.004 * i,
            "high": 0.96 - 0.5 / epoch + 0.004 * i,
        }
        for i, method in enumerate(METHODS)
        for epoch in range(1, 11)
    ]


CLAIMS = [
    {
        "id": f"C{i}",
        "statement": f"The statement of claim {i}.",
        "verdict": verdict,
        "number": number,
        "evidence": evidence,
        "figure": figure,
        "source": f"paper_notes/claims.md#c{i}",
        **dict.fromkeys(("title", "rule", "change", "command")),
    }
    for i, (verdict, number, evidence, figure) in enumerate(
        [
            ("verified", "1.498 pairs a step", "All runs spent what was announced.", "pairs"),
            ("supported", "0 violations", "The bound held.", "bounds"),
            ("refuted", "13 % apart", "They differ.", "cost"),
            ("open", None, None, None),
        ],
        start=1,
    )
]
PROVENANCE = {
    "version": "0.1.0",
    "revision": "0123456789abcdef",
    "quick": False,
    "created": "2024-02-03T04:05:06+00:00",
    "seconds": {"cost": 1.5, "training": 20},
    "python": "3.11.9",
    "packages": {"numpy": "2.0.0"},
    "command": "make report",
}


def _tightness() -> list[dict[str, Any]]:
    return [
        {
            "bound": bound,
            "schedule": "constant p=0.5",
            "steps": steps,
            "value": 2.0 * ratio,
            "program": 2.0,
            "exact": bound != "nonconvex_average",
            "ratio": ratio,
        }
        for bound, spread in (("nonconvex_average", 1.7), ("nonconvex_average_unnormalized", 0.1))
        for steps in (1, 2, 3, 4)
        for ratio in (1.0, 1 + spread / 2, 1 + spread)
    ]


def _one_step() -> list[dict[str, Any]]:
    return [
        {
            "function_class": "smooth",
            "ascent": "normalized",
            "regime": regime,
            "points": 1700,
            "unsolved": 0,
            "largest_difference": 6.7e-6,
            "violations": 0,
            "not_sharp": 0,
        }
        for regime in ("descent", "overshoot")
    ]


def _agreement() -> list[dict[str, Any]]:
    return [
        {
            "bound": bound,
            "instances": 1000,
            "compared": 400 + i,
            "violations": i,
            "least_ratio": 1.0004,
            "median_ratio": 2.5,
            "tolerance": 1e-9,
            "false_alarm": 1e-6,
        }
        for i, bound in enumerate(("nonconvex_average", "sgd_average"))
    ]


def _price() -> list[dict[str, Any]]:
    return [
        {
            "method": method,
            "noise": noise,
            "strength": strength,
            "p": p,
            "pairs_vs_sgd": (1 + p) * (1 + 3 * strength**2 * (1 + noise)),
        }
        for noise in (0.0, 1.0, 4.0)
        for method, p in (("SAM", 1.0), ("RST p=0.5", 0.5), ("RST p=0.25", 0.25))
        for strength in (0.0, 0.3, 0.6, 0.9)
    ]


def _scaling() -> list[dict[str, Any]]:
    return [
        {"variable": variable, "value": value, "threads": n, "seconds": 1e-6 * value / n, "exponent": 1.0}
        for variable in ("replicas", "steps", "coordinates")
        for n in (1, 2)
        for value in (10, 100, 1_000, 10_000)
    ]


MEASURED = (
    "realized_cost",
    "allocation",
    "decay_curves",
    "floor_points",
    "floor_exponents",
    "stability",
    "stability_runs",
    "order",
    "collapse",
    "drift",
    "pareto",
)
"""Tables of the questions; their figures are tested against rows of known content beside each question."""


@functools.cache
def _committed() -> dict[str, list[dict[str, Any]]]:
    folder = Path(__file__).parents[1] / "experiments" / "results"
    return {name: read_table(folder / f"{name}.json") for name in MEASURED}


def _recheck() -> list[dict[str, Any]]:
    return [
        {
            "table": table,
            "value": "mean",
            "compared": 32,
            "disagree": i,
            "least_p": 0.5 - 0.4 * i,
            "level": 1e-8,
            "worst": "SGD, 1000",
            "fresh": 1.5,
            "committed": None if i else 1.5,
        }
        for i, table in enumerate(("cost", "bounds"))
    ]


def tables() -> dict[str, Any]:
    """The contents of a complete results folder, by file name."""
    return {
        "cost": _cost(),
        "bounds": _bounds(),
        "curves": _curves(),
        "one_step": _one_step(),
        "tightness": _tightness(),
        "agreement": _agreement(),
        "price": _price(),
        "benchmark_scaling": _scaling(),
        "digits_runs": _runs(),
        "digits_summary": _summary(),
        "digits_history": _history(),
        "fashion_summary": [{"label_noise": noise, **row} for noise in (0.0, 0.3) for row in _summary()],
        **copy.deepcopy(_committed()),
        "recheck": _recheck(),
        "claims": copy.deepcopy(CLAIMS),
        "provenance": copy.deepcopy(PROVENANCE),
    }


def write(folder: Path, contents: dict[str, Any]) -> Path:
    """Write them as the experiments do."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if name in ("curves", "claims", "provenance"):
            write_json(folder / f"{name}.json", content)
        else:
            write_table(folder, name, content)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("results"), tables())


def labelled(axes: Any, label: str) -> Any:
    """The one artist with a label."""
    found = [artist for artist in axes.get_children() if artist.get_label() == label]
    assert len(found) == 1, (label, len(found))
    return found[0]


def points(artist: Any) -> tuple[list[float], list[float]]:
    x, y = artist.get_data()
    return list(map(float, x)), list(map(float, y))


WIDTHS = pytest.mark.parametrize("width", [plots.SINGLE, plots.DOUBLE])


# What is drawn equals the tables.


@WIDTHS
def test_schedules_show_every_p_and_its_mean(width: float) -> None:
    figure = plots.plot_schedules(_cost(), width=width)
    assert len(figure.axes) == 4
    for axes, row in zip(figure.axes, _cost(), strict=True):
        if row["name"] == "Periodic(2)":
            assert all(line.get_label() != "p" for line in axes.lines)
            assert [text.get_text() for text in axes.texts] == ["too fast to draw"]
        else:
            assert points(labelled(axes, "p")) == (np.linspace(0, 1, 5).tolist(), row["values"])
        assert labelled(axes, "mean").get_ydata()[0] == row["share"]
        assert axes.get_title(loc="left") == style.fitted(row["name"], 99) or "…" in axes.get_title(
            loc="left"
        )


@pytest.mark.parametrize(
    "values, mean, expected",
    [
        ([0.5] * 101, 0.5, True),
        (np.linspace(0, 1, 101), 0.5, True),
        ([1.0] + [0.0] * 100, 0.5, False),  # every second step, seen at even steps only
        (np.arange(101) % 2, 0.5, False),
        ([0.2], 0.2, True),
    ],
)
def test_schedules_too_fast_for_their_points_are_told(values: Any, mean: float, expected: bool) -> None:
    assert resolved(np.asarray(values, dtype=float), mean) is expected


@WIDTHS
def test_cost_shows_mean_and_interval_per_step(width: float) -> None:
    (axes,) = plots.plot_cost(_cost(), width=width).axes
    for y, row in enumerate(_cost()):
        assert points(labelled(axes, row["name"])) == ([row["share"]], [y])
        ends = [row["low"] / 200, row["high"] / 200]
        assert points(labelled(axes, f"{row['name']} interval")) == (ends, [y, y])
    shown = [text.get_text() for text in axes.texts]
    assert {"SGD", "SAM", "0.300", "0.500"} <= set(shown)


@WIDTHS
def test_bounds_show_measurement_interval_bound_and_ratio(width: float) -> None:
    rows = _bounds()
    figure = plots.plot_bounds(rows, width=width)
    for axes, problem in zip(figure.axes, ("quadratic", "flat and sharp", "rippled"), strict=True):
        mine = [row for row in rows if row["problem"] == problem]
        assert axes.get_xscale() == "log" and axes.get_title(loc="left") == problem
        for y, row in enumerate(mine):
            name = row["schedule"]
            assert points(labelled(axes, name)) == ([row["measured"]], [y])
            assert points(labelled(axes, f"{name} interval")) == ([row["low"], row["high"]], [y, y])
            assert points(labelled(axes, f"{name} bound")) == ([row["bound"]], [y])
            low, high = axes.get_xlim()
            assert low < row["low"] and row["bound"] < high
        assert [text.get_text() for text in axes.texts] == ["×1.50"] * 3
        assert {text.get_fontweight() for text in axes.texts} == {"normal"}


def test_a_violated_bound_stands_out() -> None:
    rows = _bounds()
    rows[1].update(bound=rows[1]["low"] / 2, ratio=0.485)
    axes = plots.plot_bounds(rows).axes[0]
    assert [text.get_fontweight() for text in axes.texts] == ["normal", "bold", "normal"]
    assert axes.texts[1].get_text() == "×0.485"
    assert axes.texts[1].get_color() != axes.texts[0].get_color()


def test_bounds_of_a_schedule_missing_on_one_problem_stay_in_their_row() -> None:
    rows = _bounds()
    del rows[1]  # constant p=0.5 on the first problem
    axes = plots.plot_bounds(rows).axes[0]
    assert points(labelled(axes, "SAM"))[1] == [1]  # order of first appearance: SGD, SAM, constant
    assert all(artist.get_label() != "constant p=0.5" for artist in axes.get_children())


@WIDTHS
def test_convergence_shows_means_bands_and_ratios_to_sgd(width: float) -> None:
    rows = _curves()
    figure = plots.plot_convergence(rows, width=width)
    assert len(figure.axes) == 4
    for k, problem in enumerate(("quadratic", "flat and sharp")):
        absolute, relative = figure.axes[2 * k : 2 * k + 2]
        mine = [row for row in rows if row["problem"] == problem]
        sgd = np.array(mine[0]["mean"])
        for row in mine:
            t = [s + 1 for s in row["t"]]
            assert points(labelled(absolute, row["schedule"])) == (t, row["mean"])
            x, y = points(labelled(relative, row["schedule"]))
            assert x == t
            np.testing.assert_allclose(y, row["mean"] / sgd, rtol=1e-15)
            band = labelled(absolute, f"{row['schedule']} band").get_paths()[0].vertices
            assert set(row["high"]) <= set(band[:, 1]) and set(row["low"][:-1]) <= set(band[:, 1])
        names = {text.get_text() for text in relative.texts}
        assert names == {row["schedule"] for row in mine}
        assert not absolute.texts


def test_convergence_without_sgd_has_one_panel_per_problem() -> None:
    rows = [row for row in _curves() if row["schedule"] != "SGD"]
    assert len(plots.plot_convergence(rows).axes) == 2


def test_convergence_with_other_steps_than_sgd_is_not_divided() -> None:
    rows = [row for row in _curves() if row["problem"] == "quadratic"]
    rows[1] = {key: value[:-1] if isinstance(value, list) else value for key, value in rows[1].items()}
    assert len(plots.plot_convergence(rows).axes) == 1


def test_curves_of_one_colour_differ_in_dashes() -> None:
    axes = plots.plot_convergence(_curves()).axes[0]
    quarter, half = (labelled(axes, f"constant p={p}") for p in (0.25, 0.5))
    assert quarter.get_color() == half.get_color() and quarter.get_linestyle() != half.get_linestyle()


@WIDTHS
def test_accuracy_shows_means_intervals_and_paired_differences(width: float) -> None:
    rows = _summary()
    first, second = plots.plot_accuracy(rows, width=width).axes
    for row in rows:
        assert points(labelled(first, row["method"])) == ([row["pairs_per_step"]], [row["accuracy"]])
        ends = [row["accuracy_low"], row["accuracy_high"]]
        assert points(labelled(first, f"{row['method']} interval"))[1] == ends
    assert {text.get_text() for text in first.texts} == set(METHODS)
    expected = [("RST", "SGD"), ("G-RST", "SGD"), ("SAM", "SGD"), ("RST", "SAM"), ("G-RST", "SAM")]
    by_method = {row["method"]: row for row in rows}
    for y, (method, other) in enumerate(expected):
        name, key = f"{method} − {other}", f"versus_{other.lower()}"
        row = by_method[method]
        assert points(labelled(second, name)) == ([row[key]], [y])
        assert points(labelled(second, f"{name} interval"))[0] == [row[f"{key}_low"], row[f"{key}_high"]]
    assert second.texts[0].get_text() == "+0.041 [+0.037, +0.046]"
    assert second.texts[3].get_text() == "−0.034 [−0.038, −0.029]"


@WIDTHS
def test_training_shows_every_epoch_and_its_band(width: float) -> None:
    rows = _history()
    (axes,) = plots.plot_training(rows[::-1], width=width).axes  # in any order
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        x, y = points(labelled(axes, method))
        assert x == list(range(1, 11)) and y == [row["accuracy"] for row in mine]
        band = labelled(axes, f"{method} band").get_paths()[0].vertices[:, 1]
        assert {row["high"] for row in mine} <= set(band)
    low, high = axes.get_ylim()
    assert low < min(row["accuracy"] for row in rows if row["epoch"] > 1) and high <= 1


@WIDTHS
def test_pairs_show_spent_planned_and_the_law(width: float) -> None:
    rows = _runs()
    figure = plots.plot_pairs(rows, width=width)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["RST", "G-RST"]
    for axes, method in zip(figure.axes, ("RST", "G-RST"), strict=True):
        mine = [row for row in rows if row["method"] == method]
        for label, key in (("pairs", "pairs"), ("planned", "planned_pairs")):
            assert points(labelled(axes, label)) == ([0, 1, 2], [row[key] / 400 for row in mine])
        for key, value in (
            ("expected_pairs", 1.5),
            ("expected_low", 574 / 400),
            ("expected_high", 626 / 400),
        ):
            np.testing.assert_array_equal(labelled(axes, key).get_data().values, [value] * 3)
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "2"]


def test_pairs_of_certain_cost_alone_are_drawn() -> None:
    rows = [row for row in _runs() if row["method"] in ("SGD", "SAM")]
    assert [axes.get_title(loc="left") for axes in plots.plot_pairs(rows).axes] == ["SGD", "SAM"]


# Rows from result objects.


def test_a_cost_row_is_the_law() -> None:
    law = rst.CostLaw(rst.Linear(0.0, 1.0), 11)
    row = plots.cost_row(law)
    p = np.arange(11) / 10
    assert row["name"] == "Linear(0.0, 1.0)" and row["steps"] == 11
    assert row["share"] == pytest.approx(0.5, rel=1e-15)
    oracle = stats.poisson_binom(p)
    assert (row["low"], row["high"]) == (oracle.ppf(0.005), oracle.ppf(0.995))
    assert sorted(set(row["values"])) == pytest.approx(p.tolist())
    plots.plot_cost([row])
    plots.plot_schedules([row])


def test_a_curve_row_is_the_simulation() -> None:
    run = rst.simulate(
        rst.Quadratic([1.0, 0.1]), rst.Constant(0.5), steps=50, eta=0.5, rho=0.1, replicas=8, seed=1
    )
    row = plots.curve_row(run, "quadratic", "RST", points=7)
    moments = run.squared_gradient_norm
    assert row["t"][0] == 0 and row["t"][-1] == 49 and len(row["t"]) <= 7
    np.testing.assert_array_equal(row["mean"], moments.mean[row["t"]])
    half = stats.norm.isf(0.005) * moments.standard_error[row["t"]]
    np.testing.assert_allclose(np.array(row["high"]) - row["mean"], half, rtol=1e-9, atol=1e-15)
    assert min(row["low"]) >= 0
    plots.plot_convergence([row])


# The look.


def _texts(figure: Any) -> list[Any]:
    """Every text that is seen, with its box, at the resolution of the files."""
    figure.dpi = 200
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [t for t in figure.findobj(mpl.text.Text) if t.get_visible() and t.get_text().strip()]
    texts = [t for t in texts if t not in _beyond(figure)]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts]


def _beyond(figure: Any) -> list[Any]:
    """Labels of ticks beyond the ends of their axis, which exist but are never drawn."""
    return [
        tick.label1
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) - 1e-9 <= tick.get_loc() <= max(axis.get_view_interval()) + 1e-9
    ]


def test_every_setting_is_a_dot_at_its_ratio() -> None:
    rows = _tightness()
    axes = plots.plot_tightness(rows).axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert sorted(float(line.get_xdata()[0]) for line in dots) == sorted(row["ratio"] for row in rows)
    hollow = [line for line in dots if line.get_markerfacecolor() == "none"]
    assert len(hollow) == sum(not row["exact"] for row in rows)
    assert [text.get_text() for text in axes.texts] == ["1.850, 2.70", "1.050, 1.10"]


def test_a_comparison_is_in_units_of_the_worst_case() -> None:
    rows = [
        plots.Comparison("nonconvex_average", 3.0, 2.0, True, 1.0, 0.9, 1.1),
        plots.Comparison("pl_last_iterate", 0.3, 0.2, False, 0.1, 0.1, 0.1),
    ]
    axes = plots.plot_comparison(rows).axes[0]
    drawn = {label: [] for label in ("measured", "worst case", "bound")}
    for line in axes.lines:
        if line.get_label() in drawn:
            drawn[line.get_label()].append(float(line.get_xdata()[0]))
    assert drawn == {"measured": [0.5, 0.5], "worst case": [1.0, 1.0], "bound": [1.5, pytest.approx(1.5)]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["nonconvex average", "pl last iterate"]
    with pytest.raises(ValueError, match="nothing to compare"):
        plots.plot_comparison([])


def test_a_comparison_row_takes_the_metric_of_the_bound() -> None:
    problem = rst.problems.Quadratic([1.0])
    run = rst.simulate(problem, 0.5, steps=2, eta=0.5, rho=0.1, ascent="unnormalized", replicas=16)
    arguments = {"schedule": 0.5, "steps": 2, "eta": 0.5, "rho": 0.1, "gap": 0.5}
    found = rst.bounds.best(problem, ascent="unnormalized", **arguments)
    worst = rst.certify(0.5, steps=2, eta=0.5, rho=0.1, gap=0.5)
    row = plots.comparison_row(found, worst, run)
    assert (row.value, row.worst, row.exact) == (found.value, worst.value, True)
    assert row.measured == pytest.approx(float(run.squared_gradient_norm.mean.mean()))
    assert row.low <= row.measured <= row.high


def test_every_method_is_a_curve_over_the_strength() -> None:
    rows = _price()
    for axes, noise in zip(plots.plot_price(rows).axes, (0.0, 1.0, 4.0), strict=True):
        for line in axes.lines:
            curve = [row for row in rows if (row["method"], row["noise"]) == (line.get_label(), noise)]
            assert list(line.get_xdata()) == [row["strength"] for row in curve]
            assert list(line.get_ydata()) == [row["pairs_vs_sgd"] for row in curve]


def _crowded() -> dict[str, list[dict[str, Any]]]:
    """Rows that tempt labels to overlap: ties, long names, many curves, huge and tiny numbers."""
    curves = [
        {**row, "schedule": name, "mean": [1.0] * 6, "low": [0.99] * 6, "high": [1.01] * 6}
        for row in _curves()[:1]
        for name in ["SGD", *(f"piecewise{i} with a long name p=0.{i}" for i in range(14))]
    ]
    bounds = [{**row, "bound": 1e6 * row["bound"], "ratio": 123456.0} for row in _bounds()]
    history = [{**row, "accuracy": 0.9, "low": 0.89, "high": 0.91} for row in _history()]
    summary = [
        {**row, "accuracy": 0.9, "accuracy_low": 0.9, "accuracy_high": 0.9, "pairs_per_step": 1.5}
        for row in _summary()
    ]
    return {
        "cost": [{**row, "name": f"{row['name']} {i}"} for i in range(5) for row in _cost()],
        "bounds": bounds,
        "curves": curves,
        "one_step": _one_step(),
        "tightness": [
            {**row, "bound": f"{row['bound']}_{i}", "ratio": 1e4 * row["ratio"]}
            for i in range(12)
            for row in _tightness()
        ],
        "price": [{**row, "pairs_vs_sgd": 1.5} for row in _price()],
        "benchmark_scaling": [{**row, "seconds": 1e4 * row["seconds"]} for row in _scaling()],
        "digits_runs": [{**row, "seed": 1000 + i} for i in range(12) for row in _runs()],
        "digits_summary": summary,
        "digits_history": history,
        "fashion_summary": [{"label_noise": noise, **row} for noise in (0.0, 0.3) for row in summary],
        **copy.deepcopy(_committed()),
    }


@WIDTHS
@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("key", list(plots.FIGURES))
def test_no_text_overlaps_another_or_leaves_the_figure(key: str, crowded: bool, width: float) -> None:
    source, draw = plots.FIGURES[key]
    figure = draw((_crowded() if crowded else tables())[source], width=width)
    texts = _texts(figure)
    assert texts
    for i, (text, box) in enumerate(texts):
        assert box.x0 >= 0 and box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
        for other, its in texts[:i]:
            # glyph boxes include room for ascenders: a touch of them, a tenth of a line, is no overlap
            slack = 0.1 * min(box.height, its.height)
            apart = (
                box.x1 <= its.x0 + slack
                or its.x1 <= box.x0 + slack
                or box.y1 <= its.y0 + slack
                or its.y1 <= box.y0 + slack
            )
            assert apart, (text, other)


def test_a_label_has_one_colour_everywhere() -> None:
    rows = {key: _texts_and_lines(draw(tables()[source])) for key, (source, draw) in plots.FIGURES.items()}
    colours: dict[str, set[str]] = {}
    for drawn in rows.values():
        for label, shade in drawn:
            colours.setdefault(label, set()).add(shade)
    assert len(colours["SGD"]) == len(colours["SAM"]) == len(colours["G-RST"]) == 1
    assert colours["RST"] == {style.colour("constant p=0.5")}  # RST is trained at constant p


def _texts_and_lines(figure: Any) -> list[tuple[str, str]]:
    lines = [line for axes in figure.axes for line in axes.lines]
    return [(line.get_label(), line.get_color()) for line in lines if not line.get_label().startswith("_")]


@pytest.mark.parametrize(
    "label, like",
    [
        ("constant p=0.25", "Constant(0.1)"),
        ("piecewise1 p=0.5", "Piecewise(0.2, 0.6, 0.3)"),
        ("cosine_up", "Cosine(0.2, 0.8)"),
        ("linear2 p=0.75", "Linear(0.8, 0.1)"),
        ("G-RST p=0.5 gamma=2", "G-RST"),
        ("InverseSqrt(1.0)", "InverseSqrt(0.5)"),
        ("", "some formula"),
    ],
)
def test_a_preset_has_the_colour_of_its_family(label: str, like: str) -> None:
    assert style.colour(label) == style.colour(like)


# G. M. Machado, M. M. Oliveira and L. A. F. Fernandes, "A physiologically-based model for simulation of color
# vision deficiency", IEEE TVCG 15 (2009), table 1, severity 1.0.
_VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = _XYZ @ np.clip(linear, 0, 1) / (_XYZ @ np.ones(3))
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", list(_VISION))
def test_methods_and_families_are_told_apart_without_full_colour_vision(vision: str) -> None:
    names = ["SGD", "SAM", "G-RST", "constant", "piecewise", "linear", "cosine", "periodic", "inversesqrt"]
    seen = [_lab(_VISION[vision] @ _linear(style.colour(name))) for name in names]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 10  # CIE 1976: about 2.3 is just noticeable


@pytest.mark.parametrize(
    "name", ["SGD", "SAM", "G-RST", "RST", "piecewise", "linear", "cosine", "periodic", "x"]
)
def test_labels_have_the_contrast_of_the_accessibility_guidelines(name: str) -> None:
    luminance = _linear(style.ink(name)) @ _XYZ[1]
    assert 1.05 / (luminance + 0.05) >= 4.5  # WCAG 2, level AA, on white


@given(
    positions=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    gap=st.floats(0, 0.08),
)
@example(positions=[0.5] * 12, gap=0.08)
@example(positions=[0.0, 0.0], gap=0.05)
@settings(max_examples=100, deadline=None)
def test_labels_move_as_little_as_possible(positions: list[float], gap: float) -> None:
    moved = style.spread(positions, gap, 0.0, 1.0)
    order = np.argsort(positions, kind="stable")
    x, y = np.array(positions)[order], np.array(moved)[order]
    assert (np.diff(y) >= gap - 1e-12).all()
    assert y[0] >= -1e-12 and y[-1] <= 1 + 1e-12
    shift = gap * np.arange(len(x))
    # least squares under the gaps is isotonic regression of the shifted positions; bounds clip it
    oracle = np.clip(isotonic_regression(x - shift).x, 0, 1 - shift[-1]) + shift
    np.testing.assert_allclose(y, oracle, atol=1e-9)


def test_labels_without_room_are_spaced_evenly() -> None:
    np.testing.assert_allclose(style.spread([0.5, 0.5, 0.5], 2.0, 0.0, 1.0), [0, 0.5, 1])


@pytest.mark.parametrize("text", ["SGD", "InverseSqrt(1.0)", "G-RST p=0.5 gamma=2", "piecewise1 p=0.25 …"])
def test_measured_text_is_as_wide_as_drawn_text(text: str) -> None:
    figure = style.blank(4, 1)
    figure.dpi = 200
    drawn = figure.text(0.1, 0.5, text, size=6.5, family="DejaVu Sans", parse_math=False)
    figure.canvas.draw()
    width = drawn.get_window_extent().width / figure.dpi
    assert style.text_width(text, 6.5) == pytest.approx(width, abs=0.03)
    assert style.text_width(style.fitted(text, 0.5), 6.5) <= 0.5


@pytest.mark.parametrize(
    "low, high",
    [(0.02, 0.13), (0.9, 1.1), (1e-9, 1e-2), (3.0, 3.3), (1.0, 1e6), (0.04, 0.06), (1e-13, 2e-13)],
)
def test_a_log_axis_names_at_least_two_numbers_and_not_too_many(low: float, high: float) -> None:
    figure = style.blank(3, 2)
    axes = figure.add_subplot()
    axes.set(xscale="log", xlim=(low, high))
    style.log_axis(axes.xaxis, *axes.get_xlim())
    ticks = axes.get_xticks()
    assert 2 <= len(ticks) <= 5
    assert (low <= ticks).all() and (ticks <= high).all()
    for tick, label in zip(ticks, axes.get_xticklabels(), strict=True):
        text = label.get_text().strip("$").replace(r"\times", "*").replace("10^{", "1e").replace("}", "")
        factor, _, power = text.rpartition("*")
        assert float(factor or 1) * float(power) == pytest.approx(tick, rel=1e-3)


HOSTILE = ("$\\frac{", "a $ b $ c", "<script>alert(1)</script>", "two\nlines", "", "_hidden")


# These show no names from their tables, or only some that they know; decay_exact is drawn as decay is.
KNOWN_NAMES = {"regimes", "allocation", "stability", "collapse", "drift", "decay_exact"}


@pytest.mark.parametrize("key", [key for key in plots.FIGURES if key not in KNOWN_NAMES])
@pytest.mark.parametrize("names", [HOSTILE[:3], HOSTILE[3:]])
def test_any_text_can_be_a_name(key: str, names: tuple[str, ...]) -> None:
    source, draw = plots.FIGURES[key]
    rows = tables()[source][:3]
    field = next(f for f in ("name", "schedule", "method", "variable") if f in rows[0])
    for row, name in zip(rows, names, strict=True):
        row[field] = name
    assert b"<script" not in plots.encoded(draw(rows), "svg")


# The world outside stays as it is.


def test_the_same_results_give_the_same_bytes_in_another_process_with_other_settings(
    folder: Path, tmp_path: Path
) -> None:
    others = {
        "font.size": 30,
        "axes.grid": False,
        "svg.hashsalt": "x",
        "axes.facecolor": "pink",
        "xtick.direction": "in",
    }
    with mpl.rc_context(others):
        before = dict(mpl.rcParams)
        files = plots.draw_all(folder, tmp_path / "a")
        assert dict(mpl.rcParams) == before
    assert [path.name for path in files] == [f"{key}.{e}" for key in plots.FIGURES for e in ("png", "svg")]
    code = (
        "import sys; from pathlib import Path; from rst_theory.plots import draw_all;"
        "draw_all(Path(sys.argv[1]), Path(sys.argv[2]));"
        "heavy = {'torch', 'sympy', 'matplotlib.pyplot', 'scipy.stats', 'jinja2'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run(
        [sys.executable, "-c", code, folder, tmp_path / "b"],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    for path in files[::2]:
        header = path.read_bytes()[:24]
        assert header.startswith(b"\x89PNG")
        width = struct.unpack(">II", header[16:24])[0]
        assert width == plots.DOUBLE * 200
    for path in files[1::2]:
        root = ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg")
        assert "date" not in path.read_text().casefold()
    assert len(list((tmp_path / "a").iterdir())) == len(files)  # nothing temporary stays


def test_matplotlib_is_loaded_only_to_draw() -> None:
    code = (
        "import sys, rst_theory.plots;"
        "heavy = {'torch', 'sympy', 'matplotlib', 'scipy.stats'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Folders that are not complete, and files that are not right.


@pytest.mark.parametrize("name", list(SCHEMA))
def test_a_missing_file_leaves_out_its_figures_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undrawn = {key: (source, lambda rows, width: len(rows)) for key, (source, _) in plots.FIGURES.items()}
    monkeypatch.setattr(gallery, "FIGURES", undrawn)
    contents = {key: value for key, value in tables().items() if key != name}
    folder = write(tmp_path, contents)
    assert plots.Results.read(folder).missing == (name,)
    absent = {key for key, (source, _) in plots.FIGURES.items() if source == name}
    assert set(plots.FIGURES) - set(plots.figures(folder)) == absent


def test_an_empty_folder_draws_nothing_and_no_folder_is_an_error(tmp_path: Path) -> None:
    assert plots.draw_all(tmp_path, tmp_path / "figures") == []
    with pytest.raises(NotADirectoryError, match="nowhere"):
        plots.draw_all(tmp_path / "nowhere", tmp_path / "figures")


WRONG: dict[str, list[Any]] = {
    "text": [None, 3, ["a"]],
    "number": [None, "1", True, float("inf"), [1.0]],
    "integer": [None, 1.5, "1"],
    "flag": [None, 0, "yes"],
    "parameter": [None, [1.0], float("inf")],
    "numbers": [None, [], [1.0, "2"], [float("inf")], 3.0],
    "timings": [None, {"a": "1"}, [1.0]],
    "names": [None, {"a": 1}, "numpy"],
}
_once = functools.cache(tables)
EVERY_FIELD = [(name, field) for name, fields in SCHEMA.items() for field in fields]


@pytest.mark.parametrize("name, field", EVERY_FIELD)
def test_a_malformed_field_is_named(name: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.json"
    kind = SCHEMA[name][field]
    wrong = [value for value in WRONG[kind.kind] if not (value is None and kind.optional)]
    if kind.least > -np.inf and kind.kind in ("number", "integer"):
        wrong.append(-1)
    if kind.most < np.inf:
        wrong.append([1.5] if kind.kind == "numbers" else 1.5)
    if kind.choices:
        wrong.append("maybe")
    for value in ["no such field", *wrong]:
        content = copy.deepcopy(_once()[name])
        row = content if name == "provenance" else content[-1]
        if value == "no such field" and kind.kind != "text":
            del row[field]
        else:
            row[field] = value if value != "no such field" else 7
        table = name not in ("curves", "claims", "provenance")
        plain = {"columns": list(content[0]), "rows": content} if table else content
        # JSON can spell an infinity, as a number that is too large.
        path.write_text(json.dumps(plain).replace("Infinity", "1e999"))
        with pytest.raises(plots.ResultsError, match=rf"{name}\.json") as error:
            plots.Results.read(tmp_path)
        if field in row:
            assert repr(field) in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not valid JSON"),
        ("[]", "no list of rows|not a table"),
        ('{"columns": ["name"], "rows": [{"name": NaN}]}', "JSON has no NaN"),
        ('{"columns": ["name"], "rows": []}', "no rows"),
        ('{"columns": ["name"], "rows": [3]}', "rows"),
        ('{"columns": ["name"], "rows": [{"name": "a", "steps": 1}]}', "columns"),
    ],
)
def test_a_malformed_table_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "cost.json").write_text(text)
    with pytest.raises(plots.ResultsError, match=message) as error:
        plots.Results.read(tmp_path)
    assert "cost.json" in str(error.value) or "cost" in str(error.value)


def test_intervals_upside_down_and_ragged_curves_are_refused(tmp_path: Path) -> None:
    row = {**_cost()[0], "low": 90, "high": 80}
    with pytest.raises(plots.ResultsError, match="cost, row 1: field 'low' = 90 exceeds 'high' = 80"):
        plots.plot_cost([row])
    curve = {**_curves()[0], "mean": [1.0]}
    with pytest.raises(plots.ResultsError, match="field 'mean' has 1 numbers where t has 6"):
        plots.plot_convergence([curve])
    with pytest.raises(plots.ResultsError, match="no rows"):
        plots.plot_training([])


def test_nothing_is_written_where_one_table_is_malformed(tmp_path: Path) -> None:
    contents = tables()
    contents["digits_history"][3]["accuracy"] = 7.0
    folder = write(tmp_path / "results", contents)
    with pytest.raises(plots.ResultsError, match=r"digits_history\.json, row 4: field 'accuracy'"):
        plots.draw_all(folder, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_the_tables_written_as_csv_hold_what_is_drawn(folder: Path) -> None:
    import csv

    with (folder / "cost.csv").open() as file:
        flat = list(csv.DictReader(file))
    (axes,) = plots.plot_cost(plots.Results.read(folder).cost or []).axes
    for row in flat:
        assert points(labelled(axes, row["name"]))[0] == [float(row["share"])]
