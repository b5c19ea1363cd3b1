"""Shapes as they are declared: ``W[h,d] x[d] a[]``."""

import re
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from hesse.derivation.calculus.expression import Size
from hesse.derivation.calculus.sizes import is_size, replaced
from hesse.derivation.sources.language.parsing import normal
from hesse.derivation.sources.language.place import pointed
from hesse.derivation.sources.language.vocabulary import known
from hesse.errors import HesseTypeError, HesseValueError

Shape = tuple[Size, ...]

LONGEST_SIZE = 18  # digits of a 64-bit number

_DECLARED = re.compile(r"([^\W\d]\w*)\s*\[([^\[\]]*)\]\s*,?\s*")


def declared(shapes: Any) -> dict[str, Shape]:
    """Shapes from ``"W[h,d] x[d] a[]"``, or from a mapping ``{"W": ("h", "d"), "x": ("d",), "a":
    ()}``.

    Raises:
        HesseTypeError: neither text nor a mapping.
        HesseValueError: a declaration that cannot be read, a name declared twice, a size that is
            neither a number nor a letter.
    """
    if shapes is None:
        return {}
    if not isinstance(shapes, str | Mapping):
        raise HesseTypeError(
            "shapes must be text, such as 'W[h,d] x[d] a[]', or a mapping; got"
            f" {type(shapes).__name__}"
        )
    if isinstance(shapes, Mapping):
        pairs = [(name, _sizes_of(name, sizes)) for name, sizes in shapes.items()]
    else:
        pairs, place = [], 0
        text = " ".join(shapes.split())
        while place < len(text):
            declaration = _DECLARED.match(text, place)
            if declaration is None:
                message = (
                    "shapes cannot be read: write each name with its sizes in brackets, such as"
                    " W[h,d] x[d] a[]"
                )
                raise pointed(message, text, (place, place + 1))
            sizes = declaration[2].strip()
            pairs.append(
                (
                    declaration[1],
                    (
                        tuple(part.strip() for part in sizes.removesuffix(",").split(","))
                        if sizes
                        else ()
                    ),
                )
            )
            place = declaration.end()
    result: dict[str, Shape] = {}
    for name, sizes in pairs:
        if (name := normal(name)) in result:
            raise HesseValueError(f"the shape of {name!r} is declared twice")
        if "__" in name or name in known():
            raise HesseValueError(f"{name!r} cannot be the name of an array")
        result[name] = tuple(_size(size, name) for size in sizes)
    # A letter cannot be an array and a size: n*x would mean two things.
    both = [name for name in result if any(name in sizes for sizes in result.values())]
    if both:
        raise HesseValueError(
            f"{both[0]!r} is declared as an array and used as a size; give one of them another"
            " letter"
        )
    return result


def _sizes_of(name: Any, sizes: Any) -> tuple[Any, ...]:
    """What a mapping says of one name."""
    if not isinstance(name, str):
        raise HesseTypeError(f"shapes must map names to sizes; got the name {name!r}")
    if isinstance(sizes, str) or not isinstance(sizes, Iterable):
        raise HesseTypeError(
            f"shapes[{name!r}] must be a tuple of sizes, such as ('h', 'd') or (); got {sizes!r}"
        )
    return tuple(sizes)


def _size(size: Any, name: str) -> Size:
    if isinstance(size, str) and is_size(size) and "__" not in size:
        # n-1 and m*p are sizes too.
        return replaced(size, normal)
    if isinstance(size, str) and len(size) > LONGEST_SIZE and size.isdecimal():
        raise HesseValueError(
            f"a size of {name!r} has {len(size)} digits; no array has a size of more than"
            f" {LONGEST_SIZE}"
        )
    number = (
        int(size)
        if isinstance(size, Integral) or (isinstance(size, str) and size.isdecimal())
        else 0
    )
    if number < 1 or isinstance(size, bool):
        raise HesseValueError(
            f"a size of {name!r} is {size!r}; a size is a positive whole number or a letter"
        )
    return number
