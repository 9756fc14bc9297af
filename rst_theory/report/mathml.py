r"""LaTeX as MathML, which browsers draw by themselves and screen readers can read aloud.

The subset is what SymPy writes and what the notation of this package holds: scripts, fractions, roots,
sums, cases, delimiters, Greek, functions and text. Anything else is an error, never half a formula.

Grammar, for the reader of `_Parser`:

    row    = { script }                         up to `}`, `&`, `\\`, `\right` or `\end`
    script = atom [ "_" atom ] [ "^" atom ]     in either order
    atom   = letter | number | sign | "{" row "}" | command
"""

from __future__ import annotations

import re
from html import escape

__all__ = ["MathError", "mathml"]


class MathError(ValueError):
    """LaTeX beyond the subset that is understood."""


_GREEK = dict(
    zip(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi "
        "chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega varepsilon varphi".split(),
        "αβγδϵζηθικλμνξπρστυϕχψωΓΔΘΛΞΠΣΦΨΩεφ",
        strict=True,
    )
)
_LETTERS = {**_GREEK, "infty": "∞", "nabla": "∇", "partial": "∂", "ell": "ℓ", "emptyset": "∅"}
_SIGNS = {
    "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "lt": "<", "gt": ">",
    "cdot": "⋅", "times": "×", "pm": "±", "in": "∈", "to": "→", "sim": "∼", "approx": "≈", "mid": "∣",
    "star": "⋆", "ast": "∗", "wedge": "∧", "vee": "∨", "land": "∧", "lor": "∨", "neg": "¬", "lnot": "¬",
    "dots": "…", "ldots": "…", "cdots": "⋯", "colon": ":", "equiv": "≡", "forall": "∀", "exists": "∃",
    "{": "{", "}": "}", "|": "‖", "%": "%", "&": "&", "lvert": "|", "rvert": "|", "lVert": "‖", "rVert": "‖",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "langle": "⟨", "rangle": "⟩", "backslash": "∖",
}  # fmt: skip
_LARGE = {"sum": "∑", "prod": "∏", "int": "∫"}
_FUNCTIONS = {"sin", "cos", "tan", "exp", "log", "ln", "arg", "sinh", "cosh", "tanh"}
_LIMITS = {"min", "max", "sup", "inf", "lim"}
_SPACES = {
    ",": "0.167em", ":": "0.222em", ";": "0.278em", "!": "-0.167em", " ": "0.25em", "quad": "1em",
    "qquad": "2em",
}  # fmt: skip
_FRACTIONS = {"frac": "", "tfrac": ' displaystyle="false"', "dfrac": ' displaystyle="true"'}
_DOUBLE_STRUCK = {"E": "𝔼", "P": "ℙ", "R": "ℝ", "N": "ℕ", "Z": "ℤ"}
_FENCES = "()[]|⌊⌋⌈⌉⟨⟩‖{}"
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\S|\s+", re.DOTALL)
_ENDINGS = {"}", "&", "\\\\", "\\right", "\\end", None}


def mathml(latex: str, display: bool = False) -> str:
    """A formula as a MathML element, its LaTeX as the alternative text.

    Args:
        latex: without dollar signs.
        display: a formula on a line of its own, instead of one within text.

    Raises:
        MathError: a command or construct that is not understood; the message names it.
    """
    parser = _Parser(latex)
    try:
        row = parser.row()
    except RecursionError as error:
        raise MathError(f"nested too deeply: {latex!r:.80}") from error
    if parser.token is not None:
        raise MathError(f"unexpected {parser.token!r} in {latex!r}")
    block = ' display="block"' if display else ""
    return f'<math{block} alttext="{escape(latex)}"><mrow>{row}</mrow></math>'


