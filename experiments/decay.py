"""Question: how fast does the average squared gradient fall as the horizon grows?

Design: four problems (a quadratic, logistic regression, the nonconvex `FlatAndSharp`, and `RippledQuadratic`,
nonconvex with the Polyak-Lojasiewicz inequality), each with exact and with noisy gradients, six methods, and
three choices of parameters, in units of 1/L for eta:

    1/sqrt(t)     eta = .5/sqrt(t+1), rho = .5/sqrt(t+1)
    tuned to T    eta = .2 (100/T)^(1/2), rho = .2 (100/T)^(1/4): constant in a run, chosen by its horizon
    constant      eta = .2, rho = .2

At T = 10^2, 10^2.5, …, 10^5 the metric of the master bound, sum_{t<T} a_t ||grad f(x_t)||^2/W, is taken in
32 independent blocks of three replicas; where neither parameters nor schedule depend on T all horizons are
prefixes of one run. In each block log(metric) is fitted to log T by least squares over the last two decades,
for constant parameters over the last one; the interval of a slope is the t interval over the blocks. Blocks
share coins and noise between methods. The noise (standard deviation 1 per coordinate; minibatches of one row
for logistic regression) was chosen in a pilot with another seed up to T = 10^4, such that constant parameters
can reach their floors within these horizons; at .3 they could not on the rippled quadratic.

The rate of the bound, and with it the reference of a slope, its own fit over the same horizons:

    1/sqrt(t)     log T/sqrt(T), and 1/sqrt(T) where gradients are exact
    tuned to T    1/sqrt(T)
    constant      a floor: slope 0; for SGD with exact gradients 1/T

Rule fixed before the run. With a margin of .05 and simultaneous intervals (99 % for all slopes together, by
Bonferroni) a slope is "slower" than its reference r if the interval lies above r + .05, "faster" if below
r - .05, "as fast" if within both, "not slower" if it only ends below r + .05, else "undecided". The statement
promises: no value above the bound; decaying and tuned parameters not slower than the rate; constant ones
with noise as fast as a floor, that is, level. It is refuted where a value exceeds the bound (one-sided t
tests, 1e-6 for all values together) or a promised slope is slower; supported where all promises are kept;
else open. Constant parameters with exact gradients are measured, and nothing is promised of them: the bound
has a floor there which a given problem need not have.

A smaller run measures the shorter horizons alone, in the same blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

import rst_theory as rst
from experiments.pool import spread
from experiments.question import Answer, Check, Question, Verdict
from experiments.settings import CONFIDENCE, Size
from experiments.statistics import Interval, mean_interval
from rst_theory.bounds import nonconvex_average
from rst_theory.files import read_table, write_table
from rst_theory.notation import FloatArray
from rst_theory.problems import FlatAndSharp, LogisticRegression, Problem, Quadratic, RippledQuadratic
from rst_theory.schedules import Schedule
from rst_theory.simulation import simulate
from rst_theory.simulation.estimates import SLOTS

__all__ = ["CELLS", "CHECKS", "QUESTION", "Cell", "answer", "measure", "pace", "run"]

Row = dict[str, Any]

QUESTION = Question(
    id="Q2",
    title="Rates",
    statement=(
        "With step sizes and radii of order 1/sqrt(t) the average squared gradient falls at least as fast as "
        "log T/sqrt(T), with constants tuned to the horizon as 1/sqrt(T), and with constants and gradient "
        "noise to a floor."
    ),
    rule=(
        "Refuted if a measured value exceeds the master bound (1e-6 for all together) or a slope lies above "
        "its rate's by more than .05 (99 % for all together); supported if every slope is shown to be at "
        "most .05 above its rate's, and level within .05 for constants with noise."
    ),
    change=(
        "A smooth problem on which a slope over two decades is shallower than its rate by more than .05, or "
        "one value above the bound."
    ),
    figure="decay",
)
CHECKS = tuple(
    Check("decay_curves", ("problem", "gradients", "parameters", "schedule", "steps"), *compared)
    for compared in (("value", ("low", "high"), "blocks"), ("bound",))
)

SEED = 20220313
REPLICAS = 3 * SLOTS
HORIZONS = tuple(round(10 ** (k / 2)) for k in range(4, 11))
MARGIN = 0.05
EXCESS = 1e-6
"""The probability that any measured value exceeds the bound by chance."""

_SHORTER = {"quick": 3, "check": 4, "full": len(HORIZONS)}
_NOISE = 1.0
_DECAYING, _TUNED, _CONSTANT = "1/sqrt(t)", "tuned to T", "constant"
PARAMETERS = (_DECAYING, _TUNED, _CONSTANT)
METHODS: dict[str, tuple[Schedule, float]] = {
    "SGD": (rst.Constant(0.0), 1.0),
    "RST p=0.5": (rst.Constant(0.5), 1.0),
    "RST early": (rst.Piecewise(1.0, 0.0, 0.5), 1.0),
    "RST late": (rst.Piecewise(0.0, 1.0, 0.5), 1.0),
    "G-RST p=0.5 gamma=2": (rst.Constant(0.5), 2.0),
    "SAM": (rst.Constant(1.0), 1.0),
}
"""Schedules with their mixing coefficients."""


class Cell(NamedTuple):
    """What is run: names of a problem, of exact or noisy gradients, of parameters and of a method."""

    problem: str
    gradients: str
    parameters: str
    schedule: str


CELLS = tuple(
    Cell(problem, gradients, parameters, method)
    for problem in ("quadratic", "logistic regression", "flat and sharp", "rippled quadratic")
    for gradients in ("noisy", "exact")
    for parameters in PARAMETERS
    for method in METHODS
)


def run(size: Size, results: Path) -> Iterator[float]:
    """Write decay_curves (a row per horizon) and, in full, decay (a row per slope); yields the share done."""
    horizons = HORIZONS[: _SHORTER[size.level]]
    found: list[list[list[float]]] = []
    tasks = [(cell, horizons) for cell in CELLS]
    yield from spread(measure, tasks, size.processes, found, keep=size.runs / "decay")
    curves: list[Row] = []
    slopes = []
    for cell, blocks in zip(CELLS, found, strict=True):
        metric = np.array(blocks)
        bounds = [_bound(cell, T) for T in horizons]
        curves += _curve(cell, horizons, metric, bounds)
        if size.full:
            slopes.append(_slope_row(cell, horizons, metric, bounds))
    write_table(results, "decay_curves", curves)
    if size.full:
        write_table(results, "decay", slopes)


def measure(cell: Cell, horizons: tuple[int, ...]) -> list[list[float]]:
    """The metric of the bound in each block at each horizon, (blocks, horizons)."""
    runs = {T: _simulated(cell, T) for T in (horizons if _depends_on_horizon(cell) else horizons[-1:])}
    columns = []
    for T in horizons:
        eta, means = runs.get(T) or runs[horizons[-1]]
        weights = nonconvex_average.metric.weights
        assert weights is not None
        columns.append(means[:, :T] @ weights(eta[:T], _problem(cell).constants.L))
    return np.column_stack(columns).tolist()  # type: ignore[no-any-return]


def _simulated(cell: Cell, T: int) -> tuple[FloatArray, FloatArray]:
    """The step sizes (T,), and the mean of ||grad f(x_t)||^2 over the replicas of each block, (blocks, T)."""
    arguments = _arguments(cell, T)
    trajectories = simulate(
        _problem(cell), replicas=REPLICAS, seed=SEED, threads=1, progress=False, **arguments
    )
    return trajectories.eta, trajectories.squared_gradient_norm.means


def _bound(cell: Cell, T: int) -> float:
    problem = _problem(cell)
    gap = float(problem.gap(problem.start))
    return nonconvex_average.evaluate(constants=problem.constants, gap=gap, **_arguments(cell, T))


def _arguments(cell: Cell, T: int) -> dict[str, Any]:
    """Schedule and parameters of a run of T steps."""
    L = _problem(cell).constants.L
    eta, rho = {
        _DECAYING: (rst.InverseSqrt(0.5 / L), rst.InverseSqrt(0.5)),
        _TUNED: (rst.Constant(0.2 / L * (100 / T) ** 0.5), rst.Constant(0.2 * (100 / T) ** 0.25)),
        _CONSTANT: (rst.Constant(0.2 / L), rst.Constant(0.2)),
    }[cell.parameters]
    schedule, gamma = METHODS[cell.schedule]
    return {"schedule": schedule, "steps": T, "eta": eta, "rho": rho, "gamma": gamma}


def _depends_on_horizon(cell: Cell) -> bool:
    return cell.parameters == _TUNED or isinstance(METHODS[cell.schedule][0], rst.Piecewise)


def _problem(cell: Cell) -> Problem:
    return _made(cell.problem, cell.gradients == "noisy")


@functools.cache
def _made(name: str, noisy: bool) -> Problem:
    noise = _NOISE if noisy else 0.0
    if name == "quadratic":
        return Quadratic(np.geomspace(0.05, 1.0, 10), noise=noise)
    if name == "flat and sharp":  # from both sides of the barrier's top, which lies at 2
        return FlatAndSharp(dimension=6, noise=noise, start=np.linspace(1.5, 2.5, 6))
    if name == "rippled quadratic":
        return RippledQuadratic(dimension=5, noise=noise)
    # Rows of length 2, so that L of a minibatch is near that of all data; labels of a logistic model.
    generator = np.random.default_rng(SEED)
    features = generator.standard_normal((40, 5))
    features *= 2 / np.linalg.norm(features, axis=1, keepdims=True)
    likely = 1 / (1 + np.exp(-features.sum(axis=1)))
    labels = np.where(generator.random(40) < likely, 1.0, -1.0)
    return LogisticRegression(features, labels, l2=0.1, batch=1 if noisy else None)


# Tables


def _curve(cell: Cell, horizons: Sequence[int], metric: FloatArray, bounds: Sequence[float]) -> list[Row]:
    """A row per horizon: the metric with its interval, the slope since the last horizon, and the bound."""
    rows = []
    for i, T in enumerate(horizons):
        value, low, high = mean_interval(metric[:, i])
        local = mean_interval(_slopes(horizons[i - 1 : i + 1], metric[:, i - 1 : i + 1])) if i else None
        rows.append(
            {
                **cell._asdict(),
                "steps": T,
                "value": value,
                "low": low,
                "high": high,
                "bound": bounds[i],
                "local_slope": local and local.mean,
                "local_slope_low": local and local.low,
                "local_slope_high": local and local.high,
                "blocks": len(metric),
            }
        )
    return rows


def _slope_row(cell: Cell, horizons: Sequence[int], metric: FloatArray, bounds: Sequence[float]) -> Row:
    fitted = [i for i, T in enumerate(horizons) if T * _decades(cell) >= horizons[-1]]
    T = np.array(horizons)[fitted]
    rate, curve = _rate(cell, T)
    slope = mean_interval(_slopes(T, metric[:, fitted]))
    reference = float(_slopes(T, curve))
    value, low, high = mean_interval(metric[:, -1])
    return {
        **cell._asdict(),
        "steps_from": int(T[0]),
        "steps_to": int(T[-1]),
        "slope": slope.mean,
        "slope_low": slope.low,
        "slope_high": slope.high,
        "rate": rate,
        "rate_slope": reference,
        "bound_slope": float(_slopes(T, np.array(bounds)[fitted])),
        "pace": pace(slope, reference, len(metric)),
        "value": value,
        "value_low": low,
        "value_high": high,
        "bound": bounds[-1],
        "blocks": len(metric),
    }


def _decades(cell: Cell) -> int:
    """Over what factor of the horizon the slope is fitted."""
    return 10 if cell.parameters == _CONSTANT else 100


def _rate(cell: Cell, T: FloatArray) -> tuple[str, FloatArray]:
    """The rate of the bound: its name, and its curve up to a factor."""
    if cell.parameters == _CONSTANT:
        vanishing = cell.gradients == "exact" and cell.schedule == "SGD"
        return ("1/T", 1 / T) if vanishing else ("floor", np.ones(len(T)))
    if cell.parameters == _DECAYING and cell.gradients == "noisy":
        return "log T/sqrt(T)", np.log(T) / np.sqrt(T)
    return "1/sqrt(T)", 1 / np.sqrt(T)


def _slopes(T: Sequence[int] | FloatArray, curves: FloatArray) -> FloatArray:
    """Least-squares slopes of log(curve) in log T, along the last axis."""
    x = np.log(T) - np.log(T).mean()
    return np.asarray(np.log(curves) @ x / (x @ x))


def pace(slope: Interval, reference: float, blocks: int) -> str:
    """How a slope stands to that of a rate, from its 99 % interval, by the rule of this module."""
    dof = blocks - 1
    wider = stats.t.isf((1 - CONFIDENCE) / 2 / len(CELLS), dof) / stats.t.isf((1 - CONFIDENCE) / 2, dof)
    low, high = (slope.mean + wider * (end - slope.mean) - reference for end in (slope.low, slope.high))
    if high < -MARGIN:
        return "faster"
    if low > MARGIN:
        return "slower"
    if high > MARGIN:
        return "undecided"
    return "as fast" if low >= -MARGIN else "not slower"


# Verdict


def answer(results: Path) -> Answer:
    """The verdict, by the rule of this module.

    Raises:
        FileNotFoundError: a table is not there.
    """
    curves, slopes = (read_table(results / f"{name}.json") for name in ("decay_curves", "decay"))
    level = EXCESS / len(curves)
    above = sum(_chance(row) < level for row in curves)
    falling = [row for row in slopes if row["parameters"] != _CONSTANT]
    noisy = [row for row in slopes if row["parameters"] == _CONSTANT and row["gradients"] == "noisy"]
    kept = sum(row["pace"] in ("faster", "as fast", "not slower") for row in falling)
    level_off = sum(row["pace"] == "as fast" for row in noisy)
    verdict: Verdict = "open"
    if above or any(row["pace"] == "slower" for row in falling + noisy):
        verdict = "refuted"
    elif kept == len(falling) and level_off == len(noisy):
        verdict = "supported"
    decaying = [row for row in falling if row["parameters"] == _DECAYING]
    tuned = [row for row in falling if row["parameters"] == _TUNED]
    exact = [row for row in slopes if row["parameters"] == _CONSTANT and row["gradients"] == "exact"]
    perturbed = [row for row in exact if row["schedule"] != "SGD"]
    largest = max(curves, key=lambda row: row["value"] / row["bound"])
    linear = [row for row in exact if row["schedule"] == "SGD"]
    at, share = decaying[0], largest["value"] / largest["bound"]
    evidence = [
        f"{above} of {len(curves)} measured values lie above the bound (1e-6 for all together); the largest "
        f"is {share:.4f} of it ({_name(largest)}, T = {largest['steps']:,}).",
        f"With eta and rho of order 1/sqrt(t), T = {at['steps_from']:,} to {at['steps_to']:,}, the slopes "
        f"with noise are {_spanned(decaying, 'noisy')}, that of log T/sqrt(T) being "
        f"{_reference(decaying, 'noisy'):.3f}, and with exact gradients {_spanned(decaying, 'exact')}.",
        f"With constants tuned to T they are {_spanned(tuned, 'noisy')} and {_spanned(tuned, 'exact')}; "
        f"{kept} of these {len(falling)} slopes are shown to be at most {MARGIN} above that of their rate.",
        f"With constants and noise {level_off} of {len(noisy)} are level over the last decade, slopes "
        f"{_spanned(noisy, 'noisy')}; with exact gradients {_as_fast(linear)} for SGD fall like 1/T, and "
        f"{_as_fast(perturbed)} with perturbed steps are level.",
        f"Limits: four problems of at most ten dimensions, {curves[0]['blocks']} blocks of replicas; slopes "
        "are the least and the greatest over problems and methods, with the outer ends of their 99 % "
        "intervals.",
    ]
    steepest, shallowest = (pick(decaying, key=lambda row: row["slope"]) for pick in (min, max))
    number = f"slopes {steepest['slope']:.2f} to {shallowest['slope']:.2f} with 1/sqrt(t)"
    return Answer(verdict, number, " ".join(evidence))


def _chance(row: Row) -> float:
    """The one-sided p value of the hypothesis that the mean of the metric is at most the bound."""
    dof = row["blocks"] - 1
    error = (row["high"] - row["low"]) / 2 / stats.t.isf((1 - CONFIDENCE) / 2, dof)
    excess = row["value"] - row["bound"]
    return float(stats.t.sf(excess / error, dof)) if error else float(excess <= 0)


def _spanned(rows: Sequence[Row], gradients: str) -> str:
    """The least and the greatest slope, with the outer ends of their intervals."""
    mine = [row for row in rows if row["gradients"] == gradients]
    least, greatest = (pick(mine, key=lambda row: row["slope"]) for pick in (min, max))
    return (
        f"{least['slope']:.3f} to {greatest['slope']:.3f} "
        f"(intervals from {least['slope_low']:.3f} to {greatest['slope_high']:.3f})"
    )


def _as_fast(rows: Sequence[Row]) -> str:
    return f"{sum(row['pace'] == 'as fast' for row in rows)} of {len(rows)}"


def _reference(rows: Sequence[Row], gradients: str) -> float:
    return float(next(row["rate_slope"] for row in rows if row["gradients"] == gradients))


def _name(row: Row) -> str:
    return f"{row['problem']}, {row['gradients']}, {row['parameters']}, {row['schedule']}"
