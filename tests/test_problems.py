"""Problems: one contract that every problem passes, then what is particular to each."""

import copy
import itertools
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import COMPARISON_ALARM
from hypothesis import assume, example, given, settings, strategies as st

from rst_theory import problems
from rst_theory.notation import Assumption, DomainError
from rst_theory.problems import (
    DenseQuadratic,
    FlatAndSharp,
    FromFunctions,
    LeastSquares,
    LogisticRegression,
    PiecewiseQuadratic,
    Problem,
    Quadratic,
    RippledQuadratic,
)

EPS = float(np.finfo(np.float64).eps)
ROUNDING = 64 * EPS  # relative to the size of the terms of a comparison
BENIGN = (np.random.default_rng(5).standard_normal((40, 3)) @ np.diag([1.0, 2.0, 0.5])) + [0.0, 1.0, 0.0]
MEASURED = BENIGN @ [1.0, -2.0, 0.5] + np.random.default_rng(7).standard_normal(40)
BENIGN_LABELS = np.where(np.random.default_rng(6).uniform(size=40) < 1 / (1 + np.exp(-BENIGN[:, 0])), 1, -1)


@dataclass(frozen=True)
class Example:
    """A problem, and where its Hessian (of one minibatch) has the spectral norm L."""

    make: Callable[[], Problem]
    steepest: Callable[[Problem], np.ndarray]
    minibatch: Callable[[Problem], np.ndarray | None] = lambda problem: None

    def worst_minibatch(self, problem: Problem) -> np.ndarray | None:
        minibatch = self.minibatch(problem)
        if minibatch is None and problem.noise:
            return np.ones((1, problem.dimension))
        return minibatch


def at(*x: float) -> Callable[[Problem], np.ndarray]:
    return lambda problem: np.resize(np.array(x), problem.dimension)


def longest_row(problem: LogisticRegression | LeastSquares) -> np.ndarray:
    row = int(np.argmax(np.linalg.norm(data_of(problem), axis=1)))
    return np.full((1, problem.batch), row)


def data_of(problem: LogisticRegression | LeastSquares) -> np.ndarray:
    return BENIGN if problem.dimension == 3 else breast_cancer_oracle()[0]


def breast_cancer_oracle() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import StandardScaler

    features, target = load_breast_cancer(return_X_y=True)
    features = StandardScaler().fit_transform(features)
    return np.hstack([features, np.ones((len(features), 1))]), np.where(target == 1, 1, -1)


# The floor of the nonconvex average at q = 3/4: slopes +1, -1, +1 and a constant beyond (w = 1/16).
W, Q = 1 / 16, 3 / 4
G = Q * (1 - 4 * W)
FLOOR = ([-G, W, 1 - W, 1 - W + (1 - 2 * W - G - W)], [0.0, G + W, G + W - (1 - 2 * W), 0.0], 0.0, 0.0)


def log_cosh(x: np.ndarray) -> float:
    """The sum of log(cosh(x_i)) + x_i^2/2: strongly convex with mu = 1, L = 2."""
    return (np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - np.log(2.0)).sum() + 0.5 * np.dot(x, x)


def log_cosh_gradient(x: np.ndarray) -> np.ndarray:
    return np.tanh(x) + x


def ripple(u: float) -> float:
    return u * u / 2 + np.sin(u) ** 2


def ripple_derivative(u: float) -> float:
    return u + np.sin(2 * u)


EXAMPLES: dict[str, Example] = {
    "quadratic": Example(lambda: Quadratic([0.25, 3.0, 1.0]), at(1, 1, 1)),
    "quadratic, noisy": Example(lambda: Quadratic([0.25, 3.0, 1.0], noise=0.5), at(1, 1, 1)),
    "quadratic, singular": Example(lambda: Quadratic([0.0, 2.0, 0.5], noise=0.1), at(1, 1, 1)),
    "quadratic, one dimension": Example(lambda: Quadratic([2.0]), at(1)),
    "quadratic, random": Example(lambda: problems.BY_NAME["quadratic"](), at(1)),
    "dense": Example(lambda: DenseQuadratic(BENIGN.T @ BENIGN), at(1)),
    "dense, noisy": Example(lambda: DenseQuadratic([[2.0, 1.0], [1.0, 2.0]], noise=0.5), at(1)),
    "dense, singular": Example(lambda: DenseQuadratic(BENIGN[:2].T @ BENIGN[:2], noise=0.1), at(1)),
    "least squares": Example(lambda: LeastSquares(BENIGN, MEASURED), at(0)),
    "least squares, minibatch": Example(lambda: LeastSquares(BENIGN, MEASURED, batch=3), at(1), longest_row),
    "least squares, underdetermined": Example(lambda: LeastSquares(BENIGN[:2], MEASURED[:2]), at(0)),
    "least squares, a mean": Example(
        lambda: LeastSquares([[1.0], [-1.0], [1.0]], [1.0, 2.0, 6.0], batch=2),
        at(1),
        lambda problem: np.array([[0, 1]]),
    ),
    "own": Example(
        lambda: FromFunctions(
            log_cosh,
            log_cosh_gradient,
            2,
            L=2.0,
            mu=1.0,
            f_star=0.0,
            claims=[Assumption.STRONGLY_CONVEX],
            noise=0.1,
            minimizer=[0.0, 0.0],
        ),
        at(0),
    ),
    "own, separable": Example(
        lambda: FromFunctions(
            ripple,
            ripple_derivative,
            2,
            L=3.0,
            mu=0.18,
            f_star=0.0,
            claims=[Assumption.POLYAK_LOJASIEWICZ],
            minimizer=[0.0, 0.0],
            start=[3.0, -3.0],
            separable=True,
        ),
        at(0),
    ),
    "logistic": Example(lambda: LogisticRegression(BENIGN, BENIGN_LABELS, 0.1), at(0)),
    "logistic, minibatch": Example(
        lambda: LogisticRegression(BENIGN, BENIGN_LABELS, 0.1, batch=3), at(0), longest_row
    ),
    "breast cancer": Example(lambda: LogisticRegression.breast_cancer(), at(0)),
    "breast cancer, minibatch": Example(lambda: problems.BY_NAME["logistic"](), at(0), longest_row),
    "flat and sharp": Example(lambda: FlatAndSharp(), at(0.25)),
    "flat and sharp, barrier": Example(
        lambda: FlatAndSharp(2.0, 0.5, 0.5, rise=0.25, dimension=3, noise=0.2), at(1.0)
    ),
    "flat and sharp, by name": Example(lambda: problems.BY_NAME["flat-and-sharp"](), at(0.25)),
    "rippled": Example(lambda: RippledQuadratic(), at(0)),
    "rippled, by name": Example(lambda: problems.BY_NAME["rippled"](), at(0)),
    "rippled, slightly": Example(lambda: RippledQuadratic(0.5001, dimension=2), at(0)),
    "rippled, nearly flat": Example(lambda: RippledQuadratic(2.07, dimension=2), at(0)),
    "piecewise, floor": Example(lambda: PiecewiseQuadratic(*FLOOR, start=[0.0]), at(W + 0.125)),
    "piecewise, convex": Example(lambda: PiecewiseQuadratic([0, 1, 3], [-1, 0, 0], 0.5, 2), at(4)),
    "piecewise, strongly convex": Example(
        lambda: PiecewiseQuadratic([0, 1], [-1, 2], 0.5, 1, dimension=2), at(0.5)
    ),
    "piecewise, Polyak-Lojasiewicz": Example(
        lambda: PiecewiseQuadratic([-1, 1, 2], [-1, 2, 1], 1, 1, dimension=2, noise=0.3), at(0.0)
    ),
}


