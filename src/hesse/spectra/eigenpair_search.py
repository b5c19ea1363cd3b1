"""Eigenpairs at the ends of a spectrum: by LAPACK where that is cheap, else by Lanczos' method."""

from typing import Any, Unpack, get_args, overload

import torch
from torch import Tensor

from hesse.curvatures.curvature import Curvature
from hesse.errors import (
    HesseMemoryError,
    HesseTypeError,
    HesseValueError,
    readable_bytes,
    require_integer,
    require_positive,
    require_progress,
    require_word,
)
from hesse.layout import Layout
from hesse.linear_operators.inner_products import inner_product, length
from hesse.matrix.eigensolver import eigh
from hesse.process.memory import allowed_memory, enough_memory, require_memory
from hesse.process.progress import StatusLine
from hesse.process.undisturbed import undisturbed
from hesse.spectra.accuracy import random_vectors, require_seed
from hesse.spectra.eigenpairs import Eigenpairs
from hesse.spectra.lanczos import Lanczos, wanted
from hesse.spectra.products import Products
from hesse.spectra.rows import Rows
from hesse.spectra.subject import ROWS, Matrix, Options, Subject, answered
from hesse.words import CurvatureName, Part, Which
from hesse.words.shapes import Float

# Vectors that are held, where there is the memory: beyond so many they save no products.
_HELD = 4, 40
# Of a search that leads nowhere the end.
_PRODUCTS = 5000
# Without them a restart has no room; and beside the vectors that are held are what is multiplied,
# its product, that while it is made, and what is missing from products.
_ROOM, _BESIDE = 3, 4
# Residuals that are no larger than so many roundings of the largest eigenvalue are as small as
# they get.
_ROUNDINGS = 4
# Larger by more than this they are not what rounding leaves.
_LOST = 100
# The length of a sum of vectors with random signs is seldom more than so many times its mean.
_BORNE_OUT = 3


class _Options(Options, total=False):
    tolerance: float
    start: Eigenpairs | Tensor | None
    products: int | None


@overload
def eigenpairs(
    what: Any, k: int = 1, which: Which = "largest", *, by: None = None, **options: Unpack[_Options]
) -> Eigenpairs: ...
@overload
def eigenpairs(
    what: Any, k: int = 1, which: Which = "largest", *, by: Part | str, **options: Unpack[_Options]
) -> dict[str, Eigenpairs]: ...
@undisturbed()
def eigenpairs(
    what: Any,
    k: int = 1,
    which: Which = "largest",
    *,
    curvature: CurvatureName | str | Curvature = "hessian",
    by: Part | str | None = None,
    tolerance: float = 1e-8,
    start: Eigenpairs | Tensor | None = None,
    products: int | None = None,
    seed: int = 0,
    memory: int | None = None,
    progress: bool | None = None,
) -> Eigenpairs | dict[str, Eigenpairs]:
    """k eigenvalues at the ends of a symmetric matrix's spectrum, and their eigenvectors.

        A v = λ v,    ‖A v − λ v‖ ≤ tolerance · max|λ|

    By LAPACK where the matrix is there or is as cheap as the products; else by Lanczos' method with
    thick restarts (`hesse.spectra.lanczos`). Rows of zeros, of tokens that no batch has for
    instance, take no memory.

    An eigenvalue that is there several times is found as often, provided that it stands apart, by
    more than some percent of the spectrum's width: by what the search makes residuals smaller a
    second eigenvector comes to light, and then a look of some ten products finds more.

    Args:
        what: a cost, an operator, a Hessian or a matrix, as for `hesse.as_operator`.
        k: how many.
        which: ``"largest"`` (the most positive), ``"smallest"`` (the most negative), ``"both"``
            (half of them from each end, of an odd number one more of the largest), or
            ``"magnitude"`` (the largest |λ|).
        curvature: of a cost: ``"hessian"``, ``"gauss_newton"``, or another `Curvature`.
        by: ``"parameter"`` or ``"layer"`` for those of each one's own block, by its name.
        tolerance: of the residuals, as a part of the largest |λ|. Where rounding is larger, some
            1e-6 in float32, that decides, and ``notes`` say so.
        start: an earlier result, of this matrix or one near it (other parameters θ), or vectors
            as columns, to go on from. A result that did not converge goes on where it ended.
        products: how many to take at the most, besides the k of the residuals, k + 2 at the least;
            5,000 by default.
        seed: of the vector that the search begins from.
        memory: bytes to keep vectors in; by default half of what is free. Less takes more products.
        progress: show a line; by default where it takes long and a terminal is watching.

    Raises:
        HesseTypeError: no matrix, or an argument of another type.
        HesseValueError: k is larger than the matrix, the matrix is not symmetric, or a name or a
            number that cannot be used.
        HesseMemoryError: memory for fewer than k + 7 vectors.

    Examples:
        >>> import torch, hesse
        >>> found = hesse.eigenpairs(torch.diag(torch.tensor([1.0, -4.0, 2.0])), 2)
        >>> found.values
        tensor([2., 1.])
        >>> hesse.eigenpairs(torch.diag(torch.tensor([1.0, -4.0])), which="magnitude").values
        tensor([-4.])
    """
    k = require_integer(k, "k", 1)
    require_word(which, "which", get_args(Which))
    tolerance = require_positive(tolerance, "tolerance")
    most = _PRODUCTS if products is None else require_integer(products, "products", 1)
    if not isinstance(start, Eigenpairs | Tensor | None):
        raise HesseTypeError(
            "start: expected what hesse.eigenpairs gave, or vectors as the columns of a tensor,"
            f" got {type(start).__name__}"
        )
    if start is not None and by is not None:
        raise HesseValueError("start, by: an earlier result is one part's; leave one of them out")
    require_progress(progress)
    seed = require_seed(seed)
    memory = None if memory is None else require_memory(memory)

    def answer(subject: Subject) -> Eigenpairs:
        many = k if by is None else min(k, subject.size)
        return eigenpairs_of(
            subject,
            many,
            which,
            tolerance=tolerance,
            start=start,
            products=most,
            seed=seed,
            memory=memory,
            progress=progress,
        )

    return answered(what, curvature, by, memory, answer)


