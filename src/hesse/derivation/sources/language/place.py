"""Errors that show where in the text they are."""

from hesse.derivation.sources.language.tree import Span
from hesse.errors import HesseValueError


def pointed(message: str, text: str, span: Span | None) -> HesseValueError:
    """An error with the text below it and carets under the place."""
    if span is None:
        return HesseValueError(message)
    start, end = span
    return HesseValueError(f"{message}\n    {text}\n    {' ' * start}{'^' * max(1, end - start)}")
