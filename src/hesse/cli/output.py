"""What every command does with its results: say them, as text or as one JSON document, and write
figures."""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

from rich.console import Console
from rich.text import Text

from hesse.cli.documents import plain
from hesse.cli.inputs.places import check_writable, require
from hesse.distributed.group import is_first
from hesse.matrix.tables import printable_lines
from hesse.process.files import replacing
from hesse.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIGURES = (".png", ".pdf", ".svg")


@final
class Output:
    """What one command says: text as it goes, or, where a document is asked for, that alone, when
    all went well. Of several processes one says it.

    Args:
        command: its name.
        json: whether a document is asked for. Standard output is then nobody else's: what the
            user's own files print goes to standard error.
    """

    def __init__(self, command: str, json: bool) -> None:
        self._json = json
        self._document: dict[str, Any] = {"hesse": __version__, "command": command}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Output":
        if self._json:
            self._stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        if self._json and error is None and is_first():
            # In ASCII, which every terminal and reader has.
            print(json.dumps(self._document, allow_nan=False))

    def say(self, what: object = "", *, style: str = "") -> None:
        """Print a text as it is: names from models and files are not read as markup, nor by the
        terminal, and tables are not wrapped."""
        if is_first() and not self._json:
            Console().print(Text(printable_lines(str(what)), style=style), soft_wrap=True)

    def heading(self, title: str) -> None:
        """What the next lines are about."""
        self.say(f"\n{title}", style="bold")

    def has(self, **fields: Any) -> None:
        """Fields of the document: results, or what is plain already."""
        if self._json:
            self._document |= {name: plain(value) for name, value in fields.items()}

    def wrote(self, path: Path, field: str) -> None:
        """A file is there."""
        self.say(f"wrote {path}")
        self.has(**{field: str(path)})


def check_figure(path: Path | None, option: str = "--figure") -> None:
    """Refuse, before any work, a picture that could not be drawn after it."""
    check_writable(option, path, _FIGURES)
    if path is not None:
        require("matplotlib", "plot", option)


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
