"""How every object shows itself, at a prompt and in a notebook: one record, written as text and as
HTML, within a screen."""

from hesse.display.display import Display, Displayed, Fact, Table, counted, facts

__all__ = ["Display", "Displayed", "Fact", "Table", "counted", "facts"]
