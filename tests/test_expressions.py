"""The little language of formulas: what it means, and everything that it must refuse."""

import operator
import re
import time

import mpmath
import numpy as np
import pytest
import sympy
from conftest import NUMERIC
from hypothesis import assume, given, settings, strategies as st

from rst_theory.schedules import FromExpression, expressions
from rst_theory.schedules.expressions import limit_of_mean, names, numeric, parse, symbolic

FOREVER = 1.0
"""Seconds: no formula may take longer to be read or refused."""

REFUSED = [
    # nothing, or no single expression
    *("", " ", "()", "t t", "t +", "* t", "1 2", "t,", "(t, T)",),
    *("t;T", "t\nT", "t = 1", "import os", "0x", "1e", "1_",),
    # names
    *("x", "tt", "E", "Pi", "PI", "lambda", "None", "True", "__import__", "np", "oo", "nan", "inf", "I",),
    # calls
    *("foo(t)", "eval(t)", "t(1)", "sqrt()", "sqrt(t, T)", "sqrt(x=t)", "min(t)", "min()", "min(t, key=T)",),
    *("min(t, T, key=T)", "sqrt(t, x=T)"),
    *("sqrt(*t)", "min(*t, **T)", "sqrt(t)(t)", "Sqrt(t)",),
    *("max(" + ", ".join("t" * 17) + ")", "sqrt", "t + sin",),
    *("__import__('os').system('true')", "open('x')", "getattr(t, 'real')",),
    *("sum(t for t in T)", "print(t)",),
    # attributes, items, containers
    *("t.real", "(1).__class__", "().__class__.__bases__[0].__subclasses__()", "t[0]", "[t]",),
    *("{t}", "{t: T}", "[*t]",),
    # comprehensions, functions, assignments, coroutines
    *("[t for t in T]", "(t for t in T)", "{t for t in T}", "lambda: t", "lambda t: t",),
    *("(t := 1)", "await t", "yield t",),
    # text and other constants
    *("'t'", '"t"', "b't'", "f'{t}'", "'t' 'T'", "1j", "2.5J", "...",),
    *("True + t", "`t`", "$t", "t'", "@t", "\\t", "t # why",),
    # operators
    *("t % 2", "t // 2", "t @ T", "t << 2", "t >> 2", "t & T", "t | T",),
    *("t ^ T", "~t", "not t", "t and T", "t or T", "!t",),
    # conditions where numbers are wanted, and numbers where conditions are
    *("t < T", "1 + (t < T)", "min(t < T, 1)", "t if T else 1",),
    *("1 if t else 0", "1 if 1 else 0", "1 if t + T else 0",),
    *("1 if t in T else 0", "1 if t is T else 0", "1 if not t else 0", "1 if (t < 1) < 2 else 0",),
    *("1 if t < 2", "1 if",),
    *("1 if t < T and t else 0", "1 if True else 0", "1 if (1 if t < 1 else 0) else 2",),
    *("1 if -(t < T) else 0", "x if t < T else 1", "1 if t < T else x"),
    # numbers and powers that are too large
    *("1e300", "1e999", "9" * 301, "-1e999", "2**65", "2**-65",),
    *("t**1e9", "t**1e300", "2**(64 + 1)", "2**(8*9)",),
    *("2**3**2", "(2**3)**2", "2**(1 + 2**3)", "t**(T**2)",),
    *("(t**2 + 1)**2", "10**exp(64)", "10**floor(exp(64))",),
    *("2**(64*64*64*64*64)", "(1/2)**(64*64*64*64*64)", "2**-(9*9)", "2**(1/0)", "2**(0/0)", "t**log(-1)",),
    # look-alikes, which Python itself would normalise, and invisible characters
    *("ｔ", "ｓｑｒｔ(t)", "𝐭", "ᵗ", "t²", "π", "τ", "е", "ℯ",),
    *("t\u200b", "t\u00a0+ 1", "\ufefft", "t\u202e", "１", "٣", "t－1",),
    *("t\x00", "\x00", "t\r+1", "t\t+ 1", "(t\n+ 1)", "\x0ct", "t\\\n+1", "t\x1b[0m", "\ud800",),
    # depth and length
    *("(" * 60 + "t" + ")" * 60 + "+", "-" * 900 + "t", "+".join("t" * 400),),
    *("sqrt(" * 60 + "t" + ")" * 60, "t" * 1001,),
    *("(" * 500, ")" * 500, "[" * 1000, "1 if t<1 else " * 60 + "0", "1 if " + "not " * 60 + "t<1 else 0",),
    "1 if " + "(" * 90 + "t<1" + ")" * 90 + " and t" + " else 0",
    " " * 1000 + "t",
]  # fmt: skip