@pytest.fixture(params=EXAMPLES, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[Example, Problem]:
    example = EXAMPLES[request.param]
    return example, example.make()


@pytest.fixture
def problem(case: tuple[Example, Problem]) -> Problem:
    return case[1]


def heavy_tailed(problem: Problem, count: int = 400, seed: int = 1) -> np.ndarray:
    """Points around 0 and around the start, on all scales from 1e-4 to 1e6."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((count, problem.dimension))
    scales = 10 ** rng.uniform(-4, 1, (count, 1)) * np.minimum(np.abs(rng.standard_cauchy((count, 1))), 1e5)
    return rng.integers(0, 2, (count, 1)) * problem.start + scales * directions


def pairs(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points, far apart and down to a distance of 1e-6."""
    x = heavy_tailed(problem)
    rng = np.random.default_rng(2)
    y = x + 10 ** rng.uniform(-6, 2, (len(x), 1)) * rng.standard_normal(x.shape)
    return np.vstack([x, x]), np.vstack([y, x[rng.permutation(len(x))]])


def norm(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x, axis=-1)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(norm(x), 1e-300)[..., None]


def dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x * y).sum(axis=-1)


# ---------------------------------------------------------------------------------------- the contract


def test_constants_are_complete_and_the_assumptions_consistent(problem):
    c, claims = problem.constants, problem.assumptions
    assert c.f_star is not None
    assert claims >= {Assumption.SMOOTH, Assumption.UNBIASED, Assumption.BOUNDED_BELOW}
    assert (Assumption.BOUNDED_VARIANCE in claims) == math.isfinite(c.sigma)
    assert not any(claim.of_the_run for claim in claims)
    assert (Assumption.NOISELESS in claims) == (c.sigma == 0)
    assert (Assumption.SUB_GAUSSIAN in claims) == (c.sigma == 0 or problem.noise > 0)
    assert (Assumption.POLYAK_LOJASIEWICZ in claims) == (c.mu > 0)
    if Assumption.STRONGLY_CONVEX in claims:
        assert Assumption.CONVEX in claims


def test_value_and_gradient_are_batched_over_leading_axes(problem):
    x = heavy_tailed(problem, 6).reshape(2, 3, -1)
    value, gradient = problem.value(x), problem.gradient(x)
    assert value.shape == (2, 3) and gradient.shape == x.shape
    assert problem.gap(x).shape == (2, 3)
    for i in np.ndindex(2, 3):
        one = problem.value(x[i])
        assert np.shape(one) == ()
        assert one == pytest.approx(value[i], rel=ROUNDING, abs=0)
        scale = problem.constants.L * (1 + norm(x[i]))
        np.testing.assert_allclose(problem.gradient(x[i]), gradient[i], rtol=0, atol=ROUNDING * scale)
    np.testing.assert_array_equal(problem.gap(x), value - problem.constants.f_star)
    assert problem.value(np.empty((0, problem.dimension))).shape == (0,)


def test_gradient_is_the_derivative_of_the_value(problem):
    # For an L-smooth f a central difference of step h along a unit vector is off by at most L h/2.
    x = heavy_tailed(problem, 100)
    h, f, g = 1e-6, problem.value(x), problem.gradient(x)
    for v in (unit(np.random.default_rng(3).standard_normal(x.shape)), unit(g)):
        difference = (problem.value(x + h * v) - problem.value(x - h * v)) / (2 * h)
        allowed = problem.constants.L * h / 2 + 4 * EPS * (f + norm(g) * (norm(x) + h)) / h
        slope = dot(g, v)
        assert (np.abs(difference - slope) <= allowed).all()
    assert (allowed < 1e-3 * np.abs(slope)).sum() >= 20


def test_every_stochastic_gradient_is_lipschitz(problem):
    x, y = pairs(problem)
    minibatch = problem.sample(np.random.default_rng(4), len(x))
    change = norm(problem.stochastic_gradient(x, minibatch) - problem.stochastic_gradient(y, minibatch))
    L = problem.constants.L
    noise = 0.0 if minibatch is None or problem.noise == 0 else norm(minibatch)
    rounding = ROUNDING * (L * (1 + norm(x) + norm(y)) + noise)
    assert (change <= L * norm(x - y) + rounding).all()


def test_the_smoothness_constant_is_attained(case):
    example, problem = case
    x, minibatch = example.steepest(problem), example.worst_minibatch(problem)
    h = 1e-4
    columns = [
        (
            problem.stochastic_gradient([x + h * e], minibatch)
            - problem.stochastic_gradient([x - h * e], minibatch)
        )
        / (2 * h)
        for e in np.eye(problem.dimension)
    ]
    hessian = np.concatenate(columns)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-8 * problem.constants.L)
    assert np.linalg.norm(hessian, 2) == pytest.approx(problem.constants.L, rel=1e-6)


def test_f_star_is_the_least_value(problem):
    from scipy.optimize import minimize

    f_star = problem.constants.f_star
    assert (problem.value(heavy_tailed(problem, 2000)) >= f_star).all()
    found = min(
        minimize(problem.value, x0, jac=problem.gradient, method="BFGS", options={"gtol": 1e-9}).fun
        for x0 in (problem.start, -problem.start, problem.start + 8, problem.start - 8)
    )
    assert f_star <= found <= f_star + 1e-10


def test_the_minimizer_is_where_the_least_value_is_taken(problem):
    assert problem.minimizer.shape == (problem.dimension,)
    scale = max(1.0, abs(float(problem.value(problem.minimizer))))
    assert abs(float(problem.gap(problem.minimizer))) <= 1e-11 * scale
    offset = np.arange(1.0, problem.dimension + 1)
    squared = problem.squared_distance(np.stack([problem.minimizer, problem.minimizer + offset]))
    assert squared[0] == 0 and squared[1] == pytest.approx(offset @ offset, rel=1e-10)


def test_a_distance_needs_a_minimizer():
    class Unknown(Quadratic):
        def __init__(self):
            Problem.__init__(self, 2, [1.0, 1.0], L=1.0, f_star=0.0)

    with pytest.raises(DomainError, match="known minimizer"):
        Unknown().squared_distance([1.0, 1.0])
    with pytest.raises(DomainError, match=r"minimizer of shape \(2,\)"):
        Problem.__init__(Unknown.__new__(Unknown), 2, [1.0, 1.0], L=1.0, minimizer=[0.0])


