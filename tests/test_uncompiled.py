"""The compiled engine against its own source, run as plain Python: the same bits.

Numba compiles kernels, inlines what they call and resolves calls by the types of their arguments; LLVM makes
vectors of their loops. None of that may change a number. Only here do the lines of the kernels run as lines.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable
from fractions import Fraction

import numpy as np
import pytest
from test_fused import FAMILIES

import rst_theory as rst
from rst_theory.problems import FlatAndSharp, Quadratic, dense, least_squares, logistic, nonconvex, own
from rst_theory.simulation import DivergenceError

pytest.importorskip("numba")

import numba
from numba.extending import is_jitted

from rst_theory.simulation.fused import arithmetic, coupled, engine, kernel, lanes, plug, quadratic, separable

ENGINE = (arithmetic, lanes, plug, separable, quadratic, coupled, kernel, engine)
RESOLVED = {plug: ("value", "derivative", "curvature", "values", "gradient", "sampled_gradient")}
RESOLVED[kernel] = ("measure", "step")
FORMULAS = (dense, least_squares, logistic, nonconvex, own)


class Uncompiled:
    """A compiled function that runs as plain Python."""

    def __init__(self, compiled):
        self.py_func = compiled.py_func

    def __call__(self, *arguments, **named):
        return self.py_func(*arguments, **named)


def resolved(overload):
    """A call that is resolved by the types of its arguments, as the compiler does."""
    implementation = functools.cache(overload)

    def call(*arguments):
        return implementation(*map(numba.typeof, arguments))(*arguments)

    return call


def fma(a, b, c):
    """Correctly rounded: fractions are exact, and so is the rounding of one."""
    a, b, c = float(a), float(b), float(c)
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return np.float64(a) * np.float64(b) + np.float64(c)
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return np.float64(exact) if exact else np.float64(a) * np.float64(b) + np.float64(c)
    except OverflowError:
        return np.float64(math.inf if exact > 0 else -math.inf)


def rotate(word, bits):
    return np.uint64((int(word) << int(bits) | int(word) >> 64 - int(bits)) & 2**64 - 1)


STANDING_FOR = {
    arithmetic.fma: fma,
    arithmetic._rotate: rotate,
    arithmetic._as_float: lambda word: word.view(np.float64),
    arithmetic._as_bits: lambda number: np.float64(number).view(np.uint64),
    **{getattr(m, name): resolved(getattr(m, f"_{name}")) for m, names in RESOLVED.items() for name in names},
}


def formula(of, name, *_):
    """A function of a form as it is, and the type that the compiler would find it to return."""
    number = numba.types.float64
    return getattr(plug._FORMS[of.digest], name), number[::1] if name == "gradient" else number


def uncompile(patch):
    """Put plain Python in the place of everything that is compiled."""
    for module in ENGINE:
        for name, thing in list(vars(module).items()):
            if is_jitted(thing):
                patch.setattr(module, name, Uncompiled(thing))
            elif isinstance(thing, Hashable) and thing in STANDING_FOR:
                patch.setattr(module, name, STANDING_FOR[thing])
    patch.setattr(plug, "_compiled", formula)
    for module in FORMULAS:
        patch.setattr(module, "compilable", lambda function: function)
        for name, thing in list(vars(module).items()):
            if hasattr(thing, "cache_info"):
                patch.setattr(module, name, thing.__wrapped__)  # what it makes is made anew


CHANCES = rst.Tabulated((1.0, 0.5, 0.0, 0.7))
SETTING = {"steps": 4, "rho": 0.3, "gamma": 0.8, "replicas": 3, "first": 30, "seed": 9, "progress": False}
SETTING |= {"backend": "numba", "keep": True, "quantiles": True}


def both(problem, chances=CHANCES, **setting):
    """The run as it is, and the same of plain Python."""
    simulate = functools.partial(rst.simulate, problem, chances, **{**SETTING, "eta": 0.4, **setting})
    compiled = simulate()
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        uncompile(patch)
        return compiled, simulate()


def require_equal(compiled, plain):
    np.testing.assert_array_equal(plain.points, compiled.points)
    np.testing.assert_array_equal(plain.extra_pairs, compiled.extra_pairs)
    for name in ("squared_gradient_norm", "gap"):
        for part in ("mean", "standard_error"):
            of_each = (getattr(getattr(run, name), part) for run in (plain, compiled))
            np.testing.assert_array_equal(*of_each)


@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
@pytest.mark.parametrize("name", FAMILIES)
def test_compiled_kernels_do_to_the_bit_what_their_source_says(name, ascent):
    require_equal(*both(FAMILIES[name](), ascent=ascent))


def test_so_do_those_of_systematic_trials():
    require_equal(*both(Quadratic((1.0, 0.3)), trials="systematic"))


@pytest.mark.parametrize(
    "problem, size",
    [
        (Quadratic((1.0, 0.3), noise=1e-170), 1e-170),
        (Quadratic((1.0, 0.3)), 1e-170),
        (FlatAndSharp(2.0, 0.5, 0.5, dimension=2), 1e141),
    ],
)
def test_so_do_those_at_the_ends_of_the_floating_range(problem, size):
    require_equal(*both(problem, start=np.full(2, size)))


def test_a_divergence_is_found_in_the_same_step():
    said = []
    for change in (lambda patch: None, uncompile):
        with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
            change(patch)
            with pytest.raises(DivergenceError) as error:
                rst.simulate(Quadratic((1.0, 0.3)), CHANCES, eta=1e300, **SETTING)
            said.append(str(error.value))
    assert said[0] == said[1]
