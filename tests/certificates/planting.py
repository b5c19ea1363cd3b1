"""Errors to be planted in what makes the numbers. All that the tests know of hesse's inner parts
stands here.

A plant takes a `pytest.MonkeyPatch` and makes one thing wrong for as long as it lasts.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import forced
from hesse import capture
from hesse.certificates import entries, matrix
from hesse.certificates.reference import Limit
from hesse.cost import Cost
from hesse.exact import assemble, columns, diagonal, execution, hessian
from hesse.exact.contraction import choice as contract
from hesse.exact.contraction import diagonal_entries
from hesse.exact.contraction.pair import Estimate, Order, Pair
from hesse.exact.propagation import evaluation, frontier, pullback
from hesse.exact.propagation import independent_positions as apart
from hesse.graph.structures import Diagonal, LowRank, RankOne
from hesse.operations.registry import BY_TARGET
from hesse.products import linearize, terms

Plant = Callable[[pytest.MonkeyPatch], None]
aten = torch.ops.aten


def times(part: Any, factor: float) -> Any:
    """A hessian or a curvature of any structure, times a number."""
    if isinstance(part, Tensor):
        return part * factor
    if isinstance(part, Diagonal):
        return Diagonal(part.values * factor)
    if isinstance(part, RankOne):
        return RankOne(part.diagonal * factor, part.factor)
    if isinstance(part, LowRank):
        return part.scaled(torch.full_like(part.jacobian[:, 0], abs(factor) ** 0.5))
    assert part is None
    return None


def forget_failures(cost: Cost) -> None:
    """As if the cost's model had never been seen to fail; what takes long, its graph, is kept."""
    for key in ("failures", "failed methods"):
        cost.captures.pop(key, None)
    terms._PROGRAMS.pop(cost.total, None)
    for known in cost.captures.values():
        if isinstance(known, capture.Captured):
            known.dry_runs.clear()
            known.plans.clear()


def without_limit(patch: pytest.MonkeyPatch) -> None:
    """Certificates take what time they need: how many entries or blocks they see no longer depends
    on the machine."""
    for module in (entries, matrix):
        patch.setattr(
            module, "Limit", lambda least, seconds, memory=None: Limit(least, math.inf, memory)
        )


# ---------------------------------------------------------------- rules


def pull(operation: Any, factor: float = -1.0) -> Plant:
    """Jᵀ of an operation that is written out, with a wrong sign."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        record = BY_TARGET[operation]
        rule = record.pull
        assert rule is not None

        def wrong(op: Any, columns: Tensor) -> Any:
            made = rule(op, columns)
            return made if made is None else tuple(times(part, factor) for part in made)

        patch.setitem(BY_TARGET, operation, replace(record, pull=wrong))

    return plant


def curvature(operation: Any, factor: float = -1.0) -> Plant:
    """The second derivative of an operation that is written out, with a wrong sign."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        record = BY_TARGET[operation]
        rule = record.second
        assert rule is not None

        def wrong(op: Any, delta: Tensor) -> Any:
            made = rule(op, delta)
            return made if made is None else [[times(part, factor) for part in row] for row in made]

        patch.setitem(BY_TARGET, operation, replace(record, second=wrong))

    return plant


def slopes(first: float, second: float) -> Plant:
    """f' and f'' of every function that acts entry by entry, each times a number."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = pullback.Pullback.slopes
        patch.setattr(
            pullback.Pullback,
            "slopes",
            lambda op: tuple(
                None if s is None else s * f
                for s, f in zip(right(op), (first, second), strict=True)
            ),
        )

    return plant


def by_differentiation(factor: float) -> Plant:
    """Jᵀ of what is in no table, each sample's own."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = pullback.Pullback._pull_by_sample
        patch.setattr(
            pullback.Pullback,
            "_pull_by_sample",
            lambda op, columns: tuple(part * factor for part in right(op, columns)),
        )

    return plant


# ---------------------------------------------------------------- what is carried


def cross_terms_dropped(patch: pytest.MonkeyPatch) -> None:
    """The curvature between two values of the frontier, left out."""
    right = frontier.Frontier._add_pair

    def wrong(self: Any, value: str, other: str, columns: Tensor) -> None:
        if value == other:
            right(self, value, other, columns)

    patch.setattr(frontier.Frontier, "_add_pair", wrong)


