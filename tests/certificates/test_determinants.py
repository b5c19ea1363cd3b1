"""Determinants and linear systems: PyTorch's second derivatives of them depend on the mode that
they are taken in.

Its double backward is one reference, and a formula written out, where there is one, another.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
from certificates.kinds import (
    WAYS,
    Formula,
    Make,
    Subject,
    check_right,
    check_right_or_refused,
    function_of,
    made,
    of,
    off,
    parameter,
    x,
)

MATRIX = torch.tensor([[1.0, 0.3], [-0.2, 1.5]], dtype=torch.float64)
THREE = torch.tensor([[1.0, 0.3, -0.5], [-0.2, 1.5, 0.1], [0.4, 0.2, 2.0]], dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)


def det2(A: Tensor) -> Tensor:
    """a d − b c."""
    return A[..., 0, 0] * A[..., 1, 1] - A[..., 0, 1] * A[..., 1, 0]


def inverse2(A: Tensor) -> Tensor:
    """The adjugate over the determinant."""
    adjugate = torch.stack(
        [
            torch.stack([A[..., 1, 1], -A[..., 0, 1]], -1),
            torch.stack([-A[..., 1, 0], A[..., 0, 0]], -1),
        ],
        -2,
    )
    return adjugate / det2(A)[..., None, None]


def total(prediction: Tensor, target: Tensor) -> Tensor:
    return prediction.sum()


def of_parameter(
    term: Callable[[Tensor], Tensor],
    W: Tensor = MATRIX,
    samples: int = 3,
    by_hand: Callable[[Tensor], Tensor] | None = None,
) -> Subject:
    """A flow's layer: the same number for every sample, beside the layer itself. The reference may
    write its term otherwise."""

    def forward(model: Any, z: Tensor, term: Callable[[Tensor], Tensor] = term) -> Tensor:
        return (z @ model.W.T).tanh().sum(1, keepdim=True) + term(model.W)

    model, X, y = Formula(forward, W=nn.Parameter(W.clone())), x(samples, len(W)), x(samples, 1)
    return of(
        model,
        "half_sse",
        (X, y),
        lambda: (forward(model, X, by_hand or term) - y).square().sum() / 2,
    )


def by_sample(term: Callable[[Tensor], Tensor], size: int = 2, samples: int = 3) -> Subject:
    """A matrix for each sample, made of its inputs and parameters."""

    def forward(model: Any, z: Tensor) -> Tensor:
        A = (z * model.w).reshape(-1, size, size) + 2 * torch.eye(size, dtype=z.dtype)
        return term(A).reshape(len(z), -1)

    model = Formula(forward, w=parameter(size * size))
    width = forward(model, torch.ones(1, size * size, dtype=torch.float64)).shape[1]
    return of(model, "half_sse", (x(samples, size * size), x(samples, width)))


def equilibrium(model: Any, z: Tensor) -> Tensor:
    """z* = A z* + U z, solved."""
    eye = torch.eye(len(model.A), dtype=z.dtype)
    return torch.linalg.solve(eye - model.A, model.U(z).mT).mT


def gaussian(term: Callable[[Tensor], Tensor]) -> Subject:
    """A Gaussian's −log likelihood with a covariance of its own for each sample, the determinant in
    the loss."""

    def forward(model: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        factor = (model.factor(z)).reshape(-1, 2, 2)
        return model.mean(z), factor @ factor.mT + EYE

    def loss(prediction: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        r = (y - prediction[0]).unsqueeze(-1)
        return (
            term(prediction[1]) + (r.mT @ torch.linalg.solve(prediction[1], r)).flatten()
        ).mean() / 2

    model = Formula(forward, mean=nn.Linear(2, 2), factor=nn.Linear(2, 4))
    return of(model, loss, (x(3, 2), x(3, 2)))


ROTATED = torch.tensor(
    [[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]], dtype=torch.float64
)
KINDS: dict[str, Make] = {
    # of a parameter, several samples
    "det": lambda: of_parameter(torch.linalg.det),
    "logdet": lambda: of_parameter(torch.logdet),
    "slogdet": lambda: of_parameter(lambda W: torch.linalg.slogdet(W)[1]),
    "det of the identity": lambda: of_parameter(torch.linalg.det, EYE),
    "logdet of the identity": lambda: of_parameter(torch.logdet, EYE),
    "slogdet of a rotation": lambda: of_parameter(lambda W: torch.linalg.slogdet(W)[1], ROTATED),
    "one sample": lambda: of_parameter(torch.logdet, samples=1),
    "solve": lambda: of_parameter(lambda W: torch.linalg.solve(W, torch.ones(2).double()).sum()),
    "matrix_exp": lambda: of_parameter(lambda W: torch.matrix_exp(W).sum()),
    "equilibrium": lambda: of(
        Formula(equilibrium, A=nn.Parameter(MATRIX / 4), U=nn.Linear(2, 2)),
        "half_sse",
        (x(3, 2), x(3, 2)),
    ),
    # by sample
    "det, by sample": lambda: by_sample(torch.linalg.det),
    "logdet, by sample": lambda: by_sample(lambda A: torch.logdet(A @ A.mT)),
    "slogdet, by sample, three by three": lambda: by_sample(
        lambda A: torch.linalg.slogdet(A)[1], size=3
    ),
    "solve, by sample": lambda: by_sample(
        lambda A: torch.linalg.solve(A, torch.ones(2, 1).double())
    ),
    "solve_triangular, by sample": lambda: by_sample(
        lambda A: torch.linalg.solve_triangular(
            A.tril(), torch.ones(2, 1).double().expand(len(A), 2, 1), upper=False
        )
    ),
    "logdet in the loss": lambda: gaussian(torch.logdet),
    "slogdet in the loss": lambda: gaussian(lambda A: torch.linalg.slogdet(A)[1]),
    # of the parameters alone
    "function: det of the identity": lambda: function_of(
        lambda p: torch.linalg.det(p["A"]), {"A": EYE}
    ),
    "function: det of three equal singular values": lambda: function_of(
        lambda p: torch.linalg.det(p["A"]).square(), {"A": 2 * torch.eye(3).double()}
    ),
    "function: dets of a stack": lambda: function_of(
        lambda p: torch.linalg.det(p["A"]).prod(), {"A": torch.stack([EYE, MATRIX, EYE + MATRIX])}
    ),
}


@pytest.mark.some(of=2)
@pytest.mark.parametrize("way", ["hessian", "diagonal"])
@pytest.mark.parametrize("name", KINDS)
def test_right(name: str, way: str) -> None:
    # At equal singular values PyTorch's derivatives of det side by side are NaN; the certificate
    # sees it.
    check_right(
        KINDS[name],
        way,
        bare=not any(word in name for word in ("det of the identity", "equal", "stack")),
    )


@pytest.mark.parametrize(
    "name", ["logdet", "det, by sample", "equilibrium", "function: det of the identity"]
)
def test_the_operator_agrees(name: str) -> None:
    check_right(KINDS[name], "operator")


BY_HAND: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "det": (torch.linalg.det, det2),
    "logdet": (torch.logdet, lambda A: det2(A).log()),
    "slogdet": (lambda A: torch.linalg.slogdet(A)[1], lambda A: det2(A).square().log() / 2),
    "inv": (torch.linalg.inv, inverse2),
    "solve": (lambda A: torch.linalg.solve(A, A.mT), lambda A: inverse2(A) @ A.mT),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operation", BY_HAND)
def test_against_the_formula(operation: str, way: str) -> None:
    """Two by two, where every entry can be written out, so that no derivative of PyTorch's of it
    takes part."""
    theirs, ours = BY_HAND[operation]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        X, w = torch.rand(4, 4).double(), torch.rand(4).double()

    def J(params: dict[str, Tensor], f: Callable[[Tensor], Tensor]) -> Tensor:
        return f((X * params["w"]).reshape(-1, 2, 2) + 2 * EYE).square().sum() / 2

    subject = function_of(lambda params: J(params, theirs), {"w": w})
    expected = function_of(lambda params: J(params, ours), {"w": w}).expected
    assert off(WAYS[way](subject.cost, certify=False), expected, way) < 1e-9
    assert off(WAYS[way](subject.cost), expected, way) < 1e-9


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rank", [1, 0])
def test_a_singular_matrix_is_right_or_refused(rank: int, way: str) -> None:
    """There PyTorch's double backward of det is wrong, and not symmetric."""
    W = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64) * rank
    check_right_or_refused(
        lambda: of_parameter(torch.linalg.det, W, by_hand=det2), way, "W|finite|symmetric|det"
    )


def test_the_curvature_of_a_flow() -> None:
    """∂² Σ_n log det W / ∂W² = −N (W⁻¹)_ba (W⁻¹)_dc, at the entries (a, b), (c, d) as (c, b), (a,
    d)."""
    W = MATRIX.clone()
    model = Formula(lambda m, z: torch.logdet(m.W).expand(len(z), 1), W=nn.Parameter(W))
    cost = hesse.Cost(model, total, (torch.ones(2, 1).double(), torch.ones(2, 1).double()))
    inverse = torch.linalg.inv(W)
    expected = -2 * torch.einsum("bc,da->abcd", inverse, inverse).reshape(4, 4)
    assert off(hesse.hessian(cost).dense(), expected) < 1e-12


def test_one_parameter_of_several_samples_in_chunks() -> None:
    subject = made(KINDS["logdet in the loss"])
    assert (
        off(hesse.hessian(subject.cost, memory=1, certify=False).dense(), subject.expected) < 1e-9
    )
