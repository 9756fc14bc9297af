"""What a simulation measured, and the file that holds it.

The file is an npz archive of plain arrays, with a header in JSON that says what they are.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from rst_theory import display
from rst_theory.files import write_atomically
from rst_theory.notation import QUANTITIES, FloatArray
from rst_theory.simulation import sketch
from rst_theory.simulation.estimates import SLOTS, Estimate, Moments

__all__ = ["Trajectories"]

_FORMAT, _VERSION = "rst_theory trajectories", 1
_QUANTITIES = ("squared_gradient_norm", "gap", "squared_distance")
_LEVELS = {"q05": 0.05, "q50": 0.5, "q95": 0.95}


class HasMetric(Protocol):
    """What `Trajectories.weighted` asks of a bound."""

    @property
    def metric(self) -> Any:
        """A metric with `quantity` and `weights`."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """What a simulation measured.

    Attributes:
        moments: by quantity, at the K measured times and, last, at x_T: of ||grad f(x)||^2 as
            "squared_gradient_norm", of f(x) - f_star as "gap", and of ||x - x_star||^2 as
            "squared_distance" where the problem knows a minimizer.
        extra_pairs: N of each replica, int64 (R,).
        eta: the step sizes, float64 (T,).
        L: the smoothness constant of the problem.
        description: what was run, in words.
        backend: the engine that ran it.
        times: the steps at which moments were taken, int64 (K,): 0, …, T-1 unless others were asked for.
        replicas: R, as asked for; a run that was interrupted holds fewer.
        points: the iterates x_0, …, x_T of every replica, float64 (R, T+1, d); None unless asked for.
        counts: by quantity, the sketch of its distribution at each measured time and at x_T; None unless
            asked for.
    """

    moments: dict[str, Moments]
    extra_pairs: npt.NDArray[np.int64]
    eta: FloatArray
    L: float
    description: str
    backend: str
    times: npt.NDArray[np.int64]
    replicas: int
    points: FloatArray | None = None
    counts: dict[str, npt.NDArray[np.uint32]] | None = None
    _again: Callable[[int], FloatArray] | None = None

    @property
    def squared_gradient_norm(self) -> Moments:
        """Of ||grad f(x_t)||^2 at the measured times."""
        return self._along("squared_gradient_norm")

    @property
    def gap(self) -> Moments:
        """Of f(x_t) - f_star at the measured times."""
        return self._along("gap")

    @property
    def squared_distance(self) -> Moments | None:
        """Of ||x_t - x_star||^2 at the measured times; None where the problem knows no minimizer."""
        return self._along("squared_distance") if "squared_distance" in self.moments else None

    @property
    def final_gap(self) -> Estimate:
        """The estimate of E f(x_T) - f_star."""
        return self._final("gap")

    @property
    def final_squared_distance(self) -> Estimate | None:
        """The estimate of E||x_T - x_star||^2; None where the problem knows no minimizer."""
        return self._final("squared_distance") if "squared_distance" in self.moments else None

    def _along(self, quantity: str) -> Moments:
        return self.moments[quantity].at(slice(None, -1))

    def _final(self, quantity: str) -> Estimate:
        moments = self.moments[quantity].at(slice(-1, None))
        return Estimate(float(moments.mean[0]), float(moments.standard_error[0]), moments.count - 1)

    @property
    def partial(self) -> bool:
        """Whether the run was interrupted before all its replicas were done."""
        return self.extra_pairs.size < self.replicas

    def replay(self, replica: int) -> FloatArray:
        """Run one replica again, alone, and return its iterates x_0, …, x_T: float64 (T+1, d).

        Raises:
            ValueError: the run came from a file, which holds no problem to run.
        """
        if self._again is None:
            raise ValueError("a run that was loaded from a file cannot be replayed: simulate it again")
        return self._again(replica)

    def weighted(self, bound: HasMetric) -> Estimate:
        """The bound's own metric, measured.

        Raises:
            ValueError: the bound's metric is not one of a run, or was not measured: the problem knows no
                minimizer to measure a distance from, or not every step was measured.
        """
        metric = bound.metric
        if metric.quantity is None:
            raise ValueError(f"the metric {metric.name!r} is not a weighted sum over a run")
        measured: Moments | Estimate | None = getattr(self, metric.quantity)
        if measured is None:
            raise ValueError(f"the metric {metric.name!r} needs a problem with a known minimizer")
        if isinstance(measured, Moments):
            if self.times.size < self.eta.size:
                raise ValueError(f"the metric {metric.name!r} needs every step measured; leave out `at`")
            return measured.weighted(metric.weights(self.eta, self.L))
        return measured

    def quantile(self, quantity: str, level: float) -> FloatArray:
        """The quantile of a quantity over the replicas, at the K measured times and at x_T.

        Args:
            quantity: a key of `moments`.
            level: in [0, 1]; 0.5 for the median.

        Returns:
            float64 (K+1,), to 1/129 relative: see `sketch.quantile`.

        Raises:
            ValueError: quantiles were not asked for, an unknown quantity, or a level outside [0, 1].
        """
        if quantity not in self.moments:
            known = ", ".join(map(repr, self.moments))
            raise ValueError(f"quantity must be one of {known}; got {quantity!r}")
        if self.counts is None:
            raise ValueError("this run sketched no quantiles: simulate with quantiles=True")
        return sketch.quantile(self.counts[quantity], level)

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with a row for each quantity and time, x_T last.

        Its columns: quantity, t, mean, standard_error, variance, replicas, and q05, q50, q95 where quantiles
        were asked for.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("data frames need pandas: pip install 'rst-theory[experiments]'") from error
        tables = [
            pandas.DataFrame(
                {
                    "quantity": quantity,
                    "t": np.append(self.times, self.eta.size),
                    "mean": moments.mean,
                    "standard_error": moments.standard_error,
                    "variance": moments.variance,
                    "replicas": moments.count,
                }
                | ({q: self.quantile(quantity, level) for q, level in _LEVELS.items()} if self.counts else {})
            )
            for quantity, moments in self.moments.items()
        ]
        return pandas.concat(tables, ignore_index=True)

    def save(self, path: Path | str) -> None:
        """Write the run to a file, whole or not at all; `load` gives it back bit for bit.

        Raises:
            OSError: the file cannot be written.
        """
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "description": self.description,
            "backend": self.backend,
            "replicas": self.replicas,
            "quantities": list(self.moments),
        }
        content = io.BytesIO()
        arrays: dict[str, Any] = dict(self._arrays())
        np.savez_compressed(content, header=np.array(json.dumps(header)), **arrays)
        write_atomically(Path(path), content.getvalue())

    def _arrays(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        yield from {"eta": self.eta, "times": self.times, "extra_pairs": self.extra_pairs}.items()
        yield "L", np.array(self.L, dtype=np.float64)
        for quantity, moments in self.moments.items():
            yield f"{quantity}.counts", moments.counts
            yield f"{quantity}.means", moments.means
            yield f"{quantity}.squares", moments.squares
        if self.points is not None:
            yield "points", self.points
        for quantity, counts in (self.counts or {}).items():
            yield f"{quantity}.sketch", counts

    @classmethod
    def load(cls, path: Path | str) -> Trajectories:
        """The run in a file that `save` wrote. It cannot be replayed, since a file holds no problem.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged, of another kind or of another version; the message names it.
        """
        content = Path(path).read_bytes()
        try:
            return cls._from(*_read(content))
        except Exception as error:  # whatever foreign bytes bring a parser to raise
            raise ValueError(f"{path} holds no run that can be read: {error}") from error

    @classmethod
    def _from(cls, header: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Trajectories:
        """The run made of the arrays, once their names, types and shapes are those that `save` writes."""
        T, K, R = (arrays[name].size for name in ("eta", "times", "extra_pairs"))
        expected: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]] = {
            "eta": (np.float64, (T,)),
            "times": (np.int64, (K,)),
            "extra_pairs": (np.int64, (R,)),
            "L": (np.float64, ()),
        }
        for quantity in header["quantities"]:
            expected[f"{quantity}.counts"] = np.int64, (SLOTS,)
            expected[f"{quantity}.means"] = expected[f"{quantity}.squares"] = np.float64, (SLOTS, K + 1)
            if "gap.sketch" in arrays:
                expected[f"{quantity}.sketch"] = np.uint32, (K + 1, sketch.BINS)
        if "points" in arrays:
            expected["points"] = np.float64, (R, T + 1, arrays["points"].shape[-1])
        if set(arrays) != set(expected):
            raise ValueError(f"arrays missing or not known: {', '.join(sorted(set(arrays) ^ set(expected)))}")
        for name, (dtype, shape) in expected.items():
            found = arrays[name]
            if found.dtype != dtype or found.shape != shape:
                raise ValueError(
                    f"{name} should be {np.dtype(dtype)} {shape}; got {found.dtype} {found.shape}"
                )
        moments = {
            quantity: Moments(*(arrays[f"{quantity}.{part}"] for part in ("counts", "means", "squares")))
            for quantity in header["quantities"]
        }
        extra, L = arrays["extra_pairs"], QUANTITIES["L"].check(arrays["L"])
        QUANTITIES["eta"].check_all(arrays["eta"])
        if not ((extra >= 0) & (extra <= T)).all():
            raise ValueError(f"its extra pairs should lie in [0, {T}]")
        for quantity, m in moments.items():
            with np.errstate(all="ignore"):
                mean = m.mean
            if (m.counts < 0).any() or not np.isfinite([*m.means, mean]).all() or not (m.squares >= 0).all():
                raise ValueError(f"the moments of {quantity} are no moments of numbers")
        if not 1 <= R <= header["replicas"] or any(m.count != R for m in moments.values()):
            raise ValueError("its numbers of replicas contradict each other")
        if not (np.diff(arrays["times"], prepend=-1, append=T) > 0).all():
            raise ValueError(f"times should increase within 0, …, {T - 1}; got {arrays['times']}")
        return cls(
            moments=moments,
            extra_pairs=extra,
            eta=arrays["eta"],
            L=L,
            description=header["description"],
            backend=header["backend"],
            times=arrays["times"],
            replicas=header["replicas"],
            points=arrays.get("points"),
            counts=(
                {quantity: arrays[f"{quantity}.sketch"] for quantity in moments}
                if "gap.sketch" in arrays
                else None
            ),
        )

    def __repr__(self) -> str:
        words = [self.description, f"{self.backend} engine"]
        if self.times.size < self.eta.size:
            words.append(f"measured at {self.times.size} of its steps and the end")
        if self.partial:
            words.append(f"partial: {self.extra_pairs.size:,} of {self.replicas:,} replicas")
        return f"Trajectories({', '.join(words)})"

    def _repr_html_(self) -> str:
        rows = []
        for quantity in self.moments:
            along, last = self._along(quantity).mean, self._final(quantity)
            curve = display.sparkline(along, low=0.0)
            rows.append((quantity.replace("_", " "), display.number(along[0]), curve, last._repr_html_()))
        pairs = f"Extra pairs: {display.number(self.extra_pairs.mean())} on average."
        measured = display.table(rows, ("mean of", f"at t = {self.times[0]}", "along the run", "at the end"))
        return display.stack(display.code(self), measured, pairs)


def _require_room(file: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Nothing where a member holds as many bytes as it announces: NumPy makes room for them beforehand.

    Raises:
        ValueError: it does not, or is no array.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{member.filename} is an array of version {version}, not (1, 0)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of Python, which reads the header as an expression
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{member.filename} announces {shape} of {dtype} in {member.file_size} bytes")


def _read(content: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The header and the arrays of an archive, every byte of them checked against its checksum."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        for member in archive.infolist():
            with archive.open(member) as file:
                _require_room(file, member)
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    # As `save` writes it: NumPy would read 4 bytes that are no character as one.
    header = json.loads(str(arrays.pop("header")).encode("ascii"))
    if header["format"] != _FORMAT:
        raise ValueError(f"its format is {header['format']!r}, not {_FORMAT!r}")
    if header["version"] != _VERSION:
        raise ValueError(f"its version is {header['version']!r}; this one reads version {_VERSION}")
    kinds = {"description": str, "backend": str, "replicas": int, "quantities": list}
    for key, kind in kinds.items():
        if type(header[key]) is not kind:
            raise ValueError(f"{key} in its header is {header[key]!r}")
    (header["description"] + header["backend"]).encode()  # nor are halves of surrogate pairs
    if tuple(header["quantities"]) not in (_QUANTITIES, _QUANTITIES[:2]):
        raise ValueError(f"it holds the quantities {header['quantities']}")
    return header, arrays
