"""The reference engine: NumPy, every step is `method.step`.

Replicas run side by side in blocks. A block always computes all its rows, however few are wanted, so that
the rounding of a replica does not depend on how many run.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from rst_theory import method
from rst_theory.notation import FloatArray
from rst_theory.simulation import sketch
from rst_theory.simulation.estimates import Moments
from rst_theory.simulation.setting import Part, Setting, Tell
from rst_theory.simulation.streams import Streams
from rst_theory.trials import sequences

__all__ = ["BLOCK", "parts"]

BLOCK = 256
"""Replicas that run side by side."""

_LARGEST_BLOCK = 2**29  # bytes


def parts(setting: Setting, tell: Tell) -> Iterator[Part]:
    """Run the replicas, block by block.

    Raises:
        ValueError: the points of a block would take more than 512 MiB, and the engine ten times that.
        DivergenceError: a replica left the floating-point range; replica and step are named.
    """
    size = 8 * BLOCK * setting.problem.dimension
    if size > _LARGEST_BLOCK:
        raise ValueError(
            f"the NumPy reference runs {BLOCK} replicas side by side, whose points would take "
            f"{size / 2**30:.1f} GiB here: take backend='numba', which holds fewer, or no more than "
            f"{_LARGEST_BLOCK // (8 * BLOCK):,} coordinates"
        )
    first, end = setting.first, setting.first + setting.replicas
    for origin in range(first - first % BLOCK, end, BLOCK):
        rows = slice(max(first, origin) - origin, min(end, origin + BLOCK) - origin)

        def told(done: float, origin: int = origin, rows: slice = rows) -> None:
            tell((origin + rows.start - first + (rows.stop - rows.start) * done) / setting.replicas)

        yield _block(setting, origin, rows, told)


def _block(setting: Setting, origin: int, rows: slice, tell: Tell) -> Part:
    """The replicas origin + rows."""
    problem, T = setting.problem, setting.steps
    first, n = origin + rows.start, rows.stop - rows.start
    replicas = np.minimum(origin + np.arange(BLOCK), 2**32 - 1)
    streams = Streams(setting.seed, replicas)
    coins = sequences(setting.p, setting.seed, setting.trials, replicas).T
    column = {int(t): k for k, t in enumerate([*setting.times, T])}
    samples = {name: np.empty((len(column), n)) for name in setting.measured}
    points = np.empty((n, T + 1, problem.dimension)) if setting.keep else None

    x = np.tile(setting.start, (BLOCK, 1))
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(T + 1):
            measured: FloatArray | float = 0.0
            if t in column:
                for name, sample in _measure(setting, x[rows]).items():
                    samples[name][column[t]] = sample
                    measured = measured + 0.0 * sample  # finite where every one is
            setting.require_finite(x[rows], measured, max(t - 1, 0), first)
            if points is not None:
                points[:, t] = x[rows]
            if t == T:
                break
            minibatch = problem.sample(streams, BLOCK)
            gradient = functools.partial(problem.stochastic_gradient, minibatch=minibatch)
            x = method.step(
                x, gradient, coins[t], setting.eta[t], setting.rho[t], setting.gamma[t], setting.ascent
            )
            if t % 64 == 63:
                tell((t + 1) / T)
    tell(1.0)
    return Part(
        moments={name: Moments.of(sample, first) for name, sample in samples.items()},
        extra_pairs=coins[:, rows].sum(axis=0),
        points=points,
        counts={name: sketch.count(sample) for name, sample in samples.items()}
        if setting.quantiles
        else None,
    )


def _measure(setting: Setting, x: FloatArray) -> dict[str, FloatArray]:
    problem = setting.problem
    measured = {"squared_gradient_norm": (problem.gradient(x) ** 2).sum(axis=-1), "gap": problem.gap(x)}
    if "squared_distance" in setting.measured:
        measured["squared_distance"] = problem.squared_distance(x)
    return measured
