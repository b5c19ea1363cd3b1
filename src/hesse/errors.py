"""Every error that hesse raises on purpose.

Each is a `HesseError` and also the built-in that fits, so both
``except hesse.HesseError`` and ``except ValueError`` catch it.
"""

import math
import re
import textwrap
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Real
from typing import Any

import numpy as np

# What PyTorch writes of a check of its own that failed: the check, where it stands, and only then,
# if at all, what it means.
_INTERNAL = re.compile(
    r".*INTERNAL ASSERT FAILED at \S+?:\d+(, please report a bug to PyTorch)?\.?", re.DOTALL
)
# Paths, and "(Triggered internally at ...)" around them; and how sizes are called that a trace does
# not know.
_PLACES = re.compile(
    r"\s*(\(unhinted: .*|\((Triggered|raised) [^()]*\)|at"
    r" \S*/\S+|\"?\S*/\S+\.(cpp|cu|cc|hp?p?|py)\b\S*)"
)
# Characters of a note, which stands in a plan beside others.
_LONGEST = 160
# Of the last of two digits: 1.1000000000000003 is 1.1 after rounding errors, not 1.2.
_ROUNDING = 1e-6


def printable(text: str) -> str:
    """Text on one line, its control characters spelt out: names are the user's, and what a name
    holds must not move the cursor of a terminal or turn the direction of what follows.

    Examples:
        >>> print(printable("a\\x1b[31m"))
        a\\x1b[31m
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class HesseError(Exception):
    """Something in the request cannot be done; the text says what to change."""

    def __init__(self, *args: object) -> None:
        # Line breaks are the message's own: those of a name are quoted with it.
        super().__init__(
            *("\n".join(map(printable, a.split("\n"))) if isinstance(a, str) else a for a in args)
        )


class HesseValueError(HesseError, ValueError):
    """An argument has the right type and a value that cannot be used."""


class HesseTypeError(HesseError, TypeError):
    """An argument has the wrong type."""


class HesseKeyError(HesseError, KeyError):
    """A name that is not there; the text offers the nearest ones."""

    def __str__(self) -> str:
        # KeyError quotes its text; ours is a sentence.
        return str(self.args[0])


class HesseAttributeError(HesseError, AttributeError):
    """An attribute that other libraries' objects have; the text says how to ask for it here."""


class HesseMemoryError(HesseError, MemoryError):
    """The result or its intermediates would not fit."""


class HesseImportError(HesseError, ImportError):
    """An optional dependency is missing; the text names the extra that brings it."""


class HesseFileError(HesseError, OSError):
    """A file cannot be read as what it should be."""


class HesseDistributedError(HesseError, RuntimeError):
    """Another process of the group failed, ended, or does something else.

    Attributes:
        of_strategy: whether another way of computing may do.
    """

    of_strategy = False


def require_instance(given: Any, kind: type, name: str, how: str) -> None:
    """An object of hesse's public class ``kind``; ``how`` is the call that makes one."""
    if not isinstance(given, kind):
        raise HesseTypeError(
            f"{name}: expected a hesse.{kind.__name__}, got {type(given).__name__}: {how}"
        )


def require_flags(**flags: Any) -> None:
    """Arguments, by name, that are True or False."""
    for name, given in flags.items():
        if not isinstance(given, bool):
            raise HesseTypeError(f"{name}: expected True or False, got {given!r}")


def require_number(given: Any, name: str) -> float:
    """A finite number of Python's, of NumPy's, or in a tensor."""
    # One in a tensor is what an eigenvalue comes as.
    number = given.item() if getattr(given, "ndim", None) == 0 else given
    if isinstance(number, bool) or not isinstance(number, Real):
        raise HesseTypeError(f"{name}: expected a number, got {type(given).__name__}")
    try:
        finite = float(number)
    except OverflowError:  # whole numbers have no end
        finite = math.inf
    if not math.isfinite(finite):
        raise HesseValueError(f"{name}: expected a finite number, got {number}")
    return finite


def require_positive(number: Any, name: str, zero: bool = False) -> float:
    """A finite number > 0 (>= 0 where zero is allowed), as a float."""
    if not isinstance(number, int | float | np.number) or isinstance(number, bool):
        raise HesseTypeError(f"{name}: expected a number, got {type(number).__name__}")
    if not (0 < number < math.inf or (zero and number == 0)):
        raise HesseValueError(
            f"{name}: expected a finite number {'>=' if zero else '>'} 0, got {number}"
        )
    return float(number)


