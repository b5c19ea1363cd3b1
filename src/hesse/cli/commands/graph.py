"""`hesse graph`: a cost's computational graph, said as its steps and drawn."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hesse.cli.application import EXAMPLE, app
from hesse.cli.arguments import Json, ModelArguments
from hesse.cli.documents import cost_fields
from hesse.cli.inputs.places import check_writable
from hesse.cli.output import Output
from hesse.distributed.group import is_first
from hesse.process.files import write_text
from hesse.spectra.accuracy import require_seed

_NUMBERS = 6  # of an array that is printed whole


@app.command(help_epilogue=f"Example: hesse graph {EXAMPLE} --figure graph.svg", sort_key=10)
def graph(
    arguments: ModelArguments,
    *,
    seed: Annotated[int, Parameter(help="Of the random direction v.")] = 0,
    figure: Annotated[
        Path | None, Parameter(help="Draw the graph with its numbers to this .svg file.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the computational graph of a small network's cost, and go through it step by step:
    values forward, δ backward, and a product H v as the same two sweeps again."""
    # Late: the other commands need no formulas.
    from hesse.derivation.sweeps.computation import SWEEPS, computation
    from hesse.derivation.sweeps.drawing import svg
    from hesse.derivation.sweeps.numbers import line_of_numbers
    from hesse.derivation.sweeps.subject import direction, of_cost

    check_writable("--figure", figure, (".svg",))
    require_seed(seed)
    with Output("graph", json) as output:
        cost = arguments.cost()
        subject = of_cost(cost)
        found = computation(subject, direction(subject, seed))
        output.say(cost)
        output.heading("Given")
        for node in found.nodes:
            if node.name in found.given:
                numbers = line_of_numbers(found.given[node.name], _NUMBERS)
                output.say(f"  {node.symbol} = {numbers}")
        for k, title in enumerate(SWEEPS):
            output.heading(f"{k + 1}  {title}")
            for step in found.steps:
                if step.sweep == k:
                    numbers = line_of_numbers(step.value, _NUMBERS)
                    output.say(f"  {step.line} = {numbers}" + f"    {step.why}" * bool(step.why))
        output.has(
            cost=cost_fields(cost),
            given=[{"node": name, "value": value} for name, value in found.given.items()],
            steps=[
                {"sweep": step.sweep + 1, "node": step.node, "line": step.line, "value": step.value}
                for step in found.steps
            ],
        )
        if figure is not None:
            if is_first():
                write_text(figure, "--figure", svg(found, f"Computational graph of {cost}"))
            output.wrote(figure, "figure")
