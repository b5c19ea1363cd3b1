"""What is asked about: a symmetric matrix by its products, and what else is known of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Any, TypedDict, TypeVar, final, get_args

import torch
from torch import Tensor

from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.errors import HesseError, HesseValueError, require_word
from hesse.exact.diagonal import diagonal
from hesse.exact.hessian import hessian
from hesse.exact.plan import Plan
from hesse.exact.planning import plan
from hesse.layout import Layout
from hesse.linear_operators.conversion import as_operator
from hesse.linear_operators.given import BlocksOperator, MatrixOperator
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.matrix.block_hessian import BlockHessian
from hesse.process.memory import enough_memory
from hesse.products.hessian_operator import HessianOperator, operator
from hesse.spectra.products import Products
from hesse.words import CurvatureName, Part, SpectralMethod
from hesse.words.shapes import Float

T = TypeVar("T")
# About so many products an estimate takes: what is exact may cost as much.
_PRODUCTS = 100
# A matrix of so many rows is built where it costs no more: eigenvalues take a second or two.
ROWS = 2000
# Operations of a product, for each parameter and sample: twice a gradient's.
_OPERATIONS = 12


class Options(TypedDict, total=False):
    """What can be said of every answer that is searched for by products."""

    curvature: CurvatureName | str | Curvature
    seed: int
    memory: int | None
    progress: bool | None


class EstimateOptions(Options, total=False):
    """And of an estimate."""

    error: float | None
    relative_error: float | None
    method: SpectralMethod
    products: int


@final
@dataclass(frozen=True, eq=False)
class Matrix:
    """The whole matrix.

    Attributes:
        entries: (P, P), symmetric.
        how: how it came to be there.
        products: how many products it took.
    """

    entries: Float[Tensor, "P P"]
    how: str
    products: int = 0


@final
class Subject:
    """A symmetric matrix that is asked about.

    Args:
        layout: the names of its parts.
        make: its operator, made when it is first multiplied with.
        given: a matrix that is there.
        cost: the cost whose curvature it is, if it is one's.
        blocks: some of its blocks.
        whole: what it is a part of.
    """

    def __init__(
        self,
        layout: Layout,
        make: Callable[[], LinearOperator],
        given: Matrix | None = None,
        cost: Cost | None = None,
        blocks: BlockHessian | None = None,
        whole: "Subject | None" = None,
    ) -> None:
        self.layout, self._make, self._given, self._cost = layout, make, given, cost
        self._blocks, self._whole = blocks, whole
        # Of the whole, for all parts; empty where it costs too much.
        self._diagonal: dict[str, Tensor] | None = None

    @property
    def size(self) -> int:
        """P."""
        return self.layout.size

    @cached_property
    def form(self) -> Tensor:
        """An empty tensor of the matrix's dtype and device."""
        if self._cost is not None:
            return torch.empty(0, dtype=self._cost.dtype, device=self._cost.device)
        return torch.empty(0, dtype=self.operator.dtype, device=self.operator.device)

    @cached_property
    def operator(self) -> LinearOperator:
        """By which it is multiplied with."""
        return self._make()

    def products(self, most: int | None = None) -> Products:
        """Products that are counted."""
        return Products(self.operator, most)

    @cached_property
    def matrix(self) -> Matrix | None:
        """The whole matrix, where it is there, or costs no more than an estimate does."""
        if self._given is not None:
            return self._given
        if self._cost is not None and self.size <= ROWS:
            planned = plan(self._cost, pairs=self._pairs, **self._of)
            if self.size <= _PRODUCTS or self._affordable(planned):
                return self._built()
        if self._cost is None and self.size <= _PRODUCTS:
            return self._by_products()
        return None

    @property
    def _pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple(combinations_with_replacement(self.layout.names, 2))

    def _built(self) -> Matrix:
        assert self._cost is not None
        H = hessian(self._cost, pairs=self._pairs, **self._of)
        return Matrix(_dense(H, self.layout), "of the whole matrix")

    def _by_products(self) -> Matrix:
        # Not known to be symmetric, it was seen to be.
        entries = self.operator.dense()
        if not bool(entries.isfinite().all()):
            raise HesseValueError("what: its products have entries that are not finite")
        return Matrix((entries + entries.T) / 2, "of the whole matrix", self.size)

    def diagonal(self, whatever: bool = False) -> dict[str, Tensor] | None:
        """The exact diagonal by name, where it costs no more than an estimate does, or whatever it
        costs."""
        whole = self._whole or self
        if whole._diagonal is None or (whatever and not whole._diagonal):
            whole._diagonal = whole._exact_diagonal(whatever) or {}
        found = whole._diagonal or (self._exact_diagonal(whatever) or {})
        return {name: found[name] for name in self.layout.names} if found else None

    def _exact_diagonal(self, whatever: bool) -> dict[str, Tensor] | None:
        if self._blocks is not None:
            # Of one on a disk a product reads every tile, and this a few.
            return self._blocks.diagonal()
        if self._cost is not None and self._given is None:
            if self._whole is not None:
                return None
            if not (whatever or self._affordable(plan(self._cost, diagonal=True, **self._of))):
                return None
            return dict(diagonal(self._cost, **self._of))
        matrix = self.matrix or (self._by_products() if whatever else None)
        return None if matrix is None else self.layout.unflatten(matrix.entries.diagonal())

    def exact(self) -> Matrix:
        """The whole matrix, whatever it costs."""
        if self.matrix is not None:
            return self.matrix
        return self._built() if self._cost is not None else self._by_products()

    @property
    def _of(self) -> dict[str, Any]:
        # A function's default would ask for the Hessian.
        assert self._cost is not None
        return {"curvature": self._cost.curvature}

    def _affordable(self, planned: Plan) -> bool:
        """Whether what is planned takes no more than the products of an estimate. By counts, not
        by a clock: the same on every machine."""
        assert self._cost is not None
        sizes = self._cost.layout.sizes
        columns = sum(sizes[name] for name in planned.by_columns)
        product = _OPERATIONS * self._cost.layout.size * max(1, self._cost.samples)
        return (
            not planned.too_large
            and columns <= _PRODUCTS
            and planned.operations <= _PRODUCTS * product
        )

    def part(self, names: tuple[str, ...]) -> "Subject":
        """The block of some parts with themselves."""
        layout = _only(self.layout, names)
        given, blocks = None, self._blocks
        if self._given is not None:
            places = torch.cat(
                [torch.arange(self.size)[self.layout.slice(name)] for name in names]
            ).to(self._given.entries.device)
            given = Matrix(self._given.entries[places][:, places], self._given.how)
        elif blocks is not None and all(
            pair in blocks.pairs for pair in combinations_with_replacement(names, 2)
        ):
            given = Matrix(_dense(blocks, layout), "of the whole block")
        return Subject(
            layout,
            lambda: self.operator[list(names), list(names)],
            given,
            self._cost,
            whole=self,
        )


