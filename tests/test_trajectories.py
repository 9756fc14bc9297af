"""What a user gets from a simulation: files, tables, quantiles, progress, and a run that was interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import sys

import numpy as np
import pytest
from conftest import NUMERIC
from hypothesis import given, settings, strategies as st

import rst_theory as rst
from rst_theory.problems import Quadratic
from rst_theory.simulation import Trajectories, progress as bars, sketch
from rst_theory.simulation.reference import BLOCK

QUADRATIC = Quadratic([1.0, 0.4, 0.1], noise=0.2)
COMMON = {"steps": 6, "eta": 0.3, "rho": 0.1, "backend": "numpy"}


def run(**arguments):
    return rst.simulate(QUADRATIC, 0.5, **(COMMON | {"replicas": 40, "seed": 5} | arguments))


def assert_same(one, other):
    """Every field, bit for bit, but the function that replays."""
    for field in dataclasses.fields(Trajectories):
        if field.name != "_again":
            a, b = getattr(one, field.name), getattr(other, field.name)
            for x, y in zip(leaves(a), leaves(b), strict=True):
                assert type(x) is type(y)
                if isinstance(x, np.ndarray):
                    assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())
                else:
                    assert x == y


def leaves(value):
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in [key, *leaves(item)]]
    if dataclasses.is_dataclass(value):
        return [leaf for f in dataclasses.fields(value) for leaf in leaves(getattr(value, f.name))]
    return [value]


# Files


@pytest.mark.parametrize(
    "arguments",
    [{}, {"at": []}, {"at": [1, 4], "quantiles": True}, {"keep": True}, {"replicas": 1, "first": 7}],
)
def test_a_file_gives_the_run_back_bit_for_bit(tmp_path, arguments):
    saved = run(**arguments)
    saved.save(tmp_path / "run.npz")
    loaded = Trajectories.load(str(tmp_path / "run.npz"))
    assert_same(saved, loaded)
    assert repr(loaded) == repr(saved)
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    with pytest.raises(ValueError, match="cannot be replayed"):
        loaded.replay(0)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.npz"
    run(at=[1, 4], keep=True, replicas=2).save(path)
    return path.read_bytes()


class Refused(Exception):  # noqa: N818
    pass


@contextlib.contextmanager
def refused(path):
    """Turn a ValueError that names the file into Refused, and let nothing else through."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise Refused from error
        raise


@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_file_is_refused_or_gives_the_same_run(content, tmp_path_factory, data):
    where = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        damaged = content[:where]
    else:
        byte = bytes([content[where] ^ data.draw(st.integers(1, 255))])
        damaged = content[:where] + byte + content[where + 1 :]
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "whole.npz").write_bytes(content)
    (folder / "damaged.npz").write_bytes(damaged)
    with contextlib.suppress(Refused), refused(folder / "damaged.npz"):
        loaded = Trajectories.load(folder / "damaged.npz")
        assert_same(loaded, Trajectories.load(folder / "whole.npz"))


def changed(content, header=None, **arrays):
    with np.load(io.BytesIO(content)) as file:
        there = {name: file[name] for name in file.files}
    there["header"] = np.array(json.dumps(json.loads(str(there["header"])) | (header or {})))
    there |= arrays
    out = io.BytesIO()
    np.savez(out, **{name: array for name, array in there.items() if array is not None})
    return out.getvalue()


@pytest.mark.parametrize(
    "header, arrays, message",
    [
        ({"version": 2}, {}, "version is 2; this one reads version 1"),
        ({"format": "a cake"}, {}, "format is 'a cake'"),
        ({"replicas": 1}, {}, "contradict"),
        ({"replicas": "2"}, {}, "replicas in its header"),
        ({"quantities": ["gap"]}, {}, "quantities"),
        ({}, {"eta": None}, "eta"),
        ({}, {"gap.means": None}, "missing or not known: gap.means"),
        ({}, {"more": np.zeros(1)}, "missing or not known: more"),
        (
            {},
            {"gap.means": np.zeros((32, 2))},
            r"gap.means should be float64 \(32, 3\); got float64 \(32, 2\)",
        ),
        ({}, {"extra_pairs": np.zeros(2)}, r"extra_pairs should be int64 \(2,\); got float64"),
        ({}, {"times": np.array([4, 1])}, "times should increase"),
        ({}, {"times": np.array([4, 6])}, "times should increase"),
        ({}, {"points": np.zeros((2, 7))}, "points should be"),
        ({}, {"gap.sketch": np.zeros((3, 5), dtype=np.uint32)}, "sketch"),
    ],
)
def test_a_foreign_file_is_refused_by_name(content, tmp_path, header, arrays, message):
    path = tmp_path / "foreign.npz"
    path.write_bytes(changed(content, header, **arrays))
    with pytest.raises(ValueError, match=re.escape(str(path)) + ".*" + message):
        Trajectories.load(path)


@pytest.mark.parametrize("foreign", [b"", b"text", b"\x93NUMPY", b"PK\x03\x04"])
def test_other_files_are_refused_and_missing_ones_named(tmp_path, foreign):
    (tmp_path / "a").write_bytes(foreign)
    with pytest.raises(ValueError, match="holds no run"):
        Trajectories.load(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="b"):
        Trajectories.load(tmp_path / "b")


