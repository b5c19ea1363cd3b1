"""The Fisher information: exact, from labels drawn, and from the labels that there are."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import hesse
import networks as nets
from hesse.curvatures.fisher import SampledFisher
from hesse.curvatures.likelihoods import LIKELIHOODS
from hesse.errors import HesseTypeError, HesseValueError
from reference import relative


def x(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def labels(*shape: int, ignored: bool = False) -> Tensor:
    drawn = torch.randint(3, shape)
    if ignored:
        drawn.view(-1)[::3] = -100
    return drawn


def tokens() -> nn.Module:
    """Scores of every token, (samples, classes, tokens)."""
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Unflatten(1, (3, 2)))


class MeanAndVariance(nn.Module):
    """The variance is one for both entries of the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.spread = nets.dense(4, 3, 2), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x), self.spread(x).exp()


WEIGHTS = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def ends_in(last: nn.Module, *widths: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*nets.dense(*(widths or (4, 3, 3))), last)


@dataclass(frozen=True)
class Row:
    """A likelihood.

    Attributes:
        make: the network.
        loss: what the cost is given.
        data: X and y.
        summed: the loss of one sample as PyTorch has it, summed and without weights.
        labels: of one entry or position, at its prediction: which there are, and how probable each.
        counts: what each sample, or position, counts as.
        divisor: of the mean; 1 of a sum.
    """

    make: Callable[[], nn.Module]
    loss: Any
    data: Callable[[], tuple[Tensor, Tensor]]
    summed: Any
    labels: Callable[..., tuple[Tensor, Tensor]]
    counts: Callable[[Tensor], Tensor] = lambda y: torch.ones(len(y), dtype=torch.float64)
    divisor: Callable[[Tensor], float] = lambda y: float(y.numel())
    is_gauss_newton: bool = True


def of_classes(probability: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Any]:
    """Over the classes of one position, whose predictions are a vector."""
    return lambda z: (torch.arange(len(z)), probability(z))


def of_two(
    no: float, probability: Callable[[Tensor], Tensor] = torch.sigmoid
) -> Callable[[Tensor], Any]:
    return lambda z: (
        torch.tensor([no, 1.0]).double(),
        torch.stack([1 - probability(z), probability(z)]),
    )


