"""What every command does with its results: print text, and write figures."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from hesse.distributed.group import is_first
from hesse.matrix.tables import printable_lines
from hesse.process.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = (".png", ".pdf", ".svg")


def say(what: object = "", *, style: str = "") -> None:
    """Print a text as it is: names from models and files are not read as markup, nor by the
    terminal, and tables are not wrapped. Of several processes one prints."""
    if not is_first():
        return
    Console().print(Text(printable_lines(str(what)), style=style), soft_wrap=True)


def save_figure(path: Path, option: str, *draws: Callable[["Axes"], Any]) -> None:
    """Draw one picture or several, two in a row, and write them; ``option`` named the file. Of
    several processes one writes."""
    if not is_first():
        return
    from matplotlib.figure import Figure

    columns = min(2, len(draws))
    rows = -(-len(draws) // columns)
    # Not pyplot's: no window, nothing to close.
    figure = Figure(figsize=(7.6 * columns, 6.0 * rows), layout="constrained")
    for place, draw in enumerate(draws, start=1):
        draw(figure.add_subplot(rows, columns, place))
    with replacing(path, option) as partial:
        figure.savefig(partial, dpi=160)