class _Parser:
    """A cursor over the tokens; every method reads one construct and returns its MathML."""

    def __init__(self, latex: str) -> None:
        self.latex = latex
        self.tokens = _TOKEN.findall(latex)
        self.at = 0

    @property
    def token(self) -> str | None:
        """The token at the cursor, blanks skipped; None at the end."""
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, wanted: str | None = None) -> str:
        """Move past the token at the cursor."""
        token = self.token
        if token is None or (wanted is not None and token != wanted):
            raise MathError(f"expected {wanted or 'more'} after {self.at} tokens of {self.latex!r}; got {token!r}")
        self.at += 1
        return token

    def row(self) -> str:
        """What stands between two delimiters, without an <mrow> around it."""
        parts = []
        while self.token not in _ENDINGS:
            parts.append(self.script())
        return "".join(parts)

    def script(self) -> str:
        """An atom with what hangs below and above it."""
        limits = self.token is not None and self.token[1:] in {*_LARGE, *_LIMITS} and self.token[0] == "\\"
        base = self.atom()
        below = above = None
        while (mark := self.token) in ("_", "^", "'"):
            self.take()
            if mark == "_" and below is None:
                below = self.atom()
            elif mark == "^" and above is None:
                above = self.atom()
            elif mark == "'" and above is None:
                above = "<mo>′</mo>"
            else:
                raise MathError(f"two scripts in one place in {self.latex!r}")
        over, under, both = ("mover", "munder", "munderover") if limits else ("msup", "msub", "msubsup")
        if below is not None and above is not None:
            return f"<{both}>{base}{below}{above}</{both}>"
        if below is not None:
            return f"<{under}>{base}{below}</{under}>"
        return base if above is None else f"<{over}>{base}{above}</{over}>"

    def atom(self) -> str:
        """The smallest thing that can carry a script."""
        token = self.take()
        if token == "{":
            inner = self.row()
            self.take("}")
            return f"<mrow>{inner}</mrow>"
        if token.startswith("\\"):
            return self.command(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{escape(token)}</mi>"
        if token in "_^}":
            raise MathError(f"unexpected {token!r} in {self.latex!r}")
        return _sign(token.replace("-", "−").replace("*", "∗"))

    def command(self, name: str) -> str:
        """What follows a backslash."""
        if name in _LETTERS:
            return f"<mi>{_LETTERS[name]}</mi>"
        if name in _SIGNS:
            return _sign(_SIGNS[name])
        if name in _LARGE:
            return f"<mo>{_LARGE[name]}</mo>"
        if name in _FUNCTIONS:
            return f"<mrow><mi>{name}</mi><mo>&#8289;</mo></mrow>"
        if name in _LIMITS:
            return f'<mo movablelimits="true" form="prefix">{name}</mo>'
        if name in _SPACES:
            return f'<mspace width="{_SPACES[name]}"></mspace>'
        if name in _FRACTIONS:
            return f"<mfrac{_FRACTIONS[name]}>{self.atom()}{self.atom()}</mfrac>"
        match name:
            case "sqrt":
                return self.root()
            case "left":
                return self.fenced()
            case "begin":
                return self.cases()
            case "bmod" | "mod":
                return '<mo lspace="0.25em" rspace="0.25em">mod</mo>'
            case "text":
                return f"<mtext>{escape(self.braces())}</mtext>"
            case "mathrm" | "operatorname":
                return f'<mi mathvariant="normal">{escape(self.braces())}</mi>'
            case "mathbb":
                letter = self.braces()
                if letter in _DOUBLE_STRUCK:
                    return f"<mi>{_DOUBLE_STRUCK[letter]}</mi>"
        raise MathError(f"unknown command \\{name} in {self.latex!r}")

    def braces(self) -> str:
        """The plain text between braces, blanks kept."""
        self.take("{")
        start = self.at
        while self.at < len(self.tokens) and self.tokens[self.at] != "}":
            self.at += 1
        text = "".join(self.tokens[start : self.at])
        self.take("}")
        return text

    def root(self) -> str:
        """A square root, or with [n] an n-th one."""
        if self.token != "[":
            return f"<msqrt>{self.atom()}</msqrt>"
        self.take()
        degree = []
        while self.token not in ("]", None):
            degree.append(self.script())
        self.take("]")
        return f"<mroot>{self.atom()}<mrow>{''.join(degree)}</mrow></mroot>"

    def fenced(self) -> str:
        """A row between a pair of stretching delimiters; a dot stands for none."""
        left = self.fence()
        inner = self.row()
        self.take("\\right")
        return f"<mrow>{left}<mrow>{inner}</mrow>{self.fence()}</mrow>"

    def fence(self) -> str:
        """One stretching delimiter."""
        token = self.take()
        sign = _SIGNS.get(token[1:]) if token.startswith("\\") else token
        if sign == ".":
            return ""
        if sign not in _FENCES:
            raise MathError(f"unknown delimiter {token!r} in {self.latex!r}")
        return f'<mo fence="true" stretchy="true">{sign}</mo>'

    def cases(self) -> str:
        r"""The environment cases: rows at `\\`, cells at `&`."""
        if (name := self.braces()) != "cases":
            raise MathError(f"unknown environment {name!r} in {self.latex!r}")
        lines: list[list[str]] = [[self.row()]]
        while (token := self.take()) != "\\end":
            if token == "&":
                lines[-1].append(self.row())
            elif token == "\\\\":
                lines.append([self.row()])
            else:
                raise MathError(f"unexpected {token!r} in {self.latex!r}")
        self.braces()
        rows = "".join(
            f"<mtr>{''.join(f'<mtd><mrow>{cell}</mrow></mtd>' for cell in line)}</mtr>" for line in lines if any(line)
        )
        return f'<mrow><mo fence="true" stretchy="true">{{</mo><mtable class="cases">{rows}</mtable></mrow>'


def _sign(sign: str) -> str:
    """An operator; delimiters that are not fenced keep their size."""
    if sign in _FENCES:
        return f'<mo stretchy="false">{sign}</mo>'
    return f"<mo>{escape(sign)}</mo>"
