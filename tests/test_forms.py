"""Forms: what the compiling engines run of a problem, against its own NumPy formulas; and the families
whose formulas are dense or the user's own."""

from __future__ import annotations

import doctest
import functools
import inspect
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from conftest import NUMERIC, ONE_STEP
from hypothesis import example, given, settings, strategies as st

from rst_theory.bounds import ALL, RealizedBound, applicable, best
from rst_theory.notation import Assumption, DomainError, ProblemConstants
from rst_theory.problems import (
    Coupled,
    DenseQuadratic,
    FlatAndSharp,
    FloorInstance,
    FromFunctions,
    LeastSquares,
    LogisticRegression,
    PiecewiseQuadratic,
    Plain,
    Problem,
    Quadratic,
    RippledQuadratic,
    Separable,
)
from rst_theory.problems.compiled import decay, multiply, sine, subtract_transposed, take

numba = pytest.importorskip("numba")

RNG = np.random.default_rng(11)
FEATURES = RNG.standard_normal((12, 3)) @ np.diag([1.0, 3.0, 0.2])
TARGETS = FEATURES @ [1.0, -1.0, 2.0] + RNG.standard_normal(12)
LABELS = np.where(RNG.uniform(size=12) < 0.5, 1, -1)
EPS = float(np.finfo(np.float64).eps)


def bowl(x: np.ndarray) -> float:
    return 0.5 * np.sum(x * x) + np.sqrt(1.0 + np.sum(x * x)) - 1.0


def bowl_gradient(x: np.ndarray) -> np.ndarray:
    return x + x / np.sqrt(1.0 + np.sum(x * x))


def well(u: float) -> float:
    return math.sqrt(1.0 + u * u) - 1.0


def well_derivative(u: float) -> float:
    return u / math.sqrt(1.0 + u * u)


FAMILIES: dict[str, Callable[[], Problem]] = {
    "quadratic": lambda: Quadratic([0.0, 0.25, 3.0], noise=0.1),
    "dense": lambda: DenseQuadratic(FEATURES.T @ FEATURES),
    "dense, singular": lambda: DenseQuadratic(np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])),
    "rippled": lambda: RippledQuadratic(1.5, dimension=3),
    "piecewise": lambda: PiecewiseQuadratic([-1, 1, 2], [-1, 2, -1], 1, 0.5, dimension=3),
    "piecewise, flat outside": lambda: PiecewiseQuadratic([-1.0, 0.0, 2.0], [0.0, 1.0, 0.0], 0.0, 0.0),
    "piecewise, one knot": lambda: PiecewiseQuadratic([0.5], [0.0], 1.0, 2.0, dimension=2),
    "flat and sharp": lambda: FlatAndSharp(2.0, 0.5, 0.5, rise=0.25, dimension=3),
    "floor": lambda: FloorInstance(0.75),
    "logistic": lambda: LogisticRegression(FEATURES, LABELS, 0.1),
    "logistic, 39 rows": lambda: LogisticRegression(
        np.vstack([FEATURES, 2 * FEATURES, -FEATURES, FEATURES[:3]]), np.resize(LABELS, 39), 0.1
    ),
    "logistic, minibatch": lambda: LogisticRegression(FEATURES, LABELS, 0.1, batch=4),
    "least squares": lambda: LeastSquares(FEATURES, TARGETS),
    "least squares, minibatch": lambda: LeastSquares(FEATURES, TARGETS, batch=4),
    "least squares, underdetermined": lambda: LeastSquares(FEATURES[:2], TARGETS[:2], batch=1),
    "own": lambda: FromFunctions(bowl, bowl_gradient, 3, L=2.0, mu=1.0, f_star=0.0),
    "own, separable": lambda: FromFunctions(
        well, well_derivative, 3, L=1.0, f_star=0.0, claims=[Assumption.CONVEX], separable=True
    ),
}


@pytest.fixture(params=FAMILIES, scope="module")
def problem(request: pytest.FixtureRequest) -> Problem:
    return FAMILIES[request.param]()


# Evaluating a form


@functools.cache
def compiled(function: Callable) -> Callable:
    return numba.njit(function, error_model="numpy")


