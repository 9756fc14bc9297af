"""Batched Monte Carlo of RST and G-RST, with streaming moments.

The NumPy reference: replicas run side by side in blocks of fixed size, every step is `method.step`, and
only moments are kept. The coins of replica r are `Trials(p, seed, replica=r)` and its noise comes from
the stream (seed, block of r), so neither depends on the schedule, and schedules are compared on common
random numbers; nor on the number of replicas.

Symbol key: R replicas, T steps, d coordinates; x_0 the start, x_t the point before step t.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from rst_theory import method
from rst_theory.notation import QUANTITIES, Ascent, FloatArray, natural
from rst_theory.problems import Problem
from rst_theory.schedules import Schedule, sequence
from rst_theory.trials import TrialsKind, sequences

__all__ = ["DivergenceError", "Estimate", "Moments", "Trajectories", "simulate"]

BLOCK = 256
"""Replicas that run side by side and share one noise stream."""

_GROUPS = 64
"""Groups of replicas whose means are kept apart, for the standard error of sums over time."""


class DivergenceError(ArithmeticError):
    """A replica left the range of floating-point numbers."""


class HasMetric(Protocol):
    """What `Trajectories.weighted` asks of a bound."""

    @property
    def metric(self) -> Any:
        """A metric with `quantity` and `weights`."""


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo mean with its standard error, and the replicas and degrees of freedom behind it."""

    mean: float
    standard_error: float
    degrees_of_freedom: int

    def interval(self, confidence: float = 0.99) -> tuple[float, float]:
        """The central t interval; infinite where there are too few replicas to tell."""
        from scipy import special

        if self.degrees_of_freedom < 1:
            return -np.inf, np.inf
        half = float(special.stdtrit(self.degrees_of_freedom, (1 + confidence) / 2)) * self.standard_error
        return self.mean - half, self.mean + half


@dataclass
class Moments:
    """Streaming mean and variance of one quantity over the replicas, at every step.

    Attributes:
        count: replicas seen.
        mean: float64 (T,).
        squares: sums of squared deviations from the mean, float64 (T,).
        groups: sums over the replicas of each group, float64 (groups, T).
        sizes: replicas in each group, int (groups,).
    """

    count: int
    mean: FloatArray
    squares: FloatArray = field(repr=False)
    groups: FloatArray = field(repr=False)
    sizes: npt.NDArray[np.int64] = field(repr=False)

    @classmethod
    def empty(cls, T: int, groups: int) -> Moments:
        """No replicas yet."""
        return cls(0, np.zeros(T), np.zeros(T), np.zeros((groups, T)), np.zeros(groups, dtype=np.int64))

    def add(self, samples: FloatArray, first: int) -> None:
        """Merge the samples (T, n) of replicas first, …, first + n - 1 (Chan, Golub & LeVeque 1983)."""
        n = samples.shape[1]
        mean = samples.mean(axis=1)
        squares = ((samples - mean[:, None]) ** 2).sum(axis=1)
        shift = mean - self.mean
        total = self.count + n
        self.mean += shift * (n / total)
        self.squares += squares + shift**2 * (self.count * n / total)
        self.count = total
        member = (first + np.arange(n)) % len(self.sizes)
        np.add.at(self.groups, member, samples.T)
        self.sizes += np.bincount(member, minlength=len(self.sizes))

    @property
    def variance(self) -> FloatArray:
        """Unbiased variance over the replicas, float64 (T,); infinite with one replica."""
        if self.count < 2:
            return np.full(self.mean.shape, np.inf)
        return self.squares / (self.count - 1)

    @property
    def standard_error(self) -> FloatArray:
        """Of the mean, float64 (T,)."""
        return np.sqrt(self.variance / self.count)

    def weighted(self, weights: FloatArray) -> Estimate:
        """The estimate of sum_t w_t E(quantity at t).

        Its standard error comes from the spread of the groups of replicas, so that the correlation over
        time is accounted for.
        """
        used = self.sizes > 0
        sizes = self.sizes[used]
        means = self.groups[used] @ weights / sizes
        mean = float(means @ sizes / self.count)
        dof = len(sizes) - 1
        if dof < 1:
            return Estimate(mean, np.inf, 0)
        variance = float(((means - mean) ** 2) @ sizes) / dof
        return Estimate(mean, float(np.sqrt(variance / self.count)), dof)


