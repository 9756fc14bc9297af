"""The simulator against the update written out by hand, exact recursions, and enumeration of all trials."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import NUMERIC, ONE_STEP, z_threshold
from hypothesis import given, settings, strategies as st
from scipy import stats

import rst_theory as rst
from rst_theory.bounds import Metric
from rst_theory.notation import DomainError
from rst_theory.problems import BY_NAME, FlatAndSharp, Quadratic
from rst_theory.simulation import DivergenceError, Estimate, Moments, fused
from rst_theory.simulation.estimates import SLOTS
from rst_theory.simulation.reference import BLOCK
from rst_theory.simulation.streams import Streams
from rst_theory.trials import Trials

QUADRATIC = Quadratic([1.0, 0.4, 0.1], noise=0.2)


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba")
        if not hasattr(fused, "parts"):
            pytest.skip("the compiled engine is not there")
    return request.param


def step_by_hand(problem, x, eta, rho, gamma, ascent, noise, coin):
    """One step on a quadratic, one line of arithmetic after the other."""
    eigenvalues = problem.gradient(np.ones(problem.dimension))
    g = eigenvalues * x + noise
    if coin:
        length = np.sqrt(sum(v * v for v in g))
        y = x + rho * (g / length if ascent == "normalized" else g)
        g = g + gamma * (eigenvalues * y + noise - g)
    return x - eta * g


@given(
    p=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    gamma=st.floats(0, 3),
    ascent=st.sampled_from(["normalized", "unnormalized"]),
    seed=st.integers(0, 2**64 - 1),
)
@settings(max_examples=25)
def test_every_step_of_every_replica_is_the_update_written_out(p, gamma, ascent, seed):
    T = len(p)
    eta, rho = rst.InverseSqrt(0.3), rst.Linear(0.1, 0.3)
    run = rst.simulate(
        QUADRATIC,
        rst.Tabulated(tuple(p)),
        backend="numpy",
        steps=T,
        eta=eta,
        rho=rho,
        gamma=gamma,
        ascent=ascent,
        replicas=3,
        seed=seed,
        keep=True,
    )
    streams = Streams(seed, range(3))
    noise = 0.2 * np.array([streams.standard_normal((3, 3)) for _ in range(T)])
    for r in range(3):
        coins = Trials(np.array(p), seed, replica=r).sequence()
        np.testing.assert_array_equal(run.points[r, 0], QUADRATIC.start)
        for t, (e, h) in enumerate(zip(eta.values(T), rho.values(T), strict=True)):
            x = run.points[r, t]
            expected = step_by_hand(QUADRATIC, x, e, h, gamma, ascent, noise[t, r], coins[t])
            np.testing.assert_allclose(run.points[r, t + 1], expected, rtol=ONE_STEP, atol=ONE_STEP)
        assert run.extra_pairs[r] == coins.sum()


def test_moments_are_those_of_the_stored_trajectories(backend):
    run = rst.simulate(
        QUADRATIC, 0.5, steps=20, eta=0.3, rho=0.1, replicas=300, seed=5, keep=True, backend=backend
    )
    squared = (QUADRATIC.gradient(run.points) ** 2).sum(axis=-1)
    for moments, samples in [
        (run.moments["squared_gradient_norm"], squared),
        (run.moments["gap"], QUADRATIC.gap(run.points)),
        (run.moments["squared_distance"], (run.points**2).sum(axis=-1)),  # the minimizer is 0
    ]:
        np.testing.assert_allclose(moments.mean, samples.mean(axis=0), rtol=NUMERIC)
        np.testing.assert_allclose(moments.variance[1:], samples[:, 1:].var(axis=0, ddof=1), rtol=NUMERIC)
        assert moments.standard_error[0] < 1e-15  # one start for all
    np.testing.assert_array_equal(run.gap.mean, run.moments["gap"].mean[:-1])
    assert run.final_gap.mean == pytest.approx(QUADRATIC.gap(run.points[:, -1]).mean(), rel=NUMERIC)
    spread = QUADRATIC.gap(run.points[:, -1]).std(ddof=1) / np.sqrt(300)
    assert run.final_gap.standard_error == pytest.approx(spread, rel=NUMERIC)
    assert run.final_gap.degrees_of_freedom == 299


@given(
    cuts=st.lists(st.integers(1, 70), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    K=st.integers(0, 5),
    first=st.integers(0, 2**32 - 421),
    offset=st.sampled_from([0.0, 7.0, 1e8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_moments_of_any_parts_in_any_order_are_those_of_all_samples(cuts, order, K, first, offset, seed):
    samples = np.random.default_rng(seed).standard_normal((K, sum(cuts))) * 3 + offset
    ends = np.cumsum(cuts)
    parts = [Moments.of(samples[:, e - n : e], first + int(e - n)) for n, e in zip(cuts, ends, strict=True)]
    order.shuffle(parts)
    moments = parts[0]
    for part in parts[1:]:
        moments = moments.merge(part)
    R = samples.shape[1]
    assert moments.count == R
    assert moments.mean.shape == moments.variance.shape == (K,)
    np.testing.assert_allclose(moments.mean, samples.mean(axis=1), rtol=1e-13, atol=1e-13)
    if R == 1:
        assert np.isinf(moments.standard_error).all()
    else:
        # Two passes over numbers of size m leave the variance v an error of about 2^-52 m sqrt(v).
        variance = samples.var(axis=1, ddof=1)
        np.testing.assert_allclose(moments.variance, variance, rtol=1e-12, atol=1e-12 * max(offset, 1))
        np.testing.assert_allclose(moments.standard_error**2, moments.variance / R, rtol=1e-14)

    weights = np.linspace(-1, 1, K)
    estimate = moments.weighted(weights)
    sums = weights @ samples
    assert estimate.mean == pytest.approx(sums.mean(), rel=1e-12, abs=1e-12 * max(offset, 1))
    slots = [sums[(first + np.arange(R)) % SLOTS == s] for s in range(SLOTS)]
    slots = [slot for slot in slots if slot.size]
    assert estimate.degrees_of_freedom == len(slots) - 1
    if len(slots) > 1:  # one-way analysis of variance: the mean square between the groups
        between = sum(slot.size * (slot.mean() - sums.mean()) ** 2 for slot in slots) / (len(slots) - 1)
        error = np.sqrt(between / R)
        assert estimate.standard_error == pytest.approx(error, rel=1e-6, abs=1e-12 * max(offset, 1))
    else:
        assert estimate.standard_error == np.inf


def test_moments_of_samples_that_are_all_alike_have_no_variance():
    samples = np.full((2, 77), 0.1)
    parts = Moments.of(samples[:, :40], 3).merge(Moments.of(samples[:, 40:], 43))
    np.testing.assert_array_equal(parts.mean, [0.1, 0.1])
    np.testing.assert_array_equal(parts.variance, [0.0, 0.0])


def test_merging_into_an_empty_slot_overflows_nowhere():
    huge = Moments.of(np.array([[1e300]]), 0).merge(Moments.of(np.array([[1e300]]), 1))
    assert huge.mean == [1e300]
    assert huge.variance == [0.0]


def test_the_standard_error_of_a_weighted_sum_sees_the_correlation_over_time():
    """One slot a replica: the exact standard error; a sum of independent errors would be far off."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((1, 8)) + 0.01 * rng.standard_normal((50, 8))
    weights = np.full(50, 1 / 50)
    sums = weights @ samples
    assert Moments.of(samples, 0).weighted(weights).standard_error == pytest.approx(
        sums.std(ddof=1) / np.sqrt(8), rel=NUMERIC
    )


