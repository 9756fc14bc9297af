"""Checkpoint files: torch's archive, sealed with a checksum, since torch reads changed weights as they are.

The seal is the comment that a zip archive may end with: `sha256=` and the SHA-256 of all bytes before those
64 digits. So a sealed file is an archive like any other, and whatever bit of it changes, that is seen.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rst_theory.files import write_atomically

__all__ = ["load_checkpoint", "save_checkpoint"]

_TAG = b"sha256="
_DIGITS = 64


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a state of plain data and tensors, whole or not at all.

    Raises:
        OSError: it cannot be written; the file that was there is still there.
    """
    archive = io.BytesIO()
    torch.save(dict(state), archive)
    # An archive ends with the length of its comment, in two bytes: so far 0.
    content = archive.getvalue()[:-2] + (len(_TAG) + _DIGITS).to_bytes(2, "little") + _TAG
    write_atomically(path, content + _digits(content))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a file of `save_checkpoint`, on the CPU; files from before there were seals are read too.

    Nothing in the file is executed, and no more memory is taken than a few times its size.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one that is no checkpoint; the message names it.
    """
    content = path.read_bytes()
    try:
        state = _loaded(content)
    except Exception as error:  # whatever foreign bytes bring a parser to raise
        raise ValueError(
            f"{path} is not a checkpoint of a training run, or is damaged: {error}. "
            "Put a sound copy in its place, or delete it to begin the run again"
        ) from error
    return state


def _loaded(content: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members, seal = archive.infolist(), archive.comment
    without = not seal and content.endswith(
        b"\0\0"
    )  # the length of its comment, from before there were seals
    if not without and seal != _TAG + _digits(content[:-_DIGITS]):
        raise ValueError("its SHA-256 is of another content")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its members are compressed, which those of torch never are")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an odd protocol, say: what matters is whether it can be read
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"it holds {type(state).__name__}, no dict")
    return state


def _digits(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
