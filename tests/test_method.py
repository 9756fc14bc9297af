"""The update: one definition in every algebra, against its formula written out by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch
from conftest import ONE_STEP
from hypothesis import example, given, strategies as st
from hypothesis.extra import numpy as hnp
from PEPit import PEP
from PEPit.functions import SmoothFunction

from rst_theory.method import ascend, direction, step

A = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.25], [0.0, -0.25, 0.5]])
B = np.array([1.0, -2.0, 0.5])

SIZES = st.floats(0, 3)
COORDINATES = st.floats(-1e3, 1e3).map(lambda v: v if abs(v) > 1e-3 else 0.0)
POINTS = hnp.arrays(np.float64, 3, elements=COORDINATES)
ASCENTS = st.sampled_from(["normalized", "unnormalized"])


def by_hand(x, g, g_of, perturbed, eta, rho, gamma, ascent):
    """The step on one point, coordinate by coordinate, in Python floats."""
    norm = math.hypot(*g)
    scale = rho if ascent == "unnormalized" else rho / norm if norm else 0.0
    y = [xi + scale * gi for xi, gi in zip(x, g, strict=True)]
    w = gamma if perturbed else 0.0
    mixed = [(1 - w) * a + w * b for a, b in zip(g, g_of(y), strict=True)]
    return [xi - eta * d for xi, d in zip(x, mixed, strict=True)]


def gradient(x):
    return x @ A - B


def terms(x, eta, rho, gamma, ascent):
    """A bound on the terms that a step from x adds up: rounding is relative to them, not to their sum."""
    row = np.abs(A).sum(axis=1).max()
    g = row * np.abs(x).max() + np.abs(B).max()
    moved = row * np.max(rho) * (1 if ascent == "normalized" else g)
    return np.abs(x).max() + eta * (abs(1 - gamma) * g + gamma * (g + moved))


def close(actual, expected, terms=0.0):
    actual, expected = np.asarray(actual, dtype=float), np.asarray(expected, dtype=float)
    return np.abs(actual - expected).max() <= ONE_STEP * max(np.abs(expected).max(), terms)


# One definition in every algebra


@given(POINTS, st.booleans(), SIZES, SIZES, SIZES, ASCENTS)
@example(np.linalg.solve(A, B), True, 0.5, 0.1, 1.0, "normalized")
@example(np.zeros(3), True, 0.5, 0.1, 2.0, "unnormalized")
def test_numpy_and_torch_do_what_the_formula_says(x, perturbed, eta, rho, gamma, ascent):
    expected = by_hand(x, gradient(x), lambda y: gradient(np.array(y)), perturbed, eta, rho, gamma, ascent)
    in_numpy = step(x, gradient, perturbed, eta, rho, gamma, ascent)
    a, b = torch.from_numpy(A), torch.from_numpy(B)
    in_torch = step(torch.from_numpy(x), lambda x: x @ a - b, perturbed, eta, rho, gamma, ascent)
    assert in_torch.dtype == torch.float64
    all_rounding = ascent == "normalized" and np.abs(gradient(x)).max() < 1e-2 * np.abs(x).max()
    if not all_rounding:  # then g/||g|| is noise, in any algebra
        assert close(in_numpy, expected, terms(x, eta, rho, gamma, ascent))
        assert close(in_torch, in_numpy, terms(x, eta, rho, gamma, ascent))


@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
@pytest.mark.parametrize("perturbed", [True, False])
@pytest.mark.parametrize("gamma", [0, 1, Fraction(1, 2), 2])
def test_sympy_agrees_exactly(ascent, perturbed, gamma):
    matrix, x = sympy.Matrix([[2, 1], [1, 3]]), sympy.Matrix([2, -1])
    g = sympy.Matrix([3, -1])  # matrix * x, of length sqrt(10)
    half, gamma = sympy.Rational(1, 2), sympy.Rational(Fraction(gamma))
    y = x + half * (g / sympy.sqrt(10) if ascent == "normalized" else g)
    expected = x - (g if not perturbed else (1 - gamma) * g + gamma * matrix * y) / 4
    actual = step(x, lambda x: matrix * x, perturbed, sympy.Rational(1, 4), half, gamma, ascent)
    assert sympy.simplify(actual - expected) == sympy.zeros(2, 1)
    numbers = np.array([[2.0, 1.0], [1.0, 3.0]])
    in_numpy = step(np.array([2.0, -1.0]), lambda x: x @ numbers, perturbed, 0.25, 0.5, float(gamma), ascent)
    assert close(in_numpy, np.array(actual.evalf(20), dtype=float).ravel())


def test_sympy_scalars_stay_symbols():
    x, lam, eta, rho, gamma = sympy.symbols("x lambda eta rho gamma", positive=True)
    unnormalized = step(x, lambda x: lam * x, True, eta, rho, gamma, "unnormalized")
    assert sympy.expand(unnormalized - x * (1 - eta * lam * (1 + gamma * rho * lam))) == 0
    normalized = step(x, lambda x: lam * x, True, eta, rho, gamma)
    assert sympy.expand(normalized - (x - eta * lam * (x + gamma * rho))) == 0
    assert step(x, lambda x: lam * x, False, eta, rho, gamma) == x - eta * lam * x
    assert ascend(x, sympy.Integer(0), rho) == x
    assert ascend(x, sympy.Integer(-3), rho) == x - rho
    zero = sympy.zeros(2, 1)
    assert ascend(sympy.Matrix([x, x]), zero, rho) == sympy.Matrix([x, x])


@pytest.mark.parametrize("perturbed", [True, False])
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_pepit_points_carry_the_same_coefficients(perturbed, gamma):
    eta, rho = 0.25, 0.5
    problem = PEP()
    f, x, seen = problem.declare_function(SmoothFunction, L=1.0), problem.set_initial_point(), []

    def oracle(point):
        seen.append((point, f.gradient(point)))
        return seen[-1][1]

    after = step(x, oracle, perturbed, eta, rho, gamma, "unnormalized")
    (first, g), *second = seen
    assert first is x and len(seen) == 1 + perturbed
    expected = {x: 1.0, g: -eta}
    if perturbed:
        ((y, g_adv),) = second
        assert coefficients(y, [x, g]) == {x: 1.0, g: rho}
        expected = {x: 1.0, g: -eta * (1 - gamma), g_adv: -eta * gamma}
    assert coefficients(after, list(expected)) == pytest.approx(expected, rel=ONE_STEP)


def coefficients(point, leaves):
    combination = {leaf: point.decomposition_dict.get(leaf, 0.0) for leaf in leaves}
    assert set(point.decomposition_dict) <= set(leaves)
    return combination


def test_pepit_points_are_normalized_with_a_known_norm_only():
    problem = PEP()
    f = problem.declare_function(SmoothFunction, L=1.0)
    x = problem.set_initial_point()
    g = f.gradient(x)
    assert coefficients(ascend(x, g, 0.5, norm=4.0), [x, g]) == {x: 1.0, g: 0.125}
    assert coefficients(ascend(x, g, 0.5, norm=0), [x, g]) == {x: 1.0, g: 0.5}
    with pytest.raises(TypeError, match="needs the argument norm"):
        ascend(x, g, 0.5)


# Batches


@given(
    hnp.arrays(np.float64, (5, 3), elements=st.integers(-99, 99).map(float)),
    hnp.arrays(np.bool_, 5),
    hnp.arrays(np.float64, (5, 1), elements=SIZES),
    st.sampled_from([0.0, 1.0, 0.3, 2.0]),
    ASCENTS,
)
def test_a_batch_is_its_rows(x, perturbed, rho, gamma, ascent):
    rows = [step(x[i], gradient, bool(perturbed[i]), 0.3, rho[i, 0], gamma, ascent) for i in range(5)]
    batched = step(x, gradient, perturbed, 0.3, rho, gamma, ascent)
    assert close(batched, rows, terms(x, 0.3, rho, gamma, ascent))
    a, b = torch.from_numpy(A), torch.from_numpy(B)
    in_torch = step(
        torch.from_numpy(x),
        lambda x: x @ a - b,
        torch.from_numpy(perturbed),
        0.3,
        torch.from_numpy(rho),
        gamma,
        ascent,
    )
    assert close(in_torch, batched, terms(x, 0.3, rho, gamma, ascent))
    # an unperturbed row is plain SGD, bit for bit
    assert np.array_equal(batched[~perturbed], (x - 0.3 * gradient(x))[~perturbed])


@pytest.mark.parametrize("shape", [(4,), (2, 3), ()])
def test_batches_of_any_rank(shape):
    rng = np.random.default_rng(1)
    x, perturbed = rng.standard_normal((*shape, 3)), rng.uniform(size=shape) < 0.5
    batched = step(x, gradient, perturbed, 0.3, 0.1, 2.0)
    for i in np.ndindex(shape):
        assert close(batched[i], step(x[i], gradient, bool(perturbed[i]), 0.3, 0.1, 2.0))


@pytest.mark.parametrize("trial", [True, np.True_, np.array(True), torch.tensor(True), 1, np.int64(1)])
def test_one_trial_in_any_costume(trial):
    x = np.array([1.0, 2.0, 3.0])
    assert np.array_equal(step(x, gradient, trial, 0.1, 0.2), step(x, gradient, True, 0.1, 0.2))
    assert not np.array_equal(step(x, gradient, trial, 0.1, 0.2), step(x, gradient, False, 0.1, 0.2))


@pytest.mark.parametrize(
    "perturbed, error",
    [
        ([False] * 4, TypeError),
        ((True,), TypeError),
        (np.ones(3, bool), ValueError),
        (np.ones((4, 1), bool), ValueError),
    ],
)
def test_trials_that_do_not_match_the_rows_are_refused(perturbed, error):
    with pytest.raises(error, match="perturbed must"):
        step(np.ones((4, 3)), gradient, perturbed, 0.1, 0.2)


@pytest.mark.parametrize(
    "perturbed, calls", [(False, 1), (True, 2), (np.zeros(2, bool), 1), (np.array([False, True]), 2)]
)
def test_the_gradient_is_called_as_often_as_pairs_are_paid(perturbed, calls):
    seen = []
    step(np.ones((2, 3)), lambda x: seen.append(x) or gradient(x), perturbed, 0.1, 0.2)
    assert len(seen) == calls


# The mixing coefficient


@given(POINTS, POINTS)
def test_weight_one_is_the_perturbed_gradient_and_weight_zero_the_plain_one(g, g_adv):
    for one in (1, 1.0, np.float64(1), Fraction(1), torch.tensor(1.0)):
        assert direction(g, g_adv, one) is g_adv
    assert np.array_equal(direction(g, g_adv, 0.0), g)
    assert direction(sympy.Integer(2), sympy.Integer(5), sympy.Integer(1)) == 5


def test_weight_one_never_sees_the_plain_gradient():
    assert direction(np.array([math.inf, math.nan]), np.array([1.0, 2.0]), 1.0).tolist() == [1.0, 2.0]


@given(POINTS, st.booleans(), SIZES, SIZES)
def test_gamma_zero_is_sgd_at_a_higher_price(x, perturbed, eta, rho):
    assert np.array_equal(step(x, gradient, perturbed, eta, rho, 0.0), x - eta * gradient(x))


# Gradients of every size


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-160, 1.0, 1e160, 1e300, np.finfo(float).max])
@pytest.mark.parametrize("ones", [np.array([1.0, 0.0, 0.0]), np.array([1.0, -1.0, 1.0])])
def test_the_ascent_has_length_rho_whatever_the_gradient(size, ones):
    expected = 0.5 * ones / math.sqrt(np.count_nonzero(ones))
    assert close(ascend(np.zeros(3), size * ones, 0.5), expected)
    assert close(ascend(torch.zeros(3, dtype=torch.float64), torch.from_numpy(size * ones), 0.5), expected)
    assert close(ascend(0.0, -size, 0.5), -0.5)
    assert close(ascend(np.float64(1.0), np.float64(size), 0.5), 1.5)


def test_coordinates_of_wildly_different_sizes():
    assert ascend(np.zeros(2), np.array([1e300, 1e-300]), 1.0).tolist() == [1.0, 0.0]
    assert close(ascend(np.zeros(2), np.array([3e200, 4e200]), 1.0), [0.6, 0.8])


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_a_zero_gradient_does_not_perturb(zero, shape):
    x, g = np.full(shape, 7.0), np.full(shape, zero)
    assert np.array_equal(ascend(x, g, 0.5), x)
    assert torch.equal(ascend(torch.from_numpy(x), torch.from_numpy(g), 0.5), torch.from_numpy(x))
    assert ascend(7.0, zero, 0.5) == 7.0 and ascend(np.float64(7), np.float64(zero), 0.5) == 7.0
    trial = np.ones(shape[:-1], bool) if len(shape) > 1 else True
    assert np.array_equal(step(x, np.zeros_like, trial, 0.1, 0.5, 2.0), x)


def test_a_zero_row_leaves_the_others_alone():
    g = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert close(ascend(np.zeros((2, 2)), g, 1.0), [[0.0, 0.0], [0.6, 0.8]])


# What is not used cannot leak


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize("library", [np, torch])
def test_poison_in_the_unused_branch_stays_there(poison, gamma, library):
    x = library.asarray([[0.0, 1.0], [0.0, 2.0]])
    perturbed = library.asarray([False, True])
    calls = []

    def oracle(x):
        calls.append(1)
        g = library.asarray([[1.0, 1.0], [0.0, 1.0]])
        if len(calls) == 2:
            g[0] = poison
        return g

    with np.errstate(invalid="ignore"):
        after = np.asarray(step(x, oracle, perturbed, 0.5, 0.1, gamma))
    assert after.tolist() == [[-0.5, 0.5], [0.0, 1.5]]


@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_single_precision_stays_single(ascent, gamma):
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        for perturbed in (True, False, torch.tensor([True, False])):
            x = torch.ones(2, 3, dtype=dtype)
            assert step(x, lambda x: 2 * x, perturbed, 0.1, 0.2, gamma, ascent).dtype == dtype
    assert step(np.ones(3, np.float32), lambda x: 2 * x, True, 0.1, 0.2, gamma, ascent).dtype == np.float32


def test_parameters_are_tensors_too():
    x = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    with torch.no_grad():
        assert torch.equal(ascend(x, x, 0.5), ascend(x.detach(), x.detach(), 0.5))


def test_nothing_is_written_to():
    x, g = np.ones((2, 3)), np.full((2, 3), 2.0)
    perturbed = np.array([True, False])
    for array in (x, g, perturbed):
        array.flags.writeable = False
    step(x, lambda _: g, perturbed, 0.1, 0.2, 0.5)


def test_an_unknown_ascent_is_named():
    with pytest.raises(ValueError, match="'normalized' or 'unnormalized'; got 'sharp'"):
        ascend(np.ones(2), np.ones(2), 0.1, "sharp")


# What mutants of the room showed to be missing


def test_a_step_without_a_mixing_coefficient_is_the_step_of_sam():
    x = np.array([3.0, 4.0])
    y = x + 0.5 * x / 5.0  # of f = ||x||^2/2, whose gradient is x
    np.testing.assert_allclose(step(x, lambda z: z, True, 0.1, 0.5), x - 0.1 * y, rtol=ONE_STEP)


def test_a_matrix_without_a_direction_stays():
    x, zero = sympy.Matrix([1, 2]), sympy.zeros(2, 1)
    assert ascend(x, zero, sympy.Rational(1, 2)) == x


def test_numbers_need_no_library():
    number = type("Number", (Fraction,), {"__module__": "of_no_library"})
    assert ascend(Fraction(1), number(-3, 4), Fraction(1, 2)) == Fraction(1, 2)


def test_a_symbolic_point_with_no_gradient_is_not_perturbed():
    x, zero = sympy.Matrix([1, 2]), sympy.zeros(2, 1)
    assert ascend(x, zero, sympy.Rational(1, 3)) == x
    assert ascend(x, sympy.Matrix([3, 4]), sympy.Rational(1, 2)) == x + sympy.Matrix([3, 4]) / 10
