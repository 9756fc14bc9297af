"""How results show themselves: well-formed, escaped, in formulas that can be set, with their own numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given, strategies as st
from scipy import stats

import rst_theory as rst
from rst_theory import display, plots
from rst_theory.bounds.catalogue import BoundValue, BoundValues
from rst_theory.plots.rows import curve_row
from rst_theory.report.mathml import mathml
from rst_theory.simulation.estimates import Estimate
from rst_theory.training import RunRecord, TrainConfig

HOSTILE = "<script>alert('x')</script> & \"</td>$x$"
PROBLEM = rst.problems.Quadratic([1.0, 0.1], noise=0.1)
RUN = {"steps": 20, "eta": 0.2, "rho": 0.1}
SCHEDULES = [
    rst.Constant(0.3),
    rst.Piecewise(0.0, 1.0, switch=0.3),
    rst.Linear(0.0, 1.0),
    rst.Cosine(1.0, 0.0),
    rst.InverseSqrt(0.5),
    rst.Periodic(3),
    rst.Tabulated((0.1, 0.2, 0.3, 0.4, 0.25)),
    rst.FromExpression("0.5 + 0.5*cos(pi*t/T)"),
    rst.Joined(((rst.Linear(0.0, 1.0), 0.5), (rst.Constant(0.5), 0.5))),
]


def root(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


def words(markup: str) -> str:
    return " ".join("".join(root(markup).itertext()).split())


def cells(markup: str) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in line] for line in root(markup).iter("tr")]


def entry(markup: str, name: str) -> str:
    (value,) = (line[1] for line in cells(markup) if line[0] == name)
    return value


@pytest.fixture(scope="module")
def run() -> rst.Trajectories:
    return rst.simulate(PROBLEM, rst.Linear(0.0, 1.0), replicas=64, backend="numpy", **RUN)


@pytest.fixture(scope="module")
def certificate() -> rst.Certificate:
    return rst.certify(0.5, steps=2, eta=0.5, rho=0.2)


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return RunRecord(
        config=TrainConfig(rst.Constant(0.5), gamma=2.0, epochs=3),
        environment={},
        threads=1,
        train_loss=(2.0, 1.0, 0.5),
        test_accuracy=(0.25, 0.5, 0.8125),
        steps=90,
        pairs=133,
        predicted_pairs=133,
        expected_pairs=135.0,
        wall_seconds=1.0,
        weights_sha256="0123456789abcdef" * 4,
        device="cpu",
        processes=1,
    )


@pytest.fixture(scope="module")
def found() -> BoundValues:
    return rst.bounds.applicable(PROBLEM, schedule=0.5, gap=1.0, **RUN)


# The pieces


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))
)
def test_any_text_comes_back_as_text(text):
    shown = display.table([(text, display.code(text))], [text], title=text or "-")
    assert cells(shown) == [[text], [text, text]]
    stacked = display.stack(text, display.joined([text, text], text), display.formula(text))
    assert "".join(root(stacked).itertext()) == text * 4 + f"${text}$"


def test_markup_of_this_module_alone_is_left_as_it_is():
    assert display.stack(display.code("a")).count("<code>a</code>") == 1
    assert "&lt;b&gt;" in display.stack("<b>") and "<b>" in display.stack(display.Html("<b></b>"))
    assert display.code(["<"]) == "<code>[&#x27;&lt;&#x27;]</code>"


@pytest.mark.parametrize(
    "value, text", [(0.0, "0"), (1.0, "1"), (0.123456, "0.1235"), (123456.0, "1.235e+05"), (np.inf, "inf")]
)
def test_numbers_have_four_digits(value, text):
    assert display.number(value) == text


def curve(markup: str) -> np.ndarray:
    (line,) = root(markup).iter("polyline")
    return np.array([[float(x) for x in point.split(",")] for point in line.get("points", "").split()])


def test_a_small_curve_shows_its_values():
    # Within margins of 3, so that x runs from 3 to 157 and y from 33, the lower edge, to 3.
    np.testing.assert_array_equal(curve(display.sparkline([0, 1, 0.5])), [[3, 33], [80, 3], [157, 18]])
    np.testing.assert_array_equal(curve(display.sparkline([0, 1], low=-1, high=2)), [[3, 23], [157, 13]])
    np.testing.assert_array_equal(curve(display.sparkline([5.0, 5.0])), [[3, 33], [157, 33]])
    np.testing.assert_array_equal(curve(display.sparkline([7.0])), [[3, 33]])


def test_what_is_not_finite_is_left_out_of_a_curve():
    np.testing.assert_array_equal(curve(display.sparkline([0, np.nan, 1, np.inf])), [[3, 33], [105.7, 3]])
    assert curve(display.sparkline([np.inf])).size == 0


def test_a_long_curve_keeps_its_ends_and_stays_small():
    shown = display.sparkline(np.linspace(0, 1, 100_000))
    points = curve(shown)
    assert len(shown) < 3000 and points[0].tolist() == [3, 33] and points[-1].tolist() == [157, 3]
    assert (np.diff(points[:, 0]) > 0).all() and (np.diff(points[:, 1]) <= 0).all()


@pytest.mark.parametrize("values", [[], 1.0, [[1.0, 2.0]]])
def test_a_curve_of_another_shape_is_refused(values):
    with pytest.raises(ValueError, match="shape"):
        display.sparkline(values)


# Formulas


def formulas(markup: str) -> list[str]:
    return re.findall(r"\$([^$]+)\$", "".join(root(markup).itertext()))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_shows_its_formula_its_domain_and_its_values(schedule):
    shown = schedule._repr_html_()
    (latex,) = formulas(shown)
    mathml(latex)
    mathml(schedule._repr_latex_().strip("$").removeprefix(r"\displaystyle"))
    assert latex.startswith("s(t) = ") and latex.endswith(r"\quad t = 0, \dots, T - 1")
    T = 5 if isinstance(schedule, rst.Tabulated) else 100
    values = np.array([schedule.at(t, T) for t in range(T)])
    assert f"T = {T}: mean {values.mean():.4g}, least {values.min():.4g}, greatest" in words(shown)
    assert repr(schedule) in words(shown)
    np.testing.assert_allclose(curve(shown)[:, 1], 33 - 30 * values, atol=0.051)


def test_a_table_shows_its_first_values_and_not_thousands_of_cases():
    schedule = rst.Tabulated(tuple(np.linspace(0, 1, 5000)))
    assert schedule._repr_latex_() == r"$\displaystyle \left(0, 0.0002, 0.0004001, 0.0006001, \dots\right)_t$"
    assert len(schedule._repr_html_()) < 3000
    assert rst.Tabulated((0.5, 0.25))._repr_latex_() == r"$\displaystyle \left(0.5, 0.25\right)_t$"


def test_a_schedule_without_values_shows_its_formula_and_says_why():
    symbolic = rst.Linear(0, sympy.Symbol("<b>&"))._repr_html_()
    assert "has the free symbols <b>&" in words(symbolic) and curve_free(symbolic)
    negative = rst.FromExpression("0.5 - u")._repr_html_()
    assert "finite and >= 0; got -0.0" in words(negative) and curve_free(negative)


def curve_free(markup: str) -> bool:
    return not list(root(markup).iter("polyline"))


@pytest.mark.parametrize("bound", rst.bounds.ALL.values(), ids=rst.bounds.ALL)
def test_a_bound_shows_statement_assumptions_domain_and_proof(bound):
    shown = bound._repr_html_()
    for latex in (bound.latex(), *(condition.latex for condition in bound.domain)):
        mathml(latex)
    assert bound._repr_latex_() == rf"$\displaystyle {bound.latex()}$"
    statement = entry(shown, "statement").removeprefix(r"$\displaystyle ").removesuffix("$")
    assert statement.replace(r"$$\displaystyle ", r",\quad ") == bound.latex()
    assert all(assumption.value in entry(shown, "assumptions") for assumption in bound.assumptions)
    conditions = [f"${condition.latex}$" for condition in bound.domain]
    assert entry(shown, "domain") == (", ".join(conditions) or "all parameters")
    assert entry(shown, "kind") == bound.kind
    assert bound.name in entry(shown, "name and proof") and bound.source in entry(shown, "name and proof")
    assert bound.title in words(shown)


def test_a_bound_prints_as_what_it_is():
    for bound in rst.bounds.ALL.values():
        assert bound.name in repr(bound) and bound.metric.name in repr(bound)
        assert "0x" not in repr(bound) and "function" not in repr(bound).replace("worst_function", "")


# Results


def test_bounds_that_apply_are_a_list_shown_as_a_table(found):
    assert isinstance(found, list) and len(found) > 2
    (_, *lines) = cells(found._repr_html_())
    for line, (bound, value) in zip(lines, found, strict=True):
        assert line == [f"{value:.4g}", f"${bound.metric.latex}$", bound.kind, bound.name]
    best = rst.bounds.best(PROBLEM, schedule=0.5, gap=1.0, **RUN)
    (_, line) = cells(best._repr_html_())
    assert line == [f"{best.value:.4g}", f"${best.bound.metric.latex}$", best.bound.kind, best.bound.name]


@pytest.mark.parametrize("p", [0.25, [0.25] * 40, np.full(40, 0.25), rst.Constant(0.25)], ids=type)
def test_a_law_shows_its_numbers(p):
    shown = rst.CostLaw(p, 40)._repr_html_()
    binomial = stats.binom(40, 0.25)
    assert entry(shown, "extra pairs, mean") == "10"
    assert entry(shown, "standard deviation") == f"{binomial.std():.4g}"
    assert entry(shown, "99 % interval") == f"{binomial.ppf(0.005):.0f} to {binomial.ppf(0.995):.0f}"
    assert (entry(shown, "pairs, SGD = 1"), entry(shown, "pairs, SAM = 1")) == ("1.25", "0.625")
    assert entry(shown, "steps T") == "40, independent trials"
    assert "[" not in entry(shown, "schedule")


def test_an_estimate_shows_its_mean_and_interval():
    assert words(Estimate(1.5, 0.1, 9)._repr_html_()) == "1.5, 99 % interval [1.175, 1.825]"  # t_9 = 3.2498
    assert words(Estimate(1.5, np.inf, 0)._repr_html_()) == "1.5, 99 % interval [-inf, inf]"


def test_a_simulation_shows_where_it_began_and_ended(run):
    shown = run._repr_html_()
    assert repr(run) in words(shown)
    assert f"Extra pairs: {run.extra_pairs.mean():.4g} on average." in words(shown)
    heading, *lines = cells(shown)
    assert heading == ["mean of", "at t = 0", "along the run", "at the end"]
    assert [line[0] for line in lines] == ["squared gradient norm", "gap", "squared distance"]
    assert lines[1][1] == f"{float(PROBLEM.gap(PROBLEM.start)):.4g}"
    assert lines[1][3].startswith(f"{run.final_gap.mean:.4g}, 99 % interval [")
    assert len(list(root(shown).iter("polyline"))) == 3


def test_a_simulation_at_some_steps_names_its_first():
    some = rst.simulate(PROBLEM, 0.5, at=[3, 7], replicas=8, backend="numpy", **RUN)
    heading, *lines = cells(some._repr_html_())
    assert heading[1] == "at t = 3" and lines[0][1] == f"{some.squared_gradient_norm.mean[0]:.4g}"


def test_a_certificate_shows_its_value_and_what_shows_it(certificate):
    shown = certificate._repr_html_()
    assert entry(shown, "worst case") == f"{certificate.value:.4g}"
    assert entry(shown, "attained") == f"{certificate.lower:.4g}"
    assert entry(shown, "kind") == "exact" and entry(shown, "points").split() == list(certificate.labels)
    assert f"{max(certificate.residuals):.1e}" in entry(shown, "solver")
    unknown = replace(certificate, lower=None, kind="upper")
    assert entry(unknown._repr_html_(), "attained") == "no function known"
    assert repr(unknown) == f"<Certificate: squared_gradient_norm <= {unknown.value:.4g}, upper, 4 points>"


def test_an_allocation_is_a_schedule_and_shown_as_one():
    eta = rst.Cosine(0.5, 0.1)
    best = rst.allocate(0.25, steps=50, eta=eta, rho=0.1, degree=1.0, constants=PROBLEM.constants)
    assert "T = 50: mean 0.25," in words(best._repr_html_())


def test_a_finished_run_shows_what_was_run_and_what_came_of_it(record):
    shown = record._repr_html_()
    assert entry(shown, "method") == "Constant(0.5), rho = 0.1, gamma = 2.0"
    assert entry(shown, "network") == "cnn on digits, 3 epochs, 90 steps, seed 0"
    assert entry(shown, "pairs") == "133; planned 133, expected 135.0"
    assert entry(shown, "pairs a step") == "1.478"
    assert entry(shown, "test accuracy") == "0.8125 after the last epoch"
    assert entry(shown, "weights") == "0123456789abcdef"
    np.testing.assert_array_equal(curve(shown)[:, 1], [33, 19.7, 3])
    degree = replace(record, config=TrainConfig(rst.Constant(0.5), degree=1.0, epochs=3))
    assert entry(degree._repr_html_(), "method") == "Constant(0.5), rho = 0.1, degree = 1.0"
    said = "cnn on digits, Constant(0.5), seed 0, 3 epochs, 1.478 pairs a step, test accuracy 0.8125"
    assert repr(record) == f"<RunRecord: {said}>"


# Hostile texts


@dataclass(frozen=True, repr=False)
class Hostile(rst.Constant):
    """A schedule with a name that is markup."""

    def __repr__(self) -> str:
        return HOSTILE


def test_no_label_becomes_markup(run, certificate, record, found):
    bound = replace(rst.bounds.nonconvex_average, name=HOSTILE, title=HOSTILE, source=HOSTILE, kind=HOSTILE)
    config = replace(record.config, schedule=Hostile(0.5))
    shown: list[Any] = [
        Hostile(0.5),
        rst.Linear(0, sympy.Symbol(HOSTILE)),
        rst.CostLaw(Hostile(0.5), 10),
        bound,
        BoundValue(bound, 1.0),
        replace(run, description=HOSTILE, backend=HOSTILE),
        replace(certificate, labels=(HOSTILE,) * 4, status=HOSTILE, kind=HOSTILE, metric=HOSTILE),
        replace(record, config=config, weights_sha256=HOSTILE),
    ]
    for value in shown:
        markup = value._repr_html_()
        assert "<script" not in markup and "&lt;script&gt;" in markup
        assert not list(root(markup).iter("script"))


# Plots of result objects


def drawn(figure) -> list[tuple[str, list[float], list[float]]]:
    return [
        (line.get_label(), np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for axes in figure.axes
        for line in axes.lines
    ]


def test_laws_and_schedules_are_drawn_as_their_rows():
    schedules = [rst.Constant(0.25), rst.Linear(0.0, 1.0)]
    laws = [rst.CostLaw(s, 50) for s in schedules]
    rows = [plots.cost_row(law) for law in laws]
    for plot in (plots.plot_cost, plots.plot_schedules):
        assert drawn(plot(laws)) == drawn(plot(rows)) == drawn(plot(schedules, steps=50))
        named = {"one": laws[0], "two": schedules[1]}
        renamed = [row | {"name": name} for row, name in zip(rows, named, strict=True)]
        assert drawn(plot(named, steps=50)) == drawn(plot(renamed))
    assert drawn(plots.plot_cost(schedules)) == drawn(
        plots.plot_cost([rst.CostLaw(s, 1000) for s in schedules])
    )


def test_simulations_are_drawn_as_their_rows(run):
    rows = [curve_row(run, "quadratic", name) for name in ("SGD", "Linear")]
    figure = plots.plot_convergence({"SGD": run, "Linear": run}, problem="quadratic")
    assert drawn(figure) == drawn(plots.plot_convergence(rows))
    assert figure.axes[0].get_title(loc="left") == "quadratic"
    lines = {label: (x, y) for label, x, y in drawn(figure)[:2]}
    assert lines["Linear"][0][0] == 1 and lines["Linear"][1][0] == run.squared_gradient_norm.mean[0]


def test_the_curve_of_a_run_measured_at_some_steps_stands_at_those():
    some = rst.simulate(PROBLEM, 0.5, at=[0, 3, 7, 12], replicas=8, backend="numpy", **RUN)
    whole = rst.simulate(PROBLEM, 0.5, replicas=8, backend="numpy", **RUN)
    row = curve_row(some, "quadratic", "RST")
    assert set(row["t"]) <= {0, 3, 7, 12} and {0, 12} <= set(row["t"])
    assert row["mean"] == whole.squared_gradient_norm.mean[row["t"]].tolist()
