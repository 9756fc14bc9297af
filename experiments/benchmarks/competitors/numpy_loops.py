"""NumPy, batched over replicas: as one writes it first, and as well as it can be written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from experiments.benchmarks.work import POINTS, FloatArray, Measured, Run, Work, measured

__all__ = ["prepare"]

BLOCK_BYTES = 1 << 18
"""Of one of the three large buffers of the in-place version: they stay in the second-level cache."""


def prepare(work: Work, in_place: bool = True, threads: int = 1) -> Run:
    """A run in preallocated buffers, block by block of replicas; or plain, with all replicas at once."""
    if in_place:
        return lambda: _in_place(work, threads)
    return lambda: _plain(work)


def _plain(work: Work) -> Measured:
    lam = work.eigenvalues
    rng = np.random.default_rng(work.seed)
    x = np.tile(work.start, (work.replicas, 1))
    samples = []
    for t in range(work.steps):
        if t % work.segment == 0:
            samples.append(x**2 @ work.weights)
        noise = work.noise * rng.standard_normal(x.shape) if work.noise else 0.0
        g = lam * x + noise
        y = x + work.rho * g / np.linalg.norm(g, axis=1, keepdims=True)
        coin = rng.random(work.replicas) < work.p
        x = x - work.eta * np.where(coin[:, None], lam * y + noise, g)
    samples.append(x**2 @ work.weights)
    return measured(samples)


def _in_place(work: Work, threads: int) -> Measured:
    rows = max(1, BLOCK_BYTES // (8 * work.dimension))
    firsts = range(0, work.replicas, rows)
    seeds = np.random.SeedSequence(work.seed).spawn(len(firsts))
    samples = np.empty((POINTS, work.replicas, 3))

    def block(first: int, seed: np.random.SeedSequence) -> None:
        _run_block(work, np.random.Generator(np.random.SFC64(seed)), samples[:, first : first + rows])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(block, firsts, seeds))
    return measured(samples)


def _run_block(work: Work, rng: np.random.Generator, samples: FloatArray) -> None:
    """Run the replicas of one block and write their metrics into samples (POINTS, n, 3).

    Arrays are (d, n), so that the inner loops are long however few the coordinates.
    """
    n, d = samples.shape[1], work.dimension
    lam, weights = work.eigenvalues[:, None], work.weights
    eta_lam = work.eta * lam
    x = np.tile(work.start[:, None], (1, n))
    g, h = np.empty((d, n)), np.empty((d, n))
    uniform, norm, radius = np.empty(n), np.empty(n), np.empty(n)
    coin = np.empty(n, dtype=np.bool_)
    for t in range(work.steps):
        if t % work.segment == 0:
            np.multiply(x, x, out=h)
            np.matmul(h.T, weights, out=samples[t // work.segment])
        if work.noise:
            rng.standard_normal(out=g)
            g *= work.noise
            np.multiply(lam, x, out=h)
            g += h
        else:
            np.multiply(lam, x, out=g)
        np.multiply(g, g, out=h)
        np.add.reduce(h, axis=0, out=norm)
        np.sqrt(norm, out=norm)
        rng.random(out=uniform)
        np.less(uniform, work.p, out=coin)
        radius.fill(0.0)
        np.divide(work.rho, norm, out=radius, where=coin)  # y = x + radius g
        np.multiply(eta_lam, radius, out=h)
        h += work.eta
        h *= g  # eta (g + lam (y - x)) = eta g_adv
        x -= h
    np.multiply(x, x, out=h)
    np.matmul(h.T, weights, out=samples[-1])
