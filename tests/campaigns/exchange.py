"""How a changed source gets into a process: its functions exchanged in place, or its module imported anew."""

from __future__ import annotations

import gc
import importlib.machinery
import inspect
import types
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["ChangedModule", "Swaps", "apply", "compiled", "live_functions", "swaps"]

Swaps: TypeAlias = "list[tuple[types.CodeType, types.CodeType]]"
"""Codes of functions and what they become."""


def compiled(source: str, path: Path) -> types.CodeType:
    """The code of a module, as an import makes it."""
    return compile(source, str(path), "exec", dont_inherit=True)


def swaps(old: types.CodeType, new: types.CodeType) -> Swaps | None:
    """The codes of functions that differ, with those around them; None if that of a module or class does."""
    is_function = old.co_flags & inspect.CO_OPTIMIZED
    if _own(old) != _own(new):
        return [(old, new)] if is_function else None
    found: Swaps = []
    for inner, changed in zip(_nested(old), _nested(new), strict=True):
        within = swaps(inner, changed)
        if within is None:
            return None
        found += within
    return [*found, (old, new)] if found and is_function else found


def _nested(code: types.CodeType) -> list[types.CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


def _own(code: types.CodeType) -> tuple[Any, ...]:
    """All that a code does but for the codes in it; the numbers of its lines do not count."""
    constants = ["" if isinstance(c, types.CodeType) else f"{type(c).__name__} {c!r}" for c in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags)
    return code.co_code, constants, names, counts, code.co_exceptiontable


def live_functions(path: Path) -> dict[types.CodeType, list[types.FunctionType]]:
    """All functions of this process that were compiled from a file, by their codes."""
    found: dict[types.CodeType, list[types.FunctionType]] = {}
    gc.collect()
    for function in gc.get_objects():
        if type(function) is types.FunctionType and function.__code__.co_filename == str(path):
            found.setdefault(function.__code__, []).append(function)
    return found


def apply(changes: Swaps, functions: dict[types.CodeType, list[types.FunctionType]]) -> None:
    """Give functions their new codes, wherever they are referred to."""
    for old, new in changes:
        for function in functions.get(old, ()):
            function.__code__ = new


class ChangedModule(importlib.machinery.SourceFileLoader):
    """An importer, for `sys.meta_path`, that finds one module changed."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        super().__init__(module, str(path))
        self._code = compiled(source, path)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = self
        return spec

    def get_code(self, fullname: str) -> types.CodeType:
        return self._code
