"""The PyTorch optimizer: RST and G-RST (and so SAM) around any `torch.optim.Optimizer`."""

from rst_theory.optim.graphs import GraphedStep
from rst_theory.optim.passes import kept_statistics
from rst_theory.optim.rst import RST

__all__ = ["RST", "GraphedStep", "kept_statistics"]