def test_everything_else_is_refused_with_its_column_and_at_once():
    for text in REFUSED:
        start = time.perf_counter()
        with pytest.raises(ValueError, match=r"column \d+: |at most 1000 characters"):
            parse(text)
        assert time.perf_counter() - start < FOREVER, text


@pytest.mark.parametrize(
    "text, column, why",
    [
        ("t + x", 5, "unknown name 'x'; known: T, e, pi, t, u"),
        ("1 + foo(t)", 5, "unknown function 'foo'; known: abs, ceil"),
        ("t + t.real", 5, "Attribute is not part of the language"),
        ("1 + sqrt(t, T)", 5, "sqrt takes one argument; got 2"),
        ("max(t) + 1", 1, "max takes 2 to 16 arguments; got 1"),
        ("1 + 2**(3**t)", 5, "a power may not contain a power"),
        ("1 + t**65", 5, r"constant exponents lie in \[-64, 64\]"),
        ("1 + π", 5, "the character 'π' is not part of the language"),
        ("'t' + t", 1, 'the character "\'" is not part of the language'),
        ("(t, T)", 1, "Tuple is not part of the language"),
        ("1 + t // 2", 5, "BinOp is not part of the language"),
        ("1 if t else 0", 6, "a condition is a comparison"),
        ("t t", 3, "not a formula"),
        ("t +", 1, "not a formula"),
        ("-" * 60 + "t", 51, "nested more than 50 deep"),
        ("1 if " + "not " * 49 + "t < 1 else 0", 202, "nested more than 50 deep"),
    ],
)
def test_refusals_say_where_and_why(text, column, why):
    with pytest.raises(ValueError, match=f"column {column}: {why}"):
        parse(text)


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_any_text_is_read_or_refused(text):
    try:
        parse(text)
    except ValueError as error:
        assert "column" in str(error)  # noqa: PT017


@given(st.text(st.sampled_from("tTu0159.()+*/-<>=! ,eipsqrtnmaxifelsandorwg"), max_size=30))
@settings(max_examples=300)
def test_text_in_the_alphabet_of_the_language_is_read_or_refused(text):
    try:
        parse(text)
    except ValueError:
        return
    values = numeric(text, np.arange(3.0), 3)
    assert values.shape == (3,) and values.dtype == np.float64


def test_what_is_nested_50_deep_is_read_and_no_more():
    for times, nested in [
        (49, lambda n: "-" * n + "t"),
        (49, lambda n: "t*(" * n + "t" + ")" * n),
        (49, lambda n: "abs(" * n + "t" + ")" * n),
        (48, lambda n: "1 if t < 1 else " * n + "0"),
        (48, lambda n: "(" * n + "0" + " if t < 1 else 1)" * n),
        (47, lambda n: "1 if " + "not " * n + "t < 1 else 0"),
        (47, lambda n: "1 if " + "(t < 1 and " * n + "t < 1" + ")" * n + " else 0"),
        (47, lambda n: "1 if t < " + "-" * n + "t else 0"),
    ]:
        parse(nested(times))
        with pytest.raises(ValueError, match="nested more than 50 deep"):
            parse(nested(times + 1))


def test_the_limits_are_inclusive():
    assert names("t" + " " * 999) == {"t"}
    with pytest.raises(ValueError, match="at most 1000 characters; got 1001"):
        parse("t" + " " * 1000)
    a, b = sympy.Integer(10**5), sympy.Integer(10**6)
    assert symbolic("exp(t)", a, b) == sympy.exp(a) and symbolic("2**-t", a, b) == sympy.Rational(2) ** -a
    for text in ("exp(t)", "2**-t"):
        with pytest.raises(ValueError, match="an exponent is beyond 100000"):
            symbolic(text, a + 1, b)


def test_exponents_are_bounded_where_they_are_constant():
    for text, value in (("2**(t + 65)", 2.0**66), ("2**(T + 64)", 2.0**66), ("2**(u + 65)", 2.0**66)):
        assert numeric(text, np.array([1.0]), 2).tolist() == [value]


def test_all_comparisons_may_stand_in_one_chain():
    text = "1 if t < 3 <= T > t >= t == t != T else 0"
    assert numeric(text, np.array([1.0, 2.0, 3.0]), 4).tolist() == [1, 1, 0]


