"""Question: do bounds rank schedules of equal cost and degree as the runs do, and do allocations win?

Design: a quadratic and a nonconvex problem with the Polyak-Lojasiewicz inequality, with and without noise,
cosine and constant step sizes; schedules of one mean and one degree, gamma_t = q/p_t, among them the two
that `allocate` finds; common random numbers. Each bound that applies predicts an order of the schedules in
its own metric, and so does, on the quadratic, what the trials add on its spectrum; the simulation measures
one.

Beside the constant schedule of the same budget the others are compared pairwise. The replicas fall into the
same S groups for all; with the means a_s and c_s of a group the ratio r = mean a / mean c has the interval
r exp(+-t s/sqrt(S)), s the standard deviation of a_s/mean a - c_s/mean c (delta method), t so that all ratios
of all settings together keep 99 % (Bonferroni).

Rule fixed before the run: a predictor is believed to rank schedules in a setting where Kendall's tau of the
two orders is positive with a one-sided p value of at most .05; an allocation wins where the 99 % interval of
its measured metric does not lie wholly above that of the best schedule; in believed.csv the better of the
two is judged, in allocation.csv each. Rule for the verdict, written when believed.csv was known: refuted
where an allocation does not win in a setting where the theory that found it applies; else supported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rst_theory as rst
from experiments.pool import spread
from experiments.question import Answer, Check, Question
from experiments.settings import CONFIDENCE, Level, Size
from experiments.statistics import Interval, mean_interval
from rst_theory.allocation import allocate, trial_weights
from rst_theory.bounds import Bound, applicable, nonconvex_average, pl_last_iterate
from rst_theory.files import read_table, write_table
from rst_theory.notation import FloatArray
from rst_theory.problems import Problem, Quadratic, RippledQuadratic
from rst_theory.schedules import Schedule, matched_gamma
from rst_theory.simulation import Trajectories, simulate

__all__ = ["CHECKS", "QUESTION", "answer", "run"]

QUESTION = Question(
    id="Q7",
    title="Allocation",
    statement="The schedule that the theory finds optimal under a budget is the best one measured, or cannot "
    "be told from it, wherever the theory that found it applies.",
    rule="Refuted where the 99 % interval of an allocation's metric lies wholly above that of the best "
    "schedule in a setting where the theory that found it applies; else supported.",
    change="A theory whose allocations win in the settings where these lose, or losses where these win.",
    figure="allocation",
)

SEED = 20220311
DEGREE = 1.0
LARGEST_GAMMA = 1000.0  # keeps the degree where the metric would not miss it
T = 400


class Where(NamedTuple):
    """A problem with step sizes, radii and a budget."""

    problem: str
    noise: float
    eta: str
    budget: float


SETTINGS = [
    Where(problem, noise, eta, budget)
    for problem in ("quadratic", "rippled quadratic")
    for noise in (0.0, 0.1)
    for eta in ("cosine", "constant")
    for budget in (0.25, 0.5)
]
EVERY: dict[Level, int] = {"full": 1, "check": 5, "quick": 15}
"""Which settings: all, or every so many."""
COMPARISONS = 2 * 8 * (9 + 7)
"""Ratios to the constant schedule: two metrics, eight settings of either problem, all other schedules."""
GOALS = {"average": nonconvex_average, "last_iterate": pl_last_iterate}
"""What an allocation is for, and the bound with that metric."""
ROUNDING = 1e-9  # relative: an allocation may be the constant schedule but for this
RADIUS = 0.3
_STEP_SIZES = {"cosine": rst.Cosine(0.8, 0.01), "constant": rst.Constant(0.2)}
"""In units of 1/L."""


CHECKS = tuple(
    Check("ranking", (*Where._fields, "schedule", "predictor"), value, interval)
    for value, interval in (("measured", ("low", "high")), ("predicted", None))
)

Row = dict[str, Any]


def run(size: Size, results: Path) -> Iterator[float]:
    """Write the tables.

    In every setting ranking.csv has a row per schedule and predictor, believed.csv one per predictor, and
    allocation.csv one per allocation.
    """
    found: list[dict[str, list[Row]]] = []
    tasks = [(where, size.replicas) for where in SETTINGS[:: EVERY[size.level]]]
    yield from spread(measure, tasks, size.processes, found, keep=size.runs / "ranking")
    for table in ("ranking", "believed", "allocation"):
        write_table(results, table, [row for tables in found for row in tables[table]])


def measure(where: Where, replicas: int) -> dict[str, list[Row]]:
    """The rows of every table in one setting."""
    problem = _problem(where)
    L = problem.constants.L
    eta = _STEP_SIZES[where.eta].values(T) / L
    gap = float(problem.gap(problem.start))
    rows, runs = [], {}
    for name, schedule in _schedules(problem, eta, where.budget).items():
        gamma = matched_gamma(schedule, T, DEGREE).gamma
        arguments: dict[str, Any] = {"steps": T, "eta": eta, "rho": RADIUS, "gamma": gamma}
        trajectories = simulate(problem, schedule, replicas=replicas, seed=SEED, **arguments)
        runs[name] = trajectories
        found = applicable(problem, schedule=schedule, gap=gap, **arguments)
        predictions = [(bound.name, bound, predicted) for bound, predicted in found]
        if isinstance(problem, Quadratic):
            # The same metrics, predicted by what the trials add on this very quadratic.
            for goal, like in GOALS.items():
                w = trial_weights(
                    steps=T,
                    eta=eta,
                    rho=RADIUS,
                    degree=DEGREE,
                    constants=problem.constants,
                    goal=goal,  # type: ignore[arg-type]
                    spectrum=problem.eigenvalues,
                )
                added = float((w**2 * (1 / schedule.values(T) - 1)).sum())
                predictions.append((_on_spectrum(goal), like, added))
        for label, bound, predicted in predictions:
            measured = trajectories.weighted(bound)
            low, high = measured.interval(CONFIDENCE)
            rows.append(
                {
                    **where._asdict(),
                    "schedule": name,
                    "mean_p": float(schedule.values(T).mean()),
                    "largest_gamma": float(gamma.max()),
                    "predictor": label,
                    "quantity": bound.metric.quantity,
                    "measured": measured.mean,
                    "low": low,
                    "high": high,
                    "predicted": predicted,
                }
            )
    believed = _believed(rows)
    return {"ranking": rows, "believed": believed, "allocation": _allocations(believed, runs)}


def _on_spectrum(goal: str) -> str:
    """The name of the predictor that follows the trials on the spectrum of a quadratic."""
    return f"trials on the spectrum, {goal}"


def _problem(where: Where) -> Problem:
    if where.problem == "quadratic":
        return Quadratic(np.geomspace(0.05, 1.0, 10), noise=where.noise)
    return RippledQuadratic(dimension=5, noise=where.noise)


def _schedules(problem: Problem, eta: Any, mean: float) -> dict[str, Schedule]:
    """Schedules of one mean, positive everywhere so that the degree is kept in every step."""
    high, low = 1.8 * mean, 0.2 * mean
    arguments: dict[str, Any] = {
        "steps": T,
        "eta": eta,
        "rho": RADIUS,
        "degree": DEGREE,
        "constants": problem.constants,
    }
    found: dict[str, Schedule] = {
        "constant": rst.Constant(mean),
        "early": rst.Piecewise(high, low, 0.5),
        "late": rst.Piecewise(low, high, 0.5),
        "falling": rst.Linear(high, low),
        "rising": rst.Linear(low, high),
        "allocated, average": allocate(mean, **arguments),
        "allocated, last": allocate(mean, goal="last_iterate", **arguments),
        "allocated, average, gamma <= 2/p": allocate(mean, max_gamma=2 * DEGREE / mean, **arguments),
    }
    if isinstance(problem, Quadratic):
        known = {**arguments, "spectrum": problem.eigenvalues, "max_gamma": LARGEST_GAMMA}
        found["spectrum, average"] = allocate(mean, **known)
        found["spectrum, last"] = allocate(mean, goal="last_iterate", **known)
    return found


def _believed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How the order of each predictor agrees with the measured one, and whether an allocation wins."""
    from scipy import stats

    found = []
    for predictor in dict.fromkeys(row["predictor"] for row in rows):
        group = [row for row in rows if row["predictor"] == predictor]
        tau = stats.kendalltau(
            [row["predicted"] for row in group], [row["measured"] for row in group], alternative="greater"
        )
        best = min(group, key=lambda row: row["measured"])
        goal = "last" if group[0]["quantity"] == "final_gap" else "average"
        own = min(
            (row for row in group if row["schedule"] in (f"allocated, {goal}", f"spectrum, {goal}")),
            key=lambda row: row["measured"],
        )
        foreseen = min(group, key=lambda row: row["predicted"])
        found.append(
            {
                **{key: group[0][key] for key in (*Where._fields, "predictor", "quantity")},
                "tau": float(tau.statistic),
                "p_value": float(tau.pvalue),
                "believed": bool(tau.pvalue <= 0.05),
                "measured_best": best["schedule"],
                "predicted_best": foreseen["schedule"],
                "allocation": own["schedule"],
                "allocation_wins": bool(own["low"] <= best["high"]),
                "own_over_best": own["measured"] / best["measured"],
            }
        )
    return found