def own_terms_once(patch: pytest.MonkeyPatch) -> None:
    """Where two uses are of one value, one order in place of both."""
    right = frontier.Frontier._add_pair

    def wrong(self: Any, value: str, other: str, columns: Tensor) -> None:
        right(self, value, other, columns / 2 if value == other else columns)

    patch.setattr(frontier.Frontier, "_add_pair", wrong)


def chunk_lost(patch: pytest.MonkeyPatch) -> None:
    """The last chunk of samples, left out."""
    right = execution.chunks

    def wrong(*arguments: Any) -> Iterator[Any]:
        yield from list(right(*arguments))[:-1]

    patch.setattr(execution, "chunks", wrong)


def chunk_twice(patch: pytest.MonkeyPatch) -> None:
    """The first chunk in place of the last."""
    right = execution.chunks

    def wrong(*arguments: Any) -> Iterator[Any]:
        every = list(right(*arguments))
        yield from [*every[:-1], every[0]]

    patch.setattr(execution, "chunks", wrong)


def samples_mixed(patch: pytest.MonkeyPatch) -> None:
    """What the activations gave for one sample, taken for the next."""
    right = evaluation.ChunkEvaluation.run

    def wrong(self: Any, leaves: list[Any]) -> dict[str, Any]:
        values = right(self, leaves)
        return {
            name: value.roll(1, 0) if name.startswith("tanh") else value
            for name, value in values.items()
        }

    patch.setattr(evaluation.ChunkEvaluation, "run", wrong)


def positions_apart(patch: pytest.MonkeyPatch) -> None:
    """Where positions are taken for samples: the curvature that is handed down, 1 % too large."""
    right = apart.IndependentPositions.hessian
    patch.setattr(apart.IndependentPositions, "hessian", lambda self, own: right(self, own) * 1.01)


def collapsed(patch: pytest.MonkeyPatch) -> None:
    """Columns that were collapsed onto a value are multiplied out with a wrong sign."""
    right = frontier.Frontier.expanded

    def wrong(self: Any, value: str, sites: set[str]) -> Any:
        cut = frontier.COLLAPSED in self._cotangents[value]
        return {
            key: times(part, -1.0) if cut and key.is_of_site else part
            for key, part in right(self, value, sites).items()
        }

    patch.setattr(frontier.Frontier, "expanded", wrong)


def use_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A use of a parameter that is not recognised, and not missed: the last site in the graph."""
    right = capture.find_sites

    def wrong(*arguments: Any) -> Any:
        graph, sites, refused = right(*arguments)
        return graph, sites[:-1], refused

    patch.setattr(capture, "find_sites", wrong)


# ---------------------------------------------------------------- contractions


def block_left_out(first: str, second: str) -> Plant:
    """A pair of slots that is never contracted."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = assemble.Target.add

        def wrong(self: Any, pair: Pair) -> None:
            if not any({first, second} == set(names) for names in self._contraction.blocks):
                right(self, pair)

        patch.setattr(assemble.Target, "add", wrong)

    return plant


def off_by_a_percent(order: Order) -> Callable[[Pair, Any], None]:
    """What an order adds, 1 % too large."""

    def run(pair: Pair, grid: Any) -> None:
        before = {place: block.clone() for place, block in grid.matrices.items()}
        order.run(pair, grid)
        for place, block in grid.matrices.items():
            block.add_(block - before[place], alpha=0.01)

    return run


def without_jacobian(order: Order) -> Callable[[Pair, Any], None]:
    """The product-rule term, left out."""
    return lambda pair, grid: order.run(replace(pair, jacobian=None), grid)


def without_hessian(order: Order) -> Callable[[Pair, Any], None]:
    """The curvature from above, left out where there is the other term."""
    return lambda pair, grid: order.run(
        pair if pair.jacobian is None else replace(pair, hessian=None), grid
    )


def a_sample_lost(order: Order) -> Callable[[Pair, Any], None]:
    """The first sample, left out."""

    def run(pair: Pair, grid: Any) -> None:
        order.run(replace(pair, a=torch.cat([torch.zeros_like(pair.a[:1]), pair.a[1:]])), grid)

    return run


