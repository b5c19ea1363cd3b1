"""A traced product for one v: what is used no more is written over, and of two convolutions that
give one kernel, where it is larger than their images, one is made.

For several v at once (`hesse.capture.several`) the second would take twice the operations: one of
each two images has no v in it.
"""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hesse.capture.overwriting import overwrite
from hesse.capture.recording import Program
from hesse.capture.simplification.graph import arguments, drop_unused, form

aten = torch.ops.aten

# What makes memory of its own, where no more is known than its name.
_FRESH: set[Any] = {
    aten.add.Tensor,
    aten.addcmul.default,
    aten.addmm.default,
    aten.baddbmm.default,
    aten.bmm.default,
    aten.convolution.default,
    aten.div.Tensor,
    aten.embedding.default,
    aten.mm.default,
    aten.mul.Tensor,
    aten.neg.default,
    aten.sub.Tensor,
    aten.threshold_backward.default,
}


def single(program: Program) -> Program:
    """(*kept, *v) -> H v, with ``meta``: ``val`` for each node, in fewer bytes."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    for node in graph.find_nodes(op="call_function", target=aten.add.Tensor):
        _of_both_images(graph, node)
    drop_unused(graph)
    fresh = {node for node in graph.nodes if node.target in _FRESH}
    overwrite(graph, fresh, {node: form(node)[:2] for node in graph.nodes if form(node)})
    return Program(graph, program.constants)


def _of_both_images(graph: fx.Graph, node: fx.Node) -> None:
    """The sum of what two convolutions give for their kernels, as what one gives for the samples of
    both."""
    backs = [_back_to_kernel(part) for part in node.args]
    if node.kwargs or len(backs) != 2 or None in backs or backs[0] is backs[1]:
        return
    first, second = (arguments(back) for back in backs)  # type: ignore[arg-type]
    forms = [[form(part) for part in each[:3]] for each in (first, second)]
    if first[3:] != second[3:] or None in [*forms[0], *forms[1]]:
        return
    shapes = [[each[0] for each in several] for several in forms]
    cotangent, image, kernel = (shape.numel() for shape in shapes[0])
    if shapes[0] != shapes[1] or kernel <= cotangent + image:
        return
    with graph.inserting_before(node):
        both = [
            graph.call_function(aten.cat.default, ([one, other],))
            for one, other in zip(first[:2], second[:2], strict=True)
        ]
        back = graph.call_function(aten.convolution_backward.default, (*both, *first[2:]))
        kernels = graph.call_function(operator.getitem, (back, 1))
    kernels.meta = node.meta
    node.replace_all_uses_with(kernels)


def _back_to_kernel(part: Any) -> fx.Node | None:
    """The way back through a convolution to its kernel alone, where nothing else uses it."""
    if not isinstance(part, fx.Node) or part.target is not operator.getitem or part.args[1] != 1:
        return None
    back = part.args[0]
    if len(part.users) > 1 or not isinstance(back, fx.Node) or len(back.users) > 1:
        return None
    if back.target is not aten.convolution_backward.default:
        return None
    mask = arguments(back)[-1]
    return back if isinstance(mask, Sequence) and list(mask) == [False, True, False] else None