def _allocations(believed: Sequence[Row], runs: dict[str, Trajectories]) -> list[Row]:
    """Each allocation beside the constant schedule, and the best and the worst schedule of the setting."""
    predictors = {row["predictor"]: row for row in believed}
    rows = []
    for goal, bound in GOALS.items():
        metric = {name: _by_group(trajectories, bound) for name, trajectories in runs.items()}
        measured = {name: trajectories.weighted(bound) for name, trajectories in runs.items()}
        best, worst = (end(measured, key=lambda name: measured[name].mean) for end in (min, max))
        for theory, predictor in (("allocated", bound.name), ("spectrum", _on_spectrum(goal))):
            own = f"{theory}, {goal.removesuffix('_iterate')}"
            if predictor not in predictors:
                continue
            judged, limit = predictors[predictor], measured[best].interval(CONFIDENCE)[1]
            relative = {
                key: ratio_interval(metric[name], metric["constant"])
                for key, name in (("relative", own), ("best_relative", best), ("worst_relative", worst))
            }
            rows.append(
                {
                    **{key: judged[key] for key in (*Where._fields, "predictor", "quantity")},
                    "schedule": own,
                    "best": best,
                    "worst": worst,
                    "groups": len(metric[own]),
                    **{
                        f"{key}{end}": value
                        for key, three in relative.items()
                        for end, value in zip(("", "_low", "_high"), three, strict=True)
                    },
                    "over_best": measured[own].mean / measured[best].mean,
                    "wins": bool(measured[own].interval(CONFIDENCE)[0] <= limit),
                    "tau": judged["tau"],
                    "believed": judged["believed"],
                }
            )
    return rows