# Tables and quantiles


def test_a_data_frame_has_a_row_for_each_quantity_and_time():
    pytest.importorskip("pandas")
    measured = run(at=[0, 3], quantiles=True, keep=True)
    frame = measured.to_dataframe()
    assert len(frame) == 9
    gaps = frame[frame.quantity == "gap"]
    assert list(gaps.t) == [0, 3, 6]
    samples = QUADRATIC.gap(measured.points)[:, [0, 3, 6]]
    np.testing.assert_allclose(gaps["mean"], samples.mean(axis=0), rtol=NUMERIC)
    np.testing.assert_allclose(gaps["variance"], samples.var(axis=0, ddof=1), rtol=NUMERIC, atol=1e-30)
    np.testing.assert_allclose(gaps["standard_error"] ** 2 * 40, gaps["variance"], rtol=NUMERIC)
    assert set(gaps.replicas) == {40}
    for column, level in {"q05": 0.05, "q50": 0.5, "q95": 0.95}.items():
        np.testing.assert_array_equal(gaps[column], measured.quantile("gap", level))
    assert "q50" not in run().to_dataframe()


def test_without_pandas_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'rst-theory\[experiments\]'"):
        run().to_dataframe()


IN_RANGE = st.floats(2.0**sketch.LOWEST, 2.0**sketch.HIGHEST, exclude_max=True)


@given(st.lists(IN_RANGE, min_size=1, max_size=40), st.integers(0, 32), st.integers(0, 40))
def test_quantiles_are_order_statistics_to_the_stated_error(samples, level, cut):
    """At levels i/32, for which numpy's inverted distribution function has no rounding."""
    parts = [np.array([part]) for part in (samples[:cut], samples[cut:]) if part]
    counts = sum(sketch.count(part).astype(np.int64) for part in parts)
    np.testing.assert_array_equal(counts, sketch.count(np.array([samples])))
    exact = np.quantile(samples, level / 32, method="inverted_cdf")
    assert sketch.quantile(counts, level / 32)[0] == pytest.approx(exact, rel=(1 + 1e-12) / 129, abs=0)


def test_the_outer_bins_are_zero_and_infinity():
    samples = np.array([[-1e-20, 0.0, 2.0**-129, 2.0**64, 1e300]])
    levels = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    found = [sketch.quantile(sketch.count(samples), level)[0] for level in levels]
    assert found == [0, 0, 0, 0, np.inf, np.inf]


def test_quantiles_of_a_run_are_those_of_its_points():
    measured = run(quantiles=True, keep=True, replicas=BLOCK + 44)
    exact = np.quantile(QUADRATIC.gap(measured.points), 0.75, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(measured.quantile("gap", 0.75), exact, rtol=(1 + 1e-12) / 129)


def test_bad_quantiles_are_refused():
    with pytest.raises(ValueError, match="quantiles=True"):
        run().quantile("gap", 0.5)
    measured = run(quantiles=True)
    with pytest.raises(
        ValueError, match="one of 'squared_gradient_norm', 'gap', 'squared_distance'; got 'x'"
    ):
        measured.quantile("x", 0.5)
    for level in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="level"):
            measured.quantile("gap", level)


# What was run


def test_the_repr_says_what_was_run():
    text = repr(run(first=3, ascent="unnormalized", trials="systematic", at=[2]))
    for word in (
        "0.5 on <Quadratic",
        "40 replicas from number 3 of 6 steps",
        "seed 5",
        "unnormalized ascent",
    ):
        assert word in text
    for word in ("systematic trials", "numpy engine", "measured at 1 of its steps and the end"):
        assert word in text
    assert "measured" not in repr(run()) and "partial" not in repr(run())


# Interruptions and progress


def interrupt_after(share):
    def tell(done):
        if done > share:
            raise KeyboardInterrupt

    return tell


def test_an_interrupted_run_is_the_run_of_the_replicas_that_are_done(tmp_path):
    arguments = {"keep": True, "quantiles": True}
    partial = run(replicas=10 * BLOCK, progress=interrupt_after(0.55), **arguments)
    n = partial.extra_pairs.size
    assert partial.partial and n == 5 * BLOCK
    assert f"partial: {n:,} of {10 * BLOCK:,} replicas" in repr(partial)
    short = run(replicas=n, **arguments)
    as_asked = {"description": partial.description, "replicas": 10 * BLOCK}
    assert_same(partial, dataclasses.replace(short, **as_asked))
    partial.save(tmp_path / "partial.npz")
    assert Trajectories.load(tmp_path / "partial.npz").partial
    assert not short.partial


def test_an_interrupt_before_anything_is_done_goes_on():
    with pytest.raises(KeyboardInterrupt):
        run(progress=interrupt_after(0.0))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_appears_on_a_terminal_and_only_there(monkeypatch):
    monkeypatch.setattr(bars, "PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    for stderr, progress, shown in [
        (Terminal(), None, True),
        (Terminal(), False, False),
        (io.StringIO(), None, False),
    ]:
        monkeypatch.setattr(sys, "stderr", stderr)
        run(progress=progress)
        assert ("simulating" in stderr.getvalue()) is shown


def test_a_short_run_shows_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    run()
    assert sys.stderr.getvalue() == ""