def test_polyak_lojasiewicz_inequality(problem):
    from scipy.optimize import minimize

    mu, f_star = problem.constants.mu, problem.constants.f_star
    x = heavy_tailed(problem, 2000)
    near = minimize(problem.value, problem.start, jac=problem.gradient, method="BFGS").x
    x = np.vstack([x, near + x[:500] * 1e-3])
    # f_star may lie 1e-12 below the least value, relative to max(1, f), where it is computed.
    computed = 1e-12 * np.maximum(1.0, problem.value(x)) if f_star != 0 else 0.0
    squared = norm(problem.gradient(x)) ** 2
    assert (squared * (1 + ROUNDING) >= 2 * mu * (problem.gap(x) - computed)).all()


def test_convexity_and_strong_convexity(problem):
    curvature = -problem.constants.L  # smoothness alone
    if Assumption.CONVEX in problem.assumptions:
        curvature = 0.0
    if Assumption.STRONGLY_CONVEX in problem.assumptions:
        curvature = problem.constants.mu
    x, y = pairs(problem)
    fx, fy, g = problem.value(x), problem.value(y), problem.gradient(x)
    rounding = ROUNDING * (fx + fy + norm(g) * (norm(x) + norm(y)))
    assert (fy - fx - dot(g, y - x) >= curvature / 2 * norm(y - x) ** 2 - rounding).all()


def test_what_is_not_claimed_fails(problem):
    """Convexity and the Polyak-Lojasiewicz inequality are claimed wherever they hold."""
    x = np.linspace(-12.0, 12.0, 4801)[:, None] * np.ones(problem.dimension)
    f, g = problem.value(x), problem.gradient(x)
    if Assumption.CONVEX not in problem.assumptions:
        assert (np.diff(g[:, 0]) < -1e-9).any()
    if Assumption.POLYAK_LOJASIEWICZ not in problem.assumptions:
        high = f > problem.constants.f_star + 1e-3
        assert (norm(g[high]) ** 2 < 1e-3 * (f[high] - problem.constants.f_star)).any()


def test_noise(problem):
    x = heavy_tailed(problem, 7)
    minibatch = problem.sample(np.random.default_rng(8), 7)
    again = problem.sample(np.random.default_rng(8), 7)
    if Assumption.NOISELESS in problem.assumptions:
        assert minibatch is None and again is None
        np.testing.assert_array_equal(problem.stochastic_gradient(x, None), problem.gradient(x))
        return
    np.testing.assert_array_equal(minibatch, again)
    assert len(minibatch) == 7
    for row in range(7):
        one = problem.stochastic_gradient(x[row : row + 1], minibatch[row : row + 1])[0]
        many = problem.stochastic_gradient(x, minibatch)[row]
        np.testing.assert_allclose(
            one, many, rtol=1e-12, atol=ROUNDING * problem.constants.L * (1 + norm(x[row]))
        )
    if problem.noise:
        xi = np.random.default_rng(8).standard_normal(x.shape)  # mean 0, variance 1
        np.testing.assert_array_equal(
            problem.stochastic_gradient(x, minibatch), problem.gradient(x) + problem.noise * xi
        )
        assert problem.constants.sigma == pytest.approx(problem.noise * math.sqrt(problem.dimension), rel=EPS)


def test_a_diverged_row_is_not_contagious(problem):
    x = heavy_tailed(problem, 3)
    clean_value, clean_gradient = problem.value(x), problem.gradient(x)
    x[1] = np.nan
    value, gradient = problem.value(x), problem.gradient(x)
    assert np.isnan(value[1]) and np.isnan(gradient[1]).all()
    np.testing.assert_allclose(value[[0, 2]], clean_value[[0, 2]], rtol=ROUNDING)
    np.testing.assert_allclose(gradient[[0, 2]], clean_gradient[[0, 2]], rtol=1e-12)


def test_a_problem_is_immutable(problem):
    for name in ("start", "constants", "assumptions", "dimension", "noise", "name"):
        with pytest.raises(AttributeError, match=f"immutable: its {name}"):
            setattr(problem, name, getattr(problem, name))
        with pytest.raises(AttributeError, match="immutable"):
            delattr(problem, name)
    with pytest.raises(ValueError, match="read-only"):
        problem.start[0] = 0.0


def test_copies_behave_alike(problem):
    x = heavy_tailed(problem, 5)
    for twin in (copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        assert twin.constants == problem.constants and twin.assumptions == problem.assumptions
        np.testing.assert_array_equal(twin.gradient(x), problem.gradient(x))


def test_it_prints_as_what_it_is(problem):
    text = repr(problem)
    assert type(problem).__name__ in text and f"d = {problem.dimension}" in text
    assert f"L = {problem.constants.L:.6g}" in text
    assert problem.name and "\n" not in text


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_point_of_another_shape_is_refused(problem, extra):
    x = np.ones((4, problem.dimension + extra))
    for call in (
        problem.value,
        problem.gradient,
        problem.gap,
        lambda x: problem.stochastic_gradient(x, None),
    ):
        with pytest.raises(DomainError, match=rf"x of shape \(\.\.\., {problem.dimension}\)") as error:
            call(x)
        assert str(x.shape) in str(error.value)
    with pytest.raises(DomainError, match=r"x of shape"):
        problem.value(1.0)


def test_a_minibatch_of_another_shape_is_refused(problem):
    x = np.tile(problem.start, (3, 1))
    minibatch = problem.sample(np.random.default_rng(0), 4)
    if minibatch is None:
        with pytest.raises(DomainError, match="minibatch None"):
            problem.stochastic_gradient(x, np.zeros((3, problem.dimension)))
        return
    with pytest.raises(DomainError, match=r"minibatch of shape \(3, "):
        problem.stochastic_gradient(x, minibatch)
    with pytest.raises(DomainError, match="minibatch of shape"):
        problem.stochastic_gradient(x, None)


@pytest.mark.parametrize("replicas, kind", [(0, DomainError), (-1, DomainError), (1.5, TypeError)])
def test_the_number_of_replicas_is_checked(problem, replicas, kind):
    with pytest.raises(kind, match="replicas"):
        problem.sample(np.random.default_rng(0), replicas)


# ------------------------------------------------------------------------------------- all constructors


GAUSSIAN = {
    "quadratic": lambda **options: Quadratic([1.0, 2.0], **options),
    "piecewise": lambda **options: PiecewiseQuadratic([0.0], [0.0], 1.0, 1.0, dimension=2, **options),
    "flat and sharp": lambda **options: FlatAndSharp(dimension=2, **options),
    "rippled": lambda **options: RippledQuadratic(dimension=2, **options),
    "dense": lambda **options: DenseQuadratic(np.eye(2), **options),
    "own": lambda **options: FromFunctions(log_cosh, log_cosh_gradient, 2, L=2.0, **options),
}
CONSTRUCTORS = {
    **GAUSSIAN,
    "logistic": lambda **options: LogisticRegression(np.eye(2), [1, -1], 0.1, **options),
    "least squares": lambda **options: LeastSquares(np.eye(2), [1, -1], **options),
}


@pytest.mark.parametrize("make", CONSTRUCTORS.values(), ids=CONSTRUCTORS)
class TestCommonArguments:
    def test_start(self, make):
        given_start = np.array([0.5, -3.0])
        problem = make(start=given_start)
        given_start[:] = 7.0
        np.testing.assert_array_equal(problem.start, [0.5, -3.0])
        assert make(start=[1, 2]).start.dtype == np.float64

    @pytest.mark.parametrize("start", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], 1.0, []])
    def test_start_of_another_shape(self, make, start):
        with pytest.raises(DomainError, match=r"start of shape \(.*; got shape"):
            make(start=start)

    def test_start_not_finite(self, make):
        with pytest.raises(DomainError, match="finite start; got inf at index 1"):
            make(start=[0.0, np.inf])
        with pytest.raises(TypeError, match="start must be an array of real numbers"):
            make(start=["a", "b"])


