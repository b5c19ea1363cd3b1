"""Losses as totals and divisors: the mean over batches of unequal weight is right, whatever the
loss divides by."""

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from hesse.losses.known import identity, known_loss, names, private
from hesse.losses.reduction import inferred_loss

G = torch.Generator().manual_seed(0)
SCORES = torch.randn(7, 3, generator=G).double()
REAL = torch.randn(7, 3, generator=G).double()
CLASSES = torch.tensor([0, 1, 2, 2, 0, 1, 1])
TOKENS = torch.randn(7, 3, 4, generator=G).double()
TOKEN_CLASSES = torch.randint(3, (7, 4), generator=G)
WEIGHTS = torch.tensor([0.5, 1.0, 3.0]).double()

KNOWN: dict[str, tuple[Any, Tensor, Tensor]] = {
    "half_sse": ("half_sse", SCORES, REAL),
    "mse": ("mse", SCORES, REAL),
    "cross_entropy": ("cross_entropy", SCORES, CLASSES),
    "bce": ("bce", SCORES, REAL.sigmoid()),
    "MSELoss sum": (nn.MSELoss(reduction="sum"), SCORES, REAL),
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), SCORES, CLASSES),
    "CrossEntropyLoss weight": (nn.CrossEntropyLoss(weight=WEIGHTS), SCORES, CLASSES),
    "CrossEntropyLoss ignore": (nn.CrossEntropyLoss(ignore_index=1), SCORES, CLASSES),
    "CrossEntropyLoss smoothing": (
        nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.3, ignore_index=1),
        SCORES,
        CLASSES,
    ),
    "CrossEntropyLoss sum": (nn.CrossEntropyLoss(weight=WEIGHTS, reduction="sum"), SCORES, CLASSES),
    "CrossEntropyLoss tokens": (
        nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=0),
        TOKENS,
        TOKEN_CLASSES,
    ),
    "CrossEntropyLoss probabilities": (
        nn.CrossEntropyLoss(weight=WEIGHTS),
        SCORES,
        REAL.softmax(1),
    ),
    "CrossEntropyLoss token probabilities": (nn.CrossEntropyLoss(), TOKENS, TOKENS.softmax(1)),
    "F.cross_entropy partial": (
        functools.partial(F.cross_entropy, weight=WEIGHTS, ignore_index=2),
        SCORES,
        CLASSES,
    ),
    "NLLLoss": (nn.NLLLoss(weight=WEIGHTS), SCORES.log_softmax(1), CLASSES),
    "L1Loss": (nn.L1Loss(), SCORES, REAL),
    "HuberLoss": (nn.HuberLoss(delta=0.4), SCORES, REAL),
    "SmoothL1Loss": (nn.SmoothL1Loss(beta=0.4), SCORES, REAL),
    "BCELoss": (nn.BCELoss(), SCORES.sigmoid(), REAL.sigmoid()),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), SCORES, REAL.sigmoid()),
    "PoissonNLLLoss": (nn.PoissonNLLLoss(full=True), SCORES, REAL.abs()),
    "gaussian_nll_loss var": (
        functools.partial(F.gaussian_nll_loss, var=0.7, full=True),
        SCORES,
        REAL,
    ),
    "SoftMarginLoss": (nn.SoftMarginLoss(), SCORES, REAL.sign()),
    "KLDivLoss": (nn.KLDivLoss(), SCORES.log_softmax(1), REAL.softmax(1)),
    "KLDivLoss batchmean": (
        nn.KLDivLoss(reduction="batchmean"),
        SCORES.log_softmax(1),
        REAL.softmax(1),
    ),
    "F.mse_loss": (F.mse_loss, SCORES, REAL),
}


CLASS_LOSSES = {
    "cross_entropy",
    "nll_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", [name for name in names() if hasattr(F, name)])
def test_a_name_is_pytorchs_function_with_its_defaults(name: str) -> None:
    """With outputs that any of them takes, of a mean and its variance too."""
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid()).double()
    target = SCORES.new_full((7, 4), 0.5)
    if name in CLASS_LOSSES:
        target = CLASSES
    if name.startswith("multilabel"):
        target = torch.randint(2, (7, 4), generator=G)
    if name.startswith("gaussian"):
        model, target = MeanAndVarianceOf(model), target[:, :2]
    value = hesse.value(
        hesse.Cost(model, name, [(SCORES[:5], target[:5]), (SCORES[5:], target[5:])])
    )
    prediction = model(SCORES)
    given = prediction if isinstance(prediction, tuple) else (prediction,)
    expected = getattr(F, name)(given[0], target, *given[1:])
    assert value == pytest.approx(expected.item(), rel=1e-12)


class MeanAndVarianceOf(nn.Module):
    def __init__(self, both: nn.Module) -> None:
        super().__init__()
        self.both = both

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.both(x).chunk(2, 1)
        return mean, variance


