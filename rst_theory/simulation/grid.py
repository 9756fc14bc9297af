"""Grids: one simulation for every combination of problem, schedule and parameters, on all cores or a cluster.

A cell is one call of `simulate`, in one thread of one process. Its seed is a function of the grid's seed,
the problem's label and the repetition alone, so that the cells of a repetition, which differ in schedule and
parameters, are compared on common random numbers.

Where a folder is given, every cell is stored there as soon as it is done, in a file whose name is the hash
of everything that the cell depends on. So a grid that was interrupted goes on where it was, one that grew
runs what is new, and one in which anything was changed runs again what depends on it.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import os
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from rst_theory.notation import Ascent, FloatArray, natural
from rst_theory.problems import Problem
from rst_theory.schedules import Schedule
from rst_theory.simulation.identity import digest
from rst_theory.simulation.progress import told
from rst_theory.simulation.run import Backend, simulate
from rst_theory.simulation.setting import DivergenceError, Setting, Tell
from rst_theory.simulation.trajectories import Trajectories
from rst_theory.trials import TrialsKind

if TYPE_CHECKING:
    import pandas

__all__ = ["Cell", "Grid", "simulate_grid"]

Value = TypeVar("Value")
Axis: TypeAlias = Value | list[Value] | tuple[Value, ...] | Mapping[str, Value]
Label: TypeAlias = str | float
Parameter: TypeAlias = float | FloatArray | Schedule

_FORMAT = 1  # raised when the same arguments come to mean another result, or results are stored otherwise
_log = logging.getLogger("rst_theory")


class Cell(NamedTuple):
    """Where in a grid a run lies: its label on each axis, and which repetition it is."""

    problem: str
    schedule: Label
    eta: Label
    rho: Label
    gamma: Label
    repetition: int


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Grid(Mapping[Cell, Trajectories]):
    """The runs of a grid by their cells, in the order of the axes.

    What was stored in a folder is read from there each time that it is asked for, so that a large grid takes
    little memory.

    Attributes:
        cells: all that were asked for.
        seed: of the grid.
        diverged: the cells in which a replica left the floating-point range, with what was said of it; they
            have no run.
    """

    cells: tuple[Cell, ...]
    seed: int
    diverged: Mapping[Cell, DivergenceError]
    _runs: Mapping[Cell, Trajectories | Path]

    def __getitem__(self, cell: Cell) -> Trajectories:
        if cell in self.diverged:
            raise KeyError(f"{cell} has no run: {self.diverged[cell]}")
        run = self._runs[cell]
        return Trajectories.load(run) if isinstance(run, Path) else run

    def __contains__(self, cell: object) -> bool:
        return cell in self._runs

    def __iter__(self) -> Iterator[Cell]:
        return (cell for cell in self.cells if cell in self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def partial(self) -> bool:
        """Whether the grid was interrupted before all its cells were done."""
        return len(self._runs) + len(self.diverged) < len(self.cells)

    def seed_of(self, cell: Cell) -> int:
        """The seed with which `simulate` runs this cell."""
        return _seed(self.seed, cell.problem, cell.repetition)

    def to_dataframe(self) -> pandas.DataFrame:
        """One row for each run, with its labels, seed and number of replicas, and with estimates.

        extra_pairs is the mean number of extra pairs; squared_gradient_norm the mean over the measured steps
        (left out where there are none), final_gap and final_squared_distance those at the end. Each has its
        standard error beside it, in the column of the same name with _error.

        Raises:
            ImportError: pandas is absent.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("data frames need pandas: pip install 'rst-theory[experiments]'") from error
        return pandas.DataFrame([self._row(cell, run) for cell, run in self.items()])

    def _row(self, cell: Cell, run: Trajectories) -> dict[str, Any]:
        pairs, K = run.extra_pairs, run.times.size
        row: dict[str, Any] = cell._asdict() | {
            "seed": self.seed_of(cell),
            "replicas": pairs.size,
            "extra_pairs": pairs.mean(),
            "extra_pairs_error": pairs.std(ddof=1) / math.sqrt(pairs.size) if pairs.size > 1 else math.inf,
        }
        estimates = {"final_gap": run.final_gap, "final_squared_distance": run.final_squared_distance}
        if K:
            estimates["squared_gradient_norm"] = run.squared_gradient_norm.weighted(np.full(K, 1 / K))
        for name, estimate in estimates.items():
            if estimate is not None:
                row |= {name: estimate.mean, f"{name}_error": estimate.standard_error}
        return row

    def __repr__(self) -> str:
        sizes = {name: len({cell[i] for cell in self.cells}) for i, name in enumerate(Cell._fields)}
        axes = " x ".join(f"{n} {name}s" for name, n in sizes.items() if n > 1)
        done = f", {len(self)} done, the rest was interrupted" if self.partial else ""
        diverged = f", {len(self.diverged)} diverged" if self.diverged else ""
        return f"<Grid: {axes + ' = ' if axes else ''}{len(self.cells)} cells{done}{diverged}>"