def test_the_clock_u_starts_at_two_steps():
    assert numeric("u", np.array([0.0, 1.0]), 2).tolist() == [0, 1]
    assert numeric("u", np.array([0.0]), 1).tolist() == [0]
    for t, T in ((0, 1), (0, 2), (1, 2)):
        assert symbolic("u", sympy.Integer(t), sympy.Integer(T)) == t


# What formulas mean: drawn together with their value in 40 digits. Where rounding would decide, near a jump
# or a pole, the draw is given up.


MARGIN = 1e-3
NUMBERS = ["0", "1", "2", "0.1", ".5", "3.", "7", "1e-2", "12.75"]
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
FUNCTIONS = {
    **{name: getattr(mpmath, name) for name in ("sqrt", "exp", "log", "sin", "cos", "tanh", "floor", "ceil")},
    "abs": abs,
    "-": operator.neg,
    "+": operator.pos,
}
HARMLESS = {
    "sqrt": lambda x: x > MARGIN,
    "log": lambda x: x > MARGIN,
    "exp": lambda x: x < 8,
    "floor": lambda x: abs(x - mpmath.nint(x)) > MARGIN,
    "ceil": lambda x: abs(x - mpmath.nint(x)) > MARGIN,
}


@st.composite
def formulas(draw, env, depth=3, powers=True):
    """A formula and its value where the names have the values `env`."""

    def part(powers=powers):
        return draw(formulas(env, depth - 1, powers))

    kinds = ["name", "number", "function", "operator", "extremum", "choice", *["power"] * powers]
    match draw(st.sampled_from(kinds if depth else kinds[:2])):
        case "name":
            text = draw(st.sampled_from([*env]))
            value = env[text]
        case "number":
            text = draw(st.sampled_from(NUMBERS))
            value = mpmath.mpf(text)
        case "function":
            name, (inner, x) = draw(st.sampled_from([*FUNCTIONS])), part()
            assume(name not in HARMLESS or HARMLESS[name](x))
            text, value = f"{name}({inner})", FUNCTIONS[name](x)
        case "operator":
            (left, a), name, (right, b) = part(), draw(st.sampled_from([*OPERATORS])), part()
            assume(name != "/" or abs(b) > MARGIN)
            text, value = f"({left}) {name} ({right})", OPERATORS[name](a, b)
        case "extremum":
            name, parts = (
                draw(st.sampled_from(["min", "max"])),
                [part() for _ in range(draw(st.integers(2, 4)))],
            )
            text = f"{name}({', '.join(inner for inner, _ in parts)})"
            value = {"min": min, "max": max}[name](x for _, x in parts)
        case "power":
            (base, x), exponent = part(powers=False), draw(st.integers(0, 4))
            text, value = f"({base})**{exponent}", x**exponent
        case "choice":
            (yes, a), (test, truth), (no, b) = part(), draw(conditions(env, depth - 1, powers)), part()
            text, value = f"(({yes}) if {test} else ({no}))", a if truth else b
    assume(abs(value) < 1e4)
    return text, value


@st.composite
def conditions(draw, env, depth, powers):
    match draw(st.sampled_from(["comparison", "not", "and", "or"] if depth else ["comparison"])):
        case "comparison":
            (left, a), name, (right, b) = (
                draw(formulas(env, depth, powers)),
                draw(st.sampled_from([*COMPARISONS])),
                draw(formulas(env, depth, powers)),
            )
            assume(abs(a - b) > MARGIN or {left, right} <= {"t", "T", "0", "1", "2", "7"})
            return f"{left} {name} {right}", COMPARISONS[name](a, b)
        case "not":
            test, truth = draw(conditions(env, depth - 1, powers))
            return f"not ({test})", not truth
        case word:
            first, second = draw(conditions(env, depth - 1, powers)), draw(conditions(env, depth - 1, powers))
            truth = (first[1] and second[1]) if word == "and" else (first[1] or second[1])
            return f"({first[0]}) {word} ({second[0]})", truth


SYMBOLS = (sympy.Symbol("t", integer=True, nonnegative=True), sympy.Symbol("T", integer=True, positive=True))


def names_at(t, T):
    values = {"t": t, "T": T, "u": mpmath.mpf(t) / max(1, T - 1), "pi": +mpmath.pi, "e": +mpmath.e}
    return {name: mpmath.mpf(value) for name, value in values.items()}


