"""Readers of the files that image sets come in: IDX, and the binary form of CIFAR.

IDX (MNIST, http://yann.lecun.com/exdb/mnist/): the bytes 0, 0, 8 (unsigned bytes follow) and d; then d sizes,
each a big-endian integer of 4 bytes; then the entries of that array, the last index fastest. Images have
d = 3, labels d = 1. Plain, or compressed with gzip.

CIFAR (https://www.cs.toronto.edu/~kriz/cifar.html): records and nothing else, each of one label byte
(CIFAR-10) or two (CIFAR-100: coarse, then fine) and the pixels: all of red, then green, then blue.

A file is believed in nothing: its sizes must be those of the set before any entry is read, no more than one
byte beyond them is read, and its labels must be classes of the set.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["LARGEST", "Examples", "cifar_examples", "find_file", "idx_examples", "read_cifar", "read_idx"]

ByteArray = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
ByteStream = gzip.GzipFile | io.BufferedReader

LARGEST = 2**30
"""The most bytes that one file may hold, unpacked: nearly seven times the largest file of these sets."""

_CHUNK = 2**20
_UNSIGNED_BYTE = 8
_CIFAR = (3, 32, 32)


class Examples(NamedTuple):
    """Images (n, channels, height, width), uint8 or float64 in [0, 1], and their labels (n,)."""

    images: npt.NDArray[Any]
    labels: Labels


def idx_examples(directory: Path | None, part: str, shape: tuple[int, int], classes: int) -> Examples:
    """The images and labels of one part of a set in IDX files, `{part}-images-idx3-ubyte` and its like.

    Args:
        directory: where the files are.
        part: "train" or "t10k".
        shape: (height, width) of an image, which the files must declare.
        classes: labels must be 0, …, classes - 1.

    Raises:
        FileNotFoundError: a file is not there; tells what was looked for, and where.
        ValueError: a file is damaged or is not what it should be; or images and labels differ in number.
    """
    images_file = find_file(directory, _idx_names(part, "images", 3))
    labels_file = find_file(directory, _idx_names(part, "labels", 1))
    images, labels = read_idx(images_file, shape), read_idx(labels_file, ())
    if len(images) != len(labels):
        raise ValueError(
            f"every image must have one label; {images_file} holds {len(images)} images and "
            f"{labels_file} {len(labels)} labels"
        )
    return Examples(images[:, None], _checked(labels_file, "label", labels, classes))


def cifar_examples(
    directory: Path | None, folder: str, files: tuple[str, ...], ranges: tuple[int, ...]
) -> Examples:
    """The images and labels of one part of a set in CIFAR's binary files, one file after the other.

    Args:
        directory: where the files are, or where the folder is that they are unpacked into.
        folder: the name of that folder.
        files: their names; all must be there.
        ranges: of the label bytes of a record, as in `read_cifar`.

    Raises:
        FileNotFoundError: a file is not there; tells what was looked for, and where.
        ValueError: a file is damaged or is not what it should be.
    """
    parts = [read_cifar(find_file(directory, (name, f"{folder}/{name}")), ranges) for name in files]
    images, labels = zip(*parts, strict=True)
    return Examples(np.concatenate(images), np.concatenate(labels))


def find_file(directory: Path | None, names: tuple[str, ...]) -> Path:
    """The first of these names that is a file in the directory.

    Raises:
        FileNotFoundError: there is none; tells what was looked for, and where.
        ValueError: the directory is None.
    """
    if directory is None:
        raise ValueError(f"directory must say where {names[0]} and the other files of the set are; got None")
    for name in names:
        if (path := Path(directory) / name).is_file():
            return path
    where = f"in {directory}" if Path(directory).is_dir() else f"in {directory}, which is no directory,"
    raise FileNotFoundError(f"looked {where} for {' or '.join(names)}, and found no such file")


def read_idx(path: Path, shape: tuple[int, ...]) -> ByteArray:
    """The array of bytes in an IDX file, compressed where the name ends in .gz.

    Args:
        path: the file.
        shape: of one entry; the file must declare (n, *shape) with n at least 1.

    Returns:
        uint8 (n, *shape), as many as the file declares and holds.

    Raises:
        ValueError: another kind of file, other sizes, fewer or more bytes than its sizes say, more than
            `LARGEST`, or damaged compression. The message has the file, what was found and what is allowed.
    """
    magic = bytes((0, 0, _UNSIGNED_BYTE, 1 + len(shape)))
    with _opened(path) as file:
        found = _up_to(file, 4)
        if found != magic:
            raise ValueError(
                f"{path} begins with the bytes [{found.hex(' ')}]; "
                f"an IDX file of bytes in {1 + len(shape)} dimensions begins with [{magic.hex(' ')}]"
            )
        header = _up_to(file, 4 * (1 + len(shape)))
        if len(header) < 4 * (1 + len(shape)):
            raise ValueError(f"{path} ends within its header, after {4 + len(header)} bytes")
        count, *rest = (int(size) for size in np.frombuffer(header, ">u4"))
        most = LARGEST // math.prod(shape)
        if tuple(rest) != shape or not 1 <= count <= most:
            wanted = " x ".join(map(str, ("n", *shape)))
            raise ValueError(
                f"{path} declares {' x '.join(map(str, (count, *rest)))} bytes; "
                f"it must declare {wanted} with 1 <= n <= {most}"
            )
        size = count * math.prod(shape)
        content = _up_to(file, size + 1)
    if len(content) != size:
        held = f"only {len(content)}" if len(content) < size else "more"
        raise ValueError(f"{path} declares {size} bytes after its header and holds {held}")
    return np.frombuffer(content, np.uint8).reshape(count, *shape)


def read_cifar(path: Path, ranges: tuple[int, ...]) -> Examples:
    """The images and labels in one of CIFAR's binary files; such a file does not say how many there are.

    Args:
        path: the file.
        ranges: for each label byte of a record, the number of its classes; the last one is the label.

    Returns:
        Images uint8 (n, 3, 32, 32) and labels (n,).

    Raises:
        ValueError: not a whole number of records and at least one, more than `LARGEST` bytes, or a label
            outside its range. The message has the file, what was found and what is allowed.
    """
    with _opened(path) as file:
        content = _up_to(file, LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"{path} holds more than {LARGEST} bytes, the most that is allowed")
    record = len(ranges) + math.prod(_CIFAR)
    if not content or len(content) % record:
        raise ValueError(f"{path} holds {len(content)} bytes; it must hold one or more records of {record}")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    names = ("label",) if len(ranges) == 1 else ("coarse label", "fine label")
    for column, (name, classes) in enumerate(zip(names, ranges, strict=True)):
        labels = _checked(path, name, records[:, column], classes)
    return Examples(records[:, len(ranges) :].reshape(-1, *_CIFAR), labels)


def _idx_names(part: str, kind: str, dimensions: int) -> tuple[str, ...]:
    """MNIST's own spelling, and the one that some archives unpack to; each plain and compressed."""
    stems = (f"{part}-{kind}-idx{dimensions}-ubyte", f"{part}-{kind}.idx{dimensions}-ubyte")
    return tuple(stem + ending for stem in stems for ending in ("", ".gz"))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ByteStream]:
    """The file, unpacked on the way where its name ends in .gz; damaged compression is a ValueError."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged, or not compressed with gzip: {error}") from error


def _up_to(file: ByteStream, size: int) -> bytearray:
    """The next `size` bytes, or all that are left; takes no more memory than there are bytes."""
    content = bytearray()
    while chunk := file.read(min(_CHUNK, size - len(content))):
        content += chunk
    return content


def _checked(path: Path, name: str, labels: ByteArray, classes: int) -> Labels:
    """The labels as integers, where all of them are classes."""
    wrong = np.flatnonzero(labels >= classes)
    if wrong.size:
        raise ValueError(
            f"{path}: {name} {labels[wrong[0]]} of example {wrong[0]}; the largest allowed is {classes - 1}"
        )
    return labels.astype(np.int64)
