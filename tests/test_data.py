"""Data: files in the formats of MNIST and CIFAR, sound and damaged; splits, label noise, augmentation."""

import contextlib
import gzip
import itertools
import math
import re
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from conftest import COMPARISON_ALARM, z_threshold
from hypothesis import given, settings, strategies as st
from scipy import stats
from sklearn.datasets import load_digits

from rst_theory.notation import DomainError
from rst_theory.training.data import (
    AUGMENTATIONS,
    DATA,
    Split,
    as_floats,
    augment,
    formats,
    load_data,
)
from rst_theory.training.data.formats import read_cifar, read_idx

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU"))]

# ---- writers: the formats once more, in a few lines


def idx_bytes(array):
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def cifar_bytes(images, *labels):
    rows = zip(*labels, images, strict=True)
    return b"".join(bytes(map(int, row[:-1])) + row[-1].tobytes() for row in rows)


def random_examples(n, shape, classes, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(n, *shape), dtype=np.uint8), rng.integers(classes, size=n)


def write(path, content, compress=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if compress else content)


def write_mnist(folder, train=30, test=7, dot=False, compress=False):
    """Files of MNIST's form; returns what they hold."""
    written = []
    for part, n in (("train", train), ("t10k", test)):
        images, labels = random_examples(n, (28, 28), 10, n)
        for kind, array in (("images", images), ("labels", labels.astype(np.uint8))):
            name = f"{part}-{kind}{'.' if dot else '-'}idx{array.ndim}-ubyte{'.gz' if compress else ''}"
            write(folder / name, idx_bytes(array), compress)
        written += [images[:, None], labels]
    return written


def write_cifar10(folder):
    parts = [random_examples(n, (3, 32, 32), 10, n) for n in (3, 5, 2, 4, 6, 7)]
    for number, part in enumerate(parts, start=1):
        name = f"data_batch_{number}.bin" if number < 6 else "test_batch.bin"
        write(folder / name, cifar_bytes(*part))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts[:5], strict=True))
    return [images, labels, *parts[5]]


def write_cifar100(folder):
    written = []
    for name, n in (("train.bin", 20), ("test.bin", 7)):
        images, labels = random_examples(n, (3, 32, 32), 100, n)
        write(folder / name, cifar_bytes(images, labels // 5, labels))
        written += [images, labels]
    return written


WRITERS = {
    "mnist": write_mnist,
    "fashion-mnist": write_mnist,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
}


def stream(seed, purpose):
    """The random numbers of a repetition, written again."""
    return np.random.default_rng([seed, zlib.crc32(purpose), 0])


def equal(split, arrays):
    return all(np.array_equal(part.numpy(), array) for part, array in zip(split, arrays, strict=True))


# ---- sound files


def test_an_idx_file_written_by_hand(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(250, 256), *range(6)]))
    images = read_idx(path, (2, 3))
    assert images.tolist() == [[[250, 251, 252], [253, 254, 255]], [[0, 1, 2], [3, 4, 5]]]
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 4, 7, 0, 9, 255]))
    assert read_idx(path, ()).tolist() == [7, 0, 9, 255]


def test_a_cifar_file_written_by_hand(tmp_path):
    red, green, blue = bytearray(1024), bytearray(1024), bytearray(1024)
    red[1], green[32], blue[1023] = 11, 22, 33
    path = tmp_path / "batch"
    path.write_bytes(b"\x09" + red + green + blue + b"\x00" + bytes([200]) * 3072)
    images, labels = read_cifar(path, (10,))
    assert labels.tolist() == [9, 0]
    assert images.shape == (2, 3, 32, 32)
    assert np.argwhere(images[0]).tolist() == [[0, 0, 1], [1, 1, 0], [2, 31, 31]]
    assert images[0][images[0] > 0].tolist() == [11, 22, 33]
    assert (images[1] == 200).all()
    path.write_bytes(b"\x13\x63" + red + green + blue)
    images, labels = read_cifar(path, (20, 100))
    assert labels.tolist() == [99]
    assert images[0, :, 0, 1].tolist() == [11, 0, 0]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("compress", [False, True])
