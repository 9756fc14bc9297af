"""One call runs many replicas: the engine is chosen, its parts are merged as they come."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import logging
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from rst_theory.notation import Ascent, FloatArray, natural
from rst_theory.problems import Problem
from rst_theory.schedules import Schedule
from rst_theory.simulation.progress import told
from rst_theory.simulation.setting import CompilationError, Part, Setting, Tell
from rst_theory.simulation.trajectories import Trajectories
from rst_theory.trials import TrialsKind

__all__ = ["simulate"]

Backend = Literal["auto", "numba", "numpy", "torch"]
_BACKENDS = ("auto", "numba", "numpy", "torch")
_log = logging.getLogger("rst_theory")


def simulate(
    problem: Problem,
    schedule: Schedule | float,
    *,
    steps: int,
    eta: float | npt.ArrayLike | Schedule,
    rho: float | npt.ArrayLike | Schedule,
    gamma: float | npt.ArrayLike | Schedule = 1.0,
    ascent: Ascent = "normalized",
    replicas: int = 256,
    seed: int = 0,
    start: npt.ArrayLike | None = None,
    trials: TrialsKind = "independent",
    backend: Backend = "auto",
    device: str = "cpu",
    at: npt.ArrayLike | None = None,
    quantiles: bool = False,
    first: int = 0,
    threads: int | None = None,
    keep: bool = False,
    progress: Tell | bool | None = None,
) -> Trajectories:
    """Run RST or G-RST many times and measure its moments.

    Interrupted (Ctrl-C), it returns the replicas that are done, marked as partial.

    Args:
        problem: the objective, with its noise.
        schedule: p(t), or a number.
        steps: T >= 1.
        eta: step sizes: a number, an array (T,) or a schedule; likewise rho and gamma.
        rho: radii.
        gamma: mixing coefficients.
        ascent: "normalized" or "unnormalized".
        replicas: R >= 1.
        seed: 0 <= seed < 2^64, of the repetition; never a function of the schedule.
        start: x_0, shape (d,); the problem's own by default.
        trials: "independent" or "systematic".
        backend: "numba", "numpy" or "torch"; "auto" takes the fastest that can run the problem.
        device: "cpu", or for torch a device such as "cuda".
        at: steps at which moments are taken, increasing; every step by default, and always the end.
        quantiles: sketch the distribution of what is measured, to 1/129 relative; 48 kB for each of the three
            quantities at each measured time.
        first: index of the first replica; the replicas are first, …, first + R - 1.
        threads: of the numba backend; as many as there are cores by default. No result depends on it.
        keep: store every iterate: R (T+1) d numbers.
        progress: called with the share that is done, in (0, 1]; by default a bar on a terminal, once the run
            has taken two seconds; False for none.

    Raises:
        DomainError: a parameter outside its domain, named with its t, or a problem with no known f_star.
        ValueError: an unknown option, an array of the wrong shape, or a backend that cannot run this.
        ImportError: a backend that is not installed.
        DivergenceError: a replica left the floating-point range; replica and step are named.
    """
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, _BACKENDS))}; got {backend!r}")
    setting = Setting.checked(
        problem,
        schedule,
        steps=steps,
        eta=eta,
        rho=rho,
        gamma=gamma,
        ascent=ascent,
        trials=trials,
        seed=seed,
        start=start,
        at=at,
        first=first,
        replicas=replicas,
        keep=keep,
        quantiles=quantiles,
    )
    threads = None if threads is None else natural("threads", threads, least=1)
    name, engine = _engine(setting, backend, device, threads)
    with told(progress) as tell:
        try:
            merged = _merged(engine(setting, tell))
        except CompilationError as error:
            if backend != "auto":
                raise
            _say_once(f"{str(error).splitlines()[0]} It runs on the NumPy reference.")
            name, engine = _engine(setting, "numpy", device, threads)
            merged = _merged(engine(setting, tell))

    def again(replica: int) -> FloatArray:
        replica = natural("replica", replica, below=2**32)
        alone = dataclasses.replace(setting, first=replica, replicas=1, keep=True, quantiles=False)
        (points,) = np.asarray(_merged(engine(alone, lambda share: None)).points)
        return np.asarray(points)

    return Trajectories(
        moments=merged.moments,
        extra_pairs=merged.extra_pairs,
        eta=setting.eta,
        L=problem.constants.L,
        description=_description(schedule, setting),
        backend=name,
        times=setting.times,
        replicas=setting.replicas,
        points=merged.points,
        counts=merged.counts,
        _again=again,
    )


def _description(schedule: Schedule | float, setting: Setting) -> str:
    """What is run, in words; what is as by default is left out."""
    first = f" from number {setting.first}" if setting.first else ""
    words = [
        f"{schedule!r} on {setting.problem!r}: {setting.replicas} replicas{first} of {setting.steps} steps",
        f"seed {setting.seed}",
    ]
    if setting.ascent != "normalized":
        words.append(f"{setting.ascent} ascent")
    if setting.trials != "independent":
        words.append(f"{setting.trials} trials")
    return ", ".join(words)


Engine = Callable[[Setting, Tell], Iterator[Part]]


def _engine(setting: Setting, backend: Backend, device: str, threads: int | None) -> tuple[str, Engine]:
    """The engine that a backend means, and its name."""
    if backend == "auto":
        backend = "torch" if device != "cpu" else _fastest(setting)
    if backend == "torch":
        from rst_theory.simulation.device import parts as on_device

        return f"torch ({device})", functools.partial(on_device, device=device)
    if device != "cpu":
        raise ValueError(f"the {backend} backend runs on device 'cpu'; got {device!r}")
    if backend == "numba":
        from rst_theory.simulation.fused import parts as fused

        return backend, functools.partial(fused, threads=threads)
    from rst_theory.simulation.reference import parts as reference

    return backend, reference


@functools.cache
def _say_once(line: str) -> None:
    _log.warning(line)


def _fastest(setting: Setting) -> Literal["numba", "numpy"]:
    """Numba where it is installed and the problem has a form that it compiles."""
    if setting.form is None:
        _say_once(f"{type(setting.problem).__name__} has no compiled form: it runs on the NumPy reference")
        return "numpy"
    if importlib.util.find_spec("numba") is None:
        _say_once("Numba is absent: simulations run on the NumPy reference (pip install 'rst-theory[fast]')")
        return "numpy"
    return "numba"


def _merged(parts: Iterator[Part]) -> Part:
    """All parts as one; what is done where an interrupt comes, unless nothing is."""
    total: Part | None = None
    extra_pairs, points = [], []
    try:
        for part in parts:
            extra_pairs.append(part.extra_pairs)
            if part.points is not None:
                points.append(part.points)
            total = part if total is None else _together(total, part)
    except KeyboardInterrupt:
        if total is None:
            raise
    if total is None:
        raise RuntimeError("the engine ended without a result")
    n = total.moments["gap"].count  # an interrupt may come between the lines above
    return dataclasses.replace(
        total,
        extra_pairs=np.concatenate(extra_pairs)[:n],
        points=np.concatenate(points)[:n] if points else None,
    )


def _together(one: Part, other: Part) -> Part:
    moments = {name: m.merge(other.moments[name]) for name, m in one.moments.items()}
    counts = None
    if one.counts is not None and other.counts is not None:
        counts = {name: c + other.counts[name] for name, c in one.counts.items()}
    return dataclasses.replace(one, moments=moments, counts=counts)