def require_integer(number: Any, name: str, least: int) -> int:
    """An integer that is at least so large."""
    if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < least:
        raise HesseValueError(f"{name}: expected a whole number >= {least}, got {number!r}")
    return int(number)


def require_progress(progress: Any) -> None:
    """A bar that is shown, hidden, or shown where the work takes long."""
    if progress is not None:
        require_flags(progress=progress)


def require_mapping(given: Any, name: str, kind: type, of: str) -> None:
    """A dictionary from texts to objects of one kind, ``of`` in words."""
    if not isinstance(given, Mapping):
        raise HesseTypeError(
            f"{name}: expected a dictionary {{name: {of}}}, got {type(given).__name__}"
        )
    for key, value in given.items():
        if not isinstance(key, str):
            raise HesseTypeError(
                f"{name}: expected a dictionary {{name: {of}}}, got one with the key {key!r:.60}"
                f" ({type(key).__name__})"
            )
        if not isinstance(value, kind):
            raise HesseTypeError(
                f"{name}[{key!r}]: expected a {of} in a dictionary {{name: {of}}}, got"
                f" {type(value).__name__}"
            )


def require_strided(given: Any, name: str) -> None:
    """A tensor of which every entry is stored."""
    if (layout := str(given.layout)) != "torch.strided":
        raise HesseTypeError(
            f"{name}: expected a dense tensor, got a {layout.removeprefix('torch.')} one; convert"
            " it with .to_dense()"
        )


def require_word(given: Any, name: str, known: Iterable[str | None]) -> None:
    """One of some words, or None where that is among them.

    Examples:
        >>> require_word("Layers", "by", ["parameter", "layer"])
        Traceback (most recent call last):
        hesse.errors.HesseValueError: by: expected one of 'parameter', 'layer', got 'Layers'; did \
you mean 'layer'?
    """
    words = list(known)
    # What cannot be compared, an array for instance, is none of them.
    if (given is None or isinstance(given, str)) and given in words:
        return
    close = _close(given, [word for word in words if word], 0.5) if isinstance(given, str) else []
    meant = f"; did you mean {close[0]!r}?" if close else ""
    raise HesseValueError(
        f"{name}: expected one of {', '.join(map(repr, words))}, got {given!r:.60}{meant}"
    )


def _close(name: str, known: list[str], cutoff: float) -> list[str]:
    """The nearest known names, nearest first, whatever their case."""
    folded = {word.casefold(): word for word in reversed(known)}
    found = get_close_matches(name.casefold(), folded, n=3, cutoff=cutoff)
    return [folded[word] for word in found]


def nearest(name: str, known: list[str]) -> str:
    """A hint for an unknown name: the nearest known ones, or all when there are few."""
    close = _close(name, known, 0.4) or known[:6]
    more = ", ..." if len(close) < len(known) and close == known[:6] else ""
    return ", ".join(repr(candidate) for candidate in close) + more


def readable_bytes(count: float) -> str:
    """A number of bytes as a person writes it: ``readable_bytes(2_300_000) == '2.3 MB'``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def in_a_line(error: BaseException) -> str:
    """An error for a note: its kind and its first sentence, without places in PyTorch's sources.

    Examples:
        >>> text = 'x.ok() INTERNAL ASSERT FAILED at "/a/b.cpp":6, please report a bug to PyTorch.'
        >>> in_a_line(RuntimeError(f"{text} No x. More."))
        'RuntimeError: No x'
        >>> in_a_line(ValueError())
        'ValueError'
    """
    text = str(error)
    said = _INTERNAL.sub("", text).strip() or (
        "an internal check of PyTorch failed" if text.strip() else ""
    )
    line = " ".join(_PLACES.sub("", next(iter(said.splitlines()), "")).split())
    sentence = textwrap.shorten(
        re.split(r"[.;!?] +(?=[A-Z])", line)[0].rstrip(".:; "), _LONGEST, placeholder=" ..."
    )
    return f"{type(error).__name__}: {sentence}" if sentence else type(error).__name__


def rounded_up(number: float) -> float:
    """The next number with two digits; what is one to rounding stays.

    Examples:
        >>> rounded_up(0.01234), rounded_up(1.1000000000000003)
        (0.013, 1.1)
    """
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{math.ceil(number / unit - _ROUNDING) * unit:.2g}")