def test_mnist_is_found_under_either_spelling_plain_or_compressed(tmp_path, name, dot, compress):
    images, labels, *test = write_mnist(tmp_path, dot=dot, compress=compress)
    order = stream(5, b"split").permutation(30)
    split = load_data(name, 20, 0.0, 5, tmp_path)
    assert equal(split, [images[order[:20]], labels[order[:20]], *test])


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(
    "name, folder", [("cifar10", "cifar-10-batches-bin"), ("cifar100", "cifar-100-binary")]
)
def test_cifar_is_found_in_the_directory_or_the_folder_that_it_unpacks_to(tmp_path, name, folder, unpacked):
    images, labels, *test = WRITERS[name](tmp_path / folder if unpacked else tmp_path)
    order = stream(2, b"split").permutation(20)
    split = load_data(name, 20, 0.0, 2, tmp_path)
    assert equal(split, [images[order], labels[order], *test])


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_from_files_is_what_its_entry_says(tmp_path, name):
    WRITERS[name](tmp_path)
    split, entry = load_data(name, None, 0.5, 0, tmp_path), DATA[name]
    for inputs, labels in (split[:2], split[2:]):
        assert inputs.shape == (len(labels), *entry.shape)
        assert inputs.dtype == torch.uint8 and labels.dtype == torch.int64
        assert labels.min() >= 0 and labels.max() < entry.classes
        assert inputs.is_contiguous()
    assert (entry.train, entry.test) == (60_000 if "mnist" in name else 50_000, 10_000)


# ---- damaged files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


IMAGES = np.random.default_rng(0).integers(256, size=(5, 3, 4), dtype=np.uint8)
PLAIN = idx_bytes(IMAGES)
PACKED = gzip.compress(PLAIN)


def refusal(path, read, *arguments):
    """What the error says, which names the file."""
    with pytest.raises(ValueError) as caught:
        read(path, *arguments)
    assert str(path) in str(caught.value)
    return str(caught.value)


def sound_or_refused(path, read, expected, *arguments):
    """Damage is told, or it did none."""
    with contextlib.suppress(ValueError):
        assert np.array_equal(read(path, *arguments), expected)
        return
    refusal(path, read, *arguments)


@given(length=st.integers(0, len(PLAIN) - 1))
def test_a_truncated_idx_file_is_refused(folder, length):
    (folder / "cut").write_bytes(PLAIN[:length])
    message = refusal(folder / "cut", read_idx, (3, 4))
    if length >= 16:
        assert message.endswith(f"declares 60 bytes after its header and holds only {length - 16}")


@given(more=st.binary(min_size=1, max_size=100), compress=st.booleans())
def test_an_idx_file_with_bytes_after_its_end_is_refused(folder, more, compress):
    path = folder / ("long.gz" if compress else "long")
    write(path, PLAIN + more, compress)
    assert refusal(path, read_idx, (3, 4)).endswith("declares 60 bytes after its header and holds more")


@given(place=st.integers(0, 15), change=st.integers(1, 255), compress=st.booleans())
def test_an_idx_file_with_another_header_is_refused(folder, place, change, compress):
    damaged = bytearray(PLAIN)
    damaged[place] ^= change
    path = folder / ("header.gz" if compress else "header")
    write(path, damaged, compress)
    message = refusal(path, read_idx, (3, 4))
    if place < 4:
        assert "begins with [00 00 08 03]" in message and bytes(damaged[:4]).hex(" ") in message
    elif place >= 8:
        assert "must declare n x 3 x 4" in message


@given(length=st.integers(0, len(PACKED) - 1))
def test_a_truncated_compressed_file_is_refused(folder, length):
    (folder / "cut.gz").write_bytes(PACKED[:length])
    refusal(folder / "cut.gz", read_idx, (3, 4))