def value_of(form, x: np.ndarray) -> np.ndarray:
    """The compiled values at the rows of x."""
    value = compiled(form.value)
    match form:
        case Separable():
            return np.array([sum(value(u, i, form.data) for i, u in enumerate(row)) for row in x])
        case Coupled():
            out = np.full(len(x), 7.0)  # what was there before must not matter
            value(np.ascontiguousarray(x.T), out, form.data)
            return out
        case Plain():
            return np.array([value(row) for row in x])


def gradient_of(form, x: np.ndarray) -> np.ndarray:
    """The compiled gradients at the rows of x."""
    match form:
        case Separable():
            derivative = compiled(form.derivative)
            return np.array([[derivative(u, i, form.data) for i, u in enumerate(row)] for row in x])
        case Coupled():
            g = np.full(x.T.shape, 7.0)
            compiled(form.gradient)(np.ascontiguousarray(x.T), g, form.data)
            return g.T
        case Plain():
            return np.array([compiled(form.gradient)(row) for row in x])


def sampled_gradient_of(form: Coupled, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    g = np.full(x.T.shape, 7.0)
    compiled(form.sampled_gradient)(np.ascontiguousarray(x.T), g, np.ascontiguousarray(indices.T), form.data)
    return g.T


def points(problem: Problem) -> np.ndarray:
    """Random points on all scales, zeros, knots and cuts with their neighbours, and far out."""
    d = problem.dimension
    rng = np.random.default_rng(3)
    rows = [
        10 ** rng.uniform(-4, 4, (60, 1)) * rng.standard_normal((60, d)),
        np.zeros((1, d)),
        -np.zeros((1, d)),
    ]
    special = [problem.start, *([] if problem.minimizer is None else [problem.minimizer])]
    if isinstance(problem, PiecewiseQuadratic):
        special += [np.full(d, x) for x in problem._pieces.x]
    for point in special:
        rows += [[point], [np.nextafter(point, np.inf)], [np.nextafter(point, -np.inf)]]
    signs = rng.choice([-1.0, 1.0], (10, d))
    rows += [scale * signs for scale in (1e-300, 1e-12, 1e3, 1e8, 1e60, 1e152, 1e300)]
    return np.vstack(rows)


def agree(found: np.ndarray, expected: np.ndarray, scale: np.ndarray) -> None:
    """Equal to ONE_STEP of the size of the terms, wherever the reference is finite."""
    finite = np.isfinite(expected)
    assert finite.any() and found.shape == expected.shape
    with np.errstate(all="ignore"):
        close = np.abs(found - expected) <= ONE_STEP * (np.abs(expected) + scale)
    assert close[finite].all(), (found[finite & ~close], expected[finite & ~close])


def compare(problem: Problem, value, gradient, sampled_gradient, has_minibatches: bool) -> None:
    """Value and gradients against those of the problem."""
    L, x = problem.constants.L, points(problem)
    with np.errstate(all="ignore"):
        size = np.abs(x).sum(axis=1)  # of the squares of tiny numbers nothing would be left
        agree(value(x), problem.value(x), L * size**2)
        agree(gradient(x), problem.gradient(x), L * size[:, None])
        minibatched = getattr(problem, "batch", None) is not None
        assert has_minibatches == minibatched
        if minibatched:
            indices = problem.sample(np.random.default_rng(5), len(x))
            expected = problem.stochastic_gradient(x, indices)
            agree(sampled_gradient(x, indices), expected, (L * size + np.sqrt(L))[:, None])


def test_the_compiled_form_is_the_problem(problem):
    form = problem.form()
    sampled = isinstance(form, Coupled) and form.sampled_gradient is not None
    compare(
        problem,
        functools.partial(value_of, form),
        functools.partial(gradient_of, form),
        functools.partial(sampled_gradient_of, form),
        sampled,
    )
    if sampled:
        assert (form.rows, form.batch) == (problem.rows, problem.batch)


def test_its_data_are_what_an_engine_takes(problem):
    form = problem.form()
    for array in form.data:
        assert array.dtype in (np.float64, np.int64) and array.flags.c_contiguous
    if isinstance(form, Plain):
        assert form.data == ()


def test_a_lane_that_diverged_is_not_contagious(problem):
    form = problem.form()
    x = np.random.default_rng(0).standard_normal((3, problem.dimension))
    clean = value_of(form, x), gradient_of(form, x)
    x[1] = np.nan
    value, gradient = value_of(form, x), gradient_of(form, x)
    assert np.isnan(value[1]) and np.isnan(gradient[1]).all()
    np.testing.assert_array_equal(value[[0, 2]], clean[0][[0, 2]])
    np.testing.assert_array_equal(gradient[[0, 2]], clean[1][[0, 2]])


def test_in_torch_it_is_the_problem(problem):
    torch = pytest.importorskip("torch")
    formulas = problem.in_torch("cpu", torch.float64)
    if isinstance(problem, FromFunctions):
        assert formulas is None
        return

    def on(function):
        return lambda *arrays: function(*map(torch.tensor, arrays)).numpy()

    has_minibatches = formulas.sampled_gradient is not None
    compare(
        problem,
        on(formulas.value),
        on(formulas.gradient),
        on(formulas.sampled_gradient) if has_minibatches else None,
        has_minibatches,
    )
    if has_minibatches:
        assert (formulas.rows, formulas.batch) == (problem.rows, problem.batch)
    assert (
        problem.in_torch("cpu", torch.float32).gradient(torch.ones(2, problem.dimension)).dtype
        is torch.float32
    )


def test_a_problem_without_formulas_has_no_form():
    class Cosine(Problem):
        name = "cosine"

        def value(self, x):
            return -np.cos(self._points(x)).sum(axis=-1)

        def gradient(self, x):
            return np.sin(self._points(x))

    assert Cosine(1, [0.5], L=1.0).form() is None
    assert Cosine(1, [0.5], L=1.0).in_torch("cpu", None) is None


# What forms are made of


def either_way(function: Callable) -> tuple[Callable, Callable]:
    """The function compiled, and as plain Python."""
    return compiled(function), function


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@example([0.0, -0.0, 5e-324, 1e-160, math.pi, -math.pi, np.nextafter(math.pi, 4), 2 * math.pi, 6.6e6, 6.7e6])
@example([2.0**50, 2.0**51, 1.3 * 2.0**52, 2.0**53, 1e17, 1e300, -1.7e308])
@example([k * math.pi for k in range(1, 40)])
def test_sines(xs):
    for sin in either_way(sine):
        for x in xs:
            found, expected = sin(x), math.sin(x)
            assert abs(found - expected) <= 4 * EPS * max(1.0, abs(x))
            assert abs(found) <= 1 + 4 * EPS
            if abs(x) <= 1:
                assert abs(found - expected) <= 4 * EPS * abs(expected)


def test_sines_on_a_grid():
    xs = np.linspace(-1e5, 1e5, 200_001)
    found = np.array([compiled(sine)(x) for x in xs])
    np.testing.assert_allclose(found, np.sin(xs), rtol=0, atol=10 * EPS)  # reduced exactly
    for x in (math.nan, math.inf, -math.inf):
        assert not abs(compiled(sine)(x)) > 2


def test_decays():
    with np.errstate(all="ignore"):
        x = np.concatenate([np.linspace(-710, 710, 5003), np.geomspace(5e-324, 1e308, 501), [0.0, -0.0]])
        x = np.append(x, [math.inf, -math.inf])[:5504].reshape(-1, 43)
        for decay_ in either_way(decay):
            out = np.full(x.shape, 7.0)
            decay_(x, out)
            expected = np.exp(-np.minimum(np.abs(x), 708.0))
            np.testing.assert_allclose(out, expected, rtol=4 * EPS)
        out = np.full((1, 2), 7.0)
        compiled(decay)(np.array([[math.nan, 1.0]]), out)
    assert np.isnan(out[0, 0]) and out[0, 1] == pytest.approx(math.exp(-1), rel=4 * EPS)


@pytest.mark.parametrize("n", range(1, 10))
def test_products_of_matrices(n):
    rng = np.random.default_rng(n)
    a, x, m = rng.standard_normal((n, 3)), rng.standard_normal((3, 5)), rng.standard_normal((n, 5))
    start = rng.standard_normal((3, 5))
    for product, subtract, copy in zip(*map(either_way, (multiply, subtract_transposed, take)), strict=True):
        out, g, rows = np.full((n, 5), 7.0), start.copy(), np.full((3, 5), 7.0)
        product(a, x, out)
        np.testing.assert_allclose(out, a @ x, atol=1e-14)
        subtract(a, m, g)
        np.testing.assert_allclose(g, start - a.T @ m, atol=1e-14)
        indices = rng.integers(n, size=5)
        copy(a, indices, rows)
        np.testing.assert_array_equal(rows, a[indices].T)


# Every random number comes from two methods


class Recorder:
    """Answers as a Generator does, and to nothing else."""

    def __init__(self):
        self.asked = []
        self._generator = np.random.default_rng(0)

    def standard_normal(self, size):
        self.asked.append(("standard_normal", size))
        return self._generator.standard_normal(size)

    def integers(self, high, *, size):
        self.asked.append(("integers", high, size))
        return self._generator.integers(high, size=size)


def test_noise_asks_one_thing_of_the_generator(problem):
    recorder = Recorder()
    minibatch = problem.sample(recorder, 5)
    if getattr(problem, "batch", None) is not None:
        assert recorder.asked == [("integers", problem.rows, (5, problem.batch))]
        assert minibatch.shape == (5, problem.batch)
    elif problem.noise:
        assert recorder.asked == [("standard_normal", (5, problem.dimension))]
    else:
        assert recorder.asked == []


# Dense quadratics


@given(
    st.lists(st.sampled_from([0.0, 1e-6, 0.5, 1.0, 7.0, 1e4]), min_size=1, max_size=6).filter(any),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
@example([0.0, 1.0], 0)
@example([3.0], 0)
@example([2.0, 2.0, 2.0], 1)
def test_dense_quadratic_is_the_rotated_quadratic(eigenvalues, seed):
    lam = np.array(eigenvalues)
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((len(lam), len(lam))))[0]
    dense, diagonal = DenseQuadratic(Q * lam @ Q.T), Quadratic(lam)
    c, exact = dense.constants, diagonal.constants
    L = exact.L
    slack = 64 * len(lam) * EPS * L  # of the rotation, which is computed too
    assert exact.L * (1 - 1e-12) <= c.L <= exact.L + slack
    assert abs(c.mu - exact.mu) <= slack
    assert dense.assumptions == diagonal.assumptions
    y = rng.standard_normal((5, len(lam)))
    scale = 1e-13 * L * (y**2).sum()
    np.testing.assert_allclose(dense.value(y @ Q.T), diagonal.value(y), rtol=0, atol=scale)
    np.testing.assert_allclose(dense.gradient(y @ Q.T), diagonal.gradient(y) @ Q.T, rtol=0, atol=scale)
    assert (dense.value(y @ Q.T) >= 0).all()


def test_constants_of_a_matrix_with_known_eigenvalues():
    # The second difference: eigenvalues 2 - 2 cos(k pi/(d + 1)); and a rank-one matrix: 14, 0, 0.
    d = 9
    second = 2 * np.eye(d) - np.eye(d, k=1) - np.eye(d, k=-1)
    exact = 2 - 2 * np.cos(np.arange(1, d + 1) * np.pi / (d + 1))
    c = DenseQuadratic(second).constants
    assert exact.max() <= c.L <= exact.max() * (1 + 1e-13)
    assert exact.min() * (1 - 1e-12) <= c.mu <= exact.min() * (1 + 1e-15)
    one = DenseQuadratic(np.outer([1, 2, 3], [1, 2, 3]))
    assert Assumption.STRONGLY_CONVEX not in one.assumptions
    assert one.constants.L == pytest.approx(14, rel=1e-14) == one.constants.mu
    x = np.array([3.0, 0.0, -1.0])  # in the null space
    assert one.value(x) <= 1e-28 and one.value(1e6 * x) <= 1e-16


def test_a_matrix_is_symmetric_to_the_last_bit_and_ones_own():
    A = np.array([[2.0, 1.0], [1.0 + 1e-16, 2.0]])
    problem = DenseQuadratic(A)
    A[:] = 0.0
    assert (problem.matrix == problem.matrix.T).all() and problem.matrix[0, 0] == 2.0
    with pytest.raises(ValueError, match="read-only"):
        problem.matrix[0, 0] = 1.0


@pytest.mark.parametrize(
    "matrix, message",
    [
        ([[1.0, 2.0], [2.0, 1.0]], "matrix positive semidefinite; got the eigenvalue -1"),
        ([[-1.0]], "matrix positive semidefinite; got the eigenvalue -1"),
        ([[1.0, 0.5], [0.4, 1.0]], r"matrix symmetric; got 0.5 against 0.4 at index \(0, 1\)"),
        ([[0.0, 0.0], [0.0, 0.0]], "at least one eigenvalue > 0"),
        ([[1.0, 2.0, 3.0]], r"matrix square; got shape \(1, 3\)"),
        ([[1.0, np.nan], [np.nan, 1.0]], r"finite matrix; got nan at index \(0, 1\)"),
        ([[1.0, 1e308], [-1e308, 1.0]], "matrix symmetric"),
        ([1.0], r"matrix of shape \(d, d\)"),
        (np.empty((0, 0)), "not empty"),
    ],
)
def test_bad_matrices(matrix, message):
    with pytest.raises(DomainError, match=message):
        DenseQuadratic(matrix)


# Least squares


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=80)
@example(1, 1, 0, True)
@example(2, 5, 0, False)
def test_least_squares_is_its_sum_of_squares(n, d, seed, repeated):
    rng = np.random.default_rng(seed)
    A, b = rng.standard_normal((n, d)), rng.standard_normal(n)
    if repeated and d > 1:
        A[:, -1] = 2 * A[:, 0]  # rank-deficient
    full, sampled = LeastSquares(A, b), LeastSquares(A, b, batch=1)
    x = np.vstack([rng.standard_normal((4, d)), 1e3 * rng.standard_normal((2, d)), np.zeros((1, d))])
    residuals = x @ A.T - b
    scale = full.constants.L * ((x**2).sum() + 1) + b @ b
    np.testing.assert_allclose(
        full.value(x), (residuals**2).sum(axis=1) / (2 * n), atol=1e-13 * scale, rtol=0
    )
    gradient = residuals @ A / n
    np.testing.assert_allclose(full.gradient(x), gradient, atol=1e-13 * scale, rtol=0)
    # By enumeration of every minibatch: unbiased.
    each = np.array([sampled.stochastic_gradient(x, np.full((len(x), 1), i)) for i in range(n)])
    np.testing.assert_allclose(each.mean(axis=0), gradient, atol=1e-13 * scale, rtol=0)

    lam = np.linalg.eigvalsh(A.T @ A / n)
    positive = lam[lam > 1e-12 * lam.max()]
    assert pytest.approx(lam.max(), rel=1e-12) == full.constants.L
    assert full.constants.mu == pytest.approx(positive.min(), abs=1e-12 * lam.max())
    assert pytest.approx((A**2).sum(axis=1).max(), rel=1e-14) == sampled.constants.L
    assert (Assumption.STRONGLY_CONVEX in full.assumptions) == (len(positive) == d)
    assert Assumption.POLYAK_LOJASIEWICZ in full.assumptions
    solution = np.linalg.pinv(A) @ b
    np.testing.assert_allclose(full.minimizer, solution, atol=1e-9 * (1 + np.abs(solution).max()))
    least = ((A @ solution - b) ** 2).sum() / (2 * n)
    assert full.constants.f_star == pytest.approx(least, rel=NUMERIC, abs=1e-14 * (b @ b))
    assert (full.value(x) >= full.constants.f_star).all()


