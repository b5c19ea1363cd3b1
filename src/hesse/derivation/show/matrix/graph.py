"""One term as a graph: indices are nodes, vectors are labels on them, matrices are edges between
them."""

from hesse.derivation.calculus.expression import Index
from hesse.derivation.show.matrix.compose import (
    diag,
    diagonal,
    hadamard,
    product,
    trace,
    transpose,
)
from hesse.derivation.show.matrix.nodes import EntryPower, Identity, Matrix, Ones, Sizes, shape


class FactorGraph:
    """The factors of one term, and the summing away of the indices that it sums over.

    Args:
        bound: the indices summed over.
        sizes: of each index that has more than one; a pair counted as one index has two.
    """

    def __init__(self, bound: tuple[Index, ...], sizes: dict[str, Sizes]) -> None:
        self.bound = list(bound)
        self.scalars: list[Matrix] = []
        self._sizes = sizes
        self._labels: dict[Index, list[Matrix]] = {}
        self._edges: dict[frozenset[Index], list[tuple[Index, Matrix]]] = {}

    def sizes(self, index: Index) -> Sizes:
        """What an index counts."""
        return self._sizes.get(index.name, (index.size,))

    def put(self, ends: tuple[Index, ...], matrix: Matrix) -> None:
        """Add a factor: a scalar, a vector at one index, or a matrix from one index to another."""
        if not ends:
            self.scalars.append(matrix)
        elif len(ends) == 1:
            self._labels.setdefault(ends[0], []).append(matrix)
        else:
            # An edge is found from both its ends; the first says which way its matrix is read.
            self._edges.setdefault(frozenset(ends), []).append((ends[0], matrix))

    def edge(self, row: Index, column: Index) -> Matrix | None:
        """The entrywise product of all matrices from one index to another: diagonal where one of
        them is I."""
        matrices = [
            matrix if start == row else transpose(matrix)
            for start, matrix in self._edges.get(frozenset((row, column)), [])
        ]
        if len(matrices) > 1 and Identity(self.sizes(row)) in matrices:
            return diag(hadamard(*map(diagonal, matrices)))
        return hadamard(*matrices) if matrices else None

    def label(self, index: Index) -> Matrix | None:
        """The entrywise product of all vectors at an index."""
        return hadamard(*self._labels[index]) if index in self._labels else None

    def vector(self, index: Index) -> Matrix:
        """The label of an index, ones where it has none."""
        return self.label(index) or Ones(self.sizes(index))

    def weighed(self, row: Index, column: Index) -> Matrix:
        """The matrix between two indices with their labels: diag(u) A diag(v), or u vᵀ where there
        is no edge."""
        between = self.edge(row, column)
        if between is None:
            return product(self.vector(row), transpose(self.vector(column)))
        return product(diag(self.vector(row)), between, diag(self.vector(column)))

    def neighbours(self, index: Index) -> list[Index]:
        """The indices that share an edge with one, each once."""
        return [other for pair in self._edges if index in pair for other in pair if other != index]

    def eliminate(self) -> list[Index]:
        """Sum over all bound indices that touch at most two others. Returns those that are left."""
        while True:
            ready = [index for index in reversed(self.bound) if len(self.neighbours(index)) <= 2]
            if not ready:
                return self.bound
            # Those at the rim first: a sum over an index between two others makes a new edge.
            self._sum(min(ready, key=lambda index: len(self.neighbours(index))))

    def _sum(self, index: Index) -> None:
        around = self.neighbours(index)
        if len(around) == 2:
            left, right = around
            joined = product(
                self._gone(left, index), diag(self.vector(index)), self._gone(index, right)
            )
            self.put((left, right), joined)
        elif len(around) == 1 and not self._trace(index, around[0]):
            vector = self.vector(index)
            self.put((around[0],), product(self._gone(around[0], index), vector))
        elif not around:
            self.scalars.append(_total(self._labels.get(index, []), self.vector(index)))
        self._labels.pop(index, None)
        if index in self.bound:
            self.bound.remove(index)

    def _gone(self, row: Index, column: Index) -> Matrix:
        """The edge, taken off the graph."""
        edge = self.edge(row, column)
        assert edge is not None, "only an edge that is there is taken off"
        del self._edges[frozenset((row, column))]
        return edge

    def _trace(self, index: Index, other: Index) -> bool:
        """Two bound indices joined by two matrices and nothing else: tr(A B)."""
        pair = frozenset((index, other))
        if other not in self.bound or self.neighbours(other) != [index]:
            return False
        ends = self._edges[pair]
        # A ∘ A was written as a square: tr(A Aᵀ).
        if len(ends) == 1 and isinstance(ends[0][1], EntryPower) and ends[0][1].exponent == 2:
            ends = [(ends[0][0], ends[0][1].body)] * 2
        if len(ends) != 2:
            return False
        matrices = [matrix if start == index else transpose(matrix) for start, matrix in ends]
        there, back = matrices[0], transpose(matrices[1])
        self.scalars.append(
            trace(product(back, diag(self.vector(index)), there, diag(self.vector(other))))
        )
        del self._edges[pair]
        self._labels.pop(other, None)
        self.bound.remove(other)
        return True


def _total(labels: list[Matrix], vector: Matrix) -> Matrix:
    """The sum of the entries of a product of vectors: uᵀ v."""
    # uᵀ diag(w) u rather than (u ∘ u)ᵀ w.
    square = next(
        (label for label in labels if isinstance(label, EntryPower) and label.exponent == 2), None
    )
    if square is not None:
        rest = [label for label in labels if label is not square]
        return product(
            transpose(square.body), *([diag(hadamard(*rest))] if rest else []), square.body
        )
    if len(labels) < 2:
        return product(transpose(Ones(shape(vector)[0])), vector)
    return product(transpose(labels[0]), hadamard(*labels[1:]))
