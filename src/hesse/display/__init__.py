"""How every object shows itself, at a prompt and in a notebook: one record, written as text and as
HTML, within a screen."""

from hesse.display.display import Display, Fact, Table, counted, facts
from hesse.display.displayed import Displayed

__all__ = ["Display", "Displayed", "Fact", "Table", "counted", "facts"]
