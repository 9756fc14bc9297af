"""Data sets that come with their library: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rst_theory.notation import FloatArray
from rst_theory.training.seeds import generator

__all__ = ["DATA", "DataSet", "Split", "load_data"]

Labels = npt.NDArray[np.int64]


class Split(NamedTuple):
    """Images (n, 1, height, width) in [0, 1] and labels int64 (n,), for training and for the test."""

    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class DataSet:
    """A data set: its size, its classes, and how to load it.

    Attributes:
        examples: how many there are.
        classes: labels are 0, …, classes - 1.
        shape: of an image, (height, width).
        load: returns images (examples, height, width) in [0, 1] and labels (examples,).
    """

    examples: int
    classes: int
    shape: tuple[int, int]
    load: Callable[[], tuple[FloatArray, Labels]]


def _digits() -> tuple[FloatArray, Labels]:
    """Handwritten digits, 8 x 8 pixels of 0 … 16: the test part of the UCI set (Alpaydin & Kaynak, 1998)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn: install the extra with pip install 'rst-theory[experiments]'"
        ) from error
    digits = load_digits()
    return digits.images / 16.0, digits.target.astype(np.int64)


DATA: dict[str, DataSet] = {"digits": DataSet(examples=1797, classes=10, shape=(8, 8), load=_digits)}


def load_data(name: str, train_size: int, label_noise: float, seed: int) -> Split:
    """A data set, split at random, with part of the training labels redrawn.

    Args:
        name: a key of `DATA`.
        train_size: training examples; all others are for the test.
        label_noise: round(label_noise * train_size) training labels are drawn anew, uniformly over all
            classes (so that about one in `classes` of them stays right). Test labels are left alone.
        seed: the repetition; split and noise come from it alone.

    Raises:
        ImportError: the library that holds the data is absent; names the extra.
    """
    data = DATA[name]
    images, labels = data.load()
    order = generator(seed, "split").permutation(data.examples)
    train, test = order[:train_size], order[train_size:]
    noisy = labels[train]
    draw = generator(seed, "label noise")
    redrawn = draw.permutation(train_size)[: round(label_noise * train_size)]
    noisy[redrawn] = draw.integers(data.classes, size=redrawn.size)
    inputs = torch.as_tensor(images)[:, None]
    return Split(inputs[train], torch.as_tensor(noisy), inputs[test], torch.as_tensor(labels[test]))
