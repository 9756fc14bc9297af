"""Coins and noise from counters: Philox4x32-10 on signed 64-bit integers, in NumPy and in torch alike.

torch has no unsigned words to multiply, so a 32-bit word sits in an int64; the product of two words wraps,
its low word is a mask away and its high word a shift and a mask. The key is the seed, and the last word of
the counter tells the uses apart:

    coins      (t, t >> 32, replica, 0)    as in `trials`
    normals    (t, replica, j, 2)          of coordinates 2j and 2j + 1
    indices    (t, replica, j, 3)          of places 2j and 2j + 1 of the minibatch

(1 is the noise of the CPU's engines, `simulation.streams`.) Nothing is carried from step to step, so the
noise of a replica depends neither on the device nor on how the work is cut. With a and b the leading 53
bits of the first two and of the last two words, Box & Muller (1958) make the normals

    sqrt(-2 ln u) (cos, sin)(2 pi v),    u = (a + 1)/2^53 in (0, 1],    v = b/2^53 in [0, 1);

in float32 u and v come from the leading 32 bits alone, u = (a + 1/2)/2^32: the same normals, rounded.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rst_theory.notation import FloatArray

__all__ = [
    "BITS",
    "COINS",
    "INDICES",
    "NORMALS",
    "PhiloxStreams",
    "fraction",
    "indices",
    "philox",
    "round_keys",
]

COINS, NORMALS, INDICES = 0, 2, 3
BITS = 53
_Number = TypeVar("_Number", np.float64, np.int64)
_WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


def round_keys(seed: int) -> npt.NDArray[np.int64]:
    """The keys of the ten rounds, int64 (10, 2), for 0 <= seed < 2^64."""
    rounds = np.arange(_ROUNDS)[:, None]
    return np.asarray((np.array([seed & _WORD, seed >> 32]) + rounds * np.array(_WEYL)) & _WORD)


def philox(c0: Any, c1: Any, c2: Any, c3: Any, keys: Any) -> tuple[Any, Any, Any, Any]:
    """Ten rounds of Philox4x32 (Salmon, Moraes, Dror & Shaw, SC 2011).

    Args:
        c0: the first word of the counters, in an int64 array or tensor; likewise the others, broadcast.
        c1: the second.
        c2: the third.
        c3: the fourth; a plain integer will do.
        keys: `round_keys`, of the same library and device.

    Returns:
        Four words in int64 arrays or tensors.
    """
    for k0, k1 in keys:
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _WORD) ^ c1 ^ k0,
            product1 & _WORD,
            ((product0 >> 32) & _WORD) ^ c3 ^ k1,
            product0 & _WORD,
        )
    return c0, c1, c2, c3


def fraction(high: Any, low: Any) -> Any:
    """The leading 53 of the 64 bits of two words, an integer below 2^53."""
    return (high << 21) | (low >> 11)


def indices(high: Any, low: Any, n: int) -> Any:
    """floor(n U), U = (2^32 high + low)/2^64: an integer in [0, n), for n <= 2^31."""
    return (high * n + ((low * n) >> 32)) >> 32


class PhiloxStreams:
    """This noise in NumPy, with the methods of `simulation.streams.Streams`: each call is the next step's.

    Args:
        seed: 0 <= seed < 2^64.
        replicas: their indices, shape (R,).
    """

    def __init__(self, seed: int, replicas: npt.ArrayLike) -> None:
        self._keys = round_keys(seed)
        self._replicas = np.asarray(replicas, dtype=np.int64)[:, None]
        self._t = 0

    def standard_normal(self, size: tuple[int, int]) -> FloatArray:
        """Standard normals, float64 (R, d)."""
        w0, w1, w2, w3 = self._words(size, NORMALS)
        u, v = (fraction(w0, w1) + 1) * 2.0**-BITS, fraction(w2, w3) * 2.0**-BITS
        radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * v
        return _interleaved(radius * np.cos(angle), radius * np.sin(angle), size)

    def integers(self, high: int, size: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Integers in [0, high), int64 (R, b)."""
        w0, w1, w2, w3 = self._words(size, INDICES)
        return _interleaved(indices(w0, w1, high), indices(w2, w3, high), size)

    def _words(self, size: tuple[int, int], use: int) -> tuple[npt.NDArray[np.int64], ...]:
        """Of the next step: four words for each replica and pair of columns."""
        if size[0] != len(self._replicas):
            raise ValueError(f"size must have {len(self._replicas)} rows, one a replica; got {size}")
        pair = np.arange((size[1] + 1) // 2)
        words = philox(np.array([self._t]), self._replicas, pair, use, self._keys)
        self._t += 1
        return words


def _interleaved(
    even: npt.NDArray[_Number], odd: npt.NDArray[_Number], size: tuple[int, int]
) -> npt.NDArray[_Number]:
    return np.stack([even, odd], axis=-1).reshape(len(even), -1)[:, : size[1]]
