"""Question: do runs cost what the law of their schedule says, in distribution and not only on average?

Design: every schedule of the catalogue, with independent and with systematic trials, T = 101 steps, no
multiple of 2 to 5, so that few schedules have a whole number as expected cost. (a) Training: the optimizer on
a linear model of two weights; a closure counts the forward-backward passes that it is asked for.
(b) Simulation: the batched engine on a quadratic in two dimensions. A run is told by its seed, a replica by
its number; the pairs that its trials announce are computed apart.

Tests, for each schedule, kind of trials and source, of n runs against the exact law of N, the extra pairs:

- support: no run has a value of N of probability 0; where the law is certain this is all there is to test;
- law: values are pooled from below into bins of at least 5 expected runs; in each bin the number of runs is
  binomial, with an exact two-sided p value; the least of them times the number of bins (Bonferroni). Unlike
  Pearson's chi-square it keeps its level at p values of 1e-9. With systematic trials the bins are the
  expected cost rounded down and up;
- mean, for independent trials: z = (mean - E N) sqrt(n)/sd(N), standard normal but for terms of order
  1/sqrt(n T).

Rule fixed before the run: refuted where a run spends other pairs than its trials announced, where a value of
probability 0 occurs, or where a p value, after Holm's correction over all, is below 1e-6; else verified.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

import rst_theory as rst
from experiments.pool import spread
from experiments.question import Answer, Check, Question
from experiments.schedules import catalogue
from experiments.settings import Level, Size
from experiments.statistics import holm, mean_interval
from rst_theory.cost import CostLaw
from rst_theory.files import read_table, write_table
from rst_theory.optim import RST
from rst_theory.problems import Quadratic
from rst_theory.schedules import Schedule
from rst_theory.trials import Trials, TrialsKind, sequences

__all__ = ["CHECKS", "QUESTION", "answer", "run", "simulated_pairs", "trained_pairs"]

QUESTION = Question(
    id="Q1",
    title="Cost law",
    statement="Runs cost what the exact law of their schedule says: each one the pairs that its trials "
    "announced, and many together the whole distribution, for independent and for systematic trials.",
    rule="Refuted where one run spends other pairs than announced, where a count of probability 0 occurs, or "
    "where a test of the counts against the law has p < 1e-6 after Holm's correction over all tests; else "
    "verified.",
    change="One run that spends other pairs than announced, or counts that leave the law at p < 1e-6.",
    figure="realized_cost",
)

CHECKS = (
    Check("realized_cost", ("schedule", "kind", "source"), "mean", ("mean_low", "mean_high"), "runs"),
    Check("realized_cost", ("schedule", "kind", "source"), "exact_mean"),
    Check("realized_cost", ("schedule", "kind", "source"), "exact_sd"),
    Check("realized_cost", ("schedule", "kind", "source"), "unannounced"),
)

T = 101
KINDS: tuple[TrialsKind, ...] = ("independent", "systematic")
EVERY: dict[Level, int] = {"full": 1, "check": 2, "quick": 8}
"""Which schedules of the catalogue: all, or every so many."""
RUNS: dict[Level, dict[str, int]] = {
    "full": {"training": 64, "simulation": 20_000},
    "check": {"training": 6, "simulation": 2_000},
    "quick": {"training": 2, "simulation": 500},
}
"""n of each schedule and kind; those of a smaller run are the first ones of the full run."""
FIRST_SEED, SIMULATION_SEED = 1_000_000, 20220309  # apart, so that no run has the coins of a replica
FALSE_ALARM = 1e-6
"""The probability that true laws are called refuted is at most this."""
LEAST_EXPECTED = 5.0

Counts = npt.NDArray[np.int64]
Row = dict[str, Any]


class Bin(NamedTuple):
    """Neighbouring values of N, taken together: how many runs had one, and how probable they are."""

    runs: int
    probability: float


def run(size: Size, results: Path) -> Iterator[float]:
    """Write realized_cost.csv, a row per schedule, kind of trials and source; yields the share done."""
    tasks = [
        (source, named.label, kind, n)
        for named in catalogue(T)[:: EVERY[size.level]]
        for kind in KINDS
        for source, n in RUNS[size.level].items()
    ]
    rows: list[Row] = []
    yield from spread(measure, tasks, size.processes, rows, keep=size.runs / "realized_cost")
    write_table(results, "realized_cost", rows)


def measure(source: str, label: str, kind: TrialsKind, n: int) -> Row:
    """The pairs of n runs beside what was announced and beside the exact law."""
    schedule = next(named.schedule for named in catalogue(T) if named.label == label)
    law = CostLaw(schedule, T, kind)
    p = law.probabilities
    if source == "training":
        seeds = range(FIRST_SEED, FIRST_SEED + n)
        spent = np.array([trained_pairs(schedule, seed, kind) for seed in seeds])
        announced = np.array([Trials(p, seed, kind).extra_pairs for seed in seeds])
    else:
        spent = simulated_pairs(schedule, n, kind)
        announced = sequences(p, SIMULATION_SEED, kind, np.arange(n)).sum(axis=1)
    return {
        "schedule": label,
        "kind": kind,
        "source": source,
        "steps": T,
        "runs": n,
        "unannounced": int((spent != announced).sum()),
        **_judged(spent, law),
    }


def trained_pairs(schedule: Schedule, seed: int, kind: TrialsKind) -> int:
    """The extra pairs of one training run of T steps: the calls of its closure beyond T."""
    weights = torch.nn.Parameter(torch.zeros(2))
    features, targets = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.2, -0.3]]), torch.tensor([1.0, 0.0, -1.0])
    optimizer = RST(torch.optim.SGD([weights], lr=0.05), schedule, T, rho=0.05, seed=seed, trials=kind)
    passes = 0

    def closure() -> torch.Tensor:
        nonlocal passes
        passes += 1
        optimizer.zero_grad()
        residuals = features @ weights - targets
        loss = residuals @ residuals
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(T):
        optimizer.step(closure)
    return passes - T


def simulated_pairs(schedule: Schedule, n: int, kind: TrialsKind) -> Counts:
    """The extra pairs of n replicas of T steps, int64 (n,)."""
    problem = Quadratic([0.2, 1.0], noise=0.1)
    return rst.simulate(
        problem,
        schedule,
        steps=T,
        eta=0.5,
        rho=0.05,
        replicas=n,
        seed=SIMULATION_SEED,
        trials=kind,
        at=[0],
        threads=1,
        progress=False,
    ).extra_pairs


def _judged(spent: Counts, law: CostLaw) -> Row:
    """Mean and distribution of the counts beside those of the law."""
    n, sd, pmf = spent.size, law.standard_deviation, law.pmf()
    counted = np.bincount(spent, minlength=T + 1)
    mean, low, high = mean_interval(spent)
    z = (mean - law.mean) * math.sqrt(n) / sd if sd > 0 and law.kind == "independent" else None
    bins = _pooled(counted, pmf)
    shown = slice(spent.min(), spent.max() + 1)
    return {
        "mean": mean,
        "mean_low": low,
        "mean_high": high,
        "exact_mean": law.mean,
        "exact_sd": sd,
        "z": z,
        "p_mean": None if z is None else float(2 * stats.norm.sf(abs(z))),
        "bins": len(bins),
        "p_law": _law_p_value(bins, n) if len(bins) > 1 else None,
        "impossible": int(counted[pmf == 0].sum()),
        "least": int(spent.min()),
        "most": int(spent.max()),
        "counted": counted[shown].tolist(),
        "probability": pmf[shown].tolist(),
    }


def _pooled(counted: Counts, pmf: npt.NDArray[np.float64]) -> list[Bin]:
    """Bins of at least LEAST_EXPECTED expected runs, from the least value up; what is left joins the last."""
    n = int(counted.sum())
    bins, begin = [], 0
    for end in range(1, len(pmf) + 1):
        if n * pmf[begin:end].sum() >= LEAST_EXPECTED:
            bins.append(Bin(int(counted[begin:end].sum()), float(pmf[begin:end].sum())))
            begin = end
    last = bins.pop() if bins else Bin(0, 0.0)
    rest = Bin(int(counted[begin:].sum()), float(pmf[begin:].sum()))
    return [*bins, Bin(last.runs + rest.runs, min(last.probability + rest.probability, 1.0))]


def _law_p_value(bins: Sequence[Bin], n: int) -> float:
    """The least exact binomial p value of the bins, times their number."""
    least = min(float(stats.binomtest(one.runs, n, one.probability).pvalue) for one in bins)
    return min(1.0, len(bins) * least)


def answer(results: Path) -> Answer:
    """The verdict, from realized_cost.json."""
    rows = read_table(results / "realized_cost.json")
    astray = sum(row["unannounced"] for row in rows)
    impossible = sum(row["impossible"] for row in rows)
    p_values = [row[test] for row in rows for test in ("p_law", "p_mean") if row[test] is not None]
    least = min(holm(p_values), default=1.0)
    trained = sum(row["runs"] for row in rows if row["source"] == "training")
    simulated = sum(row["runs"] for row in rows if row["source"] == "simulation")
    schedules = len({row["schedule"] for row in rows})
    certain = sum(row["p_law"] is None for row in rows)
    refuted = astray > 0 or impossible > 0 or least < FALSE_ALARM
    combed = [row for row in rows if row["kind"] == "systematic"]
    beside = sum(row["impossible"] for row in combed)
    evidence = (
        f"{astray} of {trained:,} training runs, whose passes were counted, and {simulated:,} simulated "
        f"runs, of {schedules} schedules, independent and systematic trials, spent other pairs than their "
        f"trials had announced; {impossible} spent a number that the law excludes. Over {len(p_values)} "
        f"tests of counts against the exact law the least p value is {least:.2g} after Holm's correction; "
        f"{certain} of {len(rows)} laws are certain, or so nearly that only their support could be tested. "
        f"{_farthest(rows)}With systematic trials {beside} of {sum(row['runs'] for row in combed):,} runs "
        "spent anything but the expected cost rounded down or up. "
        f"All runs have {rows[0]['steps']} steps of a tiny model or a quadratic in one process: the law is "
        "that of the trials, which no model enters."
    )
    return Answer("refuted" if refuted else "verified", f"{astray} of {trained:,} runs off plan", evidence)


def _farthest(rows: Sequence[Row]) -> str:
    """The mean cost over all independent simulations that is farthest from its law, with its interval."""
    judged = [row for row in rows if row["z"] is not None and row["source"] == "simulation"]
    if not judged:
        return ""
    worst = max(judged, key=lambda row: abs(row["z"]))
    ends = f"[{worst['mean_low']:.3f}, {worst['mean_high']:.3f}]"
    return (
        f"Of {len(judged)} mean costs, each of {worst['runs']:,} simulated runs, the farthest from its law "
        f"is that of {worst['schedule']}: {worst['mean']:.3f} {ends} extra pairs at 99 %, exactly "
        f"{worst['exact_mean']:.3f} (z = {worst['z']:+.2f}). "
    )
