"""The inverse of a Hessian at a minimum, or why there is none: what the data do not determine."""

import torch
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.layout import Layout
from hesse.matrix.frames import labels
from hesse.solves.direct import CholeskyFactor, NotDefinite
from hesse.words.shapes import Float

# Entries of a direction that are named, and the least share of the largest that counts.
_NAMED, _SHARE = 4, 0.1


def inverse_at_minimum(
    H: Float[Tensor, "P P"], eps: float, layout: Layout, softmax: bool
) -> Float[Tensor, "P P"]:
    """H⁻¹ = D (D H D)⁻¹ D with D = diag(H)^(−1/2), so that units of the parameters do not matter.

    Args:
        H: in float64.
        eps: the rounding of what it was computed in.
        layout: the parameters.
        softmax: whether the loss is of a softmax, which moving all scores alike leaves as it is.

    Raises:
        HesseValueError: it is not positive definite; says along which entries.
    """
    diagonal = H.diagonal()
    if bool((diagonal > 0).all()):
        units = diagonal.rsqrt()
        scaled = H * units.unsqueeze(1) * units
        try:
            lowest = torch.linalg.eigvalsh(scaled)[0]
            if lowest > len(H) * eps * len(H) ** 0.5:
                return CholeskyFactor(scaled, 0.0).inverse() * units.unsqueeze(1) * units
        except NotDefinite:
            pass
    raise HesseValueError(_why(H, eps, layout, softmax))


def _why(H: Float[Tensor, "P P"], eps: float, layout: Layout, softmax: bool) -> str:
    values, vectors = torch.linalg.eigh(H)
    lowest, direction = float(values[0]), vectors[:, 0]
    names, indices = labels(layout)
    # What is as large to rounding stays in the order of the layout.
    sizes = direction.abs().mul(1e6).round()
    order = sizes.argsort(descending=True, stable=True)[:_NAMED].tolist()
    sign = float(direction[order[0]].sign())
    entries = ", ".join(
        f"{entry(names[k], indices[k])} ({sign * float(direction[k]):+.2f})"
        for k in order
        if abs(direction[k]) > _SHARE * abs(direction[order[0]])
    )
    is_zero = lowest >= -len(H) * eps * float(values.abs().max())
    reason = (
        "the data do not tell what lies along it"
        if is_zero
        else "it is a saddle, no minimum: hesse.minimize(cost) goes on from there"
    )
    advice = (
        "; a softmax stays as it is where all scores move alike: hold one class fixed, its scores"
        " zero, or leave it out with params="
        if softmax and is_zero
        else "; leave out, with params= or of the data, what is not determined"
        if is_zero
        else ""
    )
    return (
        "cost: no standard errors, for its Hessian is not positive definite: its smallest"
        f" eigenvalue is {'0 to rounding' if is_zero else f'{lowest:.3g}'}, along {entries}, and"
        f" {reason}{advice}"
    )


def entry(name: str, index: str) -> str:
    """A parameter's entry as it is written.

    Examples:
        >>> entry("0.weight", "1, 2"), entry("s", "")
        ('0.weight[1, 2]', 's')
    """
    return f"{name}[{index}]" if index else name
