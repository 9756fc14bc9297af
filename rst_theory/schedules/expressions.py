"""A little language for formulas in t and T, read by a whitelist parser: no text is ever executed.

    names       t, T, u = t/max(1, T - 1), pi, e
    operators   + - * / **, unary + -
    functions   sqrt exp log sin cos tanh abs floor ceil min max
    choice      A if CONDITION else B, with < <= > >= == !=, and, or, not

Python's own grammar parses the text into a tree; every character and every node outside this list is
refused with its column. Decimals mean what they print (0.1 is 1/10). A power may not contain a power, a
constant exponent is at most 64 in size, and exact forms stop at exponents of 10^5, so that no short text
can ask for an astronomical number.
"""

from __future__ import annotations

import ast
import functools
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rst_theory.notation import FloatArray

if TYPE_CHECKING:
    import sympy

__all__ = ["limit_of_mean", "names", "numeric", "parse", "symbolic"]

TOO_LARGE = 1e300  # for a number in a formula
MAX_LENGTH = 1000
MAX_DEPTH = 50
MAX_EXPONENT = 64
MAX_EXACT_EXPONENT = 10**5

_FOREIGN = re.compile(r"[^A-Za-z0-9_ .,()+*/<>=!-]")  # look-alikes in Unicode and invisible characters too

_NAMES = frozenset({"t", "T", "u", "pi", "e"})
_ARITY: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("sqrt", "exp", "log", "sin", "cos", "tanh", "abs", "floor", "ceil"), (1, 1)),
    **dict.fromkeys(("min", "max"), (2, 16)),
}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_COMPARISONS = frozenset({ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq})


