"""A derivation as one page of HTML: MathML, no script, style or font from elsewhere."""

import re
import secrets
from typing import Any

from hesse.derivation.lines.records import Record
from hesse.derivation.show.html.content import Content
from hesse.display.templates import templates

# Signs of control, and those that turn the direction of a text; MathML has unseen ones of its own.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def page(record: Record) -> str:
    """The whole derivation as one file that needs nothing else: open it in any browser, offline.

    Raises:
        HesseImportError: jinja2 is not installed.
    """
    return _rendered("page.html.j2", record, "hesse", 1)


def fragment(record: Record, level: int = 3) -> str:
    """The same as a part of a page, for a notebook.

    Args:
        record: the derivation.
        level: of its heading; those of its sections are one lower.

    Raises:
        HesseImportError: jinja2 is not installed.
    """
    # A notebook can hold many: each has names of its own for its switch.
    return _rendered("fragment.html.j2", record, f"hesse-{secrets.token_hex(4)}", level)


def _rendered(template: str, record: Record, prefix: str, level: int) -> str:
    page = _environment().get_template(template)
    return _shown(page.render(Content(record).model(), prefix=prefix, level=level))


def _shown(text: str) -> str:
    """A text in which signs that cannot be seen are written out."""
    return _UNSHOWN.sub(lambda sign: repr(sign[0])[1:-1], text)


def _quoted(text: str) -> str:
    """A text as a string of a style sheet: no sign of it but letters and digits stays as it is."""
    return (
        '"' + re.sub(r"[^A-Za-z0-9 ,()]", lambda sign: f"\\{ord(sign[0]):x} ", _shown(text)) + '"'
    )


def _environment() -> Any:
    environment = templates("hesse.derivation.show.html")
    environment.filters["quoted"] = _quoted
    return environment
