"""The noise of a simulation: one stream of random numbers for each replica, a function of (seed, replica).

Each replica has its own generator xoshiro256++ (Blackman & Vigna, "Scrambled linear pseudorandom number
generators", ACM Trans. Math. Softw. 47, 2021). Its state of 256 bits comes from Philox4x32-10 with key =
the seed and counters (k, 0, replica, 1), k = 0, 1; the coins of `trials` have counters (t, replica, 0), so
that noise and coins never meet. Every step takes equally many numbers, whatever the trials and the
parameters, so methods are compared on common noise, and no replica depends on another.

Here are the streams in NumPy; the compiled engine runs the same arithmetic in vector registers.

From two words a and b of 64 bits Box & Muller (1958) make two standard normals:

    u = 2 - [1.a]          in (0, 1], [1.a] the float in [1, 2) whose 52 fraction bits are the last of a
    v = 2 [1.b] - 3        in [-1, 1), an angle in eighths of a turn
    sqrt(-2 ln u) (cos, sin)(pi v/4), exchanged where bit 52 of b is set, negated where bit 63 is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rst_theory.notation import FloatArray
from rst_theory.trials import philox4x32

__all__ = ["Streams", "states"]

Words = npt.NDArray[np.uint64]

_NOISE = 1  # the last word of the counter; the coins have 0
_FRACTION = np.uint64(2**52 - 1)
_ONE = np.uint64(0x3FF0000000000000)
_EXCHANGED = np.uint64(1 << 52)
_SIGN = np.uint64(1 << 63)


def states(seed: int, replicas: npt.ArrayLike) -> Words:
    """The initial states of xoshiro256++: uint64 (4, R).

    Args:
        seed: 0 <= seed < 2^64.
        replicas: 0 <= replica < 2^32, shape (R,).
    """
    r = np.asarray(replicas, dtype=np.int64)
    counters = np.zeros((2, r.size, 4), dtype=np.int64)
    counters[1, :, 0] = 1
    counters[..., 2] = r
    counters[..., 3] = _NOISE
    words = philox4x32(counters, [seed & 0xFFFFFFFF, seed >> 32]).astype(np.uint64)
    pairs = (words[..., 0::2] << np.uint64(32)) | words[..., 1::2]  # (2, R, 2)
    return np.ascontiguousarray(np.concatenate([pairs[0].T, pairs[1].T]))


class Streams:
    """The streams of some replicas side by side, with the methods of a NumPy generator that problems use.

    Args:
        seed: 0 <= seed < 2^64.
        replicas: their indices, shape (R,).
    """

    def __init__(self, seed: int, replicas: npt.ArrayLike) -> None:
        self._state = states(seed, replicas)

    def words(self) -> Words:
        """The next word of each stream, uint64 (R,)."""
        s = self._state
        word = _rotate(s[0] + s[3], 23) + s[0]
        shifted = s[1] << np.uint64(17)
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = _rotate(s[3], 45)
        return np.asarray(word)

    def standard_normal(self, size: tuple[int, int]) -> FloatArray:
        """Standard normals, float64 (R, d): row r from stream r, two words for every two of them.

        Raises:
            ValueError: not as many rows as streams.
        """
        R, d = self._rows(size)
        normals = np.empty((R, d + d % 2))
        for i in range(0, d, 2):
            normals[:, i], normals[:, i + 1] = _box_muller(self.words(), self.words())
        return normals[:, :d]

    def integers(self, high: int, size: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Integers floor(high U), U uniform on the multiples of 2^-53 in [0, 1): int64 (R, b).

        Raises:
            ValueError: not as many rows as streams.
        """
        R, b = self._rows(size)
        indices = np.empty((R, b), dtype=np.int64)
        for i in range(b):
            indices[:, i] = (self.words() >> np.uint64(11)).astype(np.float64) * 2.0**-53 * high
        return indices

    def _rows(self, size: tuple[int, int]) -> tuple[int, int]:
        R, columns = size
        if self._state.shape[1] != R:
            raise ValueError(f"size must have {self._state.shape[1]} rows, one for each stream; got {size}")
        return R, columns


def _rotate(words: Words, bits: int) -> Words:
    return (words << np.uint64(bits)) | (words >> np.uint64(64 - bits))


def _box_muller(a: Words, b: Words) -> tuple[FloatArray, FloatArray]:
    u = 2.0 - _fraction(a)
    v = 2.0 * _fraction(b) - 3.0
    radius = np.where(b & _SIGN, -1.0, 1.0) * np.sqrt(-2.0 * np.log(u))
    cosine, sine = radius * np.cos(np.pi / 4 * v), radius * np.sin(np.pi / 4 * v)
    exchanged = (b & _EXCHANGED) != 0
    return np.where(exchanged, sine, cosine), np.where(exchanged, cosine, sine)


def _fraction(words: Words) -> FloatArray:
    """The floats in [1, 2) whose fraction bits are the last of the words."""
    return ((words & _FRACTION) | _ONE).view(np.float64)
