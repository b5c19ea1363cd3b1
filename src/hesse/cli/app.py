"""The script `hesse`: runs a command and prints hesse's own errors as one message."""

import contextlib
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from hesse.cli.letters import write_in_own_letters
from hesse.distributed.group import current
from hesse.errors import HesseError
from hesse.matrix.tables import printable_lines

# As a shell has it of a process that a signal ended: 13 of a closed pipe, 2 of Ctrl-C.
_BROKEN_PIPE, _INTERRUPTED = 128 + 13, 128 + 2
# Characters of a line of an error: a few of a terminal's.
_LONGEST = 800


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; by default that of the process.

    Returns:
        The exit status: 0, or 1 where an error was printed, 130 after Ctrl-C, 141 where nobody
        reads what is printed. A command line that cannot be parsed exits by itself.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            write_in_own_letters(stream)
    # Here and not above: without the extra, the script says what to install.
    try:
        import hesse.cli.commands  # noqa: F401  (each joins the application)
        from hesse.cli.application import app
    except ModuleNotFoundError as error:
        if error.name not in ("cyclopts", "rich"):
            raise
        return _fail(
            f"the command line needs {error.name}; install it with: pip install 'hesse[cli]'"
        )
    if sys.stdout is None:
        return _fail("standard output is closed, so that nothing can be printed")
    # Other errors are bugs, and keep their traceback.
    try:
        app(arguments, result_action="return_none")
        sys.stdout.flush()
    except HesseError as error:
        return _fail(str(error))
    except BrokenPipeError:
        _discard_output()
        return _BROKEN_PIPE
    except OSError as error:  # what the system refuses is no bug
        _discard_output()
        return _fail(f"cannot print: {error.strerror or error}")
    except MemoryError as error:
        return _fail(f"there is not enough memory: {error}")
    except KeyboardInterrupt as interrupt:
        _fail(str(interrupt) or "interrupted")  # a command may say what is left of its work
        return _INTERRUPTED
    return 0


def _fail(message: str) -> int:
    """Print an error, whatever characters the user's own error has; the status for it."""
    if sys.stderr is not None:
        lines = [_shortened(line) for line in printable_lines(message).split("\n")]
        with contextlib.suppress(OSError):  # there is nowhere left to say it
            who = "hesse:" if (group := current()) is None else f"hesse (rank {group.rank}):"
            print(who, "\n".join(lines), file=sys.stderr, flush=True)
    return 1


def _shortened(line: str) -> str:
    return (
        line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    )


def _discard_output() -> None:
    """So that what is still to be printed does not fail once more when Python ends."""
    # A stream that is not the process's own is its owner's.
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
