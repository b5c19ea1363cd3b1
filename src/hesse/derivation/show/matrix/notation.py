"""A matrix formula as Unicode text and as LaTeX, with no more parentheses than it needs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from hesse.derivation.show.matrix.compose import is_scalar, split
from hesse.derivation.show.matrix.names import latex_symbol, text_symbol
from hesse.derivation.show.matrix.nodes import (
    ONE,
    Array,
    BlockDiag,
    Commutation,
    Diag,
    Dimension,
    Elementwise,
    EntryPower,
    Hadamard,
    Identity,
    Inverse,
    Kron,
    Matrix,
    Ones,
    Product,
    Scaled,
    Sizes,
    Sum,
    SumOver,
    Symbol,
    Trace,
    Transpose,
    Vec,
    Zeros,
    walk,
)
from hesse.derivation.show.names import latex_function, text_function
from hesse.derivation.show.numerals import primes, raised, rational

# How tightly a node binds: what stands inside another and binds less is put in parentheses.
_SUM, _SUM_OVER, _TIMES, _QUOTIENT, _PRODUCT, _ATOM = range(6)


def matrix_text(node: Matrix) -> str:
    """The formula in Unicode: ``(X⁻ᵀ ⊗ X⁻¹) K``.

    Example:
        >>> from hesse.derivation.show.matrix.nodes import Array, Product, Symbol, Transpose
        >>> X = Symbol(Array("X"), ("n",), ("d",))
        >>> matrix_text(Product((Transpose(X), X)))
        'XᵀX'
    """
    return _Writer(_TEXT, _named(node)).write(node, _SUM)


def matrix_latex(node: Matrix) -> str:
    r"""The formula in LaTeX, for amsmath: ``\left(X^{-\top} \otimes X^{-1}\right) K``."""
    return _Writer(_LATEX, _named(node)).write(node, _SUM)


def commutation_name(node: Commutation) -> str:
    """The letter with its sizes, for a formula that has several: ``K[m,h]``."""
    return f"K[{sizes_text(node.rows)},{sizes_text(node.columns)}]"


def sizes_text(sizes: Sizes) -> str:
    """The sizes along one side, as a product."""
    return "·".join(map(str, sizes)) or "1"


def several_commutations(node: Matrix) -> bool:
    """Whether a formula has commutation matrices of different sizes."""
    return len({inner for inner in walk(node) if isinstance(inner, Commutation)}) > 1


def _named(node: Matrix) -> Callable[[Commutation], str]:
    return commutation_name if several_commutations(node) else lambda _: "K"


@dataclass(frozen=True)
class _Style:
    """How the parts of a formula are written."""

    symbol: Callable[[Symbol], str]
    commutation: Callable[[str], str]
    function: Callable[[str, int], str]
    call: Callable[[str, str], str]  # an operation and its argument
    parentheses: Callable[[str], str]
    number: Callable[[Fraction], str]
    quotient: Callable[[str, str], str]
    power: Callable[[str, str], str]
    exponent: Callable[[Fraction, bool], str]  # of a scalar; of each entry
    root: Callable[[str], str]
    raised: Callable[[str], str]  # an exponent of each entry that is no number
    sum_sign: Callable[[str], str]
    subscripted: Callable[[str, str], str]
    operator: Callable[[str], str]
    transposed: str
    inverse: str
    inverse_transposed: str
    kron: str
    hadamard: str
    plus: str
    minus: str
    sign: str
    beside: str  # between the factors of a product
    ones: str


HALF = Fraction(1, 2)


def _text_exponent(number: Fraction, each: bool) -> str:
    signed = str(number).replace("-", "−")
    if each:
        return f"^∘{signed}" if number.denominator == 1 and number > 0 else f"^∘({signed})"
    return raised(number) if number.denominator == 1 else f"^({signed})"


def _text_number(value: Fraction) -> str:
    written = rational(value)
    return f"({written})" if "/" in written else written


_TEXT = _Style(
    symbol=text_symbol,
    commutation=str,
    function=lambda name, order: text_function(name) + primes(order),
    call=lambda name, inner: f"{name}({inner})",
    parentheses=lambda inner: f"({inner})",
    number=_text_number,
    quotient=lambda top, bottom: f"{top}/{bottom}",
    power=lambda base, exponent: base + exponent,
    exponent=_text_exponent,
    root=lambda inner: f"√({inner})",
    raised=lambda inner: f"^∘({inner})",
    sum_sign=lambda index: f"Σ_{index} ",
    subscripted=lambda name, index: f"{name}_{index}",
    operator=str,
    transposed="ᵀ",
    inverse="⁻¹",
    inverse_transposed="⁻ᵀ",
    kron=" ⊗ ",
    hadamard=" ∘ ",
    plus=" + ",
    minus=" − ",
    sign="−",
    beside=" ",
    ones="1",
)


def _latex_exponent(number: Fraction, each: bool) -> str:
    value = str(number)
    return (
        f"^{{\\circ {value}}}"
        if each and number > 0
        else f"^{{\\circ({value})}}"
        if each
        else f"^{{{value}}}"
    )


def _latex_parentheses(inner: str) -> str:
    """As tall as what they hold."""
    return rf"\left({inner}\right)" if re.search(r"\\(t?frac|sum|left)", inner) else f"({inner})"


def _latex_number(value: Fraction) -> str:
    return (
        str(value)
        if value.denominator == 1
        else rf"\tfrac{{{value.numerator}}}{{{value.denominator}}}"
    )


_LATEX = _Style(
    symbol=latex_symbol,
    commutation=lambda name: "K" if name == "K" else f"K_{{{name[2:-1].replace('·', ' ')}}}",
    function=latex_function,
    call=lambda name, inner: name + _latex_parentheses(inner),
    parentheses=_latex_parentheses,
    number=_latex_number,
    quotient=lambda top, bottom: rf"\frac{{{top}}}{{{bottom}}}",
    power=lambda base, exponent: (
        f"{{{base}}}{exponent}" if re.search(r"['^]|prime", base) else base + exponent
    ),
    exponent=_latex_exponent,
    root=lambda inner: rf"\sqrt{{{inner}}}",
    raised=lambda inner: rf"^{{\circ({inner})}}",
    sum_sign=lambda index: rf"\sum_{{{index}}} ",
    subscripted=lambda name, index: f"{name}_{{{index}}}",
    operator=lambda name: rf"\operatorname{{{name}}}",
    transposed=r"^{\top}",
    inverse="^{-1}",
    inverse_transposed=r"^{-\top}",
    kron=r" \otimes ",
    hadamard=r" \circ ",
    plus=" + ",
    minus=" - ",
    sign="-",
    beside=r" \, ",
    ones=r"\mathbf{1}",
)


class _Writer:
    """Writes nodes in one style."""

    def __init__(self, style: _Style, commutation: Callable[[Commutation], str]) -> None:
        self.style = style
        self._commutation = commutation

    def write(self, node: Matrix, least: int, last: bool = True) -> str:
        """A node, in parentheses where it binds less than it must; a sum over an index may go
        unbracketed to the end."""
        text, binds = self._written(node)
        if binds == _SUM_OVER and last and least == _QUOTIENT:
            return text
        return text if binds >= least else self.style.parentheses(text)

    def _joined(self, parts: tuple[Matrix, ...], sign: str) -> str:
        """Factors of ⊗ or ∘: products need no parentheses, each other does."""
        written = [self.write(part, _QUOTIENT, k == len(parts) - 1) for k, part in enumerate(parts)]
        for k, part in enumerate(parts):
            if isinstance(part, Product) and any(
                isinstance(factor, Kron | Hadamard) for factor in part.factors
            ):
                written[k] = self.style.parentheses(written[k])
        return sign.join(written)

    def _written(self, node: Matrix) -> tuple[str, int]:
        style = self.style
        match node:
            case Symbol():
                return style.symbol(node), _QUOTIENT if node.array.by else _ATOM
            case Dimension(size):
                return style.symbol(Symbol(Array(size))), _ATOM
            case Zeros():
                return "0", _ATOM
            case Ones(rows):
                return style.ones if rows else "1", _ATOM
            case Identity():
                return "I", _ATOM
            case Commutation():
                return style.commutation(self._commutation(node)), _ATOM
            case Scaled():
                return self._scaled(node)
            case Transpose(Inverse(body)):
                return style.power(self.write(body, _ATOM), style.inverse_transposed), _ATOM
            case Transpose(body):
                return style.power(self._base(body), style.transposed), _ATOM
            case Inverse(body):
                return style.power(self._base(body), style.inverse), _ATOM
            case Product(factors):
                return self._product(factors), _PRODUCT
            case Sum(terms):
                return self._sum(terms), _SUM
            case Hadamard(factors):
                return self._joined(factors, style.hadamard), _TIMES
            case Kron(factors):
                return self._joined(factors, style.kron), _TIMES
            case Elementwise(function, order, body):
                return style.call(style.function(function, order), self.write(body, _SUM)), _ATOM
            case EntryPower(body, exponent) if exponent == HALF and is_scalar(body):
                return style.root(self.write(body, _SUM)), _ATOM
            case EntryPower(body, exponent):
                each = not is_scalar(body)
                if isinstance(exponent, Fraction):
                    raised = style.exponent(exponent, each)
                else:
                    inner = self.write(exponent, _SUM)
                    raised = style.raised(inner)
                return style.power(self._base(body), raised), _ATOM
            case Diag(body):
                return style.call(style.operator("diag"), self.write(body, _SUM)), _ATOM
            case Vec(body):
                return style.call(style.operator("vec"), self.write(body, _SUM)), _ATOM
            case Trace(body):
                return style.call(style.operator("tr"), self.write(body, _SUM)), _ATOM
            case BlockDiag(index, _, body):
                return style.call(
                    style.subscripted(style.operator("blockdiag"), index), self.write(body, _SUM)
                ), _ATOM
            case SumOver(index, _, body):
                return style.sum_sign(index) + self.write(body, _SUM_OVER), _SUM_OVER

    def _base(self, node: Matrix) -> str:
        """What an exponent or a transpose is written on."""
        raised = isinstance(node, EntryPower | Transpose | Inverse)
        text = self.write(node, _ATOM)
        return self.style.parentheses(text) if raised else text

    def _product(self, factors: tuple[Matrix, ...]) -> str:
        written = self.write(factors[0], _PRODUCT)
        for before, factor in pairwise(factors):
            # XᵀX is read as one thing.
            gram = (
                isinstance(before, Transpose)
                and before.body == factor
                and isinstance(factor, Symbol)
            )
            written += ("" if gram else self.style.beside) + self.write(factor, _PRODUCT)
        return written

    def _sum(self, terms: tuple[Matrix, ...]) -> str:
        style, written = self.style, ""
        for place, term in enumerate(terms):
            number, scalars, body = split(term)
            negative = number < 0
            inner = term if not negative else _negated(number, scalars, body)
            sign = (
                (style.minus if negative else style.plus)
                if place
                else (style.sign if negative else "")
            )
            written += sign + self.write(inner, _SUM_OVER)
        return written

    def _scaled(self, node: Scaled) -> tuple[str, int]:
        """``−2 s A``, ``(2/n) A``."""
        style = self.style
        above, below = [], []
        for scalar in node.scalars:
            if (
                isinstance(scalar, EntryPower)
                and isinstance(scalar.exponent, Fraction)
                and scalar.exponent < 0
            ):
                power = -scalar.exponent
                below.append(scalar.body if power == 1 else EntryPower(scalar.body, power))
            else:
                above.append(scalar)
        number = abs(node.number)
        bare = node.body == ONE
        if below:
            front = self._quotient(number, above, below, bare)
        else:
            parts = [style.number(number)] if number != 1 or (bare and not above) else []
            alone = _PRODUCT if bare and len(above) == 1 else _ATOM
            front = style.beside.join(parts + [self.write(scalar, alone) for scalar in above])
        sign = style.sign if node.number < 0 else ""
        if bare:
            return sign + front, _SUM if sign else _PRODUCT
        body = node.body
        _, binds = self._written(body)
        inner = self.write(body, _SUM_OVER)
        binds = min(_SUM_OVER if binds <= _SUM_OVER else binds, _PRODUCT)
        return sign + (front + style.beside if front else "") + inner, _SUM if sign else binds

    def _quotient(
        self, number: Fraction, above: list[Matrix], below: list[Matrix], bare: bool
    ) -> str:
        style = self.style
        tops = [str(number.numerator)] if number.numerator != 1 or not above else []
        bottoms = [str(number.denominator)] if number.denominator != 1 else []
        latex = style is _LATEX
        top = style.beside.join(tops + [self.write(scalar, _ATOM) for scalar in above])
        single = latex and len(below) == 1 and not bottoms
        bottom = style.beside.join(
            bottoms + [self.write(scalar, _SUM if single else _ATOM) for scalar in below]
        )
        if latex:
            return style.quotient(top, bottom)
        bottom = style.parentheses(bottom) if len(bottoms) + len(below) > 1 else bottom
        return (
            style.quotient(top, bottom) if bare else style.parentheses(style.quotient(top, bottom))
        )


def _negated(number: Fraction, scalars: tuple[Matrix, ...], body: Matrix) -> Matrix:
    return body if number == -1 and not scalars else Scaled(-number, scalars, body)
