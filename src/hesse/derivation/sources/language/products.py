"""Products of arrays, entry by entry: a sum over what they have in common."""

from typing import TYPE_CHECKING

from hesse.derivation.calculus.algebra import multiply, total
from hesse.derivation.calculus.expression import (
    ONE,
    Entry,
    Expression,
    Index,
    all_names,
    kept,
    of,
)
from hesse.derivation.calculus.structures import pairs
from hesse.derivation.sources.language.tree import Along, Binary, Einsum, Kron

if TYPE_CHECKING:
    from hesse.derivation.sources.language.lowering import Lowering

Indices = tuple[Index, ...]


def times(left: Expression, right: Expression) -> Expression:
    """The product; a sum in it stays in its parentheses."""
    return multiply(kept(left), kept(right))


def contraction(
    lowering: "Lowering", tree: Binary, indices: Indices, scope: set[str]
) -> Expression:
    """Σ_k u[i,k] v[k,j]; axes in front are those of samples"""
    left, right = lowering.shapes.of(tree.left), lowering.shapes.of(tree.right)
    (k,) = lowering.fresh(left[-1:], scope, summed=True)
    tail = indices[len(indices) - (len(left) > 1) - (len(right) > 1) :]
    batch = indices[: len(indices) - len(tail)]
    row, column = tail[: len(left) > 1], tail[len(tail) - (len(right) > 1) :]
    # Both sides see the summed index, so neither sums over its letter.
    scope = scope | {k.name}
    first = lowering.broadcast(tree.left, (*batch, *row, k), scope)
    second = lowering.broadcast(tree.right, (*batch, k, *column), scope | all_names(first))
    return total(times(first, second), [k])


def along(lowering: "Lowering", tree: Along, indices: Indices, scope: set[str]) -> Expression:
    """Σ_j D[i,j] u_j"""
    shape = lowering.shapes.of(tree.operand)
    place = (tree.axis or 0) % len(shape)
    (j,) = lowering.fresh(shape[place : place + 1], scope, summed=True)
    own = indices[place : place + tree.pattern.keeps]
    rest = indices[place + tree.pattern.keeps :]
    inner = lowering.value(tree.operand, (*indices[:place], j, *rest), scope | {j.name})
    matrix = Entry(lowering.constant(tree.pattern.of_size(shape[place])), (*own, j))
    return total(times(of(matrix), inner), [j])


def kron(lowering: "Lowering", tree: Kron, indices: Indices, scope: set[str]) -> Expression:
    """Σ_{i,k} P[o,i,k] u_i v_k, and the same of columns"""
    result, inner = ONE, []
    for index, *pair in zip(
        indices, lowering.shapes.of(tree.left), lowering.shapes.of(tree.right), strict=True
    ):
        taken = scope | {other.name for both in inner for other in both}
        inner.append(lowering.fresh(pair, taken, summed=True))
        matrix = lowering.constant(pairs(*pair))
        result = times(result, of(Entry(matrix, (index, *inner[-1]))))
    scope = scope | {index.name for both in inner for index in both}
    for side, operand in enumerate((tree.left, tree.right)):
        at = tuple(both[side] for both in inner)
        result = times(result, lowering.value(operand, at, scope | all_names(result)))
    return total(result, [index for both in inner for index in both])


def einsum(lowering: "Lowering", tree: Einsum, indices: Indices, scope: set[str]) -> Expression:
    """Σ over the letters that the result does not have"""
    at = dict(zip(tree.output, indices, strict=True))
    for letters, operand in zip(tree.inputs, tree.operands, strict=True):
        for letter, size in zip(letters, lowering.shapes.of(operand), strict=True):
            if letter not in at:
                taken = scope | {index.name for index in at.values()}
                (at[letter],) = lowering.fresh((size,), taken, summed=True)
    result, scope = ONE, scope | {index.name for index in at.values()}
    for letters, operand in zip(tree.inputs, tree.operands, strict=True):
        inner = tuple(at[letter] for letter in letters)
        # An index that stands twice takes the diagonal.
        factor = lowering.value(operand, inner, scope | all_names(result))
        result = times(result, factor)
    return total(result, [at[letter] for letter in at if letter not in tree.output])
