"""A name for a value: equal for equal values, in every process, and different for different ones."""

from __future__ import annotations

import hashlib
import json
import sys
import types
from typing import Any

import numpy as np

__all__ = ["digest"]


def digest(value: Any) -> str:
    """SHA-256 of a value, 64 hexadecimal digits: equal for equal values, in every process."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any, above: tuple[int, ...] = ()) -> Any:
    """A value in terms of JSON, different for different values.

    An object is its class and its state, a class its name and the code of its methods, a function its code,
    defaults and closure.

    Args:
        value: what is described.
        above: the objects, by identity, that it is a part of.

    Raises:
        TypeError: something whose state Python does not know how to copy.
    """
    if value is None or isinstance(value, bool | str) or type(value) in (int, float):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), above)
    if isinstance(value, np.ndarray) and value.dtype != object:
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"array": value.dtype.str, "shape": value.shape, "sha256": content}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(compiled_from := getattr(value, "py_func", None), types.FunctionType):  # by Numba
        return _plain(compiled_from, above)
    if id(value) in above:
        return {"above": len(above) - above.index(id(value))}

    def plain(part: Any) -> Any:
        return _plain(part, (*above, id(value)))

    if type(value) in (list, tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted((plain(item) for item in value), key=json.dumps)}
    if type(value) in (dict, types.MappingProxyType):
        return {"dict": sorted(([plain(key), plain(item)] for key, item in value.items()), key=json.dumps)}
    if isinstance(value, types.CodeType):
        return {"code": value.co_code.hex(), "names": value.co_names, "constants": plain(value.co_consts)}
    if isinstance(value, types.FunctionType):
        closure = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = value.__code__, value.__defaults__, value.__kwdefaults__, closure
        return {"function": _name(value), "parts": plain(parts)}
    if isinstance(value, type):
        own = [base for base in value.__mro__ if base.__module__ not in sys.stdlib_module_names]
        return {"class": _name(value), "methods": [[_name(base), plain(_methods(base))] for base in own]}
    try:
        recipe = value.__reduce_ex__(2)
    except TypeError as error:
        raise TypeError(f"{value!r} has no plain description to store a result under") from error
    return {"object": plain(type(value)), "recipe": recipe if isinstance(recipe, str) else plain(recipe[1:3])}


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _methods(cls: type) -> dict[str, types.FunctionType]:
    """The functions that a class defines, its properties' too."""
    functions = {
        name: getattr(member, "__func__", getattr(member, "fget", member))
        for name, member in vars(cls).items()
    }
    return {name: f for name, f in functions.items() if isinstance(f, types.FunctionType)}
