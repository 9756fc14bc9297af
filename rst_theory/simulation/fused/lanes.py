"""What the kernel does, for any form, to the replicas side by side: one in each lane of a vector register.

Symbol key: W lanes, d coordinates, T steps, K+1 times of measurement, M measured quantities; replica
origin + j is in lane j, and belongs to slot (origin + j) mod S. Arrays over lanes have the lane last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache
from numba.core.compiler import Compiler

from rst_theory.simulation.fused.arithmetic import (
    advance,
    coin_word,
    fma,
    leading_bits,
    philox,
    two_normals,
)
from rst_theory.simulation.fused.plug import source
from rst_theory.simulation.sketch import BINS, HIGHEST, LOWEST, ORIGIN, SHIFT

__all__ = [
    "LANES",
    "TILE",
    "begin",
    "draw",
    "fill_indices",
    "fill_normals",
    "kernel",
    "normals_only",
    "outside",
    "radii",
    "record",
]

LANES = 32
"""W, where nothing speaks for fewer: it divides the number of slots.

It is given to the kernels as a number, not as a constant: LLVM unrolls loops of constant length before it
looks for vectors in them, and then finds none.
"""


TILE = 64
"""Coordinates whose noise is drawn at once, even: it stays in the innermost cache."""


class _Unaliased(Compiler):
    """Compiles functions whose array arguments never overlap, so that no loop has to check."""

    def define_pipelines(self) -> Any:
        self.state.flags.noalias = True
        return super().define_pipelines()


class _Cache(FunctionCache):
    """Told by the source of all that is compiled in here; Numba looks at the file of the function alone."""

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        return super()._index_key(signature, codegen), source()


def kernel(function: Any) -> Any:
    """Compiled once and kept on disk; holds no lock while it runs.

    What every problem needs is compiled apart, once for all: inlined into each kernel it would take longer
    to compile than all the rest.
    """
    compiled = njit(nogil=True, error_model="numpy", pipeline_class=_Unaliased)(function)
    compiled._cache = _Cache(function)
    return compiled


_TWO_53 = 2.0**53
_BELOW_53 = np.uint64(2**53 - 1)
_LOWEST, _HIGHEST = 2.0**LOWEST, 2.0**HIGHEST
_SMALL, _LARGE = 1e-280, 1e280


@kernel
def begin(state, offsets, seed, origin):
    """The streams of the replicas origin, …, as `streams.states` has them, and the offsets of their combs."""
    zero, one = np.uint64(0), np.uint64(1)
    for j in range(state.shape[1]):
        replica = np.uint64(origin + j)
        state[0, j], state[1, j] = philox(seed, zero, zero, replica, one)
        state[2, j], state[3, j] = philox(seed, one, zero, replica, one)
        offsets[j] = coin_word(seed, zero, replica)


@kernel
def draw(coins, offsets, systematic, threshold, increments, before, seed, t, origin):
    """The trials of step t, 1.0 or 0.0 in each lane; returns whether any is 1.

    `threshold` is p_t 2^53. Systematic trials are those of `trials`: multiples of 2^-53 as integers.
    """
    W = coins.size
    any_coin = threshold > 0
    if not any_coin or (threshold >= _TWO_53):
        for j in range(W):
            coins[j] = 1.0 if any_coin else 0.0
    elif systematic:
        for j in range(W):
            shifted = (offsets[j] + before) & _BELOW_53
            coins[j] = 1.0 if shifted + increments > _BELOW_53 else 0.0
    else:
        for j in range(W):
            word = coin_word(seed, np.uint64(t), np.uint64(origin + j))
            coins[j] = 1.0 if np.float64(np.int64(word)) < threshold else 0.0
    return any_coin


@kernel
def fill_normals(state, normals, rows):
    """Standard normals for `rows` coordinates of every lane; a last odd one leaves its partner unused."""
    W = state.shape[1]
    for i in range(0, rows, 2):
        for j in range(W):
            a, s0, s1, s2, s3 = advance(state[0, j], state[1, j], state[2, j], state[3, j])
            b, s0, s1, s2, s3 = advance(s0, s1, s2, s3)
            state[0, j], state[1, j], state[2, j], state[3, j] = s0, s1, s2, s3
            normals[i, j], normals[i + 1, j] = two_normals(a, b)


@kernel
def fill_indices(state, indices, rows):
    """Minibatches: indices in [0, rows) for every lane."""
    W = state.shape[1]
    for i in range(indices.shape[0]):
        for j in range(W):
            word, s0, s1, s2, s3 = advance(state[0, j], state[1, j], state[2, j], state[3, j])
            state[0, j], state[1, j], state[2, j], state[3, j] = s0, s1, s2, s3
            indices[i, j] = np.int64(np.float64(np.int64(word >> np.uint64(11))) * 2.0**-53 * rows)


@kernel
def outside(squares):
    """How many squared lengths left the middle of the floating range."""
    count = np.int64(0)
    for j in range(squares.size):
        count += np.int64(squares[j] <= _SMALL) + np.int64(squares[j] >= _LARGE)
    return count


@kernel
def radii(g, squares, coins, rho, scale, radius):
    """Sets scale and radius so that (g scale) radius is rho g/||g|| where the coin is 1, and 0 elsewhere.

    `squares` holds ||g||^2; where that left the middle of the floating range it is summed again of g
    times a power of two, and g is read. Returns whether any scale is other than 1.
    """
    W = squares.size
    scaled = outside(squares) > 0
    for j in range(W):
        scale[j] = 1.0
    if scaled:
        for j in range(W):
            if squares[j] <= _SMALL or squares[j] >= _LARGE:
                scale[j] = 2.0**900 if squares[j] <= _SMALL else 2.0**-600
                squares[j] = 0.0
                for i in range(g.shape[0]):
                    squares[j] += (g[i, j] * scale[j]) ** 2
    for j in range(W):
        radius[j] = coins[j] * rho / np.sqrt(squares[j] if squares[j] > 0.0 else 1.0)
    return scaled


@kernel
def record(sample, k, slot, low, high, inverse, means, squares, sketch, broken):
    """Add a sample of one quantity at time k to the moments of its slots (Welford 1962), and to the sketch.

    Lane j belongs to slot `slot` + j; only the lanes low, …, high - 1 count. `inverse` holds 1/(replicas of
    the slot, this one included).
    """
    for j in range(sample.size):
        counts = low <= j < high
        shift = sample[j] - means[k, slot + j]
        mean = fma(shift, inverse[j], means[k, slot + j])
        square = fma(shift, sample[j] - mean, squares[k, slot + j])
        means[k, slot + j] = mean if counts else means[k, slot + j]
        squares[k, slot + j] = square if counts else squares[k, slot + j]
        broken[j] = fma(0.0, sample[j], broken[j])
    if sketch.shape[1] > 0:
        for j in range(low, high):
            bin_ = np.int64(leading_bits(sample[j], SHIFT)) - ORIGIN + 1
            if sample[j] < _LOWEST:
                bin_ = np.int64(0)
            elif not sample[j] < _HIGHEST:  # or a NaN, of a replica that diverged
                bin_ = np.int64(BINS - 1)
            sketch[k, bin_] += np.uint32(1)


@kernel
def normals_only(state, normals, repeats):
    """Draw normals and do nothing with them: the floor under the time of a noisy run."""
    for _ in range(repeats):
        fill_normals(state, normals, normals.shape[0])
