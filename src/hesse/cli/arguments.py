"""What several commands are asked with: the cost, and how to work and print."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import hesse
from hesse.cli.inputs.cost import build_cost
from hesse.cli.inputs.places import parse_bytes

Json = Annotated[
    bool,
    Parameter(
        show_default=False,
        help="Print one JSON document, and nothing else, on standard output.",
    ),
]

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

Seed = Annotated[int, Parameter(help="Of the random vectors of estimates.")]


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
                "A .npz, .safetensors or .pt file with arrays X and y; a .csv file of numbers under"
                " names; or file.py:name, where name is (X, y), a DataLoader, or a function of no"
                " arguments that makes one."
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
    target: Annotated[
        str | None,
        Parameter(help="The column of a .csv file that is predicted. Default: the last."),
    ] = None
    start: Annotated[
        Path | None,
        Parameter(
            help=(
                "Ask at the parameters in this file, .safetensors or .pt: a state_dict, or what"
                " hesse minimize --out wrote. Default: the model's own."
            )
        ),
    ] = None
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
            target=self.target,
            start=self.start,
            params=self.params,
            penalty=self.penalty,
            dtype=self.dtype,
        )

    @property
    def bytes(self) -> int | None:
        """The memory budget."""
        return None if self.memory is None else parse_bytes(self.memory)
