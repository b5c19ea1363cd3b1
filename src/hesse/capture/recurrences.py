"""Recurrent cells, and layers of packed sequences, as the dense layers of their steps.

They are unrolled as they are called: PyTorch's own way, lowering a program that was traced with the
fused layer, looks through all its operations each time and takes as long as several traces. A layer
of whole sequences stays, and is unrolled in the graph (`hesse.operations.recurrence`).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp import decomposition_table
from torch.overrides import TorchFunctionMode

_LAYERS: dict[Any, str] = {
    getattr(torch, name): name for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")
}


class UnrolledRecurrences(TorchFunctionMode):
    """While it is entered, recurrent cells run operation by operation, and layers of packed
    sequences step by step.

    Examples:
        >>> from torch import nn
        >>> cell, x = nn.GRUCell(2, 3).double(), torch.ones(4, 2).double()
        >>> fused = cell(x)
        >>> with UnrolledRecurrences():
        ...     unrolled = cell(x)
        >>> torch.allclose(unrolled, fused, atol=1e-14)
        True
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return _unrolled(func, args)(*args, **(kwargs or {}))


def _unrolled(func: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    if func in _LAYERS and _is_packed(_LAYERS[func], args):
        return decomposition_table[getattr(torch.ops.aten, _LAYERS[func]).data]
    return _CELLS.get(func, func)


def _is_packed(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a layer is called on a packed sequence, whose second argument is the sizes of its
    batches, before the hidden state."""
    return isinstance(args[1 if name == "lstm" else 2], Tensor)


def _gates(x: Tensor, hidden: Tensor, weights: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    of_input, of_hidden, *biases = weights
    left, right = biases or (None, None)
    return F.linear(x, of_input, left), F.linear(hidden, of_hidden, right)


def _rnn_cell(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def cell(x: Tensor, hidden: Tensor, *weights: Any) -> Tensor:
        left, right = _gates(x, hidden, weights)
        return function(left + right)

    return cell


def _gru_cell(x: Tensor, hidden: Tensor, *weights: Any) -> Tensor:
    (r, z, n), (u, v, w) = (part.chunk(3, 1) for part in _gates(x, hidden, weights))
    new = torch.tanh(n + torch.sigmoid(r + u) * w)
    return (hidden - new) * torch.sigmoid(z + v) + new


def _lstm_cell(x: Tensor, state: Any, *weights: Any) -> tuple[Tensor, Tensor]:
    hidden, memory = state
    left, right = _gates(x, hidden, weights)
    enter, keep, new, out = (left + right).chunk(4, 1)
    memory = torch.sigmoid(keep) * memory + torch.sigmoid(enter) * torch.tanh(new)
    return torch.sigmoid(out) * torch.tanh(memory), memory


_CELLS: dict[Any, Callable[..., Any]] = {
    torch.lstm_cell: _lstm_cell,
    torch.gru_cell: _gru_cell,
    torch.rnn_tanh_cell: _rnn_cell(torch.tanh),
    torch.rnn_relu_cell: _rnn_cell(torch.relu),
}