def subject(
    what: Any, curvature: CurvatureName | str | Curvature = "hessian", memory: int | None = None
) -> Subject:
    """What is asked about, checked; nothing is computed of a cost.

    Raises:
        HesseTypeError: nothing that is or has a matrix.
        HesseValueError: a matrix that is not symmetric, or of numbers that round too much, or a
            curvature of what is not a cost.
    """
    if isinstance(what, Cost):
        cost = cost_with_curvature(what, curvature)
        return Subject(
            cost.layout,
            lambda: operator(cost, curvature=cost.curvature, memory=memory),
            cost=cost,
        )
    asked = None if isinstance(curvature, str) and curvature == "hessian" else curvature
    found = as_operator(what, curvature=asked)
    if 0 in found.shape:
        raise HesseValueError(f"what: expected a matrix with rows, got {found!r}")
    if found.dtype not in (torch.float32, torch.float64):
        raise HesseValueError(
            f"what: expected float32 or float64, got {found.dtype}, which rounds too much; convert"
            " it"
        )
    if isinstance(found, HessianOperator):
        return Subject(found.layout, lambda: found, cost=found.cost)
    if isinstance(found, MatrixOperator):
        entries = _symmetric(found.matrix)
        return Subject(found.layout, lambda: found, Matrix(entries, "of the matrix given"))
    M, N = found.shape
    if M != N or not (found.is_symmetric or _seems_symmetric(found)):
        raise _not_symmetric(f"{M} x {N}" if M != N else "of which uᵀ A v is not vᵀ A u")
    blocks = found.hessian if isinstance(found, BlocksOperator) else None
    return Subject(found.layout, lambda: found, blocks=blocks)


