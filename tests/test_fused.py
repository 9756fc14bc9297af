"""The compiled engine against the update of `method`, against the NumPy reference, and against itself."""

from __future__ import annotations

import functools
import logging
import math
import os
import re
import subprocess
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import NUMERIC, ONE_STEP, TRAJECTORY, z_threshold
from hypothesis import example, given, settings, strategies as st

import rst_theory as rst
from rst_theory import method
from rst_theory.bounds.quadratics import quadratic_moments
from rst_theory.problems import (
    DenseQuadratic,
    FlatAndSharp,
    FromFunctions,
    LeastSquares,
    LogisticRegression,
    Quadratic,
    RippledQuadratic,
    Separable,
)
from rst_theory.simulation import DivergenceError, run as running, sketch
from rst_theory.simulation.streams import Streams
from rst_theory.trials import sequences

pytest.importorskip("numba")

from rst_theory.simulation.fused import engine, lanes, plug

RNG = np.random.default_rng(3)
ROWS = RNG.standard_normal((9, 3))
SPECTRUM = np.array([1.0, 0.3, 0.05])
ROTATION = np.linalg.qr(RNG.standard_normal((3, 3)))[0]

simulate = functools.partial(rst.simulate, backend="numba", progress=False)


def bowl(x):
    return 0.5 * np.sum(x * x) + np.sqrt(1.0 + np.sum(x * x)) - 1.0


def bowl_gradient(x):
    return x + x / np.sqrt(1.0 + np.sum(x * x))


def well(u):
    return math.sqrt(1.0 + u * u) - 1.0


def well_derivative(u):
    return u / math.sqrt(1.0 + u * u)


def dense(noise=0.0):
    return DenseQuadratic(ROTATION @ np.diag(SPECTRUM) @ ROTATION.T, noise=noise)


FAMILIES = {
    "quadratic": lambda: Quadratic(SPECTRUM, noise=0.2),
    "quadratic, exact": lambda: Quadratic(SPECTRUM),
    "rippled": lambda: RippledQuadratic(1.5, dimension=3, noise=0.2),
    "at a kink": lambda: FlatAndSharp(2.0, 0.5, 0.5, dimension=3),
    "at a kink, noisy": lambda: FlatAndSharp(2.0, 0.5, 0.5, dimension=3, noise=0.2),
    "dense": lambda: dense(0.2),
    "dense, exact": lambda: dense(),
    "least squares": lambda: LeastSquares(ROWS, ROWS.sum(axis=1) + RNG.standard_normal(9), batch=4),
    "logistic": lambda: LogisticRegression(ROWS, np.sign(ROWS[:, 0]), 0.1, batch=4),
    "own": lambda: FromFunctions(bowl, bowl_gradient, 3, L=2.0, f_star=0.0, noise=0.2),
    "own, separable": lambda: FromFunctions(well, well_derivative, 3, L=1.0, f_star=0.0, separable=True),
}

T = 12
EVERYTHING = {
    "steps": T,
    "eta": np.linspace(0.05, 0.3, T),
    "rho": np.where(np.arange(T) % 5 == 4, 0.0, 0.3),
    "gamma": np.tile([0.0, 1.0, 0.5, 1.7], 3),
}
CHANCES = rst.Tabulated((1.0,) * 4 + (0.5,) * 4 + (0.0, 1e-18, 1.0, 0.7))


def require_steps(problem, run, chances, *, steps, eta, rho, gamma, ascent, seed, first):
    """Every step of a run that kept its points is that of `method`, from the same point and noise."""
    R = len(run.points)
    streams = Streams(seed, np.arange(first, first + R))
    coins = sequences(chances.values(steps), seed, "independent", np.arange(first, first + R))
    np.testing.assert_array_equal(run.extra_pairs, coins.sum(axis=1))
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps):
            x, minibatch = run.points[:, t], problem.sample(streams, R)
            sizes = [np.abs(x)]

            def gradient(y, minibatch=minibatch, sizes=sizes, t=t):
                g = problem.stochastic_gradient(y, minibatch)
                sizes.append(eta[t] * (1 + gamma[t]) * np.abs(g))
                return g

            expected = method.step(x, gradient, coins[:, t], eta[t], rho[t], gamma[t], ascent)
            size = functools.reduce(np.maximum, sizes).max(axis=1, keepdims=True)
            off = np.abs(run.points[:, t + 1] - expected)
            assert (off <= ONE_STEP * size).all(), (t, (off / np.maximum(size, 1e-320)).max())


