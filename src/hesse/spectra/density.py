"""The density of the eigenvalues."""

import math
from typing import Any, Unpack, overload

import numpy as np
import torch
from torch import Tensor

from hesse.curvatures.curvature import Curvature
from hesse.errors import require_integer, require_positive, require_progress
from hesse.matrix.eigensolver import eigvalsh
from hesse.plot.density import Density
from hesse.process.memory import require_memory
from hesse.process.progress import Progress
from hesse.process.undisturbed import undisturbed
from hesse.spectra.accuracy import (
    LEAST_PROBES,
    mean_and_error,
    random_vectors,
    require_seed,
)
from hesse.spectra.quadrature import Rule, held_steps, tridiagonals
from hesse.spectra.subject import Options, Subject, answered, chosen_matrix, require_method
from hesse.words import CurvatureName, Part, SpectralMethod

# Points of the curve; the kernel's width, as a part of the spectrum's, and how many widths it goes
# on beyond.
_POINTS, _WIDTH, _BEYOND = 512, 0.01, 4


class _Options(Options, total=False):
    probes: int
    steps: int
    width: float | None
    method: SpectralMethod


@overload
def density(what: Any, *, by: None = None, **options: Unpack[_Options]) -> Density: ...
@overload
def density(what: Any, *, by: Part | str, **options: Unpack[_Options]) -> dict[str, Density]: ...
@undisturbed()
def density(
    what: Any,
    *,
    probes: int = LEAST_PROBES,
    steps: int = 80,
    width: float | None = None,
    method: SpectralMethod = "auto",
    curvature: CurvatureName | str | Curvature = "hessian",
    by: Part | str | None = None,
    seed: int = 0,
    memory: int | None = None,
    progress: bool | None = None,
) -> Density | dict[str, Density]:
    """The density of a symmetric matrix's eigenvalues, smoothed by a normal kernel.

        ρ(t) = (1/P) Σ_i N(t; λ_i, width²)

    Of all eigenvalues where the matrix is there or costs no more; else by quadrature of random
    vectors (`hesse.spectra.quadrature`), with the standard error of their mean. `.plot()` draws it
    with a band.

    Args:
        what: a cost, an operator, a Hessian or a matrix, as for `hesse.as_operator`.
        probes: how many random vectors, ten at the least.
        steps: Lanczos' steps for each of them, which tell some dozen features of the spectrum
            apart.
        width: of the kernel; by default a hundredth of the spectrum's.
        method, curvature, by, seed, memory, progress: as for `hesse.trace`.

    Raises:
        HesseTypeError: no matrix, or an argument of another type.
        HesseValueError: the matrix is not symmetric, or a name or a number that cannot be used.

    Source: B. Ghorbani, S. Krishnan and Y. Xiao, An investigation into neural net optimization via
    Hessian eigenvalue density, ICML (2019).

    Examples:
        >>> import torch, hesse
        >>> found = hesse.density(torch.diag(torch.tensor([0.0, 0.0, 1.0])))
        >>> found.exact, round(found.mass(-0.5, 0.5), 3)
        (True, 0.667)
    """
    probes = require_integer(probes, "probes", LEAST_PROBES)
    steps = require_integer(steps, "steps", 2)
    width = None if width is None else require_positive(width, "width")
    require_method(method)
    seed = require_seed(seed)
    memory = None if memory is None else require_memory(memory)
    require_progress(progress)

    def answer(subject: Subject) -> Density:
        matrix = chosen_matrix(subject, method)
        if matrix is not None:
            values = eigvalsh(matrix.entries).double().cpu()
            exact = Rule(values, torch.full_like(values, 1 / max(1, len(values))))
            return _smoothed([exact], width, matrix.products, True)
        product = subject.products()
        random, like = (
            torch.Generator("cpu").manual_seed(seed),
            subject.form.new_empty(subject.size),
        )
        most = min(steps, held_steps(subject.size, like, memory))
        found = []
        with Progress("density", probes * most, progress) as bar:
            for _ in range(probes):
                last = torch.zeros(1, 1)
                for T in tridiagonals(product, random_vectors(1, like, random)[0], most):
                    last = T
                    bar.advance(1)
                rule = Rule.of(last)
                found.append(Rule(rule.nodes * product.unit, rule.weights))
        return _smoothed(found, width, product.count, False)

    return answered(what, curvature, by, memory, answer)


def _smoothed(found: list[Rule], width: float | None, products: int, exact: bool) -> Density:
    """Curves of each rule, their mean, and its standard error."""
    nodes = torch.cat([rule.nodes for rule in found])
    low, high = (float(nodes.min()), float(nodes.max())) if len(nodes) else (0.0, 0.0)
    # Of a single eigenvalue there is no width but that of its size.
    spread = high - low or max(abs(high), abs(low)) or 1.0
    width = _WIDTH * spread if width is None else width
    points = torch.linspace(
        low - _BEYOND * width, high + _BEYOND * width, _POINTS, dtype=torch.float64
    )
    curves = torch.stack([_curve(rule, points, width) for rule in found])
    error = torch.zeros(_POINTS) if exact else mean_and_error(curves)[1]
    weights = torch.cat([rule.weights for rule in found]) / len(found)
    arrays: list[np.ndarray] = [
        part.numpy() for part in (points, curves.mean(0), error, nodes, weights)
    ]
    return Density(*arrays, width=width, products=products, exact=exact)


def _curve(rule: Rule, points: Tensor, width: float) -> Tensor:
    away = (points.unsqueeze(1) - rule.nodes) / width
    return (-0.5 * away.square()).exp() @ rule.weights / (width * math.sqrt(2 * math.pi))
