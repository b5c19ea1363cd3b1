"""Data and calls as people have them: each form against double backward of the same cost in plain
PyTorch, and the refusals."""

from collections import UserDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import hesse
from certificates.kinds import WAYS, Subject, double_backward, off
from networks import dense


def x(*shape: int) -> Tensor:
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64
    )


P, Q, Y = x(5, 3), x(5, 2), x(5, 2) / 2
LABELS = torch.tensor([0, 1, 2, 0, 1])
PADDED = torch.tensor([0, -100, 2, 0, 1])
WEIGHTS = torch.tensor([0.5, 1.0, 0.0, 2.0, 0.3], dtype=torch.float64)
TOKENS = torch.tensor([[0, 1, 2, 3], [4, 5, 0, 1], [1, 1, 2, 2], [5, 4, 3, 2], [0, 2, 4, 1]])
NEXT = (TOKENS + 1) % 4
EDGES, FEWER = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]]), torch.tensor([[0, 1], [1, 2]])


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.make()
        self.double()

    def make(self) -> None:
        raise NotImplementedError


class Two(Module):
    """Of two arguments."""

    def make(self) -> None:
        self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, p: Tensor, q: Tensor) -> Tensor:
        return torch.tanh(self.a(p)) * self.b(q)


class One(Two):
    """Of one argument that holds two."""

    def forward(self, both: Any) -> Tensor:  # type: ignore[override]
        p, q = both.values() if isinstance(both, dict) else both
        return super().forward(p, q)


