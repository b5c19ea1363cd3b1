"""Columns: rows of the Hessian by Hessian-vector products, parameter after parameter, for what is
not contracted.

Where the product is traced it is one-sided: it is restricted to the tangents of the parameter, and
to the rows that are asked for, those of the parameters after it; symmetry brings the others. Where
it cannot be traced one gradient is kept with its graph, for all parameters, and the way back from
each of its parts ends at those rows too.
"""

import itertools
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor
from torch.func import vmap

from hesse.certificates.drawing import drawn, generator
from hesse.curvatures.hessian import HESSIAN
from hesse.data.batch import Batch
from hesse.derivatives import DoubleBackward, KeptGradient, Tensors
from hesse.process.circumstances import is_interrupted
from hesse.products.agreement import difference
from hesse.products.linearize import StraightLine, straight_line
from hesse.products.terms import Term, batch_term, penalty_term

if TYPE_CHECKING:
    from hesse.cost import Cost

# Of many tangents in some parameters, (k, *shape) each, -> (k, *b.shape) for chosen parameters b.
Products = Callable[[Tensors], Tensors]
# For each parameter the others whose blocks with it are asked for.
Rows = Mapping[str, Sequence[str]]
# For all parameters, or for each.
Width = int | Mapping[str, int]
# At most this many products go side by side: by then what starting an operation costs is a small
# share of theirs.
WIDEST = 256


def rows_asked(names: Sequence[str], wanted: Collection[tuple[str, str]]) -> Rows:
    """What is asked of each of some parameters in turn: its blocks among those wanted, without
    those that one before it brings."""
    others: dict[str, dict[str, None]] = {name: {} for name in names}
    for pair in wanted:
        bringing = min((name for name in names if name in pair), key=names.index, default=None)
        if bringing is not None:
            others[bringing][pair[1] if pair[0] == bringing else pair[0]] = None
    return {name: tuple(found) for name, found in others.items() if found}


def rows(
    cost: "Cost",
    asked: Rows,
    batch: Batch | None,
    width: Width,
    singly: AbstractSet[str] = frozenset(),
    traced: bool = False,
    together: bool = False,
    ranges: Mapping[str, slice] | None = None,
) -> Iterator[tuple[str, slice, dict[str, Tensor]]]:
    """Rows of one batch's share of the Hessian, some at a time.

    Args:
        cost: the cost.
        asked: what of it.
        batch: the batch.
        width: how many products go side by side, with tangents in each parameter.
        singly: the parameters whose products are taken one by one.
        traced: whether the product is traced, where it can be.
        together: whether the products of all parameters go side by side, and not of each its own.
        ranges: some entries of each parameter, whose rows alone are made; by default all. Not with
            ``together``.

    Yields:
        The parameter, its entries, and for every b asked for the rows as (rows, *b.shape).
    """
    form = None if batch is None else (batch.size, batch.signature)
    term = batch_term(cost, batch)
    yield from _rows(cost, asked, term, form, width, singly, traced, together, ranges)


def penalty_rows(
    cost: "Cost", asked: Rows, ranges: Mapping[str, slice] | None = None
) -> Iterator[tuple[str, slice, dict[str, Tensor]]]:
    """Likewise for the Hessian of the penalty."""
    yield from _rows(cost, asked, penalty_term(cost), "penalty", WIDEST, ranges=ranges)


def _rows(
    cost: "Cost",
    asked: Rows,
    term: Term,
    form: Hashable,
    width: Width,
    singly: AbstractSet[str] = frozenset(),
    traced: bool = False,
    together: bool = False,
    ranges: Mapping[str, slice] | None = None,
) -> Iterator[tuple[str, slice, dict[str, Tensor]]]:
    products = TermProducts(cost, term, form, traced)
    for names in [tuple(asked)] if together else [(name,) for name in asked]:
        others = tuple(dict.fromkeys(other for name in names for other in asked[name]))
        chosen = _CheckedProducts(products, names, others, not singly.isdisjoint(names))
        moved = [cost.parameters[name] for name in names]
        edges = [0, *itertools.accumulate(parameter.numel() for parameter in moved)]
        some = slice(0, edges[-1]) if ranges is None else ranges[names[0]]
        step = width if isinstance(width, int) else width[names[0]]
        for start in range(some.start, some.stop, step):
            stop = min(some.stop, start + step)
            parts = dict(zip(others, chosen(_units(moved, start, stop)), strict=True))
            for name, low, high in zip(names, edges, edges[1:], strict=False):
                first, last = max(low, start), min(high, stop)
                if first < last:
                    rows = slice(first - start, last - start)
                    of_name = {other: parts[other][rows] for other in asked[name]}
                    yield name, slice(first - low, last - low), of_name


def _units(parameters: Tensors, start: int, stop: int) -> Tensors:
    """Some of the unit vectors of some parameters, one after another, each parameter's part of
    them."""
    sizes = [parameter.numel() for parameter in parameters]
    basis = parameters[0].new_zeros(stop - start, sum(sizes))
    basis.diagonal(start).fill_(1)
    return [
        part.to(parameter.dtype).reshape(-1, *parameter.shape)
        for part, parameter in zip(basis.split(sizes, 1), parameters, strict=True)
    ]