def test_the_least_value_against_an_optimizer():
    from scipy.optimize import lsq_linear

    found = lsq_linear(FEATURES, TARGETS, method="bvls", tol=1e-15)
    problem = LeastSquares(FEATURES, TARGETS)
    assert problem.constants.f_star == pytest.approx(found.cost / len(TARGETS), rel=NUMERIC)
    np.testing.assert_allclose(problem.minimizer, found.x, rtol=1e-9)


def variance(problem: LeastSquares, x: np.ndarray) -> float:
    """E||grad f(x; xi) - grad f(x)||^2, by enumeration of the rows."""
    each = np.array(
        [
            LeastSquares(problem._a, problem._b, batch=1).stochastic_gradient([x], np.array([[i]]))[0]
            for i in range(problem.rows)
        ]
    )
    return float(((each - each.mean(axis=0)) ** 2).sum(axis=1).mean()) / problem.batch


def test_the_variance_of_minibatches_grows_without_bound():
    problem = LeastSquares(FEATURES, TARGETS, batch=4)
    assert problem.constants.sigma == math.inf
    assert Assumption.BOUNDED_VARIANCE not in problem.assumptions
    assert Assumption.SUB_GAUSSIAN not in problem.assumptions
    far = [variance(problem, scale * np.ones(3)) for scale in (1e2, 1e4, 1e6)]
    assert far[1] > 5e3 * far[0] and far[2] > 5e3 * far[1]
    assert "sigma = inf" in repr(problem)


