"""A program whose operations write over what is used no more: fewer bytes are touched, and those
that are lie in caches."""

import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, fx

aten = torch.ops.aten


def columns_added(total: Tensor, kept: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """total + kept @ E for unit matrices E, each with its one at (row, column).

    Examples:
        >>> kept, place = torch.tensor([[1.0, 2.0]]), torch.tensor([1])
        >>> columns_added(torch.zeros(1, 1, 2), kept, row=place, column=0 * place)
        tensor([[[2., 0.]]])
    """
    return columns_added_(total.clone(), kept, row, column)


def columns_added_(total: Tensor, kept: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Likewise, over total."""
    every = torch.arange(len(total), device=total.device)
    total.mT[every, column] += kept.index_select(-1, row).mT
    return total


def rows_added(total: Tensor, kept: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """total + E @ kept for unit matrices E."""
    return rows_added_(total.clone(), kept, row, column)


def rows_added_(total: Tensor, kept: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Likewise, over total."""
    every = torch.arange(len(total), device=total.device)
    total[every, row] += kept.index_select(0, column)
    return total


# What writes over its first argument, which has the size and the dtype of the result.
_OVER: dict[Any, Any] = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.addcmul.default: aten.addcmul_.default,
    aten.addmm.default: aten.addmm_.default,
    aten.baddbmm.default: aten.baddbmm_.default,
    aten.div.Tensor: aten.div_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.neg.default: aten.neg_.default,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.tril.default: aten.tril_.default,
    aten.triu.default: aten.triu_.default,
    columns_added: columns_added_,
    rows_added: rows_added_,
}
_EITHER_WAY = {aten.add.Tensor, aten.mul.Tensor}
# What is seen of a tensor is its memory.
_VIEWS = {
    aten.permute.default,
    aten.reshape.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.squeeze.dim,
    aten.transpose.int,
    aten.unbind.int,
    aten.unsafe_split.Tensor,
    aten.unsqueeze.default,
    operator.getitem,
}


def overwrite(
    graph: fx.Graph, fresh: Collection[fx.Node], sizes: Mapping[fx.Node, Sequence[Any]]
) -> None:
    """Let operations write over their first argument, where nothing sees it afterwards.

    Args:
        graph: changed in place.
        fresh: the nodes whose result is memory of its own.
        sizes: of values, where they are known.
    """
    _Memory(graph, fresh, sizes).overwrite()


@final
class _Memory:
    """Which values of a program share memory, and until when it is used."""

    def __init__(
        self,
        graph: fx.Graph,
        fresh: Collection[fx.Node],
        sizes: Mapping[fx.Node, Sequence[Any]],
    ) -> None:
        self._graph, self._sizes = graph, sizes
        self._place = {node: place for place, node in enumerate(graph.nodes)}
        self._sharing: dict[fx.Node, set[fx.Node]] = {}
        self._writable = set[fx.Node]()
        for node in graph.nodes:
            self._sharing[node] = {node}
            if node in fresh:
                self._writable.add(node)
                continue
            # Of what is not known it is assumed that it may be any of its arguments.
            is_view = node.target in _VIEWS or node.target is aten.expand.default
            sources = node.all_input_nodes[:1] if is_view else node.all_input_nodes
            for source in sources if node.target is not aten.sym_size.int else ():
                self._join(node, source)
            # Two entries of what is expanded may lie in one place.
            if node.target in _VIEWS and node.args[0] in self._writable:
                self._writable.add(node)

    def overwrite(self) -> None:
        for node in self._graph.nodes:
            if node.target not in _OVER:
                continue
            orders = [node.args, node.args[::-1]] if _turns(node) else [node.args]
            for args in orders:
                if self._may_write(node, args[0]):
                    node.target, node.args = _OVER[node.target], args
                    self._join(node, args[0])
                    break

    def _join(self, node: fx.Node, other: fx.Node) -> None:
        shared = self._sharing[node] | self._sharing[other]
        for member in shared:
            self._sharing[member] = shared

    def _may_write(self, node: fx.Node, value: Any) -> bool:
        """Whether an operation may write over a value: it is as large as the result, and nothing
        else sees it now or later."""
        if not isinstance(value, fx.Node) or value not in self._writable:
            return False
        if self._sizes.get(value) is None or self._sizes[value] != self._sizes.get(node):
            return False
        seen = [source for source in _arguments(node) if source in self._sharing[value]]
        if len(seen) > 1:
            return False
        users = {user for member in self._sharing[value] for user in member.users}
        return all(self._place[user] <= self._place[node] for user in users)


def _turns(node: fx.Node) -> bool:
    return node.target in _EITHER_WAY and not node.kwargs and len(node.args) == 2


def _arguments(node: fx.Node) -> list[fx.Node]:
    """Every argument, as often as it is one."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return found
