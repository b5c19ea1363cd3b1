"""Columns: rows of the Hessian by Hessian-vector products, parameter after parameter, for what is
not contracted.

Where the product is traced it is one-sided: it is restricted to the tangents of the parameter, and
to the rows that are asked for, those of the parameters after it; symmetry brings the others. Where
it cannot be traced one gradient is kept with its graph, for all parameters, and the way back from
each of its parts ends at those rows too.
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor
from torch.func import vmap

from hesse.certificates.drawing import drawn, generator
from hesse.curvatures.hessian import HESSIAN
from hesse.data.batch import Batch
from hesse.derivatives import DoubleBackward, KeptGradient, ReverseOverReverse, Tensors
from hesse.process.circumstances import is_interrupted
from hesse.products.agreement import difference
from hesse.products.linearize import StraightLine, straight_line
from hesse.products.terms import Term, batch_term, penalty_term

if TYPE_CHECKING:
    from hesse.cost import Cost

# Of many tangents in one parameter, (k, *its shape) -> (k, *b.shape) for chosen parameters b.
Products = Callable[[Tensor], Tensors]
# For each parameter the others whose blocks with it are asked for.
Rows = Mapping[str, Sequence[str]]
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
    width: int,
    singly: Collection[str] = (),
    traced: bool = False,
) -> Iterator[tuple[str, slice, dict[str, Tensor]]]:
    """Rows of one batch's share of the Hessian, some at a time.

    Args:
        cost: the cost.
        asked: what of it.
        batch: the batch.
        width: how many products go side by side.
        singly: the parameters whose products are taken one by one.
        traced: whether the product is traced, where it can be.

    Yields:
        The parameter, its entries, and for every b asked for the rows as (rows, *b.shape).
    """
    form = None if batch is None else (batch.size, batch.signature)
    yield from _rows(cost, asked, batch_term(cost, batch), form, width, singly, traced)


def penalty_rows(cost: "Cost", asked: Rows) -> Iterator[tuple[str, slice, dict[str, Tensor]]]:
    """Likewise for the Hessian of the penalty."""
    yield from _rows(cost, asked, penalty_term(cost), "penalty", WIDEST)


def _rows(
    cost: "Cost",
    asked: Rows,
    term: Term,
    form: Hashable,
    width: int,
    singly: Collection[str] = (),
    traced: bool = False,
) -> Iterator[tuple[str, slice, dict[str, Tensor]]]:
    products = TermProducts(cost, term, form, traced)
    for name, others in asked.items():
        parameter = cost.parameters[name]
        size = parameter.numel()
        chosen = _CheckedProducts(products, name, others, name in singly)
        for start in range(0, size, width):
            stop = min(size, start + width)
            basis = torch.zeros(stop - start, size, dtype=parameter.dtype, device=parameter.device)
            basis.diagonal(start).fill_(1)
            parts = chosen(basis.reshape(-1, *parameter.shape))
            yield name, slice(start, stop), dict(zip(others, parts, strict=True))


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

    def ways(self, name: str, others: Sequence[str]) -> list[Callable[[], Products]]:
        """The ways for tangents in a parameter, the fastest first."""
        index = self._cost.layout.index
        place, places = index(name), list(map(index, others))
        line = self.line
        first = [] if line is None else [lambda: one_sided(line, place, places)]
        return [
            *first,
            lambda: side_by_side(self.source, place, places),
            lambda: one_by_one(self.source, place, places),
        ]

    @property
    def tried(self) -> dict[Hashable, int]:
        """How many of the slowest ways were found right, by what was asked; kept with the cost's
        model."""
        return self._cost.captures.setdefault("columns", {})


class _CheckedProducts:
    """Products with tangents in one parameter, by the fastest way that is right.

    Args:
        products: of the term.
        name: the parameter.
        others: those whose parts are asked for.
        singly: take them one by one.
    """

    def __init__(
        self, products: TermProducts, name: str, others: Sequence[str], singly: bool
    ) -> None:
        self._ways = products.ways(name, others)
        self._tried, self._key = products.tried, (products.key, name, tuple(others))
        if singly:
            del self._ways[:-1]
        elif self._key in self._tried:
            del self._ways[: -self._tried[self._key]]
        self._chosen: Products | None = None

    def __call__(self, tangents: Tensor) -> Tensors:
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

    def _are_right(self, tangents: Tensor, products: Tensors) -> bool:
        """Tried once, on a random sum of them: where the first is right the second need not be."""
        if self._tried.get(self._key) == len(self._ways):
            return True
        weights = drawn(tangents.new_empty(len(tangents)), generator())
        total = torch.tensordot(weights, tangents, 1)[None]
        summed = [torch.tensordot(weights, part, 1)[None] for part in products]
        right = difference(summed, lambda: self._ways[-1]()(total)) is None
        self._tried[self._key] = len(self._ways) - (not right)
        return right


def one_sided(line: StraightLine, place: int, others: Sequence[int]) -> Products:
    """Products with unit tangents in the parameter at a place by the traced product, restricted to
    them and to the parts of others."""
    side, order = line.side(place, frozenset(others)), sorted(others)

    def products(tangents: Tensor) -> Tensors:
        parts = dict(zip(order, side(tangents), strict=True))
        return [parts[other] for other in others]

    return products


def source_of(term: Term) -> KeptGradient | Term:
    """What products with a term are made from, once for all parameters: its gradient, or the term
    itself for another curvature than H, which is made of other derivatives too."""
    if term.curvature is HESSIAN:
        return KeptGradient(term.function, term.theta)
    return term


def side_by_side(source: KeptGradient | Term, place: int, others: Sequence[int]) -> Products:
    """Products with tangents in the parameter at a place, all in one call."""
    if isinstance(source, KeptGradient):
        return lambda tangents: source.side_by_side([place], others, [tangents])
    product = source.product(ReverseOverReverse(), [place])

    def chosen(tangent: Tensor) -> Tensors:
        parts = product([tangent])
        return [parts[other] for other in others]

    return vmap(chosen)


def one_by_one(source: KeptGradient | Term, place: int, others: Sequence[int]) -> Products:
    """The same, each in plain autograd."""
    if isinstance(source, KeptGradient):
        return lambda tangents: source.one_by_one([place], others, [tangents])
    product = source.product(DoubleBackward(), [place])

    def products(tangents: Tensor) -> Tensors:
        each = [product([tangent]) for tangent in tangents]
        return [torch.stack([parts[other] for parts in each]).detach() for other in others]

    return products
