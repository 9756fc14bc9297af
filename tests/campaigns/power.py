"""The ledger of the statistical tests: what each costs in false alarms, and the smallest defect it detects.

`python -m tests.campaigns.power` writes it as `tests/campaigns/results/power.{json,csv}`; `test_power.py`
holds that it is complete, that the false alarms add to at most `FALSE_ALARM`, and that stated defects are
detected. What is left over is for the checks of `rst_theory.testing` that the suite runs on right schedules
and problems, at 1e-9 each.

A defect is stated by the formula of its test, from the threshold and the sample size alone. "Standard
deviations" are those of one sample: of one replica for the mean of a simulated quantity.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from scipy import optimize, stats

from rst_theory.files import write_table
from tests.conftest import COMPARISON_ALARM

RESULTS = Path(__file__).parent / "results"
POWER = 0.99
"""The probability with which the stated defect is detected."""


class Entry(NamedTuple):
    """One statistical test.

    Attributes:
        test: file::function; its parametrised cases together are one entry.
        compares: what with what.
        comparisons: how many, over all cases.
        alarm: the probability that any of them fails falsely.
        samples: the size of the sample of one comparison.
        written: how that size stands in the test, so that it cannot change unnoticed; "" where it is the
            size of what is tested.
        smallest: the size of the smallest defect that one comparison detects with probability `POWER`.
        defect: the words for it.
    """

    test: str
    compares: str
    comparisons: int
    alarm: float
    samples: int
    written: str
    smallest: float
    defect: str


# The smallest defect, by the kind of test; `alarm` is that of one comparison.


def mean(n: int, alarm: float) -> float:
    """Of a mean of n: the shift in standard deviations, against the two-sided normal threshold."""
    return float((stats.norm.isf(alarm / 2) + stats.norm.ppf(POWER)) / math.sqrt(n))


def t_test(n: int, alarm: float) -> float:
    """The same against the threshold of Student's law."""
    critical = stats.t.isf(alarm / 2, n - 1)

    def short(shift: float) -> float:
        return float(stats.nct.sf(critical, n - 1, shift * math.sqrt(n))) - POWER

    return float(optimize.brentq(short, 0.0, 4 * critical / math.sqrt(n)))


def coin(n: float, p: float, alarm: float) -> float:
    """Of a count of n coins against the exact interval of their law: by how much p is too large."""
    most = stats.binom.isf(alarm / 2, n, p)
    return float(optimize.brentq(lambda x: stats.binom.sf(most, n, p + x) - POWER, 0.0, 1 - p - 1e-12))


def above(n: int, p: float, alarm: float) -> float:
    """Of a count that may be at most binomial(n, p): by how much the true share exceeds p."""
    fewest = int(stats.binom.isf(alarm, n, p)) + 1  # the test fails from here on
    return float(optimize.brentq(lambda x: stats.binom.sf(fewest - 1, n, p + x) - POWER, 0.0, 0.9 - p))


def cell(n: int, p: float, alarm: float) -> float:
    """Of a normal threshold on the share of a cell, relative to p: by how much it is too frequent."""
    z = stats.norm.isf(alarm / 2)

    def short(x: float) -> float:
        true = p + x
        return (
            z * math.sqrt(p * (1 - p))
            + stats.norm.ppf(POWER) * math.sqrt(true * (1 - true))
            - x * math.sqrt(n)
        )

    return float(optimize.brentq(short, 0.0, 1 - p - 1e-12)) / p


def chi_square(n: int, cells: int, alarm: float) -> float:
    """Of one of equally likely cells, at the expense of the others: by what share it is too frequent."""
    critical = stats.chi2.isf(alarm, cells - 1)
    noncentrality = optimize.brentq(
        lambda x: stats.ncx2.sf(critical, cells - 1, x) - POWER, 1.0, 50 * critical
    )
    # One share 1/k + d, the others less d/(k - 1) each: n sum of squares/expected = n d^2 k^2/(k - 1).
    return math.sqrt(noncentrality * (cells - 1) / n)


def kolmogorov(n: int, alarm: float) -> float:
    """Of a distribution function: by how much it is wrong at some point."""
    return float(stats.kstwo.isf(alarm, n)) + float(stats.norm.ppf(POWER)) / (2 * math.sqrt(n))


def massart(n: int, alarm: float) -> float:
    """The same where the threshold is that of the Dvoretzky-Kiefer-Wolfowitz inequality."""
    return math.sqrt(math.log(2 / alarm) / (2 * n)) + float(stats.norm.ppf(POWER)) / (2 * math.sqrt(n))


