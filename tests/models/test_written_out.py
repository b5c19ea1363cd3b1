"""Functions that PyTorch differentiates once only are written out: value and second derivatives
beside an independent rewriting.

Each row has a call as people write it and the same entry by entry.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates.kinds import WAYS, Formula, Make, Subject, check_right, made, parameter, x

aten = torch.ops.aten
BAGS = torch.tensor([[0, 1, 1], [2, 4, 0], [3, 3, 3], [1, 2, 4]])
FLAT, STARTS, ENDS = (
    torch.tensor([0, 1, 1, 2, 4, 0, 3]),
    torch.tensor([0, 3, 3, 4]),
    torch.tensor([0, 3, 3, 4, 7]),
)
LISTS = [[0, 1, 1], [], [2], [4, 0, 3]]
MARGINS = torch.tensor([0, 2, 1, 2])


@dataclass(frozen=True)
class Row:
    """A call, and the same written by hand, of a module's members and its input; both (samples,
    outputs) or a scalar."""

    call: Callable[[Any, Any], Tensor]
    by_hand: Callable[[Any, Any], Tensor]
    members: Callable[[], dict[str, Any]]
    X: Callable[[], Tensor]
    captured: bool = True


def subject(row: Row) -> Subject:
    """½ ‖tanh(call) − y‖² and the same by hand, on leaves of its own."""
    members, X = row.members(), row.X()
    model = Formula(lambda m, z: torch.tanh(row.call(m, z)), **members).double()
    apart = Formula(lambda m, z: torch.tanh(row.by_hand(m, z)), **members).double()
    with torch.no_grad():
        y = x(*apart(X).shape)
    leaves = dict(apart.named_parameters())
    return Subject(
        hesse.Cost(model, "half_sse", (X, y)), lambda: (apart(X) - y).square().sum() / 2, leaves
    )


# ---------------------------------------------------------------- bags of embeddings


def reduced(rows: list[Tensor], mode: str, width: int) -> Tensor:
    if not rows:
        return torch.zeros(width, dtype=torch.float64)
    stacked = torch.stack(rows)
    return {"sum": stacked.sum(0), "mean": stacked.sum(0) / len(rows), "max": stacked.max(0)[0]}[
        mode
    ]


def bags(
    table: Tensor, lists: Any, mode: str, padding: int | None = None, weights: Any = None
) -> Tensor:
    made = []
    for place, tokens in enumerate(lists):
        kept = [
            (k, int(token))
            for k, token in enumerate(tokens)
            if padding is None or int(token) != padding
        ]
        rows = [table[token] * (1.0 if weights is None else weights[place][k]) for k, token in kept]
        made.append(reduced(rows, mode, table.shape[1]))
    return torch.stack(made)


def module_row(mode: str, padding: int | None = None) -> Row:
    def members() -> dict[str, Any]:
        return {"e": nn.EmbeddingBag(5, 2, mode=mode, padding_idx=padding)}

    return Row(
        lambda m, z: m.e(z), lambda m, z: bags(m.e.weight, z, mode, padding), members, lambda: BAGS
    )


def flat_row(mode: str, **options: Any) -> Row:
    """Tokens in one line: four bags, one of them empty, each an output of every sample."""

    def call(m: Any, z: Tensor) -> Tensor:
        return (
            z
            @ F.embedding_bag(
                FLAT,
                m.table,
                ENDS if "include_last_offset" in options else STARTS,
                mode=mode,
                **options,
            ).T
        )

    def by_hand(m: Any, z: Tensor) -> Tensor:
        return z @ bags(m.table, LISTS, mode, options.get("padding_idx")).T

    return Row(call, by_hand, lambda: {"table": parameter(5, 2)}, lambda: x(3, 2), mode != "max")


def weighted(m: Any, z: Tensor) -> Tensor:
    return F.embedding_bag(z, m.table, mode="sum", per_sample_weights=m.w[z], padding_idx=-1)


def weighted_flat(m: Any, z: Tensor) -> Tensor:
    return z @ F.embedding_bag(FLAT, m.table, STARTS, mode="sum", per_sample_weights=m.w).T


def weighted_flat_by_hand(m: Any, z: Tensor) -> Tensor:
    return z @ bags(m.table, LISTS, "sum", weights=[m.w[:3], [], m.w[3:4], m.w[4:]]).T


def kernel_row(kernel: Any, *more: Any) -> Row:
    def call(m: Any, z: Tensor) -> Tensor:
        return z @ kernel(m.table, FLAT, STARTS, *more)[0].T

    mode = ("sum", "mean", "max")[more[1] if len(more) > 1 else 0]
    return Row(
        call,
        lambda m, z: z @ bags(m.table, LISTS, mode).T,
        lambda: {"table": parameter(5, 2)},
        lambda: x(3, 2),
    )


BAG_ROWS: dict[str, Row] = {
    **{f"{mode}": module_row(mode) for mode in ("sum", "mean", "max")},
    **{f"{mode}, padding": module_row(mode, 3) for mode in ("sum", "mean", "max")},
    **{f"{mode}, in one line": flat_row(mode) for mode in ("sum", "mean", "max")},
    **{
        f"{mode}, in one line, padding": flat_row(mode, padding_idx=1)
        for mode in ("sum", "mean", "max")
    },
    **{
        f"{mode}, in one line, with the last": flat_row(mode, include_last_offset=True)
        for mode in ("sum", "mean", "max")
    },
    "weights, padding": Row(
        weighted,
        lambda m, z: bags(m.table, z, "sum", 4, m.w[z]),
        lambda: {"table": parameter(5, 2), "w": parameter(5)},
        lambda: BAGS,
    ),
    "weights, in one line": Row(
        weighted_flat,
        weighted_flat_by_hand,
        lambda: {"table": parameter(5, 2), "w": parameter(7)},
        lambda: x(3, 2),
    ),
    "torch.embedding_bag": kernel_row(torch.embedding_bag),
    "aten.embedding_bag": kernel_row(aten.embedding_bag, False, 1),
    "aten.embedding_bag.padding_idx": kernel_row(
        aten.embedding_bag.padding_idx, False, 0, False, None, False, None
    ),
}

# ---------------------------------------------------------------- sparse gradients


def looked_up(m: Any, z: Tensor) -> Tensor:
    return torch.stack([torch.cat([m.table[int(token)] for token in row]) for row in z])


SPARSE_ROWS: dict[str, Row] = {
    "nn.Embedding": Row(
        lambda m, z: m.e(z).flatten(1),
        lambda m, z: torch.stack(
            [torch.cat([m.e.weight[int(token)] for token in row]) for row in z]
        ),
        lambda: {"e": nn.Embedding(5, 2, sparse=True)},
        lambda: BAGS,
    ),
    **{
        name: Row(
            lambda m, z, kernel=kernel: kernel(m.table, z, -1, False, True).flatten(1),
            looked_up,
            lambda: {"table": parameter(5, 2)},
            lambda: BAGS,
        )
        for name, kernel in {
            "torch": torch.embedding,
            "aten": aten.embedding,
            "aten.default": aten.embedding.default,
        }.items()
    },
    "EmbeddingBag": Row(
        lambda m, z: m.e(z),
        lambda m, z: bags(m.e.weight, z, "mean"),
        lambda: {"e": nn.EmbeddingBag(5, 2, sparse=True)},
        lambda: BAGS,
    ),
}

# ---------------------------------------------------------------- distances


def distance(a: Tensor, b: Tensor, p: float) -> Tensor:
    """Of two points that are apart in every entry, or that coincide, where nothing is
    differentiated."""
    size = [abs(u - v) for u, v in zip(a, b, strict=True)]
    if all(float(entry.detach()) == 0 for entry in size):
        return a.new_zeros(())
    if math.isinf(p):
        return max(size, key=lambda entry: float(entry.detach()))
    if p == 0:
        return a.new_tensor(float(sum(float(entry.detach()) != 0 for entry in size)))
    return sum((entry**p for entry in size), start=a.new_zeros(())) ** (1 / p)


def distances(rows: Tensor, others: Tensor, p: float) -> Tensor:
    return torch.stack([torch.stack([distance(a, b, p) for b in others]) for a in rows])


def apart_from(p: float, kernel: Callable[..., Tensor] = torch.cdist) -> Row:
    return Row(
        lambda m, z: kernel(z @ m.w, m.c, p),
        lambda m, z: distances(z @ m.w, m.c, p),
        lambda: {"w": parameter(3, 2), "c": parameter(4, 2)},
        lambda: x(5, 3),
    )


def meeting(p: float) -> Row:
    """Points that are used twice: their distance is 0, and has no derivatives there."""
    return Row(
        lambda m, z: z @ torch.cdist(m.c, m.c, p),
        lambda m, z: z @ distances(m.c, m.c, p),
        lambda: {"c": parameter(4, 2)},
        lambda: x(5, 4),
    )


def pairs(m: Any, z: Tensor, p: float) -> Tensor:
    made = [distance(m.c[i], m.c[j], p) for i in range(4) for j in range(i + 1, 4)]
    return z @ torch.stack(made)


def paired(p: float, kernel: Callable[..., Tensor] = F.pdist) -> Row:
    return Row(
        lambda m, z: z @ kernel(m.c, p),
        lambda m, z: pairs(m, z, p),
        lambda: {"c": parameter(4, 2)},
        lambda: x(5, 6),
    )


POWERS = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, math.inf]
DISTANCE_ROWS: dict[str, Row] = {
    **{f"cdist, p = {p}": apart_from(p) for p in POWERS},
    **{f"cdist to itself, p = {p}": meeting(p) for p in [1.0, 2.0, 3.0, math.inf]},
    **{f"pdist, p = {p}": paired(p) for p in POWERS},
    "aten.cdist": apart_from(2.0, aten.cdist),
    "aten.cdist.default": apart_from(3.0, aten.cdist.default),
    "torch.pdist": paired(2.0, torch.pdist),
    "aten.pdist": paired(2.0, aten.pdist),
    "cdist, of batches": Row(
        lambda m, z: torch.cdist(z.unflatten(1, (3, 2)) @ m.w, m.c).flatten(1),
        lambda m, z: torch.stack(
            [distances(each @ m.w, m.c, 2.0).flatten() for each in z.unflatten(1, (3, 2))]
        ),
        lambda: {"w": parameter(2, 2), "c": parameter(4, 2)},
        lambda: x(3, 6),
    ),
}

ROWS = {**BAG_ROWS, **SPARSE_ROWS, **DISTANCE_ROWS}
KINDS: dict[str, Make] = {}
for name, row in ROWS.items():

    def make(row: Row = row) -> Subject:
        return subject(row)

    make.__qualname__ = name
    KINDS[name] = make


@pytest.mark.some(of=5)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_second_derivatives_are_right(kind: Make, way: str) -> None:
    check_right(kind, way)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_values_are_the_users(kind: Make) -> None:
    subject = made(kind)
    assert math.isclose(hesse.value(subject.cost), float(subject.J().detach()), rel_tol=1e-12)


@pytest.mark.parametrize("name", [*BAG_ROWS, *SPARSE_ROWS, *DISTANCE_ROWS])
def test_the_plan_says_what_is_missing(name: str) -> None:
    plan = hesse.plan(made(KINDS[name]).cost)
    assert any(
        "is written out, for PyTorch's second derivatives of it are missing" in note
        for note in plan.notes
    )


@pytest.mark.parametrize(
    "name", ["sum", "mean, padding", "max", "nn.Embedding", "cdist, p = 2.0", "cdist, of batches"]
)
def test_networks_of_them_are_captured(name: str) -> None:
    assert hesse.plan(made(KINDS[name]).cost).captured


def test_an_ordinary_embedding_runs_as_it_is() -> None:
    cost = hesse.Cost(
        nn.Sequential(nn.Embedding(5, 2), nn.Flatten()).double(), "half_sse", (BAGS, x(4, 6))
    )
    assert not any("written out" in note for note in cost.notes)


# ---------------------------------------------------------------- what is left as it is


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{"max_norm": 1e6}, {"scale_grad_by_freq": True}], ids=str)
def test_a_bag_that_is_not_written_out_is_refused(way: str, options: dict[str, Any]) -> None:
    model = Formula(
        lambda m, z: F.embedding_bag(z, m.table, mode="sum", **options).tanh(),
        table=parameter(5, 2),
    )
    with pytest.raises(hesse.HesseError, match="differentiate it twice"):
        WAYS[way](hesse.Cost(model, "half_sse", (BAGS, x(4, 2))))


def ctc() -> hesse.Cost:
    frames, targets, lengths = (
        x(6, 2, 3),
        torch.tensor([[1, 2], [2, 3]]),
        (torch.tensor([6, 6]), torch.tensor([2, 2])),
    )

    def f(params: dict[str, Tensor]) -> Tensor:
        return F.ctc_loss(F.linear(frames, params["w"]).log_softmax(-1), targets, *lengths)

    return hesse.Cost.from_function(f, {"w": x(4, 3)})


@pytest.mark.parametrize("certify", [True, False])
@pytest.mark.parametrize("way", [*WAYS, "plan"])
def test_what_pytorch_cannot_differentiate_twice_is_refused_in_the_plan(
    way: str, certify: bool
) -> None:
    """Before any long work, and shortly."""
    refuses = (
        (lambda cost: hesse.plan(cost))
        if way == "plan"
        else (lambda cost: WAYS[way](cost, certify=certify))
    )
    with pytest.raises(
        hesse.HesseError, match=r"^cost: PyTorch cannot differentiate it twice.*_ctc_loss_backward"
    ):
        refuses(ctc())


# ---------------------------------------------------------------- a loss


def margins(
    z: Tensor, targets: Tensor, p: int, margin: float, weight: Tensor | None, reduction: str
) -> Tensor:
    each = []
    for scores, target in zip(z, targets, strict=True):
        terms = [
            (margin - scores[target] + score).clamp(min=0) ** p
            for i, score in enumerate(scores)
            if i != int(target)
        ]
        each.append(
            sum(terms, start=z.new_zeros(()))
            / len(scores)
            * (1.0 if weight is None else weight[target])
        )
    total = torch.stack(each)
    return {"mean": total.mean(), "sum": total.sum()}[reduction]


def scored(loss: Callable[[Tensor, Tensor], Tensor], **options: Any) -> Subject:
    options = {"p": 1, "margin": 1.0, "weight": None, "reduction": "mean"} | options
    model, X = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3)).double(), x(4, 2)
    cost = hesse.Cost(model, loss, (X, MARGINS))
    return Subject(
        cost, lambda: margins(model(X), MARGINS, **options), dict(model.named_parameters())
    )


WEIGHT = torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64)
LOSSES: dict[str, Make] = {
    "the module": lambda: scored(nn.MultiMarginLoss()),
    "squares": lambda: scored(nn.MultiMarginLoss(p=2, margin=3.0), p=2, margin=3.0),
    "a sum": lambda: scored(nn.MultiMarginLoss(p=2, reduction="sum"), p=2, reduction="sum"),
    "weights": lambda: scored(nn.MultiMarginLoss(p=2, weight=WEIGHT), p=2, weight=WEIGHT),
    "each": lambda: scored(
        lambda z, y: F.multi_margin_loss(z, y, p=2, reduction="none").mean(), p=2
    ),
    "the function's old words": lambda: scored(
        lambda z, y: F.multi_margin_loss(z, y, 2, 1.0, None, False), p=2, reduction="sum"
    ),
    "the kernel": lambda: scored(
        lambda z, y: aten.multi_margin_loss(z, y, 2, 1, None, 2), p=2, reduction="sum"
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", LOSSES.values(), ids=LOSSES)
def test_multi_margin(kind: Make, way: str) -> None:
    check_right(kind, way)
    assert math.isclose(hesse.value(made(kind).cost), float(made(kind).J().detach()), rel_tol=1e-12)


LABELS = torch.tensor([[2, 0, -1], [1, -1, 0], [-1, 0, 1], [0, 1, 2]])


def labelled(z: Tensor, targets: Tensor) -> Tensor:
    each = []
    for scores, row in zip(z, targets.tolist(), strict=True):
        own = row[: row.index(-1)] if -1 in row else row
        terms = [
            (1 - scores[j] + scores[i]).clamp(min=0)
            for j in own
            for i in range(len(scores))
            if i not in own
        ]
        each.append(sum(terms, start=z.new_zeros(())) / len(scores))
    return torch.stack(each)


def multilabel(
    loss: Callable[[Tensor, Tensor], Tensor], reduced: Callable[[Tensor], Tensor]
) -> Subject:
    model, X = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3)).double(), x(4, 2)
    cost = hesse.Cost(model, loss, (X, LABELS))
    return Subject(
        cost, lambda: reduced(labelled(model(X), LABELS)), dict(model.named_parameters())
    )


MULTILABEL: dict[str, Make] = {
    "the module": lambda: multilabel(nn.MultiLabelMarginLoss(), Tensor.mean),
    "a sum": lambda: multilabel(nn.MultiLabelMarginLoss(reduction="sum"), Tensor.sum),
    "each": lambda: multilabel(
        lambda z, y: F.multilabel_margin_loss(z, y, reduction="none").square().sum(),
        lambda t: t.square().sum(),
    ),
    "the kernel": lambda: multilabel(lambda z, y: aten.multilabel_margin_loss(z, y, 2), Tensor.sum),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MULTILABEL.values(), ids=MULTILABEL)
def test_multilabel_margin(kind: Make, way: str) -> None:
    check_right(kind, way)
    assert math.isclose(hesse.value(made(kind).cost), float(made(kind).J().detach()), rel_tol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_a_penalty_is_written_out_too(way: str) -> None:
    def make() -> Subject:
        model, X, y = nn.Linear(3, 4).double(), x(5, 3), x(5, 4)
        cost = hesse.Cost(
            model, "half_sse", (X, y), penalty=lambda p: F.pdist(p["weight"]).exp().sum()
        )

        def J() -> Tensor:
            rows = [
                distance(model.weight[i], model.weight[j], 2.0).exp()
                for i in range(4)
                for j in range(i + 1, 4)
            ]
            return (model(X) - y).square().sum() / 2 + torch.stack(rows).sum()

        return Subject(cost, J, dict(model.named_parameters()))

    check_right(make, way)


# ---------------------------------------------------------------- the convention at distance 0


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf])
@pytest.mark.parametrize(
    "points", [[[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]], [[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]], ids=str
)
def test_first_derivatives_are_those_of_pytorch(p: float, points: list[list[float]]) -> None:
    """Also where points coincide, or differ in one entry only."""
    c = torch.tensor(points, dtype=torch.float64, requires_grad=True)

    def J(c: Tensor) -> Tensor:
        return (torch.cdist(c, c.detach() + 0, p).square().sum() + F.pdist(c, p).sum()) + c.sum()

    cost = hesse.Cost.from_function(lambda params: J(params["c"]), {"c": c})
    (expected,) = torch.autograd.grad(J(c), c)
    assert torch.allclose(hesse.gradient(cost)["c"], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_small_and_large_distances(way: str) -> None:
    """Powers of them would leave the range of the numbers; H of a norm goes like 1 / d."""
    for size in (1e-40, 1e40):
        c = size * torch.tensor([[1.0, 2.0], [-0.5, 1.5]], dtype=torch.float64)
        found = WAYS[way](
            hesse.Cost.from_function(lambda p: F.pdist(p["c"], 10.0).sum(), {"c": c}), certify=False
        )
        unit = WAYS[way](
            hesse.Cost.from_function(lambda p: F.pdist(p["c"], 10.0).sum(), {"c": c / size}),
            certify=False,
        )
        assert torch.allclose(found * size, unit, rtol=1e-9)