@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_step_is_that_of_the_method(name, ascent):
    problem, seed, first = FAMILIES[name](), 2**64 - 5, 17
    run = simulate(
        problem, CHANCES, ascent=ascent, seed=seed, first=first, replicas=33, keep=True, **EVERYTHING
    )
    np.testing.assert_array_equal(run.points[:, 0], np.tile(problem.start, (33, 1)))
    require_steps(problem, run, CHANCES, ascent=ascent, seed=seed, first=first, **EVERYTHING)


@pytest.mark.parametrize("size", [0.0, 1e-310, 1e-200, 1e-140, 1e140, 1e150])
@pytest.mark.parametrize("name", ["quadratic, exact", "dense, exact", "own, separable", "rippled"])
@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
def test_gradients_of_every_size(name, size, ascent):
    """Zero, subnormal, and so small or large that their squares leave the floating range."""
    problem = FAMILIES[name]()
    start = size * np.array([1.0, -0.5, 0.25])
    few = {key: value[:4] if key != "steps" else 4 for key, value in EVERYTHING.items()}
    chances = rst.Tabulated((1.0, 0.5, 1.0, 0.5))
    with np.errstate(over="ignore"):  # NumPy sums squares of what is kept
        run = simulate(problem, chances, ascent=ascent, replicas=5, start=start, at=[], keep=True, **few)
    require_steps(problem, run, chances, ascent=ascent, seed=0, first=0, **few)
    if size == 0 and problem.noise == 0:
        np.testing.assert_array_equal(run.points, 0.0)


@pytest.mark.parametrize("d", [1, 2, 3, 63, 64, 65, 129])
@pytest.mark.parametrize("family", [Quadratic, lambda lam, noise: RippledQuadratic(1.0, lam.size, noise)])
def test_any_dimension(d, family):
    """Odd ones, and those around the coordinates whose noise is drawn at once."""
    problem = family(np.linspace(0.1, 1, d), 0.2)
    few = {key: value[:3] if key != "steps" else 3 for key, value in EVERYTHING.items()}
    chances = rst.Tabulated((1.0, 0.5, 0.0))
    for ascent in ("normalized", "unnormalized"):
        run = simulate(problem, chances, ascent=ascent, replicas=2, keep=True, **few)
        require_steps(problem, run, chances, ascent=ascent, seed=0, first=0, **few)


@given(
    p=st.lists(
        st.sampled_from([0.0, 1.0, 5e-324, 2.0**-53, 2.0**-54, 1 - 2.0**-53]) | st.floats(0, 1), min_size=1
    ),
    seed=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**32 - 40),
    kind=st.sampled_from(["independent", "systematic"]),
)
@example([0.3] * 200, 2**64 - 1, 2**32 - 40, "independent")
@example([0.3] * 200, 2**64 - 1, 2**32 - 40, "systematic")
@settings(max_examples=60)
def test_trials_are_those_of_trials_to_the_bit(p, seed, first, kind):
    """On f = x^2/2 a step of size 1/8 multiplies by 7/8, and a perturbed one with rho = 1 by 3/4."""
    run = simulate(
        Quadratic([1.0]),
        rst.Tabulated(tuple(p)),
        steps=len(p),
        eta=0.125,
        rho=1.0,
        ascent="unnormalized",
        seed=seed,
        first=first,
        replicas=40,
        trials=kind,
        keep=True,
    )
    coins = run.points[:, 1:, 0] < 0.8 * run.points[:, :-1, 0]
    np.testing.assert_array_equal(coins, sequences(p, seed, kind, np.arange(first, first + 40)))
    np.testing.assert_array_equal(run.extra_pairs, coins.sum(axis=1))


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("family", [lambda noise: Quadratic(SPECTRUM, noise=noise), dense])
def test_whole_trajectories_are_those_of_the_reference(family, noise):
    arguments = {"steps": 300, "eta": 0.5, "rho": 0.4, "gamma": 1.5, "ascent": "unnormalized", "replicas": 40}
    runs = [
        rst.simulate(family(noise), rst.Linear(0, 1), backend=backend, keep=True, **arguments)
        for backend in ("numba", "numpy")
    ]
    np.testing.assert_allclose(runs[0].points, runs[1].points, rtol=TRAJECTORY, atol=TRAJECTORY * (noise > 0))
    for quantity, moments in runs[0].moments.items():
        np.testing.assert_allclose(moments.mean, runs[1].moments[quantity].mean, rtol=NUMERIC)


