"""Run every notebook in place: `python -m experiments.notebooks`, or the names of some of them after it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat

from experiments.notebooks.running import NOTEBOOKS, cleaned, executed
from rst_theory.files import write_atomically


def main(*names: str) -> int:
    """Run the notebooks of these names, all if none is given; a file is replaced once its run is done.

    Raises:
        ValueError: a name that no notebook has.
    """
    known = {path.stem: path for path in NOTEBOOKS}
    if unknown := set(names) - set(known):
        raise ValueError(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in names or known:
        begin = time.perf_counter()
        refresh(known[name])
        sys.stdout.write(f"{name}: {time.perf_counter() - begin:.1f} s\n")
    return 0


def refresh(path: Path) -> None:
    """Run one notebook and write it with its new outputs, whole or not at all."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    clean = cleaned(executed(notebook))
    write_atomically(path, nbformat.writes(clean) + "\n")  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
