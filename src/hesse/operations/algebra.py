"""Functions of a square matrix."""

import torch

from hesse.derivation.calculus.algebra import product, scale
from hesse.derivation.calculus.expression import Entry, Expression, Index, of
from hesse.operations.record import ArrayFunction, NameOfValue, Operation


def _slope_of_inverse(
    out: Entry, argument: Entry, by: tuple[Index, ...], other: NameOfValue
) -> Expression:
    """∂X⁻¹[i,j]/∂X[k,l] = −X⁻¹[i,k] X⁻¹[l,j]"""
    *lead, i, j = out.indices
    row, column = by
    return scale(
        product((Entry(out.name, (*lead, i, row)), Entry(out.name, (*lead, column, j)))), -1
    )


def _slope_of_logdet(
    out: Entry, argument: Entry, by: tuple[Index, ...], other: NameOfValue
) -> Expression:
    """∂ log|det X| / ∂X[k,l] = X⁻¹[l,k]"""
    row, column = by
    return of(other("inv", (*out.indices, column, row)))


def _slope_of_det(
    out: Entry, argument: Entry, by: tuple[Index, ...], other: NameOfValue
) -> Expression:
    """∂ det X / ∂X[k,l] = det(X) X⁻¹[l,k]"""
    row, column = by
    return product((out, other("inv", (*out.indices, column, row))))


# PyTorch's operations of these names are differentiated automatically; the records are what the
# language of formulas knows.
RECORDS = [
    Operation(name="inv", array=ArrayFunction(
        value=torch.linalg.inv, derivative=_slope_of_inverse, axes=2, keeps=2,
        reason="from X X⁻¹ = I: d(X⁻¹) = −X⁻¹ dX X⁻¹", numpy="numpy.linalg.inv(z)",
        torch="torch.linalg.inv(z)", text="{}⁻¹", latex="{{{}}}^{{-1}}")),
    Operation(name="logdet", array=ArrayFunction(
        value=lambda X: torch.linalg.slogdet(X)[1], derivative=_slope_of_logdet, axes=2, keeps=0,
        companion="inv", reason="Jacobi: d log det X = tr(X⁻¹ dX)",
        numpy="numpy.linalg.slogdet(z)[1]", torch="torch.linalg.slogdet(z)[1]", text="log|det {}|",
        latex=r"\log\left|\det {}\right|")),
    Operation(name="det", array=ArrayFunction(
        value=torch.linalg.det, derivative=_slope_of_det, axes=2, keeps=0, companion="inv",
        reason="Jacobi: d det X = det(X) tr(X⁻¹ dX)", numpy="numpy.linalg.det(z)",
        torch="torch.linalg.det(z)", latex=r"\det({})")),
]  # fmt: skip