@final
class TermProducts:
    """Products with the Hessian of one term, in the ways that there are.

    Args:
        cost: the cost.
        term: what is differentiated.
        form: of its batch: some ways are right for one and not for another.
        traced: whether the product is traced, where it can be.
    """

    def __init__(self, cost: "Cost", term: Term, form: Hashable, traced: bool) -> None:
        self._cost, self._term, self._traced = cost, term, traced
        # What is traced has one way more, to be tried as well.
        self.key = cost.curvature, form, traced

    @cached_property
    def line(self) -> StraightLine | None:
        """The traced product, what does not depend on v computed once for all parameters."""
        trusted = self._cost.captures.setdefault("straight lines", set())
        return straight_line(self._term, trusted) if self._traced else None

    @cached_property
    def source(self) -> "KeptGradient | Term":
        """What the other products are made from."""
        return source_of(self._term)

    def ways(self, names: Sequence[str], others: Sequence[str]) -> list[Callable[[], Products]]:
        """The ways for tangents in some parameters, the fastest first."""
        index = self._cost.layout.index
        moving, places = list(map(index, names)), list(map(index, others))
        line = self.line
        first = [] if line is None else [lambda: one_sided(line, moving, places)]
        return [
            *first,
            lambda: side_by_side(self.source, moving, places),
            lambda: one_by_one(self.source, moving, places),
        ]

    @property
    def tried(self) -> dict[Hashable, int]:
        """How many of the slowest ways were found right, by what was asked; kept with the cost's
        model."""
        return self._cost.captures.setdefault("columns", {})


class _CheckedProducts:
    """Products with tangents in some parameters, by the fastest way that is right.

    Args:
        products: of the term.
        names: the parameters; a single one where the product is traced.
        others: those whose parts are asked for.
        singly: take them one by one.
    """

    def __init__(
        self, products: TermProducts, names: Sequence[str], others: Sequence[str], singly: bool
    ) -> None:
        self._ways = products.ways(names, others)
        self._tried, self._key = products.tried, (products.key, tuple(names), tuple(others))
        if singly:
            del self._ways[:-1]
        elif self._key in self._tried:
            del self._ways[: -self._tried[self._key]]
        self._chosen: Products | None = None

    def __call__(self, tangents: Tensors) -> Tensors:
        while len(self._ways) > 1:
            try:
                self._chosen = self._chosen or self._ways[0]()
                products = [part.detach() for part in self._chosen(tangents)]
                if self._are_right(tangents, products):
                    return products
            # An operation without a batching rule; what fails one by one as well is raised there.
            except RuntimeError as error:
                if is_interrupted(error):
                    raise
            self._chosen = None
            del self._ways[0]
        self._chosen = self._chosen or self._ways[0]()
        return self._chosen(tangents)

    def _are_right(self, tangents: Tensors, products: Tensors) -> bool:
        """Tried once, on a random sum of them: where the first is right the second need not be."""
        if self._tried.get(self._key) == len(self._ways):
            return True
        weights = drawn(tangents[0].new_empty(len(tangents[0])), generator())
        total, summed = (
            [torch.tensordot(weights.to(part.dtype), part, 1)[None] for part in parts]
            for parts in (tangents, products)
        )

        def plain() -> Tensors:
            return self._ways[-1]()(total)

        right = difference(summed, plain(), plain) is None
        self._tried[self._key] = len(self._ways) - (not right)
        return right


def one_sided(line: StraightLine, moving: Sequence[int], others: Sequence[int]) -> Products:
    """Products with unit tangents in the one parameter at a place by the traced product, restricted
    to them and to the parts of others."""
    (place,) = moving
    side, order = line.side(place, frozenset(others)), sorted(others)

    def products(tangents: Tensors) -> Tensors:
        (tangent,) = tangents
        parts = dict(zip(order, side(tangent), strict=True))
        return [parts[other] for other in others]

    return products


def source_of(term: Term) -> KeptGradient | Term:
    """What products with a term are made from, once for all parameters: its gradient, or the term
    itself for another curvature than H, which is made of other derivatives too."""
    if term.curvature is HESSIAN:
        return KeptGradient(term.function, term.theta)
    return term


def side_by_side(
    source: KeptGradient | Term, moving: Sequence[int], others: Sequence[int]
) -> Products:
    """Products with tangents in the parameters at some places, all in one call. (Not by
    `torch.func`, whose transforms take up to a third longer.)"""
    if isinstance(source, KeptGradient):
        return lambda tangents: source.side_by_side(moving, others, tangents)
    product = source.product(DoubleBackward(), moving)

    def chosen(tangents: Tensors) -> Tensors:
        parts = product(tangents)
        return [parts[other] for other in others]

    return vmap(chosen)


def one_by_one(
    source: KeptGradient | Term, moving: Sequence[int], others: Sequence[int]
) -> Products:
    """The same, each in plain autograd."""
    if isinstance(source, KeptGradient):
        return lambda tangents: source.one_by_one(moving, others, tangents)
    product = source.product(DoubleBackward(), moving)

    def products(tangents: Tensors) -> Tensors:
        each = [product(list(tangent)) for tangent in zip(*tangents, strict=True)]
        return [torch.stack([parts[other] for parts in each]).detach() for other in others]

    return products
