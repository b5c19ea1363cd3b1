r"""Formulas in MathML: the LaTeX that hesse writes, read and written with no tag too many.

A page holds thousands of formulas, and a tag around nothing weighs more than what it stands around.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hesse.derivation.show.latex_writer import LatexWriter
from hesse.derivation.show.names import GREEK

# A number in parentheses is one token: z(1) is in every line.
_TOKEN = re.compile(r"\\[A-Za-z]+|\(\d+\)|\\?[^\s\d]|\d+(?:\.\d+)?")
_SIGN = re.compile(r"<mi>([^\w<]+)</mi>")
_PRIMES = ("", "′", "″", "‴")


class PageWriter(LatexWriter):
    r"""LaTeX with three commands of its own: ``\word{3}`` is a name that is no symbol,
    ``\array{3}{…}`` a symbol of an array whose shape is known, ``\moving{…}`` what is pointed at.

    Args:
        program: whose names are written.
        shaped: whether the shape of each array stands under it.
        like: the writer whose numbers it shares.
    """

    def __init__(
        self, program: Any, shaped: bool = False, like: "PageWriter | None" = None
    ) -> None:
        super().__init__(program, shaped)
        # What stands behind the numbers, in the order in which it was first written.
        self.words: dict[str, int] = {} if like is None else like.words
        self.arrays: dict[str, int] = {} if like is None else like.arrays

    def word(self, text: str) -> str:
        if text.isdecimal() and text.isascii():
            return text
        return rf"\word{{{self.words.setdefault(text, len(self.words))}}}"

    def named(self, name: str, symbol: str) -> str:
        symbol = super().named(name, symbol)
        if not self.sizes(name):
            return symbol
        return rf"\array{{{self.arrays.setdefault(name, len(self.arrays))}}}{{{symbol}}}"

    def moving(self, part: str) -> str:
        return rf"\moving{{{part}}}"


@dataclass
class Maths:
    """Writes LaTeX as MathML, each formula once.

    Attributes:
        writer: wrote the LaTeX.
    """

    writer: PageWriter
    known: dict[str, str] = field(default_factory=dict)

    def __call__(self, latex: str) -> str:
        if latex not in self.known:
            self.known[latex] = self._written(latex)
        return self.known[latex]

    def _written(self, latex: str) -> str:
        from markupsafe import Markup, escape

        words = [str(escape(word)) for word in self.writer.words]
        try:
            row = "".join(_Reader(latex, words).row())
        except _UnreadError:  # a formula that cannot be read is shown as it is written
            return Markup('<code class="unread">') + escape(latex) + Markup("</code>")
        return Markup(f"<math>{row}</math>")


# ---------------------------------------------------------------- elements


def _element(tag: str, *inside: str) -> str:
    return f"<{tag}>{''.join(inside)}</{tag}>"


def _sign(sign: str) -> str:
    """An operator, with the space around it that it has."""
    return _element("mo", sign)


def _letter(text: str) -> str:
    """A name; or a sign without space around it, which does not grow with what stands beside it as
    an operator would."""
    return _element("mi", text)


def _prime(count: int) -> str:
    # Of four on there is no sign for all of them together.
    marks = _PRIMES[count] if count < len(_PRIMES) else "′" * count
    return f'<mi class="prime">{marks}</mi>'


def _one(elements: Sequence[str]) -> str:
    """Elements as a single one."""
    return elements[0] if len(elements) == 1 else _element("mrow", *elements)


def _joined(elements: Sequence[str]) -> list[str]:
    """Elements side by side, signs among them as one: not a sign and what stands above it."""
    done: list[str] = []
    for element in elements:
        before, sign = _SIGN.fullmatch(done[-1]) if done else None, _SIGN.fullmatch(element)
        if before and sign:
            done[-1] = _letter(before[1] + sign[1])
        else:
            done.append(element)
    return done


def _with(attribute: str, element: str) -> str:
    """An element with an attribute; around it where it has one already."""
    bare = re.match(r"<\w+>", element)
    if bare is None:
        return f"<mrow {attribute}>{element}</mrow>"
    return f"{element[: bare.end() - 1]} {attribute}{element[bare.end() - 1 :]}"


# ---------------------------------------------------------------- what the commands stand for

# The space between factors.
_THIN = _letter("\u2009")
_SIGNS = {
    r"\partial": _sign("∂"), r"\sum": _sign("∑"), r"\cdot": _sign("⋅"), r"\circ": _sign("∘"),
    r"\otimes": _sign("⊗"), r"\times": _sign("×"), r"\to": _sign("→"), r"\mapsto": _sign("↦"),
    r"\le": _sign("≤"), r"\ge": _sign("≥"), r"\ne": _sign("≠"), r"\in": _sign("∈"),
    r"\top": _letter("⊤"), r"\infty": _letter("∞"), r"\prime": _prime(1), r"\,": _THIN,
    r"\{": _letter("{"), r"\}": _letter("}"),
    "-": _sign("−"), "+": _sign("+"), "=": _sign("="), ",": _sign(","),
    "<": _sign("&lt;"), ">": _sign("&gt;"),
    **{sign: _letter(sign) for sign in "()[]|:;.!/"},
    **{rf"\{command}": _letter(letter) for letter, command in GREEK.items()},
    **{rf"\{name}": _letter(name) for name in (
        "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arctan", "det")},
}  # fmt: skip
_HATS = {r"\hat": "^", r"\tilde": "~", r"\bar": "¯", r"\dot": "˙", r"\ddot": "¨"}
_BOLD = str.maketrans("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")


class _UnreadError(Exception):
    """A sign or a command that is not known."""


class _Reader:
    """Reads a formula from its first token on.

    Args:
        latex: the formula.
        words: what the numbers of words stand for, escaped.
    """

    def __init__(self, latex: str, words: Sequence[str]) -> None:
        self.tokens, self.place, self.words = _TOKEN.findall(latex), 0, words

    def next(self) -> str:
        """The next token; "" behind the last."""
        self.place += 1
        return self.tokens[self.place - 1] if self.place <= len(self.tokens) else ""

    def peek(self) -> str:
        """The token that comes next."""
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def row(self, end: str = "") -> list[str]:
        """Elements side by side, up to a token, which is passed."""
        done: list[str] = []
        while (token := self.next()) != end:
            if not token:
                raise _UnreadError
            if token == "{":
                inside = self.row("}")
                # Only a script makes one of what stands in braces.
                done += [_one(inside)] if self.peek() in tuple("_^'") else inside
            elif token in tuple("_^'"):
                self.place -= 1
                done[-1:] = [self.scripted(done[-1] if done else _element("mrow"))]
            else:
                done.append(self.element(token))
        return _joined(done)

    def scripted(self, base: str) -> str:
        """An element with what stands below and above it."""
        below = above = ""
        while (token := self.peek()) in tuple("_^'") and token:
            if token == "'":
                count = 0
                while self.peek() == "'":
                    self.place, count = self.place + 1, count + 1
                above = _prime(count)
            else:
                self.place += 1
                script = self.argument()
                below, above = (script, above) if token == "_" else (below, script)
        if below and above:
            return _element("msubsup", base, below, above)
        return _element("msub", base, below) if below else _element("msup", base, above)

    def argument(self) -> str:
        """What stands in the next braces, as one element."""
        if self.next() != "{":
            raise _UnreadError
        return _one(self.row("}"))

    def text(self) -> str:
        """The letters in the next braces."""
        begin = self.place
        self.argument()
        return "".join(self.tokens[begin + 1 : self.place - 1])

    def element(self, token: str) -> str:
        """One element, by its first token."""
        if token in _SIGNS:
            return _SIGNS[token]
        if token[-1].isdigit() or token[1:-1].isdigit():
            return _element("mn", token)
        if token.isascii() and token.isalpha():
            return _letter(token)
        if token in _COMMANDS:
            return _COMMANDS[token](self)
        if token in _HATS:
            hat = f'<mo stretchy="false">{_HATS[token]}</mo>'
            return _with('accent="true"', _element("mover", self.argument(), hat))
        raise _UnreadError

    def delimited(self) -> str:
        """Parentheses as tall as what stands between them."""
        begin = self.next()
        inside = self.row(r"\right")
        # A grown sign is an operator.
        return _element("mrow", _sign(begin), *inside, _sign(self.next()))

    def below(self) -> str:
        """What stands under something, which comes second."""
        under = self.argument()
        return _element("munder", self.argument(), under)


_COMMANDS: dict[str, Callable[[_Reader], str]] = {
    r"\frac": lambda reader: _element("mfrac", reader.argument(), reader.argument()),
    r"\tfrac": lambda reader: _with(
        'displaystyle="false"', _element("mfrac", reader.argument(), reader.argument())
    ),
    r"\sqrt": lambda reader: _element("msqrt", reader.argument()),
    r"\left": _Reader.delimited,
    r"\underset": _Reader.below,
    r"\operatorname": lambda reader: _letter(reader.text()),
    r"\mathrm": lambda reader: _letter(reader.text()),
    # Browsers make nothing bold: there are bold digits.
    r"\mathbf": lambda reader: _element("mn", reader.text().translate(_BOLD)),
    r"\word": lambda reader: _element("mtext", reader.words[int(reader.text())]),
    r"\array": lambda reader: _with(f"data-a={reader.text()}", reader.argument()),
    r"\moving": lambda reader: f'<mrow class="moving">{reader.argument()}</mrow>',
}