@given(st.integers(1, 200), st.floats(0.01, 0.999), st.floats(0, 10))
def test_intervals_are_those_of_student(dof, confidence, error):
    low, high = Estimate(1.0, error, dof).interval(confidence)
    half = error * stats.t.isf((1 - confidence) / 2, dof)
    assert (low, high) == pytest.approx((1 - half, 1 + half), rel=NUMERIC, abs=1e-12)


def test_one_replica_says_that_it_knows_no_error():
    run = rst.simulate(QUADRATIC, 0.5, steps=3, eta=0.1, rho=0.1, replicas=1)
    assert np.isinf(run.gap.standard_error).all()
    estimate = run.weighted(rst.bounds.nonconvex_average)
    assert estimate.interval() == (-np.inf, np.inf)


def exact_second_moment(eigenvalue, noise, p, eta, rho, gamma, x0, T):
    """E x_t^2 of the unnormalized system on a quadratic.

    Each branch multiplies x by a number and adds eta times that branch's multiple of the noise, so the
    mean square of x obeys a linear recursion.
    """
    m, moments = x0**2, []
    for _ in range(T):
        moments.append(m)
        sam = 1 + gamma * rho * eigenvalue
        m = ((1 - p) * (1 - eta * eigenvalue) ** 2 + p * (1 - eta * eigenvalue * sam) ** 2) * m + (
            eta * noise
        ) ** 2 * ((1 - p) + p * sam**2)
    return np.array(moments)