def eigenpairs_of(
    subject: Subject,
    k: int,
    which: Which,
    *,
    tolerance: float,
    products: int,
    seed: int,
    memory: int | None,
    progress: bool | None,
    start: Eigenpairs | Tensor | None = None,
) -> Eigenpairs:
    """Those of what is asked about, of arguments that are checked."""
    if k > subject.size:
        raise HesseValueError(f"k: expected at most {subject.size} eigenpairs, got {k}")
    # One shows the rows of zeros, and a vector that was multiplied makes an eigenvector.
    require_integer(products, "products", k + 2)
    beginning = None if start is None else _beginning(start, subject)
    matrix = subject.matrix
    if matrix is not None and (subject.size <= ROWS or 10 * k > subject.size):
        return _decomposed(matrix, subject.layout, k, which, tolerance, 0)
    # Of so many products as rows the matrix itself is made.
    builds = products > subject.size and subject.size <= ROWS
    product = subject.products(subject.size + _ROOM if builds else products)
    found = _searched(subject, product, k, which, tolerance, beginning, seed, memory, progress)
    if found.converged or not builds:
        return found
    return _decomposed(subject.exact(), subject.layout, k, which, tolerance, found.products)


def _decomposed(
    matrix: Matrix, layout: Layout, k: int, which: Which, tolerance: float, spent: int
) -> Eigenpairs:
    """By LAPACK, after so many products."""
    found = eigh(matrix.entries)
    places = wanted(found.values.cpu(), k, which).to(found.values.device)
    values, vectors = found.values[places], found.vectors[:, places]
    scale = float(found.values.abs().max())
    # Squares of what is very large are no numbers.
    residuals = (matrix.entries @ vectors - vectors * values).div_(scale or 1.0).norm(dim=0) * scale
    return Eigenpairs(
        values,
        residuals,
        spent + matrix.products,
        True,
        f"by LAPACK, {matrix.how}",
        layout,
        _rounded(residuals, tolerance, scale),
        vectors.T.contiguous(),
        None,
    )


