"""The Bernoulli trials of a run as a pure function of (seed, step, replica).

The coin of step t comes from the counter-based generator Philox4x32-10 (Salmon, Moraes, Dror & Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011): key = the seed, counter = (t, replica, 0).
No state is carried from step to step, so the coin of step t is the same in a simulation, in the
optimizer, on every rank, and after a resume; and the exact cost of a run is known before it starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, FloatArray, natural

__all__ = ["Trials", "TrialsKind", "coin", "comb", "philox4x32", "sequences", "uniform"]

TrialsKind = Literal["independent", "systematic"]

_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], dtype=np.uint64)
_ROUNDS = 10
_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_DRAWN_TOGETHER = 2**18  # coins: their counters and words fit into a cache
_BITS = 53  # of a float64 fraction: uniforms and quantised probabilities are multiples of 2^-53


def philox4x32(counter: npt.ArrayLike, key: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """Ten rounds of Philox4x32.

    Args:
        counter: 32-bit words, shape (..., 4).
        key: 32-bit words, shape (..., 2), broadcast against the counter.

    Returns:
        uint32 (..., 4).

    Raises:
        TypeError: not integers.
        DomainError: not words of 32 bits.
    """
    c, k = _naturals("counter", counter, below=2**32), _naturals("key", key, below=2**32)
    c0, c1, c2, c3 = (c[..., i] for i in range(4))
    k0, k1 = k[..., 0], k[..., 1]
    for _ in range(_ROUNDS):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ k0,
            product1 & _WORD,
            (product0 >> _SHIFT) ^ c3 ^ k1,
            product0 & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)


def uniform(seed: int, t: npt.ArrayLike, replica: npt.ArrayLike = 0) -> FloatArray:
    """The uniform number in [0, 1) behind the coin of step t, a multiple of 2^-53.

    Args:
        seed: 0 <= seed < 2^64.
        t: steps, 0 <= t < 2^64, any shape.
        replica: 0 <= replica < 2^32, broadcast against t.

    Raises:
        TypeError: an argument that is no integer.
        DomainError: an argument out of range.
    """
    seed = natural("seed", seed, below=2**64)
    t, r = np.broadcast_arrays(_naturals("t", t, below=2**64), _naturals("replica", replica, below=2**32))
    words = philox4x32(
        np.stack([t & _WORD, t >> _SHIFT, r, np.zeros_like(t)], axis=-1),
        [seed & 0xFFFFFFFF, seed >> 32],
    ).astype(np.uint64)
    fraction = ((words[..., 0] << _SHIFT) | words[..., 1]) >> np.uint64(64 - _BITS)
    return np.asarray(fraction * 2.0**-_BITS, dtype=np.float64)


def _naturals(name: str, values: npt.ArrayLike, below: int) -> npt.NDArray[np.uint64]:
    """Integers 0 <= values < below as uint64; what a cast would wrap or cut is refused."""
    array = np.asarray(values)
    if array.ndim == 0:
        return np.array(natural(name, values, below=below), dtype=np.uint64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got {values!r}")
    for extreme in (int(array.min()), int(array.max())) if array.size else ():
        natural(name, extreme, below=below)
    return array.astype(np.uint64)


def coin(probability: float, seed: int, t: int, replica: int = 0) -> bool:
    """The trial X_t of step t alone, for a schedule without a horizon: 1 with the given probability."""
    return bool(uniform(seed, t, replica) < QUANTITIES["p"].check(probability))


@dataclass(frozen=True, eq=False)
class Trials:
    """The trials X_0, …, X_{T-1} of one run, X_t = 1 with probability p_t.

    Args:
        probabilities: p_t, shape (T,), each in [0, 1].
        seed: 0 <= seed < 2^64.
        kind: "independent", X_t = [U_t < p_t] with a uniform U_t for each step; or "systematic", where a
            single uniform U shifts a comb, X_t = floor(S_t + U) - floor(S_{t-1} + U) with
            S_t = p_0 + … + p_t. Both keep every marginal p_t (to 2^-53); the second makes the number of
            perturbed steps deterministic to within one. Systematic sampling: Madow & Madow (1944).
        replica: tells the repetitions of one experiment apart; 0 is the one that the optimizer uses.

    Raises:
        DomainError: a probability outside [0, 1], named with its t, or a seed out of range.
    """

    probabilities: FloatArray
    seed: int = 0
    kind: TrialsKind = "independent"
    replica: int = 0
    _sequence: npt.NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        p = np.array(QUANTITIES["p"].check_all(self.probabilities))
        natural("replica", self.replica, below=2**32)
        (sequence,) = sequences(p, self.seed, self.kind, [self.replica])
        p.flags.writeable = sequence.flags.writeable = False
        object.__setattr__(self, "probabilities", p)
        object.__setattr__(self, "_sequence", sequence)

    @property
    def steps(self) -> int:
        """T, the number of trials."""
        return int(self.probabilities.size)

    @property
    def extra_pairs(self) -> int:
        """N = X_0 + … + X_{T-1}: what this run will cost beyond SGD, in propagation pairs."""
        return int(self._sequence.sum())

    def sequence(self) -> npt.NDArray[np.bool_]:
        """All trials, bool (T,)."""
        return self._sequence

    def draw(self, t: int) -> bool:
        """The trial X_t.

        Raises:
            DomainError: t outside 0 … T-1.
        """
        return bool(self._sequence[natural("t", t, below=self.steps)])


def sequences(
    probabilities: npt.ArrayLike, seed: int, kind: TrialsKind, replicas: npt.ArrayLike
) -> npt.NDArray[np.bool_]:
    """The trials of many runs at once: row r is `Trials(probabilities, seed, kind, replicas[r]).sequence()`.

    Args:
        probabilities: p_t, shape (T,), T >= 1.
        seed: 0 <= seed < 2^64.
        kind: "independent" or "systematic".
        replicas: 0 <= replica < 2^32, shape (R,).

    Returns:
        bool (R, T).

    Raises:
        DomainError: a number out of range.
        ValueError: probabilities of another shape, or an unknown kind.
    """
    p = QUANTITIES["p"].check_all(probabilities)
    if p.ndim != 1 or p.size == 0:
        raise ValueError(f"probabilities must have shape (T,) with T >= 1; got shape {p.shape}")
    if kind not in ("independent", "systematic"):
        raise ValueError(f"kind must be 'independent' or 'systematic'; got {kind!r}")
    draw = _systematic if kind == "systematic" else _independent
    rows = np.asarray(replicas)[:, None]
    together = max(1, _DRAWN_TOGETHER // p.size)
    return np.concatenate(
        [draw(p, seed, rows[first : first + together]) for first in range(0, max(len(rows), 1), together)]
    )


def _independent(p: FloatArray, seed: int, replicas: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    # The steps of a long run too come a part at a time: the generator takes two hundred bytes for a coin.
    parts = (slice(first, first + _DRAWN_TOGETHER) for first in range(0, p.size, _DRAWN_TOGETHER))
    t = np.arange(p.size)
    return np.concatenate([uniform(seed, t[part], replicas) < p[part] for part in parts], axis=1)


def _systematic(p: FloatArray, seed: int, replicas: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    one = np.uint64(1 << _BITS)
    increments, before = comb(p)
    offset = (uniform(seed, 0, replicas) * 2.0**_BITS).astype(np.uint64)
    return np.asarray(((offset + before) & (one - np.uint64(1))) + increments >= one)


def comb(p: FloatArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The teeth of systematic trials: p_t, and S_{t-1} = p_0 + … + p_{t-1}, in multiples of 2^-53.

    As integers, so that no rounding can add or lose a trial; the sums wrap modulo 2^64, a multiple of 2^53.

    Args:
        p: probabilities, float64 (T,).

    Returns:
        uint64 (T,), twice.
    """
    increments = np.rint(p * 2.0**_BITS).astype(np.uint64)
    return increments, np.cumsum(increments) - increments
