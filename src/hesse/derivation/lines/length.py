"""How long a derivation will be, foreseen before its lines are written."""

import sys

from hesse.derivation.calculus.expression import Expression
from hesse.derivation.calculus.normal_form import weight
from hesse.derivation.calculus.program import Program, names_in
from hesse.derivation.lines.adjoints import Adjoints
from hesse.derivation.lines.page import Page
from hesse.errors import HesseValueError

PLACES = 6  # where one parameter enters, stage by stage
# Quantities made one from the other, as the steps of a network or the links of a chain are: every
# walk over what a quantity is made of is recursive, and lines are certified in a time that grows
# with the depth.
DEEPEST = 100
# A block of a parameter with itself takes so many times the symbols of the signals that its first
# derivative stands on, at the least: each is differentiated once more, and so is what it is made
# of. (RNN and GRU of 6 to 20 steps take 13 to 40 times as many.)
BLOCK = 8


def require_few_links(program: Program) -> None:
    """Refuse a chain that is too long.

    Raises:
        HesseValueError: it is.
    """
    if program.depth > DEEPEST:
        raise HesseValueError(
            f"derive: {program.cost.name} is made of {program.depth:,} quantities one after the"
            f" other; at most {DEEPEST} are certified. A model of fewer steps or layers has the"
            " same formulas: derive that, or its parts; certify=False follows as many as Python's"
            f" functions may call each other (sys.setrecursionlimit, {sys.getrecursionlimit():,})"
        )


class Length:
    """How long the blocks on the diagonal will be, from the first derivatives and from those blocks
    that are written.

    Args:
        page: that they are written on, empty.

    Raises:
        HesseValueError: there will be more symbols than may be written.
    """

    def __init__(self, page: Page) -> None:
        self.page, self.times = page, list[float]()
        self.left = {name: _signals(page.adjoints, name) for name in page.adjoints.shares}
        # The first derivatives are not written yet, either.
        page.require_room((1 + BLOCK) * sum(self.left.values()))

    def has(self, pair: tuple[str, str], symbols: int) -> None:
        """Note a block that is written: each other will be as many times longer than its first
        derivative.

        Raises:
            HesseValueError: with those that are left there will be more symbols than may be
                written.
        """
        first = self.left.pop(pair[0], 0) if pair[0] == pair[1] else 0
        if first:
            self.times.append(symbols / first)
            self.page.require_room(min(self.times) * sum(self.left.values()))


def _signals(adjoints: Adjoints, parameter: str) -> int:
    """The symbols of the δ that a first derivative stands on, each of which has a line."""
    program, shares = adjoints.program, adjoints.shares[parameter]
    parts = (part for share in shares for part in (share.outer, share.inner))
    direct = set[str]().union(*map(names_in, parts))
    needed = direct.union(*map(program.ancestors, direct)) & set(adjoints.quantity_of)
    definitions = (program.by_name[signal].definition for signal in needed)
    return sum(weight(one) for one in definitions if isinstance(one, Expression))
