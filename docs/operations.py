"""Writes operations.md beside this file from the records of `hesse.operations`, and from the layers
of torch.nn as captured.

python docs/operations.py
"""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hesse
from hesse.capture import NotCaptured, capture
from hesse.operations import registry
from hesse.operations.record import Operation, Structure
from hesse.process.quiet import quiet

PAGE = Path(__file__).with_name("operations.md")
HEAD = """# What hesse knows of each operation

This page is written by `python docs/operations.py` from the records in `src/hesse/operations/`,
and a test holds it against them.

An operation that is in no table goes **the general way**: it is differentiated automatically by
itself, and everything around it stays as fast as it is. What a record adds:

| column | meaning |
|---|---|
| structure | what is declared: linear or entry by entry, the numbers need no more |
| enters | a parameter that enters through it is a site of its own, contracted in matrix products |
| Jᵀ, ∂² | its pull-back of many columns, and its second derivative, are written out |
| rewritten | when a model is captured, operations with second derivatives and sites replace it |
| positions | tokens that do not meet below it stay apart, each a sample of its own |
| formula | a derivation writes it in its own terms; f', f'' where these are written out as well |
"""
FAMILIES = (
    "elementwise", "arithmetic", "linear", "convolution", "pooling", "embedding", "arranging",
    "normalisation", "attention", "recurrence", "reductions", "algebra", "losses",
)  # fmt: skip
_SHORT = {
    Structure.ELEMENTWISE: "each entry",
    Structure.ENTRYWISE: "entry by entry",
    Structure.FLAT: "f'' = 0",
    Structure.LINEAR: "linear",
    Structure.LINEAR_IN_FIRST: "linear in the first",
    Structure.MULTILINEAR: "linear in each",
    Structure.PIECEWISE_LINEAR: "piecewise linear",
    Structure.STEP: "no derivative",
    Structure.RELABELS: "relabels",
    Structure.PERMUTES: "permutes",
    Structure.SELECTS: "selects",
}


def cells(record: Operation) -> list[str]:
    """One line of a family's table."""
    stands = [f"`{name}`" for name in record.aten.split()] + [
        f"`{function.__name__}`" for function in record.stands_for
    ]
    structure = ", ".join(word for flag, word in _SHORT.items() if flag in record.structure)
    written = "Jᵀ" * (record.pull is not None) + " ∂²" * (record.second is not None)
    derivatives = record.function is not None or record.array is not None
    formula = "f, f', f''" if derivatives else "yes" if record.formula is not None else ""
    marks = [
        "yes" if given is not None else ""
        for given in (record.site, record.rewrite, record.positions)
    ]
    return [
        record.name,
        " ".join(stands),
        structure,
        marks[0],
        written.strip(),
        marks[1],
        marks[2],
        formula,
    ]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines
    )


# ---------------------------------------------------------------- layers of torch.nn


def _classes(names: str) -> Iterator[type[nn.Module]]:
    return (getattr(nn, name) for name in names.split())


# What a layer is made with and given, where that is not nothing and 4 numbers for each sample.
_MADE: dict[str, tuple[Any, ...]] = {
    "Threshold": (0.1, 0.2), "Softmax": (-1,), "LogSoftmax": (-1,), "Softmin": (-1,),
    "GroupNorm": (2, 4), "LayerNorm": (4,), "RMSNorm": (4,), "LocalResponseNorm": (2,),
    "GLU": (-1,),
}  # fmt: skip
ACTIVATIONS = (
    "ELU Hardshrink Hardsigmoid Hardtanh Hardswish LeakyReLU LogSigmoid PReLU ReLU ReLU6 RReLU SELU"
    " CELU GELU Sigmoid SiLU Mish Softplus Softshrink Softsign Tanh Tanhshrink Threshold GLU"
    " Softmin Softmax Softmax2d LogSoftmax"
)
NORMALISATIONS = (
    "BatchNorm1d BatchNorm2d BatchNorm3d GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d"
    " LayerNorm LocalResponseNorm RMSNorm"
)
CONVOLUTIONS = "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d"
LOSSES = (
    "L1Loss MSELoss CrossEntropyLoss NLLLoss PoissonNLLLoss KLDivLoss BCELoss BCEWithLogitsLoss"
    " HingeEmbeddingLoss HuberLoss SmoothL1Loss SoftMarginLoss MultiLabelMarginLoss"
    " MultiLabelSoftMarginLoss MultiMarginLoss"
)


def _dimensions(name: str) -> int:
    return int(name[-2]) if name[-1] == "d" and name[-2].isdigit() else 0


