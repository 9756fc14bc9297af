"""Question: is (q L rho)^2 the floor of the average squared gradient, and does a decaying schedule leave it?

Design: L = 1, no noise. `FloorInstance` is built for each (q, rho), so that the walk starts in its window and
is held there; the average squared gradient of the whole run is measured
    over rho     at three (p, gamma), at a small step size;
    over q       once by p at gamma = 1, once by gamma at p = 1/2, at a small step size;
    over eta L   at q = 1/2, from 1e-6 to 1e-3, the slack of the window five deviations of the walk in it.
Near eta L = 1 no window holds the walk, and the quadratic is the instance known to be worst: the last two
sweeps are taken on it too. A run has 1/(eta L)^2 steps where that is feasible, and at least ten relaxation
times 1/(eta L): the average is that of the stay in the window, which is long but not for ever. The seed
differs from point to point: with common coins a run at another rho is the same run in other units, and the
exponent would be 2 by construction. Exponents are least-squares slopes of log (average squared gradient), one
for each block of replicas, with t intervals over the blocks.

Beside them, runs on the two instances on which SAM (q = 1) and RST at p = 1/2 are held: with constant
parameters, and with schedules of which q_t rho_t falls to 0.

Rule fixed before the run: supported where, for every exponent at the small step size, the 99 % interval
(Bonferroni over these exponents) meets [1.9, 2.1], no measured average lies above the master bound of its run
(99 % intervals, Bonferroni over the points), and every decaying schedule ends below 1 % of where the constant
one ends; refuted where an interval lies wholly outside [1.9, 2.1]; else open.

Symbol key: q = p gamma the degree; e = eta L; w the slack.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

import rst_theory as rst
from experiments.pool import spread
from experiments.question import Answer, Check, Question
from experiments.settings import CONFIDENCE, Level, Size
from experiments.statistics import Interval, mean_interval
from rst_theory.bounds import nonconvex_average
from rst_theory.files import read_table, write_table
from rst_theory.notation import FloatArray
from rst_theory.problems import FloorInstance, Problem, Quadratic

__all__ = ["CHECKS", "QUESTION", "Point", "answer", "measure", "points", "run"]

QUESTION = Question(
    id="Q3",
    title="The floor of the average squared gradient",
    statement="At small step sizes constant q and ρ keep the average squared gradient at (qLρ)² on the worst "
    "function, and a schedule with qρ → 0 does not.",
    rule="Supported where every fitted exponent in q and ρ has a 99 % interval (Bonferroni) that meets "
    "[1.9, 2.1], no average lies above the master bound, and the decaying schedules end below 1 % of the "
    "constant one; refuted where an interval lies outside; else open.",
    change="A measured average above the master bound, or a window in which the exponent is another.",
    figure="floor_exponents",
)
CHECKS = (
    Check("floor_points", ("panel", "method", "x"), "value", ("low", "high"), "blocks"),
    Check("floor_exponents", ("panel", "method"), "exponent", ("low", "high"), "blocks"),
)

SEED = 20230309
BLOCKS: dict[Level, int] = {"full": 32, "check": 8, "quick": 4}
"""Replicas, each a block of its own, since the engine keeps 32 slots of them apart."""

SMALL, NEAR_ONE = 2e-5, 0.999
"""eta L of the sweeps over rho and q."""
SLACK, TIME = 0.02, 50
"""Of the windows at the small step size, and the length of these runs in relaxation times."""
DEVIATIONS = 5
LONGEST = 10_000_000
QUADRATIC_STEPS = 65_536
MEASURED = 4096
"""Times at which a run is measured, at most."""

RADII = (0.01, 0.0316, 0.1, 0.316, 1.0, 3.16, 10.0)
DEGREES = (0.0625, 0.125, 0.25, 0.5, 0.75, 1.0)
SMALL_STEPS = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
LARGE_STEPS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97, NEAR_ONE)

HELD_STEP, HELD_TIME, HELD_SLACK = 1e-4, 20, 0.02
"""Of the runs over time: eta L, their length in relaxation times, and the slack of RST's window."""

Row = dict[str, Any]
Instance = Literal["window", "quadratic"]