def test_moments_agree_with_the_exact_recursion(backend):
    """A statistical test: fails falsely with probability at most COMPARISON_ALARM."""
    T, p, eta, rho, gamma, replicas = 30, 0.3, 0.4, 0.5, 1.7, 4096
    eigenvalues, noise = np.array([1.0, 0.3]), 0.2
    run = rst.simulate(
        Quadratic(eigenvalues, noise=noise),
        p,
        steps=T,
        eta=eta,
        rho=rho,
        gamma=gamma,
        ascent="unnormalized",
        replicas=replicas,
        seed=11,
        backend=backend,
    )
    exact = sum(lam**2 * exact_second_moment(lam, noise, p, eta, rho, gamma, 1.0, T) for lam in eigenvalues)
    z = (run.squared_gradient_norm.mean - exact)[1:] / run.squared_gradient_norm.standard_error[1:]
    assert np.abs(z).max() < z_threshold(T - 1)
    assert run.squared_gradient_norm.mean[0] == pytest.approx(exact[0], rel=ONE_STEP)


# Randomness


def test_a_replica_does_not_depend_on_how_many_others_run(backend):
    arguments = {"steps": 5, "eta": 0.3, "rho": 0.2, "seed": 9, "keep": True, "backend": backend}
    few = rst.simulate(QUADRATIC, 0.5, replicas=3, **arguments)
    many = rst.simulate(QUADRATIC, 0.5, replicas=BLOCK + 3, **arguments)
    np.testing.assert_array_equal(few.points, many.points[:3])
    assert not np.array_equal(many.points[0, 1:], many.points[BLOCK, 1:])
    for r in (0, 2, BLOCK, BLOCK + 2):
        assert many.extra_pairs[r] == Trials(np.full(5, 0.5), 9, replica=r).extra_pairs


@pytest.mark.parametrize("first", [0, 1, 5, 40, BLOCK - 1, BLOCK, 2**32 - 12])
def test_replicas_from_any_index_on_are_those_of_a_longer_run(backend, first):
    arguments = {"steps": 6, "eta": 0.3, "rho": 0.2, "seed": 9, "keep": True, "backend": backend}
    run = rst.simulate(QUADRATIC, 0.5, replicas=12, first=first, **arguments)
    begin = max(0, first - 7)
    longer = rst.simulate(QUADRATIC, 0.5, replicas=12 + first - begin, first=begin, **arguments)
    np.testing.assert_array_equal(run.points, longer.points[first - begin :])
    np.testing.assert_array_equal(run.extra_pairs, longer.extra_pairs[first - begin :])
    used = np.zeros(SLOTS, dtype=int)
    used[(first + np.arange(12)) % SLOTS] += 1
    np.testing.assert_array_equal(run.gap.counts, used)


@pytest.mark.parametrize("problem", [QUADRATIC, BY_NAME["rippled"]()], ids=["quadratic", "rippled"])
def test_a_replica_is_replayed_bit_for_bit(backend, problem):
    arguments = {"steps": 7, "eta": 0.05, "rho": 0.2, "seed": 3, "trials": "systematic", "backend": backend}
    kept = rst.simulate(problem, 0.4, replicas=BLOCK + 9, first=2, keep=True, **arguments)
    run = rst.simulate(problem, 0.4, replicas=BLOCK + 9, first=2, at=[], **arguments)
    assert run.points is None
    for r in (2, 3, 34, BLOCK + 1, BLOCK + 10):
        np.testing.assert_array_equal(run.replay(r), kept.points[r - 2])
    with pytest.raises(DomainError, match="replica"):
        run.replay(-1)


@pytest.mark.parametrize("at", [[], [0], [4], [1, 3], [0, 1, 2, 3, 4]])
def test_measuring_at_some_steps_gives_those_columns(backend, at):
    arguments = {"steps": 5, "eta": 0.3, "rho": 0.2, "replicas": 50, "backend": backend, "quantiles": True}
    every = rst.simulate(QUADRATIC, 0.5, **arguments)
    some = rst.simulate(QUADRATIC, 0.5, at=at, **arguments)
    np.testing.assert_array_equal(some.times, at)
    for quantity, moments in every.moments.items():
        np.testing.assert_array_equal(some.moments[quantity].means, moments.means[:, [*at, 5]])
        np.testing.assert_array_equal(some.moments[quantity].squares, moments.squares[:, [*at, 5]])
        np.testing.assert_array_equal(some.counts[quantity], every.counts[quantity][[*at, 5]])
    np.testing.assert_array_equal(some.extra_pairs, every.extra_pairs)
    if len(at) < 5:
        with pytest.raises(ValueError, match="needs every step measured; leave out `at`"):
            some.weighted(rst.bounds.nonconvex_average)


def test_schedules_share_noise_and_coins(backend):
    """With rho = 0 the trial changes nothing, so equal noise means equal points; and coins are nested."""
    arguments = {"steps": 8, "eta": 0.3, "replicas": 40, "seed": 2, "keep": True, "backend": backend}
    sgd = rst.simulate(QUADRATIC, 0.0, rho=0.5, **arguments)
    idle = rst.simulate(QUADRATIC, 0.7, rho=0.0, **arguments)
    np.testing.assert_array_equal(sgd.points, idle.points)
    less = rst.simulate(QUADRATIC, 0.3, rho=0.0, **arguments)
    assert (less.extra_pairs <= idle.extra_pairs).all()