@pytest.mark.parametrize("family", [lambda noise: Quadratic(SPECTRUM, noise=noise), dense])
def test_moments_agree_with_the_exact_recursion(family):
    """A statistical test: fails falsely with probability at most COMPARISON_ALARM for each family."""
    arguments = {"steps": 30, "eta": rst.InverseSqrt(0.8), "rho": 0.5, "gamma": 1.3}
    start = np.array([1.0, -2.0, 3.0])
    run = simulate(
        family(0.3),
        rst.Linear(0.2, 0.9),
        replicas=20_000,
        start=start if family is not dense else ROTATION @ start,
        ascent="unnormalized",
        seed=8,
        **arguments,
    )
    exact = quadratic_moments(Quadratic(SPECTRUM, noise=0.3), rst.Linear(0.2, 0.9), start=start, **arguments)
    for quantity in ("gap", "squared_gradient_norm", "squared_distance"):
        moments, expected = run.moments[quantity], getattr(exact, quantity)
        z = (moments.mean - expected)[1:] / moments.standard_error[1:]
        assert np.abs(z).max() < z_threshold(3 * 30)
        assert moments.mean[0] == pytest.approx(expected[0], rel=ONE_STEP)


# How the work is cut


def require_equal(one, other):
    np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(one.extra_pairs, other.extra_pairs)
    for quantity, counts in one.counts.items():
        np.testing.assert_array_equal(counts, other.counts[quantity])


NOISY = {"steps": 6, "eta": 0.3, "rho": 0.2, "seed": 4, "keep": True, "quantiles": True}


@pytest.mark.parametrize("name", ["quadratic", "rippled", "logistic"])
def test_no_bit_depends_on_the_threads(name, monkeypatch):
    monkeypatch.setattr(engine, "_LEAST", 1)
    one, *others = (
        simulate(FAMILIES[name](), 0.5, replicas=500, first=5, threads=n, **NOISY) for n in (1, 2, 3, 3)
    )
    for other in others:
        require_equal(one, other)
        for quantity, moments in one.moments.items():
            np.testing.assert_array_equal(moments.means, other.moments[quantity].means)
            np.testing.assert_array_equal(moments.squares, other.moments[quantity].squares)


@pytest.mark.parametrize("chunks, least", [(1, 1), (3, 1), (64, 1), (64, 10_000)])
def test_no_replica_depends_on_the_cut(chunks, least, monkeypatch):
    """The last bits of merged moments do; but the cut is a function of the setting alone."""
    whole = simulate(FAMILIES["quadratic"](), 0.5, replicas=300, first=17, **NOISY)
    monkeypatch.setattr(engine, "_CHUNKS", chunks)
    monkeypatch.setattr(engine, "_LEAST", least)
    cut = simulate(FAMILIES["quadratic"](), 0.5, replicas=300, first=17, **NOISY)
    require_equal(whole, cut)
    for quantity, moments in whole.moments.items():
        np.testing.assert_allclose(moments.means, cut.moments[quantity].means, rtol=1e-13)
        np.testing.assert_array_equal(moments.counts, cut.moments[quantity].counts)


