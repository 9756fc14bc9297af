"""The Poisson-binomial law against exact integers, rationals, mpmath, long doubles and SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import scipy
from conftest import NUMERIC
from hypothesis import example, given, settings, strategies as st
from scipy import stats

from rst_theory.cost.poisson_binomial import PoissonBinomial, _OpenTrials
from rst_theory.notation import DomainError, FloatArray

NORMAL = float(np.finfo(np.float64).tiny)  # the promise is made from 1e-290 on; it is kept down to here

entries = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 5e-324, 1e-300, 1e-12, 1 - 2**-53, 1 - 1e-9]),
    st.floats(0, 1),
    st.floats(0, 1e-3),
    st.floats(0, 300).map(lambda x: 10.0**-x),
    st.floats(0, 15).map(lambda x: 1 - 10.0**-x),
)


def exact_law(p: list[float]) -> list[Fraction]:
    """By enumeration over the trials one after the other, in rational numbers."""
    law = [Fraction(1)]
    for q in map(Fraction, p):
        law = [a * (1 - q) + b * q for a, b in zip([*law, Fraction(0)], [Fraction(0), *law], strict=True)]
    return law


def fixed_point_law(p: FloatArray, bits: int = 1200) -> FloatArray:
    """The same in integer multiples of 2^-1200: every float64 is one, and 1e-308 = 2^-1023 has 177 bits."""
    one = 1 << bits
    law = [one]
    for x in p.tolist():
        numerator, denominator = x.as_integer_ratio()
        q = numerator * (one // denominator)
        law = [
            (a * (one - q) + b * q) >> bits if a or b else 0
            for a, b in zip([*law, 0], [0, *law], strict=True)
        ]
    return np.array([value / one for value in law])


def assert_same_law(law: FloatArray, expected: FloatArray) -> None:
    normal = expected >= NORMAL
    np.testing.assert_allclose(law[normal], expected[normal], rtol=NUMERIC, atol=0)
    assert ((law[~normal] >= 0) & (law[~normal] <= 1e-289)).all()


@given(st.lists(entries, min_size=1, max_size=12))
@example([0.0])
@example([1.0])
@example([0.5])
@example([1.0, 0.0, 1.0])
@example([5e-324] * 3 + [1 - 2**-53] * 3 + [0.5])
@example([1e-300, 1e-12, 1.0, 1 - 1e-9])
@example([1e-300])  # without care P(N = 0) comes out as 1 + 7e-15
@settings(max_examples=150)
def test_enumeration(p: list[float]) -> None:
    exact = exact_law(p)
    law = PoissonBinomial(p)
    assert_same_law(law.pmf(), np.array([float(v) for v in exact]))
    assert (law.pmf() <= 1).all()
    for k, value in enumerate(exact):
        if value == 0:
            assert law.log_pmf(k) == -math.inf
        else:
            logarithm = math.log(value.numerator) - math.log(value.denominator)
            assert law.log_pmf(k) == pytest.approx(logarithm, rel=NUMERIC, abs=NUMERIC)
    assert law.least == next(k for k, v in enumerate(exact) if v)
    assert law.most == max(k for k, v in enumerate(exact) if v)
    assert law.mean == pytest.approx(float(sum(map(Fraction, p))), rel=1e-15, abs=0)
    variance = float(sum(Fraction(q) * (1 - Fraction(q)) for q in p))
    assert law.variance == pytest.approx(variance, rel=1e-14, abs=0)


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


SHAPES: dict[str, Callable[[np.random.Generator], FloatArray]] = {
    "generic": lambda r: r.random(400),
    "many generic": lambda r: r.random(1200),
    "a line": lambda r: np.linspace(0, 1, 1000),
    "a wave": lambda r: 0.5 - 0.5 * np.cos(np.pi * np.arange(700) / 699),
    "near 0": lambda r: r.random(600) * 1e-6,
    "near 1": lambda r: 1 - r.random(400) ** 20,
    "over 300 decades": lambda r: 10.0 ** r.uniform(-300, 0, 400),
    "both ends": lambda r: np.concatenate(
        [10.0 ** r.uniform(-30, 0, 150), 1 - 10.0 ** r.uniform(-15, 0, 150)]
    ),
    "a gap": lambda r: np.repeat([1e-145, 0.5], [50, 484]),
    "a wide gap": lambda r: np.repeat([1e-200, 0.5], [50, 200]),
    "a ragged gap": lambda r: np.concatenate([1e-145 * r.random(400), r.uniform(0.4, 0.6, 450)]),
    "a crowd before a gap": lambda r: np.concatenate([0.7 + 1e-6 * r.random(300), np.full(3, 7e-189)]),
    "almost certain": lambda r: np.full(300, 1 - 1e-9),
    "rare": lambda r: np.full(300, 1e-5),
    "a narrow band": lambda r: np.linspace(0.2, 0.3, 1000),
    "almost equal": lambda r: 0.5 + 1e-9 * r.random(600),
    "almost equal but for some": lambda r: np.concatenate(
        [0.5 + 1e-9 * r.random(900), r.uniform(0.5, 0.7, 40)]
    ),
    "two crowds": lambda r: np.concatenate([0.1 + 1e-3 * r.random(400), 0.9 + 1e-3 * r.random(400)]),
    "a crowd and one far above": lambda r: 1 / (1 + np.exp(-np.append(r.random(300), 10.0))),
    "with certain ones": lambda r: np.concatenate([np.zeros(50), np.ones(70), r.random(300)]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_whole_law_down_to_the_smallest_normal_number(name: str) -> None:
    p = SHAPES[name](_random(name))
    assert_same_law(PoissonBinomial(p).pmf(), fixed_point_law(p))


@pytest.mark.parametrize("p", [0.5, 0.3, 0.997, 1e-4, 1e-290])
def test_binomial(p: float) -> None:
    """All of it at T = 10,000, by the ratio of neighbours in 50 digits."""
    T = 10_000
    with mpmath.workdps(50):
        q = mpmath.mpf(p)
        value, expected = (1 - q) ** T, []
        for k in range(T + 1):
            expected.append(float(value))
            value *= (T - k) * q / ((k + 1) * (1 - q))
    assert_same_law(PoissonBinomial(np.full(T, p)).pmf(), np.array(expected))


@pytest.mark.skipif(
    not "1.15" <= scipy.__version__ < "1.18", reason="since 1.15; from 1.18 on it takes hours"
)
@pytest.mark.parametrize(
    "p",
    [np.linspace(0, 1, 5_000), _random("5,000").random(5_000), np.linspace(0, 1, 5_000) ** 40],
    ids=["line", "generic", "power"],
)
def test_scipy(p: FloatArray) -> None:
    expected = stats.poisson_binom(p).pmf(np.arange(p.size + 1))
    kept = expected >= 1e-290
    np.testing.assert_allclose(PoissonBinomial(p).pmf()[kept], expected[kept], rtol=NUMERIC, atol=0)


def long_double_log_pmf(p: FloatArray, k: int, theta: float, deviation: float) -> float:
    """log P(N = k) by the trapezoidal rule in 64-bit mantissas, straight from the definition.

    At the tilt theta the law has about mean k; its characteristic function is a plain product over the
    trials and its normalisation a plain sum of logarithms.
    """
    x = p.astype(np.longdouble)
    scale = 1 + x * np.expm1(np.longdouble(theta))
    q = x * np.exp(np.longdouble(theta)) / scale
    period = int(24 * deviation)
    total = np.longdouble(0.5)
    for j in range(1, int(1.7 * period / deviation)):
        w = 2 * np.pi * np.longdouble(j) / period
        factor = 1 + q * (np.exp(1j * w) - 1)
        phi = np.multiply.reduce(factor)
        total += (phi * np.exp(-1j * w * k)).real
        if abs(phi) < 1e-20:
            break
    return float(np.log(scale).sum() - np.longdouble(theta) * k + np.log(2 * total / period))


@pytest.mark.skipif(
    bool(np.finfo(np.longdouble).eps > 2e-19), reason="long double is no longer than double here"
)
def test_a_million_generic_trials() -> None:
    p = _random("a million").random(1_000_000)
    law = PoissonBinomial(p)
    pmf, k = law.pmf(), np.arange(1_000_001)
    assert math.fsum(pmf) == pytest.approx(1, rel=NUMERIC)
    assert math.fsum(k * pmf) == pytest.approx(math.fsum(p), rel=NUMERIC)
    assert math.fsum((k - law.mean) ** 2 * pmf) == pytest.approx(math.fsum(p * (1 - p)), rel=NUMERIC)
    for theta in (-0.0888, 0.03, 0.0888):  # the probabilities are about 1e-290, 1e-36, 1e-290
        q = p * np.exp(theta) / (1 - p + p * np.exp(theta))
        at = round(float(q.sum()))
        expected = long_double_log_pmf(p, at, theta, math.sqrt(float((q * (1 - q)).sum())))
        assert math.log(pmf[at]) == pytest.approx(expected, rel=0, abs=NUMERIC)
        assert -670 < expected < -80


def test_a_million_equal_trials() -> None:
    T, p = 1_000_000, 0.3
    pmf = PoissonBinomial(np.full(T, p)).pmf()
    assert math.fsum(pmf) == pytest.approx(1, rel=NUMERIC)
    with mpmath.workdps(50):
        for k in (283_450, 290_000, 299_999, 300_000, 310_000, 316_740):
            logarithm = (
                mpmath.loggamma(T + 1)
                - mpmath.loggamma(k + 1)
                - mpmath.loggamma(T - k + 1)
                + k * mpmath.log(mpmath.mpf(p))
                + (T - k) * mpmath.log(1 - mpmath.mpf(p))
            )
            assert logarithm > math.log(1e-290)
            assert pmf[k] == pytest.approx(float(mpmath.exp(logarithm)), rel=NUMERIC, abs=0)


def test_logarithms_far_below_the_floating_range() -> None:
    T = 20_000
    law = PoissonBinomial(np.full(T, 0.5))
    for k in (0, 1, 17, T - 1, T):
        expected = math.log(math.comb(T, k)) - T * math.log(2)
        assert law.log_pmf(k) == pytest.approx(expected, rel=1e-13)
    assert law.log_pmf(-1) == law.log_pmf(T + 1) == -math.inf


@given(st.floats(1e-6, 1 - 1e-6), st.floats(1e-3, 1 - 1e-3), st.integers(1, 1000))
@settings(max_examples=100)
def test_chernoff_exponent_of_equal_trials(p: float, share: float, T: int) -> None:
    """T times the relative entropy of Bernoulli(k/T) to Bernoulli(p)."""
    with mpmath.workdps(30):
        k, q = share * T, mpmath.mpf(p)
        a = mpmath.mpf(k) / T
        expected = -T * (a * mpmath.log(a / q) + (1 - a) * mpmath.log((1 - a) / (1 - q)))
    found = PoissonBinomial(np.full(T, p)).log_chernoff(k)
    assert found == pytest.approx(float(expected), rel=NUMERIC, abs=1e-12)
    assert found <= 0


def test_chernoff_exponent_at_and_beyond_the_ends() -> None:
    law = PoissonBinomial([0.0, 1.0, 0.25, 0.5])
    assert law.log_chernoff(1) == pytest.approx(math.log(0.375))
    assert law.log_chernoff(3) == pytest.approx(math.log(0.125))
    assert law.log_chernoff(0.99) == law.log_chernoff(3.01) == -math.inf
    assert law.log_chernoff(1.75) == pytest.approx(0, abs=1e-15)


def test_its_probabilities_are_its_own() -> None:
    p = np.array([0.5, 0.5])
    law = PoissonBinomial(p)
    p[:] = 0
    np.testing.assert_allclose(law.pmf(), [0.25, 0.5, 0.25], rtol=1e-14)


def test_errors() -> None:
    with pytest.raises(DomainError, match="t = 1"):
        PoissonBinomial([0.5, 1.5])
    with pytest.raises(DomainError, match="nan at t = 0"):
        PoissonBinomial([math.nan])
    with pytest.raises(ValueError, match=r"shape \(T,\)"):
        PoissonBinomial([])
    with pytest.raises(ValueError, match=r"shape \(T,\)"):
        PoissonBinomial([[0.5]])
    with pytest.raises(TypeError):
        PoissonBinomial(["half"])


# What mutants of the file showed to be missing


def test_many_certain_trials_only_move_the_law() -> None:
    T = 1100
    law = PoissonBinomial([1.0] * T + [0.5] * T).pmf()
    expected = [math.comb(T, k) / 2**T for k in range(T + 1)]
    assert_same_law(law, np.array([0.0] * T + expected))


def test_the_mean_beyond_the_likely_trials_is_not_rounded() -> None:
    """Of the numbers above 1/2, 1 is taken off; 1/2 itself is none of them."""
    open_trials = PoissonBinomial([1 - 2.0**-53] * 3 + [0.5, 2.0**-60, 0.0, 1.0])._open
    assert (open_trials.count, open_trials.likely) == (5, 3)
    assert open_trials.rest == float(Fraction(1, 2) + Fraction(1, 2**60) - Fraction(3, 2**53))


def test_the_generating_function_loses_no_digits_to_the_number_of_trials() -> None:
    """10^12 equal trials as one point, against mpmath."""
    n, k, x = 10**12, 3 * 10**11, math.log(0.3 / 0.7)
    with mpmath.workdps(50):
        p = 1 / (1 + mpmath.exp(-mpmath.mpf(x)))
        weight, above = np.array([float(n)]), np.array([float(n), 0.0])
        trials = _OpenTrials(n, np.array([x]), weight, above, k, float(n * p - k))
        for theta in (-1e-4, 1e-4, 1.5, -3.0, 5.0):
            exact = n * mpmath.log(1 - p + p * mpmath.exp(mpmath.mpf(theta))) - mpmath.mpf(theta) * k
            assert trials.log_mgf(theta, k) == pytest.approx(float(exact), rel=1e-12, abs=0)


@pytest.mark.parametrize(
    "p, mean, most",
    [
        (np.linspace(0.001, 0.999, 1000), 10, 10),
        (np.linspace(0.001, 0.999, 1000), 0.5, 13),
        (np.linspace(0.001, 0.999, 1000), 500, 1),
        ([1e-6, 1e-3, 0.9], 1.0, 8),
        ([1e-12, 1 - 1e-12], 0.5, 10),
        ([1e-300, 0.5], 1, 200),  # 8e-9 deviations
    ],
)
def test_tilts_are_found_in_a_few_steps(
    p: FloatArray, mean: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean at the tilt is the one asked for, to 1e-8 deviations, in 50 digits."""
    trials, steps, drift = PoissonBinomial(p)._open, [], _OpenTrials.drift
    monkeypatch.setattr(_OpenTrials, "drift", lambda *given: steps.append(1) or drift(*given))
    theta = trials.tilt(mean)
    assert len(steps) <= most
    with mpmath.workdps(50):
        odds = [mpmath.mpf(q) / (1 - mpmath.mpf(q)) * mpmath.exp(mpmath.mpf(theta)) for q in map(float, p)]
        tilted = [q / (1 + q) for q in odds]
        deviation = mpmath.sqrt(sum(q * (1 - q) for q in tilted))
        assert abs(sum(tilted) - mean) <= (1e-8 + 1e-9) * deviation
