"""Image sets: digits from scikit-learn, IDX and CIFAR from files; label noise and augmentation."""

from rst_theory.training.data.augmentation import AUGMENTATIONS, augment
from rst_theory.training.data.sets import DATA, DataSet
from rst_theory.training.data.split import Split, as_floats, load_data

__all__ = ["AUGMENTATIONS", "DATA", "DataSet", "Split", "as_floats", "augment", "load_data"]