@pytest.mark.parametrize("name", ["quadratic", "quadratic, exact", "at a kink, noisy", "logistic"])
@pytest.mark.parametrize("first, n", [(0, 1), (0, 31), (0, 33), (17, 1), (17, 15), (17, 16), (31, 2)])
def test_any_replicas_alone_are_those_of_all(name, first, n):
    run = simulate(FAMILIES[name](), 0.5, replicas=100, **NOISY)
    few = simulate(FAMILIES[name](), 0.5, replicas=n, first=first, **NOISY)
    np.testing.assert_array_equal(few.points, run.points[first : first + n])
    np.testing.assert_array_equal(few.replay(first), run.points[first])
    gaps = FAMILIES[name]().gap(few.points).T
    np.testing.assert_allclose(few.moments["gap"].mean, gaps.mean(axis=1), rtol=NUMERIC, atol=1e-15)


def test_a_second_run_continues_the_first():
    both = simulate(FAMILIES["rippled"](), 0.5, replicas=200, **NOISY)
    halves = [simulate(FAMILIES["rippled"](), 0.5, replicas=100, first=n, **NOISY) for n in (0, 100)]
    np.testing.assert_array_equal(np.concatenate([half.points for half in halves]), both.points)
    np.testing.assert_array_equal(np.concatenate([half.extra_pairs for half in halves]), both.extra_pairs)
    for quantity, counts in both.counts.items():
        np.testing.assert_array_equal(sum(half.counts[quantity] for half in halves), counts)


@pytest.mark.parametrize("name", ["quadratic", "quadratic, exact", "rippled", "at a kink, noisy", "dense"])
@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
def test_with_no_radius_the_trials_change_nothing(name, ascent):
    arguments = {"steps": 20, "eta": 0.3, "rho": 0.0, "gamma": 1.7, "ascent": ascent, "replicas": 40}
    plain, idle = (simulate(FAMILIES[name](), p, keep=True, **arguments) for p in (0.0, 0.7))
    np.testing.assert_array_equal(plain.points, idle.points)


# Divergence

EXPLOSIVE = {"steps": 60, "eta": 0.5, "rho": 1e30, "ascent": "unnormalized", "at": []}
"""On f = x^2/2 a plain step halves, noise aside, and a perturbed one multiplies by about -10^30: 5 of these
are survived, 11 are not, and those between spoil what is measured at the end."""


def how_it_ends(backend, problem=None, **arguments):
    """Which replica left at which step; what else there is to tell, the reference alone says."""
    problem = problem or Quadratic([1.0], noise=1.0)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # the variance of what is about to diverge
            rst.simulate(problem, 0.1, backend=backend, progress=False, **(EXPLOSIVE | arguments))
    except DivergenceError as error:
        return re.sub(
            "; not finite: coordinates .* of x|; at a finite x of norm .* has norm [^;]*", "", str(error)
        )
    return "it did not diverge"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("quantiles", [False, True])
def test_divergence_is_named_as_by_the_reference(seed, quantiles, monkeypatch):
    """Of those that the reference runs side by side, the first to leave; of several, the least."""
    monkeypatch.setattr(engine, "_LEAST", 1)  # cuts between them
    for first, n in [(0, 400), (250, 20), (300, 700)]:
        expected = how_it_ends("numpy", seed=seed, first=first, replicas=n)
        assert "left" in expected
        for threads in (1, 3):
            arguments = {"quantiles": quantiles, "threads": threads}
            assert how_it_ends("numba", seed=seed, first=first, replicas=n, **arguments) == expected


def test_replicas_that_are_not_asked_for_may_diverge():
    ends = [how_it_ends("numba", first=r, replicas=1, quantiles=True) for r in range(40)]
    assert ends == [how_it_ends("numpy", first=r, replicas=1) for r in range(40)]
    calm = [r for r, end in enumerate(ends) if end == "it did not diverge"]
    assert 0 < len(calm) < 40
    for r in calm:
        run = simulate(Quadratic([1.0], noise=1.0), 0.1, first=r, replicas=1, **EXPLOSIVE)
        assert np.isfinite(run.final_gap.mean)


