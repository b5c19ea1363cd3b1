"""The application that every command joins."""

from cyclopts import App, Parameter

import hesse

# The docstrings of commands and the `help` texts are what `hesse COMMAND --help` prints.
app = App(
    name="hesse",
    help="The second derivatives of a neural network's cost function: exact, by parameter name.",
    version=hesse.__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    # `main` says what is left of the work.
    suppress_keyboard_interrupt=False,
)

EXAMPLE = "model.py:net --data digits.npz --loss cross_entropy"
