"""Sizes that follow from others: the n−1 of ``x[1:]``, the m·p of a Kronecker product.

A size is a number or text: a letter, a letter and a number (``n-1``), or a product of such
(``m*p``). Equal sizes are equal texts.
"""

import re
from collections.abc import Callable
from functools import reduce
from math import prod

from hesse.derivation.calculus.expression import Size

# More digits are no size of anything, and Python refuses some thousands of them.
_PART = re.compile(r"(?P<letter>\??[^\W\d]\w*)(?P<more>[+-]\d{1,18})?|(?P<number>\d{1,18})")

# A letter and what is added to it; of a number the letter is empty.
Part = tuple[str, int]


def parts(size: str) -> list[Part]:
    """The factors of a size, each a letter and what is added to it.

    Examples:
        >>> parts("m*n-1"), parts("2*n")
        ([('m', 0), ('n', -1)], [('', 2), ('n', 0)])
    """
    found = [_PART.fullmatch(part) for part in size.split("*")]
    return [(p["letter"] or "", int(p["more"] or p["number"] or 0)) for p in found if p is not None]


def _written(factors: list[Part]) -> Size:
    if all(not letter for letter, _ in factors):
        return prod(by for _, by in factors)
    return "*".join(
        sorted(
            (f"{letter}{by:+d}" if letter else str(by)) if by else letter for letter, by in factors
        )
    )


def is_size(text: str) -> bool:
    """Whether text is that of a size with a letter in it."""
    return all(_PART.fullmatch(part) for part in text.split("*")) and bool(letters(text))


def letters(size: Size) -> tuple[str, ...]:
    """The letters that a size is made of."""
    return () if isinstance(size, int) else tuple(letter for letter, _ in parts(size) if letter)


def is_derived(size: Size) -> bool:
    """Whether a size is more than a number or a letter."""
    return isinstance(size, str) and letters(size) != (size,)


def shifted(size: Size, by: int) -> Size:
    """A size and a number; of a product none is taken.

    Examples:
        >>> shifted("n", -1), shifted("n-1", -1), shifted("n-1", 1), shifted(4, -1)
        ('n-1', 'n-2', 'n', 3)
    """
    if isinstance(size, int) or not by:
        return size + by if isinstance(size, int) else size
    ((letter, before),) = parts(size)
    return _written([(letter, before + by)])


def multiplied(left: Size, right: Size) -> Size:
    """The product of two sizes.

    Examples:
        >>> multiplied("p", "m"), multiplied("n", 2), multiplied(2, 3)
        ('m*p', '2*n', 6)
    """
    return _written([*parts(str(left)), *parts(str(right))])


def replaced(size: Size, to: Callable[[str], Size]) -> Size:
    """A size with others in the place of its letters."""
    if isinstance(size, int):
        return size
    return reduce(multiplied, [shifted(to(one), by) if one else by for one, by in parts(size)])


def size_text(size: Size) -> str:
    """A size as people write it.

    Examples:
        >>> size_text("m*n-1"), size_text("d-1")
        ('m·(n−1)', 'd−1')
    """
    factors = str(size).split("*")
    if len(factors) > 1:
        factors = [f"({one})" if "+" in one or "-" in one else one for one in factors]
    return "·".join(factors).replace("-", "−")


def number(size: Size, of: Callable[[str], int]) -> int:
    """A size as a number, from those of its letters.

    Examples:
        >>> number("m*n-1", {"m": 2, "n": 4}.__getitem__)
        6
    """
    if isinstance(size, int):
        return size
    return prod(of(letter) + by if letter else by for letter, by in parts(size))
