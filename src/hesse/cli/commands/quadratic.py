"""`hesse quadratic`: the quadratic model of a cost."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import hesse
from hesse.cli.application import EXAMPLE, app
from hesse.cli.arguments import Curvature, Json, ModelArguments
from hesse.cli.documents import cost_fields
from hesse.cli.output import Output, check_figure, save_figure


@app.command(help_epilogue=f"Example: hesse quadratic {EXAMPLE} --figure q.png", sort_key=5)
def quadratic(
    arguments: ModelArguments,
    *,
    tolerance: Annotated[
        float, Parameter(help="Of the model's relative error, within the trust radius.")
    ] = 0.1,
    curvature: Curvature = "hessian",
    figure: Annotated[
        Path | None,
        Parameter(
            help=(
                "Draw cost and model along a line and over a plane, the spectrum and the error, to"
                " this file."
            )
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the quadratic model of the cost: how far to trust it, the step that each method
    proposes, and what it achieves."""
    # Late, as in other commands: `hesse --help` should not wait for SciPy and pictures.
    from hesse.cli.quadratic import pictures, report
    from hesse.errors import require_positive

    check_figure(figure)
    require_positive(tolerance, "tolerance")
    with Output("quadratic", json) as output:
        budget, cost = arguments.bytes, arguments.cost()
        q = hesse.quadratic(cost, curvature=curvature, memory=budget)
        output.has(cost=cost_fields(cost, curvature))
        trust = report(q, output, tolerance)
        if figure is not None:
            save_figure(figure, "--figure", *pictures(q, trust))
            output.wrote(figure, "figure")
