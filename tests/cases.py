"""One table of models, losses and data; every row goes through every test that is about a cost.

A row says how its problem is made (always the same: each has its own seed) and which path the plan
must report, so that a silent fallback fails. A new kind of layer or loss joins by adding a row.
"""

import functools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
import networks as nets
from networks import dense

# ---------------------------------------------------------------- what a row is


@dataclass(frozen=True)
class Problem:
    """The arguments of a cost. ``loss`` is None where ``model`` is the whole function of the
    parameters (and the data)."""

    model: Any
    loss: Any = None
    data: Any = None
    params: Any = None
    penalty: Any = None

    def cost(self) -> hesse.Cost:
        """The cost under test."""
        if self.loss is None:
            return hesse.Cost.from_function(
                self.model, self.params, self.data, penalty=self.penalty
            )
        return hesse.Cost(
            self.model, self.loss, self.data, params=self.params, penalty=self.penalty
        )


@dataclass(frozen=True, eq=False)
class Case:
    """One row of the table.

    Attributes:
        name: what the test is called.
        make: the problem's maker; it may draw random numbers.
        paths: the strategy that the plan must report, by glob of the parameter's name;
            "contraction" where none matches.
        captured: whether the plan must report that the cost was captured as a graph.
    """

    name: str
    make: Callable[[], Problem]
    paths: Mapping[str, str] = field(default_factory=dict)
    captured: bool = True

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def problem(self) -> Problem:
        """A fresh problem, always the same numbers, in float64; the global random state is left as
        it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(self.name.encode()))
            problem = self.make()
        if isinstance(problem.model, nn.Module):
            problem.model.double()
        return problem

    def strategy(self, a: str, b: str) -> str:
        """The strategy expected for the block of two parameters."""
        own = [
            next(
                (path for glob, path in self.paths.items() if fnmatchcase(name, glob)),
                "contraction",
            )
            for name in (a, b)
        ]
        return next((path for path in ("zero", "columns") if path in own), "contraction")


@functools.cache
def cost_of(case: Case) -> hesse.Cost:
    """The row's cost, made once in a session."""
    return case.problem().cost()


@functools.cache
def hessian_of(case: Case) -> hesse.BlockHessian:
    """The row's Hessian as hesse gives it, worked out once in a session."""
    return hesse.hessian(cost_of(case))


# ---------------------------------------------------------------- data


