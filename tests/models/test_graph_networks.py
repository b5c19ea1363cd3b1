"""Layers of torch_geometric, on graphs as tuples and as its own `Data`, one or several, alone or
out of its loader."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates.kinds import TOLERANCE, WAYS, Subject, off, x

gnn = pytest.importorskip("torch_geometric.nn")
from torch_geometric.data import Data  # noqa: E402
from torch_geometric.loader import DataLoader  # noqa: E402

LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "GCN": lambda i, o: gnn.GCNConv(i, o),
    "GAT": lambda i, o: gnn.GATConv(i, o),
    "GIN": lambda i, o: gnn.GINConv(nn.Sequential(nn.Linear(i, o), nn.Tanh()), train_eps=True),
    "SAGE": lambda i, o: gnn.SAGEConv(i, o),
}


class Network(nn.Module):
    """Of nodes and edges."""

    def __init__(self, make: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = make(3, 3), make(3, 2)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x, edge_index)), edge_index)


class OfData(Network):
    """Of the object that holds both."""

    def forward(self, data: Any) -> Tensor:  # type: ignore[override]
        return super().forward(data.x, data.edge_index)


with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    X, FEWER = x(4, 3), x(3, 3)
EDGES, FEWER_EDGES = (
    torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]]),
    torch.tensor([[0, 1], [1, 2]]),
)
Y, FEWER_Y = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 0])
GRAPHS = [Data(x=X, edge_index=EDGES, y=Y), Data(x=FEWER, edge_index=FEWER_EDGES, y=FEWER_Y)]

# The network, the data, and how many of the two graphs are in it.
FORMS: dict[str, tuple[type[Network], Any, int]] = {
    "a tuple": (Network, ((X, EDGES), Y), 1),
    "tuples": (Network, [((X, EDGES), Y), ((FEWER, FEWER_EDGES), FEWER_Y)], 2),
    "a mapping": (Network, ({"x": X, "edge_index": EDGES}, Y), 1),
    "Data": (OfData, GRAPHS[0], 1),
    "Data and labels": (OfData, (Data(x=X, edge_index=EDGES), Y), 1),
    "a loader, one by one": (OfData, DataLoader(GRAPHS, batch_size=1), 2),
    "a loader, both at once": (OfData, DataLoader(GRAPHS, batch_size=2), 2),
}


def subject(layer: str, form: str) -> Subject:
    make, data, count = FORMS[form]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make(LAYERS[layer]).double()

    def J() -> Tensor:
        given = [((X, EDGES), Y), ((FEWER, FEWER_EDGES), FEWER_Y)][:count]
        losses = [
            F.cross_entropy(Network.forward(net, *graph), y, reduction="sum") for graph, y in given
        ]
        return torch.stack(losses).sum() / sum(len(y) for _, y in given)

    return Subject(hesse.Cost(net, "cross_entropy", data), J, dict(net.named_parameters()))


@pytest.mark.some(of=3)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("form", ["tuples", "a loader, one by one"])
@pytest.mark.parametrize("way", WAYS)
def test_a_layer(layer: str, form: str, way: str) -> None:
    made = subject(layer, form)
    assert off(WAYS[way](made.cost), made.expected, way) < TOLERANCE


@pytest.mark.parametrize("form", FORMS)
def test_a_form(form: str) -> None:
    made = subject("GCN", form)
    assert off(WAYS["hessian"](made.cost), made.expected) < TOLERANCE
    assert "do not count samples" in str(hesse.plan(made.cost)).replace("\n", " ")