@enough_memory("hold fewer vectors with memory=, or ask for fewer eigenpairs")
def _searched(
    subject: Subject,
    product: Products,
    k: int,
    which: Which,
    tolerance: float,
    beginning: Tensor | None,
    seed: int,
    memory: int | None,
    progress: bool | None,
) -> Eigenpairs:
    """By Lanczos' method."""
    random = torch.Generator("cpu").manual_seed(seed)
    # A random vector shows which rows are zeros.
    drawn = random_vectors(1, product.like.new_empty(subject.size), random)[0]
    first = product(drawn)
    # Zero is an eigenvalue too, and may be asked for so often.
    if rows := Rows.of_product(first, k + 1):
        product.kept = rows
        first, drawn = rows.taken(first), rows.taken(drawn)
        beginning = None if beginning is None else rows.taken(beginning)
    most = _held(first, k, allowed_memory(memory, first.device))
    if fresh := beginning is None:
        # What was drawn has a part along every eigenvector, its product more of the large ones.
        beginning = drawn + first * (drawn.norm() / (first.norm() or 1.0))
        beginning = beginning[None]
    elif 2 * len(beginning) + _ROOM > most:
        # Every one of them may leave something over; their sum has a part along each.
        beginning = beginning.sum(0, keepdim=True)
    with StatusLine(progress) as line:

        def show(found: int) -> None:
            if line.due:
                line.show(f"eigenpairs: {found} of {k} found, {product.count} products")

        least = _ROUNDINGS * torch.finfo(first.dtype).eps
        search = Lanczos(product, first, k, which, most, max(tolerance, least), random, show)
        vectors = search.run(beginning, drawn=fresh)
    values, residuals = _held_against(product, vectors, search.values, search.residuals)
    largest = float(residuals.max()) / (search.scale or 1.0)
    found = search.found and largest <= max(tolerance, _LOST * least)
    notes = _rounded(residuals, tolerance, search.scale)
    if not search.found:
        notes = (f"{product.count} products did not do; start= this result goes on from here",)
    elif not found:
        notes = (
            f"residuals up to {largest:.1e} of the largest |λ|, where {tolerance:.0e} was asked"
            " for, which rounding hid from the search; start= this result goes on from here",
        )
    return Eigenpairs(
        product.unit * values,
        product.unit * residuals,
        product.count,
        found,
        "by Lanczos' method",
        subject.layout,
        notes,
        vectors,
        rows,
    )


def _held_against(
    product: Products,
    rows: Float[Tensor, "k S"],
    values: Float[Tensor, " k"],
    residuals: Float[Tensor, " k"],
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Values and residuals as the recursion has them, where one more product bears them out; else
    each from a product of its own.

    With signs c drawn for it, A Σ c v − Σ c λ v = Σ c r is as long as all residuals r together, in
    the mean of its square.
    """
    values, residuals = values.to(rows), residuals.to(rows)
    signs = random_vectors(1, values, torch.Generator("cpu").manual_seed(len(rows)))[0].sign()
    left = product(signs @ rows) - (signs * values) @ rows
    if length(left) <= _BORNE_OUT * float(residuals.norm()):
        return values, residuals
    for place, row in enumerate(rows):
        multiplied = product(row)
        values[place] = inner_product(row, multiplied)
        residuals[place] = length(multiplied - values[place] * row)
    return values, residuals


def _held(like: Float[Tensor, " S"], k: int, allowed: int) -> int:
    """How many vectors are held, in so many bytes."""
    size = len(like)
    each = max(1, size * like.itemsize)
    factor, more = _HELD
    most = min(factor * k + more, allowed // each - _BESIDE)
    if most >= size:
        return size + 1
    if most < k + _ROOM:
        raise HesseMemoryError(
            f"memory: {k} eigenpairs take {k + _ROOM + _BESIDE} vectors of"
            f" {readable_bytes(each)}, and {readable_bytes(allowed)} are there for them; ask for"
            " fewer, or give more with memory="
        )
    return most


def _beginning(start: Eigenpairs | Tensor, subject: Subject) -> Float[Tensor, "K P"]:
    """Vectors to begin from, as rows."""
    given = start.vectors if isinstance(start, Eigenpairs) else start
    if given.ndim != 2 or given.shape[0] != subject.size or not given.is_floating_point():
        raise HesseValueError(
            f"start: expected vectors of {subject.size} entries as columns, got"
            f" {given.dtype} of shape {tuple(given.shape)}"
        )
    if not bool(given.isfinite().all()):
        raise HesseValueError("start: has entries that are not finite (nan or inf)")
    return given.T.detach().to(subject.form)


def _rounded(residuals: Tensor, tolerance: float, scale: float) -> tuple[str, ...]:
    """What is said where rounding decides how small residuals are."""
    largest = float(residuals.max()) if len(residuals) else 0.0
    if largest <= tolerance * scale:
        return ()
    dtype = str(residuals.dtype).removeprefix("torch.")
    more = "; float64 decides more" if residuals.dtype != torch.float64 else ""
    return (
        f"residuals up to {largest / scale:.1e} of the largest |λ|, where {tolerance:.0e} was asked"
        f" for: that is rounding, in products of {dtype}{more}",
    )
