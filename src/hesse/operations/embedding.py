"""Tables of rows that whole numbers pick."""

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesse.derivation.calculus.program import Leaf
from hesse.derivation.sources.networks.view import View
from hesse.graph.graph import Node, Ref
from hesse.graph.parameter_view import Views, view_of
from hesse.graph.sites import AXES_IN_ORDER, Arrangement, Site
from hesse.operations.record import Operation, Shapes, Structure

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.builder import Given
    from hesse.derivation.sources.networks.call import Call


def _site(node: Node, views: Views, shapes: Shapes) -> Site | None:
    table, tokens = view_of(node.args[0], views), node.args[1]
    padding = node.args[2] if len(node.args) > 2 else -1
    if table is None or not isinstance(tokens, Ref) or any(node.args[3:]):
        return None
    vocabulary, width = table.entries.shape
    positions = torch.Size(node.shape[:-1]).numel()

    def one_hot(indices: Tensor) -> Tensor:
        rows = F.one_hot(indices.reshape(len(indices), 1, positions), vocabulary)
        if padding >= 0:  # the padding row takes no derivative
            rows = rows * (torch.arange(vocabulary, device=rows.device) != padding)
        return rows

    arrange = Arrangement((1, positions, width), AXES_IN_ORDER)
    return Site(
        node.name,
        tokens.name,
        arrange,
        (table.use("embedding", table.entries.T.unsqueeze(0), one_hot),),
    )


def _one_hot(given: "Given", sizes: list[int], words: int, values: dict[str, Any]) -> Tensor:
    """[w = x_t], of the module, so that a derivation that has it can be pickled."""
    return F.one_hot(given(values).reshape(sizes), words)


def _formula(call: "Call") -> View | None:
    """z[t,d] = Σ_w W[w,d] [w = x_t]"""
    weight, ids, padding = call.arguments(("weight", None), ("indices", None), ("padding_idx", -1))
    given = call.value(ids.name)
    build, W = call.build, call.operand(weight)
    words = W.shape[0]
    # The row of a padding word has a value and, by PyTorch's rule, no derivative.
    if given is None or padding >= 0:
        return None
    shape = call.node.shape[:-1]
    sizes = [size for size in shape if size > 1]
    label = call.label(ids.name)
    if {label, f"onehot({label})"} & build.leaves.keys():
        label = f"{label}′"
    subscript = (
        "_{0}"
        if len(sizes) == 1
        else f"[{','.join(f'{{{k}}}' for k in range(len(sizes)))}]"
        if sizes
        else ""
    )
    leaf = Leaf(
        build.name(f"onehot({label})"),
        (*sizes, words),
        "data",
        sums_to=1,
        per_sample=True,
        shown=f"[{{{len(sizes)}}} = {label}{subscript}]",
    )
    kinds = [*["part"] * (len(sizes) - 1), "token"] if sizes else []
    hot = build.leaf(leaf, [*kinds, "word"], partial(_one_hot, given, sizes, words))
    letters = iter(hot.axes)
    axes = tuple(next(letters) if size > 1 else () for size in shape)
    hot = View(hot.expression, (*axes, *letters))
    lead = list(range(len(shape)))
    return build.slot(build.axes.contract([W, hot], [["w", "d"], [*lead, "w"]], [*lead, "d"]))


RECORDS = [
    Operation(
        name="embedding",
        aten="embedding",
        structure=Structure.MULTILINEAR,
        site=_site,
        kinds=("word", "output"),
        formula=_formula,
    ),
]
