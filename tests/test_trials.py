"""The trials: published vectors, oracles in exact arithmetic, and the laws that they must follow."""

import math
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
import pytest
from conftest import COMPARISON_ALARM, z_threshold
from hypothesis import example, given, strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from rst_theory.notation import DomainError
from rst_theory.trials import Trials, coin, philox4x32, sequences, uniform

ONE = 2**53
SEEDS = st.integers(0, 2**64 - 1)
STEPS = st.integers(0, 2**64 - 1)
REPLICAS = st.integers(0, 2**32 - 1)
PROBABILITIES = st.one_of(
    st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.5, 2.0**-53, 2.0**-54, 1 - 2.0**-53, 5e-324, 1e-9, 1 / 3])
)
SEQUENCES = st.lists(PROBABILITIES, min_size=1, max_size=60)
KINDS = ["independent", "systematic"]


def scalar_philox(counter, key):
    """Philox4x32-10 as the paper states it, one word at a time in Python integers."""
    c, k = list(counter), list(key)
    for round_ in range(10):
        if round_:
            k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
    return c


def numerator(seed, t, replica=0):
    """The uniform number in units of 2^-53."""
    first, second, *_ = scalar_philox([t % 2**32, t >> 32, replica, 0], [seed % 2**32, seed >> 32])
    return (first * 2**32 + second) >> 11


# The generator


@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_the_published_vectors(counter, key, expected):
    """Random123, kat_vectors, philox4x32 with 10 rounds."""
    assert philox4x32(counter, key).tolist() == expected
    assert philox4x32(counter, key).dtype == np.uint32
    assert scalar_philox(counter, key) == expected


@given(hnp.arrays(np.uint32, (3, 4)), hnp.arrays(np.uint32, (3, 2)))
def test_the_generator_in_arrays_is_the_scalar_one(counters, keys):
    rows = [scalar_philox(map(int, c), map(int, k)) for c, k in zip(counters, keys, strict=True)]
    assert philox4x32(counters, keys).tolist() == rows
    assert philox4x32(counters, keys[0])[0].tolist() == rows[0]
    assert philox4x32(counters[:, None], keys).shape == (3, 3, 4)


@given(SEEDS, STEPS, REPLICAS)
@example(0, 0, 0)
@example(2**64 - 1, 2**64 - 1, 2**32 - 1)
@example(1, 2**32, 0)
def test_the_uniforms_are_the_first_53_bits(seed, t, replica):
    assert float(uniform(seed, t, replica)) * ONE == numerator(seed, t, replica)


def test_uniforms_broadcast():
    t, replica = np.arange(4)[:, None], np.arange(3)
    table = uniform(7, t, replica)
    assert table.shape == (4, 3) and table.dtype == np.float64
    assert [[numerator(7, i, j) / ONE for j in range(3)] for i in range(4)] == table.tolist()
    assert uniform(7, np.arange(0)).shape == (0,)


@pytest.mark.parametrize(
    "seed, t, replica, error",
    [
        (-1, 0, 0, DomainError),
        (2**64, 0, 0, DomainError),
        (0.0, 0, 0, TypeError),
        (0, -1, 0, DomainError),
        (0, 2**64, 0, DomainError),
        (0, 0.5, 0, TypeError),
        (0, True, 0, TypeError),
        (0, np.array([0, -1]), 0, DomainError),
        (0, np.array([0.0, 1.5]), 0, TypeError),
        (0, 0, 2**32, DomainError),
        (0, 0, np.array([0, 2**32]), DomainError),
        (0, 0, -1, DomainError),
    ],
)
def test_nothing_is_wrapped_or_cut(seed, t, replica, error):
    with pytest.raises(error):
        uniform(seed, t, replica)
    if np.ndim(t) == np.ndim(replica) == 0:
        with pytest.raises(error):
            coin(0.5, seed, t, replica)


@pytest.mark.parametrize("words", [[0, 0, 0, 2**32], [0, 0, 0, -1], [0.0] * 4])
def test_the_generator_takes_words_of_32_bits_only(words):
    with pytest.raises((DomainError, TypeError)):
        philox4x32(words, [0, 0])
    with pytest.raises((DomainError, TypeError)):
        philox4x32([0] * 4, words[2:])


# Sequences


@given(SEQUENCES, SEEDS, REPLICAS)
def test_independent_trials_are_the_coins(p, seed, replica):
    trials = Trials(p, seed, replica=replica)
    expected = [numerator(seed, t, replica) < Fraction(q) * ONE for t, q in enumerate(p)]
    assert trials.sequence().tolist() == expected
    assert [trials.draw(t) for t in range(len(p))] == expected
    assert [coin(q, seed, t, replica) for t, q in enumerate(p)] == expected
    assert trials.extra_pairs == sum(expected) and trials.steps == len(p)