def layer(name: str) -> tuple[nn.Module, Tensor]:
    """A layer of torch.nn, and inputs for it."""
    dimensions, kind = _dimensions(name), getattr(nn, name)
    if name in _MADE:
        made = kind(*_MADE[name])
    elif "Conv" in name:
        made = kind(4, 2, 2)
    elif "Norm" in name:
        made = kind(4, affine=True) if "Instance" in name else kind(4)
    else:
        made = kind()
    shape = (
        (5, 4, *(3,) * dimensions)
        if dimensions
        else (5, 4, 3, 3)
        if name in ("GroupNorm", "LocalResponseNorm")
        else (5, 4)
    )
    return (
        made.double().eval(),
        torch.randn(shape, generator=torch.Generator().manual_seed(0)).double() + 0.1,
    )


@functools.cache
def cost_of_layer(name: str) -> hesse.Cost:
    """A layer between two dense ones, with half the sum of squares."""
    inner, x = layer(name)
    torch.manual_seed(0)
    model = (
        nn.Sequential(nn.Linear(x.shape[-1], x.shape[-1]), inner, nn.Tanh(), nn.Flatten())
        .double()
        .eval()
    )
    with torch.no_grad():
        y = torch.zeros_like(model(x))
    return hesse.Cost(model, "half_sse", (x, y))


_PROBABILITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "BCELoss": torch.sigmoid,
    **dict.fromkeys(("NLLLoss", "KLDivLoss"), lambda z: torch.log_softmax(z, -1)),
}
_TARGETS: dict[str, Callable[[], Tensor]] = {
    **dict.fromkeys(
        ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"), lambda: torch.tensor([0, 2, 1, 3, 0])
    ),
    **dict.fromkeys(
        ("HingeEmbeddingLoss", "SoftMarginLoss"),
        lambda: torch.tensor([[1.0, -1, 1, -1]] * 5).double(),
    ),
    "MultiLabelMarginLoss": lambda: torch.tensor([[1, 2, -1, 0]] * 5),
}


class _Into(nn.Module):
    """What a loss takes: any numbers, or probabilities, or their logarithms."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)


@functools.cache
def cost_of_loss(name: str) -> hesse.Cost:
    """A loss of a dense layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), _Into(_PROBABILITIES.get(name, torch.tanh))).double()
    target = _TARGETS.get(name, lambda: torch.tensor([[0.0, 1, 1, 0]] * 5).double())()
    return hesse.Cost(model, getattr(nn, name)(), (torch.randn(5, 4).double(), target))


def operations_of(cost: hesse.Cost) -> tuple[list[str], list[str]]:
    """The records of the operations that a captured cost has between its parameters and its loss,
    and what has none."""
    try:
        # The checks of a capture map over operations that PyTorch is slow at, and says so.
        with quiet():
            graph = capture(cost).graph
    except NotCaptured as reason:
        return [], [str(reason)]
    active = graph.downstream(set(graph.parameters))
    nodes = [node for node in graph.nodes if node.name in active]
    known = {node.name: registry.record_of(node).name for node in nodes}
    return (
        list(dict.fromkeys(name for name in known.values() if name)),
        list(
            dict.fromkeys(
                str(node.kind).removeprefix("aten.") for node in nodes if not known[node.name]
            )
        ),
    )


def layers(names: str, cost: Callable[[str], hesse.Cost], around: tuple[str, ...]) -> str:
    """The table of some layers: their operations, less those of the network around them."""
    rows = []
    for name in names.split():
        known, general = operations_of(cost(name))
        own = [operation for operation in known if operation not in around] or (
            [] if general else known
        )
        rows.append([f"`nn.{name}`", ", ".join(own), ", ".join(general)])
    return table(["layer", "operations", "the general way"], rows)


def page() -> str:
    """All of it."""
    parts = [HEAD]
    head = [
        "operation",
        "in the graph",
        "structure",
        "enters",
        "written out",
        "rewritten",
        "positions",
        "formula",
    ]
    for family in FAMILIES:
        records = [
            record
            for record in getattr(registry, family).RECORDS
            if record.name in registry.RECORDS
        ]
        parts += [
            f"## {family.capitalize()}\n",
            table(head, [cells(record) for record in records]) + "\n",
        ]
    around = ("linear", "tanh", "flatten", "mul", "sub", "square", "sum")
    parts += [
        "## Layers of torch.nn\n",
        (
            "As they are captured, in evaluation mode, less the dense layer and the loss around"
            " them.\n"
        ),
    ]
    for title, names in (
        ("Activations", ACTIVATIONS),
        ("Normalisations", NORMALISATIONS),
        ("Convolutions", CONVOLUTIONS),
    ):
        parts += [f"### {title}\n", layers(names, cost_of_layer, around) + "\n"]
    parts += ["### Losses\n", layers(LOSSES, cost_of_loss, ("linear", "tanh")) + "\n"]
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    partial = PAGE.with_suffix(".partial")
    partial.write_text(page(), encoding="utf-8")
    os.replace(partial, PAGE)


if __name__ == "__main__":
    main()
