"""The campaign of mutation tests on a small module of its own: what it kills, leaves out and keeps."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns import mutants
from tests.campaigns.mutants import TESTS as TESTS_OF
from tests.campaigns.mutations import mutants_of

ROOT = Path(__file__).parents[1]

SMALL = '''
"""A small module: not a docstring to change."""

__all__ = ["count", "half", "shifted", "told"]

TABLE = {"one": 1}
ONE = TABLE["one"]


def half(x: int) -> float:
    return x / 2


def shifted(x: int, by: int = 3) -> int:
    there = x + by
    return there - by


def count(n: int) -> int:
    while n > 0:
        n -= 1
    return n


def told(name: str) -> int:
    if name not in TABLE:
        raise KeyError("no such name " + name)
    return TABLE[name]


class Box:
    size = 7

    @property
    def double(self) -> int:
        return 2 * self.size
'''

TESTS = '''
"""Tests of it, one of them of nothing."""
import pytest
import small


def test_half():
    assert small.half(6) == 3


def test_shifted_comes_back():
    assert small.shifted(5) == 5


def test_count():
    assert small.count(3) == 0


def test_told():
    assert small.told("one") == 1
    with pytest.raises(KeyError):
        small.told("two")


def test_box():
    assert small.Box().double == 14
'''

RUN = """
import sys
from pathlib import Path
from tests.campaigns import held_tests, mutants

