"""Hessians as books print them, in NumPy: a second way to every block whose form is told, by other
people's algebra. Nothing of hesse reads them.

The matrix of a block with respect to matrices is in the books' order, by vec, which stacks columns.
"""

from collections.abc import Mapping
from typing import Any

import numpy
from numpy.typing import NDArray
from scipy import special

import hesse
from derivation import surface

Array = NDArray[numpy.float64]
TOLERANCE = 1e-10


def vec(matrix: Array) -> Array:
    """The columns, one below the other."""
    return matrix.ravel("F")


def commutation(matrix: Array) -> Array:
    """K with K vec(X) = vec(Xᵀ) for X of this shape."""
    places = numpy.arange(matrix.size).reshape(matrix.shape, order="F")
    return numpy.eye(matrix.size)[places.ravel()]


def bilinear(B: Array, C: Array) -> Array:
    """The Hessian of tr(B X C X), Magnus and Neudecker 2019, chapter 10."""
    return commutation(B) @ (numpy.kron(B.T, C) + numpy.kron(C.T, B))


def quotient(N: Array, dN: Array, d2N: Array | int, D: Array, dD: Array, d2D: Array) -> Array:
    """The Hessian of N/D, by the gradients and Hessians of both."""
    mixed = numpy.outer(dN, dD)
    return d2N / D - (mixed + mixed.T + N * d2D) / D**2 + 2 * N * numpy.outer(dD, dD) / D**3


def root(q: Array, dq: Array, d2q: Array) -> tuple[Array, Array, Array]:
    """√q, its gradient and its Hessian, by those of q."""
    s = numpy.sqrt(q)
    return s, dq / (2 * s), d2q / (2 * s) - numpy.outer(dq, dq) / (4 * s**3)


def laplacian(n: int) -> Array:
    """That of a path of n: the number of neighbours on the diagonal, −1 beside it."""
    path = numpy.eye(n, k=1) + numpy.eye(n, k=-1)
    return numpy.diag(path.sum(0)) - path


def dsoftmax(z: Array) -> Array:
    """diag(p) − p pᵀ."""
    p = special.softmax(z)
    return numpy.diag(p) - numpy.outer(p, p)


def dtanh(z: Array) -> Array:
    """1 − tanh²."""
    return numpy.cosh(z) ** -2


def d2tanh(z: Array) -> Array:
    """−2 tanh (1 − tanh²)."""
    return -2 * numpy.tanh(z) * dtanh(z)


WORDS: dict[str, Any] = {
    **{
        name: getattr(numpy, name)
        for name in (
            *("diag", "eye", "kron", "ones", "outer", "sum", "trace", "zeros"),
            *("cos", "diff", "exp", "log", "prod", "sin", "sqrt", "tanh", "tri"),
        )
    },
    **{name: getattr(numpy.linalg, name) for name in ("det", "inv", "norm")},
    **{name: getattr(special, name) for name in ("polygamma", "softmax")},
    "power": numpy.linalg.matrix_power,
    **{
        word.__name__: word
        for word in (
            *(vec, commutation, bilinear, quotient, root, laplacian),
            *(dsoftmax, dtanh, d2tanh),
        )
    },
    # σ(z) = ½ + ½ tanh(z/2).
    "sigmoid": special.expit,
    "dsigmoid": lambda z: dtanh(z / 2) / 4,
    "d2sigmoid": lambda z: d2tanh(z / 2) / 8,
    # What stands for an unknown function.
    "f": numpy.tanh,
    "df": dtanh,
    "d2f": d2tanh,
    "len": len,
    "zip": zip,
}


def stacked(block: Array, rows: int, columns: int) -> Array:
    """The entries of a block as a matrix, both parameters by vec; `rows` and `columns` are the
    numbers of their axes."""
    assert block.ndim == rows + columns
    axes = [*reversed(range(rows)), *reversed(range(rows, rows + columns))]
    size = int(numpy.prod(block.shape[:rows]))
    return block.transpose(axes).reshape(size, -1)


def hold(d: hesse.Derivation, forms: Mapping[str, tuple[str, str]]) -> None:
    """Compare blocks with their published forms, at random points.

    Args:
        d: the derivation.
        forms: by block, "u v" or "u", hesse's form and the published one as NumPy.
    """
    functions = dict.fromkeys(d.program.unknown, "tanh")
    for seed, positive in enumerate((True, False)):
        tensors = surface.arrays(d.program, seed, positive)
        at = {
            name: tensor.numpy()
            for name, tensor in tensors.items()
            if d.program.leaves[name].role != "constant"
        }
        names = {"__builtins__": {}, **WORDS, **surface.sizes(d.program, tensors), **at}
        for key, (_, published) in forms.items():
            block = d.block(key.split()[0], key.split()[-1])
            with numpy.errstate(all="ignore"):
                expected = numpy.asarray(eval(published, names), dtype=float)
                found = stacked(
                    numpy.asarray(block.evaluate(**at, **functions)),
                    len(block.rows.indices),
                    len(block.columns.indices),
                )
            if not (positive or numpy.isfinite(expected).all()):
                continue  # a root or a power of a negative number
            error = abs(found - expected.reshape(found.shape)).max()
            assert error <= TOLERANCE * abs(expected).max(), f"{key}: {found} is not {expected}"
