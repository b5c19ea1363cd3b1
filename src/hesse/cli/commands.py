"""The commands: each parses its options and calls the library's function of the same name."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

import hesse
from hesse.cli.inputs import build_cost, check_writable, parse_bytes, require
from hesse.cli.output import FIGURES, save_figure, say
from hesse.distributed.group import is_first
from hesse.store.place import names_store

EXAMPLE = "model.py:net --data digits.npz --loss cross_entropy"

# The docstrings and the `help` texts are what `hesse COMMAND --help` prints.
app = App(
    name="hesse",
    help="The second derivatives of a neural network's cost function: exact, by parameter name.",
    version=hesse.__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """The arguments that every command on a model has."""

    model: Annotated[
        str,
        Parameter(
            help=(
                "file.py:name, where name is a trained nn.Module, or a function of no arguments"
                " that makes one. The file is run."
            )
        ),
    ] = field(kw_only=False)
    data: Annotated[
        str,
        Parameter(
            help=(
                "A .npz or .safetensors file with arrays X and y; or file.py:name, where name is"
                " (X, y), a DataLoader, or a function of no arguments that makes one."
            )
        ),
    ]
    loss: Annotated[
        str,
        Parameter(
            help=(
                "half_sse, mse, cross_entropy or bce (on logits); or file.py:name, where name is a"
                " function (prediction, target) -> scalar."
            )
        ),
    ]
    params: Annotated[
        list[str] | None,
        Parameter(
            help=(
                "Differentiate these: a name, or a pattern such as '*.weight'. May be repeated."
                " Default: all that train."
            )
        ),
    ] = None
    penalty: Annotated[
        float | None, Parameter(help="Add 1/2 * PENALTY * ||parameters||^2 to the cost.")
    ] = None
    dtype: Annotated[
        Literal["float32", "float64"] | None,
        Parameter(help="Convert the model and the data. Default: the model's own."),
    ] = None
    memory: Annotated[
        str | None,
        Parameter(
            help="How much memory to work in, such as 500MB or 2GB. Default: from what is free."
        ),
    ] = None

    def cost(self) -> hesse.Cost:
        """The cost that is asked about."""
        return build_cost(
            self.model,
            self.data,
            self.loss,
            params=self.params,
            penalty=self.penalty,
            dtype=self.dtype,
        )

    @property
    def bytes(self) -> int | None:
        """The memory budget."""
        return None if self.memory is None else parse_bytes(self.memory)


def _size_of_hessian(cost: hesse.Cost, block_diagonal: bool) -> int:
    """Bytes of its entries."""
    sizes = cost.layout.sizes.values()
    entries = sum(size**2 for size in sizes) if block_diagonal else cost.layout.size**2
    return entries * cost.dtype.itemsize


BlockDiagonal = Annotated[
    bool,
    Parameter(
        show_default=False,
        help="Only the block of each parameter with itself, none of the mixed ones.",
    ),
]


Curvature = Annotated[
    str,
    Parameter(
        help=(
            "What of the second derivatives: hessian, all of them; gauss_newton, what the curvature"
            " of the loss gives; functional, the rest; fisher, fisher_mc, empirical_fisher."
        )
    ),
]


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
) -> None:
    """Show how 'hesse hessian' would work, and compute nothing: strategies, operations, time, peak
    memory."""
    from hesse.process.rates import rates, writing_rate

    budget, cost = arguments.bytes, arguments.cost()
    if measure:
        rates(cost.dtype, cost.device, measure=True)
        if out is not None:
            writing_rate(out.absolute().parent, measure=True)
    say(
        hesse.plan(
            cost,
            block_diagonal=block_diagonal,
            curvature=curvature,
            memory=budget,
            out=out,
            processes=processes,
            nodes=nodes,
        )
    )


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
                "Write the Hessian to this .safetensors file, for hesse.load; or compute it into"
                " this .zarr folder, tile by tile, however large it is: where it is there already,"
                " the command goes on where it stopped."
            )
        ),
    ] = None,
    figure: Annotated[
        Path | None, Parameter(help="Draw its heat map to this .png, .pdf or .svg file.")
    ] = None,
) -> None:
    """Compute the exact Hessian, print the table of its blocks, save it and draw it."""
    # Before any work: whether what comes out of it can be written.
    into_store = out is not None and names_store(out)
    file = None if into_store else out
    check_writable("--out", file, (".safetensors", ".zarr"))
    check_writable("--figure", figure, FIGURES)
    if figure is not None:
        require("matplotlib", "plot", "--figure")
    budget = arguments.bytes
    cost = arguments.cost()
    check_writable("--out", file, (".safetensors",), _size_of_hessian(cost, block_diagonal))
    # The cost is made already: reading files is not timed.
    start = time.perf_counter()
    H = hesse.hessian(
        cost,
        block_diagonal=block_diagonal,
        curvature=curvature,
        memory=budget,
        out=out if into_store else None,
    )
    name = "Hessian" if curvature == "hessian" else curvature
    say(f"{cost}: the {name} in {time.perf_counter() - start:.2f} s\n")
    say(H)
    if file is not None and is_first():
        H.save(file)
    if out is not None:
        say(f"wrote {out}")
    if figure is not None:
        save_figure(figure, "--figure", H.plot)
        say(f"wrote {figure}")


@app.command(help_epilogue="Example: hesse status h.zarr", sort_key=4)
def status(
    store: Annotated[Path, Parameter(help="The folder that --out h.zarr names.")], /
) -> None:
    """Show how far a Hessian is that 'hesse hessian --out h.zarr' computes, or was interrupted
    at."""
    say(hesse.status(store))


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
) -> None:
    """Show the quadratic model of the cost: how far to trust it, the step that each method
    proposes, and what it achieves."""
    # Late, as in the commands below: `hesse --help` should not wait for SciPy and pictures.
    from hesse.cli.quadratic import pictures, report
    from hesse.errors import require_positive

    check_writable("--figure", figure, FIGURES)
    if figure is not None:
        require("matplotlib", "plot", "--figure")
    require_positive(tolerance, "tolerance")
    budget = arguments.bytes
    q = hesse.quadratic(arguments.cost(), curvature=curvature, memory=budget)
    trust = report(q, tolerance)
    if figure is not None:
        save_figure(figure, "--figure", *pictures(q, trust))
        say(f"wrote {figure}")


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
    start: Annotated[
        Path | None,
        Parameter(
            help="Start from this .safetensors file, from --out of an earlier or interrupted run."
        ),
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
) -> None:
    """Minimise the cost by steps from its exact Hessian, from the model's parameters on."""
    from hesse.cli.minimize import run
    from hesse.taylor.checkpoint import read, write

    check_writable("--out", out, (".safetensors",))
    budget = arguments.bytes
    # A file that cannot be read is told before the model is built.
    before = None if start is None else read(start, "--start")
    cost = arguments.cost()
    result = run(
        cost,
        method,
        before,
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
        say(f"wrote {out}")


# Three examples, one for each of its sources; the other commands have one.
DERIVE = """Examples:
hesse derive "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)" --wrt W1,W2
hesse derive --network 2-3-1 --html page.html
hesse derive model.py:net --data digits.npz --loss cross_entropy"""


@app.command(help_epilogue=DERIVE, sort_key=9)
def derive(
    source: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="A cost as text, in Python's syntax; or file.py:name, a model. The file is run.",
        ),
    ] = None,
    *,
    wrt: Annotated[
        str | None,
        Parameter(
            help="The parameters of an expression, such as W1,W2; of a model, all by default."
        ),
    ] = None,
    shapes: Annotated[
        str | None,
        Parameter(
            help='Of an expression, where they cannot be inferred: "W1[h,d] x[d] a[]", [] a scalar.'
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        Parameter(
            help='What is known of its arrays: "sum(y) == 1", "Omega == 1", "l > 0" (of a matrix:'
            ' positive definite), "A == A.T". May be repeated.'
        ),
    ] = None,
    network: Annotated[
        str | None, Parameter(help="A dense network by its widths, such as 2-3-1 or d-h-m.")
    ] = None,
    activation: Annotated[
        str | None,
        Parameter(help="Of --network: tanh, relu, ..., or an unknown f; sigmoid by default."),
    ] = None,
    loss: Annotated[
        str | None,
        Parameter(
            help=(
                "Of --network (half_sse by default) or of a model: half_sse, mse, cross_entropy or"
                " bce."
            )
        ),
    ] = None,
    no_bias: Annotated[
        bool, Parameter(show_default=False, help="Of --network: without biases.")
    ] = False,
    data: Annotated[str | None, Parameter(help="Of a model: as for hesse hessian.")] = None,
    stagewise: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Layer by layer in δ, S and D, as from four layers on, not written out.",
        ),
    ] = False,
    block: Annotated[str | None, Parameter(help="Only this block, such as W1,W2.")] = None,
    gradient: Annotated[
        str | None, Parameter(help="Only the first derivative in this parameter.")
    ] = None,
    reading: Annotated[
        Literal["indices", "matrix", "scalar"] | None,
        Parameter(
            help="How text is written: in indices by default; scalar is one weight per layer."
        ),
    ] = None,
    latex: Annotated[
        bool, Parameter(show_default=False, help="Print a LaTeX document instead.")
    ] = False,
    python: Annotated[
        bool, Parameter(show_default=False, help="Print functions that compute the blocks instead.")
    ] = False,
    backend: Annotated[
        Literal["numpy", "torch", "jax"] | None,
        Parameter(help="Of --python: what the functions use; numpy by default."),
    ] = None,
    html: Annotated[
        Path | None, Parameter(help="Write one self-contained page to this .html file.")
    ] = None,
) -> None:
    """Derive the formula of every Hessian block, line by line, each line certified."""
    from hesse.cli.derive import Output, derivation_of, pair_of

    output = Output(
        None if block is None else pair_of(block), reading, latex, python, backend, html, gradient
    )
    d = derivation_of(
        source,
        wrt=wrt,
        shapes=shapes,
        given=given,
        network=network,
        activation=activation,
        loss=loss,
        no_bias=no_bias,
        data=data,
        stagewise=stagewise,
    )
    say(output.of(d))


@app.command(help_epilogue="Needs: pip install 'hesse[demo]'", sort_key=1)
def demo(
    *,
    out: Annotated[
        Path, Parameter(help="The folder to write to; made where there is none.")
    ] = Path("demo"),
) -> None:
    """The main job on real data, in under a minute: a small network that reads handwritten
    digits."""
    from hesse.cli.demo import run

    run(out)
