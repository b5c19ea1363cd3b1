"""From an index expression to a matrix formula: each term read as a graph, the terms added up."""

from collections.abc import Iterable
from dataclasses import replace

from hesse.derivation.calculus.algebra import multiply_terms
from hesse.derivation.calculus.expression import (
    Delta,
    Expression,
    Factor,
    Group,
    Index,
    Size,
    Term,
    all_names,
    freshen,
    indices,
    rename_factor,
)
from hesse.derivation.calculus.normal_form import contract
from hesse.derivation.calculus.program import Program
from hesse.derivation.show.matrix.arrays import Arrays, paired
from hesse.derivation.show.matrix.compose import (
    block_diag,
    diag,
    hadamard,
    kron,
    product,
    scaled,
    sum_over,
    transpose,
    vec,
)
from hesse.derivation.show.matrix.graph import FactorGraph
from hesse.derivation.show.matrix.nodes import (
    ONE,
    BlockDiag,
    Commutation,
    Hadamard,
    Kron,
    Matrix,
    Ones,
    Product,
    Zeros,
    walk,
    weight,
)
from hesse.derivation.show.matrix.sums import add

Side = tuple[Index, ...]  # no, one or two indices
_NONE: frozenset[str] = frozenset()
_NESTED_SUMS = 2  # Σ around Σ is the most that is tried


def matrix_form(
    expression: Expression, rows: Side, columns: Side, program: Program
) -> Matrix | None:
    """The matrix whose rows and columns are counted by two groups of indices, as a formula of
    matrices.

    A group of two counts a matrix parameter row by row: (o, i) is row o·n_i + i. None where no
    formula of matrices is known.

    Args:
        expression: its free indices are among those of the two groups.
        rows: no index (a scalar), one (a vector) or two (a matrix).
        columns: the same.
        program: what the names in the expression stand for.

    Examples:
        >>> from fractions import Fraction
        >>> from hesse.derivation.calculus.expression import Entry, Term
        >>> from hesse.derivation.show.text_writer import matrix_text
        >>> from hesse.derivation.calculus.program import Leaf
        >>> n, i, j = Index("n", "n"), Index("i", "d"), Index("j", "d")
        >>> gram = Expression((Term(Fraction(1), (Entry("X", (n, i)), Entry("X", (n, j))), (n,)),))
        >>> matrix_text(matrix_form(gram, (i,), (j,), Program({"X": Leaf("X", ("n", "d"))}, ())))
        'XᵀX'
    """
    if len({*rows, *columns}) < len(rows) + len(columns) or max(len(rows), len(columns)) > 2:
        return None
    node = _Reader(program).form(expression, rows, columns, _NONE)
    if node is not None and any(isinstance(inner, BlockDiag) for inner in walk(node)):
        # Beside other sums over samples, a sum over samples may say it in less.
        other = _Reader(program, blocks=False).form(expression, rows, columns, _NONE)
        return min((form for form in (node, other) if form is not None), key=weight)
    return node


