"""Text to tree. The text is read by Python's own parser and never evaluated."""

import ast
import keyword
import math
import re
import unicodedata
from fractions import Fraction

from hesse.derivation.sources.language.composed import COMPOSED, SYNONYMS
from hesse.derivation.sources.language.forms import composed, einsum, part
from hesse.derivation.sources.language.place import pointed
from hesse.derivation.sources.language.tree import (
    Binary,
    FunctionCall,
    Negative,
    Number,
    Operator,
    Span,
    Symbol,
    Transpose,
    Tree,
    placed,
    size,
)
from hesse.derivation.sources.language.vocabulary import advice, along_an_axis, is_unknown, known
from hesse.errors import HesseValueError

DEEPEST = 160  # forms within forms; every walk over a tree is recursive
LARGEST = 16_000  # forms in all: they are read in a second or two
CHARACTERS = 10  # for each of them
LONGEST = 1000  # digits; float64 tells some 17 of them apart, and none has more than 767

_OPERATORS: dict[type[ast.operator], Operator] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.MatMult: "@",
}
_HINTS: dict[type[ast.AST], str] = {
    ast.BitXor: "a power is written x**2, and a transpose x.T",
    ast.BitOr: "a norm is written norm2(A @ x - b), an absolute value abs(x)",
    ast.FloorDiv: "a quotient is written x/y",
    ast.Subscript: (
        "of an array there are rows and columns, U[i] and U[:, j], slices, x[1:], and new axes,"
        " b[:, None]; give another part a name of its own"
    ),
    ast.Compare: "write only the cost; a condition such as 'sum(y) == 1' belongs in given=",
    ast.Lambda: "an unknown function is called by a name, such as f(x)",
    ast.IfExp: "the cost must be one formula; relu(x) and abs(x) have a kink",
    ast.Tuple: "write one cost",
    ast.List: "give the array a name",
    ast.NamedExpr: "write only the cost; equal subexpressions are found and named",
}
# As on paper; none of it is Python.
_WRITTEN: dict[str, str] = {
    r"\\[A-Za-z]+": "what is written for LaTeX is not read; write Python, such as 1/2*x @ A @ x",
    r"\^\s*[T⊤]\b": "a transpose is written x.T, and a product A @ x",
    r"[²³⁴]": "a power is written x**2",
    r"[ΣΠ]\s+\w": "a sum is written sum(x), a product prod(x)",
    r"\|\||‖": "a norm is written norm2(A @ x - b)",
    r"\|": "an absolute value is written abs(x)",
    r"['’′](?!\w)": "a transpose is written x.T, and an unknown function has a name without marks",
}
_LIBRARIES = frozenset(
    {"np", "numpy", "torch", "jnp", "F", "math", "np.linalg", "numpy.linalg", "torch.linalg", "tf"}
)


def normal(name: str) -> str:
    """A name as Python's parser reads it (identifiers are compared in Unicode's NFKC form)."""
    return unicodedata.normalize("NFKC", name)


def one_line(text: str) -> str:
    """The text with every run of spaces and line breaks as one space."""
    return " ".join(text.split())


def parse(text: str) -> Tree:
    """The tree of an expression in Python syntax.

    Args:
        text: ``+ - * / ** @ .T``, numbers, names, slices such as ``x[1:]`` and entries such as
            ``x[0]``, and calls of the functions in
            `hesse.derivation.sources.language.vocabulary`.

    Raises:
        HesseValueError: the text is not an expression, or holds anything else; carets show the
            place.

    Examples:
        >>> parse("x.T @ A")
        Binary(operator='@', left=Transpose(operand=Symbol(name='x')), right=Symbol(name='A'))
    """
    text = one_line(text).translate(_SIGNS)
    if not text:
        raise HesseValueError(
            "the expression is empty; write a cost, such as 'sum((y - X @ w)**2)'"
        )
    # Python's parser takes seconds and gigabytes for megabytes.
    if len(text) > LARGEST * CHARACTERS:
        raise HesseValueError(TOO_LARGE)
    # Python would drop it, and what was meant would be lost with it.
    if "#" in text:
        raise pointed("a comment cannot stand in an expression", text, (text.index("#"), len(text)))
    # Python reads it as a letter of the name.
    if "ᵀ" in text:
        place = text.index("ᵀ")
        raise pointed("a transpose is written x.T", text, (place, place + 1))
    try:
        body = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise _unreadable(error, text) from None
    except (RecursionError, MemoryError):
        raise HesseValueError(TOO_DEEP) from None
    except ValueError as error:  # null bytes, integers of thousands of digits
        raise HesseValueError(f"the expression cannot be read: {error}") from None
    reader = _Parser(text)
    tree = reader.tree(body, 0)
    # Only now is it known which names are called.
    reader.check_names()
    return tree


