"""The image sets by name: one comes with scikit-learn, the others from files; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rst_theory.training.data.formats import Examples, cifar_examples, idx_examples

__all__ = ["DATA", "DataSet"]


@dataclass(frozen=True)
class DataSet:
    """An image set: its size, its classes, and how to load it.

    Attributes:
        train: the usual number of training examples; files may hold another. Where the set has no test set
            of its own, all of its examples.
        test: the usual number of test examples; None where training and test examples are to be chosen at
            random from one set.
        classes: labels are 0, …, classes - 1.
        shape: of an image, (channels, height, width).
        load: given the directory of the files (None where there are none), returns the examples for training
            and those for the test, or None in their place.
    """

    train: int
    test: int | None
    classes: int
    shape: tuple[int, int, int]
    load: Callable[[Path | None], tuple[Examples, Examples | None]]


def _digits(directory: Path | None) -> tuple[Examples, None]:
    """Handwritten digits, 8 x 8 pixels of 0 … 16: the test part of the UCI set (Alpaydin & Kaynak, 1998)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn: install the extra with pip install 'rst-theory[experiments]'"
        ) from error
    digits = load_digits()
    return Examples(digits.images[:, None] / 16.0, digits.target.astype(np.int64)), None


def _mnist(directory: Path | None) -> tuple[Examples, Examples]:
    """MNIST (LeCun, Cortes & Burges), and Fashion-MNIST (arXiv 1708.07747) in files of the same names."""
    return idx_examples(directory, "train", (28, 28), 10), idx_examples(directory, "t10k", (28, 28), 10)


def _cifar10(directory: Path | None) -> tuple[Examples, Examples]:
    """CIFAR-10 (Krizhevsky, 2009), the binary version."""
    batches = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
    folder, ranges = "cifar-10-batches-bin", (10,)
    return (
        cifar_examples(directory, folder, batches, ranges),
        cifar_examples(directory, folder, ("test_batch.bin",), ranges),
    )


def _cifar100(directory: Path | None) -> tuple[Examples, Examples]:
    """CIFAR-100 (Krizhevsky, 2009), the binary version, with its 100 fine labels."""
    folder, ranges = "cifar-100-binary", (20, 100)
    return (
        cifar_examples(directory, folder, ("train.bin",), ranges),
        cifar_examples(directory, folder, ("test.bin",), ranges),
    )


DATA: dict[str, DataSet] = {
    "digits": DataSet(1797, None, 10, (1, 8, 8), _digits),
    "mnist": DataSet(60000, 10000, 10, (1, 28, 28), _mnist),
    "fashion-mnist": DataSet(60000, 10000, 10, (1, 28, 28), _mnist),
    "cifar10": DataSet(50000, 10000, 10, (3, 32, 32), _cifar10),
    "cifar100": DataSet(50000, 10000, 100, (3, 32, 32), _cifar100),
}
