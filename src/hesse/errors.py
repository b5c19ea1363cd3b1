"""Every error that hesse raises on purpose.

Each is a `HesseError` and also the built-in that fits, so both
``except hesse.HesseError`` and ``except ValueError`` catch it.
"""

from difflib import get_close_matches


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
