"""The kernel: replicas in lanes, time inside. What a step does to all lanes is the affair of the form."""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from rst_theory.simulation.estimates import SLOTS
from rst_theory.simulation.fused import coupled, quadratic, separable
from rst_theory.simulation.fused.arithmetic import fma
from rst_theory.simulation.fused.lanes import begin, draw, kernel, record
from rst_theory.simulation.fused.plug import kind_of

__all__ = ["run"]


_KINDS = {"quadratic": quadratic, "separable": separable, "coupled": coupled}


def measure(*arguments: object) -> None:
    """The value and the squared length of the gradient in every lane."""
    raise NotImplementedError


def step(*arguments: object) -> None:
    """One step of every lane.

    Args:
        arguments: the form (plug, data, rows); the points x; room and lanes to work in; the method
            (eta, rho, gamma, normalized); the trial (coins, whether any is 1); the noise (sigma, normals,
            indices, state).
    """
    raise NotImplementedError


@overload(measure, inline="always")
def _measure(plug, data, x, room, f, squared):
    return _KINDS[kind_of(plug)].measure.py_func


@overload(step, inline="always")
def _step(form, x, room, lanes, method, trial, noise):
    plug, _, _ = form
    return _KINDS[kind_of(plug)].step.py_func


@kernel
def run(
    plug,
    data,
    rows,
    sigma,
    minimizer,
    f_star,
    start,
    thresholds,
    eta,
    rho,
    gamma,
    normalized,
    systematic,
    increments,
    before,
    seed,
    times,
    first,
    end,
    means,
    squares,
    sketch,
    extra_pairs,
    points,
    failure,
    watch,
    stop,
    done,
    x,
    room,
    indices,
    normals,
    state,
    offsets,
    lanes,
):
    """Run the replicas first, …, end - 1, in blocks of W lanes, aligned to multiples of W.

    Args:
        plug, data: the form.
        rows: what minibatches are drawn from, or 0.
        sigma: standard deviation of the gradient noise per coordinate.
        minimizer: x_star (d,), or empty where distances are not measured.
        f_star: the least value.
        start: x_0 (d,).
        thresholds: p_t 2^53 (T,).
        eta, rho, gamma: (T,).
        normalized: the kind of ascent.
        systematic: the kind of trials; increments and before are p_t and p_0 + … + p_{t-1} in 2^-53, uint64.
        seed: key of the coins.
        times: where moments are taken, with T last (K+1,).
        first, end: the replicas.
        means, squares: moments (M, K+1, S), zero on entry; S is a multiple of W.
        sketch: (M, K+1, bins), or no bins.
        extra_pairs: written, (end - first,).
        points: written, (end - first, T+1, d), or of length 0 where nothing is kept.
        failure: written, a replica that left the floating range, and -1; both -1 where none did. Where
            `watch` is on, the replica that left it first, and after which step t.
        watch: look at every point of every step, and at nothing else.
        stop: set by the caller to end early.
        done: blocks done.
        x: room for the points (d, W).
        room: to work in, (1, d, W) for separable problems and (4, d, W) for others.
        indices: likewise, int64 (b, W), of a minibatch.
        normals: likewise, (TILE, W).
        state: likewise, uint64 (4, W), of the streams.
        offsets: likewise, uint64 (W,), of systematic trials.
        lanes: likewise, (10, W).
    """
    d, T, W = start.size, eta.size, x.shape[1]
    distances = minimizer.size > 0
    coins, pairs, inverse, broken = lanes[0], lanes[1], lanes[2], lanes[3]
    f, squared, distance = lanes[4], lanes[5], lanes[6]
    seen = np.zeros(SLOTS)

    for origin in range(first - first % W, end, W):
        slot = origin % SLOTS
        low, high = max(first, origin) - origin, min(end, origin + W) - origin
        for j in range(W):
            seen[slot + j] += 1.0 if low <= j < high else 0.0
            inverse[j] = 1.0 / seen[slot + j] if seen[slot + j] > 0.0 else 0.0
            pairs[j] = 0.0
            broken[j] = 0.0
        begin(state, offsets, seed, origin)
        lanes[7, 0] = np.nan  # no step has left anything behind
        for i in range(d):
            for j in range(W):
                x[i, j] = start[i]

        k = 0
        for t in range(T + 1):
            if k < times.size and times[k] == t:
                measure(plug, data, x, room, f, squared)
                for j in range(W):
                    f[j] -= f_star
                record(squared, k, slot, low, high, inverse, means[0], squares[0], sketch[0], broken)
                record(f, k, slot, low, high, inverse, means[1], squares[1], sketch[1], broken)
                if distances:
                    for j in range(W):
                        distance[j] = 0.0
                    for i in range(d):
                        for j in range(W):
                            away = x[i, j] - minimizer[i]
                            distance[j] = fma(away, away, distance[j])
                    record(distance, k, slot, low, high, inverse, means[2], squares[2], sketch[2], broken)
                k += 1
            if points.shape[0] > 0:
                for j in range(low, high):
                    for i in range(d):
                        points[origin + j - first, t, i] = x[i, j]
            if watch:
                for j in range(low, high):
                    finite = np.isfinite(broken[j])
                    for i in range(d):
                        finite = finite and np.isfinite(x[i, j])
                    if not finite and (failure[1] < 0 or t - 1 < failure[1]):
                        failure[0], failure[1] = origin + j, max(t - 1, 0)
                if 0 <= failure[1] <= t:
                    break
            if t == T or stop[0]:
                break

            perturbed = draw(
                coins,
                offsets,
                systematic,
                thresholds[t],
                increments[t],
                before[t],
                seed,
                t,
                origin,
            )
            method, trial = (eta[t], rho[t], gamma[t], normalized), (coins, perturbed)
            step((plug, data, rows), x, room, lanes[7:], method, trial, (sigma, normals, indices, state))
            for j in range(W):
                pairs[j] += coins[j]

        if stop[0]:
            return
        if watch:
            continue
        for j in range(low, high):
            extra_pairs[origin + j - first] = np.int64(pairs[j])
            finite = np.isfinite(broken[j])
            for i in range(d):
                finite = finite and np.isfinite(x[i, j])
            if not finite:
                failure[0] = origin + j
                return
        done[0] += 1