def simulate_grid(
    problems: Axis[Problem],
    schedules: Axis[Schedule | float],
    *,
    steps: int,
    eta: Axis[Parameter],
    rho: Axis[Parameter],
    gamma: Axis[Parameter] = 1.0,
    ascent: Ascent = "normalized",
    replicas: int = 256,
    repetitions: int = 1,
    seed: int = 0,
    trials: TrialsKind = "independent",
    backend: Backend = "auto",
    at: npt.ArrayLike | None = None,
    quantiles: bool = False,
    folder: str | os.PathLike[str] | None = None,
    processes: int | None = None,
    progress: Tell | bool | None = None,
) -> Grid:
    """Simulate every combination of problem, schedule and parameters.

    An axis is one value, a list of values, or a mapping from labels to values. In a list a number is its own
    label, and a schedule or problem has its repr; an array in a list needs a label.

    The cells run on all cores, one process each; on a Dask cluster inside

        with joblib.parallel_config("dask"): ...

    with a Dask client active. A worker stores what it has done itself, and the caller what a worker could
    not store in its folder. A Dask worker that is lost costs the cell that it was running, which runs
    elsewhere; a local one ends the call with an error, and a second call goes on from what is stored.

    Interrupted (Ctrl-C), it returns the cells that are done, and raises KeyboardInterrupt where there are
    none; what is stored stays. A cell that diverges stops no other: it is logged, and listed by the grid.

    Args:
        problems: objectives, with their noise.
        schedules: p(t), or numbers.
        steps: T >= 1.
        eta: step sizes: numbers, arrays (T,) or schedules; likewise rho and gamma.
        rho: radii.
        gamma: mixing coefficients.
        ascent: "normalized" or "unnormalized".
        replicas: R >= 1, of every cell.
        repetitions: how often the grid is run, each time with another seed; >= 1.
        seed: 0 <= seed < 2^64.
        trials: as in `simulate`; likewise backend, at and quantiles.
        backend: "auto" by default.
        at: steps at which moments are taken; every step by default.
        quantiles: whether distributions are sketched.
        folder: where results are stored and found again; nowhere by default. A result is found by all that
            it was made from: every argument that matters, the version of this package, and the state and
            the code of the problem's and schedules' classes and functions, though not of what they call.
        processes: how many run side by side; by default as many as there are cores, or on the cluster.
        progress: called with the share of the cells that is done, in (0, 1]; by default a bar on a terminal,
            as in `simulate`; False for none.

    Raises:
        ValueError: an argument outside its domain, as in `simulate`, in any of the cells (before one is
            run); an axis that is empty or whose labels repeat.
        TypeError: an argument of the wrong type, or for a folder, a problem that holds what has no plain
            description, such as an open file.
        ImportError: joblib or the backend is absent.
        OSError: the folder cannot be written.
    """
    joblib = _joblib()
    axes = {
        name: _labelled(name, given)
        for name, given in zip(Cell._fields, (problems, schedules, eta, rho, gamma), strict=False)
    }
    seed = natural("seed", seed, below=2**64)
    again = range(natural("repetitions", repetitions, least=1))
    common = {
        "steps": steps,
        "ascent": ascent,
        "replicas": replicas,
        "trials": trials,
        "backend": backend,
        "at": at,
        "quantiles": quantiles,
    }
    cells = tuple(Cell._make((*labels, i)) for labels in itertools.product(*axes.values()) for i in again)
    calls = {cell: _call(axes, cell, seed) | common for cell in cells}
    for cell in cells:
        if cell.repetition == 0:
            _require_valid(cell, calls[cell])
    paths = dict.fromkeys(cells) if folder is None else _paths(Path(folder).absolute(), axes, common, calls)

    runs: dict[Cell, Trajectories | Path] = {
        cell: path for cell, path in paths.items() if path is not None and _stored(path) is not None
    }
    diverged: dict[Cell, DivergenceError] = {}
    waiting = [joblib.delayed(_run)(cell, calls[cell], paths[cell]) for cell in cells if cell not in runs]
    workers = joblib.Parallel(
        n_jobs=-1 if processes is None else natural("processes", processes, least=1),
        return_as="generator_unordered",
        batch_size=1,
    )
    try:
        with told(progress) as tell:
            for cell, outcome in workers(waiting) if waiting else ():
                path = paths[cell]
                if isinstance(outcome, DivergenceError):
                    _log.warning("%s: %s", cell, outcome)
                    diverged[cell] = outcome
                elif path is None:
                    runs[cell] = outcome
                else:
                    if not path.exists():  # it was written on another machine
                        outcome.save(path)
                    runs[cell] = path
                tell((len(runs) + len(diverged)) / len(cells))
    except KeyboardInterrupt:
        if not runs:
            raise
    return Grid(cells, seed, diverged, runs)


