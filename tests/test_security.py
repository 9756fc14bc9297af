"""Attacks: files, formulas, names and texts from outside that would have us execute, escape or swell.

That nothing in the package calls eval, exec, pickle and their like is held by tests/test_house.py; here
somebody tries.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import gzip
import io
import json
import os
import pickle
import re
import struct
import sys
import time
import tracemalloc
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from test_plots import PROVENANCE

import rst_theory as rst
from rst_theory import plots
from rst_theory.cli import main
from rst_theory.files import read_json, read_table, write_json, write_table
from rst_theory.problems import Quadratic
from rst_theory.report import render
from rst_theory.schedules import Constant, FromExpression, parse
from rst_theory.simulation import Trajectories
from rst_theory.training import RunRecord, TrainConfig, load_data, load_record, train, trained
from rst_theory.training.checkpoints import load_checkpoint, save_checkpoint
from rst_theory.training.data.formats import read_cifar, read_idx

TINY = TrainConfig(Constant(0.5), model="mlp", epochs=1, batch_size=16, train_size=40)


@pytest.fixture
def mark(tmp_path):
    """A file that every payload would make."""
    return tmp_path / "executed"


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def stored(**members):
    """A zip archive as torch writes one."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, member in members.items():
            archive.writestr(name.replace("__", "/"), member)
    return content.getvalue()


def object_array(mark):
    content = io.BytesIO()
    np.save(content, np.array([Payload(mark)], dtype=object), allow_pickle=True)
    return content.getvalue()


def torch_saved(mark, **options):
    content = io.BytesIO()
    torch.save({"config": {}, "model": Payload(mark)}, content, **options)
    return content.getvalue()


PICKLES = {
    "a pickle": lambda mark: pickle.dumps(Payload(mark)),
    "a pickle of protocol 0": lambda mark: pickle.dumps(Payload(mark), 0),
    "torch's archive": torch_saved,
    "torch's older format": lambda mark: torch_saved(mark, _use_new_zipfile_serialization=False),
    "an archive by hand": lambda mark: stored(
        archive__data_pkl=pickle.dumps(Payload(mark)),
        **{"archive__data.pkl": pickle.dumps(Payload(mark)), "archive__version": b"3\n"},
    ),
    "an array of objects": object_array,
    "an archive of such arrays": lambda mark: stored(
        **{name: object_array(mark) for name in ("header.npy", "eta.npy", "times.npy", "extra_pairs.npy")}
    ),
}


READERS = {
    "checkpoint.pt": lambda path: train(TINY, path.parent),
    "checkpoint.pt of a trained network": lambda path: trained(TINY, path.parent),
    "record.json": lambda path: train(TINY, path.parent),
    "run.npz": Trajectories.load,
    "train-images-idx3-ubyte": lambda path: read_idx(path, (28, 28)),
    "train-images-idx3-ubyte.gz": lambda path: read_idx(path, (28, 28)),
    "data_batch_1.bin": lambda path: read_cifar(path, (10,)),
    "table.json": read_table,
    "claims.json": lambda path: render(path.parent, path.parent / "index.html"),
}


def test_the_payloads_are_live(mark):
    """Whoever unpickles one of them executes it."""
    pickle.loads(PICKLES["a pickle"](mark))
    assert mark.exists()
    mark.rmdir()
    torch.load(io.BytesIO(PICKLES["torch's archive"](mark)), weights_only=False)
    assert mark.exists()
    mark.rmdir()
    np.load(io.BytesIO(PICKLES["an array of objects"](mark)), allow_pickle=True)
    assert mark.exists()


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("name", READERS)
def test_no_file_is_executed(tmp_path, mark, name, kind):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / name.split()[0]
    path.write_bytes(PICKLES[kind](mark))
    with pytest.raises(ValueError) as refused:
        READERS[name](path)
    assert path.name in str(refused.value)
    assert not mark.exists()
    assert os.listdir(folder) == [path.name]


