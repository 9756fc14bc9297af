"""The cost of a run beyond SGD: the law of the number N of extra propagation pairs."""

from rst_theory.cost.law import CostLaw, TailMethod
from rst_theory.cost.symbolic import ClosedForm, closed_form

__all__ = ["ClosedForm", "CostLaw", "TailMethod", "closed_form"]
