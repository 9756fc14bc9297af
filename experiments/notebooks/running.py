"""Running a notebook, and making what came of it fit to be kept: the same run gives the same file.

A cell with the tag `varies` holds numbers that depend on the machine; all other texts do not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

from experiments.settings import ROOT

__all__ = ["NOTEBOOKS", "VARIES", "cleaned", "executed", "texts"]

NOTEBOOKS = tuple(sorted(Path(__file__).parent.glob("*.ipynb")))

VARIES = "varies"

_SECONDS_PER_CELL = 300  # of a machine that is busy with other work
_CONFIG = Config({"KernelManager": {"transport_encryption": "auto"}})
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(notebook: NotebookNode) -> NotebookNode:
    """A copy of the notebook, run from top to bottom in a fresh kernel and an empty folder.

    Raises:
        CellExecutionError: a cell raised an error.
        CellTimeoutError: a cell took longer than five minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            nbformat.from_dict(notebook),  # type: ignore[no-untyped-call]
            timeout=_SECONDS_PER_CELL,
            startup_timeout=_SECONDS_PER_CELL,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
            config=_CONFIG,
        )
        result: NotebookNode = client.execute()
        return result


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """A copy without what changes from run to run or from machine to machine."""
    clean: NotebookNode = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
    clean.metadata = nbformat.from_dict(_METADATA)  # type: ignore[no-untyped-call]
    for number, cell in enumerate(clean.cells, start=1):
        cell.id = f"cell-{number}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        for output in cell.get("outputs", ()):
            for holder in (output, output.get("data", {})):
                for key, value in holder.items():
                    if isinstance(value, str):
                        holder[key] = value.replace(str(ROOT), ".")
    return clean


def texts(notebook: NotebookNode) -> list[tuple[str, list[Any]]]:
    """The id and the texts of every code cell whose outputs are the same on every machine."""
    return [
        (
            cell.id,
            [output.text if output.output_type == "stream" else _text(output) for output in cell.outputs],
        )
        for cell in notebook.cells
        if cell.cell_type == "code" and VARIES not in cell.metadata.get("tags", ())
    ]


def _text(output: NotebookNode) -> dict[str, str]:
    data = output.get("data", {})
    return {kind: text for kind, text in data.items() if kind.startswith("text/")}
