"""The house: its floors, what it costs to enter, what it never does, and that every room explains itself."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rst_theory

ROOT = Path(__file__).parents[1]
PACKAGE = "rst_theory"
ROOMS = [
    ("notation", "method", "files", "display"),
    ("schedules", "trials", "problems"),
    ("cost", "bounds", "simulation", "optim"),
    ("allocation", "certificates", "training", "integrations", "testing", "plots"),
    ("report",),
    ("cli",),  # the roof: it parses arguments and may call any room
]
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
HEAVY = {
    "torch",
    "sympy",
    "scipy",
    "matplotlib",
    "numba",
    "PEPit",
    "clarabel",
    "sklearn",
    "jinja2",
    "typer",
    "rich",
    "pandas",
}
WITHOUT_TORCH = {room for room, floor in FLOORS.items() if floor <= 2} - {"optim"}
IMPORT_SECONDS = 0.15
NEEDS = {"rst_theory.simulation.device.triton_kernel": "triton"}  # what no extra of ours installs
ENGINES = ("rst_theory.simulation.fused", "rst_theory.simulation.device")  # loaded when first used


def sources(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, nodes=None):
    """Every module that a file imports, anywhere in it, in full; `from a import b` counts as a.b."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in nodes if nodes is not None else ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*origin, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def room_of(name):
    """The room that a dotted name lies in; a public name of the package lies where it is at home."""
    parts = name.split(".")
    if parts[0] != PACKAGE or len(parts) == 1:
        return None
    return rst_theory._MODULE_OF.get(parts[1], None if parts[1] == "__version__" else parts[1])


def rooms():
    return sorted({path.name.removesuffix(".py") for path in (ROOT / PACKAGE).iterdir() if is_room(path)})