class Point(NamedTuple):
    """A run whose average squared gradient is measured; `x` is what its panel varies."""

    panel: str
    method: str
    x: float
    instance: Instance
    p: float
    gamma: float
    eta: float
    rho: float
    slack: float
    steps: int

    @property
    def floor(self) -> float:
        """(q L rho)^2."""
        return (self.p * self.gamma * self.rho) ** 2

    def problem(self) -> Problem:
        """The instance, L = 1."""
        if self.instance == "quadratic":
            # From about where it stays: the master bound is that of the whole run, its start included.
            return Quadratic([1.0], start=[self.eta * self.gamma * self.rho * math.sqrt(self.p)])
        return FloorInstance(self.p * self.gamma, self.rho, slack=self.slack)


class Held(NamedTuple):
    """A run over time on an instance that holds the constant schedule of its group."""

    group: str
    method: str
    degree: float
    slack: float
    schedule: rst.Schedule
    rho: rst.Schedule


HELD = (
    Held("SAM", "SAM", 1.0, 0.0, rst.Constant(1.0), rst.Constant(1.0)),
    Held("SAM", "Piecewise: SAM, SGD", 1.0, 0.0, rst.Piecewise(1.0, 0.0, 0.5), rst.Constant(1.0)),
    Held("SAM", "InverseSqrt radius (SAM)", 1.0, 0.0, rst.Constant(1.0), rst.InverseSqrt(1.0)),
    Held("RST", "RST p=0.5", 0.5, HELD_SLACK, rst.Constant(0.5), rst.Constant(1.0)),
    Held("RST", "InverseSqrt p (RST)", 0.5, HELD_SLACK, rst.InverseSqrt(0.5), rst.Constant(1.0)),
)


def points(level: Level) -> list[Point]:
    """Every point of the sweeps; a smaller run leaves out what takes long."""
    small = round(TIME / SMALL)
    found = [
        Point("rho", method, rho, "window", p, gamma, SMALL, rho, SLACK, small)
        for method, p, gamma in (
            ("RST p=0.5", 0.5, 1.0),
            ("G-RST p=0.25 γ=2", 0.25, 2.0),
            ("SAM", 1.0, 1.0),
        )
        for rho in RADII
    ]
    for q in DEGREES:
        for name, p, gamma in (("RST by p", q, 1.0), ("G-RST by γ", 0.5, 2 * q)):
            found.append(Point("q", name, q, "window", p, gamma, SMALL, 1.0, SLACK, small))
            large = f"{name}, large η"
            # With a rare coin the quadratic underflows to its minimum, where it stays; p = 1 is no coin.
            if 0.2 < p < 1:
                found.append(Point("q", large, q, "quadratic", p, gamma, NEAR_ONE, 1.0, 0.0, QUADRATIC_STEPS))
    for method, p, gamma in (("RST p=0.5", 0.5, 1.0), ("G-RST p=0.25 γ=2", 0.25, 2.0)):
        for e in SMALL_STEPS:
            steps = min(math.ceil(e**-2), LONGEST)
            found.append(Point("eta", method, e, "window", p, gamma, e, 1.0, _slack(p, gamma, e), steps))
        for e in LARGE_STEPS:
            found.append(Point("eta", method, e, "quadratic", p, gamma, e, 1.0, 0.0, QUADRATIC_STEPS))
    if level == "full":
        return found
    kept = {"check": (("rho", "RST p=0.5"), ("q", "RST by p")), "quick": ()}[level]
    return [point for point in found if point.instance == "quadratic" or (point.panel, point.method) in kept]


def _slack(p: float, gamma: float, e: float) -> float:
    """The slack that is this many stationary standard deviations (1 - 4 w) s of the walk in its window."""
    s = gamma * math.sqrt(p * (1 - p) * e / (2 - e))
    return DEVIATIONS * s / (1 + 4 * DEVIATIONS * s)


def run(size: Size, results: Path) -> Iterator[float]:
    """Write floor_points (a row per point) and floor_exponents (a row per fitted line)."""
    blocks = BLOCKS[size.level]
    chosen = points(size.level)
    tasks = [(point, SEED + i, blocks) for i, point in enumerate(points("full")) if point in chosen]
    tasks.sort(key=lambda task: -task[0].steps)  # the long ones first
    # Without coins a run has no interval, and no smaller form either.
    held = [(i, blocks) for i, one in enumerate(HELD) if size.full or one.group == "RST"]
    measured: list[list[float]] = []
    histories: list[list[Row]] = []
    share = len(tasks) / (len(tasks) + len(held))
    keep = size.runs / "floor_exponents"
    for done in spread(measure, tasks, size.processes, measured, keep):
        yield share * done
    for done in spread(follow, held, size.processes, histories, keep):
        yield share + (1 - share) * done
    samples = {task[0]: np.array(values) for task, values in zip(tasks, measured, strict=True)}
    samples = {point: samples[point] for point in chosen}
    fits = _fits(samples)
    write_table(results, "floor_exponents", fits)
    exponents = {(fit["panel"], fit["method"]): fit for fit in fits}
    rows = [_row(point, sample, exponents) for point, sample in samples.items()]
    write_table(results, "floor_points", rows + [row for history in histories for row in history])