@pytest.mark.parametrize("make", GAUSSIAN.values(), ids=GAUSSIAN)
@pytest.mark.parametrize("noise", [-0.1, np.nan, np.inf])
def test_noise_is_checked(make, noise):
    with pytest.raises(DomainError, match="standard deviation per coordinate noise"):
        make(noise=noise)


@pytest.mark.parametrize("make", [PiecewiseQuadratic, FlatAndSharp, RippledQuadratic])
@pytest.mark.parametrize("dimension, kind", [(0, DomainError), (-3, DomainError), (2.0, TypeError)])
def test_dimension_is_checked(make, dimension, kind):
    first = {"knots": [0], "derivatives": [0], "left": 1, "right": 1} if make is PiecewiseQuadratic else {}
    with pytest.raises(kind, match="dimension"):
        make(**first, dimension=dimension)


def test_a_problem_of_ones_own():
    class Cosine(Problem):
        """f(x) = -cos(x), f_star not given."""

        name = "cosine"

        def value(self, x):
            return -np.cos(self._points(x)).sum(axis=-1)

        def gradient(self, x):
            return np.sin(self._points(x))

    problem = Cosine(1, [0.5], L=1.0, noise=2.0)
    assert problem.constants.sigma == 2.0 and "f_star" not in repr(problem)
    assert problem.assumptions.isdisjoint({Assumption.CONVEX, Assumption.POLYAK_LOJASIEWICZ})
    with pytest.raises(DomainError, match="known f_star"):
        problem.gap([1.0])
    with pytest.raises(DomainError, match="smoothness constant"):
        Cosine(1, [0.5], L=0.0)
    with pytest.raises(TypeError, match="abstract"):
        Problem(1, [0.5], L=1.0)


def test_by_name():
    made = {name: make() for name, make in problems.BY_NAME.items()}
    assert {name: (type(p), p.dimension) for name, p in made.items()} == {
        "quadratic": (Quadratic, 20),
        "flat-and-sharp": (FlatAndSharp, 10),
        "rippled": (RippledQuadratic, 10),
        "least-squares": (LeastSquares, 10),
        "logistic": (LogisticRegression, 31),
    }
    assert all(Assumption.NOISELESS not in p.assumptions for p in made.values())
    assert (made["quadratic"].constants.L, made["quadratic"].constants.mu) == (1.0, 0.01)


