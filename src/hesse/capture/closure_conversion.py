"""Closure conversion: what a function takes from around it, tensors that are none of its arguments
and what it reads off values, becomes arguments.

A straight-line program is traced on shapes alone, where a closure's tensor has no place and a value
cannot be read. So the function is run once on values under a watch. The tensors that it meets
become arguments of the program, by the order in which they are met, and what it reads (does a mask
leave anything out?) is given again in the trace, and is part of what the program is known by. Every
operator watches anew: it holds the values of the moment in which it was made, whatever is written
into the tensors later.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakIdKeyDictionary

from hesse.capture.recording import Unsuitable
from hesse.derivatives import Tensors

SummandFunction = Callable[..., Any]

# What gives Python a value.
_READS: frozenset[Any] = frozenset(
    {
        *(Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__, Tensor.__contains__),
        *(Tensor.item, Tensor.tolist, Tensor.equal, Tensor.allclose, Tensor.is_nonzero),
        *(torch.equal, torch.allclose, torch.is_nonzero),
    }
)


@dataclass(frozen=True)
class ClosedOver:
    """What a function took from around it in one run.

    Attributes:
        tensors: those that are no arguments, in the order in which they were met.
        uses: which of them was met, each time that one was.
        reads: the functions that read a value, with what they read.
    """

    tensors: tuple[Tensor, ...]
    uses: tuple[int, ...]
    reads: tuple[tuple[Any, Any], ...]

    @property
    def key(self) -> Hashable:
        """Runs of equal key, whose tensors have equal shapes, go the same way."""
        return self.uses, repr([value for _, value in self.reads])

    def replayed(self, function: SummandFunction) -> SummandFunction:
        """The same function with these tensors as further inputs, the last ones, and with values
        read as they were."""

        def replay(*given: Any) -> Any:
            *others, inputs = given
            count = len(inputs) - len(self.tensors)
            with _Replay(self, inputs[count:]):
                return function(*others, inputs[:count])

        return replay

    def replayed_in_part(self, part: Callable[..., Any]) -> Callable[..., Any]:
        """Likewise of a part of the function that was run, its inputs the last argument.

        Raises:
            Unsuitable: values were read, and it is not known which of them in this part.
        """
        if self.reads:
            raise Unsuitable("it reads values, and is run in parts")
        return self.replayed(part)


def closed_over(function: SummandFunction, theta: Tensors, inputs: Tensors) -> ClosedOver:
    """Run a function, and see what it takes from around it."""
    with _Watch([*theta, *inputs]) as watch:
        function(theta, inputs)
    return ClosedOver(tuple(watch.tensors.values()), tuple(watch.uses), tuple(watch.reads))


class _Watch(TorchFunctionMode):
    """While it is entered, notes tensors that are neither arguments nor made under it, and values
    that are read."""

    def __init__(self, arguments: Tensors) -> None:
        super().__init__()
        # Arguments, and what was computed; weakly, so that no value lives longer for it.
        self._known: Any = WeakIdKeyDictionary(dict.fromkeys(arguments))
        self.tensors: dict[int, Tensor] = {}
        self.uses: list[int] = []
        self.reads: list[tuple[Any, Any]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        for leaf in _tensors((args, kwargs)):
            # A tensor of a transform of the function's own (torch.func) is computed, if not here.
            if leaf not in self._known and not _is_wrapped(leaf):
                self.tensors.setdefault(id(leaf), leaf)
                self.uses.append(list(self.tensors).index(id(leaf)))
        result = func(*args, **(kwargs or {}))
        if func in _READS:
            self.reads.append((func, result))
        for leaf in _tensors(result):
            self._known.setdefault(leaf, None)
        return result


class _Replay(TorchFunctionMode):
    """While it is entered, tensors that were met are the given ones, and what was read is read
    again."""

    def __init__(self, met: ClosedOver, given: Tensors) -> None:
        super().__init__()
        self._given = {id(tensor): other for tensor, other in zip(met.tensors, given, strict=True)}
        self._reads = iter(met.reads)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _READS:
            read, value = next(self._reads, (None, None))
            if read is not func:
                raise Unsuitable("it reads other values where it is traced than where it is run")
            return value
        args, options = pytree.tree_map_only(
            Tensor, lambda tensor: self._given.get(id(tensor), tensor), (args, kwargs or {})
        )
        return func(*args, **options)


def _tensors(tree: Any) -> Iterable[Tensor]:
    return (leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))


def _is_wrapped(tensor: Tensor) -> bool:
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # type: ignore[attr-defined]
