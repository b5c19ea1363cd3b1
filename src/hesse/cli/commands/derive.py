"""`hesse derive`: formulas."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from hesse.cli.application import app
from hesse.cli.arguments import Json
from hesse.cli.output import Output

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
    target: Annotated[
        str | None, Parameter(help="Of a model on a .csv file: as for hesse hessian.")
    ] = None,
    start: Annotated[Path | None, Parameter(help="Of a model: as for hesse hessian.")] = None,
    stagewise: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Layer by layer in δ, S and D, as from four layers on, not written out.",
        ),
    ] = False,
    no_certify: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Leave the lines unchecked, and write them however many they are.",
        ),
    ] = False,
    block: Annotated[str | None, Parameter(help="Only this block, such as W1,W2.")] = None,
    gradient: Annotated[
        str | None, Parameter(help="Only the first derivative in this parameter.")
    ] = None,
    product: Annotated[
        str | None,
        Parameter(help="Only the product H v, at this parameter, for any vector v."),
    ] = None,
    convexity: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Only whether the cost is convex in each parameter, and what shows it.",
        ),
    ] = False,
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
    json: Json = False,
) -> None:
    """Derive the formula of every Hessian block, line by line, each line certified."""
    from hesse.cli.derive import Printed, derivation_of, pair_of

    printed = Printed(
        None if block is None else pair_of(block),
        reading,
        latex,
        python,
        backend,
        html,
        gradient,
        product,
        convexity,
    )
    with Output("derive", json) as output:
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
            target=target,
            start=start,
            stagewise=stagewise,
            certify=not no_certify,
        )
        output.say(printed.of(d))
        if json:
            output.has(**printed.fields(d))
