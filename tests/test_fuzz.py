"""The fuzz targets on their seeds and random changes of them, without atheris; and what fuzzing has found."""

from __future__ import annotations

import contextlib
import math
import random
import time
import warnings

import pytest

import rst_theory as rst
from rst_theory.bounds import ALL, RunBound
from rst_theory.files import read_json, read_table, write_json
from rst_theory.notation import DomainError, ProblemConstants
from rst_theory.schedules import Periodic, expressions
from rst_theory.training import TrainConfig
from tests.campaigns import fuzz
from tests.campaigns.fuzz_guard import Hang, Warned, finding, keep, minimised, warnings_are_findings
from tests.campaigns.fuzz_inputs import EDIT, PATCH, edited, json_file, patched
from tests.campaigns.fuzz_properties import PROPERTIES, counted
from tests.campaigns.fuzz_targets import TARGETS, Broken, attempt, check_schedule

MUTANTS, SLOW = 100, 8
SECONDS = 20.0  # of an execution, here with everything that is imported in it

# Found by `make fuzz`; minimised.
REGRESSIONS: list[tuple[str, bytes]] = [
    ("formula", b"2else "),  # SyntaxWarning: invalid decimal literal
    ("word", b"formula:1and"),  # the same
    ("word", b"1e-999"),  # could not come back from its dict
    ("plain_schedule", b"\x1f\x00\xff\xfa\r"),  # OverflowError: int too large to convert to float
    ("plain_schedule", b"\x03\x00\x10\x00@"),  # 'float' object is not iterable
    ("plain_schedule", b"\x83\xd0\xd2\x00 \xee\xf9N\x00"),  # setting an array element with a sequence
    ("trajectories", b"\x02\x07.\xadt\xc7"),  # RuntimeWarning: invalid value encountered in sqrt
    ("trajectories", b"\x02k\xab' 5"),  # DeprecationWarning: invalid escape sequence
    ("trajectories", b"\xfe\xf7" + b"\xff" * 18 + b"\x7f\xf2"),  # RuntimeWarning: invalid value in reduce
    ("trajectories", b"\xfe\xf7" + b"\xff" * 18 + b"\x7f\xff"),  # NaN in a mean
    ("trajectories", b"&QD#\x03\x03 0\x80\x03"),  # RuntimeWarning: overflow encountered in multiply
    ("trajectories", b"\x02<8f \x00"),  # half a pair of surrogates in its description
    ("config", b"\x03\x02\xf0\x00\x00\x04\x00\x80"),  # no message of its own
    ("config", b"\x03@\x00@\x00\x10\x00\x16\x00\x16@\x00@"),  # AttributeError
    ("config", b"\x03\xa0P\x00\x81"),  # T = 0
    ("record", b"\x03\xc9\xc9\xc9\xc8"),  # IndexError: tuple index out of range
    ("record", b"\x03\x0e\xdb\x17\x00"),  # TypeError: unsupported operand types
    ("record", b"\x03\x01\xb7|%"),  # UnicodeEncodeError: surrogates not allowed
    ("record", b"\x07(\xdf\x81\xd8"),  # ValueError: Cannot specify ',' with 's'
    ("record", b"\x03\x01\xff\xff\xff"),  # NaN in a file that was written back
    ("record", b"\x03\x80.\x00\x01\x80\xd6\x00\r"),  # OverflowError: int too large to convert to float
    ("record", b"\x03\x00\xd0w0"),  # could not convert string to float
    ("record", b"\x03\x00\xdb\x05\x17"),  # infinitely many pairs per step
    ("record", b"\xff\x00\xed\x03\x00"),  # TypeError: '>' not supported
    ("table", b"\x03\x00 \x00\x03"),  # TypeError: 'int' object is not iterable
    ("checkpoint", b"\x02\x00 \x00\x03"),  # the file was not named
    ("checkpoint", b"\x03\x00\r \x00"),  # TypeError: gamma must be a real number
    ("checkpoint", b">\x00\x00,1"),  # UserWarning: Detected pickle protocol 49
]


