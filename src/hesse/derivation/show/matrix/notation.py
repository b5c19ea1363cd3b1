"""What stands where in a formula of matrices, with no more parentheses than it needs."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hesse.derivation.show.matrix.compose import is_scalar, split
from hesse.derivation.show.matrix.nodes import (
    ONE,
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
)
from hesse.derivation.show.notation import (
    ATOM,
    PRODUCT,
    QUOTIENT,
    RAISED,
    SUM,
    SUM_OVER,
    TIMES,
    Notation,
    Rule,
    Written,
)

HALF = Fraction(1, 2)


def sizes_text(sizes: Sizes) -> str:
    """The sizes along one side, as a product."""
    return "·".join(map(str, sizes)) or "1"


def _symbol(node: Symbol, writer: Notation) -> Written:
    names = node.shown or tuple((name, ()) for name in (node.array.name, *node.array.by))
    of, *by = (writer.name(name, places) for name, places in names)
    return (writer.partial(of, by, whole=True), QUOTIENT) if by else (of, ATOM)


def _commutation(node: Commutation, writer: Notation) -> Written:
    # K alone is enough where all are of one size.
    sizes = (sizes_text(node.rows), sizes_text(node.columns)) if writer.several else ()
    return writer.commutation(sizes), ATOM


def _transpose(node: Transpose, writer: Notation) -> Written:
    # A⁻ᵀ is one sign.
    if isinstance(node.body, Inverse):
        return writer.superscript(
            writer.part(node.body.body, RAISED), writer.inverse_transposed
        ), RAISED
    return writer.superscript(writer.part(node.body, ATOM), writer.transposed), RAISED


def _entry_power(node: EntryPower, writer: Notation) -> Written:
    exponent, each = node.exponent, not is_scalar(node.body)
    if isinstance(exponent, Fraction) and exponent < 0 and not each:
        below = node.body if exponent == -1 else replace(node, exponent=-exponent)
        return _quotient(Fraction(1), [], [below], True, writer), QUOTIENT
    if exponent == HALF and not each:
        return writer.root(writer.part(node.body)), RAISED
    raised = exponent if isinstance(exponent, Fraction) else writer.part(exponent)
    base = _in_each(node.body, writer) or writer.part(node.body, ATOM)
    return writer.superscript(base, writer.exponent(raised, each)), RAISED


def _in_each(node: Matrix, writer: Notation) -> str | None:
    """A number that every entry is, where entries stand beside it: 2 + z rather than 2 1 + z."""
    number, scalars, body = split(node)
    if number > 0 and number != 1 and not scalars and isinstance(body, Ones):
        return writer.coefficient(number)
    return None


def _operation(name: str) -> Rule:
    """``diag(v)`` and its like."""
    return lambda node, writer: (
        writer.operator(name) + writer.grouped(writer.part(node.body)),
        ATOM,
    )


def _joined(factors: tuple[Matrix, ...], sign: str, writer: Notation) -> Written:
    """Factors of ⊗ or ∘: products need no parentheses, each other does."""
    parts = []
    for place, factor in enumerate(factors, 1):
        text = writer.part(factor, QUOTIENT, place == len(factors))
        # A (B ⊗ C) ⊗ D could be read otherwise without parentheses around all of the product.
        mixed = isinstance(factor, Product) and any(
            isinstance(inner, Kron | Hadamard) for inner in factor.factors
        )
        parts.append(writer.grouped(text) if mixed else text)
    return sign.join(parts), TIMES


def _product(node: Product, writer: Notation) -> Written:
    parts = [writer.part(factor, PRODUCT) for factor in node.factors]
    text = parts[0]
    for (before, factor), part in zip(pairwise(node.factors), parts[1:], strict=True):
        # XᵀX is read as one thing.
        gram = isinstance(factor, Symbol) and before == Transpose(factor)
        text = text + part if gram else writer.product([text, part])
    return text, PRODUCT


def _sum(node: Sum, writer: Notation) -> Written:
    text = ""
    for term in node.terms:
        number, scalars, body = split(term)
        if number < 0:
            term = body if number == -1 and not scalars else Scaled(-number, scalars, body)
        sign = writer.minus if number < 0 else writer.plus
        text += f" {sign} " if text else sign * (number < 0)
        text += _in_each(term, writer) or writer.part(term, SUM_OVER)
    return text, SUM


def _scaled(node: Scaled, writer: Notation) -> Written:
    """``−2 s A``, ``(2/n) A``."""
    # Negative powers of scalars stand below a fraction line.
    above, below = [], []
    for scalar in node.scalars:
        power = scalar.exponent if isinstance(scalar, EntryPower) else None
        if isinstance(scalar, EntryPower) and isinstance(power, Fraction) and power < 0:
            below.append(scalar.body if power == -1 else replace(scalar, exponent=-power))
        else:
            above.append(scalar)
    number, alone = abs(node.number), node.body == ONE
    if below:
        front = [_quotient(number, above, below, alone, writer)]
    else:
        least = PRODUCT if alone and len(above) == 1 else RAISED
        front = [writer.coefficient(number)] if number != 1 or (alone and not above) else []
        front += [writer.part(scalar, least) for scalar in above]
    sign = writer.minus if node.number < 0 else ""
    if alone:
        return sign + writer.product(front), SUM if sign else PRODUCT
    body, binds = writer.written(node.body)
    # Under a number a sum over an index needs no parentheses, a sum does.
    body = writer.grouped(body) if binds < SUM_OVER else body
    binds = min(max(binds, SUM_OVER), PRODUCT)
    return sign + writer.product([*front, body]), SUM if sign else binds


def _quotient(
    number: Fraction, above: list[Matrix], below: list[Matrix], alone: bool, writer: Notation
) -> str:
    tops = [str(number.numerator)] if number.numerator != 1 or not above else []
    bottoms = [str(number.denominator)] if number.denominator != 1 else []
    # A bar holds together what stands below it by itself.
    least = SUM if writer.barred and len(below) == 1 and not bottoms else RAISED
    top = writer.product([*tops, *(writer.part(scalar, RAISED) for scalar in above)])
    return writer.ratio(top, [*bottoms, *(writer.part(scalar, least) for scalar in below)], alone)


def _elementwise(node: Elementwise, writer: Notation) -> Written:
    return writer.function(node.function, node.order) + writer.grouped(writer.part(node.body)), ATOM


def _block_diag(node: BlockDiag, writer: Notation) -> Written:
    return writer.operator("blockdiag", node.index) + writer.grouped(writer.part(node.body)), ATOM


def _sum_over(node: SumOver, writer: Notation) -> Written:
    return f"{writer.summation([node.index])} {writer.part(node.body, SUM_OVER)}", SUM_OVER


RULES: dict[type, Rule] = {
    Symbol: _symbol,
    Dimension: lambda node, writer: (
        writer.size(node.size),
        SUM if {"+", "-"} & {*str(node.size)} else ATOM,
    ),
    Zeros: lambda node, writer: ("0", ATOM),
    Ones: lambda node, writer: (writer.ones if node.rows else "1", ATOM),
    Identity: lambda node, writer: (writer.sign("I", "Id"), ATOM),
    Commutation: _commutation,
    Scaled: _scaled,
    Transpose: _transpose,
    Inverse: lambda node, writer: (
        writer.superscript(writer.part(node.body, ATOM), writer.inverse),
        RAISED,
    ),
    Product: _product,
    Sum: _sum,
    Hadamard: lambda node, writer: _joined(node.factors, writer.hadamard, writer),
    Kron: lambda node, writer: _joined(node.factors, writer.kron, writer),
    Elementwise: _elementwise,
    EntryPower: _entry_power,
    Diag: _operation("diag"),
    Vec: _operation("vec"),
    Trace: _operation("tr"),
    BlockDiag: _block_diag,
    SumOver: _sum_over,
}