def test_a_seal_makes_a_payload_no_better(tmp_path, mark):
    """Anybody can compute a checksum: it is against damage, not against forgery."""
    payload = torch_saved(mark)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", lambda state, file: file.write(payload))
        save_checkpoint({}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert not mark.exists()


@pytest.mark.parametrize("field", ["config", "environment", "train_loss", "weights_sha256", "format"])
@pytest.mark.parametrize("value", [{"__reduce__": "os.system"}, [[]], "x" * 10, 10**400, None, -1])
def test_a_record_of_other_types_is_refused_or_harmless(tmp_path, field, value):
    plain = known_record()
    write_json(tmp_path / "record.json", {**plain, field: value})
    try:
        record = load_record(tmp_path / "record.json")
    except ValueError as error:
        assert "record.json is not a run record" in str(error)  # noqa: PT017
    else:
        assert "<script" not in record._repr_html_()


@functools.cache
def known_record():
    return train(TINY).to_dict()


# ---- formulas


WALKS = [
    "__import__('os').system('true')",
    "().__class__.__bases__[0].__subclasses__()",
    "t.__class__",
    "(lambda: 1)()",
    "[t for t in (1, 2)]",
    "open('/etc/passwd').read()",
    "getattr(t, 'real')",
    "exec('1')",
    "f'{t}'",
    "t if __debug__ else 1",
    "(t := 1)",
    "globals()",
    "sqrt.__globals__",
    "min(*[1, 2])",
    "max(1, key=print)",
    "t; import os",
    "t\nimport os",
    "'a' * 10",
    "b'a'",
    "1j",
    "...",
    "t @ t",
    "t[0]",
    "t // 2",
    "t % 2",
    "t << 64",
    "\N{FULLWIDTH LATIN SMALL LETTER T}",
    "__builtins__",
    "𝐞𝐯𝐚𝐥('1')",
]


@pytest.mark.parametrize("text", WALKS)
def test_no_formula_reaches_python(capsys, text):
    for refused in (lambda: FromExpression(text), lambda: parse(f"formula:{text}")):
        with pytest.raises(ValueError):
            refused()
    assert main(["cost", f"formula:{text}", "--steps", "5"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


BOMBS = {
    "towers": "9**9**9**9",
    "a tower by brackets": "(9**9)**(9**9)",
    "a huge exponent": "2**99999999",
    "a huge exponent of t": "0.5 + 0*2**(t*10**300)",
    "a long number": "1" * 900,
    "a large float": "1e400",
    "brackets": "(" * 450 + "t" + ")" * 450,
    "signs": "-" * 900 + "t",
    "a chain": "+".join(["t"] * 490),
    "a product of powers": "*".join(["(t+1)**64"] * 70),
    "choices": "1 if t<1 else " * 60 + "0",
    "a long text": "t" * 10**6,
    "factorials": "exp(exp(exp(exp(exp(99)))))",
    "nested minima": "min(t," * 48 + "1" + ")" * 48,
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_formula_takes_long(name):
    """Read, printed, kept, evaluated and given in exact form, or refused: within seconds, on any machine."""
    begin, text = time.process_time(), BOMBS[name]
    try:
        schedule = FromExpression(text)
        schedule.to_dict()
        schedule.probabilities(100)
        schedule.expression(3, 10)
    except ValueError as error:
        assert len(str(error)) < 3000  # noqa: PT017
    assert time.process_time() - begin < 10


@pytest.mark.parametrize(
    "text", ["constant:p=__import__('os')", "linear1:p=9**9**9", "tabulated:0.5;1", "joined:x"]
)
def test_no_parameter_of_a_schedule_is_executed(text):
    with pytest.raises(ValueError):
        parse(text)


def nested(depth, leaf):
    for _ in range(depth):
        leaf = {"family": "Joined", "parts": [[leaf, 1.0]]}
    return leaf


def test_a_schedule_nested_deeply_is_refused():
    """From a file: Python's own limit on recursion ends it at the latest."""
    with pytest.raises((ValueError, RecursionError)):
        rst.schedules.from_dict(nested(10_000, {"family": "Constant", "value": 0.5}))
    with pytest.raises(ValueError, match="family"):
        rst.schedules.from_dict({"family": "os.system", "value": 1})
    with pytest.raises(ValueError):
        rst.schedules.from_dict({"family": "Constant", "value": "__import__('os')"})


# ---- JSON that swells


JSONS = {
    "brackets": "[" * 100_000,
    "closed brackets": "[" * 100_000 + "]" * 100_000,
    "objects": '{"a":' * 100_000,
    "a long integer": "1" * 100_000,
    "a long integer in a row": '{"columns": ["a"], "rows": [{"a": ' + "1" * 5000 + "}]}",
    "not a number": '{"columns": NaN',
    "two hundred bytes of zeros": "\0" * 200,
    "a lone surrogate": '"\\ud800',
}


@pytest.mark.parametrize("name", JSONS)
def test_json_that_swells_is_refused_by_name(tmp_path, capsys, name):
    path = tmp_path / "claims.json"
    path.write_text(JSONS[name])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_json(path)
    with pytest.raises(plots.ResultsError, match=r"claims\.json"):
        render(tmp_path, tmp_path / "index.html")
    (tmp_path / "record.json").write_text(JSONS[name])
    with pytest.raises(ValueError, match=r"record\.json is not a run record"):
        load_record(tmp_path / "record.json")
    assert main(["report", "--results", str(tmp_path), "--output", str(tmp_path / "x.html")]) == 2
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1" * 4000])
def test_numbers_beyond_the_floating_range_are_refused_by_field(tmp_path, number):
    (tmp_path / "price.json").write_text(
        '{"columns": ["method", "noise", "strength", "p", "pairs_vs_sgd"], "rows": [{"method": "SAM", '
        f'"noise": 0, "strength": 0, "p": 1, "pairs_vs_sgd": {number}}}]}}'
    )
    field, whole = r", row 1: field 'pairs_vs_sgd' must be", " is not valid JSON"  # which has no NaN
    with pytest.raises(plots.ResultsError, match=rf"price\.json({field}|{whole})"):
        plots.Results.read(tmp_path)


# ---- archives that swell, and members that would leave


def memory_of(call):
    """The most that Python's and NumPy's allocators held at a time, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_in_a_data_file_takes_no_memory(tmp_path):
    """Packed 1000 times smaller than it is; the sizes in its header say little."""
    bomb = gzip.compress(struct.pack(">4i", 2051, 2, 28, 28) + bytes(2**25), 9)
    assert len(bomb) < 2**18
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(bomb)

    def refused():
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_idx(path, (28, 28))

    assert memory_of(refused) < 2**23


def packed(members, kind=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", kind) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def test_a_bomb_in_a_checkpoint_takes_no_memory(tmp_path):
    """torch writes members as they are; packed ones are refused before they are unpacked."""
    saved = io.BytesIO()
    torch.save({"config": {}, "x": torch.zeros(10)}, saved)
    with zipfile.ZipFile(saved) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    largest = max(members, key=lambda name: "/data/" in name)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(packed(members | {largest: bytes(2**25)}))
    assert path.stat().st_size < 2**18

    def refused():
        with pytest.raises(ValueError, match=r"checkpoint\.pt .*compressed"):
            load_checkpoint(path)

    assert memory_of(refused) < 2**23


def test_a_trajectory_that_lies_about_its_size_is_refused(tmp_path):
    """A header of a few bytes announces an array of 64 GiB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**33,)})
    arrays = dict.fromkeys(("header.npy", "eta.npy", "times.npy", "extra_pairs.npy"), header.getvalue())
    path = tmp_path / "run.npz"
    path.write_bytes(packed(arrays))

    def refused():
        with pytest.raises(ValueError, match=re.escape(str(path))):
            Trajectories.load(path)

    assert memory_of(refused) < 2**23


OUTSIDE = ["../outside", "../../outside", "/outside", "a/../../outside", "..\\outside"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_members_of_archives_are_never_unpacked(tmp_path, name):
    """Archives are read in memory; whatever their members are called, no file is made."""
    folder = tmp_path / "inner" / "folder"
    folder.mkdir(parents=True)
    for file, read in (("run.npz", Trajectories.load), ("checkpoint.pt", load_checkpoint)):
        path = folder / file
        path.write_bytes(packed({name: b"x", "archive/data.pkl": b"x"}, zipfile.ZIP_STORED))
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read(path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["checkpoint.pt", "folder", "inner", "run.npz"]


LABELS = [*OUTSIDE, "/", "~", "con", "a\nb", "a\0b", "-rf", "$(touch x)", "x" * 5000]


def test_labels_name_no_files(tmp_path):
    """The cells of a grid are stored under hashes, whatever the user calls them."""
    problem = Quadratic([1.0])
    folder = tmp_path / "inner" / "folder"
    grid = rst.simulate_grid(
        dict.fromkeys(LABELS, problem),
        dict.fromkeys(LABELS[:2], 0.5),
        steps=2, eta=0.1, rho=0.1, replicas=2, backend="numpy", folder=folder, processes=1,
    )  # fmt: skip
    assert len(grid) == 2 * len(LABELS)
    assert [p.name for p in tmp_path.iterdir()] == ["inner"]
    assert [p.name for p in (tmp_path / "inner").iterdir()] == ["folder"]
    assert all(re.fullmatch(r"[0-9a-f]{64}\.npz", p.name) for p in folder.iterdir())


def test_a_set_is_a_name_and_not_a_path(tmp_path):
    for name in ("../mnist", "mnist/../../x", "/etc/passwd"):
        with pytest.raises(ValueError, match="data must be one of"):
            load_data(name, 10, 0.0, 0, tmp_path)
        with pytest.raises(ValueError, match="must be one of"):
            TrainConfig(Constant(0.5), data=name)
        with pytest.raises(ValueError, match="must be one of"):
            TrainConfig(Constant(0.5), model=name)


def test_a_link_is_replaced_and_not_followed(tmp_path):
    """Who plants a link in a folder that we write to does not have us write where it leads."""
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.write_text("of value")
    folder.mkdir()
    for name in ("t.json", "t.csv"):
        (folder / name).symlink_to(outside)
    write_table(folder, "t", [{"a": 1}])
    assert outside.read_text() == "of value"
    assert not (folder / "t.json").is_symlink() and read_table(folder / "t.json") == [{"a": 1}]
    (folder / "checkpoint.pt").symlink_to(outside)
    save_checkpoint({"x": torch.zeros(1)}, folder / "checkpoint.pt")
    assert outside.read_text() == "of value"


# ---- what is shown


SCRIPT = "<script>document.title='owned'</script>"
HOSTILE = [
    SCRIPT,
    "</script><script>document.title='owned'</script>",
    "</style><script>document.title='owned'</script>",
    "</title></head><body onload=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "<a href='javascript:alert(1)'>x</a>",
    "<svg/onload=alert(1)>",
    "<!--",
    "]]>",
    "<math><mi xlink:href='javascript:alert(1)'>x</mi></math>",
    "&lt;script&gt;",
    "{{ 7 * 7 }}{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    r"$\href{javascript:alert(1)}{x}$",
    r"$\text{<script>alert(1)</script>}$",
    "$</math><script>alert(1)</script>$",
    "<iframe src=//example.org></iframe><base href=//example.org/>",
    "<meta http-equiv=refresh content='0;url=//example.org'>",
    "<form action=//example.org><input name=q></form>",
    "<link rel=stylesheet href=//example.org>",
    "<style>@import url(//example.org)</style>",
    "\u202eright to left\u2066",
]


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, attributes, texts, and styles and scripts."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.texts, self.raw, self._inside = [], [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        (self.raw if self._inside in ("script", "style") else self.texts).append(data)


def hostile_folder(folder):
    """Each of the texts in every place that takes one; figures are drawn from those of the table too."""
    write_json(
        folder / "claims.json",
        [
            {
                "id": f"Q{i}" if i % 2 else text,
                "verdict": "open",
                "figure": None,
                **dict.fromkeys(("statement", "number", "evidence", "source"), text),
                **dict.fromkeys(("title", "rule", "change", "command"), text),
            }
            for i, text in enumerate(HOSTILE)
        ],
    )
    provenance = dict.fromkeys(("version", "revision", "created", "python", "command"), SCRIPT)
    packages = {text: text for text in HOSTILE}
    seconds = dict.fromkeys(HOSTILE, 1.0)
    write_json(
        folder / "provenance.json", PROVENANCE | provenance | {"packages": packages, "seconds": seconds}
    )
    write_table(
        folder,
        "price",
        [
            {"method": text, "noise": 0.0, "strength": s, "p": 0.5, "pairs_vs_sgd": 1.0 + s}
            for text in HOSTILE[:6]
            for s in (0.0, 0.5)
        ],
    )
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of a hostile folder, and that of an empty one."""
    place = tmp_path_factory.mktemp("pages")
    (place / "empty").mkdir()
    (place / "hostile").mkdir()
    hostile = render(hostile_folder(place / "hostile"), place / "hostile.html")
    return Reader(hostile), Reader(render(place / "empty", place / "empty.html")), hostile


def test_a_hostile_folder_brings_no_element_script_or_style_of_its_own(pages):
    hostile, empty, _ = pages
    drawn = {
        "svg",
        "g",
        "path",
        "text",
        "defs",
        "use",
        "clippath",
        "rect",
        "style",
        "tspan",
        "figure",
        "button",
        "strong",
        "time",
        "figcaption",
    }
    assert set(hostile.elements) - set(empty.elements) <= drawn | {
        "code",
        "dt",
        "dd",
        "math",
        "mi",
        "mo",
        "mrow",
    }
    for tag in ("script", "link", "meta", "form", "input", "iframe", "base", "img", "object", "embed"):
        assert hostile.elements.count(tag) == empty.elements.count(tag), tag
    assert not any("owned" in text or "alert" in text for text in hostile.raw)


def test_a_hostile_folder_brings_no_handler_and_no_link_that_runs(pages):
    hostile, empty, _ = pages
    for tag, name, value in hostile.attributes:
        assert not name.startswith("on"), (tag, name, value)
        if name in ("href", "src", "xlink:href", "action", "formaction", "data", "style", "srcdoc"):
            assert not re.match(r"\s*(javascript|vbscript|data:text)", value, re.IGNORECASE), (
                tag,
                name,
                value,
            )
            assert value.startswith("#") or "example.org" not in value
    kept = [a for a in empty.attributes if a[1] in ("http-equiv", "content") or a[0] == "script"]
    assert [a for a in hostile.attributes if a[1] in ("http-equiv", "content") or a[0] == "script"] == kept


def test_hostile_texts_are_shown_as_what_they_are(pages):
    hostile, _, _ = pages
    shown = "".join(hostile.texts)
    for text in HOSTILE:
        if "$" not in text:
            assert text in shown, text
    assert "49" not in shown.split()


def test_the_page_allows_no_script_but_its_own(pages):
    hostile, empty, _ = pages
    policies = [
        [value for _, name, value in page.attributes if name == "content" and "default-src" in value]
        for page in (hostile, empty)
    ]
    assert policies[0] == policies[1] and len(policies[0]) == 1
    rules = dict(rule.strip().split(" ", 1) for rule in policies[0][0].split(";"))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules["script-src"])
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"


def test_saved_figures_hold_no_hostile_element(tmp_path):
    folder = hostile_folder(tmp_path / "results")
    (svg,) = (path for path in plots.draw_all(folder, tmp_path) if path.suffix == ".svg")
    page = Reader(svg)
    assert not set(page.elements) & {"script", "img", "iframe", "a", "foreignobject"}
    assert not [a for a in page.attributes if a[1].startswith("on") or "javascript" in a[2]]


class Named(Quadratic):
    """A problem with a name of somebody else's choice."""

    name = SCRIPT

    def __repr__(self):
        return f"<Quadratic {SCRIPT}>"


def test_what_notebooks_show_is_escaped():
    problem = Named([1.0, 0.5])
    run = rst.simulate(problem, 0.5, steps=3, eta=0.1, rho=0.1, replicas=3, backend="numpy")
    bound = rst.bounds.best(problem, schedule=0.5, steps=3, eta=0.1, rho=0.1, gap=1.0)
    record = dataclasses.replace(RunRecord.from_dict(known_record()), weights_sha256=SCRIPT, device=SCRIPT)
    shown = [run._repr_html_(), bound._repr_html_(), run.final_gap._repr_html_(), record._repr_html_()]
    for html in shown:
        assert "<script" not in html
    assert "&lt;script&gt;" in "".join(shown)


FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "\r=1", '=HYPERLINK("x")']


def test_a_table_for_spreadsheets_holds_no_formulas(tmp_path):
    """Texts only: numbers, negative ones too, stay numbers; the JSON has every text as it was.

    A carriage return, which would end a row, is a new line in the CSV, within quotes.
    """
    rows = [{"=name": text, "number": -1.5, "plain": "a=b"} for text in FORMULAS]
    write_table(tmp_path, "t", rows)
    assert read_table(tmp_path / "t.json") == rows
    with (tmp_path / "t.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["'=name", "number", "plain"]
    assert lines == [["'" + text.replace("\r", "\n"), "-1.5", "a=b"] for text in FORMULAS]
    for line in [header, *lines]:
        for cell in line:
            assert not cell.startswith(("=", "@", "+", "\t", "\r")) and (cell[0] != "-" or float(cell) < 0)


# ---- what it stands on


def test_the_core_has_the_dependencies_that_are_listed_with_their_reasons():
    import tomllib

    from tests.campaigns.audit import CORE

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[A-Za-z0-9_-]+", text)[0] for text in project["dependencies"]]
    assert names == list(CORE)
    assert all(CORE.values())


def test_the_audit_says_what_it_found_and_when_its_service_is_out_of_reach(tmp_path, capsys):
    from tests.campaigns import audit

    tool, wrong = tmp_path / "pip-audit", [{"id": "X-1", "fix_versions": ["2"]}]
    pinned = audit._pinned(audit.ROOT / "constraints.txt")
    sound = [{"name": name, "version": version, "vulns": []} for name, version in pinned.items()]
    skipped = [{"name": name, "skip_reason": "not found"} for name in pinned]
    for dependencies, status, found in (
        (None, 3, "not reachable"),
        (skipped, 3, "not reachable"),
        (sound[1:], 3, "not reachable"),
        (sound, 0, "none"),
        ([sound[0] | {"vulns": wrong}, *sound[1:]], 1, "X-1 (mended in 2)"),
        ([sound[0] | {"vulns": wrong}], 1, "X-1 (mended in 2)"),
    ):
        said = "" if dependencies is None else json.dumps({"dependencies": dependencies})
        tool.write_text(f"#!{sys.executable}\nprint({said!r})\n")
        tool.chmod(0o755)
        assert audit.main(["--tool", str(tool), "--results", str(tmp_path)]) == status
        rows = read_table(tmp_path / "audit.json")
        assert len(rows) == len(pinned) and any(row["vulnerabilities"] == found for row in rows)
        assert [row["package"] for row in rows if row["purpose"]] == list(audit.CORE)
    assert audit.main(["--tool", "no-such-program", "--results", str(tmp_path)]) == 3
    assert "there is no program no-such-program" in capsys.readouterr().err
