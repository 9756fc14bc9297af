"""The noise of a simulation against plain integers, plain math, and the distributions it should have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import COMPARISON_ALARM
from hypothesis import given, settings, strategies as st
from scipy import stats

from rst_theory.simulation.streams import Streams, states
from rst_theory.trials import philox4x32

WORD = 2**64


def rotated(x, k):
    return ((x << k) | (x >> (64 - k))) % WORD


def xoshiro(s):
    """xoshiro256++ in plain integers, after the authors' C: the words of the state s, which it moves on."""
    while True:
        yield (rotated((s[0] + s[3]) % WORD, 23) + s[0]) % WORD
        t = (s[1] << 17) % WORD
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotated(s[3], 45)


def words_by_hand(seed, replica, n):
    """The first words of a stream."""
    key = [seed % 2**32, seed >> 32]
    quarters = [int(w) for k in (0, 1) for w in philox4x32([k, 0, replica, 1], key)]
    state = [(quarters[i] << 32) | quarters[i + 1] for i in range(0, 8, 2)]
    stream = xoshiro(state)
    return [next(stream) for _ in range(n)]


def pair_by_hand(a, b):
    """Two normals from two words."""
    u, v = 1 - (a % 2**52) / 2**52, 2 * (b % 2**52) / 2**52 - 1
    first, second = math.cos(math.pi / 4 * v), math.sin(math.pi / 4 * v)
    if b & 2**52:
        first, second = second, first
    radius = math.sqrt(-2 * math.log(u)) * (-1 if b & 2**63 else 1)
    return radius * first, radius * second


def test_the_generator_gives_the_published_numbers():
    """From the state (1, 2, 3, 4): the vector in the tests of Rust's rand_xoshiro, from the authors' C."""
    published = [
        41943041,
        58720359,
        3588806011781223,
        3591011842654386,
        9228616714210784205,
        9973669472204895162,
        14011001112246962877,
        12406186145184390807,
        15849039046786891736,
        10450023813501588000,
    ]
    stream = xoshiro([1, 2, 3, 4])
    assert [next(stream) for _ in published] == published
    streams = Streams(0, [0])
    streams._state[:] = [[1], [2], [3], [4]]
    assert [int(streams.words()[0]) for _ in published] == published


@given(st.integers(0, WORD - 1), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4))
@settings(max_examples=40)
def test_words_are_those_of_plain_integers(seed, replicas):
    streams = Streams(seed, replicas)
    words = np.array([streams.words() for _ in range(20)]).T
    for row, replica in zip(words, replicas, strict=True):
        assert [int(w) for w in row] == words_by_hand(seed, replica, 20)


@given(st.integers(0, WORD - 1), st.integers(0, 2**32 - 1), st.integers(1, 7))
@settings(max_examples=40)
def test_normals_are_those_of_plain_math(seed, replica, d):
    streams = Streams(seed, [replica])
    normals = np.concatenate([streams.standard_normal((1, d))[0] for _ in range(2)])
    words = words_by_hand(seed, replica, 4 * ((d + 1) // 2))
    pairs = np.array([pair_by_hand(a, b) for a, b in zip(words[::2], words[1::2], strict=True)])
    expected = pairs.reshape(2, -1)[:, :d].ravel()  # an odd one out is left
    np.testing.assert_allclose(normals, expected, rtol=1e-14)


@given(st.integers(0, WORD - 1), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7, 1000, 2**31]))
@settings(max_examples=40)
def test_integers_are_those_of_plain_math(seed, replica, high):
    drawn = Streams(seed, [replica]).integers(high, (1, 6))[0]
    expected = [int((w >> 11) / 2**53 * high) for w in words_by_hand(seed, replica, 6)]
    np.testing.assert_array_equal(drawn, expected)
    assert (drawn >= 0).all() and (drawn < high).all()


def test_a_stream_depends_on_no_other():
    many, few = Streams(7, range(100)), Streams(7, [41, 3])
    for _ in range(3):
        np.testing.assert_array_equal(
            many.standard_normal((100, 5))[[41, 3]], few.standard_normal((2, 5)), strict=True
        )
    assert len(np.unique(states(7, range(1000)), axis=1).T) == 1000


def test_noise_has_counters_of_its_own():
    noise = {tuple(philox4x32([k, 0, r, 1], [5, 0])) for k in (0, 1) for r in range(20)}
    coins = {tuple(philox4x32([t, 0, r, 0], [5, 0])) for t in range(20) for r in range(20)}
    assert not noise & coins


def test_normals_are_normal_and_integers_uniform():
    """Kolmogorov-Smirnov, and chi-square: each fails falsely with probability COMPARISON_ALARM."""
    normals = Streams(3, range(2000)).standard_normal((2000, 51))
    assert stats.kstest(normals.ravel(), stats.norm.cdf).pvalue > COMPARISON_ALARM
    assert stats.kstest((normals**2).sum(axis=1), stats.chi2(51).cdf).pvalue > COMPARISON_ALARM
    counts = np.bincount(Streams(4, range(2000)).integers(10, (2000, 50)).ravel(), minlength=10)
    assert stats.chisquare(counts).pvalue > COMPARISON_ALARM


@pytest.mark.parametrize("draw", [lambda s: s.standard_normal((3, 2)), lambda s: s.integers(5, (3, 2))])
def test_as_many_rows_as_streams(draw):
    with pytest.raises(ValueError, match="2 rows"):
        draw(Streams(0, [0, 1]))
