"""The product of several arrays as statements: two at a time, in the cheapest order."""

from collections.abc import Sequence

import opt_einsum

from hesse.derivation.calculus.expression import Index
from hesse.derivation.code.lowering import subscripts
from hesse.derivation.code.statements import Contraction, Part, Product, Scale, Selection, Value
from hesse.derivation.code.value_numbering import Statements

# Up to so many arrays every order is tried; their number grows faster than exponentially.
_EXHAUSTIVE = 6


def product_of(
    statements: Statements,
    values: list[Value],
    wanted: tuple[Index, ...],
    scale: Scale,
    alone: bool,
) -> tuple[Scale, Value | None]:
    """The product of arrays, summed over all but the wanted indices; what is left of the scale.

    Args:
        statements: where the products are added.
        values: the arrays.
        wanted: the indices of the result.
        scale: a number that the product is multiplied with, or its caller multiplies with.
        alone: whether nothing is added to the product, so that a sign costs a pass over it.
    """
    if not values:
        return scale, None
    values = _gathered(statements, values, wanted)
    for left, right in _order(statements, values, wanted):
        a, b = values[left], values[right]
        rest = [value for k, value in enumerate(values) if k not in (left, right)]
        if rest:
            # What neither a later product nor the result has is summed over at once.
            later = {index for value in rest for index in value.axes} | set(wanted)
            out = tuple(index for index in dict.fromkeys((*a.axes, *b.axes)) if index in later)
        else:
            out = wanted
            number = abs(scale.number) != 1 or scale.sizes or (alone and scale.number != 1)
            small, large = sorted((a, b), key=lambda value: statements.count(value.axes))
            if number and 2 * statements.count(small.axes) <= statements.count(out):
                # The number goes to the small factor, not over the large result.
                a, b, scale = statements.times(Part(scale, small)), large, Scale()
        values = [*rest, _pair(statements, a, b, out)]
    (value,) = values
    if set(value.axes) != set(wanted):
        value = statements.add(Selection(value), wanted)
    return scale, value


def _order(
    statements: Statements, values: Sequence[Value], wanted: tuple[Index, ...]
) -> list[tuple[int, int]]:
    """The pairs to multiply, by position among what is left, of which the product goes last."""
    if len(values) <= 2:
        return [(0, 1)] if len(values) == 2 else []
    path, _ = opt_einsum.contract_path(
        subscripts(*(value.axes for value in values), out=wanted),
        *(tuple(statements.size(index.size) for index in value.axes) for value in values),
        shapes=True,
        optimize="optimal" if len(values) <= _EXHAUSTIVE else "auto",
    )
    return [(min(pair), max(pair)) for pair in path]


def _gathered(
    statements: Statements, values: list[Value], wanted: tuple[Index, ...]
) -> list[Value]:
    """Arrays of the same axes multiplied, and summed where no other has the index; numbers go to
    the smallest."""
    values = [_summed_alone(statements, k, values, wanted) for k in range(len(values))]
    groups: dict[frozenset[Index], list[Value]] = {}
    for value in values:
        groups.setdefault(frozenset(value.axes), []).append(value)
    numbers = groups.pop(frozenset(), [])
    if not groups:
        return [_product(statements, numbers)]
    if all(len(group) == 1 for group in groups.values()):
        if not numbers:
            return values
        # A number is multiplied over the fewest entries.
        smallest = min(groups, key=lambda axes: statements.count(tuple(axes)))
        groups[smallest] = [_product(statements, [*numbers, *groups[smallest]])]
        return [value for (value,) in groups.values()]
    gathered = []
    for axes, group in groups.items():
        others = frozenset[Index]().union(*(other for other in groups if other != axes))
        kept = tuple(index for index in group[0].axes if index in others or index in wanted)
        first, last = group[:-1], group[-1]
        gathered.append(
            _pair(statements, _product(statements, first), last, kept) if first else last
        )
    # A sum may leave arrays of axes that others have.
    return _gathered(statements, [*numbers, *gathered], wanted)


def _summed_alone(
    statements: Statements, k: int, values: list[Value], wanted: tuple[Index, ...]
) -> Value:
    """An array summed over what no other has."""
    others = {index for j, value in enumerate(values) if j != k for index in value.axes}
    kept = tuple(index for index in values[k].axes if index in others or index in wanted)
    return values[k] if kept == values[k].axes else statements.add(Selection(values[k]), kept)


def _product(statements: Statements, group: list[Value]) -> Value:
    if len(group) == 1:
        return group[0]
    return statements.add(Product(tuple(group)), max(group, key=lambda value: len(value.axes)).axes)


def _pair(statements: Statements, a: Value, b: Value, out: tuple[Index, ...]) -> Value:
    shared = set(a.axes) & set(b.axes)
    if shared <= set(out):
        # Nothing is summed over: entry by entry, where possible in the larger one's order.
        larger, smaller = (a, b) if statements.count(a.axes) >= statements.count(b.axes) else (b, a)
        axes = out if set(out) != set(larger.axes) else larger.axes
        assert set(axes) == {*a.axes, *b.axes}, "a product sums over nothing"
        return statements.add(Product((smaller, larger)), axes)
    # The result's rows are those of the left factor, so that it comes out of a matrix product.
    if out and out[0] in b.axes and out[0] not in a.axes:
        a, b = b, a
    batch = tuple(index for index in out if index in shared)
    rows, columns = (
        tuple(index for index in value.axes if index in out and index not in shared)
        for value in (a, b)
    )
    return statements.add(Contraction(a, b), (*batch, *rows, *columns))