_SIGNS = str.maketrans("−·×", "-**")  # as formulas are printed
TOO_LARGE = (
    f"the expression has more than {LARGEST:,} parts, or {LARGEST * CHARACTERS:,} characters; give"
    " what stands in it often an array of its own, or derive its parts"
)
TOO_DEEP = f"the expression is nested more than {DEEPEST} deep; split it, or derive its parts"


def _unreadable(error: SyntaxError, text: str) -> HesseValueError:
    place = (error.offset or 0) - 1
    if error.lineno != 1 or not 0 <= place < len(text):  # it ends too early
        place = len(text) - 1
    length = 1
    message, hint = (
        (error.msg or "invalid syntax").removesuffix(". Perhaps you forgot a comma?"),
        "",
    )
    equals = re.search(r"(?<![=<>!:])=(?!=)", text)
    written = next((other for other in _WRITTEN if re.search(other, text)), None)
    reserved = next(
        (word for word in re.finditer(r"[^\W\d]\w*", text) if keyword.iskeyword(word[0])), None
    )
    called = next(
        (pair for pair in re.finditer(r"([^\W\d]\w*) +([^\W\d]\w*)", text) if pair[1] in known()),
        None,
    )
    if written:
        found = re.search(written, text)
        assert found is not None
        place, length, hint = found.start(), len(found[0]), f"; {_WRITTEN[written]}"
    elif equals and "axis" not in text:
        place, hint = equals.start(), "; write only what stands right of the ="
    elif called:
        place, length = called.start(), len(called[0])
        hint = f"; a function is called with parentheses: {called[1]}({called[2]})"
    elif reserved:
        place, length = reserved.start(), len(reserved[0])
        hint = f"; {reserved[0]!r} is a reserved word, choose another name" + (
            ", such as lam or λ" * (reserved[0] == "lambda")
        )
    # A digit before a letter, a name after a parenthesis, two words in a row: a product that
    # lacks its sign.
    elif re.search(r"\d\s*[^\W\d_eE]|\)\s*[\w(]|\w\s+\w", text[max(place - 2, 0) :]):
        hint = "; products are written out: 2*x, A @ x"
    return pointed(f"the expression cannot be read: {message}{hint}", text, (place, place + length))


