"""Names for what files and texts hold, on which kept results rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["of_files", "of_texts"]


def of_files(paths: Iterable[Path]) -> str:
    """Another one as soon as a file reads otherwise."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def of_texts(*texts: str) -> str:
    """The same whenever the texts are."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]