def of_normal(variance: Callable[..., Tensor | float]) -> Callable[..., Any]:
    """By quadrature, which is exact for polynomials up to the ninth degree."""
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(5))

    def labels(z: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        spread = torch.as_tensor(variance(*others)).double().sqrt()
        return z + spread * nodes, weights / weights.sum()

    return labels


def of_counts(rate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Any]:
    count = torch.arange(80).double()

    def labels(z: Tensor) -> tuple[Tensor, Tensor]:
        logs = count * rate(z).log() - rate(z) - torch.lgamma(count + 1)
        return count, logs.exp()

    return labels


def cross_entropies(**options: Any) -> Any:
    return functools.partial(F.cross_entropy, reduction="sum", **options)


REAL = (lambda: (x(5, 4), x(5, 2)), F.mse_loss)
# By the name of the loss, and what is special of it.
ROWS: dict[str, Row] = {
    "cross_entropy": Row(
        lambda: nets.dense(4, 3, 3),
        "cross_entropy",
        lambda: (x(5, 4), labels(5)),
        cross_entropies(),
        of_classes(lambda z: z.softmax(0)),
    ),
    "cross_entropy, weighed, smoothed, some left out": Row(
        lambda: nets.dense(4, 3, 3),
        nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1),
        lambda: (x(6, 4), labels(6, ignored=True)),
        cross_entropies(),
        of_classes(lambda z: z.softmax(0)),
        lambda y: torch.where(y < 0, 0.0, 0.9 * WEIGHTS[y.clamp(min=0)] + 0.1 * WEIGHTS.mean()),
        lambda y: float(WEIGHTS[y[y >= 0]].sum()),
    ),
    "cross_entropy of probabilities": Row(
        lambda: nets.dense(4, 3, 3),
        nn.CrossEntropyLoss(weight=WEIGHTS, reduction="sum"),
        lambda: (x(5, 4), x(5, 3).softmax(1)),
        cross_entropies(),
        of_classes(lambda z: z.softmax(0)),
        lambda y: y @ WEIGHTS,
        lambda y: 1.0,
    ),
    "cross_entropy of tokens": Row(
        tokens,
        "cross_entropy",
        lambda: (x(5, 4), labels(5, 2, ignored=True)),
        cross_entropies(),
        of_classes(lambda z: z.softmax(0)),
        lambda y: (y >= 0).double(),
        lambda y: float((y >= 0).sum()),
    ),
    "nll_loss": Row(
        ends_in(nn.LogSoftmax(1)),
        nn.NLLLoss(weight=WEIGHTS),
        lambda: (x(6, 4), labels(6, ignored=True)),
        functools.partial(F.nll_loss, reduction="sum"),
        of_classes(torch.exp),
        lambda y: torch.where(y < 0, 0.0, WEIGHTS[y.clamp(min=0)]),
        lambda y: float(WEIGHTS[y[y >= 0]].sum()),
        is_gauss_newton=False,
    ),
    "nll_loss of tokens": Row(
        lambda: nn.Sequential(tokens(), nn.LogSoftmax(1)),
        F.nll_loss,
        lambda: (x(5, 4), labels(5, 2)),
        functools.partial(F.nll_loss, reduction="sum"),
        of_classes(torch.exp),
        lambda y: torch.ones(y.shape, dtype=torch.float64),
        is_gauss_newton=False,
    ),
    "binary_cross_entropy_with_logits": Row(
        lambda: nets.dense(4, 3, 2),
        nn.BCEWithLogitsLoss(),
        lambda: (x(5, 4), torch.randint(2, (5, 2)).double()),
        functools.partial(F.binary_cross_entropy_with_logits, reduction="sum"),
        of_two(0.0),
    ),
    "binary_cross_entropy": Row(
        ends_in(nn.Sigmoid(), 4, 3, 2),
        nn.BCELoss(),
        lambda: (x(5, 4), torch.randint(2, (5, 2)).double()),
        functools.partial(F.binary_cross_entropy, reduction="sum"),
        of_two(0.0, lambda z: z),
        is_gauss_newton=False,
    ),
    "soft_margin_loss": Row(
        lambda: nets.dense(4, 3, 2),
        nn.SoftMarginLoss(),
        lambda: (x(5, 4), torch.randint(2, (5, 2)) * 2.0 - 1),
        functools.partial(F.soft_margin_loss, reduction="sum"),
        of_two(-1.0),
    ),
    "mse_loss": Row(
        lambda: nets.dense(4, 3, 2),
        "mse",
        REAL[0],
        functools.partial(F.mse_loss, reduction="sum"),
        of_normal(lambda: 0.5),
    ),
    "half_sse": Row(
        lambda: nets.dense(4, 3, 2),
        "half_sse",
        REAL[0],
        lambda z, y: (z - y).square().sum() / 2,
        of_normal(lambda: 1.0),
        divisor=lambda y: 1.0,
    ),
    "l1_loss": Row(
        lambda: nets.dense(4, 3, 2),
        nn.L1Loss(),
        REAL[0],
        functools.partial(F.l1_loss, reduction="sum"),
        lambda z: (torch.stack([z - 1, z + 1]), torch.full((2,), 0.5).double()),
        is_gauss_newton=False,
    ),
    "poisson_nll_loss": Row(
        lambda: nets.dense(4, 3, 1),
        nn.PoissonNLLLoss(),
        lambda: (x(5, 4), torch.randint(4, (5, 1)).double()),
        functools.partial(F.poisson_nll_loss, reduction="sum"),
        of_counts(torch.exp),
    ),
    "poisson_nll_loss of rates": Row(
        ends_in(nn.Softplus(), 4, 3, 1),
        nn.PoissonNLLLoss(log_input=False, eps=1e-2),
        lambda: (x(5, 4), torch.randint(4, (5, 1)).double()),
        functools.partial(F.poisson_nll_loss, log_input=False, eps=1e-2, reduction="sum"),
        of_counts(lambda z: z),
        is_gauss_newton=False,
    ),
    "gaussian_nll_loss": Row(
        MeanAndVariance,
        nn.GaussianNLLLoss(),
        REAL[0],
        lambda z, y: F.gaussian_nll_loss(z[0], y, z[1], reduction="sum"),
        of_normal(lambda variance: variance),
        is_gauss_newton=False,
    ),
    "gaussian_nll_loss of a mean": Row(
        lambda: nets.dense(4, 3, 2),
        functools.partial(F.gaussian_nll_loss, var=0.5, reduction="sum"),
        REAL[0],
        lambda z, y: F.gaussian_nll_loss(z, y, 0.5, reduction="sum"),
        of_normal(lambda: 0.5),
        divisor=lambda y: 1.0,
    ),
}