@given(SEQUENCES, SEEDS, REPLICAS)
def test_systematic_trials_are_madows(p, seed, replica):
    """X_t = floor(S_t + U) - floor(S_{t-1} + U), in exact fractions, p in multiples of 2^-53."""
    trials = Trials(p, seed, "systematic", replica)
    units = [round(Fraction(q) * ONE) for q in p]
    u = Fraction(numerator(seed, 0, replica), ONE)
    floors = [math.floor(s + u) for s in accumulate((Fraction(n, ONE) for n in units), initial=Fraction(0))]
    expected = [after - before for before, after in pairwise(floors)]
    assert set(expected) <= {0, 1}
    assert trials.sequence().tolist() == expected
    assert [trials.draw(t) for t in range(len(p))] == expected
    # the total is one of the two integers around the sum
    assert math.floor(Fraction(sum(units), ONE)) <= trials.extra_pairs <= math.ceil(Fraction(sum(units), ONE))


@pytest.mark.parametrize("t", range(20))
def test_a_probability_of_the_uniform_itself_is_one_unit_too_small(t):
    n = numerator(9, t)
    for units, expected in [(n, False), (n + 1, True)]:
        p = np.full(t + 1, units / ONE)
        assert Trials(p, 9).draw(t) is coin(units / ONE, 9, t) is expected


@pytest.mark.parametrize("seed", [seed for seed in range(40) if numerator(seed, 0) > 0.76 * ONE])
def test_the_comb_is_right_to_the_last_unit(seed):
    """Probabilities are rounded to the nearest multiple of 2^-53; below 1/4 a float holds quarters of it."""
    missing = ONE - numerator(seed, 0)
    for units, expected in [
        (missing - 1, False),
        (missing - 0.75, False),
        (missing - 0.25, True),
        (missing, True),
    ]:
        assert Trials([units / ONE], seed, "systematic").draw(0) is expected


@pytest.mark.parametrize("kind", KINDS)
@given(SEEDS, REPLICAS, st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=50))
def test_certain_trials_are_certain(kind, seed, replica, p):
    assert Trials(p, seed, kind, replica).sequence().tolist() == [q == 1 for q in p]
    assert coin(1.0, seed, replica, replica) and not coin(0.0, seed, replica, replica)


@given(SEQUENCES, SEEDS, st.floats(0, 1))
def test_more_probability_never_removes_an_independent_trial(p, seed, more):
    """Schedules are compared on common random numbers."""
    higher = np.minimum(1, np.array(p) + more)
    assert (Trials(higher, seed).sequence() >= Trials(p, seed).sequence()).all()


@pytest.mark.parametrize("kind", KINDS)
@given(SEQUENCES, SEQUENCES, SEEDS)
def test_the_past_does_not_depend_on_the_future(kind, past, future, seed):
    whole = Trials([*past, *future], seed, kind).sequence()
    assert np.array_equal(whole[: len(past)], Trials(past, seed, kind).sequence())


@pytest.mark.parametrize("kind", KINDS)
def test_a_million_steps(kind):
    p = np.linspace(0, 1, 10**6)
    trials = Trials(p, 3, kind)
    assert trials.sequence().shape == (10**6,) and trials.sequence().dtype == np.bool_
    deviation = 1.0 if kind == "systematic" else z_threshold() * math.sqrt((p * (1 - p)).sum())
    assert abs(trials.extra_pairs - p.sum()) <= deviation
    picked = [0, 1, 12_345, 999_999]
    if kind == "independent":
        assert [trials.draw(t) for t in picked] == [numerator(3, t) < Fraction(p[t]) * ONE for t in picked]


def test_the_comb_survives_more_than_2_to_the_11_certain_steps():
    """The running sum wraps modulo 2^64, which must not show."""
    p = np.tile([1.0, 0.5, 0.25, 0.25], 10_000)
    assert Trials(p, 5, "systematic").extra_pairs == 20_000
    assert set(Trials(p, 5, "systematic").sequence()[::4]) == {True}


# Laws. Each test's false alarm is conftest.COMPARISON_ALARM = 1e-8, shared among its comparisons; the
# seeds are fixed, so a test that passes keeps passing until the code changes.


@pytest.mark.parametrize("kind", KINDS)
def test_every_marginal_is_kept(kind):
    p, runs = np.array([0.0, 0.03, 0.5, 0.9, 0.25, 0.77, 1.0, 0.1]), 4_000
    of_seeds = np.array([Trials(p, seed, kind).sequence() for seed in range(runs)])
    of_replicas = sequences(p, 1, kind, np.arange(50 * runs))
    for coins in (of_seeds, of_replicas):
        law, alarm = stats.binom(len(coins), p), COMPARISON_ALARM / (2 * p.size)
        counts = coins.sum(axis=0)
        assert (law.ppf(alarm / 2) <= counts).all() and (counts <= law.isf(alarm / 2)).all()


@pytest.mark.parametrize("other", ["seed", "step", "replica"])
def test_coins_are_uncorrelated_along_every_axis(other):
    n = 10**5
    table = uniform(11, np.arange(n + 1), 0)
    neighbours = {
        "seed": np.array([uniform(seed, 0) for seed in range(2, 10_002)]),
        "step": table[1:],
        "replica": uniform(11, np.arange(n), 1),
    }[other]
    first = uniform(1, 0, np.arange(1, 10_001)) if other == "seed" else table[:n]
    correlation = 12 * np.mean((first - 0.5) * (neighbours - 0.5))
    assert abs(correlation) <= z_threshold(3) / math.sqrt(len(first))
    assert abs(neighbours.mean() - 0.5) <= z_threshold(3) / math.sqrt(12 * len(first))


