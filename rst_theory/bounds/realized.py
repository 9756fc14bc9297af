"""Bounds given the trials: of this run, for the coins that it drew, and their mean over the coins.

Given the coins X_0, …, X_{T-1} a run is one with the certain probabilities p_t = X_t, so every bound over
a run speaks of it, with q_t = X_t gamma_t. Only the family of all trials need be independent of the
minibatches; among themselves the trials may depend on one another in any way, as systematic and periodic
ones do. Proofs: `paper_notes/conditional.md`. Symbol key in `rst_theory.bounds.base`, and: R_t the
discrepancy X_0 + … + X_t - (p_0 + … + p_t), below 1 for systematic trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rst_theory.bounds.average import WEIGHTED_AVERAGE, indexed, nonconvex_average
from rst_theory.bounds.base import (
    STEP_SIZE,
    A,
    Bound,
    Metric,
    Parameter,
    RunBound,
    Setting,
    Symbolic,
    settle,
)
from rst_theory.notation import QUANTITIES, FloatArray, ProblemConstants, natural
from rst_theory.schedules import Schedule, Tabulated, sequence
from rst_theory.trials import Trials, TrialsKind, comb, sequences

if TYPE_CHECKING:
    import sympy

__all__ = [
    "RealizedBound",
    "TrialAverage",
    "averaged_over_trials",
    "given_trials",
    "nonconvex_average_realized",
]

_UNCERTAIN = 10
"""Independent trials are enumerated where at most this many have 0 < p < 1."""

_BITS = 53  # of a probability as `Trials` draws it: a multiple of 2^-53


class TrialAverage(NamedTuple):
    """The mean over the trials of the bound given the trials.

    Attributes:
        value: the mean.
        standard_error: of a Monte Carlo value; 0 where every sequence of coins was enumerated.
    """

    value: float
    standard_error: float


def given_trials(bound: RunBound, trials: Trials | npt.ArrayLike, **arguments: Any) -> float:
    """The bound of the run that draws these coins.

    It bounds the expectation of the metric over the minibatches alone; without noise, the metric itself.

    Args:
        bound: a bound over a run.
        trials: the coins X_t: `Trials`, or bools (T,).
        arguments: those of `RunBound.evaluate` but for the schedule and the steps.

    Raises:
        TypeError: the coins are not bools.
        ValueError: their shape is not (T,) with T >= 1.
        DomainError: as `RunBound.evaluate` raises it, with p_t = X_t.
    """
    coins = _coins(trials)
    return bound.evaluate(schedule=Tabulated(tuple(coins.astype(float))), steps=coins.size, **arguments)


def _coins(trials: Trials | npt.ArrayLike) -> npt.NDArray[np.bool_]:
    coins = trials.sequence() if isinstance(trials, Trials) else np.asarray(trials)
    if coins.dtype != np.bool_:
        raise TypeError(f"trials must be bools; got {trials!r}")
    if coins.ndim != 1 or coins.size == 0:
        raise ValueError(f"trials must have shape (T,) with T >= 1; got shape {coins.shape}")
    return coins


def averaged_over_trials(
    bound: RunBound | RealizedBound,
    schedule: Schedule | float,
    steps: int,
    *,
    kind: TrialsKind = "independent",
    samples: int = 1000,
    seed: int = 0,
    **arguments: Any,
) -> TrialAverage:
    """The mean over the trials of the bound given the trials: a bound on the expectation of the metric.

    Systematic trials take at most T + 1 sequences, which are enumerated, and independent ones are where
    at most 10 have 0 < p_t < 1. Otherwise the mean is estimated from drawn sequences.

    Args:
        bound: a bound over a run, or one given the trials.
        schedule: p(t), or a number.
        steps: T >= 1.
        kind: "independent" or "systematic", as in `Trials`.
        samples: how many sequences are drawn where they are not enumerated, >= 2.
        seed: of these sequences, 0 <= seed < 2^64.
        arguments: the others of `RunBound.evaluate`.

    Raises:
        ValueError: an unknown kind of trials.
        DomainError: an argument outside its domain, or a condition of the bound that some sequence of
            coins violates.
    """
    p = sequence(schedule, natural("steps", steps, least=1), QUANTITIES["p"])
    samples = natural("samples", samples, least=2)

    def value(coins: npt.NDArray[np.bool_]) -> float:
        if isinstance(bound, RealizedBound):
            return bound.evaluate(trials=coins, schedule=p, **arguments)
        return given_trials(bound, coins, **arguments)

    if kind == "systematic":
        law = _systematic_law(p)
    elif kind != "independent":
        raise ValueError(f"kind must be 'independent' or 'systematic'; got {kind!r}")
    elif ((p > 0) & (p < 1)).sum() <= _UNCERTAIN:
        law = _independent_law(p)
    else:
        drawn = sequences(p, seed, kind, np.arange(samples))
        values = np.array([value(coins) for coins in drawn])
        return TrialAverage(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(samples))
    return TrialAverage(math.fsum(weight * value(coins) for weight, coins in law), 0.0)


def _independent_law(p: FloatArray) -> Iterator[tuple[float, npt.NDArray[np.bool_]]]:
    """Every sequence of coins that has a chance, with its probability."""
    uncertain = np.flatnonzero((p > 0) & (p < 1))
    for number in range(2**uncertain.size):
        coins = p == 1
        coins[uncertain] = [number >> i & 1 for i in range(uncertain.size)]
        yield float(np.where(coins, p, 1 - p).prod()), coins


def _systematic_law(p: FloatArray) -> Iterator[tuple[float, npt.NDArray[np.bool_]]]:
    """Every sequence that one uniform number U shifts the comb to, with the length of its interval of U.

    X_t = [(U + S_{t-1}) mod 1 >= 1 - p_t], S_t = p_0 + … + p_t, changes only where U + S_t is an integer.
    In integer multiples of 2^-53, as `Trials` draws it.
    """
    one = np.uint64(1 << _BITS)
    within = one - np.uint64(1)
    increments, before = comb(p)
    after = before + increments
    starts = np.unique(np.concatenate([np.zeros(1, np.uint64), (one - (after & within)) & within]))
    lengths = np.diff(np.append(starts, one)) / 2.0**_BITS
    for low, length in zip(starts, lengths, strict=True):
        yield float(length), ((low + before) & within) + increments >= one


REALIZED_AVERAGE = Metric(
    name="average squared gradient given the trials, weighted by a_t = eta_t (1 - L eta_t/2)",
    latex=r"\frac{1}{W} \sum_{t=0}^{T-1} a_t\, \mathbb{E}\left[\|\nabla f(x_t)\|^2 \mid X\right]",
    weights=WEIGHTED_AVERAGE.weights,
)


class Realized(NamedTuple):
    """A run whose probabilities are its coins X_t, and the probabilities p_t that these follow."""

    run: Setting
    p: FloatArray


@dataclass(frozen=True, repr=False)
class RealizedBound(Bound):
    """A bound on a weighted sum over the run that draws given coins."""

    def evaluate(
        self,
        *,
        trials: Trials | npt.ArrayLike,
        eta: Parameter,
        rho: Parameter,
        constants: ProblemConstants,
        gap: float,
        gamma: Parameter = 1.0,
        schedule: Parameter | None = None,
    ) -> float:
        """The value of the bound for the run with these trials.

        Args:
            trials: the coins X_t: `Trials`, or bools (T,).
            eta: step sizes: a number, an array (T,) or a schedule; likewise rho and gamma.
            rho: radii.
            constants: of the problem.
            gap: f(x_0) - f_star >= 0.
            gamma: mixing coefficients.
            schedule: the p_t that the coins follow: a number, an array (T,) or a schedule. It holds for
                every one. Where not given, the probabilities of `Trials`, and p_t = X_t for bools.

        Raises:
            TypeError: the coins are not bools.
            ValueError: their shape is not (T,) with T >= 1.
            DomainError: a parameter outside its domain, or a violated condition of the bound, with the
                value and its t.
        """
        coins = _coins(trials)
        run = settle(Tabulated(tuple(coins.astype(float))), coins.size, eta, rho, gamma, constants, gap)
        for condition in self.domain:
            condition.require(run)
        if schedule is None:
            schedule = trials.probabilities if isinstance(trials, Trials) else run.p
        return float(self.formula(Realized(run, sequence(schedule, run.T, QUANTITIES["p"]))))


def _realized(r: Realized) -> float:
    """The smaller of the master bound at p_t = X_t and the one that sums the coins by parts."""
    s, p = r.run, r.p
    X, a, L = s.p, s.a, s.L
    R = np.cumsum(X - p)
    v = s.gamma * L * s.rho * s.eta * abs(1 - L * s.eta)
    following = np.append(v[1:], 0.0)
    moved = abs(R) * following * L * s.eta  # the gradient norm changes by at most L eta ||d|| in a step
    u = np.maximum(p * v + R * (v - following), 0.0) + moved
    C = (
        s.gap
        + (X * s.gamma * L**2 * s.rho * s.eta**2 * s.sigma).sum()
        + (L * s.eta**2 / 2 * (s.sigma**2 + X * (s.gamma * L * s.rho) ** 2)).sum()
        + (moved * (s.sigma + X * s.gamma * L * s.rho)).sum()
    )
    U = np.sqrt((u**2 / a).sum())
    return min(nonconvex_average.formula(s), float(((U + np.sqrt(U**2 + 4 * C)) / 2) ** 2 / a.sum()))


def _symbolic_realized() -> Symbolic:
    import sympy

    i = indexed()
    t, T, L, sigma = i.t, i.T, i.L, i.sigma
    p, eta, rho, gamma = i.p[t], i.eta[t], i.rho[t], i.gamma[t]
    X, v, R = (sympy.IndexedBase(name) for name in ("X", "v", "R"))

    def total(term: sympy.Expr) -> sympy.Expr:
        return sympy.Sum(term, (t, 0, T - 1))

    moved = sympy.Abs(R[t]) * v[t + 1] * L * eta
    u = sympy.Max(0, p * v[t] + R[t] * (v[t] - v[t + 1])) + moved
    mixing = X[t] * gamma * L**2 * rho * eta**2 * sigma
    mixing += L * eta**2 / 2 * (sigma**2 + X[t] * (gamma * L * rho) ** 2)
    a = eta * (1 - L * eta / 2)
    U, C, W = sympy.symbols("U C W", nonnegative=True)
    return Symbolic(
        ((U + sympy.sqrt(U**2 + 4 * C)) / 2) ** 2 / W,
        {
            U: sympy.sqrt(total(u**2 / a)),
            C: i.gap + total(mixing + moved * (sigma + X[t] * gamma * L * rho)),
            W: total(a),
        },
    )


nonconvex_average_realized = RealizedBound(
    name="nonconvex_average_realized",
    title="Given the trials, by their discrepancy, on smooth nonconvex objectives",
    source="conditional.md#discrepancy",
    kind="upper",
    assumptions=nonconvex_average.assumptions - {A.INDEPENDENT_TRIALS},
    domain=(STEP_SIZE,),
    metric=REALIZED_AVERAGE,
    formula=_realized,
    symbolic=_symbolic_realized,
)
