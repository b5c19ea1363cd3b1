"""`hesse demo`: all of it on real data."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hesse.cli.application import app
from hesse.cli.arguments import Json
from hesse.cli.output import Output


@app.command(help_epilogue="Needs: pip install 'hesse[demo]'", sort_key=1)
def demo(
    *,
    out: Annotated[
        Path, Parameter(help="The folder to write to; made where there is none.")
    ] = Path("demo"),
    json: Json = False,
) -> None:
    """The main job on real data, in under a minute: a small network that reads handwritten
    digits."""
    from hesse.cli.demo import run

    with Output("demo", json) as output:
        run(out, output)
