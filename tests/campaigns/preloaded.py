"""What the server of `kills` loads before it forks: the libraries that the jobs take longest to load."""

import joblib.externals.loky  # noqa: F401
import matplotlib.backends.backend_agg  # noqa: F401
import pydantic  # noqa: F401
import rich.live  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch._dynamo  # noqa: F401

import experiments.pool  # noqa: F401
import rst_theory.cli
import rst_theory.report
import rst_theory.simulation
import rst_theory.training  # noqa: F401
