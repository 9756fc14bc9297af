"""Real networks: data, models, the training loop, and records that can be rerun."""

from rst_theory.training.config import TrainConfig
from rst_theory.training.data import DATA, Split, load_data
from rst_theory.training.loop import train
from rst_theory.training.models import MLP, MODELS, SmallCNN, build_model
from rst_theory.training.records import RunRecord, load_record, save_record

__all__ = [
    "DATA",
    "MLP",
    "MODELS",
    "RunRecord",
    "SmallCNN",
    "Split",
    "TrainConfig",
    "build_model",
    "load_data",
    "load_record",
    "save_record",
    "train",
]
