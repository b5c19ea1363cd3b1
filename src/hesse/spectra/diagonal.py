"""The diagonal of a symmetric matrix, estimated entry by entry."""

import math
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from hesse.curvatures.curvature import Curvature
from hesse.display import Display, Displayed, Table
from hesse.layout import TensorsByName
from hesse.process.progress import StatusLine
from hesse.process.undisturbed import undisturbed
from hesse.spectra.accuracy import LEAST_PROBES, Accuracy, student
from hesse.spectra.products import Products
from hesse.spectra.subject import Subject, answered, require_method
from hesse.words import CurvatureName, SpectralMethod
from hesse.words.shapes import Float


@final
class EstimatedDiagonal(Displayed, TensorsByName):
    """The diagonal: {name: Tensor}, with a standard error for each entry.

    Attributes:
        errors: {name: Tensor}, zeros where it is exact.
        products: how many products it took.
        exact: whether nothing was estimated.
    """

    def __init__(
        self,
        entries: Mapping[str, Tensor],
        errors: Mapping[str, Tensor],
        products: int,
        exact: bool,
    ) -> None:
        super().__init__(entries)
        self.errors, self.products, self.exact = dict(errors), products, exact

    def _display(self) -> Display:
        def row(name: str, part: Tensor) -> tuple[str, ...]:
            ends = (float(part.min()), float(part.max())) if part.numel() else (0.0, 0.0)
            error = float(self.errors[name].max()) if part.numel() else 0.0
            return name, str(tuple(part.shape)), *(f"{end:.4g}" for end in ends), f"{error:.1g}"

        return Display(
            "EstimatedDiagonal",
            str(self),
            table=Table(
                ("part", "shape", "smallest", "largest", "largest error"),
                tuple(row(name, part) for name, part in self.items()),
                (0, 1),
            ),
            next=("d[name]", "d.errors[name]", "hesse.DiagonalOperator(d)"),
        )

    def __str__(self) -> str:
        if self.exact:
            return f"diagonal of {len(self)} parts (exact)"
        off, size = (
            math.sqrt(sum(float(part.double().square().sum()) for part in parts.values()))
            for parts in (self.errors, self)
        )
        return (
            f"diagonal of {len(self)} parts ± {off / size if size else 0.0:.2g} of its length"
            f" (standard error; {self.products} products)"
        )


@undisturbed()
def estimated_diagonal(
    what: Any,
    *,
    error: float | None = None,
    relative_error: float | None = None,
    method: SpectralMethod = "auto",
    curvature: CurvatureName | str | Curvature = "hessian",
    products: int = 1000,
    seed: int = 0,
    progress: bool | None = None,
) -> EstimatedDiagonal:
    """The diagonal of a matrix that is known by its products, by name; that of a cost,
    `hesse.diagonal` gives exactly.

        A_ii ≈ mean of g_i (A g)_i,    g of random signs

    Entry i has the variance Σ_{j≠i} A_ij²: what is large beside the diagonal takes many probes.

    Args:
        what: a cost, an operator, a Hessian or a matrix, as for `hesse.as_operator`.
        error: stop where the root mean square of the entries' standard errors is no larger; never
            before ten probes.
        relative_error: the same, as a part of the root mean square of the entries; 0.01 where
            neither is given.
        method: ``"auto"``: exact where that costs no more; or ``"exact"`` or ``"estimate"``.
        curvature, products, seed, progress: as for `hesse.trace`.

    Raises:
        HesseError: as for `hesse.trace`.

    Source: C. Bekas, E. Kokiopoulou and Y. Saad, An estimator for the diagonal of a matrix, Applied
    Numerical Mathematics 57 (2007), 1214.

    Examples:
        >>> import torch, hesse
        >>> A = hesse.as_operator(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))
        >>> hesse.estimated_diagonal(A)["x"]
        tensor([2., 3.])
    """
    accuracy = Accuracy.of(error, relative_error, products, seed, None, progress)
    require_method(method)

    def answer(subject: Subject) -> EstimatedDiagonal:
        exact = None if method == "estimate" else subject.diagonal(method == "exact")
        if exact is not None:
            zeros = {name: torch.zeros_like(part) for name, part in exact.items()}
            return EstimatedDiagonal(exact, zeros, 0, True)
        product = subject.products(products)
        entries, errors = _estimated(product, subject.size, accuracy)
        layout = subject.layout
        return EstimatedDiagonal(
            layout.unflatten(entries), layout.unflatten(errors), product.count, False
        )

    found = answered(what, curvature, None, None, answer)
    assert isinstance(found, EstimatedDiagonal)
    return found


def _estimated(
    product: Products, size: int, accuracy: Accuracy
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """The entries and their standard errors."""
    random = accuracy.generator()
    mean, squares = product.like.new_zeros(size), product.like.new_zeros(size)
    count = 0
    with StatusLine(accuracy.progress) as line:
        while True:
            for sample in _samples(product, size, random):
                # Welford's, which does not cancel.
                count += 1
                off = sample - mean
                mean += off / count
                squares += off * (sample - mean)
            errors = squares.div(max(1, count - 1) * count).sqrt_().mul_(student(count))
            off, length = (float(part.norm()) / math.sqrt(max(1, size)) for part in (errors, mean))
            if line.due:
                line.show(f"diagonal: ± {off / (length or 1):.1g}, {product.count} products")
            target = (
                accuracy.relative_error * length
                if accuracy.error is None
                else accuracy.error / product.unit
            )
            if off <= target or product.left < LEAST_PROBES:
                return mean * product.unit, errors * product.unit


def _samples(product: Products, size: int, random: torch.Generator) -> Float[Tensor, "n P"]:
    signs = torch.stack(
        [
            torch.randint(2, (size,), generator=random, device="cpu").to(product.like) * 2 - 1
            for _ in range(LEAST_PROBES)
        ]
    )
    return signs * product.rows(signs)