def cost_of(name: str) -> hesse.Cost:
    row = ROWS[name]
    torch.manual_seed(0)
    X, y = row.data()
    # Two batches, of which the last is shorter.
    return hesse.Cost(row.make().double(), row.loss, [(X[:3], y[:3]), (X[3:], y[3:])], penalty=0.1)


def written_out(name: str, weights: Tensor | None = None) -> Tensor:
    """Σ p(labels) g gᵀ over all labels of a sample together, g by plain autograd; by the divisor
    and with the penalty. Of samples with weights the divisor is the sum of these."""
    row = ROWS[name]
    torch.manual_seed(0)
    X, y = row.data()
    model = row.make().double()
    every, counts = list(model.parameters()), row.counts(y).reshape(len(y), -1)
    divisor = row.divisor(y)
    if weights is not None:
        counts, divisor = counts * weights[:, None], float(weights.sum()) * y[0].numel()
    size = sum(p.numel() for p in every)
    F = torch.zeros(size, size, dtype=torch.float64)
    for n in range(len(X)):
        z = model(X[n : n + 1])
        first, *others = z if isinstance(z, tuple) else (z,)
        for labels, probability, which in combinations(name, row, first[0], others):
            weight = probability.detach() * (counts[n] if which is None else counts[n, which])
            if which is None:
                loss = row.summed(z, labels[None])
            else:
                # The positions are observations of their own.
                loss = row.summed(first[0].reshape(len(first[0]), -1)[None, :, which], labels)
            slope = torch.autograd.grad(loss, every, retain_graph=True)
            g = torch.cat([part.reshape(-1) for part in slope])
            F += weight * torch.outer(g, g)
    return F / divisor + 0.1 * torch.eye(size).double()


def combinations(name: str, row: Row, z: Tensor, others: list[Tensor]) -> Iterator[Any]:
    """Labels of all entries of a sample, how probable they are together; of classes, of one
    position after another, and which it is."""
    if name.startswith(("cross", "nll")):
        for which, column in enumerate(z.reshape(len(z), -1).T):
            for label, p in zip(*row.labels(column), strict=True):
                yield label[None], p, which
        return
    entries = [
        list(zip(*row.labels(*each), strict=True))
        for each in zip(z, *(other[0].expand_as(z) for other in others), strict=True)
    ]
    for together in itertools.product(*entries):
        labels, probabilities = zip(*together, strict=True)
        yield torch.stack(labels).detach(), torch.stack(probabilities).prod(), None


def test_every_likelihood_is_tried() -> None:
    tried = {name.split(",")[0].split(" of ")[0] for name in ROWS}
    assert tried | {"multilabel_soft_margin_loss"} == set(LIKELIHOODS)


@pytest.mark.some(of=2)
@pytest.mark.parametrize("name", ROWS)
def test_the_mean_over_labels(name: str) -> None:
    """Exactly for the Fisher information, against all labels written out; for labels drawn, four
    times as near with sixteen times as many."""
    cost = cost_of(name)
    F = hesse.hessian(cost, curvature="fisher")
    assert relative(F.dense(), written_out(name)) < 1e-9
    assert F.certificate is not None and F.certificate.deviation < 1e-9
    G = hesse.hessian(cost, curvature="gauss_newton").dense()
    assert torch.equal(F.dense(), G) == ROWS[name].is_gauss_newton
    notes = hesse.plan(cost, curvature="fisher").notes
    note = next(note for note in notes if note.startswith("fisher, of"))
    assert ("with the factor 1" in note) == ROWS[name].is_gauss_newton
    assert note in F.provenance["notes"]
    assert note in hesse.operator(cost, curvature="fisher").notes
    J = jacobian(cost)
    counts = (64, 1024, 16384)
    drawn = [by_drawing(cost, J, SampledFisher(count)) for count in counts]
    errors = [relative(C, F.dense()) * count**0.5 for C, count in zip(drawn, counts, strict=True)]
    assert max(errors) < 6 and max(errors) < 8 * min(errors)
    assert float(torch.linalg.eigvalsh(drawn[0]).min()) > 0.1 - 1e-9  # with the penalty


