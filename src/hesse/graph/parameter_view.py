"""A value that is a parameter with its entries moved about, and the uses that it makes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hesse.graph.graph import Ref
from hesse.graph.sites import Gather, ParameterUse


@dataclass(frozen=True)
class ParameterView:
    """A view of a parameter.

    Attributes:
        parameter: its name.
        entries: the flat entry of the parameter behind each entry of the view.
        size: how many entries the parameter has.
        value: the value of the graph that is the view.
    """

    parameter: str
    entries: Tensor
    size: int
    value: str

    @property
    def transposed(self) -> "ParameterView | None":
        """A matrix the other way round; ``None`` for what is none."""
        return replace(self, entries=self.entries.T) if self.entries.ndim == 2 else None

    def use(
        self,
        kind: str,
        entries: Tensor,
        features: Callable[[Tensor], Tensor] | None,
        gather: Gather | None = None,
    ) -> ParameterUse:
        """A use whose entries (g, o, i) are given; they need an index unless they are the whole
        parameter in its own order."""
        # Without an index a block of the Hessian can be written in place.
        g, o, i = entries.shape
        flat = entries.reshape(-1)
        in_order = flat.numel() == self.size and bool(
            (flat == torch.arange(self.size, device="cpu")).all()
        )
        return ParameterUse(
            self.parameter,
            kind,
            None if in_order else flat,
            (g, o, i),
            features,
            gather=gather,
            argument=self.value,
        )

    def shift(self, shape: tuple[int, int]) -> ParameterUse:
        """The use of a bias, arranged as (g, o)."""
        return self.use("shift", self.entries.reshape(*shape, 1), None)


# By the value of the graph that is the view.
Views = Mapping[str, ParameterView]


def view_of(argument: Any, views: Views) -> ParameterView | None:
    """The view of a parameter that an argument is."""
    return views.get(argument.name) if isinstance(argument, Ref) else None


def input_of(argument: Any, views: Views) -> str | None:
    """The name of an argument that is a value of the sample, not a parameter."""
    # A view of a parameter is no input: derivatives reach it through the site alone.
    return argument.name if isinstance(argument, Ref) and argument.name not in views else None
