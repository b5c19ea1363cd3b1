"""Sections as one page of HTML that needs nothing else: no script, style, font or picture from
elsewhere."""

import base64
from collections.abc import Sequence
from typing import Any

from hesse.display.text import rows_that_fit
from hesse.errors import HesseImportError, printable
from hesse.reports.parts import Section
from hesse.version import __version__

# Rows of a table, the first and the last.
_ROWS = 40


def page(title: str, sections: Sequence[Section]) -> str:
    """The page; everything in it is escaped.

    Raises:
        HesseImportError: jinja2 is not installed.
    """
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise HesseImportError(
            f"a page of HTML needs jinja2 ({error}); install it with: pip install 'hesse[html]'"
        ) from error
    environment = Environment(
        # A derivation's page has what scrolls, too.
        loader=ChoiceLoader(
            [PackageLoader(f"hesse.{room}") for room in ("reports", "derivation.show.html")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Names are the user's, and hold what they hold.
        finalize=_printable,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    environment.filters["rows"] = lambda table: rows_that_fit(table, _ROWS)
    return environment.get_template("report.html.j2").render(
        title=title, sections=sections, version=__version__
    )


def _printable(value: Any) -> Any:
    return "\n".join(map(printable, value.split("\n"))) if type(value) is str else value
