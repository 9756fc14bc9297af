"""Files that are there whole or not at all, and the tables that results are kept in.

A table is a list of rows, dicts with the same keys. It is written twice: as JSON with everything, and as
CSV with the columns that hold single values, for people and spreadsheets.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["read_json", "read_table", "write_atomically", "write_json", "write_table"]


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    The bytes go to a temporary file in the same folder and onto the disk before they take the name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON; NaN and infinities are refused, since JSON has none.

    Raises:
        ValueError: a NaN or an infinity.
        TypeError: something that is not plain data.
    """
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The data of a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as `name`.json and `name`.csv in a folder; lists go into the JSON only.

    Raises:
        ValueError: no rows, or rows whose keys differ.
    """
    if not rows:
        raise ValueError(f"table {name!r} has no rows")
    columns = list(rows[0])
    for row in rows:
        if list(row) != columns:
            raise ValueError(f"table {name!r}: rows differ in columns, {columns} and {list(row)}")
    write_json(folder / f"{name}.json", {"columns": columns, "rows": [dict(row) for row in rows]})
    flat = [c for c in columns if not any(isinstance(row[c], list | dict) for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(flat)
    writer.writerows([row[c] for c in flat] for row in rows)
    write_atomically(folder / f"{name}.csv", text.getvalue())


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table written by `write_table`, from its JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a table; the message names the file.
    """
    table = read_json(path)
    if not isinstance(table, dict) or not isinstance(table.get("rows"), list):
        raise ValueError(f"{path} is not a table: it has no list of rows")
    if not all(isinstance(row, dict) and set(row) == set(table.get("columns", ())) for row in table["rows"]):
        raise ValueError(f"{path} is not a table: its rows differ from its columns")
    return list(table["rows"])
