"""The engine for GPUs, on the CPU: against the trials, the reference with the same noise, closed forms."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import NUMERIC, ONE_STEP, TRAJECTORY, z_threshold
from hypothesis import given, settings, strategies as st
from scipy import stats

import rst_theory as rst
from rst_theory import method
from rst_theory.problems import FlatAndSharp, LogisticRegression, Quadratic, RippledQuadratic
from rst_theory.simulation import DivergenceError, reference
from rst_theory.simulation.device import engine, parts
from rst_theory.simulation.device.philox import PhiloxStreams, philox, round_keys
from rst_theory.simulation.setting import Setting
from rst_theory.trials import Trials, philox4x32, uniform

CPU = torch.device("cpu")
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")
KERNEL = {"engine": "triton", "device": "cuda" if torch.cuda.is_available() else "cpu"}
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read where the kernel is imported: it then runs without a GPU

LOGISTIC = LogisticRegression(
    np.random.default_rng(0).standard_normal((30, 4)), np.where(np.arange(30) % 2, 1, -1), batch=5, l2=0.1
)
PROBLEMS = [
    Quadratic([1.0, 0.4, 0.1], noise=0.2),
    RippledQuadratic(dimension=4, noise=0.1),
    FlatAndSharp(dimension=3, noise=0.1),
    LOGISTIC,
]


def setting(problem, schedule=0.5, **changes):
    usual = {
        "steps": 12,
        "eta": rst.InverseSqrt(0.3),
        "rho": rst.Linear(0.1, 0.3),
        "gamma": 1.0,
        "ascent": "normalized",
        "trials": "independent",
        "seed": 5,
        "start": None,
        "at": None,
        "first": 0,
        "replicas": 40,
        "keep": False,
        "quantiles": False,
    }
    return Setting.checked(problem, schedule, **(usual | changes))


def run(one, **options):
    """All replicas as one part, on the CPU."""
    (part,) = parts(one, lambda share: None, **({"device": "cpu"} | options))
    return part


@pytest.fixture
def same_noise(monkeypatch):
    """The NumPy reference with the noise of the devices."""
    monkeypatch.setattr(reference, "Streams", PhiloxStreams)

    def by_reference(one):
        (part,) = reference.parts(one, lambda share: None)
        return part

    return by_reference


words = st.integers(0, 2**32 - 1)


@given(counter=st.tuples(words, words, words, words), seed=st.integers(0, 2**64 - 1))
def test_philox_on_signed_integers_is_philox(counter, seed):
    expected = philox4x32(counter, [seed & 0xFFFFFFFF, seed >> 32])
    columns = [np.array([c]) for c in counter]
    np.testing.assert_array_equal(np.ravel(philox(*columns, round_keys(seed))), expected)
    tensors = philox(*map(torch.tensor, columns), torch.tensor(round_keys(seed)))
    np.testing.assert_array_equal(torch.cat(tensors).numpy(), expected)


def test_philox_gives_the_published_vectors():
    """The known answers of Random123 (kat_vectors, philox4x32-10)."""
    ones = np.array([0xFFFFFFFF])
    assert [int(w[0]) for w in philox(ones, ones, ones, ones, round_keys(2**64 - 1))] == [
        0x408F276D,
        0x41C83B0E,
        0xA20BC7C6,
        0x6D5451FD,
    ]


@given(
    p=st.lists(
        st.sampled_from([0.0, 2.0**-60, 2.0**-53, 0.3, 0.5, 1 - 2.0**-53, 1.0]) | st.floats(0, 1),
        min_size=1,
        max_size=8,
    ),
    kind=st.sampled_from(["independent", "systematic"]),
    seed=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**32 - 3),
)
@settings(max_examples=40)
def test_coins_are_the_trials_to_the_bit(p, kind, seed, first):
    one = setting(
        PROBLEMS[0],
        rst.Tabulated(tuple(p)),
        steps=len(p),
        trials=kind,
        seed=seed,
        first=first,
        replicas=3,
        at=[],
    )
    plan = engine._Plan(
        engine.clock(one, CPU, torch.float32),
        torch.tensor(round_keys(seed)),
        one.problem.in_torch(CPU, torch.float32),
        0.0,
        "normalized",
        kind == "systematic",
    )
    replicas = torch.arange(first, first + 3)
    coins = [engine._coin(torch.tensor([t]), replicas, plan).numpy() for t in range(len(p))]
    for r in range(3):
        expected = Trials(np.array(p), seed, kind, replica=first + r).sequence()
        np.testing.assert_array_equal(np.array(coins)[:, r], expected)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
@pytest.mark.parametrize("kind", ["independent", "systematic"])
def test_every_step_is_that_of_the_reference_with_the_same_noise(problem, ascent, kind, same_noise):
    one = setting(
        problem, ascent=ascent, trials=kind, gamma=rst.Linear(0.5, 2.0), seed=2**64 - 7, first=3, keep=True
    )
    ours, expected = run(one), same_noise(one)
    np.testing.assert_array_equal(ours.extra_pairs, expected.extra_pairs)
    # From equal states: each step of the reference is repeated from the engine's own points.
    streams = PhiloxStreams(one.seed, np.arange(3, 43))
    coins = np.array([Trials(one.p, one.seed, kind, replica=r).sequence() for r in range(3, 43)])
    for t in range(one.steps):
        minibatch = problem.sample(streams, 40)
        after = method.step(
            ours.points[:, t],
            lambda x, minibatch=minibatch: problem.stochastic_gradient(x, minibatch),
            coins[:, t],
            one.eta[t],
            one.rho[t],
            one.gamma[t],
            ascent,
        )
        np.testing.assert_allclose(ours.points[:, t + 1], after, rtol=ONE_STEP, atol=ONE_STEP)


def test_whole_trajectories_on_a_contractive_quadratic(same_noise):
    one = setting(
        Quadratic([1.0, 0.4, 0.1], noise=0.2), steps=200, eta=0.5, rho=0.2, ascent="unnormalized", keep=True
    )
    ours, expected = run(one), same_noise(one)
    np.testing.assert_allclose(ours.points, expected.points, rtol=TRAJECTORY, atol=TRAJECTORY)


@given(first=st.integers(0, 100), n=st.integers(1, 100), times=st.sets(st.integers(0, 5)))
@settings(max_examples=20)
def test_moments_are_those_of_the_kept_points_slot_by_slot(first, n, times):
    times = sorted(times)
    one = setting(PROBLEMS[0], steps=6, first=first, replicas=n, at=np.array(times, dtype=int), keep=True)
    part = run(one)
    slots = (first + np.arange(n)) % 32
    points = part.points[:, [*times, 6]]
    for name, samples in {
        "gap": PROBLEMS[0].gap(points),
        "squared_gradient_norm": (PROBLEMS[0].gradient(points) ** 2).sum(axis=-1),
        "squared_distance": (points**2).sum(axis=-1),
    }.items():
        moments = part.moments[name]
        for s in range(32):
            mine = samples[slots == s]
            assert moments.counts[s] == len(mine)
            mean = mine.mean(axis=0) if len(mine) else np.zeros(len(times) + 1)
            np.testing.assert_allclose(moments.means[s], mean, rtol=NUMERIC, atol=1e-14)
            squares = ((mine - mean) ** 2).sum(axis=0)
            np.testing.assert_allclose(moments.squares[s], squares, rtol=NUMERIC, atol=1e-14)


def test_a_replica_does_not_depend_on_the_blocks(monkeypatch):
    one = setting(PROBLEMS[0], replicas=50, keep=True)
    whole = run(one)
    monkeypatch.setattr("rst_theory.simulation.device._fitting", lambda *_: 7)
    pieces = list(parts(one, lambda share: None, device="cpu"))
    assert len(pieces) == 8
    assert [p.extra_pairs.size for p in pieces] == [7] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate([p.extra_pairs for p in pieces]), whole.extra_pairs)
    points = np.concatenate([p.points for p in pieces])
    np.testing.assert_allclose(points, whole.points, rtol=ONE_STEP, atol=ONE_STEP)


def test_blocks_at_the_end_of_the_replicas(monkeypatch):
    """The second block of two begins with the last replica there is."""
    monkeypatch.setattr("rst_theory.simulation.device._fitting", lambda *_: 2)
    one = setting(PROBLEMS[0], steps=100, first=2**32 - 3, replicas=3, at=[])
    found = np.concatenate([p.extra_pairs for p in parts(one, lambda share: None, device="cpu")])
    expected = [Trials(one.p, one.seed, replica=2**32 - 3 + r).extra_pairs for r in range(3)]
    np.testing.assert_array_equal(found, expected)


def test_a_coin_is_strictly_below_p():
    """Probabilities at the coin's own uniform number, and next to it on either side."""
    for seed in range(40):
        u = uniform(seed, 0)
        for p, coin in ((u, 0), (np.nextafter(u, 1), 1), (np.nextafter(u, 0), 0)):
            one = setting(Quadratic([1.0]), p, steps=1, seed=seed, replicas=1, at=[])
            assert run(one).extra_pairs.tolist() == [coin]


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1.0, 1e200, 1e300])
def test_the_perturbation_has_length_rho_however_large_the_gradient(size):
    """One perturbed step on lam x^2/2 with eta = 1/lam: from x to -rho sign(x)."""
    problem = Quadratic([1.0], start=[size])
    plan = setting(problem, 1.0, steps=1, eta=1.0, rho=1e300, at=[], keep=True, replicas=2)
    formulas = problem.in_torch(CPU, torch.float64)
    after = engine.run(
        plan, formulas, 0, 2, device=CPU, dtype=torch.float64, compiled=False, tell=lambda share: None
    ).points
    np.testing.assert_allclose(after[:, 1, 0], -1e300, rtol=ONE_STEP)