@pytest.mark.parametrize("bound", ALL.values(), ids=ALL)
def test_no_bound_claims_a_problem_of_unbounded_variance(bound):
    problem = LeastSquares(FEATURES, TARGETS, batch=4)
    assert bound.missing(problem) & {Assumption.BOUNDED_VARIANCE, Assumption.NOISELESS}


def at_infinite_noise(bound, mu: float, p: float, eta: float, rho: float, gamma: float) -> float:
    """The bound at sigma = infinity, L = gap = distance = 1."""
    given_ = {
        "constants": ProblemConstants(L=1.0, mu=mu, sigma=math.inf, f_star=0.0),
        "schedule": np.tile([p, p / 2], 2) if isinstance(bound, RealizedBound) else p,
        "trials": np.array([p > 0, False, p > 0, False]),
        "directional_noise": 0.5 if rho else None,
        "p": p,
        "steps": 4,
        "eta": eta,
        "rho": rho,
        "gamma": gamma,
        "gap": 1.0,
        "distance": 1.0,
        "gradient_norm": 1.0,
    }
    wanted = inspect.signature(bound.evaluate).parameters
    return bound.evaluate(**{key: value for key, value in given_.items() if key in wanted})


@pytest.mark.parametrize("bound", ALL.values(), ids=ALL)
def test_at_infinite_noise_a_bound_is_infinite_or_refused(bound):
    for setting in itertools.product([0, 0.5, 1], [0, 0.5, 1], [0, 0.1, 1, 1.9], [0, 0.2], [0, 1, 2]):
        try:
            value = at_infinite_noise(bound, *map(float, setting))
        except DomainError:
            continue
        assert value == math.inf, setting


