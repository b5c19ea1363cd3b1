"""Conditions on indices, ``[s = 2u + k − 1]``: constants that are one where the places agree; two
in a row are put into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hesse.derivation.calculus.expression import Entry, Expression, Factor, Index, Term, indices
from hesse.derivation.calculus.normal_form import contract


@dataclass(frozen=True)
class Affine:
    """``head = start + Σ stride · index``.

    Attributes:
        head: the index that the others determine.
        start: a whole number.
        parts: a stride for each of the others.
    """

    head: Index
    start: int
    parts: tuple[tuple[int, Index], ...]

    @property
    def at(self) -> tuple[Index, ...]:
        """The indices, the head first."""
        return (self.head, *(index for _, index in self.parts))

    @property
    def array(self) -> Tensor:
        """One where it holds."""
        right = torch.tensor(self.start)
        for stride, index in self.parts:
            right = right.unsqueeze(-1) + stride * torch.arange(int(index.size))
        left = torch.arange(int(self.head.size)).reshape(-1, *[1] * len(self.parts))
        return (left == right).double()

    @property
    def shown(self) -> str:
        """How it is written, with ``{0}``, ``{1}`` … for the indices."""
        strides = [stride for stride, _ in self.parts]
        sizes = [int(index.size) for _, index in self.parts]
        return f"[{{0}} = {linear(strides, sizes, self.start)}]"

    @property
    def always_inside(self) -> bool:
        """Whether the right-hand side is a place of the head's axis wherever the other indices
        stand."""
        reach = [stride * (int(index.size) - 1) for stride, index in self.parts]
        low = self.start + sum(min(0, step) for step in reach)
        return low >= 0 and self.start + sum(max(0, step) for step in reach) < int(self.head.size)

    @property
    def same_as(self) -> Index | None:
        """The index that the head simply equals."""
        # An index of size 1 is always zero.
        long = [(stride, index) for stride, index in self.parts if index.size != 1]
        if (
            len(long) == 1
            and self.start == 0
            and long[0][0] == 1
            and long[0][1].size == self.head.size
        ):
            return long[0][1]
        return None

    def with_head(self, other: "Affine") -> "Affine":
        """With one of the indices as another condition determines it."""
        strides: dict[Index, int] = {}
        start = self.start
        for stride, index in self.parts:
            if index == other.head:
                start += stride * other.start
                for inner, below in other.parts:
                    strides[below] = strides.get(below, 0) + stride * inner
            else:
                strides[index] = strides.get(index, 0) + stride
        return Affine(self.head, start, tuple((stride, index) for index, stride in strides.items()))


def linear(strides: Sequence[int], sizes: Sequence[int], start: int = 0, first: int = 1) -> str:
    """The text of a sum: ``2{1} + {2} − 1``. Indices that are always zero are left out."""
    shown = [
        f"{'' if stride == 1 else stride}{{{first + k}}}"
        for k, (stride, size) in enumerate(zip(strides, sizes, strict=True))
        if size > 1 and stride
    ]
    if not shown:
        return str(start).replace("-", "−")
    return " + ".join(shown) + (f" {'+' if start > 0 else '−'} {abs(start)}" if start else "")


def composed(term: Term, known: Mapping[str, "Affine"]) -> tuple[list[Affine], Term]:
    """The term without conditions that only lead from one to the next, and the conditions that take
    their place.

    Σ_b [b = 2u] [s = 4b + k] is [s = 8u + k].
    """
    added: list[Affine] = []
    factors: list[Factor | Affine] = [_affine(factor, known) or factor for factor in term.factors]
    bound = list(term.bound)
    for index in term.bound:
        held = [
            factor
            for factor in factors
            if index in (factor.at if isinstance(factor, Affine) else indices(factor))
        ]
        # An index may go where one condition determines it, all others only use it, and no entry
        # has it.
        heads = [factor for factor in held if isinstance(factor, Affine) and factor.head == index]
        rest = [factor for factor in held if isinstance(factor, Affine) and factor.head != index]
        if len(heads) != 1 or not rest or len(held) != 1 + len(rest) or not heads[0].always_inside:
            continue
        factors = [
            (factor.with_head(heads[0]) if any(factor is other for other in rest) else factor)  # pyright: ignore[reportAttributeAccessIssue]
            for factor in factors
            if factor is not heads[0]
        ]
        bound.remove(index)
    added = [factor for factor in factors if isinstance(factor, Affine)]
    return added, replace(
        term, factors=tuple(f for f in factors if not isinstance(f, Affine)), bound=tuple(bound)
    )


def _affine(factor: Factor, known: Mapping[str, Affine]) -> Affine | None:
    """An entry of a condition with its own indices."""
    if not isinstance(factor, Entry) or factor.name not in known:
        return None
    pattern = known[factor.name]
    head, *rest = factor.indices
    return Affine(
        head,
        pattern.start,
        tuple((stride, index) for (stride, _), index in zip(pattern.parts, rest, strict=True)),
    )


def without_deltas(expression: Expression) -> Expression:
    """Without deltas that can be summed away."""
    return Expression(tuple(contract(term) for term in expression.terms))