def test_at_a_stationary_point_nothing_moves():
    part = run(setting(Quadratic([1.0, 2.0], start=[0.0, 0.0]), 1.0, keep=True))
    np.testing.assert_array_equal(part.points, 0.0)


def test_an_infinity_of_the_unused_branch_does_not_leak():
    """With p = 0 the perturbed gradient, at distance 1e308, is infinite and never used."""
    part = run(setting(Quadratic([10.0]), 0.0, rho=1e308, eta=0.05, keep=True))
    np.testing.assert_allclose(part.points[0, :, 0], 0.5 ** np.arange(13), rtol=ONE_STEP)


def test_divergence_names_replica_and_step_as_the_reference_does(same_noise):
    one = setting(Quadratic([1.0, 0.4], noise=0.1), steps=400, eta=1e3, rho=0.1, first=7, replicas=5, at=None)
    with pytest.raises(DivergenceError) as expected:
        same_noise(one)
    seen = dataclasses.replace(one, times=np.array([390]))
    with pytest.raises(DivergenceError) as found:
        run(one)
    with pytest.raises(DivergenceError, match=r"replica \d+ left .* at step t = \d+"):
        run(seen)
    step = [int(str(e.value).split("t = ")[1].split(",")[0]) for e in (expected, found)]
    assert abs(step[0] - step[1]) <= 1  # whichever of f and its squared gradient overflows first


