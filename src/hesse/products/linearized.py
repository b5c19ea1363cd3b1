"""What a linearised term is, v -> H v, and two that plain autograd makes."""

import abc
from typing import ClassVar, final

import torch
from torch import Tensor

from hesse.derivatives import DoubleBackward, Tensors
from hesse.products.terms import Term


class LinearizedTerm(abc.ABC):
    """v -> H v of one term.

    Attributes:
        name: the method.
        bytes: what is held for it, beyond θ.
    """

    name: ClassVar[str]
    bytes: int = 0

    @abc.abstractmethod
    def __init__(self, term: Term) -> None: ...

    @abc.abstractmethod
    def product(self, v: Tensors) -> Tensors:
        """H v: v and the result as one tensor per parameter. The result may share memory with what
        is kept."""

    def products(self, columns: Tensors, memory: int, held: Tensors) -> None:
        """H V for directions stacked along the first axis, laid into tensors of their shapes; one
        by one where there is no better way."""
        for k in range(len(columns[0])):
            lay(self.product([part[k] for part in columns]), held, k)


@final
class RetainedGraph(LinearizedTerm):
    """The gradient with autograd's graph retained. What a forward that differentiates by
    `torch.func` keeps cannot be counted."""

    name = "autograd's graph"

    def __init__(self, term: Term) -> None:
        held: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            # Neither the tensor nor a list of them: the graph would hold itself through this
            # function, for ever.
            held.update(storages([tensor]))
            return tensor.detach()

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self._product = term.product(DoubleBackward())
        self.bytes = bytes_of(held, without=term.theta)

    def product(self, v: Tensors) -> Tensors:
        return self._product(v)


@final
class Recomputed(LinearizedTerm):
    """Double backward, anew for every v."""

    name = "nothing kept"

    def __init__(self, term: Term) -> None:
        self._term = term

    def product(self, v: Tensors) -> Tensors:
        return [part.detach() for part in self._term.product(DoubleBackward())(v)]


def lay(parts: Tensors, held: Tensors, place: int | slice) -> None:
    """Lay products where they belong. Kept as they are, small between large tensors that are let
    go, they would keep the allocator from using the room of those again."""
    for whole, part in zip(held, parts, strict=True):
        whole[place] = part


def storages(tensors: Tensors) -> dict[int, int]:
    """Address and bytes of what some tensors lie in; views share one, and zeros that PyTorch keeps
    without memory have none."""
    held = [tensor.untyped_storage() for tensor in tensors if not tensor._is_zerotensor()]
    return {storage.data_ptr(): storage.nbytes() for storage in held}


def bytes_of(held: dict[int, int], *, without: Tensors) -> int:
    """What some storages take together, those of θ left out."""
    return sum(held[address] for address in held.keys() - storages(without))