def test_uniforms_fill_the_unit_interval_evenly():
    n, cells = 2 * 10**5, 64
    counts = np.bincount((uniform(1, np.arange(n)) * cells).astype(int), minlength=cells)
    assert (np.abs(counts - n / cells) <= z_threshold(cells) * math.sqrt(n / cells)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_replicas_and_seeds_tell_runs_apart(kind):
    p = np.random.default_rng(0).uniform(size=20_000)
    runs = {Trials(p, seed, kind, replica).sequence().tobytes() for seed in range(4) for replica in range(4)}
    assert len(runs) == 16


# Values


@pytest.mark.parametrize("kind", KINDS)
def test_trials_keep_their_own_copy_and_let_nobody_write(kind):
    p = np.array([0.0, 1.0])
    trials = Trials(p, 0, kind)
    p[:] = [1.0, 0.0]
    assert trials.sequence().tolist() == [False, True] and trials.probabilities.tolist() == [0.0, 1.0]
    for array in (trials.sequence(), trials.probabilities):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        trials.seed = 1


@pytest.mark.parametrize("t", [-1, 3, 10**20])
def test_steps_outside_the_run_are_refused(t):
    with pytest.raises(DomainError, match=f"0 <= t < 3; got {t}"):
        Trials([0.5] * 3).draw(t)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"probabilities": [0.5, 1.5]}, r"probability p in \[0, 1\]; got 1.5 at t = 1"),
        ({"probabilities": [math.nan]}, "got nan at t = 0"),
        ({"probabilities": []}, r"shape \(T,\) with T >= 1; got shape \(0,\)"),
        ({"probabilities": 0.5}, r"got shape \(\)"),
        ({"probabilities": [[0.5]]}, r"got shape \(1, 1\)"),
        ({"kind": "alternating"}, "kind must be 'independent' or 'systematic'; got 'alternating'"),
        ({"seed": -1}, "0 <= seed < 18446744073709551616; got -1"),
        ({"replica": 2**32}, "0 <= replica < 4294967296; got 4294967296"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments_are_named(arguments, match, kind):
    with pytest.raises(ValueError, match=match):
        Trials(**{"probabilities": [0.5], "kind": kind, **arguments})


@pytest.mark.parametrize(
    "arguments", [{"probabilities": ["0.5"]}, {"seed": 1.0}, {"replica": 0.5}, {"seed": "1"}]
)
def test_wrong_types_are_refused(arguments):
    with pytest.raises(TypeError):
        Trials(**{"probabilities": [0.5], **arguments})


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_a_coin_needs_a_probability(probability):
    with pytest.raises(DomainError, match="probability p"):
        coin(probability, 0, 0)


@pytest.mark.parametrize("kind", ["independent", "systematic"])
@pytest.mark.parametrize("T", [1, 7, 2**17 + 1])
def test_many_runs_at_once_are_the_runs_one_by_one(kind, T):
    p = np.linspace(0, 1, T)
    replicas = [0, 5, 2**32 - 1]
    together = sequences(p, 9, kind, replicas)
    assert together.shape == (3, T) and together.dtype == bool
    for row, replica in zip(together, replicas, strict=True):
        np.testing.assert_array_equal(row, Trials(p, 9, kind, replica=replica).sequence())
    assert sequences(p, 9, kind, np.empty(0, dtype=int)).shape == (0, T)
    with pytest.raises(DomainError, match="replica"):
        sequences(p, 9, kind, [2**32])


# What mutants of the room showed to be missing


@pytest.mark.parametrize(
    "name, call",
    [
        ("counter", lambda: philox4x32([0, 0, 0, 2**32], [0, 0])),
        ("key", lambda: philox4x32([0, 0, 0, 0], [0, 2**32])),
        ("t", lambda: uniform(0, 2**64)),
        ("t", lambda: uniform(0, np.array([-1]))),
        ("replica", lambda: uniform(0, 0, 2**32)),
        ("seed", lambda: uniform(2**64, 0)),
    ],
)
def test_what_is_out_of_range_is_named(name, call):
    with pytest.raises(DomainError, match=rf"^required: 0 <= {name} < 2?\d+; got"):
        call()


def test_left_out_seeds_and_replicas_are_0():
    p = np.full(64, 0.5)
    assert uniform(7, 3) == uniform(7, 3, 0) != uniform(7, 3, 1)
    np.testing.assert_array_equal(Trials(p).sequence(), Trials(p, seed=0, replica=0).sequence())
    assert (Trials(p).sequence() != Trials(p, seed=1).sequence()).any()


def test_runs_are_told_apart_by_identity_and_shown_without_their_coins():
    first, second = Trials(np.array([0.25, 1.0])), Trials(np.array([0.25, 1.0]))
    assert first != second and len({first, second}) == 2
    assert "_sequence" not in repr(first) and "seed=0" in repr(first)