held_tests.GRACE, mutants.LEAST = 0.5, 90.0
here = Path(sys.argv[1])
job = mutants.Job("small.py", here / "small.py", "small", (here / "test_small.py",))
folders = (here, here / "state", here / "results", here / "survivors.json")
sys.exit(mutants.campaign([job], 2, *folders, preloaded=["hypothesis"]))
"""

EQUIVALENT = {
    "file": "small.py",
    "function": "shifted",
    "before": "def shifted(x: int, by: int = 3) -> int:",
    "after": "def shifted(x: int, by: int = 4) -> int:",
}


def run(folder):
    """The exit status, the only row of the table, the survivors that were printed, and the verdicts."""
    command = [sys.executable, "-c", RUN, str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    (row,) = json.loads((folder / "results" / "mutants.json").read_text())["rows"]
    printed = [json.loads(line.partition(": ")[2]) for line in done.stdout.splitlines() if line[:4] == "line"]
    lines = (folder / "state" / "small.jsonl").read_text().splitlines()
    return done.returncode, row, printed, [json.loads(line) for line in lines if line[-1] == "]"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """The campaign run on the small module: its folder and what `run` returns."""
    folder = tmp_path_factory.mktemp("campaign")
    (folder / "small.py").write_text(SMALL)
    (folder / "test_small.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder, run(folder)


def test_the_mutants_are_those_of_what_the_program_does():
    found = [(m.line, m.function, m.before, m.after) for m in mutants_of(SMALL)]
    assert found == [
        (6, "", 'TABLE = {"one": 1}', 'TABLE = {"XXoneXX": 1}'),
        (6, "", 'TABLE = {"one": 1}', 'TABLE = {"one": 2}'),
        (7, "", 'ONE = TABLE["one"]', 'ONE = TABLE["XXoneXX"]'),
        (11, "half", "return x / 2", "return x * 2"),
        (11, "half", "return x / 2", "return x / 3"),
        (14, "shifted", EQUIVALENT["before"], EQUIVALENT["after"]),
        (15, "shifted", "there = x + by", "there = x - by"),
        (16, "shifted", "return there - by", "return there + by"),
        (20, "count", "while n > 0:", "while n >= 0:"),
        (20, "count", "while n > 0:", "while n > 1:"),
        (21, "count", "n -= 1", "n = 1"),
        (21, "count", "n -= 1", "n += 1"),
        (21, "count", "n -= 1", "n -= 2"),
        (26, "told", "if name not in TABLE:", "if name in TABLE:"),
        (32, "Box", "size = 7", "size = 8"),
        (36, "Box.double", "return 2 * self.size", "return 2 / self.size"),
        (36, "Box.double", "return 2 * self.size", "return 3 * self.size"),
    ]


@pytest.mark.parametrize(
    "code",
    [
        'def f():\n    "Says 1 + 1."',
        "def f(x: 'a' = None) -> 'b': ...",
        'raise ValueError(f"got {1 + 1}")',
        'warnings.warn("one", stacklevel=2)',
        'x = r"\\frac 1 2", "$x$", "x_{1}"',
        'x = "two words"',
        'x = f(latex="y")',
        "def _repr_html_(self):\n    return 1 + 1",
        'def __repr__(self):\n    return "Box"',
        "__all__ = ['x']",
        "if TYPE_CHECKING:\n    x = 1",
        "X: TypeAlias = 'float | int'",
        "Kind = Literal['a', 'b']",
        "from x import y",
    ],
)
def test_what_is_read_by_people_and_type_checkers_is_left_out(code):
    assert mutants_of(code) == []


def test_latex_is_left_out_where_it_stands_by_its_place():
    texts = [m.after for m in mutants_of('q = Quantity("key", "name", "x")') if "XX" in m.after]
    assert texts == ['q = Quantity("XXkeyXX", "name", "x")', 'q = Quantity("key", "XXnameXX", "x")']
    texts = [m.after for m in mutants_of('c = Condition("p = 0", "p_t = 0", f)') if "XX" in m.after]
    assert texts == ['c = Condition("XXp = 0XX", "p_t = 0", f)']


def test_a_case_is_left_out_of_a_match():
    code = "match x:\n    case 1:\n        f()\n    case _:\n        g()\n"
    sources = [ast.unparse(ast.parse(m.source)) for m in mutants_of(code)]
    assert "match x:\n    case _:\n        g()" in sources
    assert "match x:\n    case 1:\n        f()" in sources


def test_every_file_of_the_rooms_is_tried():
    """All but the faces of the rooms, which hold names alone."""
    package, rooms = ROOT / "rst_theory", {name.split("/")[0] for name in TESTS_OF}
    files = [path for room in rooms for path in (package / room).rglob("*.py")]
    files += [package / room for room in rooms if room.endswith(".py")]
    faces = [path for path in files if path.name == "__init__.py"]
    assert {path.relative_to(package).as_posix() for path in {*files} - {*faces}} == {*TESTS_OF}
    assert all(mutants_of(path.read_text(encoding="utf-8")) == [] for path in faces)
    assert all((ROOT / "tests" / f"{name}.py").exists() for names in TESTS_OF.values() for name in names)


def test_mutants_are_killed_survive_or_take_too_long(campaign):
    _, (status, row, printed, verdicts) = campaign
    assert (row["mutants"], row["killed"], row["by_timeout"]) == (17, 16, 2)
    assert (row["equivalent"], row["unexplained"], row["not_run"]) == (0, 1, 0)
    assert row["per_cent"] == row["per_cent_of_others"] == 94.12
    assert printed == [EQUIVALENT] and status == 1
    by_test = {test for _, outcome, test, _, _ in verdicts if outcome == "killed"}
    assert by_test >= {
        f"test_small.py::test_{name}" for name in ("half", "shifted_comes_back", "count", "told")
    }
    of_import = [outcome for _, outcome, test, _, _ in verdicts if test == "import"]
    assert of_import == ["killed"] * 2  # the table without its "one" and the look-up of another
    slow = [test for _, outcome, test, _, _ in verdicts if outcome == "timeout"]
    assert slow == ["test_small.py::test_count"] * 2


def test_the_campaign_goes_on_where_it_was_stopped(campaign):
    """Of the verdicts one is lost, one cut short, and some rest on tests that read otherwise now."""
    folder, (*_, verdicts) = campaign
    lost, cut = [verdict for verdict in verdicts if verdict[2].endswith("box")][:2]
    kept = [json.dumps(verdict) for verdict in verdicts if verdict not in (lost, cut)]
    (folder / "state" / "small.jsonl").write_text("\n".join([*kept, json.dumps(cut)[:30]]) + "\n")
    (folder / "test_small.py").write_text(TESTS.replace("half(6) == 3", "half(8) == 4"))
    (folder / "survivors.json").write_text(
        json.dumps([EQUIVALENT | {"reason": "what is added is taken off"}])
    )
    status, row, printed, now = run(folder)
    of_half = [key for key, _, test, *_ in verdicts if test.endswith("half")]
    survived = [key for key, outcome, *_ in verdicts if outcome == "survived"]
    assert len(of_half) == 2
    again = [key for key, *_ in now[len(kept) :]]
    assert sorted(again) == sorted([lost[0], cut[0], *of_half, *survived])
    assert (row["mutants"], row["killed"], row["equivalent"], row["unexplained"]) == (17, 16, 1, 0)
    assert (row["per_cent"], row["per_cent_of_others"]) == (94.12, 100.0)
    assert status == 0 and printed == []


def test_of_slow_tests_those_stay_that_alone_run_a_line():
    kept = {"slow": [25.0, [1]], "middle": [10.0, [2]], "quick": [4.0, [2]], "elsewhere": [1.0, []]}
    assert [*mutants._chosen(kept)] == ["slow", "quick", "elsewhere"]  # which may read what is imported
    assert [*mutants._chosen({"one": [20.0, [1]], "other": [29.0, [2]]})] == ["one"]  # it is short, above all