def variance(n: int, alarm: float) -> float:
    """Of a sum of n squared normal numbers: by what share their variance is too large."""
    return float(stats.chi2.isf(alarm / 2, n) / stats.chi2.isf(POWER, n)) - 1


def rarely(n: int, alarm: float) -> float:
    """Of a count that must be at least binomial(n, POWER): by how much the true share falls short."""
    fewest = stats.binom.ppf(alarm, n, POWER)
    return float(optimize.brentq(lambda x: stats.binom.cdf(fewest - 1, n, POWER - x) - POWER, 0.0, 0.9))


# The ledger

_ONE = COMPARISON_ALARM
_ABOVE_BOUND = "a bound that the mean exceeds by {:.2g} standard deviations"
_SHIFT = "a mean that is wrong by {:.2g} standard deviations"


def _coins() -> float:
    """Independent trials of Linear(0, 1) over 10^6 steps: the bias that a normal threshold on N detects."""
    n = 10**6
    deviation = math.sqrt(n / 6)  # the sum of p (1 - p)
    return float((stats.norm.isf(_ONE / 2) + stats.norm.ppf(POWER)) * deviation / n)


LEDGER: tuple[Entry, ...] = (
    Entry(
        "test_agreement.py::test_no_random_instance_violates_a_bound",
        "the metric of every bound that applies to 400 random runs with the bound, and again with 16 times "
        "the replicas",
        400 * 36,
        _ONE,
        256,
        "",
        # Groups of replicas as Student's law with many degrees of freedom; both simulations must be red.
        mean(256, 2 * _ONE / (400 * 36)),
        _ABOVE_BOUND,
    ),
    Entry(
        "test_benchmarks.py::test_competitors_have_the_law_of_the_reference",
        "30 moments of each of five simulators with the NumPy engine's",
        5 * 30,
        5 * _ONE,
        400,
        "TINY = Work(dimension=6, replicas=400",
        mean(400, _ONE / 30) * math.sqrt(1.5),  # the reference has twice the replicas
        _SHIFT,
    ),
    Entry(
        "test_benchmarks.py::test_the_torch_sam_has_the_law_of_the_reference",
        "30 moments with the NumPy engine's",
        30,
        _ONE,
        100,
        "replicas=100",
        mean(100, _ONE / 30) * math.sqrt(1.5),
        _SHIFT,
    ),
    Entry(
        "test_benchmarks.py::test_jax_computes_the_same",
        "30 moments of each of four simulators with the NumPy engine's",
        4 * 30,
        4 * _ONE,
        400,
        "TINY = Work(dimension=6, replicas=400",
        mean(400, _ONE / 30) * math.sqrt(1.5),
        _SHIFT,
    ),
    Entry(
        "test_bounds.py::test_measured_metric_is_below_the_bound",
        "the weighted average squared gradient of simulated runs with the master bound",
        12,
        _ONE / 2,  # one side of a two-sided threshold
        256,
        "replicas=256",
        mean(256, _ONE / 12),
        _ABOVE_BOUND,
    ),
    Entry(
        "test_concentration.py::test_the_share_of_noisy_runs_above_it_is_at_most_the_stated_one",
        "the share of runs above the bound with 1 - confidence = .05",
        4,
        _ONE,
        1024,
        "R, T, alpha, L = 1024",
        above(1024, 0.05, _ONE / 4),
        "a bound that a share of .05 + {:.2g} of the runs exceeds",
    ),
    Entry(
        "test_cost.py::test_the_trials_follow_the_law",
        "the cost of 2000 runs with its law's interval, for both kinds of trials",
        2,
        2 * _ONE,
        2000 * 60,
        "T, replicas = 60, 2000",
        coin(2000 * 60, 0.25, _ONE),
        "coins whose probabilities, .25 in the mean, are all too large by {:.2g}",
    ),
    Entry(
        "test_data.py::test_label_noise_redraws_its_share_uniformly_and_only_in_training",
        "the number of changed labels, the shares of the wrong ones, and the share kept at random",
        1 + 10 + 1,
        3 * _ONE,
        20 * 300,
        "range(20)",
        # The number of changed labels has the variance 27 a split; a share x more redrawn changes 270 x more.
        float((stats.norm.isf(_ONE / 2) + stats.norm.ppf(POWER)) * math.sqrt(27 / 20) / 270),
        "a share of redrawn labels of .3 that is wrong by {:.2g} of itself",
    ),
    Entry(
        "test_data.py::test_crops_and_flips_are_uniform_and_independent",
        "the counts of 25 crops times 2 flips with equal ones, on each device",
        2,
        2 * _ONE,
        80_000,
        "80_000",
        chi_square(80_000, 50, _ONE),
        "one crop and flip of 50 that is too frequent by {:.2g} of its share",
    ),
    Entry(
        "test_data.py::test_each_pixel_is_seen_as_often_as_it_should_be",
        "the share in which each of 64 or 144 pixels is seen with its exact value",
        64 + 144,
        2 * _ONE,
        40_000,
        "n = 40_000",
        cell(40_000, 0.5, _ONE / 144),
        "a pixel that is seen in half of the images, too often by {:.2g} of that share",
    ),
    Entry(
        "test_decay.py::test_blocks_of_noisy_sgd_have_the_mean_of_the_exact_recursion",
        "the mean of 32 blocks of runs with an exact recursion",
        1,
        _ONE,
        32,
        "",
        t_test(32, _ONE),
        "a mean that is wrong by {:.2g} standard deviations of a block",
    ),
    Entry(
        "test_device.py::test_normals_are_normal_and_independent_of_the_coins",
        "the law of 2^16 normals, and three correlations",
        4,
        _ONE,
        2**16,
        "",
        kolmogorov(2**16, _ONE / 4),
        "a distribution function that is wrong by {:.2g} somewhere",
    ),
    Entry(
        "test_device.py::test_minibatch_indices_are_uniform",
        "the counts of 7 indices with equal ones",
        1,
        _ONE,
        512 * 63,
        "size=(512, 63)",
        chi_square(512 * 63, 7, _ONE),
        "one index of 7 that is too frequent by {:.2g} of its share",
    ),
    Entry(
        "test_floor_exponents.py::test_the_quadratic_has_its_stationary_average",
        "the average squared gradient of 32 blocks of runs with the stationary law's",
        2,
        2 * _ONE,
        32,
        "",
        t_test(32, _ONE),
        "a mean that is wrong by {:.2g} standard deviations of a block",
    ),
    Entry(
        "test_floor_exponents.py::test_the_walk_in_its_window_has_the_average_of_the_autoregression",
        "the average squared gradient of 32 blocks of walks with an autoregression's",
        1,
        _ONE,
        32,
        "",
        t_test(32, _ONE),
        "a mean that is wrong by {:.2g} standard deviations of a block",
    ),
    Entry(
        "test_floors.py::test_simulated_it_reaches_98_percent_of_the_floor",
        "the average squared gradient with .98 of the floor, from below",
        6,
        _ONE / 2,
        256,
        "replicas=256",
        mean(256, _ONE / 6),
        "a mean that lies {:.2g} standard deviations below .98 of the floor",
    ),
    Entry(
        "test_floors.py::test_it_stays_there_for_several_relaxation_times",
        "the average squared gradient of one long walk with that in the mean, and its farthest point with "
        "the slack",
        6,
        _ONE,
        2,
        "int(2 / eta)",
        # In floors: z_threshold(6) and the power, times 2 w/(u q), at q = 1/4.
        float((stats.norm.isf(_ONE / 12) + stats.norm.ppf(POWER)) * 2 / (535 * 6.8 * 0.25)),
        "an average that is too small by {:.2g} of the floor",
    ),
    Entry(
        "test_floors.py::test_the_bounds_on_the_floor_from_both_sides",
        "the average squared gradient of the window's walk with the bound of a potential",
        1,
        _ONE / 2,
        1,
        "",
        mean(1, _ONE),
        "a bound that the measured average exceeds by {:.2g} of its standard errors",
    ),
    Entry(
        "test_fused.py::test_moments_agree_with_the_exact_recursion",
        "three moments at 30 steps with an exact recursion, for two families",
        2 * 3 * 30,
        2 * _ONE,
        20_000,
        "replicas=20_000",
        mean(20_000, _ONE / 90),
        _SHIFT,
    ),
    Entry(
        "test_models.py::test_convolutions_begin_as_he_et_al_say",
        "the variances of the initial weights of 48 convolutions with their formula",
        48,
        0.48 * _ONE,
        16 * 9,
        "",
        variance(16 * 9, _ONE / 100),
        "initial weights of the smallest layer, 16 filters of 3 x 3, whose variance is too large by {:.2g} "
        "of itself",
    ),
    Entry(
        "test_models.py::test_the_transformer_begins_as_it_says",
        "the variances and the ranges of the initial weights of 26 layers with their formulas",
        26,
        0.26 * _ONE,
        192 * 4,
        "",
        variance(192 * 4, _ONE / 100),
        "initial weights of the patches whose variance is too large by {:.2g} of itself",
    ),
    Entry(
        "test_networks.py::test_validation_labels_are_as_noisy_as_those_for_training",
        "the accuracy on noisy labels with what that on right ones implies",
        1,
        _ONE,
        448,
        "448",
        mean(448, _ONE) / 2,
        "an accuracy that is wrong by {:.2g}",
    ),
    Entry(
        "test_polyak_lojasiewicz.py::test_the_measured_gap_is_below_the_bound_under_noise",
        "the last gap of simulated runs with three bounds",
        18,
        18 / 24 * _ONE,
        256,
        "replicas=256",
        mean(256, _ONE / 12),
        _ABOVE_BOUND,
    ),
    Entry(
        "test_polyak_lojasiewicz.py::test_random_trials_are_ranked_as_they_measure",
        "the last gaps of two schedules, which differ by 31 standard errors, with one another and with "
        "their bounds, which they are 20 standard errors below",
        1,
        _ONE,
        256,
        "replicas=256",
        mean(256, _ONE) * math.sqrt(2),
        "ranks decided by a difference of less than {:.2g} standard deviations",
    ),
    Entry(
        "test_power.py::test_the_stated_defect_is_detected",
        "how often four of these tests detect the defect that is stated here, of 200 times, with .99",
        4,
        4 * _ONE,
        200,
        "range(TIMES)",
        rarely(200, _ONE),
        "a defect that is detected with a probability of .99 - {:.2g}",
    ),
    Entry(
        "test_problems.py::test_random_quadratic_has_the_spectrum_it_says",
        "the law of 3998 random eigenvalues with the log-uniform one",
        1,
        _ONE,
        3998,
        "Quadratic.random(4000",
        massart(3998, _ONE),
        "a distribution function that is wrong by {:.2g} somewhere",
    ),
    Entry(
        "test_problems.py::test_minibatches_are_drawn_uniformly_with_replacement",
        "the rows that 3000 draws of 40 hit with all of them",
        1,
        _ONE,
        3000,
        "batch=1000",
        1 - (1 - POWER) ** (1 / 3000),  # a row that is drawn more often is met with more than .99
        "a row that is never drawn, or with a probability of less than {:.2g}",
    ),
    Entry(
        "test_quadratics.py::test_simulation_agrees_with_the_moments_at_every_step",
        "two moments at 40 steps with an exact recursion",
        80,
        _ONE,
        4096,
        "replicas=4096",
        mean(4096, _ONE / 80),
        _SHIFT,
    ),
    Entry(
        "test_quadratics.py::test_simulation_without_noise_follows_the_law",
        "the law of the distances of 4096 runs with the stationary one",
        3,
        3 * _ONE,
        4096,
        "4096",
        massart(4096, _ONE),
        "a distribution function that is wrong by {:.2g} somewhere",
    ),
    Entry(
        "test_quadratics.py::test_simulation_under_noise_follows_the_law",
        "the law of the distances of 4096 runs with the stationary one, and its mean square",
        6,
        6 * _ONE,
        4096,
        "4096",
        massart(4096, _ONE),
        "a distribution function that is wrong by {:.2g} somewhere",
    ),
    Entry(
        "test_ranking_question.py::test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says",
        "how often the 99 % interval of a ratio misses, with .02",
        1,
        _ONE,
        2000,
        "2000",
        above(2000, 0.02, _ONE),
        "an interval that misses with a probability of .02 + {:.2g}",
    ),
    Entry(
        "test_realized.py::test_drawn_sequences_agree_with_the_binomial_law",
        "the mean of a bound over 2000 drawn sequences of coins with the exact one",
        1,
        _ONE,
        2000,
        "samples=2000",
        mean(2000, _ONE),
        "a mean that is wrong by {:.2g} standard deviations of a sequence",
    ),
    Entry(
        "test_realized.py::test_the_measured_metric_is_below_the_averaged_bound",
        "the weighted average squared gradient with the mean of the bounds, for both kinds of trials",
        2,
        _ONE / 2,
        512,
        "replicas=512",
        mean(512, _ONE / 2),
        _ABOVE_BOUND,
    ),
    Entry(
        "test_realized.py::test_the_metric_measured_with_systematic_trials_is_below_the_worst_of_their_bounds",
        "the weighted average squared gradient with the largest of the bounds",
        1,
        _ONE / 2,
        256,
        "replicas=256",
        mean(256, _ONE),
        _ABOVE_BOUND,
    ),
    Entry(
        "test_sharpness.py::test_the_trace_is_within_its_error_of_the_sum_of_the_diagonal",
        "the estimated trace with the exact one, and its standard error with Hutchinson's",
        2,
        2 * _ONE,
        6000,
        "vectors = 6000",
        mean(6000, _ONE),
        "a trace that is wrong by {:.2g} standard deviations of a vector",
    ),
    Entry(
        "test_simulation.py::test_moments_agree_with_the_exact_recursion",
        "the mean squared gradient at 29 steps with an exact recursion, for two engines",
        2 * 29,
        2 * _ONE,
        4096,
        "gamma, replicas = 30, 0.3, 0.4, 0.5, 1.7, 4096",
        mean(4096, _ONE / 29),
        _SHIFT,
    ),
    Entry(
        "test_stability.py::test_the_interval_of_the_growth_holds_the_enumerated_one",
        "the enumerated growth factor with the sure interval of the measured one",
        1,
        _ONE,
        4096,
        "",
        # Of the coins, whose exact interval it is.
        coin(4096, 0.3, 1e-6 / 1600),
        "a coin of .3 that is biased by {:.2g}",
    ),
    Entry(
        "test_stability.py::test_the_mean_square_that_is_followed_is_the_sum_over_all_coins",
        "the mean square after one step with the enumerated one",
        1,
        _ONE,
        4096,
        "followed(4096)",
        mean(4096, _ONE),
        _SHIFT,
    ),
    Entry(
        "test_streams.py::test_normals_are_normal_and_integers_uniform",
        "the laws of 102 000 normals and of 2000 sums of 51 squares, and the counts of 10 integers",
        3,
        3 * _ONE,
        2000 * 51,
        "(2000, 51)",
        kolmogorov(2000 * 51, _ONE),
        "a distribution function that is wrong by {:.2g} somewhere",
    ),
    Entry(
        "test_testing.py::test_false_alarms_are_as_rare_as_stated_under_every_law",
        "how often two tests of the kit fail falsely at .05, under four laws, with .05",
        8,
        _ONE,
        1000,
        "(1000, 200)",
        above(1000, 0.05, _ONE / 8),
        "a test of the kit that fails falsely with a probability of .05 + {:.2g}",
    ),
    Entry(
        "test_testing.py::test_the_stated_defects_are_found_with_probability_99_percent",
        "how often two tests of the kit detect the defect that it states, of 300 times, with .99",
        2,
        2 * _ONE,
        300,
        "range(300)",
        rarely(300, _ONE),
        "a defect that is detected with a probability of .99 - {:.2g}",
    ),
    Entry(
        "test_trials.py::test_a_million_steps",
        "the number of independent trials of a million steps with its law",
        1,
        _ONE,
        10**6,
        "10**6",
        _coins(),
        "coins that are all biased by {:.2g}",
    ),
    Entry(
        "test_trials.py::test_every_marginal_is_kept",
        "how often each of 8 coins falls, over seeds and over replicas, with its probability, for both kinds "
        "of trials",
        2 * 2 * 8,
        2 * _ONE,
        200_000,
        "50 * runs",
        coin(200_000, 0.5, _ONE / 16),
        "a fair coin that is biased by {:.2g}",
    ),
    Entry(
        "test_trials.py::test_coins_are_uncorrelated_along_every_axis",
        "the mean and the correlation of neighbouring uniforms with 0, along seeds, steps and replicas",
        6,
        2 * _ONE,
        10_000,
        "range(2, 10_002)",
        mean(10_000, _ONE / 3),
        "neighbours along the seeds that are correlated by {:.2g}",
    ),
    Entry(
        "test_trials.py::test_uniforms_fill_the_unit_interval_evenly",
        "the counts of uniforms in 64 cells with equal ones",
        64,
        _ONE,
        2 * 10**5,
        "n, cells = 2 * 10**5, 64",
        cell(2 * 10**5, 1 / 64, _ONE / 64),
        "one cell of 64 that is too frequent by {:.2g} of its share",
    ),
)  # fmt: skip


def rows() -> list[dict[str, object]]:
    """The ledger as a table; numbers to three digits."""
    return [
        {
            "test": entry.test,
            "compares": entry.compares,
            "comparisons": entry.comparisons,
            "false_alarm": float(f"{entry.alarm:.3g}"),
            "samples": entry.samples,
            "smallest": float(f"{entry.smallest:.3g}"),
            "power": POWER,
            "defect": entry.defect.format(entry.smallest),
        }
        for entry in LEDGER
    ]


def main() -> None:
    """Write the table and say what it holds."""
    write_table(RESULTS, "power", rows())
    total = sum(entry.alarm for entry in LEDGER)
    print(f"{len(LEDGER)} statistical tests, false alarms {total:.2g} in all")
    for row in rows():
        print(f"{row['test']}: detects {row['defect']}")


if __name__ == "__main__":
    main()
