"""A writer: one format's signs, with the rules of entries and of matrices."""

from typing import Any

from hesse.derivation.calculus.expression import Factor
from hesse.derivation.calculus.program import Program
from hesse.derivation.show import entries
from hesse.derivation.show.matrix import notation
from hesse.derivation.show.matrix.nodes import Commutation, Matrix, walk
from hesse.derivation.show.notation import QUOTIENT, SUM, SUM_OVER, Notation, Rule, Written

RULES: dict[type, Rule] = {**entries.RULES, **notation.RULES}


class Writer(Notation):
    """Writes what a formula can be made of, by the rule of each kind of node."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        # The right side of one line is the left side of the next.
        self._known: dict[Any, str] = {}

    def write(self, node: Any) -> str:
        """A whole formula: an expression, one term of it without its sign, or a matrix."""
        if node not in self._known:
            self._known[node] = self._whole(node)
        return self._known[node]

    def _whole(self, node: Any) -> str:
        # Matrices that the reader has to tell apart have their sizes in their names.
        inside = walk(node) if isinstance(node, Matrix) else ()
        self.several = len({inner for inner in inside if isinstance(inner, Commutation)}) > 1
        return self.part(node)

    def written(self, node: Any) -> Written:
        return RULES[type(node)](node, self)

    def part(self, node: Any, least: int = SUM, last: bool = True) -> str:
        text, binds = self.written(node)
        if binds >= least or (binds == SUM_OVER and last and least == QUOTIENT):
            return text
        return self.grouped(text) if isinstance(node, Matrix) else self.parentheses(text)

    def factor(self, factor: Factor) -> str:
        # What is pointed at is a factor of the derivative itself, not what stands inside one.
        variable, self.variable = self.variable, None
        text = self.part(factor)
        self.variable = variable
        moves = variable is not None and self.program.depends(factor, variable)
        return self.moving(text) if moves else text
