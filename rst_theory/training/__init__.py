"""Real networks: data, models, the training loop, and records that can be rerun."""

from rst_theory.training.config import TrainConfig
from rst_theory.training.data import AUGMENTATIONS, DATA, DataSet, Split, as_floats, augment, load_data
from rst_theory.training.loop import train, trained
from rst_theory.training.models import MLP, MODELS, ResNet18, SmallCNN, ViT, WideResNet, build_model
from rst_theory.training.processes import is_first
from rst_theory.training.records import RunRecord, load_record, save_record
from rst_theory.training.run import Epoch
from rst_theory.training.sharpness import Hessian

__all__ = [
    "AUGMENTATIONS",
    "DATA",
    "MLP",
    "MODELS",
    "DataSet",
    "Epoch",
    "Hessian",
    "ResNet18",
    "RunRecord",
    "SmallCNN",
    "Split",
    "TrainConfig",
    "ViT",
    "WideResNet",
    "as_floats",
    "augment",
    "build_model",
    "is_first",
    "load_data",
    "load_record",
    "save_record",
    "train",
    "trained",
]
