"""`hesse layers`, `hesse spectrum`: eigenvalues, by layer and at both ends."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import hesse
from hesse.cli.application import EXAMPLE, app
from hesse.cli.arguments import Curvature, Json, ModelArguments, Seed
from hesse.cli.documents import cost_fields, eigenpairs_fields, layers_fields
from hesse.cli.output import Output, check_figure, save_figure
from hesse.errors import require_integer, require_positive


@app.command(help_epilogue=f"Example: hesse layers {EXAMPLE} --figure layers.png", sort_key=7)
def layers(
    arguments: ModelArguments,
    *,
    curvature: Curvature = "hessian",
    tolerance: Annotated[
        float, Parameter(help="Of a trace that is estimated, its standard error relative to it.")
    ] = 0.05,
    seed: Seed = 0,
    figure: Annotated[
        Path | None, Parameter(help="Draw the table as bars to this .png, .pdf or .svg file.")
    ] = None,
    json: Json = False,
) -> None:
    """Show how sharp the cost is, by layer and as a whole: trace and largest eigenvalue."""
    check_figure(figure)
    require_positive(tolerance, "tolerance")
    with Output("layers", json) as output:
        budget, cost = arguments.bytes, arguments.cost()
        found = hesse.layers(
            cost, relative_error=tolerance, curvature=curvature, seed=seed, memory=budget
        )
        output.say(f"{cost}\n")
        output.say(found)
        output.has(cost=cost_fields(cost, curvature), **layers_fields(found))
        if figure is not None:
            save_figure(figure, "--figure", found.plot)
            output.wrote(figure, "figure")


@app.command(
    help_epilogue=f"Example: hesse spectrum {EXAMPLE} --count 5 --figure density.png", sort_key=8
)
def spectrum(
    arguments: ModelArguments,
    *,
    count: Annotated[int, Parameter(help="How many eigenvalues of each end.")] = 5,
    curvature: Curvature = "hessian",
    seed: Seed = 0,
    figure: Annotated[
        Path | None,
        Parameter(help="Draw the density of the eigenvalues to this .png, .pdf or .svg file."),
    ] = None,
    json: Json = False,
) -> None:
    """Show the trace and the eigenvalues at both ends of the spectrum, with residuals."""
    check_figure(figure)
    require_integer(count, "count", 1)
    with Output("spectrum", json) as output:
        budget, cost = arguments.bytes, arguments.cost()
        operator = hesse.operator(cost, curvature=curvature, memory=budget)
        output.say(f"{cost}\n")
        trace = hesse.trace(operator, seed=seed, memory=budget)
        output.say(f"trace: {trace}")
        most = min(2 * count, cost.layout.size)
        pairs = hesse.eigenpairs(operator, most, "both", seed=seed, memory=budget)
        output.say(pairs)
        output.has(
            cost=cost_fields(cost, curvature),
            trace=trace,
            eigenpairs=eigenpairs_fields(pairs),
        )
        if figure is not None:
            density = hesse.density(operator, seed=seed, memory=budget)
            assert isinstance(density, hesse.Density)
            save_figure(figure, "--figure", density.plot)
            output.wrote(figure, "figure")