def test_systematic_trials_fix_the_cost():
    run = rst.simulate(QUADRATIC, 0.3, steps=15, eta=0.1, rho=0.1, replicas=50, trials="systematic")
    assert set(run.extra_pairs) <= {4, 5}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_named_problem_runs(name):
    problem = BY_NAME[name]()
    run = rst.simulate(problem, 0.5, steps=3, eta=0.1 / problem.constants.L, rho=0.05, replicas=4)
    assert np.isfinite(run.gap.mean).all()
    assert (run.gap.mean >= 0).all()


def test_zero_gradient_stays_where_it_is():
    run = rst.simulate(Quadratic([1.0]), 1.0, steps=4, eta=0.5, rho=0.5, replicas=2, start=[0.0], keep=True)
    np.testing.assert_array_equal(run.points, 0.0)


# Refusals


def test_divergence_names_replica_and_step(backend):
    with pytest.raises(DivergenceError, match=r"replica \d+ left the floating-point range at step t = \d+"):
        rst.simulate(Quadratic([1.0]), 0.5, steps=5000, eta=10.0, rho=0.1, replicas=2, backend=backend)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"steps": 0}, DomainError, "steps"),
        ({"replicas": 0}, DomainError, "replicas"),
        ({"seed": -1}, DomainError, "seed"),
        ({"eta": [0.1, -0.1, 0.1]}, DomainError, "step size eta .* t = 1"),
        ({"rho": [0.1, 0.1]}, ValueError, r"shape \(3,\)"),
        ({"ascent": "upwards"}, ValueError, "ascent"),
        ({"backend": "abacus"}, ValueError, "backend"),
        ({"device": "tpu", "backend": "numpy"}, ValueError, "device"),
        ({"first": -1}, DomainError, "first"),
        ({"first": 2**32 - 1}, DomainError, "replicas"),
        ({"threads": 0}, DomainError, "threads"),
        ({"at": [0, 3]}, ValueError, "at must be increasing"),
        ({"at": [-1]}, ValueError, "at must be increasing"),
        ({"at": [1, 1]}, ValueError, "at must be increasing"),
        ({"at": [0.5]}, ValueError, "at must be a list of steps"),
        ({"progress": "loud"}, TypeError, "progress must be a function"),
        ({"steps": 10_000, "quantiles": True}, ValueError, r"1\.4 GiB: pass as `at` no more than 7279 steps"),
        ({"start": [1.0]}, ValueError, r"shape \(3,\)"),
        ({"trials": "some"}, ValueError, "kind"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, error, message):
    good = {"steps": 3, "eta": 0.1, "rho": 0.1, "replicas": 2}
    with pytest.raises(error, match=message):
        rst.simulate(QUADRATIC, 0.5, **(good | arguments))


def test_progress_ends_at_one(backend):
    shares = []
    rst.simulate(
        FlatAndSharp(),
        0.5,
        steps=130,
        eta=0.1,
        rho=0.1,
        replicas=BLOCK + 1,
        backend=backend,
        progress=shares.append,
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_distances_are_measured_where_a_minimizer_is_known():
    run = rst.simulate(QUADRATIC, 0.5, steps=5, eta=0.3, rho=0.2, replicas=7, seed=2, keep=True)
    squared = (run.points**2).sum(axis=-1)  # the minimizer is 0
    np.testing.assert_allclose(run.squared_distance.mean, squared[:, :-1].mean(axis=0), rtol=NUMERIC)
    assert run.final_squared_distance.mean == pytest.approx(squared[:, -1].mean(), rel=NUMERIC)

    class Anonymous(Quadratic):
        minimizer = None

        def __setattr__(self, name, value):
            if name != "minimizer":
                super().__setattr__(name, value)

    run = rst.simulate(Anonymous([1.0]), 0.5, steps=2, eta=0.1, rho=0.1, replicas=2)
    assert run.squared_distance is None and run.final_squared_distance is None
    distance = Metric(name="distance", latex="D", quantity="final_squared_distance")
    with pytest.raises(ValueError, match="needs a problem with a known minimizer"):
        run.weighted(SimpleNamespace(metric=distance))


def test_a_quantity_at_the_end_has_no_weights():
    run = rst.simulate(QUADRATIC, 0.5, steps=5, eta=0.3, rho=0.2, replicas=7, seed=2)
    for quantity in ("final_gap", "final_squared_distance"):
        metric = Metric(name="at the end", latex="f", quantity=quantity)
        assert run.weighted(SimpleNamespace(metric=metric)) == getattr(run, quantity)