@pytest.mark.parametrize(
    "name",
    [
        *("cross_entropy", "cross_entropy of tokens", "binary_cross_entropy", "mse_loss"),
        *("binary_cross_entropy_with_logits", "gaussian_nll_loss", "poisson_nll_loss of rates"),
    ],
)
def test_samples_with_weights(name: str) -> None:
    row, w = ROWS[name], torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    torch.manual_seed(0)
    X, y = row.data()
    parts = [(X[:3], y[:3], w[:3]), (X[3:], y[3:], w[3:])]
    cost = hesse.Cost(row.make().double(), row.loss, parts, penalty=0.1)
    F = hesse.hessian(cost, curvature="fisher").dense()
    assert relative(F, written_out(name, w)) < 1e-9
    assert relative(by_drawing(cost, jacobian(cost), SampledFisher(16384)), F) < 0.05


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("of_scores", [True, False])
def test_entries_with_weights(of_scores: bool, reduction: str) -> None:
    """Σ_nes p(s) w_e g gᵀ, g of one entry's loss at the label s."""
    w = torch.tensor([0.5, 2.0], dtype=torch.float64)
    row = ROWS["binary_cross_entropy_with_logits" if of_scores else "binary_cross_entropy"]
    torch.manual_seed(0)
    (X, y), model = row.data(), row.make().double()
    loss = nn.BCEWithLogitsLoss if of_scores else nn.BCELoss
    cost = hesse.Cost(model, loss(weight=w, reduction=reduction), (X, y))
    every, F = list(model.parameters()), torch.zeros(cost.layout.size, cost.layout.size).double()
    for n, e, s in itertools.product(range(5), range(2), (0.0, 1.0)):
        z = model(X[n : n + 1])[0, e]
        p = z.sigmoid() if of_scores else z
        slope = torch.autograd.grad(-(p if s else 1 - p).log(), every, retain_graph=True)
        g = torch.cat([part.reshape(-1) for part in slope])
        F += w[e] * (p if s else 1 - p).detach() * torch.outer(g, g)
    F /= y.numel() if reduction == "mean" else 1
    assert relative(hesse.hessian(cost, curvature="fisher").dense(), F) < 1e-9
    drawn = by_drawing(cost, jacobian(cost), SampledFisher(16384)) - 0.1 * torch.eye(len(F))
    assert relative(drawn, F) < 0.05


def jacobian(cost: hesse.Cost) -> Tensor:
    """Of each sample, (n, predictions, P)."""
    J = hesse.jacobian(cost, certify=False)
    dense = J @ torch.eye(J.shape[1], dtype=J.dtype)
    parts = [dense[J.rows.slice(name)].unflatten(0, (cost.samples, -1)) for name in J.rows.names]
    return torch.cat(parts, 1)


def by_drawing(cost: hesse.Cost, J: Tensor, curvature: SampledFisher) -> Tensor:
    """The matrix of slopes that are drawn, without the work of a Hessian."""
    batches = list(curvature.applied(cost).batches())
    u = torch.cat([torch.cat([part.flatten(2) for part in b.y], 2) for b in batches if b])  # type: ignore[union-attr]
    S = u.mT @ u * (cost.scale / curvature.samples)
    return (J.mT @ S @ J).sum(0) + 0.1 * torch.eye(J.shape[2]).double()


def test_what_it_stands_for_beside_gauss_newton() -> None:
    """Of log-probabilities, probabilities and rates it is Gauss–Newton's of the scores below."""
    torch.manual_seed(0)
    X, y, b = x(6, 4), labels(6), torch.randint(2, (6, 3)).double()
    scores = nets.dense(4, 3, 3).double()
    for last, loss, below, target in (
        (nn.LogSoftmax(1), nn.NLLLoss(), "cross_entropy", y),
        (nn.Sigmoid(), nn.BCELoss(), "bce", b),
    ):
        ours = hesse.Cost(nn.Sequential(scores, last), loss, (X, target))
        theirs = hesse.Cost(scores, below, (X, target))
        F = hesse.hessian(ours, curvature="fisher").dense()
        assert relative(F, hesse.hessian(theirs, curvature="gauss_newton").dense()) < 1e-10
    linear = hesse.hessian(ours.with_curvature("hessian"), curvature="gauss_newton")
    assert not torch.equal(linear.dense(), F)


