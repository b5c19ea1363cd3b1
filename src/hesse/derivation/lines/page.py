"""The page that a derivation is written on: its program, which grows by each name it gives, its
letters, and its lines."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hesse.derivation.calculus.expression import (
    Delta,
    Entry,
    Expression,
    Factor,
    Index,
    Partial,
    freshened,
    indices,
)
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.normal_form import simplify, weight
from hesse.derivation.calculus.program import Program, mentioned
from hesse.derivation.lines.adjoints import Adjoints
from hesse.derivation.lines.letters import Letters
from hesse.derivation.lines.records import Line, numbered
from hesse.derivation.lines.repeated import once
from hesse.display import counted
from hesse.errors import HesseValueError

BACKWARD = ("delta", "curvature", "transport", "slope")
# Symbols and signs of one side of a line: some pages of print. A product of n sums has derivatives
# of n² terms with n factors each.
HEAVIEST = 2**12
# What is put together comes to a tenth of its symbols at the shortest, and takes seconds from here
# on.
UNSORTED = 2**14


@dataclass
class Page:
    """What is known while the lines of a derivation are written.

    Attributes:
        program: grows by each S and D that gets a name.
        adjoints: the first derivatives.
        lines: of the block that is being written.
        branch: the letter of the branch that is being written, or "".
        bounded: whether lines that are too long to read are refused.
        most: symbols and signs that all lines and names may have together; None: any number.
        repeats: whether lines that say the same at each step of a network are written once; of all
            that are made there may be twice as many.
        written: symbols and signs of all so far; ``folded``, those of lines that others stand for.
    """

    program: Program
    adjoints: Adjoints
    lines: list[Line] = field(default_factory=list)
    branch: str = ""
    count: int = 0
    bounded: bool = False
    most: int | None = None
    repeats: bool = False
    written: int = 0
    folded: int = 0

    def __post_init__(self) -> None:
        self.letters = Letters(self.program)
        # The S of a quantity with itself: which of its indices can change places, all pairs
        # together.
        self.symmetric: dict[str, list[tuple[int, int]]] = {}

    def symmetric_in(
        self, entry: Entry, first: tuple[Index, ...], second: tuple[Index, ...]
    ) -> None:
        """Note that an array keeps its values when two lists of indices change places, as far as it
        still has them."""
        both = [(a, b) for a, b in zip(first, second, strict=True) if b in entry.indices]
        self.symmetric[entry.name] = [
            (entry.indices.index(a), entry.indices.index(b)) for a, b in both
        ]

    def begin(self) -> None:
        """A new block."""
        self.lines, self.branch, self.count = [], "", 0

    def enter(self, branch: str) -> None:
        """Lines from here on are counted within a branch, or after all branches where it is ""."""
        self.branch = branch
        # After the branches the count goes on where it was before them.
        self.count = 0 if branch else numbered(self.lines)

    def write(
        self,
        rule: str,
        before: Expression,
        after: Expression,
        reason: str = "",
        name: Entry | None = None,
        marks: tuple[str, ...] = (),
    ) -> None:
        """One line more."""
        self.count += 1
        # Both sides name the same entries, so the letters of the left are not given to sums on
        # the right.
        free = indices(before)
        left, right = self.letters.nice(before, free), self.letters.nice(after, free)
        self.spend(weight(left) + weight(right))
        self.lines.append(
            Line(f"{self.branch}{self.count}", rule, left, right, reason, name, marks)
        )

    def done(self) -> tuple[Line, ...]:
        """The lines of the block or slope that is written now."""
        if not self.repeats:
            return tuple(self.lines)
        lines = once(self.lines, self.program)
        self.folded += sum(
            weight(other.before) + weight(other.after) for line in lines for other in line.likewise
        )
        self._require_few(self.written - self.folded, self.most)
        return lines

    def spend(self, symbols: int) -> None:
        """Note what is written, a line or the definition of a name.

        Raises:
            HesseValueError: all together are more than may be written.
        """
        self.written += symbols
        self.require_room()

    def require_room(self, more: float = 0) -> None:
        """Refuse what is written together with what will be, before repeats go.

        Raises:
            HesseValueError: it is more than may be written.
        """
        # What is folded is not read, but made and certified.
        self._require_few(self.written + more, self.most and self.most * (2 if self.repeats else 1))

    def _require_few(self, symbols: float, most: int | None) -> None:
        if most is not None and symbols > most:
            name, shares = max(self.adjoints.shares.items(), key=lambda pair: len(pair[1]))
            made = sum(quantity.role not in BACKWARD for quantity in self.program.quantities)
            raise HesseValueError(
                f"derive: {self.program.cost.name} is made of {made:,} quantities, and {name}"
                f" enters at {counted(len(shares), 'place')}: the lines of their derivatives have"
                f" more than {most:,} symbols, the most that are written. A model of fewer steps or"
                " layers has the same formulas: derive that, or name fewer parameters with wrt=;"
                " certify=False writes them all the same"
            )

    def simplified(
        self, expression: Expression, prefer: tuple[Index, ...] = (), last: tuple[Index, ...] = ()
    ) -> Expression:
        """The expression simplified, its factors in reading order, and S[o,q] rather than its equal
        S[q,o].

        Args:
            expression: what to simplify.
            prefer: of two indices that are equal, the one to write; and where to begin to read.
            last: indices that come after all those that are summed over.
        """
        prefer = (*prefer, *last)
        # Summed indices rank len(place): those in ``last`` come after them.
        place = {
            index: k if index not in last else len(prefer) + k for k, index in enumerate(prefer)
        }
        # A free index that a term does not have must not be caught by one that it sums over.
        free = {index.name for index in prefer}
        self.require_short(expression, UNSORTED)
        simple = simplify(freshened(expression, free), facts(self.program), prefer)
        self.require_short(simple)
        turned = Expression(
            tuple(
                replace(term, factors=tuple(self._upright(f, place) for f in term.factors))
                for term in simple.terms
            )
        )
        return in_reading_order(turned, prefer)

    def _upright(self, factor: Factor, place: Mapping[Index, int]) -> Factor:
        """An entry of a symmetric array with the index first that comes first."""
        if not isinstance(factor, Entry) or factor.name not in self.symmetric:
            return factor
        pairs = self.symmetric[factor.name]
        first, second = ([factor.indices[pair[side]] for pair in pairs] for side in (0, 1))
        if [place.get(i, len(place)) for i in first] <= [place.get(i, len(place)) for i in second]:
            return factor
        order = list(factor.indices)
        for a, b in pairs:
            order[a], order[b] = order[b], order[a]
        return Entry(factor.name, tuple(order))

    def require_short(self, expression: Expression, most: int = HEAVIEST) -> None:
        """Refuse what is too long to be read, where that is asked for.

        Raises:
            HesseValueError: it is.
        """
        if self.bounded and (size := weight(expression)) > most:
            raise HesseValueError(
                f"derive: a line has {len(expression.terms)} terms and {size:,} symbols; at most"
                f" {most:,} are written. Products of many factors with the same parameter are"
                " short as a sum of logarithms, or split; certify=False writes them all the same"
            )

    def users(self, name: str) -> list[str]:
        """The forward quantities that mention a name and lead on to the cost."""
        cost = self.program.cost.name
        return [
            q.name
            for q in self.program.quantities
            if q.role not in BACKWARD
            and name in q.mentions
            and (q.name == cost or q.name in self.program.ancestors(cost))
        ]

    def through(self, name: str) -> str:
        """By which of them a name acts on the cost, in words."""
        users = self.users(name)
        others = [user for user in users if user != self.program.cost.name]
        return listed(
            [
                *((f"through {listed(others)}",) if others else ()),
                *(("directly",) if len(others) < len(users) else ()),
            ]
        )

    def example(self, parameters: tuple[str, ...]) -> list[tuple[str, str]]:
        """A mixed block of two matrices far enough apart to show both kinds of term, where there is
        one."""
        # Matrices where there are any: the blocks of biases are the same with fewer factors.
        rank = {name: len(self.program.shape(name)) for name in parameters}
        matrices = [name for name in parameters if rank[name] >= 2 and self.users(name)] or list(
            parameters
        )
        pairs = [(matrices[0], name) for name in matrices[1:]]
        fed = [
            (first, other)
            for first, other in pairs
            if any(
                user == below or below in self.program.ancestors(user)
                for below in self.users(first)[:1]
                for user in self.users(other)
            )
        ]
        # W1 with W3 where there is one: a layer lies between the two.
        return (fed or pairs)[1:2] or (fed or pairs)[:1]

    def way(self, below: str, above: str) -> list[str]:
        """The forward quantities on the shortest way from one name up to another, both left out."""
        ways: dict[str, list[str]] = {below: []}
        for quantity in self.program.quantities:
            reached = [ways[name] for name in mentioned(quantity.definition) if name in ways]
            if reached and quantity.name not in ways:
                ways[quantity.name] = [*min(reached, key=len), quantity.name]
        return [
            n
            for n in ways.get(above, [])
            if n != above and self.program.by_name[n].role not in BACKWARD
        ]


def in_reading_order(expression: Expression, start: tuple[Index, ...]) -> Expression:
    """Factors that share an index beside each other, from the first of ``start`` on: W2[p,o] S3_p
    W2[p,q], not any mixture.

    Numbers come first, conditions on indices last. Of like terms, A + Aᵀ rather than Aᵀ + A.
    """
    terms = [
        term
        if any(isinstance(f, Partial) for f in term.factors)
        else replace(term, factors=_chained(term.factors, start))
        for term in expression.terms
    ]
    # Terms of the same names differ in their indices alone, as A and Aᵀ do.
    if len({mentioned(term) for term in terms}) == 1:
        place = {index: k for k, index in enumerate(start)}
        terms.sort(
            key=lambda term: [
                place.get(index, len(place)) for factor in term.factors for index in indices(factor)
            ]
        )
    return Expression(tuple(terms))


def _chained(factors: tuple[Factor, ...], start: tuple[Index, ...]) -> tuple[Factor, ...]:
    scalars = [factor for factor in factors if not indices(factor)]
    deltas = [factor for factor in factors if isinstance(factor, Delta)]
    rest = [factor for factor in factors if indices(factor) and not isinstance(factor, Delta)]
    done: list[Factor] = []
    met: list[Index] = []
    while rest:
        # Stay where we are, single-index factors first; else go on from an index already met; else
        # from the next of ``start``.
        along = next(
            (i for i in (*reversed(met), *start) if any(i in indices(f) for f in rest)),
            indices(rest[0])[0],
        )
        nearest = min((f for f in rest if along in indices(f)), key=lambda f: len(indices(f)))
        rest.remove(nearest)
        done.append(nearest)
        met = [*(i for i in met if i != along), along, *(i for i in indices(nearest) if i != along)]
    return (*scalars, *done, *deltas)


def listed(names: Iterable[str]) -> str:
    """a, b and c."""
    *front, last = list(names) or [""]
    return f"{', '.join(front)} and {last}" if front else last
