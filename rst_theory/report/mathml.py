r"""LaTeX as MathML, which browsers draw by themselves and screen readers can read aloud.

The subset is what SymPy writes and what the notation of this package holds: scripts, fractions, roots,
sums, cases, delimiters, Greek, functions and text. Anything else is an error, never half a formula.

Grammar, for the reader of `_Parser`:

    row    = { script }                         up to `}`, `&`, `\\`, `\right` or `\end`
    script = atom [ "_" argument ] [ "^" argument ]     in either order
    argument = an atom, or one digit of a number
    atom   = letter | number | sign | "{" row "}" | command
"""

from __future__ import annotations

import re
from html import escape

__all__ = ["MathError", "mathml", "plain"]


class MathError(ValueError):
    """LaTeX beyond the subset that is understood."""


_LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "zeta": "ζ", "eta": "η",
    "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π",
    "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "ϕ", "chi": "χ", "psi": "ψ", "omega": "ω",
    "varepsilon": "ε", "varphi": "φ", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ",
    "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
    "infty": "∞", "nabla": "∇", "partial": "∂", "ell": "ℓ", "emptyset": "∅",
}  # fmt: skip
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
_SPOKEN = {
    **{name: name for name in _FUNCTIONS | _LIMITS},
    **dict.fromkeys(["mathbb", "mathrm", "mathdefault", "text", "left", "right"], ""),
    **{space: " " if width in ("0.25em", "1em", "2em") else "" for space, width in _SPACES.items()},
    "sqrt": "√",
}  # what letters alone say
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
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
    if parser.here is not None:
        raise MathError(f"unexpected {parser.here!r} in {latex!r}")
    block = ' display="block"' if display else ""
    return f'<math{block} alttext="{escape(latex)}"><mrow>{row}</mrow></math>'


def plain(text: str) -> str:
    """A text with formulas between dollar signs as letters alone, where no markup can be: ‖∇f(x_t)‖².

    A formula that letters cannot say stays LaTeX.
    """
    parts = text.split("$")
    return "".join(_letters(part) if i % 2 else part for i, part in enumerate(parts))


def _letters(latex: str) -> str:
    """What a short formula says, its commands as letters and signs."""
    known = {**_LETTERS, **_SIGNS, **_LARGE, **_DOUBLE_STRUCK, **_SPOKEN}
    try:
        text = re.sub(r"\\([A-Za-z]+|.)\s*", lambda found: known[found[1]], latex)
    except KeyError:
        return latex
    text = re.sub(r"\^(\d|\{\d+\})", lambda found: found[1].strip("{}").translate(_RAISED), text)
    return text.replace("{", "").replace("}", "").replace("-", "−")


class _Parser:
    """A cursor over the tokens; every method reads one construct and returns its MathML."""

    def __init__(self, latex: str) -> None:
        self.latex = latex
        self.tokens = _TOKEN.findall(latex)
        self.at = 0

    @property
    def here(self) -> str | None:
        """The token at the cursor, blanks skipped; None at the end."""
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, wanted: str | None = None) -> str:
        """Move past the token at the cursor."""
        word = self.here
        if word is None or (wanted is not None and word != wanted):
            raise MathError(
                f"expected {wanted or 'more'} after {self.at} tokens of {self.latex!r}; got {word!r}"
            )
        self.at += 1
        return word

    def row(self) -> str:
        """What stands between two delimiters, without an <mrow> around it."""
        parts: list[str] = []
        while self.here not in _ENDINGS:
            if self.here == "-" and parts and parts[-1].startswith("<mo>"):
                self.take()
                parts.append('<mo form="prefix">−</mo>')  # a sign, not a difference: after = or a comma
            else:
                parts.append(self.script())
        return "".join(parts)

    def script(self) -> str:
        """An atom with what hangs below and above it."""
        limits = self.here is not None and self.here[1:] in {*_LARGE, *_LIMITS} and self.here[0] == "\\"
        base = self.atom()
        below = above = None
        while (mark := self.here) in ("_", "^", "'"):
            self.take()
            if mark == "_" and below is None:
                below = self.argument()
            elif mark == "^" and above is None:
                above = self.argument()
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
        word = self.take()
        if word == "{":
            inner = self.row()
            self.take("}")
            return f"<mrow>{inner}</mrow>"
        if word.startswith("\\"):
            return self.command(word[1:])
        if word[0].isdigit():
            return f"<mn>{word}</mn>"
        if word.isalpha():
            return f"<mi>{word}</mi>"
        if word in "_^}":
            raise MathError(f"unexpected {word!r} in {self.latex!r}")
        return _sign(word.replace("-", "−").replace("*", "∗"))

    def argument(self) -> str:
        """An atom, but of a number without braces its first digit alone, as in LaTeX."""
        if self.here is not None and self.here[0].isdigit() and len(self.here) > 1:
            self.tokens[self.at : self.at + 1] = [self.here[0], self.here[1:]]
        return self.atom()

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
            return f'<mo movablelimits="true" form="prefix" lspace="0.1em" rspace="0.1em">{name}</mo>'
        if name in _SPACES:
            return f'<mspace width="{_SPACES[name]}"></mspace>'
        if name in _FRACTIONS:
            return f"<mfrac{_FRACTIONS[name]}>{self.argument()}{self.argument()}</mfrac>"
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
                return f"<mtext>{escape(self.braces()).replace(' ', '&nbsp;')}</mtext>"
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
        if self.here != "[":
            return f"<msqrt>{self.argument()}</msqrt>"
        self.take()
        degree = []
        while self.here not in ("]", None):
            degree.append(self.script())
        self.take("]")
        return f"<mroot>{self.argument()}<mrow>{''.join(degree)}</mrow></mroot>"

    def fenced(self) -> str:
        """A row between a pair of stretching delimiters; a dot stands for none."""
        left = self.fence()
        inner = self.row()
        self.take("\\right")
        return f"<mrow>{left}<mrow>{inner}</mrow>{self.fence()}</mrow>"

    def fence(self) -> str:
        """One stretching delimiter."""
        word = self.take()
        sign = _SIGNS.get(word[1:]) if word.startswith("\\") else word
        if sign == ".":
            return ""
        if sign is None or sign not in _FENCES:
            raise MathError(f"unknown delimiter {word!r} in {self.latex!r}")
        return f'<mo fence="true" stretchy="true">{sign}</mo>'

    def cases(self) -> str:
        r"""The environment cases: rows at `\\`, cells at `&`."""
        if (name := self.braces()) != "cases":
            raise MathError(f"unknown environment {name!r} in {self.latex!r}")
        lines: list[list[str]] = [[self.row()]]
        while (word := self.take()) != "\\end":
            if word == "&":
                lines[-1].append(self.row())
            elif word == "\\\\":
                lines.append([self.row()])
            else:
                raise MathError(f"unexpected {word!r} in {self.latex!r}")
        self.braces()
        rows = "".join(
            f"<mtr>{''.join(f'<mtd><mrow>{cell}</mrow></mtd>' for cell in line)}</mtr>"
            for line in lines
            if any(line)
        )
        return f'<mrow><mo fence="true" stretchy="true">{{</mo><mtable class="cases">{rows}</mtable></mrow>'


def _sign(sign: str) -> str:
    """An operator; delimiters that are not fenced keep their size."""
    if sign in _FENCES:
        return f'<mo stretchy="false">{sign}</mo>'
    return f"<mo>{escape(sign)}</mo>"