@given(place=st.integers(0, len(PACKED) - 1), change=st.integers(1, 255))
def test_a_compressed_file_with_a_changed_byte_is_refused_or_read_right(folder, place, change):
    damaged = bytearray(PACKED)
    damaged[place] ^= change
    (folder / "changed.gz").write_bytes(damaged)
    sound_or_refused(folder / "changed.gz", read_idx, IMAGES, (3, 4))


@given(more=st.binary(min_size=1, max_size=40))
def test_a_compressed_file_with_bytes_after_its_end_is_refused_or_read_right(folder, more):
    """The format of gzip allows zeros after the end."""
    (folder / "after.gz").write_bytes(PACKED + more)
    sound_or_refused(folder / "after.gz", read_idx, IMAGES, (3, 4))


def test_a_second_compressed_part_counts_as_more(tmp_path):
    (tmp_path / "twice.gz").write_bytes(PACKED + gzip.compress(b"x"))
    assert refusal(tmp_path / "twice.gz", read_idx, (3, 4)).endswith("holds more")


@given(content=st.binary(max_size=64), header=st.sampled_from([b"", PLAIN[:4], PLAIN[:8], PLAIN[:16]]))
def test_other_bytes_are_refused(folder, content, header):
    (folder / "other").write_bytes(header + content[:59])
    refusal(folder / "other", read_idx, (3, 4))
    (folder / "other.gz").write_bytes(content)
    refusal(folder / "other.gz", read_idx, (3, 4))


@pytest.mark.parametrize("kind", [0x09, 0x0B, 0x0C, 0x0D, 0x0E])
def test_an_idx_file_of_other_numbers_is_refused(tmp_path, kind):
    (tmp_path / "kind").write_bytes(PLAIN[:2] + bytes([kind]) + PLAIN[3:])
    assert f"[00 00 {kind:02x} 03]" in refusal(tmp_path / "kind", read_idx, (3, 4))


def test_compressed_data_under_a_plain_name_and_the_reverse_are_refused(tmp_path):
    (tmp_path / "plain").write_bytes(PACKED)
    assert "[1f 8b" in refusal(tmp_path / "plain", read_idx, (3, 4))
    (tmp_path / "packed.gz").write_bytes(PLAIN)
    assert "not compressed with gzip" in refusal(tmp_path / "packed.gz", read_idx, (3, 4))


