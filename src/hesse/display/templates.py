"""Templates of pages: what is put into one is escaped, and a name without a value is an error."""

from typing import Any

from hesse.errors import HesseImportError


def templates(*rooms: str, **options: Any) -> Any:
    """The templates of packages, the first that has one of a name; options as Jinja's.

    Raises:
        HesseImportError: jinja2 is not installed.
    """
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise HesseImportError(
            f"a page of HTML needs jinja2 ({error}); install it with: pip install 'hesse[html]'"
        ) from error
    return Environment(
        loader=ChoiceLoader([PackageLoader(room) for room in rooms]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
