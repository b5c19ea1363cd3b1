"""Entries of a Hessian that are no numbers."""

import math

from hesse.errors import HesseValueError
from hesse.matrix.block_hessian import BlockHessian


def undefined(H: BlockHessian) -> set[str]:
    """The parameters with rows that are not finite."""
    if H.entries.is_surely_finite():
        return set()
    return {name for pair, norm in H.norms.items() if not norm < math.inf for name in pair}


def require_finite(H: BlockHessian) -> None:
    """Raise on entries that are no numbers, which no strategy, and not double backward either,
    gives a number for.

    Raises:
        HesseValueError: says which entry.
    """
    bad = {pair for pair, norm in H.norms.items() if not norm < math.inf}
    for piece in H.entries.pieces() if bad else ():
        places = (~piece.values.isfinite()).nonzero()
        if piece.pair in bad and len(places):
            row, column = places[0].tolist()
            entry = float(piece.values[row, column])
            raise HesseValueError(
                f"cost: H has entries that are not finite: {entry} in row"
                f" {row + piece.rows.start}, column {column + piece.columns.start} of the block"
                f" {piece.pair}, by every way of computing it. The cost has a kink or a pole at"
                " these parameters (a root or a norm at zero?), without a second derivative there;"
                " move them with cost.at(...), smooth it, or ask for other blocks with pairs="
            )
