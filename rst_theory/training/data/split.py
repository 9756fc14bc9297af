"""Training and test examples of one repetition, as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rst_theory.notation import DomainError, Interval, natural
from rst_theory.training.data.formats import Examples
from rst_theory.training.data.sets import DATA
from rst_theory.training.seeds import generator

__all__ = ["Split", "as_floats", "load_data"]

_UNIT = Interval(0.0, 1.0)


class Split(NamedTuple):
    """Images and labels for training and for the test.

    Images are (n, channels, height, width): float64 in [0, 1] for digits, uint8 for the sets from files
    (`as_floats` takes both to [0, 1] in any precision). Labels are int64 (n,).
    """

    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor


def load_data(
    name: str, train_size: int | None, label_noise: float, seed: int, directory: Path | None = None
) -> Split:
    """The examples of a repetition, with part of the training labels redrawn.

    Args:
        name: a key of `DATA`.
        train_size: training examples, drawn at random without replacement; None for all. Where the set has no
            test set of its own, all others are for the test, so that there must be some: None is refused.
        label_noise: round(label_noise * train_size) training labels are drawn anew, uniformly over all
            classes (so that about one in `classes` of them stays right). Test labels are left alone.
        seed: the repetition; split, order and noise come from it alone.
        directory: where the files of the set are; not looked at for digits, which have none.

    Raises:
        ImportError: the library that holds the data is absent; names the extra.
        FileNotFoundError: a file is not there; tells what was looked for, and where.
        TypeError: a train_size or seed that is no integer.
        ValueError: an unknown name, no directory, a damaged file, or as a DomainError a number outside its
            domain, a train_size larger than what was loaded among them.
    """
    if name not in DATA:
        raise ValueError(f"data must be one of {', '.join(DATA)}; got {name!r}")
    seed = natural("seed", seed, below=2**64)
    if not _UNIT.contains(label_noise):
        raise DomainError(f"label_noise in {_UNIT}", label_noise)
    data = DATA[name]
    loaded, test = data.load(directory)
    order = generator(seed, "split").permutation(len(loaded.labels))
    if test is None:
        if train_size is None:
            raise ValueError(f"{name} has no test set of its own: train_size must be a number; got None")
        size = natural("train_size", train_size, 1, below=order.size)
        test = Examples(loaded.images[order[size:]], loaded.labels[order[size:]])
    else:
        size = order.size if train_size is None else natural("train_size", train_size, 1, order.size + 1)
    images, labels = loaded.images[order[:size]], loaded.labels[order[:size]]
    draw = generator(seed, "label noise")
    redrawn = draw.permutation(size)[: round(label_noise * size)]
    labels[redrawn] = draw.integers(data.classes, size=redrawn.size)
    return Split(*(torch.from_numpy(part) for part in (images, labels, test.images, test.labels)))


def as_floats(inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """Images in [0, 1] as floating-point numbers: bytes are divided by 255, others cast; any layout is kept.

    Raises:
        TypeError: images of other integers, or a dtype that is not floating.
    """
    if not dtype.is_floating_point or not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
        raise TypeError(f"required: uint8 or floating images, a floating dtype; got {inputs.dtype}, {dtype}")
    return inputs.to(dtype) / 255 if inputs.dtype == torch.uint8 else inputs.to(dtype)