def test_several_classes_each_of_its_own() -> None:
    torch.manual_seed(0)
    model, X, y = nets.dense(4, 3, 3).double(), x(5, 4), torch.randint(2, (5, 3)).double()
    cost = hesse.Cost(model, nn.MultiLabelSoftMarginLoss(weight=WEIGHTS), (X, y))
    F = hesse.hessian(cost, curvature="fisher").dense()
    assert torch.equal(F, hesse.hessian(cost, curvature="gauss_newton").dense())
    drawn = by_drawing(cost, jacobian(cost), SampledFisher(16384)) - 0.1 * torch.eye(len(F))
    assert relative(drawn, F) < 0.05


def test_the_positive_class_weighed() -> None:
    torch.manual_seed(0)
    model, X, y = nets.dense(4, 3, 2).double(), x(5, 4), torch.randint(2, (5, 2)).double()
    cost = hesse.Cost(model, nn.BCEWithLogitsLoss(pos_weight=WEIGHTS[1:]), (X, y))
    F = hesse.hessian(cost, curvature="fisher").dense()
    assert torch.equal(F, hesse.hessian(cost, curvature="gauss_newton").dense())
    drawn = by_drawing(cost, jacobian(cost), SampledFisher(16384)) - 0.1 * torch.eye(len(F))
    assert relative(drawn, F) < 0.05


def test_drawn_labels_in_everything_that_takes_a_curvature() -> None:
    """The same for blocks, diagonal and products, in every pass; others with another seed."""
    cost = cost_of("cross_entropy")
    C = hesse.hessian(cost, curvature="fisher_mc").dense()
    assert torch.equal(hesse.hessian(cost, curvature=SampledFisher()).dense(), C)
    assert not torch.equal(hesse.hessian(cost, curvature=SampledFisher(seed=1)).dense(), C)
    entries = hesse.diagonal(cost, curvature="fisher_mc")
    assert relative(cost.layout.flatten(entries), C.diagonal(), C) < 1e-12
    assert relative(hesse.operator(cost, curvature="fisher_mc") @ C, C @ C) < 1e-12
    assert not hesse.plan(cost, curvature="fisher_mc").by_columns
    op = hesse.operator(cost, curvature="fisher_mc")
    assert hesse.value(op.cost) == hesse.value(cost)
    moved = cost.at(cost.theta + 0.1)
    C = hesse.hessian(moved, curvature="fisher_mc").dense()
    q = hesse.quadratic(moved, curvature="fisher_mc")
    assert isinstance(q.hessian, hesse.BlockHessian)
    assert relative(q.hessian.dense(), C) < 1e-12 and q.value == hesse.value(moved)
    assert hesse.minimize(cost, curvature="fisher_mc", tolerance=1e-5).success


