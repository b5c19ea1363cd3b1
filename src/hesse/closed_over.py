"""Tensors that the user's function closes over: they require a gradient, and it reads them other
than through its arguments, so that derivatives in the arguments leave out how they enter.

They are found in the autograd graph of a result, as its leaves.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.errors import HesseValueError


@dataclass(frozen=True)
class ClosedOver:
    """Leaves of the autograd graphs of a prediction and of a loss.

    Attributes:
        model: those of the prediction.
        loss: those of the loss with the prediction detached.
    """

    model: tuple[Tensor, ...] = ()
    loss: tuple[Tensor, ...] = ()

    def common(self, again: "ClosedOver") -> "ClosedOver":
        """Those that another evaluation depends on too: what a function makes for itself is made
        anew each time."""
        return ClosedOver(_common(self.model, again.model), _common(self.loss, again.loss))


def _common(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    places = {id(tensor) for tensor in second}
    return tuple(tensor for tensor in first if id(tensor) in places)


def graph_leaves(result: Any) -> tuple[Tensor, ...]:
    """The leaves of a result's autograd graph: tensors that require a gradient and that it was
    computed from."""
    # By identity: equality of tensors compares entries.
    by_id: dict[int, Tensor] = {}
    seen: set[Any] = set()
    waiting: list[Any] = []
    for tensor in pytree.tree_leaves(result):
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            if tensor.grad_fn is None:
                by_id[id(tensor)] = tensor
            else:
                waiting.append(tensor.grad_fn)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # AccumulateGrad, the node of a leaf
            by_id[id(node.variable)] = node.variable
        waiting.extend(following for following, _ in node.next_functions)
    return tuple(by_id.values())


def require_nothing_hidden(closed_over: ClosedOver) -> None:
    """A model and a loss that get all their parameters from the cost; derivatives in others would
    be left out."""
    if closed_over.model:
        read = in_words(closed_over.model)
        raise HesseValueError(
            f"model: its prediction depends on {read}, which no module registers (held in a list,"
            " or in a closure?), so the derivatives would leave out how it enters; register it, or"
            " call requires_grad_(False) on it"
        )
    if closed_over.loss:
        read = in_words(closed_over.loss)
        raise HesseValueError(
            f"loss: it depends on {read}, other than through its prediction (an L2 term over the"
            " model's parameters?), and the derivatives would leave that out; give such a term as"
            " penalty=, make the loss an nn.Module that holds its own parameters, or detach them"
        )


def require_read_as_argument(result: Any, originals: Iterable[Tensor], what: str) -> None:
    """A function that reads the tensors it is to be differentiated in through its argument alone,
    not by closing over the user's originals."""
    # By storage, so that a view of one is seen too.
    places = {original.untyped_storage().data_ptr() for original in originals}
    direct = tuple(
        leaf for leaf in graph_leaves(result) if leaf.untyped_storage().data_ptr() in places
    )
    if direct:
        read = in_words(direct)
        raise HesseValueError(
            f"{what}: it reads {read}, given in params, other than through its argument, and the"
            " derivatives would leave that out; take it from the dictionary that the function is"
            " called with"
        )


def held_fixed_note(hidden: tuple[Tensor, ...]) -> tuple[str, ...]:
    """The plan's note of what is closed over and held fixed."""
    return (f"{in_words(hidden)}, not among params, held fixed",) if hidden else ()


def in_words(tensors: tuple[Tensor, ...]) -> str:
    """Their number and shapes, for a text."""
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors[:3])
    many = len(tensors) != 1
    return (
        f"{len(tensors)} tensor{'s' * many} that require{'s' * (not many)} a gradient"
        f" (shape{'s' * many} {shapes})"
    )
