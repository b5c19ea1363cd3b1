"""What the user's function reads other than through its arguments: tensors that require a gradient
and are not θ's."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.errors import HesseValueError


@dataclass(frozen=True)
class Reads:
    """Leaves that a prediction and a loss depend on.

    Attributes:
        model: those of the prediction.
        loss: those of the loss with the prediction detached.
    """

    model: tuple[Tensor, ...] = ()
    loss: tuple[Tensor, ...] = ()

    def kept(self, again: "Reads") -> "Reads":
        """Those that another evaluation read too: what a function makes for itself is made anew
        each time."""
        return Reads(_common(self.model, again.model), _common(self.loss, again.loss))


def _common(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    places = {id(tensor) for tensor in second}
    return tuple(tensor for tensor in first if id(tensor) in places)


def leaves(result: Any) -> tuple[Tensor, ...]:
    """The tensors that require a gradient and that a result was computed from."""
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    waiting: list[Any] = []
    for tensor in pytree.tree_leaves(result):
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            if tensor.grad_fn is None:
                found[id(tensor)] = tensor
            else:
                waiting.append(tensor.grad_fn)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        waiting.extend(following for following, _ in node.next_functions)
    return tuple(found.values())


def refuse_hidden(reads: Reads) -> None:
    """Refuse a model or a loss with parameters that it does not get from the cost, whose
    derivatives would be left out."""
    if reads.model:
        raise HesseValueError(
            f"model: its prediction depends on {described(reads.model)}, which no module registers"
            " (held in a list, or in a closure?), so the derivatives would leave out how it"
            " enters; register it, or call requires_grad_(False) on it"
        )
    if reads.loss:
        raise HesseValueError(
            f"loss: it depends on {described(reads.loss)}, other than through its prediction (an L2"
            " term over the model's parameters?), and the derivatives would leave that out; give"
            " such a term as penalty=, make the loss an nn.Module that holds its own parameters,"
            " or detach them"
        )


def refuse_own(result: Any, originals: Iterable[Tensor], what: str) -> None:
    """Refuse a function that reads the very tensors that it is to be differentiated in other than
    through its argument."""
    places = {original.untyped_storage().data_ptr() for original in originals}
    own = tuple(leaf for leaf in leaves(result) if leaf.untyped_storage().data_ptr() in places)
    if own:
        raise HesseValueError(
            f"{what}: it reads {described(own)}, given in params, other than through its argument,"
            " and the derivatives would leave that out; take it from the dictionary that the"
            " function is called with"
        )


def held_fixed(hidden: tuple[Tensor, ...]) -> tuple[str, ...]:
    """The note of what is read so and held fixed."""
    return (f"{described(hidden)}, not among params, held fixed",) if hidden else ()


def described(tensors: tuple[Tensor, ...]) -> str:
    """Tensors in words."""
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors[:3])
    many = len(tensors) != 1
    return (
        f"{len(tensors)} tensor{'s' * many} that require{'s' * (not many)} a gradient"
        f" (shape{'s' * many} {shapes})"
    )
