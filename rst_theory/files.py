"""Files that are there whole or not at all, and the tables that results are kept in.

A table is a list of rows, dicts with the same keys. It is written twice: as JSON with everything, and as
CSV with the columns that hold single values, for people and spreadsheets.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import glob
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "alone_in",
    "clear_leftovers",
    "read_json",
    "read_table",
    "write_atomically",
    "write_json",
    "write_table",
    "write_together",
]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""

_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What a file system says that has no locks for folders."""

_log = logging.getLogger("rst_theory")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    The bytes go to a temporary file in the same folder and onto the disk before they take the name.

    Raises:
        OSError: it cannot be written; the message names the file, and the old one is still there.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Write several files as `write_atomically` does, all onto the disk before the first takes its name.

    So where the disk is full, all the old ones stay.

    Raises:
        OSError: one cannot be written; the message names it.
    """
    temporaries: dict[Path, str] = {}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _said_of(path):
                descriptor, temporaries[path] = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content.encode() if isinstance(content, str) else content)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporaries[path], 0o644)
        for path, temporary in temporaries.items():
            with _said_of(path):
                os.replace(temporary, path)
    except BaseException:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):  # the first error is the one to tell
                Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """Errors of the system name this file: those of writing name none, others a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within it nobody else is `alone_in` the folder: no other process, and no other call in this one.

    The lock is the kernel's, on the folder itself: no file is left behind, and it ends with the process,
    however that ends. Where the file system knows no such locks (some network drives), this is logged, and
    nothing protects the folder; likewise on Windows.

    Args:
        folder: is made if it is not there.

    Raises:
        BlockingIOError: another run is in it.
        OSError: it cannot be made, or not be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "this folder cannot be written to", str(folder))
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            said = "another run is writing to this folder: give each a folder of its own, or wait"
            raise BlockingIOError(error.errno, said, str(folder)) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _log.warning("%s cannot be locked (%s): only one run may write to it", folder, error.strerror)
        yield
    finally:
        os.close(descriptor)


def clear_leftovers(path: Path) -> None:
    """Delete what killed writes of this file left beside it; only for who is `alone_in` its folder.

    Raises:
        OSError: one cannot be deleted.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.????????"):  # the names that mkstemp makes
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON; NaN and infinities are refused, since JSON has none.

    Raises:
        ValueError: a NaN or an infinity.
        TypeError: something that is not plain data.
    """
    write_atomically(path, _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """The data of a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or nested deeper or with longer numbers than Python reads; the message names
            the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_refuse)
        if "\\ud" in text.lower():  # half of a pair of surrogates is no character, and could not be written
            _json(value).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as `name`.json and `name`.csv in a folder; lists go into the JSON only.

    In the CSV, a text that a spreadsheet would run as a formula, one that begins with = + - @ or a tab, has
    an apostrophe before it.

    Raises:
        ValueError: no rows, or rows whose keys differ.
        OSError: a file cannot be written; the old ones are still there.
    """
    if not rows:
        raise ValueError(f"table {name!r} has no rows")
    columns = list(rows[0])
    for row in rows:
        if list(row) != columns:
            raise ValueError(f"table {name!r}: rows differ in columns, {columns} and {list(row)}")
    table = _json({"columns": columns, "rows": [dict(row) for row in rows]})
    flat = [c for c in columns if not any(isinstance(row[c], list | dict) for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_no_formula(c) for c in flat])
    writer.writerows([_no_formula(row[c]) for c in flat] for row in rows)
    write_together({folder / f"{name}.json": table, folder / f"{name}.csv": text.getvalue()})


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    marked = f"'{value}" if value.startswith(_FORMULA) else value
    return marked.replace("\r\n", "\n").replace("\r", "\n")  # which csv would leave as it is, to end a row


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table written by `write_table`, from its JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a table; the message names the file.
    """
    table = read_json(path)
    if not isinstance(table, dict) or not isinstance(table.get("rows"), list):
        raise ValueError(f"{path} is not a table: it has no list of rows")
    columns = table.get("columns")
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        raise ValueError(f"{path} is not a table: it has no list of columns")
    if not all(isinstance(row, dict) and set(row) == set(columns) for row in table["rows"]):
        raise ValueError(f"{path} is not a table: its rows differ from its columns")
    return list(table["rows"])
