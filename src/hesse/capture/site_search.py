"""All sites of a graph: where its parameters enter, and which of them enter elsewhere too."""

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
from hesse.graph.sites import AXES_IN_ORDER, Arrangement, ParameterUse, Site
from hesse.operations.registry import record_of

aten = torch.ops.aten

# A parameter that enters in no linear way is a site of its own, a *leaf*, whose S has a row for
# each entry. Up to this many entries; beyond, products for each entry are cheaper than S.
LARGEST_LEAF = 256


def find_sites(
    graph: Graph, values: dict[str, Any]
) -> tuple[Graph, tuple[Site, ...], dict[str, str]]:
    """The graph with leaves made explicit, its sites, and the parameters that go by columns, with
    the reason.

    Args:
        graph: one sample's loss.
        values: every value of it for one sample. What the uses of a site say is held against the
            operation at these.
    """
    views = parameter_views(graph)
    sites, claimed, fallbacks = [], _Claims(), {}
    for node in graph.nodes:
        recognise = record_of(node).site
        if recognise is not None:
            site = recognise(node, views, graph.shapes)
            if site is not None and _accounts_for(node, site, views, values):
                sites.append(site)
                claimed.add(node, site)
    # Uses outside any site: the parameter becomes a leaf where it is small, and goes by columns
    # elsewhere.
    leaves: list[Node] = []
    replaced: dict[str, str] = {}
    for value, name in (
        (value, name) for value, name in graph.parameters.items() if value in views
    ):
        stray = [
            node for node in graph.nodes if _is_used_outside_sites(node, value, views, claimed)
        ]
        if not stray:
            continue
        size = math.prod(graph.shapes[value])
        if size > LARGEST_LEAF:
            fallbacks[name] = (
                f"enters through {_op_name(stray[0].op)}, for which no linear form is known"
            )
            continue
        leaf = Node(f"{value}__leaf", aten.clone.default, (Ref(value),), {}, graph.shapes[value])
        graph.shapes[leaf.name] = leaf.shape
        leaves.append(leaf)
        replaced[value] = leaf.name
        arrange = Arrangement((1, 1, size), AXES_IN_ORDER)
        # Leaves stand first, in the order of their nodes, which come before all others.
        sites.insert(
            len(leaves) - 1,
            Site(leaf.name, None, arrange, (ParameterUse(name, "leaf", None, (1, size, 1), None),)),
        )
    if leaves:
        # A parameter is either a leaf or enters through sites, never both: its other uses dissolve.
        gone = {graph.parameters[value] for value in replaced}
        nodes = tuple(_redirect(node, replaced) for node in graph.nodes)
        graph = replace(graph, nodes=(*leaves, *nodes))
        sites = [kept for site in sites if (kept := _without(site, gone)) is not None]
    return graph, tuple(sites), fallbacks


class _Claims:
    """Which uses of parameters are accounted for by a site, argument by argument."""

    def __init__(self) -> None:
        self._nodes: dict[str, set[str]] = {}

    def add(self, node: Node, site: Site) -> None:
        self._nodes.setdefault(node.name, set()).update(use.argument for use in site.uses)

    def has(self, node: Node, argument: str) -> bool:
        """Whether a site stands for this argument; one that is given twice has a use that no site
        knows of."""
        leaves = pytree.tree_leaves(
            (node.args, dict(node.kwargs)), is_leaf=lambda a: isinstance(a, Ref)
        )
        return argument in self._nodes.get(node.name, ()) and leaves.count(Ref(argument)) == 1


def _accounts_for(node: Node, site: Site, views: Views, values: dict[str, Any]) -> bool:
    """Whether the uses together are all that the operation does with these arguments: then its
    derivative in each is Σ_t δ[g,t,o] a[g,t,i].

    Held against automatic differentiation at parameters that are drawn, since a use says that they
    do not matter.
    """
    random = torch.Generator().manual_seed(0)

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=random, dtype=torch.float64, device="cpu").to(like)

    parameters = {
        use.parameter: draw(values[use.argument].new_empty(views[use.argument].size))
        for use in site.uses
    }
    names = [use.argument for use in site.uses]
    given = [
        parameters[views[name].parameter][views[name].entries.to(values[name].device)]
        for name in names
    ]

    def output(*entered: Tensor) -> Tensor:
        return node.evaluate({**values, **dict(zip(names, entered, strict=True))})

    value, pull = vjp(output, *given)  # type: ignore[misc]
    delta = draw(value)
    arranged = site.arrange(delta.unsqueeze(0), 1)
    for use, name, expected in zip(site.uses, names, pull(delta), strict=True):
        if use.features is None:
            claimed = arranged.sum(2).unsqueeze(-1)
        else:
            features = (
                use.features(values[site.input].unsqueeze(0)).to(delta.dtype)
                if site.input is not None
                else None
            )
            if features is None:
                return False
            claimed = torch.einsum("ngto,ngti->ngoi", arranged, features)
        # Both by entry of the parameter, for a view may hold some entries, or one several times.
        by_entry = [expected.new_zeros(views[name].size) for _ in range(2)]
        device = expected.device
        by_entry[0].index_add_(0, views[name].entries.flatten().to(device), expected.flatten())
        rows = torch.arange(views[name].size, device="cpu") if use.index is None else use.index
        by_entry[1].index_add_(0, rows.to(device), claimed.flatten())
        # Wrong forms are off by about their size; roundings by far less than this.
        tolerance = torch.finfo(delta.dtype).eps ** 0.5
        if not float((by_entry[0] - by_entry[1]).norm()) <= tolerance * float(
            by_entry[0].norm() + by_entry[1].norm()
        ):
            return False
    return True


def _without(site: Site, parameters: set[str]) -> Site | None:
    if site.uses[0].kind == "leaf":
        return site
    uses = tuple(use for use in site.uses if use.parameter not in parameters)
    return Site(site.value, site.input, site.arrange, uses) if uses else None


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


def _is_used_outside_sites(node: Node, value: str, views: Views, claimed: _Claims) -> bool:
    if node.name in views:
        return False
    used = [
        name
        for name in node.inputs
        if name in views and views[name].parameter == views[value].parameter
    ]
    return any(not claimed.has(node, name) for name in used)