@given(st.integers(1, 12).flatmap(lambda T: st.tuples(st.integers(0, T - 1), st.just(T))), st.data())
@settings(max_examples=150)
def test_formulas_mean_what_they_say(step, data):
    with mpmath.workdps(40):
        text, expected = data.draw(formulas(names_at(*step)))
    t, T = step
    tolerance = NUMERIC * max(1, abs(float(expected)))
    assert abs(numeric(text, np.array([float(t)]), T)[0] - float(expected)) <= tolerance
    exact = symbolic(text, sympy.Integer(t), sympy.Integer(T))
    assert abs(complex(exact.evalf(20)) - float(expected)) <= tolerance
    try:
        general = symbolic(text, *SYMBOLS).subs(dict(zip(SYMBOLS, step, strict=True)))
    except ValueError:  # undefined whatever t and T are, in a branch that is not taken here
        return
    assert abs(complex(general.evalf(20)) - float(expected)) <= tolerance
    assert names(text) == {name for name in ("t", "T", "u", "pi", "e") if re.search(rf"\b{name}\b", text)}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0.1 + 0.2", "3/10"),
        ("-2**2", "-4"),
        ("2**-1", "1/2"),
        ("8/4/2", "1"),
        ("1 - 2 - 3", "-4"),
        ("-t", "-3"),
        ("+t", "3"),
        ("--t", "3"),
        ("u", "1/2"),
        ("T", "7"),
        ("sqrt(4) + abs(-1) + floor(1.5) + ceil(1.5)", "6"),
        ("min(3, 1, 2) + max(3, 1, 2)", "4"),
        ("1 if t < 5 else 0", "1"),
        ("1 if 2 < t < 5 else 0", "1"),
        ("1 if 2 < t < 3 else 0", "0"),
        ("1 if t <= 3 and not t > 3 else 0", "1"),
        ("1 if t == 3 and T == 3 else 0", "0"),
        ("1 if t == 3 or T == 3 else 0", "1"),
        ("1 if t == 3 or t / 0 > 1 else 0", None),
        ("1 if t != 3 else 2 if T == 7 else 3", "2"),
        ("1e-7", "1/10000000"),
        ("(((t)))  ", "3"),
        ("2**64", str(2**64)),
        ("0**0", "1"),
        ("t if t >= 0 else 1/0", "3"),
        ("log(e) + cos(pi) + exp(0) + sin(0) + tanh(0)", "1"),
    ],
)
def test_meanings_by_hand(text, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"has no exact value at t = 3, T = 7"):
            symbolic(text, sympy.Integer(3), sympy.Integer(7))
        return
    value = symbolic(text, sympy.Integer(3), sympy.Integer(7))
    assert sympy.simplify(value - sympy.Rational(expected)) == 0
    assert numeric(text, np.array([3.0]), 7)[0] == pytest.approx(float(sympy.Rational(expected)), rel=NUMERIC)


@pytest.mark.parametrize(
    "text",
    [
        "1/0",
        "0/0",
        "log(0)",
        "log(-1)",
        "sqrt(-1)",
        "(-8)**(1/3)",
        "1e200**2",
        "pi/(e - e)",
        "1e299*1e299",
        "t/0",
    ],
)
def test_what_is_undefined_is_nan_or_infinite_and_no_schedule(text):
    assert not np.isfinite(numeric(text, np.arange(1.0, 4.0), 5)).any()
    with pytest.raises(ValueError, match="finite and >= 0; got"):
        FromExpression(text).values(3)


@pytest.mark.parametrize(
    "text",
    [
        "floor(exp(exp(64)))",
        "exp(exp(exp(64)))",
        "2**(T*T*T*T)",
        "floor(exp(exp(T)))",
        "0.5**(T*T*T)",
    ],
)
def test_no_short_text_asks_for_an_astronomical_number(text):
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"no exact value .* an exponent is beyond 100000"):
        symbolic(text, sympy.Integer(999), sympy.Integer(1000))
    assert time.perf_counter() - start < FOREVER


def test_gentle_towers_are_welcome():
    assert symbolic("exp(-t*t)", sympy.Integer(999), sympy.Integer(1000)) == sympy.exp(-998001)
    assert symbolic("0.99**t", sympy.Integer(2), sympy.Integer(9)) == sympy.Rational(9801, 10000)
    assert numeric("1/(1 + exp(exp(t)))", np.array([0.0, 1e3]), 5)[1] == 0


def test_names_are_what_a_formula_uses():
    assert names("t/T + u*pi - e") == {"t", "T", "u", "pi", "e"}
    assert names("sqrt(t)") == {"t"} and names("0.5") == set()


# The limiting mean