def mutated(data, draw, words):
    """A few bytes replaced, put in, left out or repeated, or a token of the language put in."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(content) + 1)
        match draw.randrange(5):
            case 0:
                content[at : at + 1] = draw.randbytes(1)
            case 1:
                content[at:at] = draw.randbytes(draw.choice((1, 2, 4)))
            case 2:
                del content[at : at + draw.choice((1, 2, 8))]
            case 3:
                content[at:at] = content[draw.randrange(len(content) + 1) :][:8]
            case 4 if words:
                content[at:at] = draw.choice(words).encode("latin-1")
    return bytes(content)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_mutants_of_them_keep_every_promise(name):
    target, draw = TARGETS[name], random.Random(name)
    seeds = target.seeds()
    few = MUTANTS if target.share >= 1 else SLOW
    mutants = [mutated(draw.choice(seeds), draw, target.words) for _ in range(few)]
    for data in [*draw.sample(seeds, min(few, len(seeds))), *mutants]:
        error = finding(target.check, data, SECONDS)
        assert error is None, (data, error)


@pytest.mark.parametrize("L", [1e154, 1e-154])
def test_a_bound_beyond_the_floating_range_is_refused_or_infinite(L):
    for bound in (bound for bound in ALL.values() if isinstance(bound, RunBound)):
        for eta in (0.0, 0.5 / L):
            with contextlib.suppress(DomainError):
                value = bound.evaluate(
                    schedule=Periodic(3),
                    steps=1,
                    eta=eta,
                    rho=0.0,
                    constants=ProblemConstants(L=L, mu=L / 2),
                    gap=1.0,
                    distance=1.0,
                )
                assert value >= 0


def test_an_allocation_by_weights_beyond_the_floating_range_is_refused():
    for eta, rho, degree, L in ((1.0, 1e154, 1.8e154, 1.0), (1e16, 1e300, 0.0, 5e-324)):
        with pytest.raises(DomainError, match="eta_t rho_t q_t within the floating range"):
            rst.allocate(0.5, steps=1, eta=eta, rho=rho, degree=degree, constants=ProblemConstants(L=L))


@pytest.mark.parametrize("name, data", REGRESSIONS)
def test_what_was_found_once_is_not_there_again(name, data):
    TARGETS[name].check(data)


def test_the_tail_beyond_all_numbers_is_nothing():
    for kind in ("independent", "systematic"):
        law = rst.CostLaw(0.5, 3, kind=kind)
        assert law.tail_bound(math.inf) == law.tail_bound(-math.inf) == law.tail_bound(10**400) == 0
        assert (law.cdf(10**400), law.sf(10**400), law.cdf(-(10**400))) == (1, 0, 0)


def test_a_degree_that_no_probability_reaches_is_refused():
    setting = {"steps": 2, "eta": 0.1, "rho": 0.1, "constants": rst.ProblemConstants(L=1)}
    with pytest.raises(rst.DomainError, match="probability p in"):
        rst.allocate(0.5, degree=1e300, max_gamma=1e-300, **setting)


def test_schedules_within_schedules_end_before_the_stack_does():
    schedule = rst.Constant(0.5)
    for _ in range(20):
        schedule = rst.Joined(((schedule, 1),))
    check_schedule(schedule)
    with pytest.raises(ValueError, match="at most 20 deep"):
        rst.Joined(((schedule, 1),))


def test_a_period_is_a_number_that_floats_count_exactly():
    assert rst.Periodic(2**53).values(3).tolist() == [1, 0, 0]
    with pytest.raises(rst.DomainError, match="Periodic every <= 9007199254740992; got 9007199254740993"):
        rst.Periodic(2**53 + 1)


def test_a_run_of_training_has_at_most_ten_million_steps():
    many = {"train_size": 1, "batch_size": 10**400}
    assert TrainConfig(rst.Constant(0.5), epochs=3, **many).steps == 3
    with pytest.raises(
        rst.DomainError, match="epochs times the minibatches of one <= 10000000; got 10000001"
    ):
        TrainConfig(rst.Constant(0.5), epochs=10**7 + 1, **many)


def test_numbers_of_a_config_are_no_texts_and_no_integers_beyond_floats():
    for name in ("learning_rate", "weight_decay", "label_noise"):
        with pytest.raises(TypeError, match=f"{name} must be a real number; got '0.5'"):
            TrainConfig(rst.Constant(0.5), **{name: "0.5"})
    with pytest.raises(rst.DomainError, match="learning_rate in"):
        TrainConfig(rst.Constant(0.5), learning_rate=10**400)


def test_where_sympy_ends_at_the_stack_there_is_no_closed_form(monkeypatch):
    def too_deep(*_):
        raise RecursionError

    monkeypatch.setattr(expressions, "_limit", too_deep)
    with pytest.raises(ValueError, match="no closed form"):
        expressions.limit_of_mean("2**t/6**T")


@pytest.mark.parametrize("text", ["NaN", "[1, -Infinity]", '{"a": "\\ud800"}', "[" * 10**5, "9" * 5000])
def test_what_is_no_json_is_refused_by_the_name_of_the_file(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties_hold_for_a_few_examples(name):
    done, story = counted(name, 20)
    assert done >= 20 and not story, story


# The machinery


def needs_no_x(data):
    if b"x" in data:
        raise KeyError("x")


def test_a_finding_is_minimised_and_written_down_as_a_test(tmp_path):
    data = b"abc" * 40 + b"x" + b"def" * 40
    error = finding(needs_no_x, data)
    assert isinstance(error, KeyError) and finding(needs_no_x, b"abc") is None
    assert minimised(needs_no_x, data) == b"x"
    keep(tmp_path / "findings", "name", needs_no_x, data, error)
    keep(tmp_path / "findings", "name", needs_no_x, b"xx", error)  # of the same place: the same finding
    (story,) = fuzz.stories(tmp_path / "findings")
    assert story.startswith("    (\"name\", b'x'),  # KeyError at")


def test_what_takes_too_long_is_stopped_though_it_catches_every_error():
    def endless(data):
        while True:
            try:
                time.sleep(0)
            except Exception:
                continue

    assert isinstance(finding(endless, b"", seconds=0.05), Hang)


def test_a_warning_is_a_finding_that_no_handler_of_errors_takes():
    def warns(data):
        try:
            warnings.warn("of something", UserWarning, stacklevel=1)
        except Exception:
            return

    with warnings.catch_warnings():
        warnings_are_findings()
        assert isinstance(finding(warns, b""), Warned)


def test_a_refusal_must_name_what_it_refuses():
    def refuse():
        raise ValueError("the file a.json is bad")

    assert attempt(refuse, ValueError, naming=["a.json"]) is None
    with pytest.raises(Broken, match="names none"):
        attempt(refuse, ValueError, naming=["b.json"])
    with pytest.raises(ValueError):
        attempt(refuse, TypeError, naming=["a.json"])


def test_inputs_without_changes_are_the_valid_ones():
    document = {"a": [1, {"b": 2.5}], "c": "text"}
    assert edited(document, b"") == document and patched(b"abc", b"") == b"abc"
    assert json_file(bytes([EDIT]), document) == json_file(bytes([PATCH]), document)
    assert edited(document, b"\x00\xff\xff\x00") == {"a": [1, {"b": 2.5}], "c": None}
    assert patched(b"abc", b"\x00\x00\x00x") == b"xbc"
    assert document == {"a": [1, {"b": 2.5}], "c": "text"}


def test_lines_of_libfuzzer_are_understood():
    row = {"executions": 0}
    fuzz._note(row, "INFO: seed corpus: files: 7 min: 1b max: 9b total: 30b rss: 80Mb\n")
    assert row == {"executions": 0}
    fuzz._note(row, "#4096\tpulse  cov: 233 ft: 500 corp: 30/200b lim: 43 exec/s: 2048 rss: 90Mb\n")
    assert row == {"executions": 4096, "coverage": 233, "corpus": 30}
    fuzz._note(row, "stat::number_of_executed_units: 5000\n")
    assert row == {"executions": 5000, "coverage": 233, "corpus": 30}


def test_a_target_runs_in_a_process_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "RUNS", tmp_path)
    row = fuzz.run_target("degrees", 5)
    assert row["executions"] >= 5 and row["findings"] == 0, capsys.readouterr().out
    assert read_json(tmp_path / "degrees" / "figures.json") == row


@pytest.mark.parametrize("found", [0, 2])
def test_the_campaign_keeps_its_figures(tmp_path, monkeypatch, capsys, found):
    def run(name, executions):
        figures = {"target": name, "executions": executions, "seconds": 1.0, "findings": found}
        write_json(tmp_path / name / "figures.json", figures)

    monkeypatch.setattr(fuzz, "RUNS", tmp_path)
    monkeypatch.setattr(fuzz, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(fuzz, "run_target", run)
    monkeypatch.setattr(fuzz.importlib.util, "find_spec", lambda name: name)
    assert fuzz.main(["--executions", "1000", "idx"]) == (1 if found else 0)
    assert [row["target"] for row in read_table(tmp_path / "results" / "fuzz.json")] == ["idx"]
    fuzz.main(["--executions", "1000000"])
    rows = read_table(tmp_path / "results" / "fuzz.json")
    assert [row["target"] for row in rows] == [*TARGETS, *PROPERTIES]
    assert abs(sum(row["executions"] for row in rows) - 1_000_000) < 50


def test_without_atheris_the_campaign_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(fuzz.importlib.util, "find_spec", lambda name: None)
    assert fuzz.main(["idx"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_an_unknown_target_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        fuzz.main(["nonsense"])
    assert stopped.value.code == 2 and "no targets: nonsense" in capsys.readouterr().err
