"""What a schedule promises as p(t): the law of the cost, against all outcomes and against trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rst_theory.cost import CostLaw
from rst_theory.notation import FloatArray
from rst_theory.schedules import Schedule
from rst_theory.testing.contract import FALSE_ALARM, Promise
from rst_theory.testing.exact import AGREEMENT, real
from rst_theory.trials import TrialsKind, sequences

__all__ = ["LAWS", "REPLICAS"]

ENUMERATED = 6  # steps: 2^6 outcomes
REPLICAS = 2000
_KINDS: tuple[TrialsKind, ...] = ("independent", "systematic")
_STATISTICAL = 20  # examples at most


def _outcomes(p: Sequence[float]) -> dict[TrialsKind, FloatArray]:
    """P(N = k), k = 0, …, T, outcome by outcome; one uniform number decides all systematic trials."""
    T, whole = len(p), math.floor(math.fsum(p))
    part = math.fsum([*p, -whole])
    independent, systematic = np.zeros(T + 1), np.zeros(T + 2)
    for outcome in itertools.product((0, 1), repeat=T):
        independent[sum(outcome)] += math.prod(q if x else 1 - q for q, x in zip(p, outcome, strict=True))
    systematic[whole : whole + 2] = 1 - part, part
    return {"independent": independent, "systematic": systematic[: T + 1]}


def _moments(law: FloatArray) -> tuple[float, float]:
    k = np.arange(law.size)
    mean = float(law @ k)
    return mean, float(law @ (k - mean) ** 2)


def _cost(schedule: Schedule, T: int) -> str | None:
    if T > ENUMERATED:
        return None
    for kind, wanted in _outcomes(schedule.values(T).tolist()).items():
        found = CostLaw(schedule, T, kind)
        mean, variance = _moments(wanted)
        pairs = [("mean", found.mean, mean), ("variance", found.variance, variance)]
        chances = zip(found.pmf().tolist(), wanted.tolist(), strict=True)
        pairs += [(f"probability of N = {k}", a, b) for k, (a, b) in enumerate(chances)]
        for name, a, b in pairs:
            if abs(a - b) > AGREEMENT:
                return f"{kind} trials: the {name} is {a}, by all outcomes {b}"
    return None


def _closed_form(schedule: Schedule, T: int) -> str | None:
    if T > ENUMERATED:
        return None
    for kind, law in _outcomes(schedule.values(T).tolist()).items():
        closed = CostLaw(schedule, T, kind).closed_form()
        for name, exact, b in zip(
            ("mean", "variance"), (closed.mean, closed.variance), _moments(law), strict=True
        ):
            if (number := real(exact)) is None or abs(float(number) - b) > AGREEMENT:
                return f"{kind} trials: the {name} is {exact}, by all outcomes {b}"
    return None


def _trials(schedule: Schedule, T: int) -> str | None:
    comparisons = _STATISTICAL * len(_KINDS) * (2 * T + 1)
    for kind in _KINDS:
        law = CostLaw(schedule, T, kind)
        heads = sequences(schedule.probabilities(T), 0, kind, np.arange(REPLICAS))
        counts = np.bincount(heads.sum(axis=1), minlength=T + 1)
        seen = np.concatenate([heads.sum(axis=0), counts])
        chances = np.concatenate([schedule.values(T), law.pmf()])
        rare = _tail(seen, np.clip(chances, 0.0, 1.0)) < FALSE_ALARM / comparisons
        if rare.any():
            i = int(np.argmax(rare))
            event = f"heads at t = {i}" if i < T else f"runs with {i - T} heads"
            return (
                f"{kind} trials: {seen[i]} {event} in {REPLICAS} runs, which by the law have the probability "
                f"{chances[i]:.6g}, {REPLICAS * chances[i]:.6g} in all"
            )
    return None


def _tail(seen: Any, chance: FloatArray) -> FloatArray:
    """Twice the smaller tail of the binomial law of `REPLICAS` trials, both with the count seen."""
    from scipy.special import betainc

    n = REPLICAS
    above = np.where(seen > 0, betainc(np.maximum(seen, 1), n + 1 - np.maximum(seen, 1), chance), 1.0)
    below = np.where(
        seen < n, betainc(n - np.minimum(seen, n - 1), np.minimum(seen, n - 1) + 1, 1 - chance), 1.0
    )
    return np.asarray(2 * np.minimum(above, below))


LAWS = (
    Promise("cost", "the cost law is that of all outcomes, to 1e-10", _cost, of=2, at_most=_STATISTICAL),
    Promise("closed form", "its exact mean and variance are too", _closed_form, of=2, at_most=5),
    Promise(
        "trials", "trials follow the cost law, but with probability 1e-9", _trials, of=2, at_most=_STATISTICAL
    ),
)
