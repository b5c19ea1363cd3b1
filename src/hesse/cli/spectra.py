"""The commands about spectra."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import hesse
from hesse.cli.commands import EXAMPLE, Curvature, ModelArguments, app
from hesse.cli.inputs import check_writable, require
from hesse.cli.output import FIGURES, save_figure, say
from hesse.errors import require_integer, require_positive

Seed = Annotated[int, Parameter(help="Of the random vectors of estimates.")]


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
) -> None:
    """Show how sharp the cost is, by layer and as a whole: trace and largest eigenvalue."""
    check_writable("--figure", figure, FIGURES)
    if figure is not None:
        require("matplotlib", "plot", "--figure")
    require_positive(tolerance, "tolerance")
    budget, cost = arguments.bytes, arguments.cost()
    found = hesse.layers(
        cost, relative_error=tolerance, curvature=curvature, seed=seed, memory=budget
    )
    say(f"{cost}\n")
    say(found)
    if figure is not None:
        save_figure(figure, "--figure", found.plot)
        say(f"wrote {figure}")


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
) -> None:
    """Show the trace and the eigenvalues at both ends of the spectrum, with residuals."""
    check_writable("--figure", figure, FIGURES)
    if figure is not None:
        require("matplotlib", "plot", "--figure")
    require_integer(count, "count", 1)
    budget, cost = arguments.bytes, arguments.cost()
    operator = hesse.operator(cost, curvature=curvature, memory=budget)
    say(f"{cost}\n")
    say(f"trace: {hesse.trace(operator, seed=seed, memory=budget)}")
    most = min(2 * count, cost.layout.size)
    say(hesse.eigenpairs(operator, most, "both", seed=seed, memory=budget))
    if figure is not None:
        density = hesse.density(operator, seed=seed, memory=budget)
        assert isinstance(density, hesse.Density)
        save_figure(figure, "--figure", density.plot)
        say(f"wrote {figure}")
