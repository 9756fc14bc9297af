"""Fashion-MNIST's files with few images, for tests that train on them."""

import struct

import numpy as np


def write_images(folder, train=90, test=30, seed=0):
    """Two classes, dark and bright, in random noise."""
    draw = np.random.default_rng(seed)
    for name, n in (("train", train), ("t10k", test)):
        labels = draw.integers(2, size=n)
        images = draw.integers(100, size=(n, 28, 28)) + 150 * labels[:, None, None]
        (folder / f"{name}-images-idx3-ubyte").write_bytes(
            struct.pack(">4i", 2051, n, 28, 28) + images.astype(np.uint8).tobytes()
        )
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 2049, n) + labels.astype(np.uint8).tobytes()
        )
