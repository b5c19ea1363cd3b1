"""Every error that hesse raises on purpose.

Each is a `HesseError` and also the built-in that fits, so both
``except hesse.HesseError`` and ``except ValueError`` catch it.
"""

import re
import textwrap
from difflib import get_close_matches

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


class HesseError(Exception):
    """Something in the request cannot be done; the text says what to change."""


class HesseValueError(HesseError, ValueError):
    """An argument has the right type and a value that cannot be used."""


class HesseTypeError(HesseError, TypeError):
    """An argument has the wrong type."""


class HesseKeyError(HesseError, KeyError):
    """A name that is not there; the text offers the nearest ones."""

    def __str__(self) -> str:
        # KeyError quotes its text; ours is a sentence.
        return str(self.args[0])


class HesseMemoryError(HesseError, MemoryError):
    """The result or its intermediates would not fit."""


class HesseImportError(HesseError, ImportError):
    """An optional dependency is missing; the text names the extra that brings it."""


class HesseFileError(HesseError, OSError):
    """A file cannot be read as what it should be."""


def nearest(name: str, known: list[str]) -> str:
    """A hint for an unknown name: the nearest known ones, or all when there are few."""
    close = get_close_matches(name, known, n=3, cutoff=0.4) or known[:6]
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

    Example:
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