class _Reader:
    """Reads expressions. ``fixed`` names the indices of enclosing sums: what depends on them is a
    symbol with a subscript."""

    def __init__(self, program: Program, blocks: bool = True) -> None:
        self.blocks = blocks
        self.arrays = Arrays(program, self.form)
        self._summed: dict[tuple[Size, int], Index] = {}

    def form(
        self, expression: Expression, rows: Side, columns: Side, fixed: frozenset[str]
    ) -> Matrix | None:
        """An expression as a matrix."""
        if expression.is_zero:
            return Zeros(_sizes(self.arrays, rows), _sizes(self.arrays, columns))
        if not set(index.name for index in indices(expression)) <= fixed | {
            index.name for index in (*rows, *columns)
        }:
            return None
        parts = [self.term(term, rows, columns, fixed) for term in expression.terms]
        known = [part for part in parts if part is not None]
        return add(*known) if len(known) == len(parts) else None

    def term(self, term: Term, rows: Side, columns: Side, fixed: frozenset[str]) -> Matrix | None:
        """A term as it stands, or with its matrices in parentheses multiplied out where that leaves
        less to read."""
        # A bound index may have the name of an index of the matrix that the term does not have.
        term = freshen(term, fixed | {index.name for index in (*rows, *columns)})
        forms = [self._as_it_stands(term, rows, columns, fixed, sums=_NESTED_SUMS)]
        # p (1 − p) (1 − 2 p) says more than p − 3 p² + 2 p³: it is opened only where it has to be.
        opened = _first_parentheses_expanded(term, fixed, entrywise=forms[0] is None)
        if opened is not None:
            forms.append(self.form(opened, rows, columns, fixed))
        return min((form for form in forms if form is not None), key=weight, default=None)

    def _as_it_stands(
        self, term: Term, rows: Side, columns: Side, fixed: frozenset[str], sums: int
    ) -> Matrix | None:
        term = _local_deltas(contract(term), rows, columns)
        if any(len(_free(factor, fixed)) > 2 for factor in term.factors):
            in_pairs = self._pairs(term, rows, columns, fixed)
            if in_pairs is not None:
                return in_pairs
        # All in one graph first; then blocks or sums, whose bodies have fewer indices.
        graph, unread = self._graph(term, fixed)
        left = graph.eliminate() if not unread else []
        blocks = self._blocks(term, rows, columns, fixed)
        if not unread and not left:
            whole = scaled(term.coefficient, tuple(graph.scalars), _assembled(graph, rows, columns))
            # blockdiag_o(Bᵀ p_o p_oᵀ B) is read at once, a ∘ of Kronecker products is not.
            return blocks if blocks is not None and _is_mixed(whole) else whole
        return blocks or self._sums(term, rows, columns, fixed, sums, {*left, *unread})

    def _graph(self, term: Term, fixed: frozenset[str]) -> tuple[FactorGraph, list[Index]]:
        """The graph of a term, and the indices of those factors that cannot be in it."""
        graph = FactorGraph(term.bound, self.arrays.sizes)
        unread: list[Index] = []
        for factor in term.factors:
            array = self.arrays.read(factor, fixed)
            if array is None:
                # For a factor without indices stands one that nothing is summed over.
                unread += _free(factor, fixed) or [Index("", 1)]
            else:
                graph.put(*array)
        return graph, unread

    def _pairs(self, term: Term, rows: Side, columns: Side, fixed: frozenset[str]) -> Matrix | None:
        """Arrays of three or four indices as matrices, where their indices go in pairs."""
        term, pairs = paired(term, (rows, columns), self.arrays.sizes)
        if not pairs:
            return None
        rows, columns = (
            (pairs[group],) if len(group) == 2 and group in pairs else group
            for group in (rows, columns)
        )
        graph, unread = self._graph(term, fixed)
        if unread or graph.eliminate():
            return None
        return scaled(term.coefficient, tuple(graph.scalars), _assembled(graph, rows, columns))

    def _blocks(
        self, term: Term, rows: Side, columns: Side, fixed: frozenset[str]
    ) -> Matrix | None:
        """A block for each value of o, under [o = p] with o the first row index and p the first
        column index."""
        if not self.blocks or not (len(rows) == len(columns) == 2):
            return None
        o, p = rows[0], columns[0]
        rest = [factor for factor in term.factors if factor not in (Delta(o, p), Delta(p, o))]
        if len(rest) == len(term.factors):
            return None
        inner = replace(term, factors=tuple(rename_factor(factor, {p: o}) for factor in rest))
        body = self._as_it_stands(inner, rows[1:], columns[1:], fixed | {o.name}, sums=0)
        return None if body is None else block_diag(o.name, o.size, body)

    def _sums(
        self,
        term: Term,
        rows: Side,
        columns: Side,
        fixed: frozenset[str],
        sums: int,
        among: Iterable[Index],
    ) -> Matrix | None:
        """Σ over an index that joins too much at once."""
        if not sums:
            return None
        forms: list[Matrix] = []
        for index in sorted(
            (index for index in term.bound if index in set(among)),
            key=lambda index: _sample_like(index, term),
        ):
            # One letter for the sums over one size, so that like terms look alike; its own letter
            # where that one is taken in this term.
            letter = self._summed.setdefault((index.size, sums), index)
            if letter != index and letter.name in all_names(term) | fixed | {
                other.name for other in (*rows, *columns)
            }:
                letter = index
            factors = tuple(rename_factor(factor, {index: letter}) for factor in term.factors)
            bound = tuple(other for other in term.bound if other != index)
            inner = self._as_it_stands(
                replace(term, factors=factors, bound=bound),
                rows,
                columns,
                fixed | {letter.name},
                sums=sums - 1,
            )
            if inner is not None:
                forms.append(sum_over(letter.name, letter.size, inner))
        return min(forms, key=weight, default=None)


def _sizes(arrays: Arrays, group: Side) -> tuple[Size, ...]:
    return tuple(size for index in group for size in arrays.sizes_of(index))


def _free(factor: Factor, fixed: frozenset[str]) -> list[Index]:
    return [index for index in indices(factor) if index.name not in fixed]


def _sample_like(index: Index, term: Term) -> tuple[bool, int]:
    """Samples come first: they lead in every factor that has them, and most factors do."""
    holders = [indices(factor) for factor in term.factors if index in indices(factor)]
    return any(held[0] != index for held in holders), -len(holders)


def _first_parentheses_expanded(
    term: Term, fixed: frozenset[str], entrywise: bool
) -> Expression | None:
    """The term with the first parentheses around a matrix multiplied out.

    Args:
        term: what has them.
        fixed: the indices that stand still.
        entrywise: whether those around entries at one place are, too.
    """
    for place, factor in enumerate(term.factors):
        if (
            isinstance(factor, Group)
            and len(_free(factor, fixed)) >= 2
            and 1 < len(factor.body.terms) <= 8
            and (entrywise or not _is_entrywise(factor))
        ):
            rest = Term(
                term.coefficient, (*term.factors[:place], *term.factors[place + 1 :]), (), term.kind
            )
            taken = all_names(term)
            parts = [multiply_terms(rest, freshen(part, taken)) for part in factor.body.terms]
            return Expression(tuple(_bound_too(part, term.bound) for part in parts))
    return None