def x(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def classes(n: int, *rest: int, of: int) -> Tensor:
    return torch.randint(of, (n, *rest))


def some_ignored(targets: Tensor, index: int = -100) -> Tensor:
    flat = targets.clone().reshape(-1)
    flat[::3] = index
    return flat.reshape(targets.shape)


def some_ignored_twos(targets: Tensor) -> Tensor:
    return some_ignored(targets, 2)


def cut(data: tuple[Tensor, Tensor], *sizes: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(data[0].split(sizes), data[1].split(sizes), strict=True))


def regression(
    model: nn.Module, *shape: int, loss: Any = "half_sse", outputs: int = 2, **options: Any
) -> Problem:
    return Problem(model, loss, (x(*shape), x(shape[0], outputs)), **options)


def classify(
    loss: Any = "cross_entropy", targets: Callable[[Tensor], Tensor] = lambda y: y, **options: Any
) -> Problem:
    return Problem(dense(3, 4, 3), loss, (x(7, 3), targets(classes(7, of=3))), **options)


# ---------------------------------------------------------------- functions of the user's


def mean_of_quartics(prediction: Tensor, target: Tensor) -> Tensor:
    return ((prediction - target) ** 4).mean()


def sum_of_log_cosh(prediction: Tensor, target: Tensor) -> Tensor:
    return torch.log(torch.cosh(prediction - target)).sum()


def root_of_sum(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().sum().sqrt()


def two_layers(params: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.tanh(x @ params["W1"] + params["b1"]) @ params["W2"]


def rosenbrock(params: dict[str, Tensor]) -> Tensor:
    u, v = params["u"], params["v"]
    return ((1 - u) ** 2 + 100 * (v - u**2) ** 2).sum()


def logistic(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, labels = batch
    return F.softplus(-labels * (inputs @ params["w"] + params["b"])).mean()


def group_penalty(params: dict[str, Tensor]) -> Tensor:
    return (
        0.1 * torch.stack([(value.square().sum() + 0.1).sqrt() for value in params.values()]).sum()
    )


def parameters_of_two_layers() -> dict[str, Tensor]:
    return {"W1": x(2, 3), "b1": x(3), "W2": x(3, 2)}


# ---------------------------------------------------------------- the table

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "sin": nets.Sine,
}
ALL_COLUMNS = {"*": "columns"}

CASES: tuple[Case, ...] = (
    # Dense.
    *(
        Case(f"dense {name}", functools.partial(lambda f: regression(dense(3, 4, 2, f=f), 6, 3), f))
        for name, f in ACTIVATIONS.items()
    ),
    Case("dense without bias", lambda: regression(dense(3, 4, 2, bias=False), 6, 3)),
    Case("one layer", lambda: regression(dense(3, 2), 6, 3)),
    Case("one hidden unit", lambda: regression(dense(2, 1, 2), 5, 2)),
    Case("one of everything", lambda: regression(dense(1, 1, 1), 1, 1, outputs=1)),
    Case("one sample", lambda: regression(dense(3, 4, 2), 1, 3)),
    Case("three layers", lambda: regression(dense(2, 3, 4, 2), 6, 2)),
    Case(
        "four layers, mixed",
        lambda: regression(
            nn.Sequential(dense(2, 3, 3, f=nn.SiLU), nn.GELU(), dense(3, 2, 2)), 5, 2
        ),
    ),
    Case("residual", lambda: regression(nets.Residual(), 6, 3)),
    Case("gate", lambda: regression(nets.Branches(), 6, 3)),
    Case("dense on tokens", lambda: Problem(dense(2, 3, 2), "mse", (x(5, 3, 2), x(5, 3, 2)))),
    # Convolution and pooling.
    Case(
        "conv1d stride padding",
        lambda: regression(
            nn.Sequential(
                nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2)
            ),
            5,
            2,
            6,
        ),
    ),
    Case(
        "conv1d dilation groups",
        lambda: regression(
            nn.Sequential(
                nn.Conv1d(2, 4, 3, dilation=2, groups=2, bias=False),
                nn.Sigmoid(),
                nn.Flatten(),
                nn.Linear(8, 2),
            ),
            5,
            2,
            6,
        ),
    ),
    Case(
        "conv1d pooling",
        lambda: regression(
            nn.Sequential(
                nn.Conv1d(2, 2, 3), nn.Tanh(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 2)
            ),
            5,
            2,
            6,
        ),
    ),
    Case(
        "conv2d average pooling",
        lambda: regression(
            nn.Sequential(
                nn.Conv2d(2, 3, 3, stride=2, padding=1),
                nn.Tanh(),
                nn.AvgPool2d(2, stride=1),
                nn.Flatten(),
                nn.Linear(12, 2),
            ),
            5,
            *(2, 5, 5),
        ),
    ),
    Case(
        "conv2d max pooling",
        lambda: regression(
            nn.Sequential(
                nn.Conv2d(2, 3, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 2)
            ),
            5,
            2,
            4,
            4,
        ),
    ),
    Case(
        "conv2d dilation groups",
        lambda: regression(
            nn.Sequential(
                nn.Conv2d(2, 4, (2, 3), dilation=(2, 1), groups=2),
                nn.Tanh(),
                nn.Flatten(),
                nn.Linear(16, 2),
            ),
            5,
            2,
            4,
            4,
        ),
    ),
    Case(
        "conv2d twice, adaptive pooling",
        lambda: regression(
            nn.Sequential(
                nn.Conv2d(1, 2, 3),
                nn.Softplus(),
                nn.Conv2d(2, 2, 2),
                nn.Tanh(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(2, 2),
            ),
            5,
            *(1, 4, 4),
        ),
    ),
    Case(
        "conv2d padding same, relu in place",
        lambda: regression(
            nn.Sequential(
                nn.Conv2d(2, 2, 3, padding="same"),
                nn.ReLU(inplace=True),
                nn.Flatten(),
                nn.Linear(18, 2),
            ),
            5,
            2,
            3,
            3,
        ),
    ),
    # Normalisation.
    Case(
        "layer norm",
        lambda: regression(
            nets.spread(
                nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2))
            ),
            6,
            3,
        ),
    ),
    Case(
        "group norm",
        lambda: regression(
            nets.spread(
                nn.Sequential(
                    nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)
                )
            ),
            5,
            2,
            4,
        ),
    ),
    Case("batch norm eval", lambda: regression(nets.batch_norm(train=False), 6, 3)),
    Case(
        "batch norm train",
        lambda: regression(nets.batch_norm(train=True), 6, 3),
        ALL_COLUMNS,
        captured=False,
    ),
    Case(
        "batch norm 2d train",
        lambda: regression(
            nets.spread(
                nn.Sequential(
                    nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)
                )
            ),
            5,
            1,
            3,
            3,
        ),
        ALL_COLUMNS,
        captured=False,
    ),
    Case(
        "instance norm",
        lambda: regression(
            nn.Sequential(
                nn.Conv1d(2, 3, 2),
                nn.InstanceNorm1d(3, affine=True),
                nn.Tanh(),
                nn.Flatten(),
                nn.Linear(9, 2),
            ),
            5,
            2,
            4,
        ),
    ),
    Case(
        "batch norm 2d eval",
        lambda: regression(
            nets.spread(
                nn.Sequential(
                    nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)
                )
            ).eval(),
            *(5, 2, 4, 4),
        ),
    ),
    # Embedding, attention, recurrence.
    Case(
        "embedding",
        lambda: Problem(
            nets.TokenMean(tied=False), "cross_entropy", (classes(6, 3, of=4), classes(6, of=4))
        ),
    ),
    Case(
        "transformer, causal mask",
        lambda: Problem(
            nets.spread(nets.Transformer()),
            "cross_entropy",
            (classes(5, 3, of=4), classes(5, 3, of=4)),
        ),
    ),
    Case(
        "transformer in eval mode",
        lambda: Problem(
            nets.spread(nets.Transformer()).eval(),
            "cross_entropy",
            (classes(5, 3, of=4), classes(5, 3, of=4)),
        ),
    ),
    Case("self-attention", lambda: regression(nets.SelfAttention(), 5, 3, 2)),
    Case(
        "lstm",
        lambda: Problem(nets.Recurrent(nn.LSTM), "cross_entropy", (x(5, 3, 2), classes(5, of=2))),
    ),
    Case(
        "gru",
        lambda: Problem(nets.Recurrent(nn.GRU), "cross_entropy", (x(5, 3, 2), classes(5, of=2))),
    ),
    Case(
        "rnn",
        lambda: Problem(nets.Recurrent(nn.RNN), "cross_entropy", (x(5, 3, 2), classes(5, of=2))),
    ),
    # How parameters enter.
    Case("tied layers", lambda: regression(nets.tied_layers(), 6, 3, outputs=3)),
    Case(
        "tied embedding",
        lambda: Problem(
            nets.TokenMean(tied=True), "cross_entropy", (classes(6, 3, of=4), classes(6, of=4))
        ),
    ),
    Case("module called twice", lambda: regression(nets.Twice(), 6, 3)),
    Case("unused parameters", lambda: regression(nets.WithUnused(), 6, 2), {"spare.*": "zero"}),
    Case("frozen parameters", lambda: regression(nets.partly_frozen(), 6, 2)),
    Case(
        "chosen parameters", lambda: regression(dense(2, 3, 3, 2), 6, 2, params=["2.*", "0.bias"])
    ),
    Case(
        "temperature times",
        lambda: Problem(
            nets.Temperature(divide=False), "cross_entropy", (x(6, 2), classes(6, of=3))
        ),
    ),
    Case(
        "temperature under",
        lambda: Problem(
            nets.Temperature(divide=True), "cross_entropy", (x(6, 2), classes(6, of=3))
        ),
    ),
    Case("raw matrix @", lambda: regression(nets.RawMatrix(at=True), 6, 3)),
    Case("raw matrix linear", lambda: regression(nets.RawMatrix(at=False), 6, 3)),
    Case("scale and shift", lambda: regression(nets.ScaleShift(), 6, 2)),
    Case("bilinear", lambda: regression(nets.Bilinear(), 6, 2)),
    Case("exponential of a weight", lambda: regression(nets.ExpWeight(), 6, 2)),
    Case("parametric relu", lambda: regression(dense(3, 4, 2, f=nn.PReLU), 6, 3)),
    Case("parametrised weight", lambda: regression(nets.parametrised(), 6, 3)),
    Case("autoencoder with one matrix", lambda: regression(nets.Autoencoder(), 6, 3, outputs=3)),
    Case("overlapping slices of one matrix", lambda: regression(nets.Overlapping(), 6, 3)),
    Case("matrix from the left", lambda: regression(nets.FromTheLeft(), 5, 3, 2)),
    Case(
        "transposed convolution",
        lambda: regression(
            nn.Sequential(nn.ConvTranspose1d(2, 2, 2), nn.Tanh(), nn.Flatten()), 5, 2, 2, outputs=6
        ),
    ),
    Case(
        "two inputs", lambda: Problem(nets.TwoInputs(), "half_sse", ((x(6, 2), x(6, 3)), x(6, 2)))
    ),
    Case("outputs without an axis", lambda: Problem(nets.Squeezed(), "mse", (x(6, 2), x(6)))),
    Case(
        "large parameter without a slot",
        lambda: regression(nets.ExpWeight(20, 13), 5, 20),
        {"log_weight": "columns"},
    ),
    Case(
        "model that couples its samples",
        lambda: regression(nets.Centred(), 6, 3),
        ALL_COLUMNS,
        captured=False,
    ),
    Case(
        "cannot be exported",
        lambda: regression(nets.DataBranch(), 6, 2),
        ALL_COLUMNS,
        captured=False,
    ),
    # Functions in place of modules.
    Case(
        "plain function",
        lambda: Problem(
            two_layers, "half_sse", (x(6, 2), x(6, 2)), params=parameters_of_two_layers()
        ),
    ),
    Case(
        "plain function, mean over batches",
        lambda: Problem(
            two_layers,
            "mse",
            cut((x(7, 2), x(7, 2)), 3, 3, 1),
            params=parameters_of_two_layers(),
            penalty=0.1,
        ),
    ),
    Case(
        "rosenbrock",
        lambda: Problem(rosenbrock, params={"u": x(3), "v": x(3)}),
        ALL_COLUMNS,
        captured=False,
    ),
    Case(
        "function of parameters and data",
        lambda: Problem(
            logistic, data=(x(6, 3), classes(6, of=2) * 2.0 - 1), params={"w": x(3), "b": x()}
        ),
    ),
    # Losses.
    Case("mse", lambda: regression(dense(3, 4, 2), 6, 3, loss="mse")),
    Case("mse sum", lambda: regression(dense(3, 4, 2), 6, 3, loss=nn.MSELoss(reduction="sum"))),
    Case("cross entropy", classify),
    Case(
        "cross entropy class weights",
        lambda: classify(nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0]).double())),
    ),
    Case(
        "cross entropy ignore index",
        lambda: classify(nn.CrossEntropyLoss(ignore_index=-1), lambda y: some_ignored(y, -1)),
    ),
    Case(
        "cross entropy label smoothing", lambda: classify(nn.CrossEntropyLoss(label_smoothing=0.2))
    ),
    Case(
        "cross entropy sum", lambda: classify(functools.partial(F.cross_entropy, reduction="sum"))
    ),
    Case(
        "cross entropy probabilities",
        lambda: classify(F.cross_entropy, lambda y: x(7, 3).softmax(1)),
    ),
    Case(
        "cross entropy everything",
        lambda: classify(
            nn.CrossEntropyLoss(
                weight=torch.tensor([0.5, 1.0, 2.0]).double(), ignore_index=2, label_smoothing=0.1
            ),
            some_ignored_twos,
        ),
    ),
    Case(
        "cross entropy of tokens",
        lambda: Problem(
            nets.TokenLogits(), F.cross_entropy, (x(4, 2, 3), some_ignored(classes(4, 2, of=3)))
        ),
    ),
    Case(
        "bce with logits",
        lambda: Problem(dense(3, 4, 2), "bce", (x(6, 3), classes(6, 2, of=2).double())),
    ),
    Case("huber", lambda: regression(dense(3, 4, 2), 6, 3, loss=nn.HuberLoss(delta=0.7))),
    Case("smooth l1", lambda: regression(dense(3, 4, 2), 6, 3, loss=F.smooth_l1_loss)),
    Case(
        "poisson",
        lambda: Problem(
            dense(3, 4, 1), nn.PoissonNLLLoss(), (x(6, 3), classes(6, 1, of=5).double())
        ),
    ),
    Case("custom mean", lambda: regression(dense(3, 4, 2), 6, 3, loss=mean_of_quartics)),
    Case("custom sum", lambda: regression(dense(3, 4, 2), 6, 3, loss=sum_of_log_cosh)),
    Case(
        "loss that couples its samples",
        lambda: regression(dense(3, 4, 2), 6, 3, loss=root_of_sum),
        ALL_COLUMNS,
        captured=False,
    ),
    Case(
        "log-softmax in the model",
        lambda: Problem(
            dense(3, 4, 3).append(nn.LogSoftmax(1)), nn.NLLLoss(), (x(7, 3), classes(7, of=3))
        ),
    ),
    # Batches.
    Case(
        "ragged batches", lambda: Problem(dense(2, 3, 2), "mse", cut((x(7, 2), x(7, 2)), 3, 3, 1))
    ),
    Case(
        "ragged batches, weights and ignored",
        lambda: Problem(
            dense(2, 3, 3),
            nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0]).double()),
            cut((x(7, 2), some_ignored(classes(7, of=3))), 2, 4, 1),
        ),
    ),
    Case(
        "ragged batches, custom mean",
        lambda: Problem(dense(2, 3, 2), mean_of_quartics, cut((x(7, 2), x(7, 2)), 1, 4, 2)),
    ),
    Case(
        "ragged batches, custom sum",
        lambda: Problem(dense(2, 3, 2), sum_of_log_cosh, cut((x(7, 2), x(7, 2)), 1, 4, 2)),
    ),
    # Penalties.
    Case("penalty", lambda: regression(dense(3, 4, 2), 6, 3, penalty=0.3)),
    Case("penalty function", lambda: regression(dense(3, 4, 2), 6, 3, penalty=group_penalty)),
    Case(
        "penalty on chosen",
        lambda: regression(
            dense(3, 4, 2), 6, 3, penalty=0.3, params=lambda name: name.endswith("weight")
        ),
    ),
)
