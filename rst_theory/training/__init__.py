"""Real networks: data, models, the training loop, and records that can be rerun."""

from rst_theory.training.config import TrainConfig
from rst_theory.training.data import AUGMENTATIONS, DATA, Split, as_floats, augment, load_data
from rst_theory.training.loop import Epoch, train
from rst_theory.training.models import MODELS, build_model
from rst_theory.training.records import RunRecord, load_record, save_record

__all__ = [
    "AUGMENTATIONS",
    "DATA",
    "MODELS",
    "Epoch",
    "RunRecord",
    "Split",
    "TrainConfig",
    "as_floats",
    "augment",
    "build_model",
    "load_data",
    "load_record",
    "save_record",
    "train",
]
