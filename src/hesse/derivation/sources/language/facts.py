"""What is given of the data of a cost besides their shapes.

- ``"Omega == 1"``: every entry is this number
- ``"sum(y) == 1"``: the entries along the last axis add to it
- ``"l > 0"``: every entry is positive; a square matrix is positive definite
- ``"A == A.T"``, ``"A == diag(diag(A))"``, ``"Q.T @ Q == eye(n)"``: symmetric, diagonal, orthogonal
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hesse.derivation.calculus.structures import (
    DEFINITE,
    DIAGONAL,
    ORTHOGONAL,
    POSITIVE,
    SYMMETRIC,
    Structure,
)
from hesse.derivation.sources.language.parsing import parse
from hesse.derivation.sources.language.shapes import Shapes
from hesse.derivation.sources.language.tree import (
    Binary,
    FunctionCall,
    Negative,
    Number,
    Symbol,
    Transpose,
    Tree,
)
from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError, nearest

_FORMS = (
    "'Omega == 1', 'sum(y) == 1', 'l > 0', 'A == A.T', 'A == diag(diag(A))' and 'Q.T @ Q == eye(n)'"
)


@dataclass(frozen=True)
class GivenFacts:
    """What is given, by the names of arrays.

    Attributes:
        fixed: the number that every entry is.
        sums: the number that the entries along an axis add to, and the axis as it was given.
        structures: what an array is.
    """

    fixed: dict[str, Fraction] = field(default_factory=dict)
    sums: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    structures: dict[str, Structure] = field(default_factory=dict)

    @property
    def positive(self) -> frozenset[str]:
        """The arrays whose entries are."""
        return frozenset(name for name, is_ in self.structures.items() if is_.positive)

    def check(self, shapes: Shapes, parameters: Sequence[str]) -> None:
        """Hold the facts against the shapes. A square matrix above zero is positive definite.

        Raises:
            HesseValueError: something is given of a parameter, or of an array of another shape.
        """
        for name in (*self.fixed, *self.sums, *self.structures):
            if name in parameters and not self._holds_of_a_parameter(name, shapes):
                raise HesseValueError(
                    f"given says something of {name!r}, which is in wrt and varies; leave it out of"
                    " one of them"
                )
        _check_fixed(self.fixed, shapes)
        _check_sums(self.sums, shapes)
        for name, structure in self.structures.items():
            shape = shapes.leaves[name]
            square = len(shape) == 2 and len(set(shape)) == 1
            if structure is POSITIVE and square:
                self.structures[name] = DEFINITE
            elif structure is not POSITIVE and not square:
                raise HesseValueError(
                    f"given says of {name!r} what holds for a square matrix, and its shape is"
                    f" ({', '.join(map(str, shape))}); declare it, such as {name}[n,n]"
                )

    def _holds_of_a_parameter(self, name: str, shapes: Shapes) -> bool:
        """Whether a parameter with the fact may still vary in every direction, as a positive one
        may."""
        structure = self.structures.get(name)
        square = len(shapes.leaves[name]) == 2 and len(set(shapes.leaves[name])) == 1
        return structure is POSITIVE and not square


def given_facts(given: Any, occurring: Sequence[str]) -> GivenFacts:
    """Reads facts.

    Args:
        given: one as text, or several.
        occurring: the names of the arrays in the cost.

    Raises:
        HesseError: something else than facts, or a name that does not occur.

    Examples:
        >>> facts = given_facts(["sum(y) == 1", "A == A.T"], ["y", "A"])
        >>> facts.sums, facts.structures["A"].fact
        ({'y': (1, None)}, 'A = Aᵀ')
    """
    if not isinstance(given, Iterable):
        raise HesseTypeError(
            f"given must be facts, such as 'sum(y) == 1', as text or in a list; got {given!r}"
        )
    facts = GivenFacts()
    for fact in [given] if isinstance(given, str) else given:
        if not isinstance(fact, str):
            raise HesseTypeError(f"given must hold text, such as 'sum(y) == 1'; got {fact!r}")
        name = _read(fact, facts)
        if name not in occurring:
            known = nearest(name, list(occurring))
            raise HesseKeyError(
                f"given names {name!r}, which does not occur in the expression; there are {known}"
            )
    return facts


def _read(fact: str, facts: GivenFacts) -> str:
    """Adds one fact, and gives the name of the array."""
    sides = re.split(r"(==|>)", fact, maxsplit=1)
    if len(sides) != 3:
        raise HesseValueError(f"given holds {fact!r}; a fact is written like one of {_FORMS}")
    left, sign, right = parse(sides[0]), sides[1], parse(sides[2])
    number = _number(right)
    match left, sign, right:
        case Symbol(name), "==", _ if number is not None:
            facts.fixed[name] = number
        case FunctionCall("sum", Symbol(name), axis), "==", _ if (
            number is not None and number.denominator == 1
        ):
            facts.sums[name] = int(number), axis
        case Symbol(name), ">", _ if number == 0:
            facts.structures[name] = POSITIVE
        case (Symbol(name), "==", Transpose(Symbol(other))) | (
            Transpose(Symbol(name)),
            "==",
            Symbol(other),
        ) if name == other:
            # Who says both A > 0 and A == A.T means a positive definite matrix.
            facts.structures.setdefault(name, SYMMETRIC)
        case Symbol(name), "==", FunctionCall("diag", FunctionCall("diag", Symbol(other))) if (
            name == other
        ):
            facts.structures[name] = DIAGONAL
        case (Binary("@", Transpose(Symbol(name)), Symbol(other)), "==", FunctionCall("eye")) | (
            Binary("@", Symbol(name), Transpose(Symbol(other))),
            "==",
            FunctionCall("eye"),
        ) if name == other:
            facts.structures[name] = ORTHOGONAL
        case _:
            raise HesseValueError(f"given holds {fact!r}; what can be given is {_FORMS}")
    return name


def _check_fixed(fixed: Mapping[str, Fraction], shapes: Shapes) -> None:
    others = {size for name, shape in shapes.leaves.items() if name not in fixed for size in shape}
    for name in fixed:
        for size in shapes.leaves[name]:
            if isinstance(size, str) and size not in others:
                raise HesseValueError(
                    f"given replaces {name!r} by a number, and no other array has its size {size};"
                    " declare its shape"
                )


def _check_sums(sums: Mapping[str, tuple[int, int | None]], shapes: Shapes) -> None:
    for name, (number, axis) in sums.items():
        axes = len(shapes.leaves[name])
        if not axes:
            raise HesseValueError(
                f"given names the sum of {name!r}, which is a scalar; write '{name} == {number}'"
            )
        if axis not in (None, -1, axes - 1):
            raise HesseValueError(
                f"given names the sum of {name!r} along axis {axis}; it can be that along the last"
                f" axis, {axes - 1}"
            )


def _number(tree: Tree) -> Fraction | None:
    match tree:
        case Number(value):
            return value
        case Negative(Number(value)):
            return -value
    return None
