"""Streams of random numbers that come from the repetition alone, one for each purpose."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["generator"]


def generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The stream of (seed, purpose, index), independent of all others and of the trials.

    Args:
        seed: the repetition.
        purpose: what the numbers are for, such as "split".
        index: tells streams of one purpose apart, such as the epoch.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])
