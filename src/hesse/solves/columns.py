"""The columns of a matrix, each a vector of its own."""

import torch
from torch import Tensor

from hesse.words.shapes import Float


def norms(v: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """‖v‖ of each column."""
    return torch.linalg.vector_norm(v, dim=0)


def dots(u: Float[Tensor, "N K"], v: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """uᵀv of each column."""
    return torch.einsum("nk,nk->k", u, v)


def divided(v: Tensor, by: Tensor) -> Tensor:
    """v / by, and zero where that is divided by zero: of a recurrence that has come to its end."""
    return torch.where(by == 0, 0, v / torch.where(by == 0, 1, by))