def is_room(path):
    return (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()


MODULES = [path for path in sources(PACKAGE) if path != ROOT / PACKAGE / "__init__.py"]


# Floors


@pytest.mark.parametrize("room", rooms())
def test_every_room_has_a_floor(room):
    assert room in FLOORS, f"the new room {room!r} has no floor: add it to the table here and in the design"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_to_lower_floors(path):
    here = room_of(module_name(path))
    for name in imports(path):
        there = room_of(name)
        if there not in (None, here):
            assert there in FLOORS, f"{name} is imported from no room that the table knows"
            assert FLOORS[there] < FLOORS[here], (
                f"{here} (floor {FLOORS[here]}) imports {name} (floor {FLOORS[there]})"
            )


def reachable(room):
    """Every room that a room stands on."""
    seen, waiting = set(), {room}
    while waiting:
        current = waiting.pop()
        below = {
            room_of(name)
            for path in MODULES
            if room_of(module_name(path)) == current
            for name in imports(path)
        }
        waiting |= below - seen - {None, current}
        seen |= below - {None}
    return seen - {room}


@pytest.mark.parametrize(
    "room, strangers",
    [("simulation", {"cost", "bounds"}), ("bounds", {"simulation"}), ("cost", {"simulation"})],
)
def test_evidence_is_independent(room, strangers):
    assert not reachable(room) & strangers
    assert "notation" in reachable(room)


@pytest.mark.parametrize("path", sources(PACKAGE), ids=module_name)
def test_the_package_never_imports_what_uses_it(path):
    assert not {name.split(".")[0] for name in imports(path)} & {"experiments", "tests", "conftest"}


@pytest.mark.parametrize(
    "path", [p for p in MODULES if room_of(module_name(p)) in WITHOUT_TORCH], ids=module_name
)
def test_low_floors_import_numpy_and_no_other_library_when_loaded(path):
    light = {*sys.stdlib_module_names, "numpy", PACKAGE}
    loaded = [n for n in tree_of(path).body if isinstance(n, ast.Import | ast.ImportFrom)]
    names = set(imports(path, loaded))
    if module_name(path).startswith(ENGINES):
        return
    assert {name.split(".")[0] for name in names} <= light
    assert not {name for name in names if name.startswith(ENGINES)}


def test_the_reading_of_imports_sees_every_form(tmp_path, monkeypatch):
    """The other tests are only as good as this."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / PACKAGE / "schedules" / "base.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import rst_theory.cost.law as x, os\nfrom rst_theory import bounds, RST\nfrom . import families\n"
        "from .. import simulation\nfrom ..plots import style\n"
        "def f():\n    if TYPE_CHECKING:\n        from rst_theory.report import render\n"
    )
    found = [room_of(name) for name in imports(path)]
    assert found == ["cost", None, "bounds", "optim", "schedules", "simulation", "plots", "report"]


# The door


def in_a_fresh_interpreter(code):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def loaded_by(statement):
    names = json.loads(
        in_a_fresh_interpreter(f"{statement}\nimport sys, json\nprint(json.dumps(list(sys.modules)))")
    )
    return {name.split(".")[0] for name in names}


def test_entering_loads_nothing_heavy():
    assert not loaded_by("import rst_theory") & HEAVY


def test_the_low_floors_load_nothing_heavy():
    present = sorted(WITHOUT_TORCH & {*rooms()})
    loaded = loaded_by(f"import {', '.join(f'{PACKAGE}.{room}' for room in present)}")
    assert not loaded & HEAVY and PACKAGE in loaded


def test_entering_is_quick():
    """The fastest of several runs, alternating: what else the machine does only ever adds."""

    def seconds(code):
        start = time.perf_counter()
        in_a_fresh_interpreter(code)
        return time.perf_counter() - start

    pairs = [(seconds("import rst_theory"), seconds("pass")) for _ in range(5)]
    package, bare = map(min, zip(*pairs, strict=True))
    assert package - bare <= IMPORT_SECONDS


def test_every_public_name_is_at_home():
    for room, names in rst_theory._HOME.items():
        home = importlib.import_module(f"{PACKAGE}.{room}")
        assert getattr(rst_theory, room) is home
        for name in names:
            assert getattr(rst_theory, name) is getattr(home, name) and name in home.__all__
    assert {*rst_theory.__all__} == {*dir(rst_theory)} and len({*rst_theory.__all__}) == len(
        rst_theory.__all__
    )
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        rst_theory.nonsense


def test_checkers_see_the_same_names_as_users():
    root = tree_of(ROOT / PACKAGE / "__init__.py")
    (block,) = (node for node in root.body if isinstance(node, ast.If))
    seen = {
        (node.module.removeprefix(f"{PACKAGE}."), alias.asname) for node in block.body for alias in node.names
    }
    assert seen == {(room, name) for name, room in rst_theory._MODULE_OF.items()}


def test_no_module_shares_its_name_with_a_public_function():
    for folder in {path.parent for path in sources(PACKAGE)}:
        package = importlib.import_module(module_name(folder / "__init__.py"))
        modules = {path.name.removesuffix(".py") for path in folder.iterdir() if is_room(path)}
        public = {name for name in package.__all__ if not inspect.ismodule(getattr(package, name))}
        assert not modules & public


# What is never done


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_MODULES = {"marshal", "shelve", "dill", "cloudpickle", "yaml"}
PICKLES_OF_JOBLIB = {"load", "dump", "numpy_pickle", "*"}
EVALUATE_TEXT = {"parse_expr", "parse_latex", "S"}


def offences(tree):
    """What a file does that could execute, or read back as code, something from outside."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                yield node, name
            case ast.Attribute(value=ast.Name(id="pickle"), attr=name) if not name.endswith("Error"):
                yield node, f"pickle.{name}"
            case ast.ImportFrom(module="pickle"):
                yield node, "from pickle import"
            case ast.Attribute(value=ast.Name(id="joblib"), attr=name) if name in PICKLES_OF_JOBLIB:
                yield node, f"joblib.{name}"
            case ast.ImportFrom(module=str() as name, names=names) if name.split(".")[0] == "joblib" and (
                "numpy_pickle" in name or PICKLES_OF_JOBLIB & {a.name for a in names}
            ):
                yield node, f"from {name} import"
            case ast.Import(names=names) if any(
                a.name.startswith("joblib.") or (a.name == "joblib" and a.asname) for a in names
            ):
                yield node, "joblib by another name"
            case ast.Import(names=names):
                yield from ((node, a.name) for a in names if a.name.split(".")[0] in FORBIDDEN_MODULES)
            case ast.ImportFrom(module=str() as name) if name.split(".")[0] in FORBIDDEN_MODULES:
                yield node, name
            case ast.Call(func=ast.Attribute(attr="sympify") | ast.Name(id="sympify")) if not has(
                node, "strict", True
            ):
                yield node, "sympify, which executes text, without strict=True"
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in EVALUATE_TEXT:
                yield node, name
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")) if not has(
                node, "weights_only", True
            ):
                yield node, "torch.load without weights_only=True"
            case ast.keyword(arg="allow_pickle" | "shell", value=value) if ast.unparse(value) != "False":
                yield node, ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="system" | "popen" as name)):
                yield node, f"os.{name}"


def has(call, argument, value):
    return any(
        word.arg == argument and isinstance(word.value, ast.Constant) and word.value.value is value
        for word in call.keywords
    )


@pytest.mark.parametrize("path", [*sources(PACKAGE), *sources("experiments")], ids=module_name)
def test_nothing_from_outside_is_executed(path):
    assert [(node.lineno, what) for node, what in offences(tree_of(path))] == []


