"""The mutants of a file: mutmut's operators applied to everything in it that decides what the program does.

mutmut itself mutates plain functions only; here its operators also meet properties, decorated functions,
class bodies and the tables and lambdas of a module. Left out, by the syntax tree:

- what people read: docstrings and other strings that stand alone; all of a `raise` and of `warnings.warn`;
  texts with two words side by side; LaTeX (a command, a dollar or a braced index in a text; arguments and
  functions named `latex`; the third argument of a `Quantity`, the second of a `Condition`); `_repr_html_`
  and the texts in `__repr__`;
- what type checkers read: annotations, type aliases, `cast`, blocks under TYPE_CHECKING, `__all__`, imports;
- mutants that stand for another one or that the strict type checker refuses: a text in other letter cases
  beside the text with "XX" at its ends; an argument or a value replaced by None; arguments of `len` and
  `isinstance`, as in mutmut.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import libcst as cst
from libcst.metadata import (
    ByteSpanPositionProvider,
    CodeRange,
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
)
from mutmut.mutation.mutators import mutation_operators

__all__ = ["Mutant", "mutants_of"]

_LATEX = re.compile(r"\\[A-Za-z]{2}|\$|[_^]\{")
_PROSE = re.compile(r"[^\W\d]{2,},? [^\W\d]{2,}")
_LATEX_NAMES = {"latex", "_latex", "_repr_latex_", "_repr_html_"}
_LATEX_ARGUMENTS = {"Quantity": 2, "Condition": 1}
_NOT_MUTATED_CALLS = {"len", "isinstance", "cast", "TypeVar"}
_TYPE_FORMS = {"Literal", "Callable", "Mapping", "Sequence"}
_TEXTS = (cst.SimpleString, cst.FormattedString, cst.ConcatenatedString)


class Mutant(NamedTuple):
    """One change to one file.

    Attributes:
        function: the dotted name of the class and function that it lies in; empty at the level of the module.
        line: of the original.
        lines: first and last line of what the interpreter counts as one with it: its statement or a header.
        before: the lines that change, white space collapsed.
        after: what they become.
        source: the whole file, changed.
    """

    function: str
    line: int
    lines: tuple[int, int]
    before: str
    after: str
    source: str


def mutants_of(source: str) -> list[Mutant]:
    """All mutants of a file, in its order, each different from the original and from the others."""
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    finder = _Finder()
    wrapper.visit(finder)
    positions, spans = wrapper.resolve(PositionProvider), wrapper.resolve(ByteSpanPositionProvider)
    encoded = source.encode()
    statements = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and not isinstance(node, ast.Break | ast.Continue)  # which have no line
    ]
    found, seen = [], {source}
    for node, changed, function in finder.found:
        position = positions[node]
        if isinstance(node, cst.Match):
            (case,) = (case for case in node.cases if not any(case is kept for kept in changed.cases))
            position = positions[case]
            mutated = _without(source, position)
        else:
            span = spans[node]
            text = wrapper.module.code_for_node(changed).encode()
            mutated = (encoded[: span.start] + text + encoded[span.start + span.length :]).decode()
        if mutated in seen or not _parses(mutated):
            continue
        seen.add(mutated)
        first, last = position.start.line, position.end.line
        before = source.split("\n")[first - 1 : last]
        after = mutated.split("\n")[first - 1 : last + mutated.count("\n") - source.count("\n")]
        lines = _counted_lines(statements, first, last)
        found.append(Mutant(function, first, lines, *_shown(before, after), mutated))
    return found


class _Finder(cst.CSTVisitor):
    """Walks the tree past what is left out, and keeps (node, changed node, function)."""

    METADATA_DEPENDENCIES = (ParentNodeProvider,)

    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, str]] = []
        self._scopes: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._scopes.append(node.name.value)
        if self._left_out(node):
            if isinstance(node, cst.FunctionDef | cst.ClassDef):
                self._scopes.pop()
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                changes = list(operator(node))
                if isinstance(node, cst.SimpleString):
                    changes = changes[:1]
                kept = (changed for changed in changes if not _becomes_none(node, changed))
                self.found += [(node, changed, ".".join(self._scopes)) for changed in kept]
        return True

    def on_leave(self, node: cst.CSTNode) -> None:
        if isinstance(node, cst.FunctionDef | cst.ClassDef) and not self._left_out(node):
            self._scopes.pop()

    def _left_out(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.Raise() | cst.Annotation() | cst.Import() | cst.ImportFrom():
                return True
            case cst.Expr(value=value) if isinstance(value, _TEXTS):
                return True
            case cst.SimpleString() | cst.FormattedString() | cst.ConcatenatedString():
                return self._for_people(node)
            case cst.Call(func=cst.Name(value=name)) if name in _NOT_MUTATED_CALLS:
                return True
            case cst.Call(func=cst.Attribute(value=cst.Name(value="warnings"))):
                return True
            case cst.Arg(keyword=cst.Name(value="latex")):
                return True
            case cst.Subscript(value=cst.Name(value=name)) if name in _TYPE_FORMS:
                return True
            case cst.AnnAssign(annotation=cst.Annotation(annotation=cst.Name(value="TypeAlias"))):
                return True
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value="__all__"))]):
                return True
            case cst.If(test=cst.Name(value="TYPE_CHECKING")):
                return True
            case cst.FunctionDef(name=cst.Name(value=name)):
                return name in _LATEX_NAMES
        return False

    def _for_people(self, text: cst.BaseExpression) -> bool:
        if "__repr__" in self._scopes:
            return True
        parent = self.get_metadata(ParentNodeProvider, text)
        if isinstance(parent, cst.Arg):
            call = self.get_metadata(ParentNodeProvider, parent)
            called = cst.Module([]).code_for_node(call.func) if isinstance(call, cst.Call) else ""
            place = _LATEX_ARGUMENTS.get(called)
            if place is not None and parent in call.args[place : place + 1]:
                return True
            if called.startswith("re."):
                return False
        words = " ".join(_literal_parts(text))
        return bool(_LATEX.search(words) or _PROSE.search(words))


def _literal_parts(text: cst.CSTNode) -> Iterator[str]:
    match text:
        case cst.SimpleString():
            yield text.value
        case cst.FormattedStringText():
            yield text.value
        case cst.FormattedString() | cst.ConcatenatedString():
            for child in text.children:
                yield from _literal_parts(child)


def _becomes_none(node: cst.CSTNode, changed: cst.CSTNode) -> bool:
    """Whether a value or an argument is replaced by None (or None by an empty text)."""
    match node, changed:
        case (cst.Assign() | cst.AnnAssign(), cst.Assign() | cst.AnnAssign()):
            return True
        case cst.Call(), cst.Call():
            return (
                len(node.args) == len(changed.args)
                and node.func is changed.func
                and not _renamed(node, changed)
            )
    return False


def _renamed(node: cst.Call, changed: cst.Call) -> bool:
    return any(a.keyword is not b.keyword for a, b in zip(node.args, changed.args, strict=True))


def _without(source: str, position: CodeRange) -> str:
    """The file with the lines of a block left empty."""
    lines = source.split("\n")
    last = position.end.line if position.end.column else position.end.line - 1
    for number in range(position.start.line, last + 1):
        lines[number - 1] = ""
    return "\n".join(lines)


def _parses(source: str) -> bool:
    try:
        compile(source, "<mutant>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _counted_lines(statements: list[ast.stmt], first: int, last: int) -> tuple[int, int]:
    """The lines of the innermost statement around, or of its header where it lies in that."""
    around = [s for s in statements if s.lineno <= first and last <= s.end_lineno]
    if not around:  # a decorator stands above its statement
        return first, last
    inner = min(around, key=lambda s: s.end_lineno - s.lineno)
    body = getattr(inner, "body", None)
    if body and last < body[0].lineno:
        return inner.lineno, max(body[0].lineno - 1, inner.lineno)
    return inner.lineno, inner.end_lineno


def _shown(before: list[str], after: list[str]) -> tuple[str, str]:
    """The lines that differ, joined, without the indentation."""
    while before and after and before[0] == after[0] and len(before) > 1 and len(after) > 1:
        before, after = before[1:], after[1:]
    while len(before) > 1 and len(after) > 1 and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    one, other = (" ".join(" ".join(lines).split()) for lines in (before, after))
    return one, other
