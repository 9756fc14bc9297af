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
from rst_theory.simulation import BLOCK, DivergenceError, Estimate, Moments
from rst_theory.trials import Trials

QUADRATIC = Quadratic([1.0, 0.4, 0.1], noise=0.2)


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
        steps=T,
        eta=eta,
        rho=rho,
        gamma=gamma,
        ascent=ascent,
        replicas=3,
        seed=seed,
        keep=True,
    )
    stream = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, 0])))
    noise = np.array([QUADRATIC.sample(stream, BLOCK) for _ in range(T)])
    for r in range(3):
        coins = Trials(np.array(p), seed, replica=r).sequence()
        np.testing.assert_array_equal(run.points[r, 0], QUADRATIC.start)
        for t, (e, h) in enumerate(zip(eta.values(T), rho.values(T), strict=True)):
            x = run.points[r, t]
            expected = step_by_hand(QUADRATIC, x, e, h, gamma, ascent, noise[t, r], coins[t])
            np.testing.assert_allclose(run.points[r, t + 1], expected, rtol=ONE_STEP, atol=ONE_STEP)
        assert run.extra_pairs[r] == coins.sum()


def test_moments_are_those_of_the_stored_trajectories():
    run = rst.simulate(QUADRATIC, 0.5, steps=20, eta=0.3, rho=0.1, replicas=300, seed=5, keep=True)
    squared = (QUADRATIC.gradient(run.points[:, :-1]) ** 2).sum(axis=-1)
    gaps = QUADRATIC.gap(run.points)
    np.testing.assert_allclose(run.squared_gradient_norm.mean, squared.mean(axis=0), rtol=NUMERIC)
    spread = squared[:, 1:].std(axis=0, ddof=1) / np.sqrt(300)
    np.testing.assert_allclose(run.squared_gradient_norm.standard_error[1:], spread, rtol=NUMERIC)
    assert run.squared_gradient_norm.standard_error[0] < 1e-15  # one start for all
    np.testing.assert_allclose(run.gap.mean, gaps[:, :-1].mean(axis=0), rtol=NUMERIC)
    assert run.final_gap.mean == pytest.approx(gaps[:, -1].mean(), rel=NUMERIC)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)
def test_streaming_moments_equal_those_of_all_samples(sizes, T, seed):
    samples = np.random.default_rng(seed).standard_normal((T, sum(sizes))) * 3 + 7
    moments = Moments.empty(T, 4)
    first = 0
    for n in sizes:
        moments.add(samples[:, first : first + n], first)
        first += n
    np.testing.assert_allclose(moments.mean, samples.mean(axis=1), rtol=NUMERIC)
    if first > 1:
        np.testing.assert_allclose(moments.variance, samples.var(axis=1, ddof=1), rtol=1e-9)
    weights = np.arange(1, T + 1) / (T * (T + 1) / 2)
    estimate = moments.weighted(weights)
    assert estimate.mean == pytest.approx(float((weights @ samples).mean()), rel=NUMERIC)


def test_the_standard_error_of_a_weighted_sum_sees_the_correlation_over_time():
    """One group a replica: the exact standard error; a sum of independent errors would be far off."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((1, 8)) + 0.01 * rng.standard_normal((50, 8))
    moments = Moments.empty(50, 8)
    moments.add(samples, 0)
    weights = np.full(50, 1 / 50)
    sums = weights @ samples
    assert moments.weighted(weights).standard_error == pytest.approx(
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


def test_moments_agree_with_the_exact_recursion():
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
    )
    exact = sum(lam**2 * exact_second_moment(lam, noise, p, eta, rho, gamma, 1.0, T) for lam in eigenvalues)
    z = (run.squared_gradient_norm.mean - exact)[1:] / run.squared_gradient_norm.standard_error[1:]
    assert np.abs(z).max() < z_threshold(T - 1)
    assert run.squared_gradient_norm.mean[0] == pytest.approx(exact[0], rel=ONE_STEP)


# Randomness


def test_a_replica_does_not_depend_on_how_many_others_run():
    arguments = {"steps": 5, "eta": 0.3, "rho": 0.2, "seed": 9, "keep": True}
    few = rst.simulate(QUADRATIC, 0.5, replicas=3, **arguments)
    many = rst.simulate(QUADRATIC, 0.5, replicas=BLOCK + 3, **arguments)
    np.testing.assert_array_equal(few.points, many.points[:3])
    assert not np.array_equal(many.points[0, 1:], many.points[BLOCK, 1:])
    for r in (0, 2, BLOCK, BLOCK + 2):
        assert many.extra_pairs[r] == Trials(np.full(5, 0.5), 9, replica=r).extra_pairs


def test_schedules_share_noise_and_coins():
    """With rho = 0 the trial changes nothing, so equal noise means equal points; and coins are nested."""
    arguments = {"steps": 8, "eta": 0.3, "replicas": 40, "seed": 2, "keep": True}
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


def test_divergence_names_replica_and_step():
    with pytest.raises(DivergenceError, match=r"replica \d+ left the floating-point range at step t = \d+"):
        rst.simulate(Quadratic([1.0]), 0.5, steps=5000, eta=10.0, rho=0.1, replicas=2)


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
        ({"device": "tpu"}, ValueError, "device"),
        ({"start": [1.0]}, ValueError, r"shape \(3,\)"),
        ({"trials": "some"}, ValueError, "kind"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, error, message):
    good = {"steps": 3, "eta": 0.1, "rho": 0.1, "replicas": 2}
    with pytest.raises(error, match=message):
        rst.simulate(QUADRATIC, 0.5, **(good | arguments))


def test_progress_ends_at_one():
    shares = []
    rst.simulate(FlatAndSharp(), 0.5, steps=130, eta=0.1, rho=0.1, replicas=BLOCK + 1, progress=shares.append)
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
        assert run.weighted(SimpleNamespace(metric=metric)) is getattr(run, quantity)