def test_no_sample_is_counted_outside_its_sketch():
    """Where replicas diverge: a NaN, infinities, and what lies below zero."""
    W = lanes.LANES
    samples = np.zeros(W)
    samples[:6] = np.nan, -np.nan, np.inf, -np.inf, -1.0, 1.0
    room = np.zeros(300_000, dtype=np.uint32)
    counts = room[: sketch.BINS].reshape(1, -1)
    means, squares, broken = np.zeros((1, W)), np.zeros((1, W)), np.zeros(W)
    lanes.record(samples, 0, 0, 0, 6, np.ones(W), means, squares, counts, broken)
    assert not room[sketch.BINS :].any()
    expected = np.zeros(sketch.BINS, dtype=np.uint32)
    expected[0], expected[-1] = 2, 3
    expected[sketch.bins(np.ones(1))] = 1
    np.testing.assert_array_equal(counts[0], expected)
    np.testing.assert_array_equal(np.isfinite(broken), [False] * 4 + [True] * (W - 4))


# What is measured


@pytest.mark.parametrize("name", ["quadratic", "at a kink, noisy", "least squares"])
def test_sketches_count_what_the_points_say(name):
    problem = FAMILIES[name]()
    run = simulate(problem, 0.5, replicas=500, **NOISY)
    samples = {
        "gap": problem.gap(run.points).T,
        "squared_gradient_norm": (problem.gradient(run.points) ** 2).sum(axis=-1).T,
        "squared_distance": problem.squared_distance(run.points).T,
    }
    for quantity, sample in samples.items():
        counts = run.counts[quantity].cumsum(axis=1, dtype=np.int64)
        slack = ONE_STEP * np.abs(sample) + 1e-14  # rounding, of the value at f* as well
        most, least = (sketch.count(sample + sign * slack).cumsum(axis=1) for sign in (-1, 1))
        assert ((least <= counts) & (counts <= most)).all()
        assert (counts[:, -1] == 500).all()


@pytest.mark.parametrize("at", [[], [0], [5], [1, 4]])
@pytest.mark.parametrize("name", ["quadratic, exact", "dense"])
def test_measuring_disturbs_nothing(name, at):
    arguments = {"steps": 6, "eta": 0.3, "rho": 0.2, "replicas": 50}
    every = simulate(FAMILIES[name](), 0.5, **arguments)
    some = simulate(FAMILIES[name](), 0.5, at=at, **arguments)
    for quantity, moments in every.moments.items():
        np.testing.assert_array_equal(some.moments[quantity].means, moments.means[:, [*at, 6]])
        np.testing.assert_array_equal(some.moments[quantity].squares, moments.squares[:, [*at, 6]])


@pytest.mark.parametrize("R, steps", [(1, 200_000), (200_000, 1), (1, 1)])
def test_long_runs_and_wide_ones(R, steps):
    run = simulate(
        Quadratic([0.5]), 1.0, steps=steps, eta=1e-3, rho=1.0, ascent="unnormalized", replicas=R, at=[]
    )
    expected = (1 - 1e-3 * 0.5 * 1.5) ** steps
    assert math.sqrt(run.final_squared_distance.mean) == pytest.approx(expected, rel=1e-10)
    np.testing.assert_array_equal(run.extra_pairs, np.full(R, steps))


def test_memory_does_not_grow_with_replicas_times_steps():
    """Beyond the number of extra pairs, 8 bytes a replica, and the parameters, 48 bytes a step."""
    peaks = {}
    for R, steps in [(64, 10), (64, 2000), (20_000, 10), (20_000, 2000)]:
        tracemalloc.start()
        simulate(Quadratic([1.0]), 0.5, steps=steps, eta=0.1, rho=0.1, replicas=R, at=[], threads=2)
        peaks[R, steps] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    alone = max(peaks[20_000, 10], peaks[64, 2000])
    assert peaks[20_000, 2000] < alone + 2e6  # against 320 MB of points


