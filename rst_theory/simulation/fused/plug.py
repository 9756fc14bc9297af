"""How a problem's plain functions enter a compiled kernel.

A kernel is compiled for the *types* of its arguments. So a form is given to it as a value without data whose
type carries a digest of the form's functions, and calls such as `derivative(plug, x, i, data)` are resolved
by that type. Equal digests in another process find the kernel in Numba's cache on disk, without compiling
anything; functions passed as such, or caught in a closure, never would.

The digest covers the byte code and constants of the functions, the functions and values that they refer to
as they are now, and the source of this engine, so that a change of any of them compiles anew.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import secrets
import sys
import types as python_types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numba import njit, types
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target
from numba.extending import NativeValue, is_jitted, models, overload, register_model, typeof_impl, unbox

from rst_theory.problems.form import Coupled, Form, Plain, Separable
from rst_theory.simulation import estimates, sketch
from rst_theory.simulation.setting import CompilationError

__all__ = [
    "Plug",
    "curvature",
    "derivative",
    "gradient",
    "kind_of",
    "sampled_gradient",
    "source",
    "value",
    "values",
]


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


def _compiled(plug: PlugType, name: str, *arguments: types.Type) -> tuple[Any, types.Type]:
    """The function of that name of a form, compiled for these arguments, and the type of what it returns.

    Raises:
        CompilationError: Numba cannot compile it.
    """
    function = getattr(_FORMS[plug.digest], name)
    try:
        compiled = function if is_jitted(function) else njit(error_model="numpy")(function)
        signature = types.Dispatcher(compiled).get_call_type(cpu_target.typing_context, arguments, {})
    except (NumbaError, TypeError) as error:
        raise CompilationError(
            f"Numba cannot compile the problem's {name}, {function!r} (backend='numpy' runs it): {error}"
        ) from error
    return compiled, signature.return_type


def _number(plug: PlugType, name: str, *arguments: types.Type) -> Any:
    """A compiled function, whose results must be numbers."""
    function, returned = _compiled(plug, name, *arguments)
    if not isinstance(returned, _NUMBERS):
        raise CompilationError(f"the problem's {name} must return a number; got {returned}")
    return function


_NUMBERS = types.Integer, types.Float, types.Boolean


@overload(value)
def _value(plug, x, i, data):
    function = _number(plug, "value", x, i, data)
    return lambda plug, x, i, data: function(x, i, data)


@overload(derivative)
def _derivative(plug, x, i, data):
    function = _number(plug, "derivative", x, i, data)
    return lambda plug, x, i, data: function(x, i, data)


@overload(curvature)
def _curvature(plug, i, data):
    function = _number(plug, "curvature", i, data)
    return lambda plug, i, data: function(i, data)


_POINT = types.float64[::1]


@overload(values)
def _values(plug, x, out, data):
    if isinstance(_FORMS[plug.digest], Coupled):
        function, _ = _compiled(plug, "value", x, out, data)
        return lambda plug, x, out, data: function(x, out, data)
    function = _number(plug, "value", _POINT)

    def one_by_one(plug, x, out, data):
        for j in range(x.shape[1]):
            out[j] = function(x[:, j].copy())

    return one_by_one


@overload(gradient)
def _gradient(plug, x, g, data):
    if isinstance(_FORMS[plug.digest], Coupled):
        function, _ = _compiled(plug, "gradient", x, g, data)
        return lambda plug, x, g, data: function(x, g, data)
    function, returned = _compiled(plug, "gradient", _POINT)
    if not isinstance(getattr(returned, "dtype", None), _NUMBERS) or getattr(returned, "ndim", 1) != 1:
        raise CompilationError(f"the problem's gradient must return an array of shape (d,); got {returned}")

    def one_by_one(plug, x, g, data):
        for j in range(x.shape[1]):
            slopes = function(x[:, j].copy())
            if len(slopes) != x.shape[0]:
                raise ValueError("the problem's gradient must return as many numbers as x has")
            g[:, j] = slopes

    return one_by_one


@overload(sampled_gradient)
def _sampled_gradient(plug, x, g, indices, data):
    if getattr(_FORMS[plug.digest], "sampled_gradient", None) is None:
        return lambda plug, x, g, indices, data: None
    function, _ = _compiled(plug, "sampled_gradient", x, g, indices, data)
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


def _digest(kind: str, *functions: Callable[..., Any]) -> str:
    total = hashlib.sha256(source().encode())
    total.update(kind.encode())
    for function in functions:
        for piece in _pieces(function, set()):
            total.update(b"%d:%b" % (len(piece), piece))
    return total.hexdigest()[:32]


@functools.cache
def source() -> str:
    """A digest of the source of this engine."""
    total = hashlib.sha256()
    sources = [*Path(__file__).parent.glob("*.py"), Path(estimates.__file__), Path(sketch.__file__)]
    for path in sorted(sources):
        total.update(path.read_bytes())
    return total.hexdigest()


Names: TypeAlias = frozenset[str]


def _pieces(thing: Any, seen: set[Any], names: Names = frozenset()) -> Iterator[bytes]:
    """All that a function computes with, as bytes; of a module, what it holds under these names."""
    match thing:
        case python_types.FunctionType() | python_types.ModuleType() if (id(thing), names) in seen:
            yield b"again"
        case python_types.FunctionType():
            seen.add((id(thing), names))
            if _foreign(thing.__module__):
                yield f"{thing.__module__}.{thing.__qualname__}".encode()
            else:
                yield from _code(thing.__code__)
                yield from _pieces((thing.__defaults__, *sorted((thing.__kwdefaults__ or {}).items())), seen)
                names = _names(thing.__code__)
                for name, referred in sorted(_referred(thing, names).items()):
                    yield name.encode()
                    yield from _pieces(referred, seen, names)
        case python_types.ModuleType():
            seen.add((id(thing), names))
            yield thing.__name__.encode()
            if not _foreign(thing.__name__):
                for name in sorted(names & vars(thing).keys()):
                    yield name.encode()
                    yield from _pieces(vars(thing)[name], seen, names)
        case bool() | int() | float() | complex() | str() | bytes() | None:
            yield repr(thing).encode()
        case tuple():
            yield f"{len(thing)} of".encode()
            for item in thing:
                yield from _pieces(item, seen)
        case np.ndarray() | np.generic():
            array = np.asarray(thing)
            yield repr((array.dtype.str, array.shape)).encode()
            yield array.tobytes()
        case _ if is_jitted(thing):
            yield repr(sorted(thing.targetoptions.items())).encode()
            yield from _pieces(thing.py_func, seen)
        case type() | np.ufunc() | python_types.BuiltinFunctionType():
            yield f"{getattr(thing, '__module__', '')}.{thing.__name__}".encode()
        case _:
            _OPAQUE[id(thing)] = thing
            yield f"{_PROCESS} {id(thing)}".encode()


_OPAQUE: dict[int, Any] = {}
"""What has no bytes of its own is told by its address, in this process alone; kept, so that it stays."""

_PROCESS = secrets.token_hex(16)


def _foreign(module: str | None) -> bool:
    """Whether a module is told by its name: it changes with an installation alone."""
    top = (module or "").partition(".")[0]
    return top in ("numpy", "numba", "scipy") or (top in sys.stdlib_module_names and top != "__main__")


def _names(code: python_types.CodeType) -> Names:
    """All names that the code and those nested in it (of comprehensions, say) look up."""
    nested = (_names(constant) for constant in code.co_consts if isinstance(constant, python_types.CodeType))
    return frozenset(code.co_names).union(*nested)


def _referred(function: python_types.FunctionType, names: Names) -> dict[str, Any]:
    """The globals and the closure values that a function refers to."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: function.__globals__[name] for name in names & function.__globals__.keys()} | {
        name: cell.cell_contents for name, cell in cells
    }


def _code(code: python_types.CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            yield from _code(constant)
        else:
            yield repr(constant).encode()