def test_importing_is_light():
    code = (
        "import sys, rst_theory.problems as p; p.BY_NAME['quadratic']();"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'scipy', 'sklearn', 'sympy', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -------------------------------------------------------------------------------------------- quadratics


@given(
    st.lists(st.floats(1e-3, 1e3) | st.just(0.0), min_size=1, max_size=6).filter(any),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=60)
@example([0.0, 1.0], 0)
@example([1.0], 0)
def test_quadratic_is_its_matrix_form(eigenvalues, seed):
    problem = Quadratic(eigenvalues)
    H = np.diag(eigenvalues)
    x = np.random.default_rng(seed).standard_normal(len(eigenvalues))
    assert problem.value(x) == pytest.approx(x @ H @ x / 2, rel=1e-13)
    np.testing.assert_allclose(problem.gradient(x), H @ x, rtol=1e-13)
    positive = [v for v in eigenvalues if v > 0]
    assert (problem.constants.L, problem.constants.mu) == (max(positive), min(positive))
    assert (Assumption.STRONGLY_CONVEX in problem.assumptions) == (len(positive) == len(eigenvalues))
    assert Assumption.POLYAK_LOJASIEWICZ in problem.assumptions
    least = np.eye(len(eigenvalues))[eigenvalues.index(min(positive))]  # where mu is attained
    assert norm(problem.gradient(least)) ** 2 == pytest.approx(2 * problem.constants.mu * problem.gap(least))


@pytest.mark.parametrize(
    "eigenvalues, message",
    [
        ([1.0, -0.5], "eigenvalues >= 0; got -0.5 at index 1"),
        ([0.0, 0.0], "at least one eigenvalue > 0"),
        ([1.0, np.nan], "finite eigenvalues; got nan at index 1"),
        ([], "not empty"),
        ([[1.0]], r"eigenvalues of shape \(d,\)"),
        (2.0, r"eigenvalues of shape \(d,\)"),
    ],
)
def test_bad_eigenvalues(eigenvalues, message):
    with pytest.raises(DomainError, match=message):
        Quadratic(eigenvalues)
    with pytest.raises(TypeError, match="eigenvalues must be an array of real numbers"):
        Quadratic("abc")


def test_random_quadratic_has_the_spectrum_it_says():
    problem = Quadratic.random(4000, L=10.0, mu=1e-3, noise=0.25, seed=3)
    lam = problem.eigenvalues
    assert (lam.min(), lam.max()) == (1e-3, 10.0) == (problem.constants.mu, problem.constants.L)
    assert problem.noise == 0.25 and problem.dimension == 4000
    # Log-uniform: the Kolmogorov distance exceeds sqrt(ln(2/a)/(2 n)) with probability at most a
    # (Dvoretzky, Kiefer, Wolfowitz, Massart).
    inner = np.sort(lam)[1:-1]
    u = np.log(inner / 1e-3) / np.log(1e4)
    n = len(u)
    distance = np.maximum(np.arange(1, n + 1) / n - u, u - np.arange(n) / n).max()
    assert distance < math.sqrt(math.log(2 / COMPARISON_ALARM) / (2 * n))
    np.testing.assert_array_equal(lam, Quadratic.random(4000, L=10.0, mu=1e-3, seed=3).eigenvalues)
    assert not np.array_equal(lam, Quadratic.random(4000, L=10.0, mu=1e-3, seed=4).eigenvalues)


def test_random_quadratic_at_the_edges():
    assert Quadratic.random(1, L=2.0, mu=2.0).eigenvalues.tolist() == [2.0]
    assert Quadratic.random(2, L=2.0, mu=0.5).eigenvalues.tolist() == [0.5, 2.0]
    assert set(Quadratic.random(7, L=0.3, mu=0.3).eigenvalues.tolist()) == {0.3}
    wide = Quadratic.random(9, L=1e300, mu=1e-300).eigenvalues
    assert np.isfinite(wide).all() and (wide[0], wide[-1]) == (1e-300, 1e300) and len(set(wide)) == 9
    for bad in (
        {"mu": 0.0},
        {"mu": 2.0},
        {"mu": -1.0},
        {"L": 0.0},
        {"L": np.inf},
        {"dimension": 0},
        {"seed": -1},
    ):
        with pytest.raises(DomainError):
            Quadratic.random(**{"dimension": 5, **bad})
    with pytest.raises(DomainError, match="one dimension"):
        Quadratic.random(1, L=1.0, mu=0.5)


# --------------------------------------------------------------------------------- logistic regression


def exact_logistic(features, labels, l2, x):
    """Value and gradient to 40 digits."""
    import mpmath

    with mpmath.workdps(40):
        z = [[mpmath.mpf(float(v)) * int(y) for v in row] for row, y in zip(features, labels, strict=True)]
        x = [mpmath.mpf(float(v)) for v in x]
        l2, n = mpmath.mpf(float(l2)), len(z)
        margins = [mpmath.fdot(row, x) for row in z]
        value = mpmath.fsum(mpmath.log1p(mpmath.exp(-m)) for m in margins) / n + l2 / 2 * mpmath.fdot(x, x)
        s = [1 / (1 + mpmath.exp(m)) for m in margins]
        gradient = [l2 * x[j] - mpmath.fsum(s[i] * z[i][j] for i in range(n)) / n for j in range(len(x))]
        return value, gradient


@given(st.integers(0, 2**32 - 1), st.floats(-3, 4), st.integers(1, 12), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_logistic_value_and_gradient_to_forty_digits(seed, scale, n, d):
    rng = np.random.default_rng(seed)
    features, labels = rng.standard_normal((n, d)), rng.choice([-1, 1], n)
    x = 10.0**scale * rng.standard_normal(d)
    problem = LogisticRegression(features, labels, 0.01)
    value, gradient = exact_logistic(features, labels, 0.01, x)
    # The terms of a margin may cancel, so the errors are relative to their size.
    size = 1 + np.abs(features) @ np.abs(x)
    assert float(abs(problem.value(x) - value)) <= ROUNDING * (size.mean() + float(value))
    error = [float(abs(g - e)) for g, e in zip(problem.gradient(x), gradient, strict=True)]
    assert max(error) <= ROUNDING * (np.abs(features).max() * size.max() + np.abs(x).max())


def shortfall(features, labels, l2):
    """By how much the problem's f_star lies below the least value, from damped Newton in 60 digits."""
    import mpmath

    f_star = LogisticRegression(features, labels, l2).constants.f_star
    with mpmath.workdps(60):
        z = mpmath.matrix((np.asarray(labels)[:, None] * np.asarray(features)).tolist())
        x, regular, n = mpmath.zeros(z.cols, 1), mpmath.mpf(l2), z.rows

        def value(x):
            losses = mpmath.fsum(mpmath.log1p(mpmath.exp(-m)) for m in z * x)
            return losses / n + regular / 2 * (x.T * x)[0]

        for _ in range(100):
            s = [1 / (1 + mpmath.exp(m)) for m in z * x]
            g = regular * x - z.T * mpmath.matrix(s) / n
            if mpmath.norm(g) ** 2 < 2 * regular * mpmath.mpf(10) ** -24:
                return float(value(x) - mpmath.mpf(f_star))
            hessian = z.T * mpmath.diag([v * (1 - v) for v in s]) * z / n + regular * mpmath.eye(z.cols)
            p, t = mpmath.lu_solve(hessian, g), mpmath.mpf(1)
            while value(x - t * p) > value(x) - t / 4 * (g.T * p)[0]:
                t /= 2
            x -= t * p
    raise AssertionError("the reference did not converge")


@given(
    st.integers(0, 2**32 - 1),
    st.floats(-6, 2),
    st.integers(1, 8),
    st.integers(1, 3),
    st.floats(-2, 2),
)
@settings(deadline=None, max_examples=60)
@example(seed=0, log_l2=-6.0, n=1, d=1, log_scale=2.0)
@example(seed=0, log_l2=-12.0, n=3, d=3, log_scale=0.0)  # separable: the minimizer is far away
@example(seed=53401, log_l2=-3.0, n=3, d=3, log_scale=2.0)
def test_f_star_is_a_certified_lower_bound(seed, log_l2, n, d, log_scale):
    rng = np.random.default_rng(seed)
    features, labels = 10.0**log_scale * rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], n)
    assert 0 <= shortfall(features, labels, 10.0**log_l2) <= 1e-12


def test_f_star_where_newtons_method_needs_its_safeguards():
    # Full steps from 0 cycle here.
    rows = [[39.8, -15.7], [-1192.2, -237.8], [0.29, 0.27], [-0.78, -0.46]]
    assert 0 <= shortfall(rows, [1, 1, 1, 1], 0.00155) <= 1e-12
    # The last steps lower f by less than its rounding, and yet the bound needs them.
    rows = [[0.7014195693445817], [-1.6013102274733777], [0.12219455676021218]]
    assert 0 <= shortfall(rows, [1, 1, 1], 4.971961590159905e-08) <= 1e-12


def test_breast_cancer_is_scikit_learns_problem():
    from scipy.optimize import minimize
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression as Oracle

    features, labels = breast_cancer_oracle()
    for l2 in (1e-4, 1e-2, 1.0):
        problem = LogisticRegression.breast_cancer(l2)
        assert problem.dimension == 31 and problem.l2 == l2
        x = np.random.default_rng(0).standard_normal((5, 31))
        margins = labels * (x @ features.T)
        expected = np.logaddexp(0, -margins).mean(axis=1) + l2 / 2 * (x**2).sum(axis=1)
        np.testing.assert_allclose(problem.value(x), expected, rtol=1e-12)
        slope = -(expit(-margins) * labels) @ features / len(labels) + l2 * x
        np.testing.assert_allclose(problem.gradient(x), slope, rtol=1e-10, atol=1e-12)

        fit = Oracle(C=1 / (len(labels) * l2), fit_intercept=False, solver="newton-cholesky", tol=1e-12)
        weights = fit.fit(features, labels).coef_[0]
        assert norm(problem.gradient(weights)) < 1e-9
        assert 0 <= problem.gap(weights) <= 1e-12
        found = minimize(problem.value, problem.start, jac=problem.gradient, method="L-BFGS-B", tol=1e-14)
        assert 0 <= problem.gap(found.x) <= 1e-8


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_minibatch_gradients_are_unbiased_and_of_bounded_variance(batch):
    """Exactly, by enumeration of the rows, and for batch = 2 of all pairs of rows."""
    problem = LogisticRegression(BENIGN, BENIGN_LABELS, 0.1, batch=batch)
    n = len(BENIGN)
    batches = np.array(list(itertools.product(range(n), repeat=2)) if batch == 2 else np.arange(n)[:, None])
    if batch == 5:  # a minibatch of equal rows is that row
        batches = np.repeat(batches, 5, axis=1)
    rows_alone = 1 if batch == 2 else batch
    ratios = []
    for x in heavy_tailed(problem, 300):
        g = problem.gradient(x)
        each = problem.stochastic_gradient(np.tile(x, (len(batches), 1)), batches)
        np.testing.assert_allclose(each.mean(axis=0), g, atol=1e-12 * (1 + norm(x)))
        variance = (norm(each - g) ** 2).mean() / rows_alone
        ratios.append(variance / problem.constants.sigma**2)
    assert max(ratios) <= 1
    assert max(ratios) > 0.6  # the bound says something


