"""The script `hesse`: runs a command and prints hesse's own errors as one message."""

import sys
from collections.abc import Sequence

from hesse.errors import HesseError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; by default that of the process.

    Returns:
        The exit status: 0, or 1 where a `HesseError` was printed. A command line that cannot be
        parsed exits by itself.
    """
    # Here and not above: without the extra, the script says what to install.
    try:
        from hesse.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name not in ("cyclopts", "rich"):
            raise
        print(
            f"hesse: the command line needs {error.name}; install it with: pip install"
            " 'hesse[cli]'",
            file=sys.stderr,
        )
        return 1
    # Other errors are bugs, and keep their traceback.
    try:
        app(arguments, result_action="return_none")
    except HesseError as error:
        print(f"hesse: {error}", file=sys.stderr)
        return 1
    return 0
