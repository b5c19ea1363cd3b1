"""One table of operators, each with the matrix that it is; every row passes the whole suite."""

import functools
from collections.abc import Callable

import scipy.sparse
import torch
from scipy.sparse.linalg import aslinearoperator
from torch import Tensor, nn

import hesse
from hesse.linear_operators.given import MatrixOperator
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.solves.preconditioners import BlockInverse

# Two layers, a number, and a part without entries.
PARTS = hesse.Layout(("a.w", "a.b", "s", "none", "c.w"), ((2, 3), (2,), (), (0,), (2, 1)))
ROWS = hesse.Layout(("u", "v"), ((2, 2), (3,)))
P, M = PARTS.size, ROWS.size


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


R, S, B = drawn(M, P), drawn(P, P, seed=1), drawn(P, P, seed=2)
S, B = S + S.T, B + B.T
DEFINITE = S @ S + torch.eye(P, dtype=torch.float64)
RECTANGULAR, SYMMETRIC = MatrixOperator(R, ROWS, PARTS), MatrixOperator(S, PARTS)
ENTRIES = drawn(P, seed=3).abs() + 0.5
VALUES, VECTORS = torch.tensor([3.0, -0.02, 2.0]).double(), drawn(P, 3, seed=4)
LOW_RANK = hesse.LowRank(VALUES, VECTORS, ENTRIES, PARTS)
LOW_RANK_DENSE = VECTORS * VALUES @ VECTORS.T + ENTRIES.diag()


def times(v: Tensor) -> Tensor:
    return R @ v


def times_transposed(u: Tensor) -> Tensor:
    return R.T @ u


def by_blocks(matrix: Tensor, groups: list[tuple[str, ...]]) -> Tensor:
    """A matrix with zeros between the groups."""
    found = torch.zeros_like(matrix)
    for group in groups:
        places = torch.cat([torch.arange(P)[PARTS.slice(name)] for name in group])
        found[places[:, None], places] = matrix[places[:, None], places]
    return found


@functools.cache
def cost() -> hesse.Cost:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    targets = torch.tensor([0, 1, 1, 0, 1])
    return hesse.Cost(model, "cross_entropy", (drawn(5, 3), targets), penalty=0.1)


def of_cost(curvature: str) -> tuple[LinearOperator, Tensor]:
    H = hesse.hessian(cost(), curvature=curvature, certify=False)
    return hesse.operator(cost(), curvature=curvature, certify=False), H.dense()


def hessian(names: list[tuple[str, str]]) -> hesse.BlockHessian:
    blocks = {(a, b): S[PARTS.slice(a), PARTS.slice(b)] for a, b in names}
    return hesse.BlockHessian(PARTS, blocks=blocks)


def every_pair() -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(PARTS.names) for b in PARTS.names[i:]]


OWN = [(name,) for name in PARTS.names]
LAYERS = list(PARTS.layers.values())
LIST = ["a.b", "c.w"]
SOME = torch.cat([torch.arange(P)[PARTS.slice(name)] for name in LIST])
CURVATURES = ("hessian", "gauss_newton", "functional", "fisher", "fisher_mc", "empirical_fisher")

