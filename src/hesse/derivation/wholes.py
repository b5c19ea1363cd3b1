"""Functions of a whole array: softmax, its relatives, and those of a square matrix. Each knows its value and its first
derivative in terms of named quantities; second derivatives follow by differentiating that again."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.derivation.algebra import add, product, scale
from hesse.derivation.expression import Delta, Entry, Expression, Index, of


@dataclass(frozen=True)
class WholeFunction:
    """One operation on a whole array.

    Attributes:
        value: on arrays; it maps over leading axes where it sees only the last ones.
        derivative: ∂ out[at] / ∂ argument[by], given the entry ``out[at]``, the argument's entry, the indices ``by``, and a
            maker of entries of other operations on the same argument.
        axes: how many of the argument's last axes it sees; ``out`` has the others in common with the argument.
        keeps: how many of those axes the result has.
        reason: half a sentence for the line of the derivation.
    """

    value: Callable[[Tensor], Tensor]
    derivative: Callable[["Entry", "Entry", tuple[Index, ...], "Callable[[str, tuple[Index, ...]], Entry]"], Expression]
    axes: int
    keeps: int
    reason: str


def _softmax(out: Entry, argument: Entry, by: tuple[Index, ...], other: Callable[..., Entry]) -> Expression:
    """∂p_i/∂z_j = p_i ([i = j] − p_j)"""
    twin = Entry(out.name, (*out.indices[:-1], by[0]))
    return add(product((out, Delta(out.indices[-1], by[0]))), scale(product((out, twin)), -1))


def _logsumexp(out: Entry, argument: Entry, by: tuple[Index, ...], other: Callable[..., Entry]) -> Expression:
    """∂ log Σ exp(z) / ∂z_j = softmax(z)_j"""
    return of(other("softmax", (*out.indices, by[0])))


def _log_softmax(out: Entry, argument: Entry, by: tuple[Index, ...], other: Callable[..., Entry]) -> Expression:
    """∂ log softmax(z)_i / ∂z_j = [i = j] − softmax(z)_j"""
    p = other("softmax", (*out.indices[:-1], by[0]))
    return add(of(Delta(out.indices[-1], by[0])), scale(of(p), -1))


def _inverse(out: Entry, argument: Entry, by: tuple[Index, ...], other: Callable[..., Entry]) -> Expression:
    """∂X⁻¹[i,j]/∂X[k,l] = −X⁻¹[i,k] X⁻¹[l,j]"""
    *lead, i, j = out.indices
    row, column = by
    return scale(product((Entry(out.name, (*lead, i, row)), Entry(out.name, (*lead, column, j)))), -1)


def _logdet(out: Entry, argument: Entry, by: tuple[Index, ...], other: Callable[..., Entry]) -> Expression:
    """∂ log|det X| / ∂X[k,l] = X⁻¹[l,k]"""
    row, column = by
    return of(other("inv", (*out.indices, column, row)))


def _det(out: Entry, argument: Entry, by: tuple[Index, ...], other: Callable[..., Entry]) -> Expression:
    """∂ det X / ∂X[k,l] = det(X) X⁻¹[l,k]"""
    row, column = by
    return product((out, other("inv", (*out.indices, column, row))))


WHOLES: dict[str, WholeFunction] = {
    "softmax": WholeFunction(
        lambda z: torch.softmax(z, -1), _softmax, 1, 1, "∂p_i/∂z_j = p_i ([i = j] − p_j): raising one entry lowers the others"
    ),
    "logsumexp": WholeFunction(lambda z: torch.logsumexp(z, -1), _logsumexp, 1, 0, "the slope of logsumexp is softmax"),
    "log_softmax": WholeFunction(
        lambda z: torch.log_softmax(z, -1), _log_softmax, 1, 1, "log softmax(z) = z − logsumexp(z), whose slope is softmax"
    ),
    "inv": WholeFunction(torch.linalg.inv, _inverse, 2, 2, "from X X⁻¹ = I: d(X⁻¹) = −X⁻¹ dX X⁻¹"),
    "logdet": WholeFunction(lambda X: torch.linalg.slogdet(X)[1], _logdet, 2, 0, "Jacobi: d log det X = tr(X⁻¹ dX)"),
    "det": WholeFunction(torch.linalg.det, _det, 2, 0, "Jacobi: d det X = det(X) tr(X⁻¹ dX)"),
}