@enough_memory()
def answered(
    what: Any,
    curvature: CurvatureName | str | Curvature,
    by: Any,
    memory: int | None,
    answer: Callable[[Subject], T],
) -> T | dict[str, T]:
    """An answer for the whole, or one for each parameter or layer, by its name.

    Raises:
        HesseValueError: ``by`` is none of ``None``, ``"parameter"`` and ``"layer"``.
    """
    require_word(by, "by", (None, *get_args(Part)))
    whole = subject(what, curvature, memory)
    if by is None:
        return answer(whole)
    layers = {name: (name,) for name in whole.layout.names} if by == "parameter" else None
    return {
        name: answer(whole.part(names)) for name, names in (layers or whole.layout.layers).items()
    }


def require_method(method: Any) -> None:
    """One of those that there are."""
    require_word(method, "method", get_args(SpectralMethod))


def chosen_matrix(subject: Subject, method: SpectralMethod) -> Matrix | None:
    """The whole matrix, where that is how it is to be done."""
    if method == "estimate":
        return None
    return subject.exact() if method == "exact" else subject.matrix


def _only(layout: Layout, names: tuple[str, ...]) -> Layout:
    return Layout(names, tuple(layout.shape(name) for name in names))


def _dense(H: BlockHessian, layout: Layout) -> Float[Tensor, "P P"]:
    """The blocks of some parameters as one matrix."""
    if H.matrix is not None and H.layout == layout:
        return H.matrix
    return torch.cat([torch.cat([H.flat(a, b) for b in layout.names], dim=1) for a in layout.names])


def _symmetric(matrix: Float[Tensor, "M N"]) -> Float[Tensor, "P P"]:
    """A matrix that is symmetric but for rounding, as products such as XᵀX are, made exactly so."""
    M, N = matrix.shape
    if M != N:
        raise _not_symmetric(f"{M} x {N}")
    if torch.equal(matrix, matrix.T):
        return matrix
    apart = float((matrix - matrix.T).abs().max())
    largest = float(matrix.abs().max())
    if apart > 10 * M * torch.finfo(matrix.dtype).eps * largest:
        raise _not_symmetric(f"whose entries differ from those across by up to {apart:.2g}")
    return (matrix + matrix.T) / 2


def _seems_symmetric(A: LinearOperator) -> bool:
    """Whether uᵀ A v = vᵀ A u, for vectors drawn at random: equal by chance with probability 0."""
    random = torch.Generator("cpu").manual_seed(0)
    u, v = (
        torch.randn(A.shape[1], generator=random, dtype=torch.float64, device="cpu").to(
            A.device, A.dtype
        )
        for _ in range(2)
    )
    Au, Av = A @ u, A @ v
    size = float(Au.norm() * v.norm() + Av.norm() * u.norm())
    return abs(float(u @ Av - v @ Au)) <= 10 * torch.finfo(A.dtype).eps * size


def _not_symmetric(why: str) -> HesseError:
    return HesseValueError(
        f"what: expected a symmetric matrix, got one {why}; its symmetric part is (A + A.T) / 2,"
        " and A.T @ A has the squares of its singular values"
    )