@given(seed=st.integers(0, 2**64 - 1), replica=words, t=st.integers(0, 3), j=st.integers(0, 4))
@settings(max_examples=40)
def test_noise_is_what_its_counters_say(seed, replica, t, j):
    """Box-Muller and the multiplication of 64 bits by n, in Python's numbers."""
    normals, indices, n = PhiloxStreams(seed, [replica]), PhiloxStreams(seed, [replica]), 1_000_003
    for _ in range(t + 1):
        z, drawn = normals.standard_normal((1, 9))[0], indices.integers(n, (1, 9))[0]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    w = [int(word) for word in philox4x32([t, replica, j, 2], key)]
    u, v = ((w[0] << 32 | w[1]) // 2**11 + 1) / 2**53, ((w[2] << 32 | w[3]) // 2**11) / 2**53
    radius = math.sqrt(-2 * math.log(u))
    pair = [radius * math.cos(2 * math.pi * v), radius * math.sin(2 * math.pi * v)]
    np.testing.assert_allclose(z[2 * j : 2 * j + 2], pair[: 9 - 2 * j], rtol=ONE_STEP, atol=1e-15)
    w = [int(word) for word in philox4x32([t, replica, j, 3], key)]
    expected = [((w[0] << 32 | w[1]) * n) >> 64, ((w[2] << 32 | w[3]) * n) >> 64]
    np.testing.assert_array_equal(drawn[2 * j : 2 * j + 2], expected[: 9 - 2 * j])


def test_normals_are_normal_and_independent_of_the_coins():
    """A Kolmogorov-Smirnov test and two correlations, of 2^16 normals."""
    z = np.concatenate([PhiloxStreams(s, np.arange(64)).standard_normal((64, 64)) for s in range(16)])
    coins = np.array([Trials(np.array([0.5]), s, replica=r).draw(0) for s in range(16) for r in range(64)])
    assert stats.kstest(z.ravel(), "norm").pvalue > 2 * stats.norm.sf(z_threshold(4))
    for pair in (z[:, 0::2] * z[:, 1::2], z[1:] * z[:-1], (2 * coins - 1)[:, None] * z):
        assert abs(pair.mean()) * np.sqrt(pair.size) < z_threshold(4)


def test_minibatch_indices_are_uniform():
    drawn = PhiloxStreams(1, np.arange(512)).integers(7, size=(512, 63))
    counts = np.bincount(drawn.ravel(), minlength=7)
    assert counts.size == 7
    assert stats.chisquare(counts).pvalue > 2 * stats.norm.sf(z_threshold())


def test_float32_is_the_same_run_rounded():
    """The unit roundoff of float32 is 6e-8; these quadratics contract, so errors do not build up."""
    one = setting(Quadratic([1.0, 0.4, 0.1], noise=0.2), steps=50, ascent="unnormalized", keep=True)
    single, double = run(one, dtype="float32"), run(one)
    np.testing.assert_array_equal(single.extra_pairs, double.extra_pairs)
    np.testing.assert_allclose(single.points, double.points, atol=2e-5)
    assert not np.array_equal(single.points, double.points)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # PyTorch's own compiler
def test_compiled_steps_are_the_eager_ones():
    one = setting(Quadratic([1.0, 0.4, 0.1], noise=0.2), ascent="normalized", gamma=1.5)
    fused, eager = run(one, compiled=True), run(one)
    np.testing.assert_array_equal(fused.extra_pairs, eager.extra_pairs)
    for name, moments in eager.moments.items():
        np.testing.assert_allclose(fused.moments[name].means, moments.means, rtol=TRAJECTORY)


class Steeper(Quadratic):
    """Overrides what the formulas on tensors of its parent compute."""

    def gradient(self, x):
        return 2 * super().gradient(x)


@pytest.mark.parametrize(
    ("one", "options", "message"),
    [
        (setting(PROBLEMS[0]), {"device": "tpu"}, "device must be"),
        (setting(PROBLEMS[0]), {"device": "cuda:99"}, "is not there"),
        (setting(PROBLEMS[0]), {"dtype": "float16"}, "dtype must be"),
        (setting(PROBLEMS[0]), {"engine": "jax"}, "engine must be"),
        (setting(PROBLEMS[0], quantiles=True), {}, "quantiles"),
        (setting(LOGISTIC), {"engine": "triton"}, "Triton"),
        (setting(Steeper([1.0])), {}, "Steeper has no formulas on tensors"),
    ],
)
def test_what_cannot_run_is_refused(one, options, message):
    with pytest.raises(ValueError, match=message):
        run(one, **options)


@needs_triton
@pytest.mark.parametrize(
    ("problem", "dtype"),
    [
        (Quadratic([1.0, 0.4, 0.1], noise=0.2), "float64"),
        (Quadratic(np.linspace(0.1, 1, 66), noise=0.1), "float64"),
        (RippledQuadratic(dimension=4, noise=0.1), "float64"),
        (Quadratic([1.0, 0.4, 0.1], noise=0.2), "float32"),
    ],
)
@pytest.mark.parametrize(("ascent", "kind"), [("normalized", "systematic"), ("unnormalized", "independent")])
def test_the_kernel_is_the_torch_engine(problem, dtype, ascent, kind):
    one = setting(
        problem, steps=6, at=[0, 4], ascent=ascent, trials=kind, gamma=rst.Linear(1.0, 2.0), seed=2**64 - 7
    )
    one = dataclasses.replace(one, first=9, replicas=35)
    fused, expected = run(one, **KERNEL, dtype=dtype), run(one)
    np.testing.assert_array_equal(fused.extra_pairs, expected.extra_pairs)
    # Float32: sums of 66 terms of size 1 at most, unit roundoff 6e-8.
    tolerance = {"rtol": TRAJECTORY} if dtype == "float64" else {"rtol": 1e-4}
    for name, moments in expected.moments.items():
        np.testing.assert_allclose(fused.moments[name].means, moments.means, **tolerance)


@needs_triton
@pytest.mark.parametrize("size", [1e-300, 1e150])
def test_the_kernel_perturbs_by_rho_however_large_the_gradient(size):
    rho = max(size, 1.0)
    one = setting(Quadratic([1.0], start=[size]), 1.0, steps=1, eta=1.0, rho=rho, at=[], replicas=2)
    moments = run(one, **KERNEL).moments["squared_distance"]
    np.testing.assert_allclose(moments.means[:2], rho**2, rtol=ONE_STEP)


_FOR_HOPPER = """
import struct, torch, triton
from triton.backends.compiler import GPUTarget
from rst_theory.simulation.device import launch, triton_kernel as kernels

for kind, dtype in (("fp32", torch.float32), ("fp64", torch.float64)):
    pairs, lanes, warps = launch.shape(20, dtype)
    f = "*" + kind
    signature = dict.fromkeys(kernels.trajectories.arg_names, f) | {
        "extra_pairs": "*i64", "stops": "*i32", "threshold": "*i64", "comb": "*i64", "seed": "*i64",
        "first": "*i64", "n": "i32", "K": "i32",
    }
    constants = {
        "VALUE": kernels.quadratic, "DERIVATIVE": kernels.quadratic_derivative, "D": 20, "PAIRS": pairs,
        "LANES": lanes, "NORMALIZED": True, "SYSTEMATIC": False, "NOISY": True, "CENTERED": True,
    }
    source = triton.compiler.ASTSource(
        kernels.trajectories, signature | dict.fromkeys(constants, "constexpr"), constants
    )
    options = {"num_warps": warps, "enable_fp_fusion": True}
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    assert ".target sm_90" in ptx
    assert "mul.hi.u32" in ptx or "mul.wide.u32" in ptx

def stands_in(number):
    return any("0d" + struct.pack(">d", signed).hex().upper() in ptx for signed in (number, -number))

assert stands_in(6.283185307179586) and stands_in(1 / 272)
"""


@needs_triton
def test_the_kernel_compiles_for_a_gpu_that_is_not_there():
    """For compute capability 9.0; 2 pi and a Taylor coefficient, 1/(16 17), are there in double."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", _FOR_HOPPER], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


def test_progress_grows_to_one(monkeypatch):
    monkeypatch.setattr("rst_theory.simulation.device._fitting", lambda *_: 7)
    told = []
    list(parts(setting(PROBLEMS[0], steps=130, replicas=20), told.append, device="cpu"))
    assert told == sorted(told)
    assert 0 < told[0] < 0.2
    assert told[-1] == 1.0