def test_the_variance_may_exceed_that_of_the_rows():
    """Rows 1 and 2, both labelled 1: at x = -1.2 the two gradients differ by more than the rows do."""
    problem = LogisticRegression([[1.0], [2.0]], [1, 1], 0.1, batch=1)
    each = problem.stochastic_gradient([[-1.2], [-1.2]], np.array([[0], [1]]))[:, 0]
    assert each.var() == pytest.approx((2 / (1 + math.exp(-2.4)) - 1 / (1 + math.exp(-1.2))) ** 2 / 4)
    assert np.var([1.0, 2.0]) < each.var() <= problem.constants.sigma**2


def test_the_variance_bound_is_sharper_than_the_mean_square_and_nearly_attained():
    features, labels = breast_cancer_oracle()
    problem = LogisticRegression.breast_cancer(batch=1)
    bound = problem.constants.sigma**2
    assert bound < 0.76 * (features**2).sum(axis=1).mean()
    worst = 0.0
    for radius in (0.1, 1.0, 10.0, 100.0, 1000.0):
        x = -radius * (labels[:, None] * features).mean(axis=0)
        each = problem.stochastic_gradient(np.tile(x, (569, 1)), np.arange(569)[:, None])
        worst = max(worst, (norm(each - problem.gradient(x)) ** 2).mean())
    assert 0.85 * bound < worst <= bound


def test_minibatches_are_drawn_uniformly_with_replacement():
    problem = LogisticRegression(BENIGN, BENIGN_LABELS, 0.1, batch=1000)
    minibatch = problem.sample(np.random.default_rng(0), 3)
    assert minibatch.shape == (3, 1000) and minibatch.dtype.kind == "i"
    missed = 40 * (39 / 40) ** 3000  # bounds the probability that a row is in none
    assert missed < COMPARISON_ALARM
    assert set(minibatch.ravel()) == set(range(40))
    np.testing.assert_array_equal(minibatch, np.random.default_rng(0).integers(40, size=(3, 1000)))


def test_row_indices_are_checked():
    problem = LogisticRegression(BENIGN, BENIGN_LABELS, 0.1, batch=2)
    x = np.zeros((1, 3))
    for bad in ([[-1, 0]], [[0, 40]]):
        with pytest.raises(DomainError, match=r"0 <= index < 40; got (-1|40)\.0 at index \(0, [01]\)"):
            problem.stochastic_gradient(x, np.array(bad))
    with pytest.raises(DomainError, match="integers; got float64"):
        problem.stochastic_gradient(x, np.array([[0.0, 1.0]]))


@pytest.mark.parametrize(
    "arguments, kind, message",
    [
        ({"labels": [1, 0]}, DomainError, r"labels in \{-1, \+1\}; got 0.0 at index 1"),
        ({"labels": [1, np.nan]}, DomainError, "finite labels"),
        ({"labels": [1]}, DomainError, "as many labels as rows of features, 2; got 1"),
        ({"labels": [[1, -1]]}, DomainError, r"labels of shape \(n,\)"),
        ({"features": [[1.0], [np.inf]]}, DomainError, r"finite features; got inf at index \(1, 0\)"),
        ({"features": [1.0, 2.0]}, DomainError, r"features of shape \(n, d\)"),
        ({"features": np.empty((0, 3)), "labels": []}, DomainError, "not empty"),
        ({"features": [["a"], ["b"]]}, TypeError, "features must be an array of real numbers"),
        ({"features": [[1.0], [2.0, 3.0]]}, TypeError, "features must be an array of real numbers"),
        ({"features": [[1e200], [1.0]]}, DomainError, "smoothness constant L"),
        ({"l2": 0.0}, DomainError, "regularization l2"),
        ({"l2": -1.0}, DomainError, "regularization l2"),
        ({"l2": np.nan}, DomainError, "regularization l2"),
        ({"batch": 0}, DomainError, "1 <= batch; got 0"),
        ({"batch": 1.5}, TypeError, "batch must be an integer"),
    ],
)
def test_bad_logistic_arguments(arguments, kind, message):
    with pytest.raises(kind, match=message):
        LogisticRegression(**{"features": [[1.0], [2.0]], "labels": [1, -1], "l2": 0.1, **arguments})


def test_a_least_value_that_rounding_hides_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ArithmeticError, match="least value could not be found"):
        LogisticRegression(1e8 * rng.standard_normal((30, 2)), rng.choice([-1, 1], 30), 1e-14)


def test_raw_features_and_a_small_regularization_are_no_obstacle():
    from sklearn.datasets import load_breast_cancer

    features, target = load_breast_cancer(return_X_y=True)  # up to 4254
    problem = LogisticRegression(features, 2 * target - 1, 1e-4)
    assert 0 < problem.constants.f_star < problem.value(problem.start)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"rst-theory\[experiments\]"):
        LogisticRegression.breast_cancer()


# ----------------------------------------------------------------------------------- piecewise quadratics

QUARTERS = st.integers(-8, 8).map(lambda k: k / 4)
OUTER = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])


@st.composite
def piecewise(draw: st.DrawFn) -> tuple[list[float], list[float], float, float]:
    knots = sorted(draw(st.sets(QUARTERS, min_size=1, max_size=6)))
    derivatives = [draw(QUARTERS) for _ in knots]
    left, right = draw(OUTER), draw(OUTER)
    assume(left > 0 or derivatives[0] <= 0)
    assume(right > 0 or derivatives[-1] >= 0)
    assume(any(derivatives) or left or right)
    return knots, derivatives, left, right


def derivative(knots, derivatives, left, right, x):
    """phi' by interpolation."""
    inside = np.interp(x, knots, derivatives)
    return inside + left * np.minimum(x - knots[0], 0) + right * np.maximum(x - knots[-1], 0)


