"""`hesse minimize`: a minimum of a cost."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from hesse.cli.application import EXAMPLE, app
from hesse.cli.arguments import Curvature, Json, ModelArguments
from hesse.cli.documents import cost_fields
from hesse.cli.inputs.places import check_writable
from hesse.cli.output import Output


@app.command(
    help_epilogue=f"Example: hesse minimize {EXAMPLE} --penalty 1e-3 --out net.safetensors",
    sort_key=6,
)
def minimize(
    arguments: ModelArguments,
    *,
    method: Annotated[
        Literal["trust-exact", "cubic", "trust-krylov", "trust-ncg", "dogleg", "Newton-CG"],
        Parameter(
            help=(
                "How steps are found. trust-exact and dogleg build H, cubic where it fits, the"
                " others take products with it."
            )
        ),
    ] = "trust-exact",
    curvature: Curvature = "hessian",
    tolerance: Annotated[
        float, Parameter(help="Stop where no entry of the gradient is larger.")
    ] = 1e-6,
    maxiter: Annotated[int, Parameter(help="Stop after so many iterations.")] = 1000,
    radius: Annotated[
        float | None,
        Parameter(help="The first trust radius. Default: 1, or that of the file of --start."),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            help=(
                "Write the parameters found to this .safetensors file, by name; as the run goes,"
                " those that it has reached."
            )
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Minimise the cost by steps from its exact Hessian, from the model's parameters on, or from
    those of --start: where an earlier or interrupted run wrote them, it goes on."""
    from hesse.cli.minimize import run
    from hesse.taylor.checkpoint import read, write

    check_writable("--out", out, (".safetensors",))
    with Output("minimize", json) as output:
        budget = arguments.bytes
        # A file that cannot be read is told before the model is built.
        earlier = None if arguments.start is None else read(arguments.start, "--start")
        cost = arguments.cost()
        output.has(cost=cost_fields(cost, curvature))
        result = run(
            cost,
            method,
            earlier,
            output,
            curvature=curvature,
            tolerance=tolerance,
            maxiter=maxiter,
            radius=radius,
            memory=budget,
            out=out,
        )
        if out is not None:
            # Once more: a file that could not be written ends no run, and a command.
            write(result, out, "--out")
            output.wrote(out, "out")