# Functions on their way into a kernel

A = 2.0
TABLE = np.array([1.0, 2.0])


def helper(u):
    return 2.0 * u


def by_global(u):
    return A * u


def by_array(u):
    return TABLE[0] * u


def by_helper(u):
    return helper(u)


def by_comprehension(u):
    return sum([A * k for k in range(int(u))])


def by_module(u):
    return settings_of.constant * u


def by_default(u, a=2.0):
    return a * u


settings_of = types.ModuleType("settings_of")
settings_of.constant = 2.0


def by_closure(a):
    return lambda u: a * u


def digest(function):
    return plug.Plug(Separable(function, well_derivative, ())).digest


def with_globals(function, **changed):
    """The same code, in a module in which something else is of that name."""
    copy = types.FunctionType(function.__code__, function.__globals__ | changed, function.__name__)
    copy.__defaults__ = function.__defaults__
    return copy


def other_helper(u):
    return 3.0 * u


def test_a_digest_follows_all_that_a_function_computes_with():
    other = types.ModuleType("settings_of")
    other.constant = 3.0
    swapped = with_globals(by_default)
    swapped.__defaults__ = (3.0,)
    pairs = [
        (by_global, with_globals(by_global, A=3.0)),
        (by_global, with_globals(by_global, A=2)),
        (by_global, with_globals(by_global, A=(1, (2, 3)))),
        (with_globals(by_global, A=((1, 2), 3)), with_globals(by_global, A=(1, (2, 3)))),
        (by_array, with_globals(by_array, TABLE=np.array([1.0, 3.0]))),
        (by_helper, with_globals(by_helper, helper=other_helper)),
        (by_comprehension, with_globals(by_comprehension, A=3.0)),
        (by_module, with_globals(by_module, settings_of=other)),
        (by_default, swapped),
        (by_closure(2.0), by_closure(3.0)),
        (by_closure(helper), by_closure(other_helper)),
        (helper, other_helper),
    ]
    for one, changed in pairs:
        assert digest(one) != digest(changed), one
    for function in (by_global, by_array, by_helper, by_comprehension, by_module, by_default):
        assert digest(function) == digest(with_globals(function))
    assert digest(by_closure(2.0)) == digest(by_closure(2.0))


def test_a_global_that_changes_is_noticed(monkeypatch):
    """In a notebook, say: the same function object, in the same process."""
    before = digest(by_global)
    monkeypatch.setitem(globals(), "A", 5.0)
    assert digest(by_global) != before


SCRIPT = """
import sys
import rst_theory as rst
from rst_theory.problems import FromFunctions
from rst_theory.simulation.fused import kernel, plug

scale = 0.5

def value(u):
    return sum([scale * u * u for _ in range(1)])

def derivative(u):
    return 2.0 * scale * u

if __name__ == "__main__":
    problem = FromFunctions(value, derivative, 2, L=1.0, f_star=0.0, separable=True)
    run = rst.simulate(problem, 0.5, steps=2, eta=0.5, rho=0.0, replicas=1, backend="numba", progress=False)
    stats = kernel.run.stats
    print(plug.Plug(problem.form()).digest, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
    print(run.final_gap.mean)
"""


def test_another_process_finds_the_kernel_on_disk(tmp_path):
    script, cache = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(SCRIPT)
    root = str(Path(rst.__file__).parents[1])
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": root}

    def once():
        done = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split(), {
            path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()
        }

    (one, *stats, gap), files = once()
    assert stats == ["0", "1"] and files
    (two, *stats, again), untouched = once()
    assert stats == ["1", "0"]
    assert (two, again, untouched) == (one, gap, files)
    assert float(gap) == 0.0625


# What cannot be compiled


K = {"steps": 3, "eta": 0.1, "rho": 0.1, "replicas": 3}


