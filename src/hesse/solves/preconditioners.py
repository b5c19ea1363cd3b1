"""What comes near the inverse of A + damping I, by the word that asks for it."""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.errors import HesseTypeError, HesseValueError, require_word
from hesse.exact.diagonal import diagonal
from hesse.exact.hessian import hessian
from hesse.kronecker.kfac import kfac
from hesse.layout import Layout
from hesse.linear_operators.given import BlocksOperator, MatrixOperator
from hesse.linear_operators.linear_operator import LinearOperator, SymmetricOperator
from hesse.linear_operators.low_rank import DiagonalOperator
from hesse.matrix import eigensolver
from hesse.matrix.block_hessian import BlockHessian

# Of K-FAC's mean eigenvalue: the least damping of a preconditioner.
_FLOOR = 1e-4


class Asked(NamedTuple):
    """What a preconditioner is for: A, damping, and the cost that A is of, where it is of one."""

    operator: LinearOperator
    damping: float
    cost: Cost | None


def preconditioner_of(given: Any, asked: Asked) -> LinearOperator | None:
    """The operator, or that of the word.

    Raises:
        HesseTypeError: neither.
        HesseValueError: an unknown word, an operator that does not fit, or a matrix that the word
            cannot be taken of.
    """
    if given is None:
        return None
    if isinstance(given, str):
        require_word(given, "preconditioner", WORDS)
        return WORDS[given](asked)
    if not isinstance(given, LinearOperator):
        raise HesseTypeError(
            f"preconditioner: expected an operator that comes near the inverse, or one of"
            f" {', '.join(map(repr, WORDS))}, got {type(given).__name__}"
        )
    ours, theirs = (
        f"{' x '.join(map(str, each.shape))} of {each.dtype} on {each.device}"
        for each in (asked.operator, given)
    )
    if ours != theirs or not given.is_symmetric:
        raise HesseValueError(
            f"preconditioner: expected a symmetric operator of {ours}, got one of {theirs}"
            f"{'' if given.is_symmetric else ', not known to be symmetric'}"
        )
    return given


def _diagonal(asked: Asked) -> LinearOperator:
    """1 / (|d| + damping), d the diagonal."""
    layout = asked.operator.rows
    if asked.cost is not None:
        parts = diagonal(asked.cost, curvature=asked.cost.curvature)
    else:
        parts = _held(asked, "diagonal").diagonal()
    entries = layout.flatten(parts).to(asked.operator.dtype)
    return DiagonalOperator(1 / (_floored(entries.abs()) + asked.damping), layout)


def _block_diagonal(asked: Asked) -> LinearOperator:
    """(|B| + damping I)⁻¹ for each parameter's own block B; |B| is B where that is definite."""
    layout = asked.operator.rows
    if asked.cost is not None:
        H = hessian(asked.cost, block_diagonal=True, curvature=asked.cost.curvature)
    else:
        H = _held(asked, "block_diagonal")
    blocks = (H.flat(name, name).to(asked.operator.dtype) for name in layout.names)
    return BlockInverse(layout, [_factor(block, asked.damping) for block in blocks])


def _kfac(asked: Asked) -> LinearOperator:
    """(K-FAC + damping I)⁻¹."""
    if asked.cost is None:
        raise HesseValueError(
            "preconditioner: 'kfac' is made of a cost's layers; give the cost, or one of"
            " 'diagonal', 'block_diagonal'"
        )
    # Of what has no factors, H itself and its functional part, those of Gauss–Newton's are near.
    curvature = asked.cost.curvature
    K = kfac(
        asked.cost,
        curvature="gauss_newton" if curvature.name in ("hessian", "functional") else curvature,
    )
    # Definite whatever the damping: many inputs are of a lower rank than their number.
    return K.inverse(max(asked.damping, _FLOOR * K.trace() / max(1, K.shape[0])))


# By the word that asks for it.
WORDS: dict[str, Callable[[Asked], LinearOperator]] = {
    "diagonal": _diagonal,
    "block_diagonal": _block_diagonal,
    "kfac": _kfac,
}


def _held(asked: Asked, word: str) -> BlockHessian:
    """The matrix by its blocks, where these are there."""
    operator = asked.operator
    if isinstance(operator, BlocksOperator):
        return operator.hessian
    if isinstance(operator, MatrixOperator):
        return BlockHessian(operator.rows, matrix=operator.matrix)
    raise HesseValueError(
        f"preconditioner: {word!r} is taken of a cost, of its operator or of a matrix, and this"
        f" is a {type(operator).__name__}, of which only products are known; give an operator that"
        " comes near its inverse"
    )


def _floored(sizes: Tensor) -> Tensor:
    """Sizes that are not below a part of the largest, so that what rounding makes of zero does not
    rule the inverse."""
    largest = float(sizes.max()) if sizes.numel() else 0.0
    return sizes.clamp(min=torch.finfo(sizes.dtype).eps ** 0.5 * largest or 1.0)


def _factor(block: Tensor, damping: float) -> Tensor:
    damped = block.clone()
    damped.diagonal().add_(damping)
    factor, info = torch.linalg.cholesky_ex(damped)
    if not int(info):
        return factor
    values, vectors = eigensolver.eigh(block)
    sizes = _floored(values.abs()) + damping
    return torch.linalg.cholesky(vectors * sizes @ vectors.mT)


@final
class BlockInverse(SymmetricOperator):
    """The inverse of a block-diagonal matrix, by the Cholesky factors of its blocks."""

    def __init__(self, layout: Layout, factors: list[Tensor]) -> None:
        super().__init__(layout, factors[0].dtype, factors[0].device)
        self._factors = factors

    def _product(self, v: Tensor) -> Tensor:
        columns = v.unsqueeze(1) if v.ndim == 1 else v
        parts = columns.split([len(factor) for factor in self._factors])
        found = [
            torch.cholesky_solve(part, factor)
            for part, factor in zip(parts, self._factors, strict=True)
        ]
        return torch.cat(found).reshape(v.shape)
