"""All figures of a results folder, by their keys, and as files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rst_theory.files import write_together
from rst_theory.plots import style
from rst_theory.plots.accuracy import plot_accuracy, plot_fashion
from rst_theory.plots.allocation import plot_allocation
from rst_theory.plots.bounds import plot_bounds
from rst_theory.plots.collapse import plot_collapse
from rst_theory.plots.convergence import plot_convergence
from rst_theory.plots.cost import plot_cost
from rst_theory.plots.decay import plot_decay, plot_decay_exact
from rst_theory.plots.drift import plot_drift
from rst_theory.plots.floor_exponents import plot_floor_exponents
from rst_theory.plots.order import plot_order
from rst_theory.plots.pairs import plot_pairs
from rst_theory.plots.pareto import plot_pareto
from rst_theory.plots.price import plot_price
from rst_theory.plots.realized_cost import plot_realized_cost
from rst_theory.plots.regimes import plot_regimes
from rst_theory.plots.scaling import plot_scaling
from rst_theory.plots.schedules import plot_schedules
from rst_theory.plots.stability import plot_stability
from rst_theory.plots.tables import Results
from rst_theory.plots.tightness import plot_tightness
from rst_theory.plots.training import plot_training

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "draw_all", "encoded", "figures"]

FIGURES: dict[str, tuple[str, Callable[..., Figure]]] = {
    "schedules": ("cost", plot_schedules),
    "cost": ("cost", plot_cost),
    "bounds": ("bounds", plot_bounds),
    "convergence": ("curves", plot_convergence),
    "regimes": ("one_step", lambda rows, width=style.DOUBLE: plot_regimes(width=width)),
    "tightness": ("tightness", plot_tightness),
    "price": ("price", plot_price),
    "decay": ("decay_curves", plot_decay),
    "decay_exact": ("decay_curves", plot_decay_exact),
    "realized_cost": ("realized_cost", plot_realized_cost),
    "allocation": ("allocation", plot_allocation),
    "engine_scaling": ("benchmark_scaling", plot_scaling),
    "floor_exponents": ("floor_points", plot_floor_exponents),
    "stability": ("stability", plot_stability),
    "accuracy": ("digits_summary", plot_accuracy),
    "training": ("digits_history", plot_training),
    "pairs": ("digits_runs", plot_pairs),
    "fashion": ("fashion_summary", plot_fashion),
    "collapse": ("collapse", plot_collapse),
    "drift": ("drift", plot_drift),
    "order": ("order", plot_order),
    "pareto": ("pareto", plot_pareto),
}
"""The results file that each figure is drawn from, and the function that draws it.

The map of regimes is pure theory; it stands beside the table that checks it.
"""


def figures(results: Path | Results, width: float = style.DOUBLE) -> dict[str, Figure]:
    """Every figure whose results are there, by its key in `FIGURES`.

    Args:
        results: a results folder, or what was read from one.
        width: of the figures, in inches.

    Raises:
        NotADirectoryError: there is no such folder.
        ResultsError: a file is malformed; the message names the file, the row and the field.
    """
    found = results if isinstance(results, Results) else Results.read(Path(results))
    rows = {key: getattr(found, source) for key, (source, _) in FIGURES.items()}
    return {key: FIGURES[key][1](rows[key], width=width) for key in FIGURES if rows[key] is not None}


def draw_all(results: Path, folder: Path) -> list[Path]:
    """Draw every figure whose results are there into `folder`, as PNG at 200 dpi and as SVG.

    The files are named by the figures' keys and appear whole or not at all; the same results give the
    same bytes under the same version of Matplotlib. Nothing is written unless everything can be drawn.

    Args:
        results: a results folder.
        folder: is made where it does not exist.

    Returns:
        The files written.

    Raises:
        NotADirectoryError: there is no such results folder.
        ResultsError: a file is malformed; the message names the file, the row and the field.
        OSError: a file cannot be written; then the old ones are still there.
    """
    contents: dict[Path, bytes | str] = {
        Path(folder) / f"{key}.{ending}": encoded(figure, ending)
        for key, figure in figures(results).items()
        for ending in ("png", "svg")
    }
    write_together(contents)
    return list(contents)


@style.styled
def encoded(figure: Figure, ending: Literal["png", "svg"]) -> bytes:
    """A figure as the bytes of a PNG or SVG file, without dates or versions in them."""
    nothing: dict[str, Any] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    }[ending]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=ending, metadata=nothing)
    return buffer.getvalue()
