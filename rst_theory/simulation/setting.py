"""What an engine is given, and what it gives back.

An engine runs consecutive ranges of replicas and yields a `Part` for each, in order. Every engine draws the
same coins (`trials`) and measures the same quantities at the same times.

Symbol key: R replicas, T steps, d coordinates, K times of measurement; x_0 the start, x_t the point before
step t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, Ascent, DomainError, FloatArray, natural
from rst_theory.problems import Problem
from rst_theory.problems.form import Form
from rst_theory.schedules import Schedule, sequence
from rst_theory.simulation.estimates import Moments
from rst_theory.simulation.sketch import BINS
from rst_theory.trials import Trials, TrialsKind

__all__ = ["CompilationError", "DivergenceError", "Part", "Setting", "Tell"]

_LARGEST_SKETCH = 2**30  # bytes
_NAMED = 5  # coordinates that an error names

Tell = Callable[[float], object]
"""Is told how much of a simulation is done, in (0, 1]."""


class CompilationError(ValueError):
    """A function of a problem that cannot be compiled."""


class DivergenceError(ArithmeticError):
    """A replica left the range of floating-point numbers."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One simulation, validated.

    Attributes:
        problem: the objective, with its noise.
        p: probability of the perturbed step, float64 (T,); likewise eta, rho and gamma.
        ascent: "normalized" or "unnormalized".
        trials: "independent" or "systematic".
        seed: of coins and noise.
        start: x_0, float64 (d,).
        times: steps at which moments are taken, besides the end: int64 (K,), increasing, in 0, …, T-1.
        first: index of the first replica.
        replicas: R.
        keep: whether every iterate is kept.
        quantiles: whether the distribution of the measured quantities is sketched.
    """

    problem: Problem
    p: FloatArray
    eta: FloatArray
    rho: FloatArray
    gamma: FloatArray
    ascent: Ascent
    trials: TrialsKind
    seed: int
    start: FloatArray
    times: npt.NDArray[np.int64]
    first: int
    replicas: int
    keep: bool = False
    quantiles: bool = False

    @classmethod
    def checked(
        cls,
        problem: Problem,
        schedule: Schedule | float,
        *,
        steps: int,
        eta: float | npt.ArrayLike | Schedule,
        rho: float | npt.ArrayLike | Schedule,
        gamma: float | npt.ArrayLike | Schedule,
        ascent: Ascent,
        trials: TrialsKind,
        seed: int,
        start: npt.ArrayLike | None,
        at: npt.ArrayLike | None,
        first: int,
        replicas: int,
        keep: bool,
        quantiles: bool,
    ) -> Setting:
        """The setting of a call of `simulate`, which describes the arguments.

        Raises:
            DomainError: a parameter outside its domain, named with its t, or a problem with no known f_star.
            ValueError: an unknown option, an array of the wrong shape, or quantiles that would take more
                than 1 GiB.
        """
        T = natural("steps", steps, least=1)
        first = natural("first", first, below=2**32)
        if problem.constants.f_star is None:
            raise DomainError("a problem with a known f_star", problem)
        if ascent not in ("normalized", "unnormalized"):
            raise ValueError(f"ascent must be 'normalized' or 'unnormalized'; got {ascent!r}")
        if trials not in ("independent", "systematic"):
            raise ValueError(f"trials must be 'independent' or 'systematic', its kind; got {trials!r}")
        setting = cls(
            problem=problem,
            p=sequence(schedule, T, QUANTITIES["p"]),
            eta=sequence(eta, T, QUANTITIES["eta"]),
            rho=sequence(rho, T, QUANTITIES["rho"]),
            gamma=sequence(gamma, T, QUANTITIES["gamma"]),
            ascent=ascent,
            trials=trials,
            seed=natural("seed", seed, below=2**64),
            start=_start(problem, start),
            times=_times(at, T),
            first=first,
            replicas=natural("replicas", replicas, least=1, below=2**32 - first + 1),
            keep=keep,
            quantiles=quantiles,
        )
        times, most = setting.times.size + 1, _LARGEST_SKETCH // (4 * BINS * len(setting.measured))
        if quantiles and times > most:
            raise ValueError(
                f"quantiles at {times} times would take {times / most:.1f} GiB: "
                f"pass as `at` no more than {most - 1} steps"
            )
        return setting

    @property
    def steps(self) -> int:
        """T."""
        return int(self.p.size)

    @property
    def form(self) -> Form | None:
        """The functions that a compiling engine runs; None where the problem has none.

        A class that overrides what the form of its parent computes has none either.
        """
        order = type(self.problem).__mro__
        defined = {
            name: next(depth for depth, cls in enumerate(order) if name in vars(cls))
            for name in ("form", *_COMPUTED)
        }
        return self.problem.form() if defined["form"] == min(defined.values()) else None

    @property
    def measured(self) -> tuple[str, ...]:
        """The quantities that are measured."""
        known = self.problem.minimizer is not None
        return ("squared_gradient_norm", "gap", *(["squared_distance"] if known else []))

    def divergence(self, replica: int, t: int, details: str = "") -> DivergenceError:
        """What is said where a replica has left the floating-point range.

        Args:
            replica: its index.
            t: the step that did it.
            details: more that is known of it, from "; " on.
        """
        trial = Trials(self.p[: t + 1], self.seed, self.trials, replica).draw(t)
        return DivergenceError(
            f"replica {replica} left the floating-point range at step t = {t}, trial {int(trial)}{details}; "
            "a smaller eta or rho keeps it bounded, unless the problem itself gives NaN or infinity"
        )

    def require_finite(self, x: FloatArray, measured: FloatArray | float, t: int, first: int) -> None:
        """Nothing where the points x (n, d) after step t, and what was measured there (n,), are finite.

        Raises:
            DivergenceError: the first of the replicas first, …, first + n - 1 that left the range.
        """
        finite = np.isfinite(x).all(axis=-1) & np.isfinite(measured)
        if finite.all():
            return
        row = int(np.argmin(finite))
        wrong = np.flatnonzero(~np.isfinite(x[row]))
        if wrong.size:
            several = ", …" if wrong.size > _NAMED else ""
            details = f"; not finite: coordinates {', '.join(map(str, wrong[:_NAMED]))}{several} of x"
        else:
            with np.errstate(all="ignore"):
                norm = np.linalg.norm(self.problem.gradient(x[row]))
            details = f"; at a finite x of norm {np.linalg.norm(x[row]):g} the gradient has norm {norm:g}"
        raise self.divergence(first + row, t, details)


@dataclass(frozen=True, eq=False)
class Part:
    """The measurements of n consecutive replicas.

    Attributes:
        moments: by quantity, over the K times and, last, at x_T.
        extra_pairs: N of each replica, int64 (n,).
        points: the iterates x_0, …, x_T of each, float64 (n, T+1, d); None unless they are kept.
        counts: by quantity, the sketch of its distribution at each time, uint32 (K+1, bins); None unless
            asked for.
    """

    moments: dict[str, Moments]
    extra_pairs: npt.NDArray[np.int64]
    points: FloatArray | None = None
    counts: dict[str, npt.NDArray[np.uint32]] | None = None


_COMPUTED = ("value", "gradient", "gap", "squared_distance", "sample", "stochastic_gradient")
"""What the form of a problem computes in its place."""


def _start(problem: Problem, start: npt.ArrayLike | None) -> FloatArray:
    x = problem.start if start is None else np.asarray(start, dtype=np.float64)
    if x.shape != (problem.dimension,) or not np.isfinite(x).all():
        raise ValueError(f"start must be finite numbers of shape ({problem.dimension},); got {start!r}")
    return np.ascontiguousarray(x)


def _times(at: npt.ArrayLike | None, T: int) -> npt.NDArray[np.int64]:
    if at is None:
        return np.arange(T)
    times = np.asarray(at)
    if times.ndim != 1 or (times.size and times.dtype.kind not in "iu"):
        raise ValueError(f"at must be a list of steps, integers of shape (K,); got {at!r}")
    times = times.astype(np.int64)
    if times.size and (times[0] < 0 or times[-1] >= T or (np.diff(times) <= 0).any()):
        raise ValueError(f"at must be increasing steps in 0, …, T-1 = {T - 1}; got {at!r}")
    return times
