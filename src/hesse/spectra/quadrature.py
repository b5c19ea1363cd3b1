"""The spectrum as seen by random vectors: Gauss quadrature by Lanczos' steps.

For a vector g of length 1 and the (θ, s) of its tridiagonal matrix T after m steps,

    gᵀ f(A) g ≈ Σ_i s_i[0]² f(θ_i)

exact for polynomials of degree 2 m − 1; and tr f(A) = P E gᵀ f(A) g.

Source: S. Ubaru, J. Chen and Y. Saad, Fast estimation of tr(f(A)) via stochastic Lanczos
quadrature, SIAM J. Matrix Anal. Appl. 38 (2017), 1075.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hesse.linear_operators.inner_products import length
from hesse.process.memory import allowed_memory
from hesse.process.progress import StatusLine
from hesse.spectra.accuracy import (
    LEAST_PROBES,
    Accuracy,
    mean_and_error,
    random_vectors,
)
from hesse.spectra.basis import Basis
from hesse.spectra.estimate import Estimate
from hesse.spectra.products import Products
from hesse.words.shapes import Float

# Steps from a vector, at the most; over so many the quadrature stands still, to this part of the
# standard error that is asked for.
_STEPS = 300
_STILL, _PART = 3, 0.1
_BESIDE = 4


class Rule(NamedTuple):
    """Nodes and weights; the weights sum to 1."""

    nodes: Float[Tensor, "..."]
    weights: Float[Tensor, "..."]

    @staticmethod
    def of(T: Float[Tensor, "m m"]) -> "Rule":
        """That of a tridiagonal matrix."""
        nodes, S = torch.linalg.eigh(T)
        return Rule(nodes, S[0].square())


def tridiagonals(product: Products, g: Float[Tensor, " P"], most: int) -> Iterator[Tensor]:
    """T of a vector after one step, two, ..., in the unit of the products; they end where all that
    the vector sees is seen."""
    basis, v = Basis(g, most), g / length(g)
    T = torch.zeros(most, most, dtype=torch.float64)
    for step in range(most):
        y = product(v)
        size = length(y)
        basis.append(v)
        T[step, step] = basis.orthogonalized(y)[-1]
        yield T[: step + 1, : step + 1]
        rest = length(y)
        if rest <= 10 * torch.finfo(g.dtype).eps * size or step + 1 == most:
            return
        T[step, step + 1] = T[step + 1, step] = rest
        v = y / rest


def held_steps(size: int, like: Tensor, memory: int | None) -> int:
    """How many steps there is the memory for."""
    held = allowed_memory(memory, like.device) // max(1, size * like.itemsize) - _BESIDE
    return max(2, min(size, _STEPS, held))


def spectral_sum(
    name: str,
    function: Callable[[Float[Tensor, " m"]], Float[Tensor, " m"]],
    product: Products,
    size: int,
    accuracy: Accuracy,
) -> Estimate:
    """tr f(A) to the accuracy that is asked for, or as far as the products go.

    Args:
        name: of what is summed, for a line.
        function: f of eigenvalues.
    """
    random, like = accuracy.generator(), product.like.new_empty(size)
    most = held_steps(size, like, accuracy.memory)
    samples, off, steps, value, error = [], [], 0, 0.0, math.inf
    with StatusLine(accuracy.progress) as line:
        while len(samples) < LEAST_PROBES or (
            error > accuracy.target(value) and product.left > steps
        ):
            if len(samples) > 1 and product.left < steps:
                break
            g = random_vectors(1, like, random)[0]
            found, still = _sample(function, product, g, size, most, accuracy)
            samples.append(found[-1])
            off.append(still)
            steps = max(steps, len(found))
            seen = torch.tensor(samples, dtype=torch.float64)
            value = float(seen.mean())
            if len(samples) > 1:
                # What the quadratures are still off adds to what the probes differ by.
                error = math.hypot(float(mean_and_error(seen)[1]), sum(off) / len(off))
            if line.due:
                line.show(f"{name}: {value:.4g} ± {error:.1g}, {product.count} products")
    notes = ()
    if error > accuracy.target(value):
        notes = (
            f"{product.count} products did not do for a standard error of"
            f" {accuracy.target(value):.2g}; products= allows more",
        )
    how = f"by {len(samples)} probes of up to {steps} of Lanczos' steps"
    return Estimate(value, error, product.count, how, notes=notes)


def _sample(
    function: Callable[[Tensor], Tensor],
    product: Products,
    g: Float[Tensor, " P"],
    size: int,
    most: int,
    accuracy: Accuracy,
) -> tuple[list[float], float]:
    """P gᵀ f(A) g after each step, and by how much the last is off, about."""
    found: list[float] = []
    for rule in map(Rule.of, tridiagonals(product, g, most)):
        found.append(size * float(rule.weights @ function(product.unit * rule.nodes)))
        if len(found) <= _STILL:
            continue
        moved = max(abs(found[-1] - before) for before in found[-1 - _STILL : -1])
        if moved <= _PART * accuracy.target(found[-1]):
            return found, moved
    # An invariant space leaves nothing over; memory may.
    return found, abs(found[-1] - found[-2]) if len(found) == most < size else 0.0
