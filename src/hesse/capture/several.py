"""A program that is linear in v, for several v at once: every value that moves with v has them
along a first axis.

`torch.func.vmap` does the same, operation by operation, whenever it is called. Here it is done
once, for the whole program, which is then written with what vmap cannot know: what is used no more
is written over, sums of products go to one accumulator, and a product with unit vectors copies
entries.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from hesse.capture.overwriting import overwrite
from hesse.capture.recording import Program, copied
from hesse.capture.several_rules import rule_of
from hesse.capture.several_values import SeveralValues, is_moving
from hesse.capture.simplification.graph import arguments, drop_unused, form


def several(program: Program, units: bool = False) -> Program:
    """(*kept, *v) -> parts for one v, for many: (*kept, *V) -> parts, V and parts with a first axis
    of the same length.

    Args:
        program: with ``meta``: ``moves`` and ``val`` for each node.
        units: it has one v, a unit vector always; the places of its ones, a tensor of whole
            numbers, are given after V.

    Raises:
        RuntimeError: when it is run, where an operation has no rule for several at once.
    """
    values = SeveralValues(program.graph, units)
    for node in program.graph.nodes:
        if node.op == "output":
            values.graph.output([values.stacked(part) for part in arguments(node)[0]])
        elif node.op != "placeholder":
            values.known[node] = _copied(values, node)
    drop_unused(values.graph)
    overwrite(values.graph, values.fresh, values.sizes)
    return Program(values.graph, program.constants)


def _copied(values: SeveralValues, node: fx.Node) -> Any:
    """An operation for several v: by a rule, or by PyTorch's."""
    if not any(map(is_moving, node.all_input_nodes)):
        return copied(values.graph, node, values.known.__getitem__)
    values.note_unit(node)
    rule = rule_of(node)
    copy = rule(values, node) if rule is not None else None
    if copy is None:
        if any(is_moving(source) and source not in node.args for source in node.all_input_nodes):
            raise RuntimeError(f"{node.target} has no rule for several v in a list")
        places = [0 if is_moving(argument) else None for argument in node.args]
        args, options = (
            fx.map_arg(part, values.known.__getitem__)
            for part in (list(node.args), dict(node.kwargs))
        )
        copy = values.call(vmapped, node.target, places, args, options)
    if form(node) is not None:
        values.sizes.setdefault(copy, (-1, *values.shape(node)))
    return copy


def vmapped(operation: Any, places: Sequence[int | None], args: Sequence[Any], options: Any) -> Any:
    """An operation that has no rule here, by PyTorch's."""
    moving = [place for place, axis in enumerate(places) if axis is not None]

    def one(*parts: Tensor) -> Any:
        given = list(args)
        for place, part in zip(moving, parts, strict=True):
            given[place] = part
        return operation(*given, **options)

    return torch.func.vmap(one)(*(args[place] for place in moving))