def measure(point: Point, seed: int, blocks: int) -> list[float]:
    """The average squared gradient over the run, for each block."""
    point = Point(*point)
    at = np.arange(0, point.steps, max(1, point.steps // MEASURED))
    found = rst.simulate(
        point.problem(),
        point.p,
        steps=point.steps,
        eta=point.eta,
        rho=point.rho,
        gamma=point.gamma,
        replicas=blocks,
        seed=seed,
        at=at,
        threads=1,
        progress=False,
    )
    moments = found.squared_gradient_norm
    return [float(x) for x in moments.means[moments.counts > 0].mean(axis=1)]


def bound(point: Point) -> float:
    """The master bound of the run: with constant parameters T steps from a gap are one step from gap/T."""
    problem = point.problem()
    return nonconvex_average.evaluate(
        schedule=point.p,
        steps=1,
        eta=point.eta,
        rho=point.rho,
        gamma=point.gamma,
        constants=problem.constants,
        gap=float(problem.gap(problem.start)) / point.steps,
    )


def follow(index: int, blocks: int) -> list[Row]:
    """The squared gradient along a run, in units of the floor of its instance: the rows of one curve."""
    held = HELD[index]
    problem = FloorInstance(held.degree, slack=held.slack)
    steps = round(HELD_TIME / HELD_STEP)
    at = np.linspace(0, steps - 1, 3 * HELD_TIME + 1).astype(int)
    found = rst.simulate(
        problem,
        held.schedule,
        steps=steps,
        eta=HELD_STEP,
        rho=held.rho,
        replicas=blocks,
        seed=SEED,
        at=at,
        threads=1,
        progress=False,
    )
    moments = found.squared_gradient_norm
    samples = moments.means[moments.counts > 0] / problem.floor
    return [
        {
            **_kind("run", held.method, float(HELD_STEP * t), "window"),
            "p": None,
            "gamma": 1.0,
            "eta": HELD_STEP,
            "rho": None,
            "slack": held.slack,
            "steps": steps,
            **_estimate(column),
            "floor": 1.0,
            "bound": None,
            "exponent": None,
            "exponent_low": None,
            "exponent_high": None,
        }
        for t, column in zip(at, samples.T, strict=True)
    ]


def _kind(panel: str, method: str, x: float, instance: str) -> Row:
    return {"panel": panel, "method": method, "x": x, "instance": instance}


def _row(point: Point, sample: FloatArray, fits: dict[tuple[str, str], Row]) -> Row:
    fit = fits.get((point.panel, point.method), {"exponent": None, "low": None, "high": None})
    return {
        **point._asdict(),
        **_estimate(sample),
        "floor": point.floor,
        "bound": bound(point),
        "exponent": fit["exponent"],
        "exponent_low": fit["low"],
        "exponent_high": fit["high"],
    }


def _estimate(sample: FloatArray) -> Row:
    # Without the last digits, in which machines differ.
    value, low, high = (float(f"{end:.10g}") for end in _interval(sample))
    return {"value": value, "low": low, "high": high, "blocks": sample.size}


def _interval(sample: FloatArray, confidence: float = CONFIDENCE) -> Interval:
    """`mean_interval` from the first number, so that equal numbers have no spread, not even by rounding."""
    shift = float(sample[0])
    return Interval(*(shift + end for end in mean_interval(sample - shift, confidence)))


def _fits(samples: dict[Point, FloatArray]) -> list[Row]:
    """A line log value = exponent log x + c for each series over rho and q, block by block."""
    lines: dict[tuple[str, str], list[Point]] = {}
    for point in samples:
        if point.panel in ("rho", "q"):
            lines.setdefault((point.panel, point.method), []).append(point)
    family = sum(_small(chosen[0]) for chosen in lines.values())
    rows = []
    for (panel, method), chosen in lines.items():
        x = np.log([point.x for point in chosen])
        values = np.log([samples[point] for point in chosen])  # (points, blocks)
        slopes = (x - x.mean()) @ values / ((x - x.mean()) ** 2).sum()
        interval = _interval(slopes)
        wide = _interval(slopes, 1 - (1 - CONFIDENCE) / max(family, 1))
        rows.append(
            {
                "panel": panel,
                "method": method,
                "eta": chosen[0].eta,
                "points": len(chosen),
                "exponent": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "family_low": wide.low,
                "family_high": wide.high,
                "blocks": int(slopes.size),
            }
        )
    return rows


def _small(where: Point | Row) -> bool:
    """Whether the rule speaks of it: the step size is the small one."""
    return bool((where.eta if isinstance(where, Point) else where["eta"]) == SMALL)


def answer(results: Path) -> Answer:
    """The verdict by the rule, from the tables."""
    fits = read_table(results / "floor_exponents.json")
    rows = read_table(results / "floor_points.json")
    small = [fit for fit in fits if _small(fit)]
    measured = [row for row in rows if row["panel"] != "run"]
    above = [row for row in measured if _low(row, len(measured)) > row["bound"] * (1 + 1e-12)]
    ends = {row["method"]: row for row in rows if row["panel"] == "run"}
    left = {
        held.method: ends[held.method]["high"] / ends[_constant(held)]["low"]
        for held in HELD
        if _decays(held)
    }
    outside = [fit for fit in small if fit["family_low"] > 2.1 or fit["family_high"] < 1.9]
    leaves = all(ratio < 0.01 for ratio in left.values())
    verdict: Literal["refuted", "supported", "open"] = (
        "refuted" if outside else "supported" if not above and leaves else "open"
    )
    farthest = max(small, key=lambda fit: abs(fit["exponent"] - 2))
    over_eta = [row for row in rows if row["panel"] == "eta"]
    first = min(over_eta, key=lambda row: row["x"])
    shares = [
        row["value"] / (row["p"] * (row["gamma"] * row["rho"]) ** 2)
        for row in over_eta
        if row["x"] == NEAR_ONE
    ]
    by_p = next(fit for fit in fits if not _small(fit) and fit["method"].startswith("RST"))
    evidence = (
        f"At ηL = {SMALL:g}, on the instance that holds the walk, {len(small)} exponents in ρ and q were "
        f"fitted: farthest from 2 is {farthest['exponent']:.6f} [{farthest['low']:.6f}, "
        f"{farthest['high']:.6f}] ({farthest['method']}). The average is "
        f"{first['value'] / first['floor']:.3f} (qLρ)² at ηL = {first['x']:g}; at ηL = {NEAR_ONE:g}, on the "
        f"quadratic, it is {min(shares):.3f} to {max(shares):.3f} times qγ(Lρ)², and there the exponent in "
        f"q by way of p is {by_p['exponent']:.3f} [{by_p['low']:.3f}, {by_p['high']:.3f}], not 2. "
        f"{len(above)} of {len(measured)} averages lie above the master bound of their run. With constant "
        f"parameters SAM ends at {ends['SAM']['value']:.3f} and RST at {ends['RST p=0.5']['value']:.3f} "
        f"times (qLρ)², the decaying schedules below {max(left.values()):.1g} of that. Limits: one "
        "dimension, no noise, an instance made for each q and ρ; for p < 1 the average is that of a stay in "
        f"the window of at most {LONGEST:,} steps, not the limit T → ∞ at a fixed η."
    )
    return Answer(verdict, f"exponents within {abs(farthest['exponent'] - 2):.1g} of 2", evidence)


def _decays(held: Held) -> bool:
    return held.method != _constant(held)


def _constant(held: Held) -> str:
    """The series with constant parameters on the same instance."""
    return next(other.method for other in HELD if other.group == held.group)


def _low(row: Row, comparisons: int) -> float:
    """The lower end of a row's interval, for this many at once."""
    levels = (1 - (1 - CONFIDENCE) / (2 * k) for k in (1, comparisons))
    one, all_of_them = (float(stats.t.ppf(level, row["blocks"] - 1)) for level in levels)
    return float(row["value"] - (row["value"] - row["low"]) * all_of_them / one)
