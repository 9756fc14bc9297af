"""Figures from saved tables and result objects; each is a Matplotlib figure that belongs to no window.

Every `plot_*` takes the rows of one table of a results folder and a width in inches: `SINGLE` or `DOUBLE`
columns of a printed page. `plot_schedules`, `plot_cost` and `plot_convergence` take schedules, laws of the
cost and simulations as well.
"""

from rst_theory.plots.accuracy import plot_accuracy, plot_fashion
from rst_theory.plots.allocation import plot_allocation
from rst_theory.plots.bounds import plot_bounds
from rst_theory.plots.collapse import plot_collapse
from rst_theory.plots.comparison import plot_comparison
from rst_theory.plots.convergence import plot_convergence
from rst_theory.plots.cost import plot_cost
from rst_theory.plots.decay import plot_decay, plot_decay_exact
from rst_theory.plots.drift import plot_drift
from rst_theory.plots.floor_exponents import plot_floor_exponents
from rst_theory.plots.gallery import FIGURES, draw_all, encoded, figures
from rst_theory.plots.order import plot_order
from rst_theory.plots.pairs import plot_pairs
from rst_theory.plots.pareto import plot_pareto
from rst_theory.plots.price import plot_price
from rst_theory.plots.realized_cost import plot_realized_cost
from rst_theory.plots.regimes import plot_regimes
from rst_theory.plots.rows import Comparison, comparison_row, cost_row, curve_row
from rst_theory.plots.scaling import plot_scaling
from rst_theory.plots.schedules import plot_schedules
from rst_theory.plots.stability import plot_stability
from rst_theory.plots.style import DOUBLE, SINGLE
from rst_theory.plots.tables import Results, ResultsError, Row
from rst_theory.plots.tightness import plot_tightness
from rst_theory.plots.training import plot_training

__all__ = [
    "DOUBLE",
    "FIGURES",
    "SINGLE",
    "Comparison",
    "Results",
    "ResultsError",
    "Row",
    "comparison_row",
    "cost_row",
    "curve_row",
    "draw_all",
    "encoded",
    "figures",
    "plot_accuracy",
    "plot_allocation",
    "plot_bounds",
    "plot_collapse",
    "plot_comparison",
    "plot_convergence",
    "plot_cost",
    "plot_decay",
    "plot_decay_exact",
    "plot_drift",
    "plot_fashion",
    "plot_floor_exponents",
    "plot_order",
    "plot_pairs",
    "plot_pareto",
    "plot_price",
    "plot_realized_cost",
    "plot_regimes",
    "plot_scaling",
    "plot_schedules",
    "plot_stability",
    "plot_tightness",
    "plot_training",
]
