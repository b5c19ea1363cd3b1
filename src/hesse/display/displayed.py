"""What every object that shows itself inherits."""

import abc

from hesse.display.display import Display
from hesse.display.html import html
from hesse.display.text import text


class Displayed(abc.ABC):
    """An object that shows itself: its repr, and what a notebook shows, are its `Display`."""

    @abc.abstractmethod
    def _display(self) -> Display:
        """What it shows."""

    def __repr__(self) -> str:
        return text(self._display())

    def _repr_html_(self) -> str:
        return html(self._display())