@pytest.mark.parametrize("quantity", ["squared_gradient_norm", "gap", "final_gap", "final_squared_distance"])
def test_the_search_for_a_bound_says_that_the_variance_is_unbounded(quantity):
    problem = LeastSquares(FEATURES, TARGETS, batch=4)
    run = {"schedule": 0.5, "steps": 3, "eta": 1e-3, "rho": 0.1, "gap": 1.0, "distance": 1.0}
    with pytest.raises(DomainError, match="assumes BOUNDED_VARIANCE"):
        best(problem, quantity=quantity, **run)
    assert applicable(problem, **run) == []


def test_the_variance_is_constant_where_all_rows_are_one_but_for_their_signs():
    a = np.array([[1.0, -2.0], [-1.0, 2.0], [1.0, -2.0], [1.0, -2.0]])
    problem = LeastSquares(a, [1.0, 3.0, -2.0, 0.5], batch=3)
    assert Assumption.BOUNDED_VARIANCE in problem.assumptions
    assert Assumption.NOISELESS not in problem.assumptions
    for x in ([0.0, 0.0], [1.0, 5.0], [-100.0, 3.0]):
        assert variance(problem, np.array(x)) == pytest.approx(problem.constants.sigma**2, rel=NUMERIC)


def test_full_gradients_have_no_noise():
    problem = LeastSquares(FEATURES, TARGETS)
    assert problem.constants.sigma == 0 and Assumption.NOISELESS in problem.assumptions
    assert problem.sample(np.random.default_rng(0), 3) is None


