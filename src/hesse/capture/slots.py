"""All sites of a graph: where its parameters enter, and which of them have no slot."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp
from torch.utils import _pytree as pytree

from hesse.capture.parameter_views import parameter_views
from hesse.graph.graph import Graph, Node, Ref
from hesse.graph.parameter_view import Views
from hesse.graph.sites import PLAIN, Arrangement, Site, Slot
from hesse.operations.registry import record_of

aten = torch.ops.aten

# A parameter that enters in no linear way is its own slot, one tangent for each entry, up to this
# many entries.
LARGEST_LEAF = 256


def find_sites(
    graph: Graph, values: dict[str, Any]
) -> tuple[Graph, tuple[Site, ...], dict[str, str]]:
    """The graph's sites, the graph with leaves made explicit, and the parameters that go by columns
    with the reason.

    Args:
        graph: one sample's loss.
        values: every value of it for one sample. What the slots of a site say is held against the
            operation at these.
    """
    views = parameter_views(graph)
    sites, claimed, refused = [], _Claims(), {}
    for node in graph.nodes:
        recognise = record_of(node).site
        if recognise is not None:
            site = recognise(node, views, graph.shapes)
            if site is not None and _adds_up(node, site, views, values):
                sites.append(site)
                claimed.add(node, site)
    # Uses outside any site: the parameter becomes its own slot where it is small, and goes by
    # columns elsewhere.
    leaves: list[Node] = []
    replaced: dict[str, str] = {}
    for value, name in (
        (value, name) for value, name in graph.parameters.items() if value in views
    ):
        stray = [node for node in graph.nodes if _uses_outside_sites(node, value, views, claimed)]
        if not stray:
            continue
        size = math.prod(graph.shapes[value])
        if size > LARGEST_LEAF:
            refused[name] = f"enters through {_op_name(stray[0].op)}, which has no slot"
            continue
        leaf = Node(f"{value}__leaf", aten.clone.default, (Ref(value),), {}, graph.shapes[value])
        graph.shapes[leaf.name] = leaf.shape
        leaves.append(leaf)
        replaced[value] = leaf.name
        arrange = Arrangement((1, 1, size), PLAIN)
        sites.insert(
            len(leaves) - 1,
            Site(leaf.name, None, arrange, (Slot(name, "leaf", None, (1, size, 1), None),)),
        )
    if leaves:
        # A parameter is either a leaf or enters through slots, never both: its other sites
        # dissolve.
        gone = {graph.parameters[value] for value in replaced}
        nodes = tuple(_redirect(node, replaced) for node in graph.nodes)
        graph = replace(graph, nodes=(*leaves, *nodes))
        sites = [kept for site in sites if (kept := _without(site, gone)) is not None]
    return graph, tuple(sites), refused


class _Claims:
    """Which uses of parameters are accounted for by a site, argument by argument."""

    def __init__(self) -> None:
        self._nodes: dict[str, set[str]] = {}

    def add(self, node: Node, site: Site) -> None:
        self._nodes.setdefault(node.name, set()).update(slot.use for slot in site.slots)

    def has(self, node: Node, argument: str) -> bool:
        """Whether a site stands for this argument; one that is given twice has a use that no site
        knows of."""
        leaves = pytree.tree_leaves(
            (node.args, dict(node.kwargs)), is_leaf=lambda a: isinstance(a, Ref)
        )
        return argument in self._nodes.get(node.name, ()) and leaves.count(Ref(argument)) == 1


def _adds_up(node: Node, site: Site, views: Views, values: dict[str, Any]) -> bool:
    """Whether the slots together are all that the operation does with these arguments: Σ_t δ[g,t,o]
    a[g,t,i] is its derivative.

    Held against automatic differentiation at parameters that are drawn, since a slot says that they
    do not matter.
    """
    random = torch.Generator().manual_seed(0)

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=random, dtype=torch.float64, device="cpu").to(like)

    parameters = {
        slot.parameter: draw(values[slot.use].new_empty(views[slot.use].size))
        for slot in site.slots
    }
    names = [slot.use for slot in site.slots]
    given = [
        parameters[views[name].parameter][views[name].entries.to(values[name].device)]
        for name in names
    ]

    def output(*entered: Tensor) -> Tensor:
        return node.evaluate({**values, **dict(zip(names, entered, strict=True))})

    made, back = vjp(output, *given)  # type: ignore[misc]
    delta = draw(made)
    arranged = site.arrange(delta.unsqueeze(0), 1)
    for slot, name, expected in zip(site.slots, names, back(delta), strict=True):
        if slot.features is None:
            found = arranged.sum(2).unsqueeze(-1)
        else:
            features = (
                slot.features(values[site.input].unsqueeze(0)).to(delta.dtype)
                if site.input is not None
                else None
            )
            if features is None:
                return False
            found = torch.einsum("ngto,ngti->ngoi", arranged, features)
        by_entry = [expected.new_zeros(views[name].size) for _ in range(2)]
        device = expected.device
        by_entry[0].index_add_(0, views[name].entries.flatten().to(device), expected.flatten())
        rows = torch.arange(views[name].size, device="cpu") if slot.index is None else slot.index
        by_entry[1].index_add_(0, rows.to(device), found.flatten())
        tolerance = torch.finfo(delta.dtype).eps ** 0.5
        if not float((by_entry[0] - by_entry[1]).norm()) <= tolerance * float(
            by_entry[0].norm() + by_entry[1].norm()
        ):
            return False
    return True


def _without(site: Site, parameters: set[str]) -> Site | None:
    if site.slots[0].kind == "leaf":
        return site
    slots = tuple(slot for slot in site.slots if slot.parameter not in parameters)
    return Site(site.value, site.input, site.arrange, slots) if slots else None


def _redirect(node: Node, replaced: dict[str, str]) -> Node:
    def swap(argument: Any) -> Any:
        return (
            Ref(replaced.get(argument.name, argument.name))
            if isinstance(argument, Ref)
            else argument
        )

    args, kwargs = pytree.tree_map(
        swap, (node.args, dict(node.kwargs)), is_leaf=lambda a: isinstance(a, Ref)
    )
    return Node(node.name, node.op, args, kwargs, node.shape, node.floating)


def _op_name(op: Any) -> str:
    return str(getattr(op, "overloadpacket", getattr(op, "__name__", op)))


def _uses_outside_sites(node: Node, value: str, views: Views, claimed: _Claims) -> bool:
    if node.name in views:
        return False
    used = [
        name
        for name in node.inputs
        if name in views and views[name].parameter == views[value].parameter
    ]
    return any(not claimed.has(node, name) for name in used)