@given(piecewise())
@settings(deadline=None, max_examples=150)
@example(FLOOR)
@example(([0.0], [0.0], 0.0, 1.0))
@example(([0.0, 1.0], [0.0, 0.0], 1.0, 2.0))  # flat at the minimum
@example(([0.0, 1.0], [0.5, 0.5], 1.0, 1.0))  # a minimizer left of the knots
@example(([0.0, 1.0], [-1.0, -1.0], 0.0, 1.0))  # a line to the left: no Polyak-Lojasiewicz inequality
@example(([-1.0, 0.0, 1.0], [-0.25, 0.0, 0.25], 1.0, 1.0))
@example(([-1.0, 0.0, 1.0, 2.0], [-1.0, 1.0, -1.0, 1.0], 1.0, 1.0))  # two minima of equal height
@example(([0.0, 0.25], [0.0, 0.0], 0.0, 0.25))
@example(([0.0, 1.0, 2.0], [0.0, 1.0, 0.0], 0.0, 0.0))
def test_piecewise_quadratic_against_interpolation_and_quadrature(case):
    knots = case[0]
    problem = PiecewiseQuadratic(*case)
    c, claims = problem.constants, problem.assumptions
    h = 1 / 512
    grid = np.union1d(np.arange(-24.0, 24.0 + h, h), knots)
    slope = derivative(*case, grid)
    np.testing.assert_allclose(problem.gradient(grid[:, None])[:, 0], slope, rtol=0, atol=1e-12)

    # The trapezoid rule is exact for phi' between the knots.
    f = problem.value(grid[:, None])
    integral = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(grid))])
    np.testing.assert_allclose(f - f[0], integral, rtol=0, atol=1e-9)
    assert 0 <= f.min() <= c.L * h**2 / 2  # a minimizer lies on the grid, or within h of it
    assert c.f_star == 0.0

    curvature = np.diff(slope) / np.diff(grid)
    assert abs(c.L - np.abs(curvature).max()) <= 1e-9 * c.L
    assert (Assumption.CONVEX in claims) == (curvature.min() > -1e-9)
    assert (Assumption.STRONGLY_CONVEX in claims) == (curvature.min() > 1e-9)
    if Assumption.STRONGLY_CONVEX in claims:
        assert c.mu == pytest.approx(curvature.min(), rel=1e-9)
        return
    # The Polyak-Lojasiewicz constant: never violated, and approached on the grid or far away.
    far = np.concatenate([-np.geomspace(30, 1e6, 50), np.geomspace(30, 1e6, 50)])
    points = np.concatenate([grid, far])
    g, gap = problem.gradient(points[:, None])[:, 0], problem.gap(points[:, None])
    ratio = g[gap > 1e-9] ** 2 / (2 * gap[gap > 1e-9])
    assert c.mu <= ratio.min() * (1 + 1e-9)
    assert ratio.min() <= c.mu + 5e-3
    assert (Assumption.POLYAK_LOJASIEWICZ in claims) == (c.mu > 0)


@given(piecewise(), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_a_separable_sum_adds_its_coordinates(case, dimension):
    one, many = PiecewiseQuadratic(*case), PiecewiseQuadratic(*case, dimension=dimension)
    x = np.random.default_rng(0).normal(scale=4.0, size=(20, dimension))
    np.testing.assert_allclose(many.value(x), sum(one.value(x[:, [i]]) for i in range(dimension)), rtol=1e-12)
    np.testing.assert_array_equal(
        many.gradient(x), np.hstack([one.gradient(x[:, [i]]) for i in range(dimension)])
    )
    assert many.constants == one.constants


def test_the_gap_keeps_its_relative_accuracy_near_a_minimum():
    problem = PiecewiseQuadratic([-3.0, 0.0, 3.0], [1.0, -5.0, 1.0], 2.0, 0.5)  # minimized at 2.5
    x = 2.5 + np.array([[1e-9], [-1e-9]])
    assert problem.gap(x) == pytest.approx((x[:, 0] - 2.5) ** 2, rel=1e-9)
    assert problem.gradient(x)[:, 0] == pytest.approx(2 * (x[:, 0] - 2.5), rel=1e-9)
    steep = PiecewiseQuadratic([-1e6, 0.0, 1e-6, 1.0], [-1e6, 0.0, 2e-6, 3.0], 1.0, 1.0)
    assert steep.gap([2e-6]) == pytest.approx(4.5e-12, rel=1e-5, abs=0)  # 1 + 2 + 3/2


def test_the_floor_instance():
    """Slopes 1, -1, 1 and 0; f falls from 0 at the plateau right, as integrated by hand in w and G."""
    problem = PiecewiseQuadratic(*FLOOR, start=[0.0])
    assert abs(problem.constants.L - 1.0) <= 1e-12
    assert problem.slopes.tolist() == pytest.approx([0.0, 1.0, -1.0, 1.0, 0.0], abs=1e-12)
    assert problem.gradient([0.0]) == pytest.approx([G], rel=1e-12)
    assert problem.value([-G]) == 0.0 and problem.gradient([-3.0]) == 0.0
    assert problem.value([0.0]) == pytest.approx(G**2 / 2, rel=1e-12)
    assert Assumption.POLYAK_LOJASIEWICZ not in problem.assumptions


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"knots": [1.0, 0.0]}, "increasing knots; got 0.0 at index 1"),
        ({"knots": [1.0, 1.0]}, "increasing knots; got 1.0 at index 1"),
        ({"knots": [0.0, np.nan]}, "finite knots; got nan at index 1"),
        ({"knots": [0.0]}, "as many derivatives as knots, 1; got 2"),
        ({"knots": []}, "not empty"),
        ({"derivatives": [0.0, np.inf]}, "finite derivatives; got inf at index 1"),
        ({"derivatives": [-1e308, 1e308]}, "finite slopes; got inf at index 1"),
        ({"left": np.nan}, "finite slopes; got nan at index 0"),
        ({"left": -0.5}, "phi bounded below.*left = -0.5"),
        ({"right": -0.5}, "phi bounded below.*right = -0.5"),
        ({"left": 0.0, "derivatives": [0.5, 1.0]}, "phi bounded below"),
        ({"right": 0.0, "derivatives": [-1.0, -0.5]}, "phi bounded below"),
        ({"left": 0.0, "right": 0.0, "derivatives": [0.0, 0.0]}, "smoothness constant L"),
        ({"knots": [0.0, 1e300], "derivatives": [1e100, 1e100]}, "phi finite at the knots"),
    ],
)
def test_bad_piecewise_arguments(arguments, message):
    good = {"knots": [0.0, 1.0], "derivatives": [-1.0, 1.0], "left": 1.0, "right": 1.0}
    with pytest.raises(DomainError, match=message):
        PiecewiseQuadratic(**{**good, **arguments})


# ---------------------------------------------------------------------------------------- flat and sharp