@pytest.mark.parametrize(
    "code",
    [
        *(
            "eval('1')",
            "exec(x)",
            "compile(x, '', 'eval')",
            "__import__('os')",
            "pickle.load(f)",
            "pickle.loads(b)",
        ),
        *(
            "from pickle import loads",
            "import yaml",
            "from joblib import load",
            "from joblib import Parallel, dump",
            "from joblib import *",
            "from joblib.numpy_pickle import load",
            "import joblib as j",
            "import joblib.numpy_pickle",
            "joblib.load(f)",
            "joblib.dump(x, f)",
            "sympify('x')",
            "sympy.sympify(x)",
        ),
        *(
            "sympy.sympify(x, strict=False)",
            "sympy.S('x')",
            "parse_expr(x)",
            "torch.load(f)",
            "os.system('true')",
        ),
        *(
            "torch.load(f, weights_only=False)",
            "np.load(f, allow_pickle=True)",
            "subprocess.run(x, shell=True)",
        ),
        "def f():\n    return [eval(x) for x in y]",
    ],
)
def test_the_search_for_offences_finds_them(code):
    assert list(offences(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "import joblib",
        "joblib.Parallel(2)",
        "from joblib import Parallel",
        "except_(pickle.UnpicklingError)",
        "sympy.sympify(x, strict=True)",
        "re.compile('x')",
    ],
)
def test_the_search_for_offences_finds_nothing_else(code):
    assert not list(offences(ast.parse(code)))


MACHINE_PATH = re.compile("(?<![\\w/.$}])/(?:" + "|".join(["work", "root", "tmp", "home"]) + ")(?![\\w-])")


def test_tracked_files_name_no_place_on_a_machine():
    listing = subprocess.run(["git", "ls-files", "-z"], check=False, capture_output=True, cwd=ROOT)
    if listing.returncode:
        pytest.skip("not a git repository")
    found = []
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = ROOT / name
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [f"{name}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


@pytest.mark.parametrize("text", ["see /{}/main", "'/{}'", "file:///{}/x", "cd /{}; ls"])
@pytest.mark.parametrize("place", ["work", "root", "tmp", "home"])
def test_the_search_for_places_finds_them(text, place):
    assert MACHINE_PATH.search(text.format(place)) or text.startswith("file")


# Every room explains itself


def public_names(module):
    if hasattr(module, "__all__"):
        return module.__all__
    return [
        name for name, value in vars(module).items() if not name.startswith("_") and is_its_own(value, module)
    ]


def is_its_own(value, module):
    return getattr(value, "__module__", None) == module.__name__


def documented(value, name):
    """Whether there is a docstring that a person wrote, or inherits."""
    text = inspect.getdoc(value)
    return bool(text) and not text.startswith((f"{name}(", "Alias for field number"))


def undocumented(module):
    for name in public_names(module):
        value = getattr(module, name)
        if not is_its_own(value, module) or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if not documented(value, name):
            yield name
        for key, member in vars(value).items() if inspect.isclass(value) else ():
            plain = inspect.isroutine(member) or isinstance(member, property | classmethod | staticmethod)
            if not key.startswith("_") and plain and not documented(getattr(value, key), key):
                yield f"{name}.{key}"


@pytest.mark.parametrize("path", sources(PACKAGE), ids=module_name)
def test_public_names_are_explained(path):
    if module_name(path) in NEEDS:
        pytest.importorskip(NEEDS[module_name(path)])
    module = importlib.import_module(module_name(path))
    assert module.__doc__ and module.__doc__[0].isupper()
    assert list(undocumented(module)) == []
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name), f"{name} is announced and missing"


@pytest.mark.parametrize("path", [*sources("experiments"), *sources("tests")], ids=module_name)
def test_every_file_says_what_it_is(path):
    assert ast.get_docstring(tree_of(path))


SAMPLE = """
from dataclasses import dataclass
from typing import NamedTuple

@dataclass
class Silent:
    x: int
    def method(self): ...
    @property
    def attribute(self): ...

class Pair(NamedTuple):
    x: int

class Base:
    "Said."
    def method(self):
        "Said."

class Child(Base):
    "Said."
    def method(self): ...

def function(): ...
def _private(): ...
"""


def test_a_missing_explanation_is_seen(tmp_path, monkeypatch):
    """A dataclass and a named tuple write docstrings of their own, which explain nothing."""
    (tmp_path / "sample_room.py").write_text(SAMPLE)
    monkeypatch.syspath_prepend(tmp_path)
    silent = list(undocumented(importlib.import_module("sample_room")))
    assert silent == ["Silent", "Silent.method", "Silent.attribute", "Pair", "function"]


def test_the_package_is_typed():
    assert (ROOT / PACKAGE / "py.typed").exists()
