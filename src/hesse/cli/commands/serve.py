"""`hesse serve`: questions asked in a browser."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hesse.cli.application import app
from hesse.cli.inputs.places import require
from hesse.errors import HesseFileError

SERVE = "Examples:\nhesse serve --open\nhesse serve h.safetensors"


@app.command(help_epilogue=SERVE, sort_key=12)
def serve(
    saved: Annotated[
        Path | None,
        Parameter(help="A Hessian to explore: a .safetensors or .npz file, or a .zarr store."),
    ] = None,
    *,
    port: Annotated[int, Parameter(help="Where to listen; 0 for any that is free.")] = 8765,
    host: Annotated[
        str,
        Parameter(
            help="The address to listen on. By default only this machine reaches it; who reaches"
            " another, such as 0.0.0.0, may ask."
        ),
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        Parameter(help="A name by which browsers call it, beside localhost. May be repeated."),
    ] = None,
    open_: Annotated[
        bool, Parameter(name="--open", negative="", help="Open the page in a browser.")
    ] = False,
) -> None:
    """Derivations, Hessians and computational graphs as pages in a browser, until Ctrl-C."""
    require("uvicorn", "web", "hesse serve")
    from hesse.web.server import serve

    if saved is not None and not saved.exists():
        raise HesseFileError(f"{saved}: there is no such file; name a Hessian that was saved")
    serve(host, port, frozenset(name or ()), open_, saved)