@pytest.mark.parametrize(
    "text, limit",
    [
        ("0.25", "1/4"),
        ("t/T", "1/2"),
        ("u", "1/2"),
        ("1 - u**2", "2/3"),
        ("sqrt(u)", "2/3"),
        ("u**0.5", "2/3"),
        ("0.5 + 0.5*cos(pi*t/T)", "1/2"),
        ("sin(pi*u)", "2/pi"),
        ("exp(-5*u)", "(1 - exp(-5))/5"),
        ("(1 - 1/T)**t", "1 - exp(-1)"),
        ("1/(1 + u)", "log(2)"),
        ("exp(-t)", "0"),
        ("0.99**t", "0"),
        ("1/sqrt(t + 1)", "0"),
        ("min(1, 5/(t + 1))", "0"),
        ("min(1, 2*t/T)", "3/4"),
        ("max(0, 1 - 2*u)", "1/4"),
        ("max(min(u, 0.5), 0.25)", "13/32"),
        ("abs(1 - 2*u)", "1/2"),
        ("u*T - t", "1/2"),
        ("1 if u < 0.25 else 0", "1/4"),
        ("1 if t/T <= 0.5 else 0", "1/2"),
        ("1 if (t + 1)/T < 0.5 else 0", "1/2"),
        ("1 if t*t < T*T/4 else 0", "1/2"),
        ("1 if sqrt(t) < sqrt(T)/2 else 0", "1/4"),
        ("1 if log(t + 1) > 5 else 0", "1"),
        ("1 if sqrt(t) < 10 else 0", "0"),
        ("1 if sqrt(t)*(10 - log(t + 1)) < 5 else 0", "1"),
        ("1 if t*(0.25 - u) > 1 else 0", "1/4"),
        ("1 if t < 10 else 0.5", "1/2"),
        ("1 if t == T - 1 else 0", "0"),
        ("1 if t != 5 else 0", "1"),
        ("1 if abs(u - 0.5) < 0.2 else 0", "2/5"),
        ("1 if max(0, u - 0.5) + 1/T > 0 else 0", "1"),
        ("(t if u < 0.5 else 0)/T", "1/8"),
        ("1 if min(t, T/2) > T/4 else 0", "3/4"),
        ("1 if max(t, T/2)*2 - min(t, T/3) > T else 0", "1/3"),
        ("1 if (t if u < 0.5 else T - t) > T/4 else 0", "1/2"),
        ("1 if (u if u < 0.5 else 0) + 1/T > 0.25 else 0", "1/4"),
        ("floor(t/2)/T", "1/4"),
        ("1 if floor(t/2) > T/4 else 0", "1/2"),
        ("cos(t)**2 + sin(t)**2", "1"),
        ("0.5 if not u < 0.3 and u < 0.6 or t < 3 else 1", "17/20"),
        ("1 if (1 if u < 0.5 else 0) == 1 else 0.5", "3/4"),
    ],
)
def test_limiting_means_by_hand(text, limit):
    expected = sympy.sympify(limit)
    assert abs(limit_of_mean(text).evalf(30) - expected.evalf(30)) < 1e-25
    if text == "t/T":  # the means do approach it: their distance is at most 1/T by monotonicity
        T = 10_000
        assert abs(FromExpression(text).values(T).mean() - float(expected)) <= 1 / T


@pytest.mark.parametrize(
    "text",
    [
        *("0.5 + 0.5*cos(t)", "abs(sin(t))", "1 if cos(t) > 0 else 0", "floor(2*sin(t)) + 2"),
        *("t - 2*floor(t/2)", "1 if floor(t/2)*2 == t else 0", "(1 + (-1)**t)/2", "1 + (-1)**T*u"),
        *("1 if sin(t) > 0.5 else 0", "1 if ceil(t/2) - floor(t/2) > 0.5 else 0", "ceil(t/2) - floor(t/2)"),
        *("min(1, t - floor(t/3)*3)", "cos(2*pi*t)", "1/(2 + cos(t))", "max(sin(t), 0)", "floor(t) - t + 1"),
        *("T - 2*floor(T/2)", "abs(cos(pi*t))", "floor(abs(sin(t)))", "1 if max(sin(t), 0) > 0.5 else 0"),
        *("1 if 1/(t + 1) > 1/T else 0", "1 if 1/(t + 1) > 0.5/T else 0"),  # these tend to a tie
        *("T", "T/(t + 1)", "1/u", "log(0)", "1/0", "exp(sin(u))", "floor(4*u)/4"),
    ],
)
def test_where_no_limit_is_known_none_is_claimed(text):
    with pytest.raises(ValueError, match="no closed form found for the limiting mean"):
        limit_of_mean(text)


def test_the_list_of_the_docstring_is_the_language():
    documented = set(expressions.__doc__.split("functions")[1].split("\n")[0].split())
    assert documented == set(expressions._ARITY)