@pytest.mark.parametrize(
    "name",
    ["cross_entropy of tokens", "mse_loss", "cross_entropy, weighed, smoothed, some left out"],
)
def test_the_labels_that_there_are(name: str) -> None:
    """Against the samples' gradients one by one, with the divisor of the mean."""
    make, loss = ROWS[name].make, ROWS[name].loss
    cost = cost_of(name)
    torch.manual_seed(0)
    X, y = ROWS[name].data()
    model = make().double()
    theta = {n: p.detach() for n, p in model.named_parameters()}
    summed: Any = {
        "mse": nn.MSELoss(reduction="sum"),
        "cross_entropy": nn.CrossEntropyLoss(reduction="sum"),
    }.get(loss if isinstance(loss, str) else "")
    if summed is None:
        summed = nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1, reduction="sum")

    def of_sample(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return summed(functional_call(model, theta, (x[None],)), y[None])

    rows = vmap(grad(of_sample), (None, 0, 0))(theta, X, y)
    g = torch.cat([rows[n].flatten(1) for n in theta], 1)
    expected = cost.scale * g.T @ g + 0.1 * torch.eye(g.shape[1]).double()
    H = hesse.hessian(cost, curvature="empirical_fisher")
    assert relative(H.dense(), expected) < 1e-10
    assert H.certificate is not None and H.provenance["curvature"] == "empirical_fisher"
    assert (
        relative(hesse.operator(cost, curvature="empirical_fisher") @ g.T, expected @ g.T) < 1e-10
    )


def test_of_two_tensors_and_of_a_loss_of_one_s_own() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.spread = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"mean": self.mean(x), "spread": self.spread(x).tanh()}

    def likelihood(z: dict[str, Tensor], y: Tensor) -> Tensor:
        return (z["spread"] + 0.5 * (y - z["mean"]).square() * torch.exp(-2 * z["spread"])).sum()

    torch.manual_seed(0)
    model, X, y = Pair().double(), x(6, 3), x(6, 2)
    cost = hesse.Cost(model, likelihood, (X, y))
    theta = {n: p.detach() for n, p in model.named_parameters()}

    def of_sample(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return likelihood(functional_call(model, theta, (x[None],)), y[None])

    rows = vmap(grad(of_sample), (None, 0, 0))(theta, X, y)
    g = torch.cat([rows[n].flatten(1) for n in theta], 1)
    assert relative(hesse.hessian(cost, curvature="empirical_fisher").dense(), g.T @ g) < 1e-10
    for name in ("fisher", "fisher_mc"):
        with pytest.raises(HesseValueError, match=r"is known for .* is 'likelihood"):
            hesse.hessian(cost, curvature=name)


def test_what_is_refused() -> None:
    function = hesse.Cost.from_function(lambda p: (p["x"] ** 4).sum(), {"x": x(3)})
    coupled = hesse.Cost(
        nets.dense(3, 2),
        lambda z, y: (z - y).square().mean().sqrt(),
        (x(4, 3).float(), x(4, 2).float()),
    )
    for name in ("fisher", "fisher_mc", "empirical_fisher"):
        with pytest.raises(HesseValueError, match="a function of its parameters"):
            hesse.hessian(function, curvature=name)
    with pytest.raises(HesseValueError, match="couples its samples"):
        hesse.hessian(coupled, curvature="empirical_fisher")
    for last, loss, text in (
        (nn.Identity(), nn.NLLLoss(), "exp ŷ, and these add up to"),
        (nn.ReLU(), nn.BCELoss(), "a prediction is 0 or 1"),
        (nn.ReLU(), nn.PoissonNLLLoss(log_input=False), "is not above 0"),
    ):
        model = nn.Sequential(nn.Linear(4, 3).double(), last)
        nn.init.zeros_(model[0].weight)  # type: ignore[arg-type]
        nn.init.zeros_(model[0].bias)  # type: ignore[arg-type]
        y = labels(5) if isinstance(loss, nn.NLLLoss) else torch.ones(5, 3).double()
        with pytest.raises(HesseValueError, match=text):
            hesse.hessian(hesse.Cost(model, loss, (x(5, 4), y)), curvature="fisher")
    model, X, y = nets.dense(4, 3).double(), x(5, 4), torch.ones(5, 3).double()
    of_batch = hesse.Cost(model, nn.BCEWithLogitsLoss(weight=x(5, 3).abs()), (X, y))
    negative = hesse.Cost(model, nn.BCEWithLogitsLoss(weight=-torch.ones(3).double()), (X, y))
    with pytest.raises(HesseValueError, match="its weight has the shape of a whole batch"):
        hesse.hessian(of_batch, curvature="fisher")
    with pytest.raises(HesseValueError, match="a weight is below zero"):
        hesse.hessian(negative, curvature="fisher_mc")
    with pytest.raises(HesseValueError, match="takes a mean and its variance"):
        hesse.Cost(nets.dense(4, 2).double(), nn.GaussianNLLLoss(), (x(4, 4), x(4, 2)))
    with pytest.raises(HesseValueError, match="samples: expected a number >= 1, got 0"):
        SampledFisher(0)
    with pytest.raises(HesseTypeError, match="seed: expected a whole number, got bool"):
        SampledFisher(seed=True)
