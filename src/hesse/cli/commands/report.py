"""`hesse report`: all of it on one page."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hesse.cli.application import EXAMPLE, app
from hesse.cli.arguments import Json, ModelArguments
from hesse.cli.documents import cost_fields, report_fields
from hesse.cli.inputs.places import check_writable, require
from hesse.cli.output import Output


@app.command(help_epilogue=f"Example: hesse report {EXAMPLE} --out report.html", sort_key=10)
def report(
    arguments: ModelArguments,
    *,
    out: Annotated[Path, Parameter(help="The .html file to write.")],
    json: Json = False,
) -> None:
    """Write one self-contained page: the cost, the plan, the Hessian with its certificate, layers,
    spectrum, extreme directions, the quadratic model and the derivation."""
    check_writable("--out", out, (".html",))
    for package, extra in (("jinja2", "html"), ("matplotlib", "plot")):
        require(package, extra, "a report")
    from hesse.reports.report import report as write_report

    with Output("report", json) as output:
        budget, cost = arguments.bytes, arguments.cost()
        start = time.perf_counter()
        done = write_report(cost, out, memory=budget)
        output.say(done)
        output.has(
            cost=cost_fields(cost), seconds=time.perf_counter() - start, **report_fields(done)
        )