class _Parser:
    """One text on its way to a tree."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._bytes = text.encode()
        self._forms = 0
        self._sizes: dict[Tree, int] = {}
        self._called: dict[str, Span] = {}
        self._read: dict[str, Span] = {}

    def span(self, node: ast.expr) -> Span:
        """Where a node stands, in characters; Python counts bytes."""
        start, end = (
            len(self._bytes[:offset].decode())
            for offset in (node.col_offset, node.end_col_offset or 0)
        )
        return start, end

    def error(self, message: str, node: ast.expr) -> HesseValueError:
        return pointed(message, self.text, self.span(node))

    def tree(self, node: ast.expr, depth: int) -> Tree:
        if depth > DEEPEST:
            raise HesseValueError(TOO_DEEP)
        self._forms += 1
        if self._forms > LARGEST:
            raise HesseValueError(TOO_LARGE)
        span = self.span(node)
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return Number(self.number(value, node), span)
            case ast.Name(id=name):
                return self.symbol(name, node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Negative(self.tree(operand, depth + 1), span)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.tree(operand, depth + 1)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return Binary(
                    _OPERATORS[type(op)],
                    self.tree(left, depth + 1),
                    self.tree(right, depth + 1),
                    span,
                )
            case ast.BinOp(op=op):
                raise self.refused(op, node)
            case ast.Attribute(value=operand, attr="T"):
                return Transpose(self.tree(operand, depth + 1), span)
            case ast.Attribute(attr=name):
                raise self.error(
                    f"'.{name}' is not part of the language; of attributes only .T is", node
                )
            case ast.Call():
                return self.call(node, depth)
            case ast.Subscript(value=value, slice=items):
                return placed(part(self, node, self.tree(value, depth + 1), items), span)
        raise self.refused(node, node)

    def refused(self, form: ast.AST, node: ast.expr) -> HesseValueError:
        hint = _HINTS.get(
            type(form), "an expression is made of names, numbers, + - * / ** @ .T and functions"
        )
        return self.error(
            f"{ast.get_source_segment(self.text, node) or 'this'} is not part of the language:"
            f" {hint}",
            node,
        )

    def number(self, value: float, node: ast.expr) -> Fraction:
        try:
            if not math.isfinite(value):
                raise OverflowError
            if isinstance(value, int):
                # An integer beyond float64 raises here: no check could compute with it.
                float(value)
                return Fraction(value)
            digits = self.segment(node).lower().split("e")[0]
            if value == 0:
                if re.search("[1-9]", digits):
                    raise OverflowError
                return Fraction(0)  # 0e999999999 as a fraction would have as many digits
            if len(digits) > LONGEST:  # such a number would fill the message as well
                raise self.error(f"a number of more than {LONGEST} digits", node)
            # From the text, so that 0.1 is a tenth.
            return Fraction(self.segment(node))
        except OverflowError:
            raise self.error("a number beyond the range of float64", node) from None

    def segment(self, node: ast.expr) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    def check_name(self, name: str, node: ast.expr) -> None:
        if "__" in name:
            raise self.error(
                f"{name!r} cannot be a name: two underscores in a row are refused", node
            )

    def call(self, node: ast.Call, depth: int) -> Tree:
        if not isinstance(node.func, ast.Name):
            hint = "a product is written with *"
            if isinstance(node.func, ast.Attribute) and node.func.attr in known():
                inner = ast.unparse(node.func.value)
                hint = (
                    f"write {node.func.attr}(x)"
                    if inner in _LIBRARIES
                    else f"write {node.func.attr}({inner})"
                )
            raise self.error(f"only a function with a plain name can be called; {hint}", node.func)
        name = SYNONYMS.get(node.func.id, node.func.id)
        self.check_name(name, node.func)
        if name == "einsum":
            return placed(einsum(self, node, depth), self.span(node))
        # max(x) and norm(x, 1) are other functions than max(x, 0) and norm(x).
        if name in COMPOSED and (name not in ("max", "min") or len(node.args) == 2):
            self._called.setdefault(name, self.span(node.func))
            for extra in node.args:
                if isinstance(extra, ast.Starred):
                    raise self.refused(extra, extra)
            made = placed(composed(self, name, node, depth), self.span(node))
            # What it is made of may stand in it twice, and so on within each other.
            if size(made, self._sizes) > LARGEST:
                raise HesseValueError(TOO_LARGE)
            return made
        if name not in known() and not is_unknown(name):
            raise self.error(advice(name), node.func)
        self._called.setdefault(name, self.span(node.func))
        if not node.args:
            raise self.error(f"{name}() needs an argument", node)
        for extra in node.args:
            if isinstance(extra, ast.Starred):
                raise self.refused(extra, extra)
        axis: int | None = None
        if len(node.args) == 2 and name in along_an_axis() and not node.keywords:
            axis = self.axis(node.args[1])
        elif len(node.args) > 1:
            unknown = (
                ""
                if name in known()
                else "; an unknown function is applied to each entry of one array"
            )
            raise self.error(
                f"{name}() takes one argument and got {len(node.args)}{unknown}", node.args[1]
            )
        for pair in node.keywords:
            if pair.arg != "axis" or name not in along_an_axis():
                allowed = (
                    "only axis= is allowed"
                    if name in along_an_axis()
                    else "it takes one argument and nothing else"
                )
                raise self.error(
                    f"{name}() has no argument {pair.arg or '**'}; {allowed}", pair.value
                )
            axis = self.axis(pair.value)
        return FunctionCall(name, self.tree(node.args[0], depth + 1), axis, self.span(node))

    def symbol(self, name: str, node: ast.expr) -> Symbol:
        """An array of this name."""
        self.check_name(name, node)
        self._read.setdefault(name, self.span(node))
        return Symbol(name, self.span(node))

    def axis(self, node: ast.expr) -> int:
        """A whole number that is written out."""
        match node:
            case ast.Constant(value=value) if type(value) is int:
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if (
                type(value) is int
            ):
                return -value
        raise self.error(
            "a place or an axis must be a whole number that is written out, such as 0 or -1", node
        )

    def check_names(self) -> None:
        for name, span in self._read.items():
            if name in known():
                raise pointed(
                    f"{name!r} is a function; call it, or choose another name for the array",
                    self.text,
                    span,
                )
            if name in self._called:
                raise pointed(
                    f"{name!r} is also called as a function; choose another name for the array",
                    self.text,
                    span,
                )
