"""The application that every command joins."""

from cyclopts import App, CycloptsError, CycloptsPanel, Parameter

import hesse
from hesse.matrix.tables import printable_lines


def _shown(error: CycloptsError) -> object:
    """What is wrong with a command line, whatever characters it has."""
    return CycloptsPanel(printable_lines(str(error)))


# The docstrings of commands and the `help` texts are what `hesse COMMAND --help` prints.
app = App(
    name="hesse",
    help="The second derivatives of a neural network's cost function: exact, by parameter name.",
    version=hesse.__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    error_formatter=_shown,
    # `main` says what is left of the work.
    suppress_keyboard_interrupt=False,
)

EXAMPLE = "model.py:net --data digits.npz --loss cross_entropy"