def _is_entrywise(group: Group) -> bool:
    """Whether parentheses are around entries at one place, without sums."""
    at = {(), indices(group)}
    return not any(
        term.bound or {indices(factor) for factor in term.factors} - at for term in group.body.terms
    )


def _bound_too(term: Term, bound: tuple[Index, ...]) -> Term:
    return replace(term, bound=(*term.bound, *bound))


def _local_deltas(term: Term, rows: Side, columns: Side) -> Term:
    """Under [a = b], a a row index and b a column index, each other factor has whichever keeps it
    among rows or among columns."""
    for delta in [factor for factor in term.factors if isinstance(factor, Delta)]:
        a, b = (delta.left, delta.right) if delta.left in rows else (delta.right, delta.left)
        if a not in rows or b not in columns or delta not in term.factors:
            continue

        def local(factor: Factor, a: Index = a, b: Index = b) -> Factor:
            factor = rename_factor(factor, {b: a})
            others = {index for index in indices(factor) if index != a}
            return (
                rename_factor(factor, {a: b})
                if a in indices(factor) and others & (set(columns) - {b})
                else factor
            )

        term = replace(
            term,
            factors=tuple(factor if factor == delta else local(factor) for factor in term.factors),
        )
    return term


# ---------------------------------------------------------------- what the remaining indices make


def _assembled(graph: FactorGraph, rows: Side, columns: Side) -> Matrix:
    """The matrix that a graph of free indices alone is."""
    # Every case below has at least as many row indices as column indices.
    if len(rows) < len(columns):
        return transpose(_assembled(graph, columns, rows))
    match len(rows), len(columns):
        case 0, _:
            return ONE
        case 1, 0:
            return graph.vector(rows[0])
        case 1, _:
            return graph.weighed(rows[0], columns[0])
        case _, 0:
            o, i = rows
            return vec(graph.weighed(o, i))
        case _, 1:
            return _three(graph, *rows, *columns)
        case _:
            return _four(graph, *rows, *columns)


def _three(graph: FactorGraph, o: Index, i: Index, p: Index) -> Matrix:
    """Rows (o, i), column p: A ⊗ b, a ⊗ B, or vec(A) bᵀ."""
    # vec(A) stands in front as a diagonal matrix where p is joined to o or i as well.
    inside, first, second = graph.edge(o, i), graph.edge(o, p), graph.edge(i, p)
    if first is None and second is None:
        return product(vec(graph.weighed(o, i)), transpose(graph.vector(p)))
    if second is None:
        body = kron(graph.weighed(o, p), graph.vector(i))
    elif first is None:
        body = kron(graph.vector(o), graph.weighed(i, p))
    else:
        body = hadamard(
            kron(graph.weighed(o, p), graph.vector(i)), kron(Ones(graph.sizes(o)), second)
        )
    return body if inside is None else product(diag(vec(inside)), body)


def _four(graph: FactorGraph, o: Index, i: Index, p: Index, j: Index) -> Matrix:
    """Rows (o, i), columns (p, j): A ⊗ B along o–p and i–j, (A ⊗ B) K along o–j and i–p, vec(A)
    vec(B)ᵀ along o–i and p–j."""
    left, right = graph.edge(o, i), graph.edge(p, j)
    straight = graph.edge(o, p) is not None or graph.edge(i, j) is not None
    crossed = graph.edge(o, j) is not None or graph.edge(i, p) is not None
    if not straight and not crossed and (left is not None or right is not None):
        return product(vec(graph.weighed(o, i)), transpose(vec(graph.weighed(p, j))))
    turn = Commutation(graph.sizes(p), graph.sizes(j))
    if straight and crossed:
        across = kron(_edge_or_ones(graph, o, j), _edge_or_ones(graph, i, p))
        body = hadamard(kron(graph.weighed(o, p), graph.weighed(i, j)), product(across, turn))
    elif crossed:
        body = product(kron(graph.weighed(o, j), graph.weighed(i, p)), turn)
    else:
        body = kron(graph.weighed(o, p), graph.weighed(i, j))
    before = [] if left is None else [diag(vec(left))]
    after = [] if right is None else [diag(vec(right))]
    return product(*before, body, *after)


def _is_mixed(node: Matrix) -> bool:
    """Whether entries of Kronecker products are multiplied with each other."""
    return any(
        isinstance(inner, Hadamard)
        and any(isinstance(part, Kron | Product) for part in inner.factors)
        and any(isinstance(part, Kron) for part in walk(inner))
        for inner in walk(node)
    )


def _edge_or_ones(graph: FactorGraph, row: Index, column: Index) -> Matrix:
    edge = graph.edge(row, column)
    if edge is not None:
        return edge
    return product(Ones(graph.sizes(row)), transpose(Ones(graph.sizes(column))))
