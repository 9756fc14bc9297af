"""Atomic writes and tables."""

from __future__ import annotations

import csv
import json
import math
import os

import pytest

from rst_theory.files import read_json, read_table, write_atomically, write_json, write_table

ROWS = [{"a": 1, "b": "x", "c": [1, 2]}, {"a": 2.5, "b": 'y, "quoted"', "c": []}]


def test_a_table_comes_back(tmp_path):
    write_table(tmp_path, "t", ROWS)
    assert read_table(tmp_path / "t.json") == ROWS
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": "x"}, {"a": "2.5", "b": 'y, "quoted"'}]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_the_bytes_are_on_the_disk_before_they_take_the_name(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *a: (order.append("sync"), sync(*a)))
    monkeypatch.setattr(os, "replace", lambda *a: (order.append("replace"), replace(*a)))
    write_atomically(tmp_path / "x", "text")
    assert order == ["sync", "replace"]


def test_folders_are_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "c.txt", b"bytes")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"bytes"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_has_no_nan(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"v": value})
    assert not (tmp_path / "x.json").exists()


def test_rows_must_agree(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        write_table(tmp_path, "t", [])
    with pytest.raises(ValueError, match="differ in columns"):
        write_table(tmp_path, "t", [{"a": 1}, {"b": 1}])


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not valid JSON"),
        ("[]", "no list of rows"),
        (json.dumps({"columns": ["a"], "rows": [{"b": 1}]}), "differ from its columns"),
    ],
)
def test_a_malformed_table_is_named(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"bad.json.*{message}"):
        read_table(path)
