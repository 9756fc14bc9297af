"""Notebooks for the four uses of the package: they run from top to bottom and are kept with their outputs."""
