"""Maps without a formula: their first and second derivatives as named arrays, ∂pool/∂a, valued by
automatic differentiation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.derivation.calculus.expression import Index, fresh
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.program import BlackBox, Program, Quantity


def black_box_slopes(program: Program, quantity: Quantity) -> Iterator[Quantity]:
    """The first and second derivatives of a named map, by every argument that a parameter
    reaches."""
    definition = quantity.definition
    assert isinstance(definition, BlackBox)
    # Nothing that hesse writes needs a third derivative.
    if definition.order == 2 or (definition.order == 1 and not definition.curved):
        return
    parameters = {name for name, leaf in program.leaves.items() if leaf.role == "parameter"}
    for place, name in enumerate(definition.arguments):
        # What no parameter moves needs no derivative by it.
        if name not in parameters and not parameters & program.ancestors(name):
            continue
        taken = {index.name for index in quantity.indices}
        axes = (
            program.by_name[name].indices
            if name in program.by_name
            else tuple(Index("i", size) for size in program.shape(name))
        )
        moved = tuple(fresh(index, taken) for index in axes)
        function = _Slope(definition.function, place)
        slope = BlackBox(
            definition.operation,
            definition.arguments,
            function,
            definition.order + 1,
            definition.curved,
        )
        note = f"how {quantity.name} moves with {name}"
        derived = Quantity(
            str(Name("∂", of=quantity.name, by=name)), (*quantity.indices, *moved), slope, note=note
        )
        yield derived
        yield from black_box_slopes(program, derived)


# A class, for a function within a function could not be pickled.
@dataclass(frozen=True, eq=False)
class _Slope:
    """∂ function / ∂ its argument at a place: the axes of the value, then those of the argument;
    itself differentiable."""

    function: Callable[..., Tensor]
    place: int

    def __call__(self, *arguments: Tensor) -> Tensor:
        # A slope of a slope, or a derivative that a check takes, goes through this one again.
        tracked, place = any(argument.requires_grad for argument in arguments), self.place
        with torch.enable_grad():
            moved = (
                arguments[place]
                if arguments[place].requires_grad
                else arguments[place].detach().requires_grad_()
            )
            value = self.function(*arguments[:place], moved, *arguments[place + 1 :])
            shape = (*value.shape, *moved.shape)
            # The map does not depend on this argument, or is constant where it is.
            if not value.requires_grad:
                return torch.zeros(shape, dtype=moved.dtype)
            rows = [_row(entry, moved) for entry in value.reshape(-1)]
        result = torch.stack(rows).reshape(shape)
        return result if tracked else result.detach()


def _row(entry: Tensor, by: Tensor) -> Tensor:
    (row,) = (
        torch.autograd.grad(entry, by, create_graph=True, allow_unused=True)
        if entry.requires_grad
        else (None,)
    )
    return torch.zeros_like(by) if row is None else row