@given(st.floats(0.1, 10.0), st.floats(0.01, 0.95), st.floats(0.1, 3.0), st.floats(-2.0, 0.95))
@settings(deadline=None, max_examples=80)
@example(1.0, 0.1, 1.0, 0.0)
def test_flat_and_sharp_minima_are_where_and_what_it_says(L, ratio, width, rise):
    flat, rise = ratio * L, rise * L * width**2
    problem = FlatAndSharp(L, flat, width, rise)
    assert abs(problem.constants.L - L) <= 1e-9 * L and problem.constants.mu == 0.0
    assert problem.flat.value - problem.sharp.value == pytest.approx(rise, abs=1e-12)
    assert min(problem.flat.value, problem.sharp.value) == 0.0
    assert (problem.sharp.curvature, problem.flat.curvature) == (L, flat)
    scale = L * width * max(1.0, problem.flat.point)
    h = 1e-6 * width
    for minimum in (problem.sharp, problem.flat):
        x = minimum.point
        assert problem.value([x]) == pytest.approx(minimum.value, abs=1e-12 * scale)
        assert problem.gradient([x]) == pytest.approx([0.0], abs=1e-12 * scale)
        around = problem.gradient([[x - h], [x + h]])[:, 0]
        assert around / h == pytest.approx([-minimum.curvature, minimum.curvature], rel=1e-6)
    top = 2 * width
    assert problem.gradient([top]) == pytest.approx([0.0], abs=1e-12 * scale)
    assert problem.value([top]) - problem.sharp.value == pytest.approx(L * width**2, rel=1e-9)
    assert problem.gradient([[top - h], [top + h]])[:, 0] / h == pytest.approx([L, -L], rel=1e-6)
    assert problem.start == width and problem.gradient(problem.start) == pytest.approx([L * width], rel=1e-9)


def test_minima_of_equal_height_are_both_at_f_star():
    rng = np.random.default_rng(0)
    for L, ratio, width in zip(*rng.uniform(0.1, 0.9, (3, 200)), strict=True):
        problem = FlatAndSharp(L, ratio * L, width)
        both = problem.gap([[problem.sharp.point], [problem.flat.point]])
        assert (both >= 0).all() and both.max() < 1e-13


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sharp_curvature": 0.0}, "sharp_curvature"),
        ({"sharp_curvature": np.nan}, "sharp_curvature"),
        ({"flat_curvature": 0.0}, r"flat_curvature in \(0, 1\)"),
        ({"flat_curvature": 1.0}, r"flat_curvature in \(0, 1\)"),
        ({"width": 0.0}, "width"),
        ({"rise": 1.0}, r"rise in \(-inf, 1\)"),
        ({"rise": np.nan}, "rise"),
        ({"rise": 0.25, "width": 0.5}, r"rise in \(-inf, 0.25\)"),
    ],
)
def test_bad_flat_and_sharp_arguments(arguments, message):
    with pytest.raises(DomainError, match=message):
        FlatAndSharp(**arguments)


# --------------------------------------------------------------------------------------- rippled quadratic

UPPER = (math.pi + 1) / 2
AMPLITUDES = st.floats(0.5, UPPER, exclude_min=True, exclude_max=True)


@given(AMPLITUDES)
@settings(deadline=None, max_examples=50)
@example(0.5000001)
@example(1.0)
@example(math.nextafter(UPPER, 0))
def test_rippled_constants_at_every_amplitude(a):
    problem = RippledQuadratic(a)
    x = np.concatenate(
        [np.geomspace(1e-6, 9e-3, 200), np.linspace(1e-2, 12.0, 6001), np.geomspace(12.1, 1e6, 300)]
    )
    f = x**2 / 2 + a * np.sin(x) ** 2
    slope = x + a * np.sin(2 * x)
    np.testing.assert_allclose(problem.value(x[:, None]), f, rtol=1e-13)
    np.testing.assert_allclose(problem.gradient(-x[:, None])[:, 0], -slope, rtol=1e-13)
    assert (problem.constants.L, problem.constants.f_star) == (1 + 2 * a, 0.0)
    assert 0 < problem.constants.mu <= (slope**2 / (2 * f)).min()
    assert (np.diff(slope) / np.diff(x) < 0).any() == (a > 0.5 + 1e-5)


def test_rippled_proof_step_by_step():
    """The algebra of the docstring, by SymPy; the elementary inequalities on a grid."""
    import sympy

    a, P, x = sympy.symbols("a P x", positive=True)
    f = x**2 / 2 + a * sympy.sin(x) ** 2
    assert sympy.simplify(f.diff(x) - (x + a * sympy.sin(2 * x))) == 0
    assert sympy.simplify(f.diff(x, 2) - (1 + 2 * a * sympy.cos(2 * x))) == 0

    least = 2 * a**2 + (1 - 4 * P) * a + 2 * P**2 - 2 * P - 2
    assert sympy.expand((1 + 2 * a) * (P - a) ** 2 - (P**2 + 2 * a) - a * least) == 0
    assert sympy.expand(least.subs(a, sympy.Rational(1, 2)) - (2 * P**2 - 4 * P - 1)) == 0
    assert sympy.expand(least.subs(a, P) - (-P - 2)) == 0
    value = (sympy.pi + 1) / 2
    assert (2 * value**2 - 4 * value - 1).evalf(30) < 0

    line = a * sympy.pi - (2 * a - 1) * x  # x + a (pi - 2 x)
    assert sympy.expand(line - (x + a * (sympy.pi - 2 * x))) == 0
    assert sympy.expand(line.subs(x, value) - (value - a)) == 0
    outer = (x - a) ** 2 / (x**2 + 2 * a)
    increase = sympy.factor(outer.diff(x) * (x**2 + 2 * a) ** 2 / (2 * (x - a)))
    assert sympy.expand(increase - a * (x + 2)) == 0
    mu = RippledQuadratic(1.0).constants.mu
    assert mu == pytest.approx(float(outer.subs({a: 1, x: value}).evalf(30)), rel=1e-14)

    middle = np.linspace(math.pi / 2, UPPER, 1001)
    assert (np.sin(2 * middle) >= math.pi - 2 * middle - 1e-15).all()


def test_what_the_docstring_says_of_the_best_constant():
    import mpmath

    def ratio(x):
        return (x + mpmath.sin(2 * x)) ** 2 / (x**2 + 2 * mpmath.sin(x) ** 2)

    x = mpmath.findroot(mpmath.diff(ratio, 2.1) and (lambda x: mpmath.diff(ratio, x)), 2.16)
    assert float(ratio(x)) == pytest.approx(0.25258, abs=1e-5)
    assert RippledQuadratic().constants.mu == pytest.approx(0.18234, abs=1e-5)
    tangent = mpmath.findroot(lambda u: u * mpmath.cos(u) - mpmath.sin(u), 4.5)  # least sin(u)/u
    assert float(-tangent / (2 * mpmath.sin(tangent))) == pytest.approx(2.3017, abs=1e-4)


@pytest.mark.parametrize("amplitude", [0.5, 0.0, -1.0, UPPER, 5.0, np.nan])
def test_bad_amplitude(amplitude):
    with pytest.raises(DomainError, match=r"amplitude a.* in \(0.5, 2.0708\)"):
        RippledQuadratic(amplitude)