def order(place: int, how: Callable[[Order], Callable[[Pair, Any], None]]) -> Plant:
    """One order of contraction made wrong, and chosen wherever it applies."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        every = list(contract.ORDERS)
        every[place] = replace(
            every[place], run=how(every[place]), estimate=lambda sizes: Estimate(0, 0, 0, 0)
        )
        patch.setattr(contract, "ORDERS", tuple(every))

    return plant


# ------------------------------------------------------------ columns, the diagonal, the operator


def product_of_columns(factor: float) -> Plant:
    """Rows by Hessian-vector products side by side, each times a number."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = columns.side_by_side

        def wrong(*arguments: Any) -> Callable[[list[Tensor]], list[Tensor]]:
            product = right(*arguments)
            return lambda tangents: [part * factor for part in product(tangents)]

        patch.setattr(columns, "side_by_side", wrong)

    return plant


def one_sided_products(factor: float) -> Plant:
    """Rows by one-sided products, each times a number, and nothing seen of it when they were
    tried."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        forced.one_sided(patch)
        right = columns.one_sided

        def wrong(*arguments: Any) -> Callable[[list[Tensor]], list[Tensor]]:
            product = right(*arguments)
            return lambda tangents: [part * factor for part in product(tangents)]

        patch.setattr(columns, "one_sided", wrong)
        patch.setattr(columns._CheckedProducts, "_are_right", lambda *_: True)

    return plant


def entries_of_the_diagonal(factor: float) -> Plant:
    """What a slot with itself brings to the diagonal."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = diagonal_entries._self_entries
        patch.setattr(diagonal_entries, "_self_entries", lambda pair: right(pair) * factor)

    return plant


def second_uses_of_the_diagonal(patch: pytest.MonkeyPatch) -> None:
    """What two uses of one parameter bring to the diagonal together, left out."""
    right = diagonal.add_entries
    patch.setattr(
        diagonal, "add_entries", lambda pair, total: right(pair, total) if pair.same else None
    )


def straight_line(factor: float) -> Plant:
    """The straight line, and what it is held against when it is made: both wrong in the same
    way."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for method in (linearize.StraightLine, linearize.Recomputed):
            patch.setattr(method, "product", _scaled(method.product, factor))
        patch.setattr(
            linearize.StraightLine, "products", _laid(linearize.StraightLine.products, factor)
        )

    return plant


def every_product(factor: float) -> Plant:
    """All of the operator's methods."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for method in linearize.METHODS:
            patch.setattr(method, "product", _scaled(method.product, factor))
            patch.setattr(method, "products", _laid(method.products, factor))

    return plant


def _scaled(right: Callable[..., list[Tensor]], factor: float) -> Callable[..., list[Tensor]]:
    return lambda self, *arguments: [part * factor for part in right(self, *arguments)]


def _laid(right: Callable[..., None], factor: float) -> Callable[..., None]:
    """Of many products, which are laid into tensors that are given last."""

    def wrong(self: Any, *arguments: Any) -> None:
        right(self, *arguments)
        for part in arguments[-1]:
            part *= factor

    return wrong


def one_entry_off(matrix: Tensor) -> Tensor:
    """A millionth of the largest, in one place and its mirror image."""
    wrong = matrix.clone()
    wrong[0, 1] += 1e-6 * matrix.abs().max()
    wrong[1, 0] = wrong[0, 1]
    return wrong


def the_result(change: Callable[[Tensor], Tensor]) -> Plant:
    """The finished Hessian, whatever made it."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = assemble.Storage.finished

        def wrong(self: Any) -> Any:
            matrix, blocks = right(self)
            changed = (
                None
                if blocks is None
                else {names: change(block) for names, block in blocks.items()}
            )
            return None if matrix is None else change(matrix), changed

        patch.setattr(assemble.Storage, "finished", wrong)

    return plant


def penalty_dropped(patch: pytest.MonkeyPatch) -> None:
    """λ, left out of the diagonal."""
    patch.setattr(hessian, "_penalty", lambda *arguments: None)