def _joblib() -> Any:
    try:
        import joblib
    except ImportError as error:
        raise ImportError("grids need joblib: pip install 'rst-theory[experiments]'") from error
    return joblib


# The axes and the calls


def _labelled(name: str, given: Any) -> dict[Label, Any]:
    """The values of an axis by their labels."""
    if isinstance(given, Mapping):
        pairs = list(given.items())
        for label, _ in pairs:
            if not isinstance(label, str):
                raise TypeError(f"the labels of {name} must be text; got {label!r}")
    else:
        several = isinstance(given, list | tuple)
        pairs = [(_label(name, value, several), value) for value in (given if several else [given])]
    labelled = dict(pairs)
    if not pairs:
        raise ValueError(f"{name} has no values")
    if len(labelled) < len(pairs):
        raise ValueError(f"two values of {name} are called alike: label them, {{label: value}}")
    return labelled


def _label(name: str, value: Any, several: bool) -> Label:
    if isinstance(value, np.ndarray) and value.ndim:
        if several:
            raise ValueError(f"an array among the values of {name} needs a label, {{label: array}}")
        return f"array {value.shape}"
    return float(value) if isinstance(value, Real) else repr(value)


def _call(axes: Mapping[str, Mapping[Label, Any]], cell: Cell, seed: int) -> dict[str, Any]:
    """The arguments of `simulate` that the place of the cell decides."""
    values = {name: axis[label] for (name, axis), label in zip(axes.items(), cell, strict=False)}
    return values | {"seed": _seed(seed, cell.problem, cell.repetition)}


def _seed(seed: int, problem: str, repetition: int) -> int:
    return int(digest([seed, problem, repetition])[:16], 16)


def _require_valid(cell: Cell, call: Mapping[str, Any]) -> None:
    """Nothing where `simulate` would accept the arguments."""
    if not isinstance(call["problem"], Problem):
        raise TypeError(f"problems must be of class Problem; got {call['problem']!r}")
    arguments = {name: value for name, value in call.items() if name != "backend"}
    try:
        Setting.checked(**arguments, start=None, first=0, keep=False)
    except (ValueError, TypeError) as error:
        error.add_note(f"in {cell}")
        raise


# A cell, in its worker


def _run(cell: Cell, call: dict[str, Any], path: Path | None) -> tuple[Cell, Trajectories | DivergenceError]:
    """Simulate and store one cell, unless it is there: another worker may have begun it, and been lost."""
    # The arguments come in a dict because joblib would send single arrays ahead to one Dask worker, with
    # which they would be lost.
    run = _stored(path) if path is not None else None
    if run is None:
        try:
            run = simulate(**call, threads=1, progress=False)
        except DivergenceError as error:
            return cell, error
        if run.partial:
            raise KeyboardInterrupt
        run = dataclasses.replace(run, _again=None)  # a function, which no process can send to another
        if path is not None:
            run.save(path)
    return cell, run


def _stored(path: Path) -> Trajectories | None:
    """The run of a file; None where there is none, or it is damaged, which is said."""
    if not path.exists():
        return None
    try:
        return Trajectories.load(path)
    except ValueError as error:
        _log.warning("a damaged result is run again: %s", error)
        return None


# The name of a cell's file: what its result depends on, in one canonical form


def _paths(
    folder: Path,
    axes: Mapping[str, Mapping[Label, Any]],
    common: Mapping[str, Any],
    calls: Mapping[Cell, Mapping[str, Any]],
) -> dict[Cell, Path | None]:
    """The file of each cell."""
    from rst_theory import __version__

    shared = digest([_FORMAT, __version__, common])
    digests = {name: {label: digest(value) for label, value in axis.items()} for name, axis in axes.items()}

    def name(cell: Cell) -> str:
        place = [axis[label] for axis, label in zip(digests.values(), cell, strict=False)]
        return digest([shared, *place, calls[cell]["seed"]])

    return {cell: folder / f"{name(cell)}.npz" for cell in calls}