@dataclass(frozen=True)
class Trajectories:
    """What a simulation measured.

    Attributes:
        squared_gradient_norm: moments of ||grad f(x_t)||^2 at x_0, …, x_{T-1}.
        gap: moments of f(x_t) - f_star at the same points.
        final_gap: the estimate of E f(x_T) - f_star.
        squared_distance: moments of ||x_t - x_star||^2 at the same points; None where the problem knows no
            minimizer.
        final_squared_distance: the estimate of E||x_T - x_star||^2, or None likewise.
        extra_pairs: N of each replica, int (R,).
        eta: the step sizes, float64 (T,).
        L: the smoothness constant of the problem.
        description: what was run, in words.
        points: the iterates x_0, …, x_T of every replica, float64 (R, T+1, d); None unless asked for.
    """

    squared_gradient_norm: Moments
    gap: Moments
    final_gap: Estimate
    extra_pairs: npt.NDArray[np.int64]
    eta: FloatArray
    L: float
    description: str
    points: FloatArray | None = None
    squared_distance: Moments | None = None
    final_squared_distance: Estimate | None = None

    def weighted(self, bound: HasMetric) -> Estimate:
        """The bound's own metric, measured.

        Raises:
            ValueError: the bound's metric is not one of a run, or the problem knows no minimizer to measure
                a distance from.
        """
        metric = bound.metric
        if metric.quantity is None:
            raise ValueError(f"the metric {metric.name!r} is not a weighted sum over a run")
        measured: Moments | Estimate | None = getattr(self, metric.quantity)
        if measured is None:
            raise ValueError(f"the metric {metric.name!r} needs a problem with a known minimizer")
        if isinstance(measured, Moments):
            return measured.weighted(metric.weights(self.eta, self.L))
        return measured

    def __repr__(self) -> str:
        return f"Trajectories({self.description})"