CIFAR10 = random_examples(3, (3, 32, 32), 10, 1)
CIFAR100 = random_examples(3, (3, 32, 32), 100, 2)
RECORDS = {
    (10,): (cifar_bytes(*CIFAR10), *CIFAR10),
    (20, 100): (cifar_bytes(CIFAR100[0], CIFAR100[1] // 5, CIFAR100[1]), *CIFAR100),
}


@given(data=st.data(), ranges=st.sampled_from(list(RECORDS)))
def test_a_truncated_cifar_file_is_refused_within_a_record_and_shorter_between_two(folder, data, ranges):
    content, images, labels = RECORDS[ranges]
    record = len(content) // 3
    length = data.draw(st.integers(0, len(content)) | st.sampled_from([0, record, 2 * record, 3 * record]))
    (folder / "cut.bin").write_bytes(content[:length])
    if length == 0 or length % record:
        message = refusal(folder / "cut.bin", read_cifar, ranges)
        assert message.endswith(f"holds {length} bytes; it must hold one or more records of {record}")
    else:
        found = read_cifar(folder / "cut.bin", ranges)
        assert np.array_equal(found.images, images[: length // record])
        assert np.array_equal(found.labels, labels[: length // record])


@given(more=st.binary(min_size=1, max_size=100), ranges=st.sampled_from(list(RECORDS)))
def test_a_cifar_file_with_bytes_after_its_end_is_refused(folder, more, ranges):
    (folder / "long.bin").write_bytes(RECORDS[ranges][0] + more)
    refusal(folder / "long.bin", read_cifar, ranges)


@given(label=st.integers(0, 255), example=st.integers(0, 2), byte=st.integers(0, 1))
def test_a_label_that_is_no_class_is_refused(folder, label, example, byte):
    content, images, labels = RECORDS[20, 100]
    damaged = bytearray(content)
    damaged[example * 3074 + byte] = label
    (folder / "label.bin").write_bytes(damaged)
    if label >= (20, 100)[byte]:
        message = refusal(folder / "label.bin", read_cifar, (20, 100))
        kind, largest = (("coarse", 19), ("fine", 99))[byte]
        assert f"{kind} label {label} of example {example}; the largest allowed is {largest}" in message
    else:
        found = read_cifar(folder / "label.bin", (20, 100))
        assert np.array_equal(found.images, images)
        assert [found.labels[example], labels[example]][1 - byte] == [labels[example], label][byte]


def test_one_kind_of_cifar_is_not_taken_for_the_other(tmp_path):
    (tmp_path / "ten").write_bytes(RECORDS[10,][0])
    (tmp_path / "hundred").write_bytes(RECORDS[20, 100][0])
    refusal(tmp_path / "ten", read_cifar, (20, 100))
    refusal(tmp_path / "hundred", read_cifar, (10,))


@pytest.mark.parametrize("declared", [5, (2**30 - 16) // 12])
@pytest.mark.parametrize("compress", [False, True])
def test_no_more_is_unpacked_than_was_declared_nor_memory_taken_for_what_is_not_there(
    tmp_path, declared, compress
):
    """A header that declares little before 64 MiB of zeros, and one that declares a GiB before nothing."""
    path = tmp_path / ("bomb.gz" if compress else "bomb")
    header = bytes([0, 0, 8, 3]) + struct.pack(">III", declared, 3, 4)
    write(path, header + bytes(2**26 if declared == 5 else 100), compress)
    tracemalloc.start()
    try:
        refusal(path, read_idx, (3, 4))
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [0, 2**30 // 12 + 1, 2**32 - 1])
def test_an_idx_file_without_entries_or_with_too_many_is_refused(tmp_path, count):
    (tmp_path / "count").write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">III", count, 3, 4))
    assert f"1 <= n <= {2**30 // 12}" in refusal(tmp_path / "count", read_idx, (3, 4))


def test_a_cifar_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "large").write_bytes(RECORDS[10,][0])
    monkeypatch.setattr(formats, "LARGEST", 3 * 3073)
    assert len(read_cifar(tmp_path / "large", (10,)).labels) == 3
    monkeypatch.setattr(formats, "LARGEST", 3 * 3073 - 1)
    assert "more than 9218 bytes" in refusal(tmp_path / "large", read_cifar, (10,))


# ---- sets that do not hold together


def test_labels_and_images_must_be_of_one_number(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(29, np.uint8)))
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte holds 30 .*train-labels-idx1-ubyte 29 labels"
    ):
        load_data("mnist", None, 0.0, 0, tmp_path)


def test_images_must_have_the_size_of_the_set(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((7, 28, 27), np.uint8)))
    with pytest.raises(ValueError, match=r"t10k-images.* declares 7 x 28 x 27 .*must declare n x 28 x 28"):
        load_data("mnist", None, 0.0, 0, tmp_path)


def test_labels_must_be_classes_of_the_set(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(4, 11, dtype=np.uint8)))
    with pytest.raises(ValueError, match=r"t10k-labels.*label 10 of example 6; the largest allowed is 9"):
        load_data("mnist", None, 0.0, 0, tmp_path)


@pytest.mark.parametrize(
    "name, file, byte, largest",
    [
        ("cifar10", "data_batch_5.bin", 0, 9),
        ("cifar10", "test_batch.bin", 0, 9),
        ("cifar100", "train.bin", 0, 19),
        ("cifar100", "test.bin", 1, 99),
    ],
)
def test_labels_of_cifar_must_be_classes_of_the_set(tmp_path, name, file, byte, largest):
    WRITERS[name](tmp_path)
    content = bytearray((tmp_path / file).read_bytes())
    content[byte] = largest
    (tmp_path / file).write_bytes(content)
    load_data(name, None, 0.0, 0, tmp_path)
    content[byte] = largest + 1
    (tmp_path / file).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"{file}.*label {largest + 1} of example 0; .* allowed is {largest}$"
    ):
        load_data(name, None, 0.0, 0, tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_every_missing_file_is_named_with_where_it_was_looked_for(tmp_path, name):
    WRITERS[name](tmp_path)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        path.unlink()
        path.mkdir()  # a folder of that name is no such file
        with pytest.raises(FileNotFoundError, match=rf"in {re.escape(str(tmp_path))} for {path.name} or "):
            load_data(name, None, 0.0, 0, tmp_path)
        path.rmdir()
        path.write_bytes(content)
    with pytest.raises(FileNotFoundError, match="elsewhere, which is no directory, for "):
        load_data(name, None, 0.0, 0, tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"directory must say where .* got None"):
        load_data(name, None, 0.0, 0)


# ---- digits, and how a repetition chooses


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_the_split_holds_every_digit_once_and_leaves_clean_labels_alone(seed):
    digits = load_digits()
    split = load_data("digits", 900, 0.0, seed)
    assert [len(part) for part in split] == [900, 900, 897, 897]
    images = torch.cat([split.train_inputs, split.test_inputs]).numpy()
    labels = torch.cat([split.train_labels, split.test_labels]).numpy()
    assert images.shape == (1797, 1, 8, 8)
    assert images.min() == 0 and images.max() == 1

    def rows(images, labels):
        return sorted(
            (*image.ravel().tolist(), int(label)) for image, label in zip(images, labels, strict=True)
        )

    assert rows(images * 16, labels) == rows(digits.images, digits.target)
    entry = DATA["digits"]
    assert (entry.train, entry.test, entry.classes, entry.shape) == (1797, None, 10, (1, 8, 8))


@pytest.mark.parametrize(
    "size, noise, seed", [(900, 0.0, 0), (900, 0.3, 1), (1, 1.0, 2**64 - 1), (1796, 0.123, 7)]
)
def test_digits_are_bit_for_bit_those_of_an_independent_reading(size, noise, seed):
    digits = load_digits()
    order = stream(seed, b"split").permutation(1797)
    labels, draw = digits.target[order].astype(np.int64), stream(seed, b"label noise")
    places = draw.permutation(size)[: round(noise * size)]
    labels[places] = draw.integers(10, size=len(places))
    inputs = (digits.images[order] / 16)[:, None]
    split = load_data("digits", size, noise, seed)
    assert equal(split, [inputs[:size], labels[:size], inputs[size:], labels[size:]])
    assert [part.dtype for part in split] == [torch.float64, torch.int64] * 2


def test_label_noise_redraws_its_share_uniformly_and_only_in_training():
    """Statistical: three tests, which fail falsely with probability at most COMPARISON_ALARM each."""
    clean = [load_data("digits", 1000, 0.0, seed) for seed in range(20)]
    noisy = [load_data("digits", 1000, 0.3, seed) for seed in range(20)]
    changed, wrong = [], []
    for a, b in zip(clean, noisy, strict=True):
        assert torch.equal(a.train_inputs, b.train_inputs)
        assert torch.equal(a.test_inputs, b.test_inputs)
        assert torch.equal(a.test_labels, b.test_labels)
        differs = a.train_labels != b.train_labels
        changed.append(int(differs.sum()))
        wrong.extend(b.train_labels[differs].tolist())
    # 300 of 1000 are redrawn, of which one in ten stays right: 270 with standard deviation sqrt(27).
    assert max(changed) <= 300
    assert abs(np.mean(changed) - 270) < z_threshold() * math.sqrt(27 / 20)
    counts = np.bincount(wrong, minlength=10)
    # A wrong label is uniform over the nine others of a clean label: its law is a mix of those nine.
    right = np.bincount(torch.cat([split.train_labels for split in clean]), minlength=10) / 20_000
    law = (1 - right) / 9
    deviations = (counts / counts.sum() - law) / np.sqrt(law * (1 - law) / counts.sum())
    assert np.abs(deviations).max() < z_threshold(10)
    everything = load_data("digits", 1000, 1.0, 0)
    kept = float((everything.train_labels == clean[0].train_labels).double().mean())
    assert abs(kept - 0.1) < z_threshold() * math.sqrt(0.09 / 1000)


@pytest.mark.parametrize("name", WRITERS)
def test_label_noise_stays_within_the_classes_and_out_of_the_test(tmp_path, name):
    images, labels, *test = WRITERS[name](tmp_path)
    n = len(labels)
    order = stream(4, b"split").permutation(n)
    draw = stream(4, b"label noise")
    expected = labels[order]
    places = draw.permutation(n)[: round(0.4 * n)]
    expected[places] = draw.integers(100 if name == "cifar100" else 10, size=len(places))
    assert equal(load_data(name, None, 0.4, 4, tmp_path), [images[order], expected, *test])


def test_the_repetition_decides_the_data():
    first, again, other = (load_data("digits", 100, 0.3, seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.train_inputs, other.train_inputs)


def test_a_smaller_training_set_is_the_beginning_of_a_larger_one(tmp_path):
    write_mnist(tmp_path)
    whole, all_of_it, part = (load_data("mnist", size, 0.0, 1, tmp_path) for size in (None, 30, 1))
    assert all(torch.equal(a, b) for a, b in zip(whole, all_of_it, strict=True))
    assert torch.equal(part.train_inputs, whole.train_inputs[:1])
    assert torch.equal(part.test_inputs, whole.test_inputs)


def test_what_is_loaded_can_be_written_to(tmp_path):
    """Tensors on memory that may not be written to make torch warn, and fail later."""
    write_cifar10(tmp_path)
    split = load_data("cifar10", None, 0.0, 0, tmp_path)
    again = load_data("cifar10", None, 0.0, 0, tmp_path)
    for part in split:
        part.zero_()
    assert again.test_inputs.any()


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"rst-theory\[experiments\]"):
        load_data("digits", 100, 0.0, 0)


@pytest.mark.parametrize(
    "change, error, message",
    [
        (
            {"name": "imagenet"},
            ValueError,
            "data must be one of digits, mnist, fashion-mnist, cifar10, cifar100",
        ),
        ({"train_size": 0}, DomainError, "1 <= train_size < 31; got 0"),
        ({"train_size": 31}, DomainError, "1 <= train_size < 31; got 31"),
        ({"train_size": 2.0}, TypeError, "train_size"),
        ({"name": "digits", "train_size": 1797}, DomainError, "1 <= train_size < 1797"),
        ({"name": "digits", "train_size": 0}, DomainError, "1 <= train_size < 1797"),
        ({"name": "digits", "train_size": None}, ValueError, "digits has no test set of its own: train_size"),
        ({"label_noise": 1.01}, DomainError, r"label_noise in \[0, 1\]; got 1.01"),
        ({"label_noise": -0.01}, DomainError, "label_noise"),
        ({"label_noise": math.nan}, DomainError, "label_noise"),
        ({"seed": -1}, DomainError, "seed"),
        ({"seed": 2**64}, DomainError, "seed"),
        ({"seed": 0.5}, TypeError, "seed"),
    ],
    ids=str,
)
def test_arguments_outside_their_domain_are_refused(tmp_path, change, error, message):
    write_mnist(tmp_path)
    usual = {"name": "mnist", "train_size": 10, "label_noise": 0.0, "seed": 0, "directory": tmp_path}
    assert isinstance(load_data(**usual), Split)
    with pytest.raises(error, match=message):
        load_data(**{**usual, **change})


# ---- floats


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bytes_become_their_share_of_255(dtype):
    values = np.arange(256)
    floats = as_floats(torch.arange(256, dtype=torch.uint8).view(2, 2, 8, 8), dtype)
    assert floats.dtype == dtype and floats.shape == (2, 2, 8, 8)
    found = floats.double().numpy().ravel()
    # Half a unit in the last place, or a little more where a quotient in float32 is rounded once again.
    assert (np.abs(found - values / 255) <= torch.finfo(dtype).eps * (0.5 + 1e-4) * values / 255).all()
    assert found[0] == 0 and found[255] == 1


def test_floats_are_cast_and_layouts_kept():
    inputs = torch.rand(2, 3, 4, 4, dtype=torch.float64).to(memory_format=torch.channels_last)
    for images in (inputs, (255 * inputs).to(torch.uint8)):
        assert as_floats(images, torch.float32).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(as_floats(inputs, torch.float32), inputs.float())
    with pytest.raises(TypeError, match=r"got torch.int64, torch.float32"):
        as_floats(torch.zeros(2, dtype=torch.int64), torch.float32)
    with pytest.raises(TypeError, match=r"got torch.uint8, torch.int64"):
        as_floats(torch.zeros(2, dtype=torch.uint8), torch.int64)


# ---- augmentation


def seeded(seed, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


def augmented_by_loops(images, recipe, generator):
    """What `augment` says that it does, step by step: pad, cut out a window, mirror, make a hole."""
    n, channels, height, width = images.shape

    def uniform(low, high):
        draws = torch.randint(low, high, (n, 1), generator=generator, device=generator.device)
        return draws[:, 0].tolist()

    result = images.copy()
    flips = uniform(0, 2) if "flip" in recipe else [0] * n
    if "crop" in recipe:
        top, left = height // 8, width // 8
        rows, columns = uniform(-top, top + 1), uniform(-left, left + 1)
        for m in range(n):
            padded = np.zeros((channels, height + 2 * top, width + 2 * left), images.dtype)
            padded[:, top : top + height, left : left + width] = images[m]
            for k, i, j in itertools.product(range(channels), range(height), range(width)):
                result[m, k, i, j] = padded[k, top + rows[m] + i, left + columns[m] + j]
    for m in range(n):
        if flips[m]:
            result[m] = result[m, :, :, ::-1].copy()
    if "cutout" in recipe:
        centres = list(zip(uniform(0, height), uniform(0, width), strict=True))
        for m, (i, j) in enumerate(centres):
            top, left = i - height // 2 // 2, j - width // 2 // 2
            bottom, right = top + height // 2, left + width // 2
            result[m, :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 0
    return result


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 18), st.integers(1, 18)),
    recipe=st.sampled_from(AUGMENTATIONS),
    dtype=st.sampled_from([np.uint8, np.float32, np.float64]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    seed=st.integers(0, 2**32),
)
def test_augmentation_is_that_of_plain_loops(device, shape, recipe, dtype, layout, seed):
    images = np.random.default_rng(seed).integers(1, 256, size=shape).astype(dtype)
    inputs = torch.tensor(images, device=device).to(memory_format=layout)
    found = augment(inputs, recipe, seeded(seed, device))
    expected = augmented_by_loops(images, recipe, seeded(seed, device))
    assert np.array_equal(found.cpu().numpy(), expected)
    assert found.dtype == inputs.dtype and found.stride() == inputs.stride()
    assert np.array_equal(inputs.cpu().numpy(), images)


@pytest.mark.parametrize("side, pad", [(8, 1), (28, 3), (32, 4)])
def test_the_sizes_are_those_in_use(side, pad):
    """4 pixels of padding and a hole of 16 x 16 for images of 32 x 32."""
    inputs = torch.ones(4000, 1, side, side)
    dark = (augment(inputs, "crop", seeded(0)) == 0)[:, 0]
    rows, columns = dark.all(2), dark.all(1)
    assert set(rows.sum(1).tolist()) == set(columns.sum(1).tolist()) == set(range(pad + 1))
    holes = (augment(inputs, "crop-flip-cutout", seeded(1)) == 0)[:, 0, pad:-pad, pad:-pad].sum((1, 2))
    assert holes.max() == (side // 2) ** 2


@pytest.mark.parametrize(
    "view", [lambda x: x[:, :, ::2], lambda x: x.transpose(2, 3), lambda x: x[:1].expand(4, -1, -1, -1)]
)
def test_views_are_read_right_and_not_written_to(view):
    whole = torch.rand(4, 3, 16, 16)
    inputs, before = view(whole), whole.clone()
    found = augment(inputs, "crop-flip-cutout", seeded(3))
    assert torch.equal(
        found, augment(inputs.clone(memory_format=torch.contiguous_format), "crop-flip-cutout", seeded(3))
    )
    assert torch.equal(whole, before)


@pytest.mark.parametrize("recipe", AUGMENTATIONS[1:])
def test_equal_states_give_equal_images_and_the_state_moves_on(recipe):
    inputs, generator = torch.rand(16, 3, 8, 8), seeded(9)
    first, second = (augment(inputs, recipe, generator) for _ in range(2))
    assert torch.equal(augment(inputs, recipe, seeded(9)), first)
    assert not torch.equal(first, second)


def test_no_augmentation_is_the_images_themselves_and_draws_nothing():
    inputs, generator = torch.rand(2, 3, 8, 8), seeded(0)
    assert augment(inputs, "none", generator) is inputs
    assert torch.equal(generator.get_state(), seeded(0).get_state())


def test_infinite_pixels_do_not_leak_into_the_dark():
    found = augment(torch.full((50, 1, 8, 8), math.inf), "crop-flip-cutout", seeded(0))
    assert set(found.unique().tolist()) == {0.0, math.inf}


@pytest.mark.parametrize("device", DEVICES)
def test_crops_and_flips_are_uniform_and_independent(device):
    """Statistical: chi-square over 25 crops and 2 flips; fails falsely with probability COMPARISON_ALARM."""
    inputs = torch.arange(256.0, device=device).view(1, 1, 16, 16).expand(80_000, -1, -1, -1)
    found = augment(inputs, "crop-flip", seeded(11, device))[:, 0].cpu()
    centre, right = found[:, 8, 7].long(), found[:, 8, 8].long()
    flip = (right < centre).long()
    a = centre // 16 - 8
    b = centre % 16 - torch.where(flip == 1, 8, 7)
    cells = (a + 2) * 10 + (b + 2) * 2 + flip
    counts = np.bincount(cells, minlength=50)
    assert counts.size == 50
    assert stats.chisquare(counts).pvalue > COMPARISON_ALARM


@pytest.mark.parametrize("height, width", [(8, 8), (16, 9)])
def test_each_pixel_is_seen_as_often_as_it_should_be(height, width):
    """Statistical, by counting every crop and every hole; fails falsely with probability COMPARISON_ALARM."""

    def shares(side):
        """Of the crops in which a coordinate is inside, and of the centres whose hole covers it."""
        pad, half = side // 8, side // 2
        for i in range(side):
            yield (
                sum(0 <= i + a < side for a in range(-pad, pad + 1)) / (2 * pad + 1),
                sum(centre - half // 2 <= i < centre - half // 2 + half for centre in range(side)) / side,
            )

    seen = np.array([[r * c * (1 - y * x) for c, x in shares(width)] for r, y in shares(height)])
    n = 40_000
    found = augment(torch.ones(n, 1, height, width), "crop-flip-cutout", seeded(12))[:, 0].mean(0).numpy()
    deviations = (found - seen) / np.sqrt(seen * (1 - seen) / n)
    assert np.abs(deviations).max() < z_threshold(height * width)


def test_unknown_recipes_and_other_shapes_are_refused():
    with pytest.raises(
        ValueError, match=r"one of none, flip, crop, crop-flip, crop-flip-cutout; got 'cutout'"
    ):
        augment(torch.zeros(1, 1, 8, 8), "cutout", seeded(0))
    with pytest.raises(ValueError, match=r"\(n, channels, height, width\); got shape \(1, 8, 8\)"):
        augment(torch.zeros(1, 8, 8), "crop", seeded(0))