def test_random_least_squares_is_the_same_every_time():
    one, again = LeastSquares.random(30, 4, seed=2), LeastSquares.random(30, 4, seed=2)
    assert one.constants == again.constants and one.rows == 30
    assert LeastSquares.random(30, 4, noise=0.0, seed=2).constants.f_star < 1e-28


@pytest.mark.parametrize(
    "arguments, kind, message",
    [
        ({"features": [[1.0, np.inf]]}, DomainError, r"finite features; got inf at index \(0, 1\)"),
        ({"features": [1.0, 2.0]}, DomainError, r"features of shape \(n, d\)"),
        ({"targets": [1.0]}, DomainError, "as many targets as rows of features, 2; got 1"),
        ({"targets": [1.0, np.nan]}, DomainError, "finite targets; got nan at index 1"),
        ({"features": [[0.0], [0.0]]}, DomainError, "smoothness constant L"),
        ({"features": [[1e200], [1.0]]}, DomainError, "smoothness constant L"),
        ({"features": [[1e200], [1.0]], "batch": 1}, DomainError, "smoothness constant L"),
        ({"targets": [1e200, 0.0]}, DomainError, "least value f_star"),
        ({"batch": 0}, DomainError, "1 <= batch; got 0"),
        ({"batch": 1.5}, TypeError, "batch must be an integer"),
    ],
)
def test_bad_least_squares(arguments, kind, message):
    with pytest.raises(kind, match=message):
        LeastSquares(**{"features": [[1.0], [2.0]], "targets": [1.0, 2.0], **arguments})


