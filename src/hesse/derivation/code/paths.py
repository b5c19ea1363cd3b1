"""The order in which a product of several arrays is taken, two at a time."""

from collections.abc import Callable, Sequence

import opt_einsum

from hesse.derivation.calculus.expression import Index, Size
from hesse.derivation.code.statements import Value

# Up to so many arrays every order is tried.
_EXHAUSTIVE = 6


def pairs(
    found: Sequence[Value], wanted: tuple[Index, ...], size: Callable[[Size], int]
) -> list[tuple[int, int, bool]]:
    """The pairs to multiply, by position among what is left, and whether it is the last: the
    cheapest order."""
    if len(found) == 1:
        return []
    if len(found) == 2:
        return [(0, 1, True)]
    symbols: dict[Index, str] = {}
    for value in found:
        for index in value.axes:
            symbols.setdefault(index, opt_einsum.get_symbol(len(symbols)))
    spelled = ",".join("".join(symbols[index] for index in value.axes) for value in found)
    shapes = [tuple(size(index.size) for index in value.axes) for value in found]
    target = "".join(symbols[index] for index in wanted)
    path, _ = opt_einsum.contract_path(
        f"{spelled}->{target}",
        *shapes,
        shapes=True,
        optimize="optimal" if len(found) <= _EXHAUSTIVE else "auto",
    )
    return [(min(pair), max(pair), k == len(path) - 1) for k, pair in enumerate(path)]
