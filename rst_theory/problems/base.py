"""What a problem is: an objective, its stochastic gradients, and the constants that are proved of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from rst_theory.notation import (
    Assumption,
    DomainError,
    FloatArray,
    Interval,
    ProblemConstants,
    Quantity,
    natural,
)
from rst_theory.problems.form import Form, InTorch

if TYPE_CHECKING:
    import torch

Minibatch: TypeAlias = "npt.NDArray[Any] | None"
"""The randomness xi of one step, one row for each replica; None where gradients are exact."""

_NOISE = Quantity("noise", "standard deviation per coordinate", "s", Interval(low=0.0))

_ALWAYS = frozenset(
    {Assumption.SMOOTH, Assumption.UNBIASED, Assumption.BOUNDED_VARIANCE, Assumption.BOUNDED_BELOW}
)
_STRONGLY_CONVEX = frozenset({Assumption.STRONGLY_CONVEX, Assumption.CONVEX, Assumption.POLYAK_LOJASIEWICZ})


class Randomness(Protocol):
    """Where the noise of a run comes from: `numpy.random.Generator`, or an engine's own streams."""

    def standard_normal(self, size: tuple[int, int], /) -> FloatArray:
        """Independent standard normal numbers: float64 of that shape."""

    def integers(self, high: int, /, *, size: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Independent uniform integers 0 <= i < high: int64 of that shape."""


class Problem(ABC):
    """An objective f on R^d with stochastic gradients grad f(x; xi) and known constants.

    A problem is immutable. A subclass writes `value` and `gradient`, and proves its constants in its
    docstring. Unless it says otherwise its gradients carry Gaussian noise,
    grad f(x; xi) = grad f(x) + noise * xi with xi standard normal in R^d: unbiased, of variance
    noise^2 d = sigma^2, and L-Lipschitz for each xi where grad f is.

    A row of x that holds a NaN or an infinity gives such a value in that row alone: one diverged replica
    does not stop the others.

    Args:
        dimension: d >= 1.
        start: the point that runs start from, shape (d,).
        L: Lipschitz constant of every stochastic gradient.
        mu: strong-convexity constant, or where f is not strongly convex the Polyak-Lojasiewicz constant.
        f_star: the least value, or a lower bound.
        claims: what the objective satisfies beyond what every problem here does: convexity, strong
            convexity (which implies the other two), the Polyak-Lojasiewicz inequality.
        noise: standard deviation of the gradient noise per coordinate.
        sigma: where the noise is not that Gaussian: the bound on E||grad f(x; xi) - grad f(x)||^2,
            square root taken; infinity where it is unbounded over x.
        minimizer: a point where f is f_star, shape (d,); None where none is known.

    Attributes:
        name: what the family is called in tables.
        dimension: d.
        start: float64 (d,), read-only.
        noise: as above.
        minimizer: float64 (d,), read-only: what distances are measured from; None where none is known.
        constants: L, mu, sigma and f_star; sigma is infinity where no bound holds for all x.
        assumptions: what the objective satisfies; NOISELESS is among them where sigma = 0, SUB_GAUSSIAN
            where the noise is Gaussian or none, and BOUNDED_VARIANCE unless sigma is infinity.

    Raises:
        DomainError: an argument outside its domain.
    """

    name: ClassVar[str]

    dimension: int
    start: FloatArray
    noise: float
    minimizer: FloatArray | None
    constants: ProblemConstants
    assumptions: frozenset[Assumption]

    def __init__(
        self,
        dimension: int,
        start: npt.ArrayLike,
        *,
        L: float,
        mu: float = 0.0,
        f_star: float | None = None,
        claims: Iterable[Assumption] = (),
        noise: float = 0.0,
        sigma: float | None = None,
        minimizer: npt.ArrayLike | None = None,
    ) -> None:
        self.dimension = natural("dimension", dimension, least=1)
        self.start = real_array("start", start, "d")
        self.minimizer = None if minimizer is None else real_array("minimizer", minimizer, "d")
        for name, point in (("start", self.start), ("minimizer", self.minimizer)):
            if point is not None and point.size != self.dimension:
                raise DomainError(f"{name} of shape ({self.dimension},)", f"shape {point.shape}")
        self.noise = _NOISE.check(noise)
        gaussian = sigma is None
        sigma = self.noise * math.sqrt(self.dimension) if sigma is None else sigma
        assumptions = _ALWAYS.union(claims)
        self.constants = ProblemConstants(L=L, mu=mu, sigma=sigma, f_star=f_star)
        if sigma == math.inf:
            assumptions -= {Assumption.BOUNDED_VARIANCE}
        if Assumption.STRONGLY_CONVEX in assumptions:
            assumptions |= _STRONGLY_CONVEX
        if sigma == 0:
            assumptions |= {Assumption.NOISELESS}
        if gaussian or sigma == 0:
            assumptions |= {Assumption.SUB_GAUSSIAN}
        self.assumptions = assumptions

    @abstractmethod
    def value(self, x: npt.ArrayLike) -> FloatArray:
        """The value of f: shape (..., d) to shape (...).

        Raises:
            DomainError: the last axis of x is not of length d.
        """

    @abstractmethod
    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        """The gradient of f: shape (..., d) to shape (..., d).

        Raises:
            DomainError: the last axis of x is not of length d.
        """

    def gap(self, x: npt.ArrayLike) -> FloatArray:
        """The gap f(x) - f_star: shape (..., d) to shape (...).

        Raises:
            DomainError: no lower bound of f is known, or the last axis of x is not of length d.
        """
        if self.constants.f_star is None:
            raise DomainError("a problem with a known f_star", self)
        return self.value(x) - self.constants.f_star

    def squared_distance(self, x: npt.ArrayLike) -> FloatArray:
        """The squared distance ||x - x_star||^2 to the minimizer: shape (..., d) to shape (...).

        Raises:
            DomainError: no minimizer is known, or the last axis of x is not of length d.
        """
        if self.minimizer is None:
            raise DomainError("a problem with a known minimizer", self)
        return np.asarray(((self._points(x) - self.minimizer) ** 2).sum(axis=-1))

    def sample(self, generator: Randomness, replicas: int) -> Minibatch:
        """The randomness xi of one step, drawn independently for each replica.

        The draw depends on the generator and the number of replicas alone, so methods that are given
        equal generators see equal noise.

        Returns:
            float64 (replicas, d), the noise; None where gradients are exact.
        """
        replicas = natural("replicas", replicas, least=1)
        if self.noise == 0:
            return None
        return self.noise * generator.standard_normal((replicas, self.dimension))

    def stochastic_gradient(self, x: npt.ArrayLike, minibatch: Minibatch) -> FloatArray:
        """The gradient of f(.; xi) at x, row by row.

        A sharpness-aware step calls it twice with the same minibatch.

        Args:
            x: the points, shape (replicas, d).
            minibatch: what `sample` returned for as many replicas.

        Raises:
            DomainError: x or the minibatch is of another shape, or the minibatch is None where gradients
                are noisy (and the reverse).
        """
        x = self._points(x)
        self._require_minibatch(minibatch, None if self.noise == 0 else x.shape)
        return self.gradient(x) if minibatch is None else self.gradient(x) + minibatch

    def form(self) -> Form | None:
        """The formulas for the compiling engines; None where only NumPy can run this problem."""
        return None

    def in_torch(self, device: torch.device | str, dtype: torch.dtype) -> InTorch | None:
        """The formulas on tensors of this device and dtype; None where only NumPy can run this problem."""
        return None

    def __repr__(self) -> str:
        c = self.constants
        values = {"d": self.dimension, "L": c.L, "mu": c.mu, "sigma": c.sigma}
        if c.f_star is not None:
            values["f_star"] = c.f_star
        return f"<{type(self).__name__}: {', '.join(f'{key} = {v:.6g}' for key, v in values.items())}>"

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError(f"a problem is immutable: its {name} is set once, at construction")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a problem is immutable: its {name} cannot be deleted")

    def _points(self, x: npt.ArrayLike) -> FloatArray:
        points = np.asarray(x, dtype=np.float64)
        if points.ndim == 0 or points.shape[-1] != self.dimension:
            raise DomainError(f"x of shape (..., {self.dimension})", f"shape {points.shape}")
        return points

    def _require_minibatch(self, minibatch: Minibatch, shape: tuple[int, ...] | None) -> None:
        found = None if minibatch is None else minibatch.shape
        if found != shape:
            expected = "None, since gradients are exact" if shape is None else f"of shape {shape}"
            raise DomainError(f"minibatch {expected}", None if found is None else f"shape {found}")


def real_array(name: str, values: npt.ArrayLike, *axes: str) -> FloatArray:
    """A read-only float64 copy of `values`, where they are finite, with the named axes, none empty.

    Raises:
        TypeError: not an array of real numbers.
        DomainError: another number of axes, an empty one, or an entry that is not finite, named with its
            index.
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of real numbers; got {values!r}") from error
    if array.ndim != len(axes) or array.size == 0:
        shape = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
        raise DomainError(f"{name} of shape {shape}, not empty", f"shape {array.shape}")
    require(f"finite {name}", np.isfinite(array), array)
    array.flags.writeable = False
    return array


def require(condition: str, holds: npt.NDArray[np.bool_], array: FloatArray) -> None:
    """Nothing where `holds` everywhere.

    Raises:
        DomainError: the condition, and the first entry of the array that violates it, with its index.
    """
    if not holds.all():
        index = tuple(int(i) for i in np.argwhere(~holds)[0])
        place = str(index[0]) if len(index) == 1 else str(index)
        raise DomainError(condition, float(array[index]), f"index {place}")
