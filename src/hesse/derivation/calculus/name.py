"""The names of quantities, taken apart: z3, a3, δ3, S2,3, D2→3, ∂pool/∂a. No other module reads or
writes what they are made of."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import count

_BETWEEN = {"S": ",", "D": "→"}  # the sign between the two that a name is of and by
_PRIME = "′"


@dataclass(frozen=True)
class Name:
    """A name with its parts; ``str(name)`` is the key under which a program knows it.

    Attributes:
        base: z, a, δ, S, D or ∂; any other name whole.
        layer: of z, a, δ and S: 3, or (fc1), or another quantity.
        of: of S, D and ∂ instead: what is differentiated.
        by: and by what.
        primes: how many, where the name without them meant something else already.

    Examples:
        >>> Name.read("D2→3")
        Name(base='D', layer='', of='3', by='2', primes=0)
        >>> str(Name("S", of="2", by="3")), str(Name("∂", of="pool(a)", by="a"))
        ('S2,3', '∂pool(a)/∂a')
    """

    base: str
    layer: str = ""
    of: str = ""
    by: str = ""
    primes: int = 0

    @property
    def ends(self) -> tuple[str, ...]:
        """What stands behind the base, in the order in which it is written."""
        if not self.of:
            return (self.layer,)
        return (self.by, self.of) if self.base == "D" else (self.of, self.by)

    def __str__(self) -> str:
        if self.base == "∂":
            return f"∂{self.of}/∂{self.by}"
        return self.base + _BETWEEN.get(self.base, "").join(self.ends) + _PRIME * self.primes

    @classmethod
    @cache
    def read(cls, key: str) -> "Name":
        """The parts of a name."""
        base, (of, slash, by) = key[:1], key[1:].rpartition("/∂")
        # The last ∂ below is the outermost derivative: ∂∂a/∂b/∂c is that of ∂a/∂b by c.
        if base == "∂" and slash:
            return cls("∂", of=of, by=by)
        # The primes belong to the whole name, not to its last part.
        rest = key[1:].rstrip(_PRIME)
        primes = len(key) - 1 - len(rest)
        if base in _BETWEEN and (place := _outside(rest, _BETWEEN[base])) > 0:
            first, second = rest[:place], rest[place + 1 :]
            of, by = (second, first) if base == "D" else (first, second)
            return cls(base, of=of, by=by, primes=primes)
        # A name such as alpha is no activation of a layer called lpha.
        numbered = base in ("z", "a") and (rest.isdigit() or rest.startswith("("))
        return cls(base, rest, primes=primes) if numbered or base in ("δ", "S") else cls(key)

    @property
    def place(self) -> str:
        """The layer of a z or an a; of any other quantity the name itself."""
        numbered = self.base in ("z", "a") and self.layer and not self.primes
        return self.layer if numbered else str(self)

    @property
    def signal(self) -> "Name":
        """The δ of a quantity: δ3 of z3, δa3 of a3, δu1 of u1."""
        return Name("δ", self.layer if self.base == "z" and self.layer else str(self))

    @property
    def derivative(self) -> tuple[str, tuple[str, ...]] | None:
        """What the name of a derivative is of, and by what in turn; None of any other name.

        Examples:
            >>> Name.read("∂∂pool(a)/∂a/∂a").derivative, Name.read("a").derivative
            (('pool(a)', ('a', 'a')), None)
        """
        if self.base != "∂" or not self.of:
            return None
        of, by = Name.read(self.of).derivative or (self.of, ())
        return of, (*by, self.by)

    def any(self, place: str, letter: str) -> "Name":
        """The name of an S or a D with a letter for one place; of a D, where it comes from."""
        if self.base in _BETWEEN and self.by == place:
            return replace(self, by=letter)
        return replace(self, of=letter) if self.base == "S" and self.of == place else self


def primed(name: Name) -> Iterator[str]:
    """S3, S3′, S3′′ …: what a name is called where others have it already."""
    return (str(replace(name, primes=primes)) for primes in count())


def _outside(text: str, sign: str) -> int:
    """Where a sign stands outside all parentheses, as in ``(fc,2),(fc,3)``; -1 where it does
    not."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == sign and depth == 0:
            return place
    return -1
