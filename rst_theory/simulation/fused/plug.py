"""How a problem's plain functions enter a compiled kernel.

A kernel is compiled for the *types* of its arguments. So a form is given to it as a value without data whose
type carries a digest of the form's functions, and calls such as `derivative(plug, x, i, data)` are resolved
by that type. Equal digests in another process find the kernel in Numba's cache on disk, without compiling
anything; functions passed as such, or caught in a closure, never would.

The digest covers the byte code and constants of the functions, the functions and values that they refer to,
and the source of this engine, so that a change of any of them compiles anew.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import types as python_types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import NativeValue, models, overload, register_model, typeof_impl, unbox

from rst_theory.problems.form import Coupled, Form, Plain, Separable

__all__ = ["Plug", "curvature", "derivative", "gradient", "kind_of", "sampled_gradient", "value", "values"]


class Plug:
    """A form, on its way into a kernel; its type is told by a digest of its functions.

    Args:
        form: the functions of a problem.
    """

    def __init__(self, form: Form) -> None:
        self.digest = _digest(type(form).__name__, *_functions(form))
        _FORMS.setdefault(self.digest, dataclasses.replace(form, data=()))


_FORMS: dict[str, Any] = {}
"""The functions behind each digest, for the compiler."""


class PlugType(types.Type):
    """The type of a plug: nothing but the digest."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__(name=f"Plug({digest})")


def kind_of(plug: PlugType) -> str:
    """What kind of step the form behind a type needs: "quadratic", "separable" or "coupled"."""
    form = _FORMS[plug.digest]
    if not isinstance(form, Separable):
        return "coupled"
    return "separable" if form.curvature is None else "quadratic"


register_model(PlugType)(models.OpaqueModel)


@typeof_impl.register(Plug)
def _typeof(plug: Plug, _: Any) -> PlugType:
    return PlugType(plug.digest)


@unbox(PlugType)
def _unbox(kind: PlugType, _: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


def value(plug: Plug, x: float, i: int, data: Any) -> float:
    """The value phi(x) of coordinate i of a separable form."""
    raise NotImplementedError


def derivative(plug: Plug, x: float, i: int, data: Any) -> float:
    """The slope phi'(x) of coordinate i of a separable form."""
    raise NotImplementedError


def curvature(plug: Plug, i: int, data: Any) -> float:
    """The constant phi'' of coordinate i of a separable quadratic."""
    raise NotImplementedError


def values(plug: Plug, x: Any, out: Any, data: Any) -> None:
    """The values of f at points side by side, x (d, lanes), written to out (lanes,)."""
    raise NotImplementedError


def gradient(plug: Plug, x: Any, g: Any, data: Any) -> None:
    """The gradients at points side by side, written to g (d, lanes)."""
    raise NotImplementedError


def sampled_gradient(plug: Plug, x: Any, g: Any, indices: Any, data: Any) -> None:
    """The gradients of minibatches, indices (b, lanes), written to g (d, lanes)."""
    raise NotImplementedError


def _compiled(function: Callable[..., Any]) -> Any:
    return njit(error_model="numpy")(function)


@overload(value)
def _value(plug, x, i, data):
    function = _compiled(_FORMS[plug.digest].value)
    return lambda plug, x, i, data: function(x, i, data)


@overload(derivative)
def _derivative(plug, x, i, data):
    function = _compiled(_FORMS[plug.digest].derivative)
    return lambda plug, x, i, data: function(x, i, data)


@overload(curvature)
def _curvature(plug, i, data):
    function = _compiled(_FORMS[plug.digest].curvature)
    return lambda plug, i, data: function(i, data)


@overload(values)
def _values(plug, x, out, data):
    form = _FORMS[plug.digest]
    function = _compiled(form.value)
    if isinstance(form, Coupled):
        return lambda plug, x, out, data: function(x, out, data)

    def one_by_one(plug, x, out, data):
        for j in range(x.shape[1]):
            out[j] = function(np.ascontiguousarray(x[:, j]))

    return one_by_one


@overload(gradient)
def _gradient(plug, x, g, data):
    form = _FORMS[plug.digest]
    function = _compiled(form.gradient)
    if isinstance(form, Coupled):
        return lambda plug, x, g, data: function(x, g, data)

    def one_by_one(plug, x, g, data):
        for j in range(x.shape[1]):
            g[:, j] = function(np.ascontiguousarray(x[:, j]))

    return one_by_one


@overload(sampled_gradient)
def _sampled_gradient(plug, x, g, indices, data):
    form = _FORMS[plug.digest]
    if not isinstance(form, Coupled) or form.sampled_gradient is None:
        return lambda plug, x, g, indices, data: None
    function = _compiled(form.sampled_gradient)
    return lambda plug, x, g, indices, data: function(x, g, indices, data)


def _functions(form: Form) -> Iterator[Callable[..., Any]]:
    match form:
        case Separable():
            yield from (form.value, form.derivative)
            if form.curvature is not None:
                yield form.curvature
        case Coupled():
            yield from (form.value, form.gradient)
            if form.sampled_gradient is not None:
                yield form.sampled_gradient
        case Plain():
            yield from (form.value, form.gradient)


@functools.lru_cache(maxsize=1024)
def _digest(kind: str, *functions: Callable[..., Any]) -> str:
    total = hashlib.sha256(_engine().encode())
    total.update(kind.encode())
    for function in functions:
        for piece in _pieces(function, set()):
            total.update(piece)
            total.update(b"\0")
    return total.hexdigest()[:32]


@functools.cache
def _engine() -> str:
    """A digest of the source of this engine."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


def _pieces(thing: Any, seen: set[int]) -> Iterator[bytes]:
    """All that a function computes with, as bytes; the address of what has no bytes of its own."""
    if id(thing) in seen:
        return
    match thing:
        case python_types.FunctionType():
            seen.add(id(thing))
            yield from _code(thing.__code__)
            yield repr(thing.__defaults__).encode()
            names = inspect.getclosurevars(thing)
            for name, referred in sorted({**names.globals, **names.nonlocals}.items()):
                yield name.encode()
                yield from _pieces(referred, seen)
        case bool() | int() | float() | complex() | str() | None:
            yield repr(thing).encode()
        case tuple():
            for item in thing:
                yield from _pieces(item, seen)
        case np.ndarray() | np.generic():
            array = np.asarray(thing)
            yield repr((array.dtype.str, array.shape)).encode()
            yield array.tobytes()
        case python_types.ModuleType():
            yield thing.__name__.encode()
        case _ if hasattr(thing, "py_func"):
            yield from _pieces(thing.py_func, seen)
        case np.ufunc() | python_types.BuiltinFunctionType():
            yield thing.__name__.encode()
        case _:
            yield repr(id(thing)).encode()


def _code(code: python_types.CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            yield from _code(constant)
        else:
            yield repr(constant).encode()