@pytest.mark.parametrize(
    "value, gradient, separable, message",
    [
        (bowl, lambda x: helper(x), False, "cannot compile the problem's gradient.*(?s:.*)'helper'"),
        (functools.partial(bowl), bowl_gradient, False, "cannot compile the problem's value"),
        (bowl, lambda x: 1.0, False, "gradient must return an array"),
        (lambda x: x, bowl_gradient, False, "value must return a number"),
        (well, lambda u: None, True, "derivative must return a number"),
    ],
)
def test_what_is_wrong_with_a_function_is_said(value, gradient, separable, message):
    problem = FromFunctions(value, gradient, 2, L=2.0, f_star=0.0, separable=separable)
    with pytest.raises(ValueError, match=message):
        simulate(problem, 0.5, **K)


def spoils(x):
    if x[0] < 0.5:
        raise ValueError("the function itself refuses")
    x[0] = 7.0
    return 0.5


def ones(x):
    return np.ones(1)


def test_compiled_functions_are_taken_as_they_are():
    """Compiled already by the user; one changes its argument, and raises; the other knows one dimension."""
    from numba import njit

    value, gradient = njit(spoils), njit(ones)
    problem = FromFunctions(value, gradient, 1, L=1.0, f_star=0.0)
    run = simulate(problem, 0.0, keep=True, **K)
    np.testing.assert_allclose(run.points[0, :, 0], [1.0, 0.9, 0.8, 0.7], rtol=ONE_STEP)
    with pytest.raises(ValueError, match="the function itself refuses"):
        simulate(problem, 0.0, **(K | {"steps": 9}))
    with pytest.raises(ValueError, match="gradient must return as many numbers as x has"):
        simulate(FromFunctions(value, gradient, 2, L=1.0, f_star=0.0), 0.0, **K)


class Steeper(Quadratic):
    """Overrides what the form of its parent computes."""

    def gradient(self, x):
        return 2.0 * super().gradient(x)


def test_what_has_no_form_runs_on_the_reference_and_one_line_says_so(caplog):
    running._say_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="rst_theory"):
        for _ in range(3):
            run = rst.simulate(Steeper([1.0]), 0.0, **(K | {"rho": 0.0}), keep=True)
    assert run.backend == "numpy"
    np.testing.assert_allclose(run.points[0, :, 0], 0.8 ** np.arange(4), rtol=ONE_STEP)
    assert [r.getMessage() for r in caplog.records] == [
        "Steeper has no compiled form: it runs on the NumPy reference"
    ]
    with pytest.raises(ValueError, match="compiled form"):
        simulate(Steeper([1.0]), 0.0, **K)


def test_a_function_that_does_not_compile_runs_on_the_reference_and_one_line_says_so(caplog):
    class Identity:
        def __call__(self, x):
            return x

    identity = Identity()

    def gradient(x):
        return identity(x)

    problem = FromFunctions(lambda x: 0.5 * float(x @ x), gradient, dimension=2, L=1.0, f_star=0.0)
    running._say_once.cache_clear()
    setting = {"steps": 2, "eta": 0.5, "rho": 0.1, "replicas": 3}
    with caplog.at_level(logging.WARNING, logger="rst_theory"):
        chosen = rst.simulate(problem, 0.0, **setting)
        rst.simulate(problem, 0.0, **setting)
    assert chosen.backend == "numpy" and chosen.final_gap.mean == 2 * 0.5 * 0.25**2
    (line,) = (record.getMessage() for record in caplog.records)
    assert "cannot compile the problem's gradient" in line and line.endswith("runs on the NumPy reference.")
    with pytest.raises(ValueError, match="cannot compile the problem's gradient"):
        rst.simulate(problem, 0.0, **setting, backend="numba")


def test_without_numba_the_reference_runs_and_one_line_says_so(caplog, monkeypatch):
    running._say_once.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING, logger="rst_theory"):
        assert {rst.simulate(Quadratic([1.0]), 0.5, **K).backend for _ in range(3)} == {"numpy"}
    assert len(caplog.records) == 1 and "Numba is absent" in caplog.records[0].getMessage()
