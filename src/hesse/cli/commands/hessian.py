"""`hesse plan`, `hesse hessian`, `hesse status`: the matrix planned, computed, and on a disk."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import hesse
from hesse.cli.application import EXAMPLE, app
from hesse.cli.arguments import BlockDiagonal, Curvature, Json, ModelArguments
from hesse.cli.documents import cost_fields, hessian_fields, plan_fields, status_fields
from hesse.cli.inputs.places import check_writable
from hesse.cli.output import Output, check_figure, save_figure
from hesse.distributed.group import is_first
from hesse.matrix.saving import FORMATS, require_table
from hesse.process.files import require_place
from hesse.store.place import names_store


@app.command(help_epilogue=f"Example: hesse plan {EXAMPLE}", sort_key=2)
def plan(
    arguments: ModelArguments,
    *,
    block_diagonal: BlockDiagonal = False,
    curvature: Curvature = "hessian",
    out: Annotated[
        Path | None,
        Parameter(help="A .zarr folder that hesse hessian --out would compute into: its bytes."),
    ] = None,
    processes: Annotated[
        int, Parameter(help="By so many processes on each machine, as torchrun would start them.")
    ] = 1,
    nodes: Annotated[int, Parameter(help="On so many machines like this one.")] = 1,
    measure: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Measure again how fast this machine is; else what is kept from the first time.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Show how 'hesse hessian' would work, and compute nothing: strategies, operations, time, peak
    memory."""
    from hesse.process.rates import rates, writing_rate

    with Output("plan", json) as output:
        budget, cost = arguments.bytes, arguments.cost()
        if measure:
            rates(cost.dtype, cost.device, measure=True)
            if out is not None:
                writing_rate(out.absolute().parent, measure=True)
        planned = hesse.plan(
            cost,
            block_diagonal=block_diagonal,
            curvature=curvature,
            memory=budget,
            out=out,
            processes=processes,
            nodes=nodes,
        )
        output.say(planned)
        output.has(cost=cost_fields(cost), plan=plan_fields(planned))


@app.command(
    help_epilogue=f"Example: hesse hessian {EXAMPLE} --out h.safetensors --figure h.png", sort_key=3
)
def hessian(
    arguments: ModelArguments,
    *,
    block_diagonal: BlockDiagonal = False,
    curvature: Curvature = "hessian",
    out: Annotated[
        Path | None,
        Parameter(
            help=(
                "Write the Hessian to this .safetensors file, for hesse.load, or to a .npz or .csv"
                " file, for others; or compute it into this .zarr folder, tile by tile, however"
                " large it is: where it is there already, the command goes on where it stopped."
            )
        ),
    ] = None,
    figure: Annotated[
        Path | None, Parameter(help="Draw its heat map to this .png, .pdf or .svg file.")
    ] = None,
    json: Json = False,
) -> None:
    """Compute the exact Hessian, print the table of its blocks, save it and draw it."""
    # Before any work: whether what comes out of it can be written.
    into_store = out is not None and names_store(out)
    file = None if into_store else out
    check_writable("--out", file, tuple(filter(None, FORMATS)))
    check_figure(figure)
    with Output("hessian", json) as output:
        budget = arguments.bytes
        cost = arguments.cost()
        if file is not None:
            require_place(file, "--out", _size_of_hessian(cost, block_diagonal))
            if file.suffix.lower() == ".csv":
                whole = not block_diagonal or len(cost.layout.names) == 1
                require_table(cost.layout.size, whole, "--out")
        # The cost is made already: reading files is not timed.
        start = time.perf_counter()
        H = hesse.hessian(
            cost,
            block_diagonal=block_diagonal,
            curvature=curvature,
            memory=budget,
            out=out if into_store else None,
        )
        seconds = time.perf_counter() - start
        name = "Hessian" if curvature == "hessian" else curvature
        output.say(f"{cost}: the {name} in {seconds:.2f} s\n")
        output.say(H)
        output.has(
            cost=cost_fields(cost, curvature),
            seconds=seconds,
            hessian=hessian_fields(H),
        )
        if file is not None and is_first():
            H.save(file)
        if out is not None:
            output.wrote(out, "out")
        if figure is not None:
            save_figure(figure, "--figure", H.plot)
            output.wrote(figure, "figure")


def _size_of_hessian(cost: hesse.Cost, block_diagonal: bool) -> int:
    """Bytes of its entries."""
    sizes = cost.layout.sizes.values()
    entries = sum(size**2 for size in sizes) if block_diagonal else cost.layout.size**2
    return entries * cost.dtype.itemsize


@app.command(help_epilogue="Example: hesse status h.zarr", sort_key=4)
def status(
    store: Annotated[Path, Parameter(help="The folder that --out h.zarr names.")],
    /,
    *,
    json: Json = False,
) -> None:
    """Show how far a Hessian is that 'hesse hessian --out h.zarr' computes, or was interrupted
    at."""
    with Output("status", json) as output:
        found = hesse.status(store)
        output.say(found)
        output.has(status=status_fields(found))
