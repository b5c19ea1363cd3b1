"""How signs look in one format: what a writer of expressions and matrices says about itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from hesse.derivation.calculus.expression import Entry, Factor
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.program import Program

# How tightly a formula binds: what stands inside another and binds less is put in parentheses.
SUM, SUM_OVER, TIMES, QUOTIENT, PRODUCT, RAISED, ATOM = range(7)

Written = tuple[str, int]


class Notation(ABC):
    """One format of formulas. What stands where is said by a rule for each kind of node.

    Args:
        program: whose names are written.

    Attributes:
        barred: whether a quotient has a bar, which holds together what is above it and below.
        several: whether the formula has commutation matrices of several sizes.
        variable: while a derivative not carried out is written, what it is taken in.
    """

    minus, plus = "−", "+"
    transposed, inverse, inverse_transposed = "ᵀ", "⁻¹", "⁻ᵀ"
    kron, hadamard, ones = " ⊗ ", " ∘ ", "1"
    barred = False

    def __init__(self, program: Program) -> None:
        self.program = program
        self.several = False
        self.variable: str | None = None

    # ---------------------------------------------------------------- what rules write with

    @abstractmethod
    def written(self, node: Any) -> Written:
        """A node, and how tightly it binds."""

    @abstractmethod
    def part(self, node: Any, least: int = SUM, last: bool = True) -> str:
        """A node inside another, in parentheses where it binds less than ``least``; a sum over an
        index may stand without them where it is the ``last``."""

    @abstractmethod
    def factor(self, factor: Factor) -> str:
        """One factor of a product, pointed at where a derivative moves it."""

    # ---------------------------------------------------------------- names

    @abstractmethod
    def name(self, name: str, indices: Sequence[str] = ()) -> str:
        """A name, at some indices."""

    @abstractmethod
    def index(self, name: str) -> str:
        """The name of an index."""

    @abstractmethod
    def size(self, size: int | str) -> str:
        """A number, or the letter of one."""

    @abstractmethod
    def function(self, name: str, order: int) -> str:
        """``f''``"""

    @abstractmethod
    def operator(self, name: str, index: str = "") -> str:
        """``diag``, ``blockdiag_n``"""

    @abstractmethod
    def plain(self, text: str) -> str:
        """A short formula of our own in letters, digits and signs."""

    @abstractmethod
    def array_function(self, operation: str, argument: str) -> str:
        """``softmax(z)``"""

    @abstractmethod
    def black_box(self, operation: str, order: int, arguments: Sequence[str]) -> str:
        """``max_pool2d(a)``, a map without a formula, or the symbol of its derivative."""

    @abstractmethod
    def commutation(self, sizes: Sequence[str] = ()) -> str:
        """K, with its sizes for a formula that has several."""

    def sign(self, letter: str, word: str) -> str:
        """The letter of a matrix that every formula can have; a word where the program has a name
        of that letter, as a kernel K."""
        return self.operator(word) if letter in self.program.names else letter

    def symbol(self, name: str) -> str:
        """A name without indices."""
        return self.entry(Entry(name))

    def entry(self, entry: Entry) -> str:
        """``W2[p,o]``"""
        return self.slope(entry) or self.name(entry.name, [index.name for index in entry.indices])

    def slope(self, entry: Entry) -> str | None:
        """``∂pool(a)_k/∂a_i`` for an entry of a named map's derivative, whose indices are those of
        all that it is of and by."""
        names = Name.read(entry.name).derivative
        known = {*self.program.by_name, *self.program.leaves}
        if names is None or not known.issuperset((names[0], *names[1])):
            return None
        rest, parts = entry.indices, []
        for name in (names[0], *names[1]):
            rank = len(self.program.shape(name))
            parts.append(self.entry(Entry(name, rest[:rank])))
            rest = rest[rank:]
        return self.partial(parts[0], parts[1:])

    # ---------------------------------------------------------------- signs

    @abstractmethod
    def number(self, value: Fraction) -> str:
        """A positive rational number."""

    @abstractmethod
    def coefficient(self, value: Fraction) -> str:
        """The same in front of a matrix."""

    @abstractmethod
    def parentheses(self, inside: str) -> str:
        """``(…)``"""

    def grouped(self, inside: str) -> str:
        """The same around matrices."""
        return self.parentheses(inside)

    @abstractmethod
    def absolute(self, inside: str) -> str:
        """``|x|``"""

    @abstractmethod
    def root(self, inside: str) -> str:
        """``√(x)``"""

    @abstractmethod
    def raised(self, base: str, exponent: str) -> str:
        """``x²``"""

    @abstractmethod
    def exponent(self, exponent: Fraction | str, each: bool) -> str:
        """``²`` of a scalar, ``^∘2`` of each entry."""

    def superscript(self, base: str, above: str) -> str:
        """``Aᵀ``"""
        return base + above

    @abstractmethod
    def quotient(self, above: str, below: Sequence[str]) -> str:
        """``a / (b c)``"""

    @abstractmethod
    def ratio(self, above: str, below: Sequence[str], alone: bool) -> str:
        """``(2/n)`` in front of a matrix, ``2/n`` alone."""

    @abstractmethod
    def partial(self, of: str | None, by: Sequence[str], whole: bool = False) -> str:
        """``∂z/∂W``, or ``∂/∂W`` alone; a ``whole`` array has a space between its variables."""

    @abstractmethod
    def summation(self, over: Sequence[str]) -> str:
        """``Σ_p``"""

    @abstractmethod
    def product(self, parts: Sequence[str], dotted: bool = False) -> str:
        """Factors side by side; with dots where a derivative is among them, or where they are
        pointed at."""

    @abstractmethod
    def moving(self, part: str) -> str:
        """A factor that contains the variable of the derivative it stands in."""

    def delta(self, left: str, right: str) -> str:
        """``[i = j]``"""
        return f"[{left} = {right}]"


Rule = Callable[[Any, Notation], Written]