@functools.lru_cache(maxsize=256)
def parse(text: str) -> ast.expr:
    """The checked syntax tree of a formula.

    Raises:
        ValueError: what is not in the language, with its column.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a formula has at most {MAX_LENGTH} characters; got {len(text)}")
    if foreign := _FOREIGN.search(text):
        why = f"the character {foreign[0]!r} is not part of the language"
        raise ValueError(f"in the formula {text!r}, column {foreign.start() + 1}: {why}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python's grammar will not read for long, such as 1if
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, MemoryError, RecursionError) as error:
        column = getattr(error, "offset", None) or 1
        raise ValueError(f"in the formula {text!r}, column {column}: not a formula") from error
    _check_number(tree, text, MAX_DEPTH)
    return tree


def names(text: str) -> frozenset[str]:
    """The names among t, T, u, pi, e that a formula uses."""
    return _names(parse(text))


def _names(tree: ast.expr) -> frozenset[str]:
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in _NAMES)


def _refuse(node: ast.expr, text: str, why: str) -> ValueError:
    return ValueError(f"in the formula {text!r}, column {node.col_offset + 1}: {why}")


def _check_number(node: ast.expr, text: str, depth: int) -> None:
    """Refuse every node that is not a number-valued part of the language."""
    if depth == 0:
        raise _refuse(node, text, f"nested more than {MAX_DEPTH} deep")

    def check(*parts: ast.expr) -> None:
        for part in parts:
            _check_number(part, text, depth - 1)

    match node:
        case ast.Constant(value=int() | float() as value) if type(value) is not bool and value < TOO_LARGE:
            pass
        case ast.Name(id=name) if name in _NAMES:
            pass
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            check(left, right)
            if isinstance(op, ast.Pow):
                _check_power(node, text)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            check(operand)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _ARITY:
            low, high = _ARITY[name]
            if not low <= len(args) <= high:
                number = f"{low} to {high} arguments" if high > low else "one argument"
                raise _refuse(node, text, f"{name} takes {number}; got {len(args)}")
            check(*args)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            check(body, orelse)
            _check_condition(test, text, depth - 1)
        case ast.Name(id=name):
            raise _refuse(node, text, f"unknown name {name!r}; known: {', '.join(sorted(_NAMES))}")
        case ast.Call(func=ast.Name(id=name)) if name not in _ARITY:
            raise _refuse(node, text, f"unknown function {name!r}; known: {', '.join(sorted(_ARITY))}")
        case _:
            raise _refuse(node, text, f"{type(node).__name__} is not part of the language")


def _check_power(node: ast.BinOp, text: str) -> None:
    inner = [part for side in (node.left, node.right) for part in ast.walk(side)]
    if any(isinstance(part, ast.Pow) for part in inner):
        raise _refuse(node, text, "a power may not contain a power")
    if not _names(node.right) & {"t", "T", "u"}:
        exponent = _evaluate(node.right, np.zeros(1), 1)
        if not abs(exponent) <= MAX_EXPONENT:
            raise _refuse(node, text, f"constant exponents lie in [-{MAX_EXPONENT}, {MAX_EXPONENT}]")


def _check_condition(node: ast.expr, text: str, depth: int) -> None:
    if depth == 0:
        raise _refuse(node, text, f"nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Compare(left=left, ops=ops, comparators=rights) if {*map(type, ops)} <= _COMPARISONS:
            for part in (left, *rights):
                _check_number(part, text, depth - 1)
        case ast.BoolOp(values=parts):
            for part in parts:
                _check_condition(part, text, depth - 1)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check_condition(operand, text, depth - 1)
        case _:
            raise _refuse(node, text, "a condition is a comparison, or comparisons joined by and, or, not")


@dataclass(frozen=True)
class _Algebra:
    """What the formula is evaluated in: NumPy or SymPy."""

    names: Mapping[str, Any]
    number: Callable[[int | float], Any]
    functions: Mapping[str, Callable[..., Any]]
    compare: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]
    both: Callable[[Any, Any], Any]
    either: Callable[[Any, Any], Any]
    negate: Callable[[Any], Any]
    choose: Callable[[Any, Any, Any], Any]
    power: Callable[[Any, Any], Any]

    def number_of(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as value):
                return self.number(value)
            case ast.Name(id=name):
                return self.names[name]
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self.power(self.number_of(left), self.number_of(right))
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self.number_of(left), self.number_of(right))
            case ast.UnaryOp(op=sign, operand=operand):
                return _UNARY[type(sign)](self.number_of(operand))
            case ast.Call(func=ast.Name(id=name), args=args):
                function, values = self.functions[name], [self.number_of(a) for a in args]
                return functools.reduce(function, values) if len(values) > 1 else function(values[0])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.choose(self.truth_of(test), self.number_of(body), self.number_of(orelse))
        raise AssertionError(f"unchecked node {ast.dump(node)}")

    def truth_of(self, node: ast.expr) -> Any:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=rights):
                sides = [self.number_of(part) for part in (left, *rights)]
                links = [
                    self.compare[type(op)](a, b) for op, a, b in zip(ops, sides, sides[1:], strict=False)
                ]
                return functools.reduce(self.both, links)
            case ast.BoolOp(op=op, values=parts):
                join = self.both if isinstance(op, ast.And) else self.either
                return functools.reduce(join, [self.truth_of(part) for part in parts])
            case ast.UnaryOp(operand=operand):
                return self.negate(self.truth_of(operand))
        raise AssertionError(f"unchecked node {ast.dump(node)}")


def numeric(text: str, t: FloatArray, T: int) -> FloatArray:
    """The formula at the steps t of T, float64; NaN or infinite where it is undefined."""
    return np.array(np.broadcast_to(_evaluate(parse(text), t, T), t.shape))


def _evaluate(tree: ast.expr, t: FloatArray, T: int) -> Any:
    algebra = _Algebra(
        # Constants are NumPy scalars: Python's own floats would raise, or turn complex, where these give NaN.
        names={
            "t": t,
            "T": np.float64(T),
            "u": t / max(1, T - 1),
            "pi": np.float64(np.pi),
            "e": np.float64(np.e),
        },
        number=np.float64,
        functions={
            "sqrt": np.sqrt,
            "exp": np.exp,
            "log": np.log,
            "sin": np.sin,
            "cos": np.cos,
            "tanh": np.tanh,
            "abs": np.abs,
            "floor": np.floor,
            "ceil": np.ceil,
            "min": np.minimum,
            "max": np.maximum,
        },
        compare={
            ast.Lt: np.less,
            ast.LtE: np.less_equal,
            ast.Gt: np.greater,
            ast.GtE: np.greater_equal,
            ast.Eq: np.equal,
            ast.NotEq: np.not_equal,
        },
        both=np.logical_and,
        either=np.logical_or,
        negate=np.logical_not,
        choose=np.where,
        power=operator.pow,
    )
    with np.errstate(all="ignore"):
        return algebra.number_of(tree)


def symbolic(text: str, t: Any, T: Any) -> sympy.Expr:
    """The formula at step t of T, exact, in SymPy.

    Args:
        text: the formula.
        t: the step, a SymPy expression.
        T: the number of steps, a SymPy expression.

    Raises:
        ValueError: the formula has no exact value there.
    """
    import sympy

    def check(size: Any) -> None:
        if size.is_comparable and size > MAX_EXACT_EXPONENT:
            raise ValueError(f"an exponent is beyond {MAX_EXACT_EXPONENT}")

    def exp(exponent: Any) -> Any:
        check(exponent)
        return sympy.exp(exponent)

    def power(base: Any, exponent: Any) -> Any:
        check(abs(exponent))
        return base**exponent

    algebra = _Algebra(
        names={"t": t, "T": T, "u": t / sympy.Max(1, T - 1), "pi": sympy.pi, "e": sympy.E},
        number=lambda value: sympy.Rational(str(value)),
        functions={
            "sqrt": sympy.sqrt,
            "exp": exp,
            "log": sympy.log,
            "sin": sympy.sin,
            "cos": sympy.cos,
            "tanh": sympy.tanh,
            "abs": sympy.Abs,
            "floor": sympy.floor,
            "ceil": sympy.ceiling,
            "min": sympy.Min,
            "max": sympy.Max,
        },
        compare={
            ast.Lt: sympy.Lt,
            ast.LtE: sympy.Le,
            ast.Gt: sympy.Gt,
            ast.GtE: sympy.Ge,
            ast.Eq: sympy.Eq,
            ast.NotEq: sympy.Ne,
        },
        both=sympy.And,
        either=sympy.Or,
        negate=sympy.Not,
        choose=lambda condition, a, b: sympy.Piecewise((a, condition), (b, True)),
        power=power,
    )
    try:
        return algebra.number_of(parse(text))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the formula {text!r} has no exact value at t = {t}, T = {T}: {error}") from error


def limit_of_mean(text: str) -> sympy.Expr:
    """The limit of the mean over t = 0, …, T-1 as T grows: the integral of the limit of s(u T) over u.

    For bounded formulas. Whatever oscillates with t, and every choice that tends to a tie, is refused:
    its mean need not tend to the mean of a limit.

    Raises:
        ValueError: no closed form is found.
    """
    import sympy

    u, n = sympy.Symbol("u", positive=True), sympy.Symbol("n", positive=True)
    try:
        scaled = symbolic(text, u * (n + 1), n + 1)  # n = T - 1
        limit = _limit(scaled.rewrite(sympy.Piecewise), n)
        mean = sympy.simplify(sympy.integrate(limit, (u, 0, 1)))
        found = mean.is_comparable and mean.is_finite  # no unevaluated integral, no range, no infinity
    except (NotImplementedError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"no closed form found for the limiting mean of {text!r}") from error
    if not found:
        raise ValueError(f"no closed form found for the limiting mean of {text!r}")
    return mean


def _limit(expression: Any, n: sympy.Symbol) -> Any:
    """The limit as n grows, taken through choices and their conditions."""
    import sympy

    if not expression.has(n):
        return expression
    expression = sympy.piecewise_fold(expression)
    if isinstance(expression, sympy.Piecewise):
        return sympy.Piecewise(*((_limit(value, n), _eventually(test, n)) for value, test in expression.args))
    return sympy.limit(sympy.simplify(expression), n, sympy.oo)


def _eventually(condition: Any, n: sympy.Symbol) -> Any:
    """The condition that holds for all large n, up to a null set of u."""
    import sympy

    if not condition.has(n):
        return condition
    if not isinstance(condition, sympy.core.relational.Relational):
        return condition.func(*(_eventually(part, n) for part in condition.args))
    sign = _limit(condition.lhs - condition.rhs, n)
    if sign.has(sympy.oo, -sympy.oo):  # oo * sign(v), say: only the sign matters
        sign = sign.xreplace({sympy.oo: sympy.Integer(1), -sympy.oo: sympy.Integer(-1)})
        sign = sign.replace(sympy.sign, lambda v: v)
    sign = sympy.simplify(sign)
    if sign.has(sympy.Piecewise) or not (sign.free_symbols or sign.is_nonzero):
        raise NotImplementedError(f"{condition} tends to a tie")
    return condition.func(sign, 0)
