"""Notebooks: they run from top to bottom, say what is committed, and are light and clean."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from experiments.notebooks import __main__ as job
from experiments.notebooks.running import NOTEBOOKS, cleaned, executed, texts
from experiments.settings import ROOT

NAMES = {"convergence_plots", "train_a_network", "validate_a_bound", "your_own_schedule"}
MOST_BYTES = 300_000
PLACES = [str(ROOT), str(Path.home()), tempfile.gettempdir()]
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def streams(notebook, name):
    outputs = (output for cell in code_cells(notebook) for output in cell.outputs)
    return [output.text for output in outputs if output.get("name") == name]


def said(notebook):
    """Every word of a notebook; not its pictures, in whose bytes any four letters may be found."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    data = [
        text for output in outputs for kind, text in output.get("data", {}).items() if "image" not in kind
    ]
    return "\n".join([cell.source for cell in notebook.cells] + data + streams(notebook, "stdout"))


def test_there_is_a_notebook_for_each_use():
    assert {path.stem for path in NOTEBOOKS} == NAMES


@by_name
def test_a_notebook_runs_and_says_what_is_committed(path):
    committed = read(path)
    fresh = cleaned(executed(committed))
    assert streams(fresh, "stderr") == []
    assert texts(fresh) == texts(committed)
    for now, then in zip(code_cells(fresh), code_cells(committed), strict=True):
        assert [sorted(o.get("data", {})) for o in now.outputs] == [
            sorted(o.get("data", {})) for o in then.outputs
        ]


@by_name
def test_a_committed_notebook_is_light_and_clean(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert path.stat().st_size < MOST_BYTES
    assert cleaned(notebook) == notebook
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    text = said(notebook)
    assert not [place for place in PLACES if place in text]
    assert not re.search(r"at 0x[0-9a-f]+", text)


@by_name
def test_a_committed_notebook_was_run_in_order_without_error(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds and streams(notebook, "stderr") == []
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert pictures and streams(notebook, "stdout")


@by_name
def test_a_notebook_begins_with_its_title_and_explains_every_step(path):
    notebook = read(path)
    assert notebook.cells[0].source.startswith("# ")
    silent = [cell.id for cell in notebook.cells if not cell.source.strip()]
    assert silent == []
    kinds = "".join(cell.cell_type[0] for cell in notebook.cells)
    assert "ccc" not in kinds  # never three cells of code without a word


def test_cleaning_removes_what_changes_from_machine_to_machine():
    output = new_output("stream", name="stdout", text=f"saved in {ROOT}/runs")
    shown = new_output("execute_result", data={"text/plain": f"'{ROOT}'"}, execution_count=7)
    cell = new_code_cell("1", execution_count=7, outputs=[output, shown], id="1f00d")
    cell.metadata = {"execution": {"iopub.status.busy": "2020-01-01"}, "tags": ["varies"]}
    dirty = new_notebook(
        cells=[new_markdown_cell("# Title", metadata={"collapsed": True}), cell],
        metadata={"language_info": {"name": "python", "version": "3.11.7"}, "widgets": {}},
    )
    before = nbformat.writes(dirty)
    clean = cleaned(dirty)
    assert nbformat.writes(dirty) == before
    assert [c.id for c in clean.cells] == ["cell-1", "cell-2"]
    assert [dict(c.metadata) for c in clean.cells] == [{}, {"tags": ["varies"]}]
    assert clean.cells[1].outputs[0].text == "saved in ./runs"
    assert clean.cells[1].outputs[1].data == {"text/plain": "'.'"}
    assert clean.metadata["language_info"] == {"name": "python"} and "widgets" not in clean.metadata


def test_only_texts_that_are_the_same_everywhere_are_compared():
    said = new_output("stream", name="stdout", text="42\n")
    drawn = new_output("display_data", data={"image/png": "xyz", "text/plain": "<Figure>"})
    notebook = new_notebook(
        cells=[
            new_code_cell("a", id="a", outputs=[said, drawn]),
            new_code_cell("b", id="b", outputs=[said], metadata={"tags": ["varies"]}),
            new_markdown_cell("c", id="c"),
        ]
    )
    assert texts(notebook) == [("a", ["42\n", {"text/plain": "<Figure>"}])]


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    path = tmp_path / "broken.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print('begun')"), new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        job.refresh(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_notebook_runs_in_place_and_in_an_empty_folder(tmp_path):
    path = tmp_path / "small.ipynb"
    source = "import os\nprint(os.listdir())\nopen('left behind', 'w').close()"
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    job.refresh(path)
    (cell,) = read(path).cells
    assert [output.text for output in cell.outputs] == ["[]\n"]
    assert cleaned(read(path)) == read(path) and list(tmp_path.iterdir()) == [path]


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no notebook nonsense; there are convergence_plots"):
        job.main("nonsense")
