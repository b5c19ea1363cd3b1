"""Columns: rows of the Hessian by Hessian-vector products, for parameters that enter in no linear
way. Slower, never wrong."""

from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import vmap

from hesse.certificates.drawing import drawn, generator
from hesse.data.batch import Batch
from hesse.derivatives import DoubleBackward, ReverseOverReverse, Tensors
from hesse.process.circumstances import is_interrupted
from hesse.products.agreement import difference
from hesse.products.terms import Term, batch_term, penalty_term

if TYPE_CHECKING:
    from hesse.cost import Cost

# Of many tangents in one parameter, (k, *its shape) -> (k, *b.shape) for every parameter b.
Products = Callable[[Tensor], Tensors]
# At most this many products share one evaluation of the model: by then what one evaluation costs is
# a small share of theirs.
WIDEST = 256


def rows(
    cost: "Cost", name: str, batch: Batch | None, width: int, singly: bool = False
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Rows H[name, ·] of one batch's share of the Hessian, some at a time.

    Yields:
        The entries of the parameter, and for every parameter b the rows as (rows, *b.shape).
    """
    form = None if batch is None else (batch.size, batch.signature)
    yield from _rows(cost, batch_term(cost, batch), name, form, width, singly)


def penalty_rows(cost: "Cost", name: str) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Likewise for the Hessian of the penalty."""
    yield from _rows(cost, penalty_term(cost), name, "penalty", WIDEST)


def _rows(
    cost: "Cost", term: Term, name: str, form: Hashable, width: int, singly: bool = False
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    parameter = cost.parameters[name]
    size = parameter.numel()
    products = _CheckedProducts(
        term,
        cost.layout.index(name),
        cost.captures.setdefault("columns", {}),
        (cost.curvature, name, form),
        singly,
    )
    for start in range(0, size, width):
        stop = min(size, start + width)
        basis = torch.zeros(stop - start, size, dtype=parameter.dtype, device=parameter.device)
        basis.diagonal(start).fill_(1)
        parts = products(basis.reshape(-1, *parameter.shape))
        yield slice(start, stop), dict(zip(cost.layout.names, parts, strict=True))


class _CheckedProducts:
    """Products with tangents in one parameter: side by side where that works, else one by one in
    plain autograd.

    One evaluation of the gradient serves all tangents.

    Args:
        term: what is differentiated.
        place: of the parameter.
        tried: whether products side by side were right, by the key of what was tried already.
        key: the curvature, the parameter and the form of the batch: some are right for one and not
            for another.
        singly: take them one by one.
    """

    def __init__(
        self, term: Term, place: int, tried: dict[Hashable, bool], key: Hashable, singly: bool
    ) -> None:
        self._term, self._place, self._tried, self._key = term, place, tried, key
        self._chosen: Products | None = one_by_one(term, place) if singly else None
        self._singly = singly

    def __call__(self, tangents: Tensor) -> Tensors:
        if not self._singly:
            try:
                self._chosen = self._chosen or side_by_side(self._term, self._place)
                products = [part.detach() for part in self._chosen(tangents)]
                if self._are_right(tangents, products):
                    return products
            # An operation without a batching rule; what fails one by one as well is raised there.
            except RuntimeError as error:
                if is_interrupted(error):
                    raise
            self._chosen, self._singly = one_by_one(self._term, self._place), True
        assert self._chosen is not None
        return self._chosen(tangents)

    def _are_right(self, tangents: Tensor, products: Tensors) -> bool:
        """Tried once, on a random sum of them: where the first is right the second need not be."""
        if self._key not in self._tried:
            weights = drawn(tangents.new_empty(len(tangents)), generator())
            total = torch.tensordot(weights, tangents, 1)[None]
            summed = [torch.tensordot(weights, part, 1)[None] for part in products]
            self._tried[self._key] = (
                difference(summed, lambda: one_by_one(self._term, self._place)(total)) is None
            )
        return self._tried[self._key]


def side_by_side(term: Term, place: int) -> Products:
    """Products with tangents in the parameter at a place, all in one call."""
    product = term.product(ReverseOverReverse(), [place])
    return vmap(lambda tangent: product([tangent]))


def one_by_one(term: Term, place: int) -> Products:
    """The same, each in plain autograd."""
    product = term.product(DoubleBackward(), [place])

    def products(tangents: Tensor) -> Tensors:
        each = [product([tangent]) for tangent in tangents]
        return [torch.stack(parts).detach() for parts in zip(*each, strict=True)]

    return products