def simulate(
    problem: Problem,
    schedule: Schedule | float,
    *,
    steps: int,
    eta: float | npt.ArrayLike | Schedule,
    rho: float | npt.ArrayLike | Schedule,
    gamma: float | npt.ArrayLike | Schedule = 1.0,
    ascent: Ascent = "normalized",
    replicas: int = 256,
    seed: int = 0,
    start: npt.ArrayLike | None = None,
    trials: TrialsKind = "independent",
    backend: Literal["auto", "numpy"] = "auto",
    device: str = "cpu",
    keep: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Trajectories:
    """Run RST or G-RST many times and measure its moments.

    Args:
        problem: the objective, with its noise.
        schedule: p(t), or a number.
        steps: T >= 1.
        eta: step sizes: a number, an array (T,) or a schedule; likewise rho and gamma.
        rho: radii.
        gamma: mixing coefficients.
        ascent: "normalized" or "unnormalized".
        replicas: R >= 1.
        seed: 0 <= seed < 2^64, of the repetition; never a function of the schedule.
        start: x_0, shape (d,); the problem's own by default.
        trials: "independent" or "systematic".
        backend: "numpy"; "auto" takes the fastest there is.
        device: "cpu".
        keep: store every iterate: R (T+1) d numbers.
        progress: called with the share that is done, in (0, 1].

    Raises:
        DomainError: a parameter outside its domain, named with its t, or a problem with no known f_star.
        ValueError: an unknown option, or a start of the wrong shape.
        DivergenceError: a replica left the floating-point range; replica and step are named.
    """
    if backend not in ("auto", "numpy"):
        raise ValueError(f"backend must be 'auto' or 'numpy'; got {backend!r}")
    if device != "cpu":
        raise ValueError(f"the numpy backend runs on device 'cpu'; got {device!r}")
    T, R = natural("steps", steps, least=1), natural("replicas", replicas, least=1)
    run = _Run(
        problem=problem,
        p=sequence(schedule, T, QUANTITIES["p"]),
        eta=sequence(eta, T, QUANTITIES["eta"]),
        rho=sequence(rho, T, QUANTITIES["rho"]),
        gamma=sequence(gamma, T, QUANTITIES["gamma"]),
        ascent=ascent,
        trials=trials,
        seed=natural("seed", seed, below=2**64),
        start=_start(problem, start),
    )
    groups = max(8, min(_GROUPS, 2**24 // T))
    along = {name: Moments.empty(T, groups) for name in run.measured}
    final = {name: Moments.empty(1, groups) for name in run.measured}
    extra_pairs = np.empty(R, dtype=np.int64)
    points = np.empty((R, T + 1, problem.dimension)) if keep else None
    for first in range(0, R, BLOCK):
        n = min(BLOCK, R - first)
        here = slice(first, first + n)

        def tell(done: float, first: int = first, n: int = n) -> None:
            if progress is not None:
                progress((first + n * done) / R)

        block = run.block(first // BLOCK, None if points is None else points[here], n, tell)
        for name, samples in block.measured.items():
            along[name].add(samples[:T], first)
            final[name].add(samples[T:], first)
        extra_pairs[here] = block.extra_pairs
    ascent_word = "" if ascent == "normalized" else ", unnormalized ascent"
    return Trajectories(
        squared_gradient_norm=along["squared_gradient_norm"],
        gap=along["gap"],
        final_gap=final["gap"].weighted(np.ones(1)),
        extra_pairs=extra_pairs,
        eta=run.eta,
        L=problem.constants.L,
        description=f"{schedule!r} on {problem!r}: {R} replicas of {T} steps, seed {seed}{ascent_word}",
        points=points,
        squared_distance=along.get("squared_distance"),
        final_squared_distance=(
            final["squared_distance"].weighted(np.ones(1)) if "squared_distance" in final else None
        ),
    )


def _start(problem: Problem, start: npt.ArrayLike | None) -> FloatArray:
    x = problem.start if start is None else np.asarray(start, dtype=np.float64)
    if x.shape != (problem.dimension,) or not np.isfinite(x).all():
        raise ValueError(f"start must be finite numbers of shape ({problem.dimension},); got {start!r}")
    return x


@dataclass(frozen=True)
class _Block:
    """The measurements of n replicas: by name (T+1, n), and (n,)."""

    measured: dict[str, FloatArray]
    extra_pairs: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Run:
    """One simulation, ready to run any of its blocks."""

    problem: Problem
    p: FloatArray
    eta: FloatArray
    rho: FloatArray
    gamma: FloatArray
    ascent: Ascent
    trials: TrialsKind
    seed: int
    start: FloatArray

    @property
    def measured(self) -> dict[str, Callable[[FloatArray], FloatArray]]:
        """What is measured at every point, by name."""
        problem = self.problem
        functions: dict[str, Callable[[FloatArray], FloatArray]] = {
            "squared_gradient_norm": lambda x: (problem.gradient(x) ** 2).sum(axis=-1),
            "gap": problem.gap,
        }
        if problem.minimizer is not None:
            functions["squared_distance"] = problem.squared_distance
        return functions

    def block(self, index: int, points: FloatArray | None, n: int, tell: Callable[[float], None]) -> _Block:
        """Run the replicas BLOCK index, …; measure the first n of them.

        Noise is drawn for the whole block, however few are measured, so that a replica's noise does not
        depend on how many run.
        """
        problem, T = self.problem, self.p.size
        noise = np.random.Generator(np.random.SFC64(np.random.SeedSequence([self.seed, index])))
        coins = sequences(self.p, self.seed, self.trials, index * BLOCK + np.arange(BLOCK)).T
        functions = self.measured
        measured = {name: np.empty((T + 1, n)) for name in functions}
        x = np.tile(self.start, (BLOCK, 1))
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(T):
                for name, function in functions.items():
                    measured[name][t] = function(x[:n])
                if points is not None:
                    points[:, t] = x[:n]
                minibatch = problem.sample(noise, BLOCK)
                x = method.step(
                    x,
                    functools.partial(problem.stochastic_gradient, minibatch=minibatch),
                    coins[t],
                    self.eta[t],
                    self.rho[t],
                    self.gamma[t],
                    self.ascent,
                )
                _require_finite(x[:n], measured["gap"][t], t, index)
                if t % 64 == 63:
                    tell((t + 1) / T)
            for name, function in functions.items():
                measured[name][T] = function(x[:n])
        if points is not None:
            points[:, T] = x[:n]
        tell(1.0)
        return _Block(measured, coins[:, :n].sum(axis=0))


def _require_finite(x: FloatArray, gap: FloatArray, t: int, index: int) -> None:
    if np.isfinite(x).all() and np.isfinite(gap).all():
        return
    bad = int(np.argmin(np.isfinite(x).all(axis=-1) & np.isfinite(gap)))
    raise DivergenceError(
        f"replica {index * BLOCK + bad} left the floating-point range at step t = {t}; "
        "a smaller eta or rho keeps it bounded"
    )
