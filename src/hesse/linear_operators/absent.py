"""What a tensor has and a Hessian or an operator has not, and where it is to be had."""

import torch

from hesse.errors import HesseAttributeError

# What is had without the whole matrix, by the name that a tensor has it under.
_FUNCTIONS = {
    "trace": "hesse.trace({})",
    "logdet": "hesse.logdet({})",
    "inverse": "hesse.inverse({})",
    "diagonal": "hesse.estimated_diagonal({}), or hesse.diagonal(cost)",
}


def absent_of_tensor(owner: object, name: str, dense: str) -> AttributeError:
    """The error for an attribute that is not there.

    Args:
        owner: the Hessian or operator.
        name: the attribute.
        dense: the call that makes a tensor of it.
    """
    kind = type(owner).__name__
    if name.startswith("_") or not hasattr(torch.Tensor, name):
        return AttributeError(f"{kind!r} object has no attribute {name!r}")
    letter = dense.partition(".")[0]
    ways = [_FUNCTIONS[name].format(letter)] if name in _FUNCTIONS else []
    call = "()" if callable(getattr(torch.Tensor, name)) else ""
    return HesseAttributeError(
        f"{name}: a {kind} has none; of the whole matrix it is"
        f" {', or '.join([f'{dense}.{name}{call}', *ways])}"
    )
