"""What the signs in a matrix formula mean, in words: one half-sentence for each that needs one."""

from collections.abc import Iterator

from hesse.derivation.calculus.program import Program
from hesse.derivation.show.matrix.nodes import (
    BlockDiag,
    Commutation,
    EntryPower,
    Hadamard,
    Identity,
    Matrix,
    Ones,
    Symbol,
    Vec,
    shape,
    walk,
)
from hesse.derivation.show.matrix.notation import sizes_text
from hesse.derivation.show.text_writer import TextWriter


def remarks(node: Matrix, program: Program) -> tuple[str, ...]:
    """Each sign that a reader may not know, once.

    Args:
        node: the formula.
        program: whose names it is written in.

    Examples:
        >>> from hesse.derivation.show.matrix.nodes import Commutation
        >>> remarks(Commutation(("m",), ("h",)), Program({}, ()))
        ('K vec(V) = vec(Vᵀ) for V of shape m × h: the same entries, counted column by column',)
    """
    writer = TextWriter(program)
    writer.write(node)  # which tells it whether K has its sizes here
    return tuple(dict.fromkeys(remark for inner in walk(node) for remark in _remark(inner, writer)))


def _remark(node: Matrix, writer: TextWriter) -> Iterator[str]:
    match node:
        case Commutation(rows, columns):
            form = f"{sizes_text(rows)} × {sizes_text(columns)}"
            yield (
                f"{writer.part(node)} vec(V) = vec(Vᵀ) for V of shape {form}: the same entries,"
                " counted column by column"
            )
        case Identity() if writer.part(node) != "I":
            yield f"{writer.part(node)}: the identity matrix"
        case Vec():
            yield "vec(V): the entries of V row by row, as one column"
        case Hadamard():
            yield "∘: entry by entry"
        case EntryPower() if shape(node) != ((), ()):
            yield "^∘: the power of each entry"
        case Ones(rows) if rows:
            yield "1: the vector of ones"
        case BlockDiag(index, _, _):
            yield f"blockdiag_{index}: one block for each {index}, along the diagonal"
        case Symbol(array, _, columns, fixed, ((shown, places), *_)) if fixed and not array.by:
            row = ", ".join(index for _, index in fixed)
            if columns:
                yield f"{writer.part(node)}: slice {row} of {array.name}, a matrix"
            elif shown != array.name:
                yield f"{writer.part(node)}: row {row} of {array.name}, as a column"
            elif ":" in places:
                yield f"{writer.part(node)}: what {array.name} has there, as a column"