def _by_group(trajectories: Trajectories, bound: Bound) -> FloatArray:
    """The bound's metric in each group of replicas, (S,); the groups are equally large."""
    quantity = "gap" if bound.metric.weights is None else "squared_gradient_norm"
    moments = trajectories.moments[quantity]
    means = moments.means[moments.counts > 0]
    if bound.metric.weights is None:
        return means[:, -1]
    return np.asarray(means[:, :-1] @ bound.metric.weights(trajectories.eta, trajectories.L))


def ratio_interval(first: FloatArray, second: FloatArray, comparisons: int = COMPARISONS) -> Interval:
    """The ratio of the means of two positive samples drawn together, with its interval by the delta method.

    Args:
        first: (n,).
        second: (n,).
        comparisons: how many intervals hold together at the level CONFIDENCE.
    """
    ratio = float(first.mean() / second.mean())
    deviations = first / first.mean() - second / second.mean()
    half = mean_interval(deviations, 1 - (1 - CONFIDENCE) / comparisons).high - deviations.mean()
    return Interval(ratio, ratio * float(np.exp(-half)), ratio * float(np.exp(half)))


def answer(results: Path) -> Answer:
    """The verdict, from allocation.json."""
    rows = read_table(results / "allocation.json")
    lost = [row for row in rows if not row["wins"]]
    settings = {tuple(row[key] for key in Where._fields) for row in rows}
    trusted, doubted = ([row for row in rows if row["believed"] is told] for told in (True, False))
    theories = "; ".join(
        f"{words} {_tally([row for row in rows if row['predictor'] == predictor])}"
        for predictor, words in (
            (nonconvex_average.name, "for the average squared gradient by the master bound"),
            (_on_spectrum("average"), "by the trials on the spectrum"),
            (pl_last_iterate.name, "for the last gap by the Polyak-Lojasiewicz recursion"),
            (_on_spectrum("last_iterate"), "by the trials on the spectrum"),
        )
    )
    below = sum(row["relative_high"] < 1 - ROUNDING for row in rows)
    above = sum(row["relative_low"] > 1 + ROUNDING for row in rows)
    evidence = (
        f"{_tally(rows)} allocations in {len(settings)} settings win: {theories}. Where the theory ranked "
        f"the schedules as the runs did, {_tally(trusted)} win, elsewhere {_tally(doubted)}. Beside the "
        f"constant schedule of the same cost and degree, on common random numbers, {below} are better, "
        f"{above} worse and {len(rows) - below - above} not told apart, at 99 % for all together. "
        f"{_extremes(rows)}{_where(lost)}Measured on two problems of at most ten dimensions with known "
        f"constants, at one degree and {T} steps."
    )
    return Answer("refuted" if lost else "supported", f"{len(rows) - len(lost)} of {len(rows)} win", evidence)


def _tally(rows: Sequence[Row]) -> str:
    return f"{sum(row['wins'] for row in rows)} of {len(rows)}"


def _extremes(rows: Sequence[Row]) -> str:
    """The largest gain over the constant schedule and the largest loss."""
    said = []
    for word, end in (("The largest gain", min), ("the largest loss", max)):
        row = end(rows, key=lambda row: row["relative"])
        metric = "last gap" if row["quantity"] == "final_gap" else "average squared gradient"
        ends = f"[{row['relative_low']:.3g}, {row['relative_high']:.3g}]"
        said.append(
            f"{word} is a {metric} of {row['relative']:.3g} {ends} times the constant's ({_named(row)})"
        )
    return "; ".join(said) + ". "


def _where(lost: Sequence[Row]) -> str:
    """Where the losses are, and how large."""
    if not lost:
        return ""
    falling = sum(row["eta"] == "cosine" for row in lost)
    least, worst = (end(lost, key=lambda row: row["over_best"]) for end in (min, max))
    return (
        f"Of the {len(lost)} losses {falling} are with step sizes that decay; they lie from "
        f"{least['over_best']:.5g} to {worst['over_best']:.5g} times the best schedule, where that is "
        f"{worst['best']} ({_named(worst)}). "
    )


def _named(row: Row) -> str:
    noise = f"noise {row['noise']:g}" if row["noise"] else "no noise"
    return (
        f"{row['schedule']}; {row['problem']}, {noise}, {row['eta']} step sizes, mean p = {row['budget']:g}"
    )
