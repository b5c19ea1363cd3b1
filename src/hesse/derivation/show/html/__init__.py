"""A derivation as a page of HTML: all readings in one, each line once."""

from hesse.derivation.show.html.rendering import fragment, page

__all__ = ["fragment", "page"]
