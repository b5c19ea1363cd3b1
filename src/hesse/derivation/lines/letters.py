"""Names for indices: each letter stands for one size throughout a derivation, as the program itself
began it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from hesse.derivation.calculus.expression import (
    Entry,
    Expression,
    Factor,
    Index,
    Partial,
    Size,
    Term,
    indices,
    own_indices,
    rebuilt,
    rename_factor,
    sums,
)
from hesse.derivation.calculus.picking import Picker, numbered
from hesse.derivation.calculus.program import Definition, Program, nodes_of

# What a second index over the same range is called where one is needed: q beside o, k beside i.
PARTNER = {"o": "q", "i": "k", "p": "r", "j": "l", "n": "m", "k": "i", "q": "o"}
SPARE = "stuvwmnlghbcdea"


class Letters:
    """The index letters of one program."""

    def __init__(self, program: Program) -> None:
        self._own: dict[Size, list[str]] = {}
        for quantity in program.quantities:
            for index in (*quantity.indices, *_standing(quantity.definition)):
                names = self._own.setdefault(index.size, [])
                if index.name not in names:
                    names.append(index.name)
        self._used = {name for names in self._own.values() for name in names}

    def pick(self, index: Index, taken: set[str]) -> Index:
        """An index of the same size with a name that is not taken, which is added to those
        taken."""
        letters = self._own.get(index.size, [])
        # First the letters that a reader pairs with those of this size, then any that means no
        # other size.
        partners = [PARTNER[name] for name in (index.name, *letters) if name in PARTNER]
        spare = [
            letter
            for letter in (*partners, *SPARE)
            if letter not in self._used or letter in letters
        ]
        choices = [*([index.name] if index.name in letters else []), *letters, *spare]
        return Index(Picker(taken).pick(numbered(choices, 2)), index.size)

    def beside(self, entry: Entry, taken: set[str]) -> Entry:
        """The entry with index names that are not taken, where possible partners of its own."""
        standing = {index.name for index in entry.indices}
        names, indices = set(taken), []
        for index in entry.indices:
            if index.name not in taken:
                names.add(index.name)
                indices.append(index)
                continue
            partner = PARTNER.get(index.name, "")
            free = (
                partner
                and partner not in names | standing
                and (partner not in self._used or partner in self._own.get(index.size, ()))
            )
            picked = (
                Index(partner, index.size)
                if free
                else self.pick(Index("", index.size), names | standing)
            )
            names.add(picked.name)
            indices.append(picked)
        return Entry(entry.name, tuple(indices))

    def nice(self, expression: Expression, free: Iterable[Index] = ()) -> Expression:
        """The expression with each bound index named by a letter of its size, none that means
        something else there."""
        names = {index.name for index in free}
        return rebuilt(expression, lambda term: self._nice(term, names))

    def _nice(self, term: Term, free: set[str]) -> Term:
        taken = free | {index.name for index in indices(term)}
        if term.bound:
            names = set(taken)
            # A letter that fits stays; only the others are picked anew.
            keep = {
                i: i
                for i in term.bound
                if i.name in self._own.get(i.size, ()) and i.name not in names
            }
            names |= {index.name for index in keep}
            to = {index: keep.get(index) or self.pick(index, names) for index in term.bound}
            if len(keep) < len(term.bound):
                term = _relettered(term, to)
        # Sums within factors may not use a letter of the sums around them.
        seen = taken | {index.name for index in term.bound}
        return rebuilt(term, lambda factor: self._within(factor, seen))

    def _within(self, factor: Factor, seen: set[str]) -> Factor:
        """A factor whose own sums run over no letter that is seen around it."""
        # What is still to be differentiated stays as it is written.
        if isinstance(factor, Partial) or not sums(factor):
            return factor
        return rebuilt(
            factor,
            lambda part: (
                self._beneath(part, seen)
                if isinstance(part, Expression)
                else self._within(part, seen)
            ),
        )

    def _beneath(self, body: Expression, seen: set[str]) -> Expression:
        return rebuilt(body, lambda term: self._term_beneath(term, seen))

    def _term_beneath(self, term: Term, seen: set[str]) -> Term:
        # Only where one clashes: else the letters that the definition began with stay.
        if any(index.name in seen for index in term.bound):
            return self._nice(term, seen)
        further = seen | {index.name for index in (*indices(term), *term.bound)}
        return rebuilt(term, lambda factor: self._within(factor, further))


def _relettered(term: Term, to: Mapping[Index, Index]) -> Term:
    """A term with other letters for what it sums over."""
    # By way of names that nothing has, so that two indices can change places.
    away = {index: Index(f"*{place}", index.size) for place, index in enumerate(term.bound)}
    back = {away[index]: to[index] for index in term.bound}
    factors = tuple(rename_factor(rename_factor(factor, away), back) for factor in term.factors)
    return replace(term, factors=factors, bound=tuple(to[index] for index in term.bound))


def _standing(definition: Definition) -> Iterator[Index]:
    """The free indices of the factors of a definition, as often as they stand there."""
    factors = (node for node in nodes_of(definition) if not isinstance(node, Term))
    return (index for node in factors for index in own_indices(node))