# A user's own functions


def test_own_functions_are_applied_row_by_row_and_coordinate_by_coordinate():
    one = FromFunctions(bowl, bowl_gradient, 3, L=2.0)
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    square = (x**2).sum(axis=-1)
    np.testing.assert_allclose(one.value(x), square / 2 + np.sqrt(1 + square) - 1, rtol=1e-14)
    np.testing.assert_allclose(one.gradient(x), x + x / np.sqrt(1 + square)[..., None], rtol=1e-14)
    many = FromFunctions(well, well_derivative, 3, L=1.0, separable=True)
    np.testing.assert_allclose(many.value(x), (np.sqrt(1 + x * x) - 1).sum(axis=-1), rtol=1e-13)
    np.testing.assert_allclose(many.gradient(x), x / np.sqrt(1 + x * x), rtol=1e-14)
    assert isinstance(one.form(), Plain) and isinstance(many.form(), Separable)


def test_the_example_of_own_functions(monkeypatch):
    # In NumPy: compiling them takes seconds, and is tested with the engine.
    monkeypatch.setattr("rst_theory.simulation.run._fastest", lambda setting: "numpy")
    (example_,) = doctest.DocTestFinder(recurse=False).find(FromFunctions, "FromFunctions")
    assert len(example_.examples) == 6
    assert doctest.DocTestRunner().run(example_).failed == 0


def test_own_constants_are_taken_at_their_word():
    problem = FromFunctions(
        bowl, bowl_gradient, 2, L=2.0, mu=1.0, claims=[Assumption.STRONGLY_CONVEX], noise=0.5
    )
    assert (problem.constants.L, problem.constants.mu, problem.constants.f_star) == (2.0, 1.0, None)
    assert problem.constants.sigma == pytest.approx(0.5 * math.sqrt(2))
    assert problem.assumptions >= {Assumption.CONVEX, Assumption.STRONGLY_CONVEX}
    np.testing.assert_array_equal(problem.start, [1.0, 1.0])


def test_own_functions_cannot_change_the_point_that_they_are_given():
    def careless(x):
        x *= 2
        return x

    x = np.ones((3, 2))
    FromFunctions(bowl, careless, 2, L=2.0).gradient(x)
    np.testing.assert_array_equal(x, 1.0)


def test_own_compiled_functions_are_taken_too():
    problem = FromFunctions(compiled(well), compiled(well_derivative), 2, L=1.0, separable=True)
    x = np.array([[0.5, -3.0]])
    np.testing.assert_allclose(gradient_of(problem.form(), x), problem.gradient(x), rtol=ONE_STEP)


def test_a_function_of_another_shape_is_named():
    with pytest.raises(TypeError, match="value must be a function; got 3"):
        FromFunctions(3, bowl_gradient, 2, L=1.0)
    with pytest.raises(DomainError, match=r"gradient of shape \(2,\); got shape \(\)"):
        FromFunctions(bowl, bowl, 2, L=1.0).gradient([1.0, 2.0])
    with pytest.raises(DomainError, match=r"value of shape \(\); got shape \(2,\)"):
        FromFunctions(bowl_gradient, bowl_gradient, 2, L=1.0).value([1.0, 2.0])
