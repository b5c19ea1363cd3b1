"""The commands, a file for what they are about: each parses its options, calls the library's
function of the same name, and says what came of it."""

from hesse.cli.commands import (  # noqa: F401 (each joins the application)
    completion,
    demo,
    derive,
    graph,
    hessian,
    minimize,
    quadratic,
    report,
    serve,
    spectra,
)
