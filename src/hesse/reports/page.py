"""Sections as one page of HTML that needs nothing else: no script, style, font or picture from
elsewhere."""

import base64
from collections.abc import Sequence
from typing import Any

from hesse.display.templates import templates
from hesse.display.text import rows_that_fit
from hesse.errors import printable
from hesse.reports.parts import Section
from hesse.version import __version__

# Rows of a table, the first and the last.
_ROWS = 40


def page(title: str, sections: Sequence[Section]) -> str:
    """The page; everything in it is escaped.

    Raises:
        HesseImportError: jinja2 is not installed.
    """
    # A derivation's page has what scrolls, too. Names are the user's, and hold what they hold.
    environment = templates("hesse.reports", "hesse.derivation.show.html", finalize=_printable)
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    environment.filters["rows"] = lambda table: rows_that_fit(table, _ROWS)
    return environment.get_template("report.html.j2").render(
        title=title, sections=sections, version=__version__
    )


def _printable(value: Any) -> Any:
    return "\n".join(map(printable, value.split("\n"))) if type(value) is str else value