class Heads(Two):
    """Two predictions."""

    def forward(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return torch.tanh(self.a(p)), self.b(q)


class Output:
    """What a Hugging Face model gives."""

    def __init__(self, loss: Tensor) -> None:
        self.loss = loss


class Own(Module):
    """Its output holds its loss, as a mapping, an attribute, or is it."""

    way = "mapping"

    def make(self) -> None:
        self.l = nn.Linear(3, 3)

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        loss = F.cross_entropy(torch.tanh(self.l(x)), labels)
        return {"mapping": {"loss": loss}, "attribute": Output(loss), "number": loss}[self.way]


class OwnAttribute(Own):
    way = "attribute"


class OwnNumber(Own):
    way = "number"


class OwnTuple(Own):
    def forward(self, x: Tensor, labels: Tensor) -> Any:
        return super().forward(x, labels)["loss"], x


class Rows(Module):
    """(B, T) tokens to (B·T, C) scores."""

    def make(self) -> None:
        self.e, self.l = nn.Embedding(6, 3), nn.Linear(3, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.l(torch.tanh(self.e(tokens))).flatten(0, 1)


class Graph(Module):
    """Features of nodes and a list of edges."""

    def make(self) -> None:
        self.l = nn.Linear(3, 2)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return (
            torch.zeros(len(x), 2, dtype=x.dtype).index_add(0, edges[1], self.l(x)[edges[0]]).tanh()
        )


class Physical(Module):
    """u_t − u_xx of a network u, by automatic differentiation inside the forward, written into the
    input or not."""

    in_place = False

    def make(self) -> None:
        self.u = dense(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_() if self.in_place else x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.u(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)
        return slope[:, 1:] - second[:, :1]


class PhysicalInPlace(Physical):
    in_place = True


class Examples(Dataset[Any]):
    """A data set whose loader yields mappings."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, n: int) -> Any:
        return {"x": P[n], "labels": LABELS[n]}


def cut(*parts: Any) -> list[Any]:
    """Two batches of the same parts."""
    return [tuple(part[:2] for part in parts), tuple(part[2:] for part in parts)]


def weighted(losses: Callable[[Tensor], Tensor]) -> Callable[[Any], Tensor]:
    return lambda net: (WEIGHTS * losses(net(P))).sum() / WEIGHTS.sum()


def per_sample(prediction: Tensor, target: Tensor) -> Tensor:
    return torch.cosh(prediction - target).sum(1)


def counted(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return F.cross_entropy(prediction, target.reshape(-1), reduction="sum"), (target != -100).sum()


def squares(prediction: Any, target: Any) -> Tensor:
    return sum(
        ((a - b).square().sum() for a, b in zip(prediction, target, strict=True)),
        start=torch.zeros(()),
    )


def flat(prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(prediction, target.reshape(-1))


GAPS = NEXT.clone()
GAPS[0, 2:] = GAPS[3, 1:] = -100
LOADER = DataLoader(Examples(), batch_size=2, shuffle=True)
LABELLED = {"x": P, "labels": LABELS}
IGNORING = [{"x": P[:2], "labels": PADDED[:2]}, {"x": P[2:], "labels": PADDED[2:]}]
NODES = [((x(4, 3), EDGES), LABELS[[0, 1, 1, 0]]), ((x(3, 3), FEWER), LABELS[[1, 1, 0]])]

# The module, the loss and the data; then the same cost in plain PyTorch.
FORMS: dict[str, tuple[type[Module], Any, Any, Callable[[Any], Any]]] = {
    "a tuple of two arguments": (Two, "mse", ((P, Q), Y), lambda net: F.mse_loss(net(P, Q), Y)),
    "a list of two arguments": (Two, "mse", ([P, Q], Y), lambda net: F.mse_loss(net(P, Q), Y)),
    "a tuple as one argument": (One, "mse", ((P, Q), Y), lambda net: F.mse_loss(net((P, Q)), Y)),
    "a mapping": (Two, "mse", ({"q": Q, "p": P}, Y), lambda net: F.mse_loss(net(P, Q), Y)),
    "a mapping of another class": (
        Two,
        "mse",
        (UserDict(p=P, q=Q), Y),
        lambda net: F.mse_loss(net(P, Q), Y),
    ),
    "a mapping as one argument": (
        One,
        "mse",
        ({"x": P, "y": Q}, Y),
        lambda net: F.mse_loss(net((P, Q)), Y),
    ),
    "batches of mappings": (
        Two,
        "mse",
        [({"p": P[:2], "q": Q[:2]}, Y[:2]), ({"p": P[2:], "q": Q[2:]}, Y[2:])],
        lambda net: F.mse_loss(net(P, Q), Y),
    ),
    "two inputs and two targets": (
        Heads,
        squares,
        ((P, Q), (Y, 2 * Y)),
        lambda net: squares(net(P, Q), (Y, 2 * Y)),
    ),
    "a tuple of two batches": (
        dense,
        "half_sse",
        tuple(cut(P, Y)),
        lambda net: (net(P) - Y).square().sum() / 2,
    ),  # type: ignore[dict-item]
    "its own loss in a mapping": (Own, None, LABELLED, lambda net: net(P, LABELS)["loss"]),
    "its own loss as an attribute": (OwnAttribute, None, LABELLED, lambda net: net(P, LABELS).loss),
    "its own loss alone": (OwnNumber, None, LABELLED, lambda net: net(P, LABELS)),
    "its own loss, a loader": (Own, None, LOADER, lambda net: net(P, LABELS)["loss"]),
    "its own loss, labels left out": (
        Own,
        None,
        {"x": P, "labels": PADDED},
        lambda net: net(P, PADDED)["loss"],
    ),
    "its own loss by a function": (
        Own,
        lambda out, batch: out["loss"],
        LOADER,
        lambda net: net(P, LABELS)["loss"],
    ),
    "its own loss with a count": (
        Own,
        lambda out, batch: (
            out["loss"] * (batch["labels"] != -100).sum(),
            (batch["labels"] != -100).sum(),
        ),
        IGNORING,
        lambda net: net(P, PADDED)["loss"],
    ),
    "its own loss beside labels": (
        Own,
        lambda out, labels: out["loss"],
        (LABELLED, LABELS),
        lambda net: net(P, LABELS)["loss"],
    ),
    "weights, cross entropy": (
        dense,
        "cross_entropy",
        (P, LABELS % 2, WEIGHTS),
        weighted(lambda z: F.cross_entropy(z, LABELS % 2, reduction="none")),
    ),  # type: ignore[dict-item]
    "weights, a module": (
        dense,
        nn.CrossEntropyLoss(reduction="none"),
        cut(P, LABELS % 2, WEIGHTS),
        weighted(lambda z: F.cross_entropy(z, LABELS % 2, reduction="none")),
    ),  # type: ignore[dict-item]
    "weights, mse": (
        dense,
        "mse",
        cut(P, Y, WEIGHTS),
        weighted(lambda z: (z - Y).square().mean(1)),
    ),  # type: ignore[dict-item]
    "weights, a function": (
        dense,
        per_sample,
        (P, Y, WEIGHTS),
        weighted(lambda z: per_sample(z, Y)),
    ),  # type: ignore[dict-item]
    "rows of samples": (
        Rows,
        "cross_entropy",
        (TOKENS, NEXT.flatten()),
        lambda net: flat(net(TOKENS), NEXT),
    ),
    "rows of samples, batches": (
        Rows,
        "cross_entropy",
        [(TOKENS[:2], NEXT[:2].flatten()), (TOKENS[2:], NEXT[2:].flatten())],
        lambda net: flat(net(TOKENS), NEXT),
    ),
    "rows of samples, a function": (
        Rows,
        flat,
        cut(TOKENS, NEXT),
        lambda net: flat(net(TOKENS), NEXT),
    ),
    "a total and a count": (Rows, counted, cut(TOKENS, GAPS), lambda net: flat(net(TOKENS), GAPS)),
    "a total and a count, one batch": (
        Rows,
        counted,
        (TOKENS, GAPS),
        lambda net: flat(net(TOKENS), GAPS),
    ),
    "a graph": (
        Graph,
        "cross_entropy",
        NODES[0],
        lambda net: F.cross_entropy(net(*NODES[0][0]), NODES[0][1]),
    ),
    "graphs": (
        Graph,
        "cross_entropy",
        NODES,
        lambda net: sum(F.cross_entropy(net(*given), y, reduction="sum") for given, y in NODES) / 7,
    ),
    "a loss that differentiates": (
        dense,
        lambda z, t: (
            (torch.autograd.grad((z**3).sum(), z, create_graph=True)[0] - t).square().mean()
        ),
        cut(P, Y),
        lambda net: (3 * net(P).square() - Y).square().mean(),
    ),  # type: ignore[dict-item]
    "its own loss in a tuple": (OwnTuple, None, LABELLED, lambda net: net(P, LABELS)[0]),
    "derivatives inside": (
        Physical,
        "half_sse",
        (Q, Y[:, :1]),
        lambda net: (net(Q) - Y[:, :1]).square().sum() / 2,
    ),
    "derivatives inside, in place": (
        PhysicalInPlace,
        "half_sse",
        (Q, Y[:, :1]),
        lambda net: (net(Q.clone()) - Y[:, :1]).square().sum() / 2,
    ),
}
APART = ("graph", "derivatives", "differentiates", "left out", "with a count")
CAPTURED = [name for name in FORMS if not any(word in name for word in APART)]


def subject(name: str) -> Subject:
    make, loss, data, J = FORMS[name]
    net = make() if make is not dense else _dense()
    return Subject(hesse.Cost(net, loss, data), lambda: J(net), dict(net.named_parameters()))


def _dense() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dense(3, 4, 2).double()


@pytest.mark.some(of=3)
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_a_form(name: str, way: str) -> None:
    made = subject(name)
    assert abs(hesse.value(made.cost) - float(made.J().detach())) <= 1e-12
    assert off(WAYS[way](made.cost), made.expected, way) < 1e-9


@pytest.mark.parametrize("name", CAPTURED)
def test_samples_share_their_work(name: str) -> None:
    assert hesse.plan(subject(name).cost).captured


def test_the_data_stays_as_it_is() -> None:
    hesse.hessian(subject("derivatives inside, in place").cost)
    assert not Q.requires_grad


@pytest.mark.parametrize(
    ("f", "data", "J"),
    [
        (
            lambda p, b: (b[0] @ p["w"] - b[1]).square().mean(),
            (P, Y[:, 0]),
            lambda p: (P @ p["w"] - Y[:, 0]).square().mean(),
        ),
        (
            lambda p, b: (b["x"] @ p["w"]).exp().mean(),
            [{"x": P[:2]}, {"x": P[2:]}],
            lambda p: (P @ p["w"]).exp().mean(),
        ),
        (
            lambda p, b: (b[2] * (b[0] @ p["w"] - b[1]).square()).mean(),
            (P, Y[:, 0], WEIGHTS),
            lambda p: (WEIGHTS * (P @ p["w"] - Y[:, 0]).square()).mean(),
        ),
    ],
    ids=["pair", "mapping", "triple"],
)
@pytest.mark.parametrize("way", WAYS)
def test_a_function_of_a_batch_takes_what_the_data_gives(
    f: Any, data: Any, J: Any, way: str
) -> None:
    leaf = {"w": x(3).requires_grad_()}
    cost = hesse.Cost.from_function(f, {"w": x(3)}, data)
    assert off(WAYS[way](cost), double_backward(lambda: J(leaf), list(leaf.values())), way) < 1e-9


def test_parameters_come_in_the_callers_order() -> None:
    cost = hesse.Cost(_dense(), "half_sse", (P, Y), params=["2.bias", "0.*"])
    assert cost.layout.names == ("2.bias", "0.weight", "0.bias")


# ---------------------------------------------------------------- what is refused, in words


def network(*sizes: int) -> nn.Module:
    return dense(*(sizes or (3, 2)))


def f32(*shape: int) -> Tensor:
    return x(*shape).float()


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a label too large": (
        lambda: hesse.Cost(network(), "cross_entropy", (f32(4, 3), torch.tensor([0, 1, 2, 1]))),
        (
            "data: batch 0 has 1 labels that name no class, the first of them 2; the model predicts"
            " 2 classes"
        ),
    ),
    "a negative label": (
        lambda: hesse.Cost(network(), "cross_entropy", (f32(4, 3), torch.tensor([0, -1, 1, 1]))),
        "data: batch 0 has 1 labels that name no class, the first of them -1",
    ),
    "labels of floats": (
        lambda: hesse.Cost(network(), "cross_entropy", (f32(4, 3), torch.ones(4))),
        (
            r"data: the targets of batch 0 are float32, and cross_entropy takes .* int64: cast"
            r" them, y.long\(\)"
        ),
    ),
    "labels of int32": (
        lambda: hesse.Cost(network(), nn.NLLLoss(), (f32(4, 3), torch.ones(4, dtype=torch.int32))),
        (
            r"data: the targets of batch 0 are int32, and nll_loss takes .* int64: cast them,"
            r" y.long\(\)"
        ),
    ),
    "inputs of another dtype": (
        lambda: hesse.Cost(network(), "mse", (x(4, 3), f32(4, 2))),
        (
            r"model: it failed on batch 0 \(float64 \(4, 3\)\) .* cast the inputs,"
            r" x.to\(torch.float32\)"
        ),
    ),
    "inputs of integers": (
        lambda: hesse.Cost(network(), "mse", (torch.ones(4, 3, dtype=torch.int64), f32(4, 2))),
        (
            r"model: it failed on batch 0 \(int64 \(4, 3\)\) .* of integers .* cast it,"
            r" x.to\(torch.float32\)"
        ),
    ),
    "complex inputs": (
        lambda: hesse.Cost(network(), "mse", (torch.ones(4, 3, dtype=torch.complex64), f32(4, 2))),
        "model: it failed on batch 0 .* an input is complex",
    ),
    "sparse inputs": (
        lambda: hesse.Cost(network(), "mse", (torch.eye(4, 3).to_sparse(), f32(4, 2))),
        r"data: batch 0 holds a tensor of shape \(4, 3\) that is sparse; use .to_dense\(\)",
    ),
    "inputs without values": (
        lambda: hesse.Cost(network(), "mse", (torch.ones(4, 3, device="meta"), f32(4, 2))),
        "data: batch 0 holds a tensor .* that is a meta tensor",
    ),
    "too many features": (
        lambda: hesse.Cost(network(), "mse", [(f32(4, 3), f32(4, 2)), (f32(4, 5), f32(4, 2))]),
        (
            r"model: it failed on batch 1 \(float32 \(4, 5\)\) .* as many features as the model"
            r" expects"
        ),
    ),
    "targets of another width": (
        lambda: hesse.Cost(network(), "mse", (f32(4, 3), f32(4, 3))),
        r"loss: it failed on batch 0 \(float32 \(4, 2\), float32 \(4, 3\)\) ",
    ),
    "more targets than predictions": (
        lambda: hesse.Cost(network(), "mse", (f32(5, 3), f32(10, 2))),
        (
            r"data: batch 0 has 5 inputs, and its targets have shape \(10, 2\); .* the prediction,"
            r" which has shape \(5, 2\)"
        ),
    ),
    "a tuple for one argument": (
        lambda: hesse.Cost(network(), "mse", ((f32(4, 3), f32(4, 3)), f32(4, 2))),
        (
            r"model: it failed on batch 0 .* a mapping X is given as model\(\*\*X\) .* a tuple as"
            r" model\(\*X\) .* as model\(X\)"
        ),
    ),
    "no loss beside targets": (
        lambda: hesse.Cost(network(), None, (f32(4, 3), f32(4, 2))),
        "loss: expected a name, .* got None",
    ),
    "its own loss over batches, labels left out": (
        lambda: hesse.Cost(Own(), None, IGNORING),
        (
            r"model: its own loss is neither .* pass one batch, or loss=lambda output, batch:"
            r" \(output.loss \* n, n\)"
        ),
    ),
    "a mean with a count": (
        lambda: hesse.Cost(Rows(), lambda z, y: (flat(z, y), y.numel()), cut(TOKENS, NEXT)),
        r"loss: it returned \(total, count\), and the total is a mean over samples; return the sum",
    ),
    "a count that moves": (
        lambda: hesse.Cost(_dense(), lambda z, t: (z.square().sum(), z.exp().sum()), (P, Y)),
        r"loss: it returned \(total, count\), and the count depends on the parameters",
    ),
    "no number as a count": (
        lambda: hesse.Cost(_dense(), lambda z, t: (z.sum(), None), (P, Y)),
        r"loss: it returned \(total, count\) with NoneType as the count",
    ),
    "a class as a loss": (
        lambda: hesse.Cost(_dense(), nn.MSELoss, (P, Y)),
        r"loss: .* got the class MSELoss; call it, MSELoss\(\)",
    ),
    "probabilities of integers": (
        lambda: hesse.Cost(_dense(), "bce", (P, torch.ones(5, 2, dtype=torch.int64))),
        r"data: the targets of batch 0 are int64, .* takes probabilities: cast them, y.float\(\)",
    ),
    "parameters without values": (
        lambda: hesse.Cost(nn.LazyLinear(2), "mse", (P, Y)),
        "params: 'weight' has no values yet",
    ),
    "a penalty that fails": (
        lambda: hesse.Cost(
            _dense(), "mse", (P, Y), params="2.*", penalty=lambda p: p["0.weight"].sum()
        ),
        "penalty: it failed on the parameters 2.weight, 2.bias with KeyError",
    ),
    "a sum that is called a mean": (
        lambda: hesse.Cost.from_function(
            lambda p, b: (b[0] @ p["w"]).sum(), {"w": x(3)}, cut(P, Y)
        ),
        "f: on batch 0 it is a sum over samples, .* pass reduction='sum'",
    ),
    "weights and one number": (
        lambda: hesse.Cost(_dense(), flat, (P, LABELS % 2, WEIGHTS)),
        (
            r"loss: the data is \(X, y, w\), so that it has to give one number for each of the 5"
            r" samples, .* it gave shape \(\)"
        ),
    ),
    "weights and half_sse": (
        lambda: hesse.Cost(_dense(), "half_sse", (P, Y, WEIGHTS)),
        "loss: half_sse is a sum over the whole",
    ),
    "negative weights": (
        lambda: hesse.Cost(_dense(), "mse", (P, Y, -WEIGHTS)),
        r"data: batch 0 is \(X, y, w\); w has to be a weight >= 0 for each of its 5 samples",
    ),
    "forms that differ": (
        lambda: hesse.Cost(_dense(), "mse", [(P, Y), (P, Y, WEIGHTS)]),
        r"data: batch 1 is a triple \(X, y, w\), and batch 0 a pair \(X, y\)",
    ),
    "two readings": (
        lambda: hesse.Cost(Any2(), squares_of_all, ((P, P), (P, P))),
        r"data: it can be read as two batches, \(X1, y1\) and \(X2, y2\), and as one batch",
    ),
    "half precision inside": (
        lambda: hesse.Cost(Half(), "mse", (f32(4, 3), f32(4, 2))),
        (
            "model: it failed on batch 0 .* a cast to half precision inside the forward does not"
            " fit, take it out"
        ),
    ),
    "an error of the user's own": (
        lambda: hesse.Cost(Failing(), "mse", (f32(4, 3), f32(4, 2))),
        "model: it failed on batch 0 .* with ZeroDivisionError: ",
    ),
}


class Any2(Module):
    """Takes whatever comes."""

    def make(self) -> None:
        self.l = nn.Linear(3, 3)

    def forward(self, *given: Any) -> Tensor:
        return self.l(given[0])


def squares_of_all(prediction: Tensor, target: Any) -> Tensor:
    return prediction.square().sum()


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(3, 2).to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.l(x.to(torch.bfloat16)).float()


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.l(x) * (1 / (len(x) - len(x)))


@pytest.mark.parametrize("make", [row[0] for row in REFUSED.values()], ids=list(REFUSED))
def test_refused(make: Callable[[], Any], request: pytest.FixtureRequest) -> None:
    with pytest.raises(hesse.HesseError, match=REFUSED[request.node.callspec.id][1]):
        make()


def test_the_users_error_is_the_cause() -> None:
    with pytest.raises(hesse.HesseError) as caught:
        hesse.Cost(Failing(), "mse", (f32(4, 3), f32(4, 2)))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# ---------------------------------------------------------------- what a cost is of stays so


@pytest.mark.parametrize(
    "ask", [hesse.value, hesse.gradient, hesse.hessian, hesse.diagonal, hesse.operator, hesse.plan]
)
@pytest.mark.parametrize("part", range(3))
def test_data_written_into_is_refused(ask: Callable[[hesse.Cost], Any], part: int) -> None:
    data = [P.clone(), Y.clone(), WEIGHTS.clone()]
    cost = hesse.Cost(_dense(), "mse", tuple(data))
    data[part].mul_(2)
    with pytest.raises(
        hesse.HesseError,
        match=r"data: a tensor of shape .* was written into after the cost was made",
    ):
        ask(cost)


def test_an_operator_of_data_written_into_is_refused() -> None:
    data = P.clone()
    product = hesse.operator(hesse.Cost(_dense(), "mse", [(data, Y)]))
    data.zero_()
    with pytest.raises(hesse.HesseError, match="was written into"):
        _ = product @ torch.ones(product.shape[0], dtype=torch.float64)


def test_a_list_that_grew_is_refused() -> None:
    batches = cut(P, Y)
    cost = hesse.Cost(_dense(), "mse", batches)
    batches.append((P, Y))
    with pytest.raises(
        hesse.HesseError,
        match="data: the list held 2 batches when the cost was made and holds 3 now",
    ):
        hesse.hessian(cost)


def test_threads_may_share_a_cost() -> None:
    cost = hesse.Cost(_dense(), "mse", cut(P, Y))
    expected = hesse.hessian(cost).dense()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: hesse.hessian(cost).dense(), range(12)))
    assert all(bool((H - expected).abs().max() <= 1e-12 * expected.abs().max()) for H in found)


def test_what_is_random_is_no_rounding() -> None:
    """A function that gives other numbers each time excuses no difference."""
    size = [0.0]

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return (
            ((1 + size[0] * torch.rand((), dtype=torch.float64)) * prediction - target)
            .square()
            .mean()
        )

    cost = hesse.Cost(_dense(), loss, (P, Y))
    size[0] = 1.0
    with pytest.raises(hesse.HesseError, match="cannot be certified"):
        hesse.hessian(cost)


def test_columns_of_nothing_but_rounding_do_not_count_as_far_apart() -> None:
    """The last bias moves all predictions alike, and their distances not at all."""
    for seed in range(4):
        torch.manual_seed(seed)
        certificate = hesse.hessian(
            hesse.Cost(dense(3, 4, 4).double(), distances, (P, Y))
        ).certificate
        assert (
            certificate is not None
            and certificate.deviation < 1e-10
            and certificate.rounding < 1e-6
        )


def distances(prediction: Tensor, target: Tensor) -> Tensor:
    return F.pdist(prediction, 3.0).sum() + 0 * target.sum()