def original(loss: Any) -> Any:
    return names()[loss] if isinstance(loss, str) else loss


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("row", KNOWN.values(), ids=KNOWN)
def test_known_losses_add_up_over_batches(row: tuple[Any, Tensor, Tensor]) -> None:
    loss, prediction, target = row
    known = known_loss(loss)
    assert known is not None and known.separable
    cuts = [slice(0, 1), slice(1, 5), slice(5, 7)]
    total = sum(known.total(prediction[cut], target[cut]) for cut in cuts)
    weight = (
        sum(known.weight(prediction[cut], target[cut]) for cut in cuts) if known.weight else 1.0
    )
    torch.testing.assert_close(
        total / weight, original(loss)(prediction, target), rtol=1e-13, atol=0.0
    )


def test_known_losses_are_left_as_they_were() -> None:
    module = nn.CrossEntropyLoss(weight=WEIGHTS.clone())
    known = known_loss(module)
    assert known is not None and module.reduction == "mean"
    mine: Any = private(module, torch.device("cpu"), None)
    module.weight.zero_()  # type: ignore[union-attr]
    assert torch.equal(mine.weight, WEIGHTS)


def test_a_private_copy_is_widened() -> None:
    half = WEIGHTS.half()
    for loss in (nn.CrossEntropyLoss(weight=half), functools.partial(F.cross_entropy, weight=half)):
        mine = private(loss, torch.device("cpu"), torch.float32)
        weight = mine.weight if isinstance(mine, nn.Module) else mine.keywords["weight"]
        assert weight.dtype == torch.float32
    assert (
        private("mse", torch.device("cpu"), None) == "mse"
        and private(F.mse_loss, torch.device("cpu"), None) is F.mse_loss
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda p, y: p.sum(),
        nn.TripletMarginLoss(),
        nn.CosineEmbeddingLoss(),
        functools.partial(F.mse_loss, weight=REAL.abs()),  # type: ignore[call-arg]
    ],
    ids=["lambda", "triplet", "cosine", "weights of one batch"],
)
def test_other_functions_are_not_claimed(loss: Any) -> None:
    assert known_loss(loss) is None


def test_the_same_loss_is_known_again_and_another_is_not() -> None:
    def weighed(*weights: float) -> nn.Module:
        return nn.CrossEntropyLoss(weight=torch.tensor(weights))

    assert identity(weighed(1.0, 2.0)) == identity(weighed(1.0, 2.0)) != identity(weighed(1.0, 3.0))
    assert (
        identity(nn.HuberLoss(delta=1.0))
        == identity(nn.HuberLoss())
        != identity(nn.HuberLoss(delta=2.0))
    )
    smooth = functools.partial(F.cross_entropy, label_smoothing=0.1)
    assert (
        identity(smooth)
        == identity(functools.partial(F.cross_entropy, label_smoothing=0.1))
        != identity(F.cross_entropy)
    )
    assert identity("mse") == "mse" and identity(identity) is identity
    assert len({identity(loss) for loss in (weighed(1.0), smooth, "mse", nn.MSELoss())}) == 4


def custom(function: Any, prediction: Tensor = SCORES, target: Tensor = REAL) -> Any:
    return inferred_loss(function, prediction, target, len(prediction))


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda p, y: (p - y).square().mean(), "mean"),
        (lambda p, y: (p - y).abs().sum(1).mean(), "mean"),
        (lambda p, y: (p - y).square().sum(), "sum"),
        (lambda p, y: 3 * torch.log(torch.cosh(p - y)).sum(), "sum"),
        (lambda p, y: (p - y).square().sum().sqrt(), "couples"),
        (lambda p, y: (p - y).square().max(), "couples"),
        (lambda p, y: (p.mean(0) - y.mean(0)).square().sum(), "couples"),
        (lambda p, y: F.cross_entropy(p @ p.T, torch.arange(len(p))), "couples"),
        (lambda p, y: (REAL * (p - y)).square().mean(), "couples"),  # only fits the whole batch
        (lambda p, y: (p - y).square().mean() + 1.0, "mean"),
        (lambda p, y: (p - y).square().sum() + 1.0, "couples"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_custom_functions_are_found_out(function: Any, kind: str) -> None:
    loss = custom(function)
    assert kind in loss.name
    assert loss.separable == (kind != "couples") and loss.is_mean == (kind == "mean")


def test_a_weighed_mean_is_found_out_though_one_cut_is_balanced() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    weights = torch.tensor([1.0, 4.0]).double()[labels]
    loss = inferred_loss(
        lambda p, y: (weights[: len(p)] * (p - y)).sum() / weights[: len(p)].sum(),
        SCORES[:6, 0],
        REAL[:6, 0],
        6,
    )
    assert loss is not None and not loss.separable


def test_a_single_sample_is_taken_twice() -> None:
    for function, kind in (
        (lambda p, y: (p - y).sum(), "sum"),
        (lambda p, y: (p - y).mean(), "mean"),
    ):
        loss = custom(function, SCORES[:1], REAL[:1])
        assert loss is not None and kind in loss.name


def test_some_samples_do_not_tell() -> None:
    assert custom(lambda p, y: (p - y).relu().sum(), SCORES, SCORES) is None


def test_predictions_that_are_not_arranged_by_sample_couple() -> None:
    loss = inferred_loss(lambda p, y: p, torch.tensor(3.0), REAL, 7)
    assert loss is not None and not loss.separable