OPERATORS: dict[str, Callable[[], tuple[LinearOperator, Tensor]]] = {
    **{curvature: functools.partial(of_cost, curvature) for curvature in CURVATURES},
    "matrix": lambda: (RECTANGULAR, R),
    "symmetric matrix": lambda: (SYMMETRIC, S),
    "matrix without names": lambda: (hesse.as_operator(R), R),
    "array": lambda: (hesse.as_operator(R.numpy()), R),
    "function": lambda: (
        hesse.FunctionOperator(
            times, ROWS, PARTS, transposed=times_transposed, dtype=torch.float64
        ),
        R,
    ),
    "blocks": lambda: (hesse.as_operator(hessian(every_pair())), S),
    "diagonal blocks": lambda: (
        hesse.as_operator(hessian([(name, name) for name in PARTS.names])),
        by_blocks(S, OWN),
    ),
    "whole Hessian": lambda: (hesse.as_operator(hesse.BlockHessian(PARTS, matrix=S)), S),
    "SciPy's operator": lambda: (hesse.as_operator(aslinearoperator(R.numpy())), R),
    "sparse": lambda: (hesse.as_operator(scipy.sparse.csr_array(R.numpy())), R),
    "symmetric sparse": lambda: (hesse.as_operator(scipy.sparse.csr_array(S.numpy())), S),
    "transposed": lambda: (RECTANGULAR.T, R.T),
    "multiple": lambda: (-2 * RECTANGULAR / 3, -2 * R / 3),
    "damped": lambda: (SYMMETRIC.damped(0.3), S + 0.3 * torch.eye(P, dtype=torch.float64)),
    "sum": lambda: (SYMMETRIC + hesse.as_operator(B), S + B),
    "difference": lambda: (RECTANGULAR - 2 * RECTANGULAR, -R),
    "product": lambda: (RECTANGULAR @ SYMMETRIC, R @ S),
    "product without names between": lambda: (RECTANGULAR @ hesse.as_operator(B), R @ B),
    "Gram matrix": lambda: (RECTANGULAR.T @ RECTANGULAR, R.T @ R),
    "square": lambda: (SYMMETRIC @ SYMMETRIC, S @ S),
    "block": lambda: (RECTANGULAR["v", "a.w"], R[ROWS.slice("v"), PARTS.slice("a.w")]),
    "block of patterns": lambda: (SYMMETRIC["a.*", "*.w"], S[:8][:, [*range(6), 9, 10]]),
    "block of several": lambda: (SYMMETRIC[LIST], S[SOME[:, None], SOME]),
    "block with an empty part": lambda: (SYMMETRIC["none", "a.b"], S[:0, PARTS.slice("a.b")]),
    "empty block": lambda: (SYMMETRIC["a.b", "none"], S[PARTS.slice("a.b"), :0]),
    "block diagonal": lambda: (SYMMETRIC.block_diagonal(), by_blocks(S, OWN)),
    "block diagonal by layer": lambda: (SYMMETRIC.block_diagonal("layer"), by_blocks(S, LAYERS)),
    "block diagonal of what is not symmetric": lambda: (
        MatrixOperator(B @ S, PARTS).block_diagonal("layer"),
        by_blocks(B @ S, LAYERS),
    ),
    "diagonal": lambda: (hesse.DiagonalOperator(PARTS.unflatten(ENTRIES)), ENTRIES.diag()),
    "inverse of a diagonal": lambda: (
        hesse.DiagonalOperator(ENTRIES, PARTS).inverse(0.5),
        (1 / (ENTRIES + 0.5)).diag(),
    ),
    "low rank": lambda: (LOW_RANK, LOW_RANK_DENSE),
    "no rank": lambda: (
        hesse.LowRank(VALUES[:0], VECTORS[:, :0], 0.5),
        0.5 * torch.eye(P, dtype=torch.float64),
    ),
    "inverse of low rank": lambda: (LOW_RANK.inverse(), torch.linalg.inv(LOW_RANK_DENSE)),
    "inverse by Cholesky": lambda: (
        hesse.inverse(MatrixOperator(DEFINITE, PARTS)),
        torch.linalg.inv(DEFINITE),
    ),
    "inverse by MINRES": lambda: (
        hesse.inverse(SYMMETRIC, method="minres", tolerance=1e-13),
        torch.linalg.inv(S),
    ),
    "block inverse": lambda: (
        BlockInverse(
            PARTS,
            [
                torch.linalg.cholesky(DEFINITE[PARTS.slice(name), PARTS.slice(name)])
                for name in PARTS.names
            ],
        ),
        torch.linalg.inv(by_blocks(DEFINITE, OWN)),
    ),
}
