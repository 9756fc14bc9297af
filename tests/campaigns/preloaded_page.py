"""Loaded before the jobs of `kills` are forked: the explorer's values, which are the same on every page."""

from rst_theory.report import _grid

_grid()
