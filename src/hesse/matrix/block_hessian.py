"""The Hessian as a value: one symmetric matrix, or some of its blocks, by parameter name."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import combinations_with_replacement
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn, final, overload

import torch
from jaxtyping import Float
from torch import Tensor

from hesse.certificates.certificate import Certificate
from hesse.errors import (
    HesseKeyError,
    HesseTypeError,
    HesseValueError,
    require_instance,
    require_mapping,
)
from hesse.layout import Layout
from hesse.matrix import eigensolver, spectrum, storage, tables
from hesse.matrix.entries import Entries, InMemory, Pair
from hesse.matrix.indexing import ranges_of
from hesse.matrix.spectrum import Eigen, Inertia
from hesse.process.files import require_path
from hesse.process.memory import require_free
from hesse.process.undisturbed import undisturbed
from hesse.store.archive import names_store
from hesse.store.saving import save_store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hesse.plot.heat_map import HeatMap


@final
@dataclass(frozen=True, eq=False, init=False, repr=False)
class BlockHessian:
    """H[a, b] = ∂²J/∂a∂b for the parameters of a layout.

    It holds either the whole (P, P) matrix or chosen blocks of it, and never copies what it is
    given: what it returns are views wherever that is possible, so treat them as read-only.

    Args:
        layout: the parameters, in order.
        matrix: the whole matrix (P, P), exactly symmetric.
        blocks: or some of it, ``{(a, b): (size_a, size_b)}`` with a not after b in the layout.
        provenance: what it was computed from, as text; kept in the file that `save` writes.
        certificate: what it was held against; kept likewise. ``None`` where it was not.

    Raises:
        HesseValueError: neither or both of matrix and blocks, or shapes that do not fit the layout.

    Example:
        >>> import torch
        >>> from hesse.layout import Layout
        >>> layout = Layout(("w", "b"), ((2,), (1,)))
        >>> H = BlockHessian(layout, matrix=torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0,
        ...     0.0, -1.0]]))
        >>> H["w", "b"].shape
        torch.Size([2, 1])
        >>> H.inertia()
        Inertia(negative=1, undecided=0, positive=2)
        >>> H
        BlockHessian: P = 3, 2 parameters, float32 on cpu, all blocks (36 B)
        Frobenius norm of each block:
           parameter  shape     0  1
        0  w          (2,)   3.16  0
        1  b          (1,)         1
        not certified
    """

    layout: Layout
    entries: Entries
    provenance: Mapping[str, str] = field(default_factory=dict)
    certificate: Certificate | None = None

    def __init__(
        self,
        layout: Layout,
        *,
        matrix: Tensor | None = None,
        blocks: Mapping[Pair, Tensor] | None = None,
        provenance: Mapping[str, str] | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        if (matrix is None) == (blocks is None):
            raise HesseValueError(
                "BlockHessian: give either matrix= (all blocks) or blocks= (some of them)"
            )
        # Checked here once, so that nothing below has to.
        require_instance(layout, Layout, "layout", "cost.layout, or hesse.Layout(names, shapes)")
        require_mapping({} if provenance is None else provenance, "provenance", str, "text")
        if certificate is not None:
            require_instance(certificate, Certificate, "certificate", "H.certificate")
        if not isinstance(matrix, Tensor | None):
            raise HesseTypeError(f"matrix: expected a tensor, got {type(matrix).__name__}")
        if not isinstance(blocks, Mapping | None) or not all(
            isinstance(pair, tuple) and len(pair) == 2 and isinstance(block, Tensor)
            for pair, block in (blocks or {}).items()
        ):
            raise HesseTypeError(
                "blocks: expected a dictionary {(a, b): Tensor} by two names of parameters, got"
                f" {type(blocks).__name__}"
            )
        blocks = dict(blocks or {})
        if len(layout.names) == 1 and blocks:  # the one block is the whole matrix
            matrix = blocks.pop((layout.names[0], layout.names[0]), None)
        if matrix is not None and tuple(matrix.shape) != (layout.size, layout.size):
            raise HesseValueError(
                f"matrix: expected shape {(layout.size, layout.size)} for this layout, got"
                f" {tuple(matrix.shape)}"
            )
        for (a, b), block in blocks.items():
            if layout.index(a) > layout.index(b):
                raise HesseValueError(
                    f"blocks: {a!r} comes after {b!r} in the layout; give the pair as {(b, a)},"
                    " transposed"
                )
            expected = (layout.sizes[a], layout.sizes[b])
            if tuple(block.shape) != expected:
                raise HesseValueError(
                    f"blocks: {(a, b)} has shape {tuple(block.shape)}, expected {expected}"
                )
        if matrix is None and not blocks:
            raise HesseValueError("blocks: expected at least one block, got none")
        if len({(block.dtype, block.device) for block in blocks.values()}) > 1:
            raise HesseValueError("blocks: expected one dtype and one device for all blocks")
        self._set(InMemory(layout, matrix, blocks), dict(provenance or {}), certificate)

    @staticmethod
    def of(
        entries: Entries,
        provenance: Mapping[str, str] | None = None,
        certificate: Certificate | None = None,
    ) -> "BlockHessian":
        """The Hessian of entries wherever they are; `hesse.load` gives one on a disk."""
        made = object.__new__(BlockHessian)
        made._set(entries, dict(provenance or {}), certificate)
        return made

    # A frozen dataclass with a constructor of its own sets its fields so.
    def _set(
        self, entries: Entries, provenance: dict[str, str], certificate: Certificate | None
    ) -> None:
        values = {"layout": entries.layout, "entries": entries, "certificate": certificate}
        for name, value in {**values, "provenance": provenance}.items():
            object.__setattr__(self, name, value)

    # What was computed from the blocks is computed again: eigenvectors are as many as the entries.
    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def matrix(self) -> Tensor | None:
        """The whole matrix (P, P), where it is in memory."""
        return self.entries.matrix

    @property
    def blocks(self) -> Mapping[Pair, Tensor]:
        """Otherwise the blocks, (size of a, size of b) by pair; from a disk each is read when it is
        asked for."""
        return self.entries.blocks

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the entries."""
        return self.entries.dtype

    @property
    def device(self) -> torch.device:
        """Where the entries lie, or come to lie when they are read."""
        return self.entries.device

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs (a, b) that are held, a not after b in the layout. Their transposes are there
        too."""
        return self.entries.pairs

    @property
    def is_complete(self) -> bool:
        """Whether every block is held."""
        count = len(self.layout.names)
        return len(self.pairs) == count * (count + 1) // 2

    @property
    def is_block_diagonal(self) -> bool:
        """Whether what is held is each parameter's own block, and nothing else."""
        return self.pairs == tuple((name, name) for name in self.layout.names)

    def __getitem__(self, pair: Any) -> Float[Tensor, "..."]:
        """One block, of shape (*a.shape, *b.shape): a view, or read from the disk. ``H[b, a]`` is
        the transpose of ``H[a, b]``, and ``H[a, b, 0, 3:5]`` is ``H[a, b][0, 3:5]``, of which no
        more is read than these.

        Raises:
            HesseKeyError: an unknown name, or a pair that was not computed.
            HesseValueError: an index that is neither a whole number nor a slice, or beyond the
                block.
        """
        if not (isinstance(pair, tuple) and len(pair) >= 2):
            raise HesseTypeError(
                f"H[...]: a block is named by two parameters, H['a', 'b']; got {pair!r}"
            )
        a, b, *index = pair
        layout = self.layout
        shapes = layout.shape(a), layout.shape(b)
        rows, columns, inner = ranges_of(shapes, tuple(index))
        return self._part(a, b, rows, columns).reshape(inner.shape)[inner.taken]

    def flat(self, a: str, b: str) -> Float[Tensor, "A B"]:
        """One block as a matrix (size of a, size of b): a view, or read from the disk."""
        sizes = self.layout.slice(a), self.layout.slice(b)
        rows, columns = (slice(0, part.stop - part.start) for part in sizes)
        return self._part(a, b, rows, columns)

    def _part(self, a: str, b: str, rows: slice, columns: slice) -> Tensor:
        if (a, b) in self.entries.pairs:
            return self.entries.part((a, b), rows, columns)
        if (b, a) in self.entries.pairs:
            return self.entries.part((b, a), columns, rows).mT
        raise HesseKeyError(
            f"H[{a!r}, {b!r}] was not computed; those that were: {_listed(self.pairs)}"
        )

    def dense(self) -> Float[Tensor, "P P"]:
        """The whole matrix (P, P), exactly symmetric, in layout order; the one that is held, not a
        copy.

        Raises:
            HesseValueError: some blocks were not computed.
            HesseMemoryError: it is on a disk, and there is not the memory for it.
        """
        if self.matrix is not None:
            return self.matrix
        if not self.is_complete:
            self._raise_incomplete("dense()")
        size, offsets = self.layout.size, self.layout.offsets
        if self.device.type == "cpu":
            require_free(size**2 * self.dtype.itemsize, "dense()")
        matrix = torch.empty(size, size, dtype=self.dtype, device=self.device)
        # Of the upper triangle; the lower one is written from the same numbers, so that the matrix
        # is exactly symmetric.
        for piece in self.entries.pieces():
            a, b = (offsets[name] for name in piece.pair)
            rows = slice(a + piece.rows.start, a + piece.rows.stop)
            columns = slice(b + piece.columns.start, b + piece.columns.stop)
            matrix[rows, columns] = piece.values
            matrix[columns, rows] = piece.values.mT
        return matrix

    def diagonal(self) -> dict[str, Tensor]:
        """∂²J/∂θ_i² by parameter name, each of its parameter's shape.

        Raises:
            HesseValueError: a parameter's own block was not computed.
        """
        names = self.layout.names
        missing = [(name, name) for name in names if (name, name) not in self.pairs]
        if missing:
            raise HesseValueError(
                f"diagonal(): not computed: {_listed(missing)}; hesse.diagonal(cost) gives them all"
            )
        entries = {name: self.entries.diagonal(name) for name in names}
        return {name: entries[name].reshape(self.layout.shape(name)) for name in names}

    @overload
    def __matmul__(self, v: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, v: Mapping[str, Tensor]) -> dict[str, Tensor]: ...
    @undisturbed()
    def __matmul__(self, v: Any) -> Any:
        """H v, for a flat vector (P,), a matrix (P, K), or a dictionary by parameter name.

        Where only the block diagonal is held, the product is with the block-diagonal matrix.

        Raises:
            HesseValueError: v has another size or dtype, or only some other blocks are held.
        """
        if isinstance(v, Mapping):
            return self.layout.unflatten(self @ self.layout.flatten(v))
        if not isinstance(v, Tensor):
            raise HesseTypeError(
                f"H @ v: expected a tensor or a dictionary of tensors, got {type(v).__name__}"
            )
        if v.ndim not in (1, 2) or v.shape[0] != self.layout.size:
            size = self.layout.size
            raise HesseValueError(
                f"H @ v: expected a vector ({size},) or a matrix ({size}, K), got shape"
                f" {tuple(v.shape)}"
            )
        if (v.dtype, v.device) != (self.dtype, self.device):
            ours, theirs = (f"{_dtype(t)} on {t.device}" for t in (self.entries, v))
            raise HesseValueError(
                f"H @ v: H is {ours} and v is {theirs}; pass v.to(H.device, H.dtype)"
            )
        if not (self.is_complete or self.is_block_diagonal):
            self._raise_incomplete("H @ v")
        return self.entries.product(v)

    def eigh(self) -> Eigen:
        """Eigenvalues in ascending order and eigenvectors as columns, H = V diag(λ) Vᵀ.

        Computed once and kept: another P² entries for as long as this object lives, and up to 2 P²
        more while LAPACK runs. `eigvalsh` keeps only P. Of more than 4,000 rows a terminal is told
        before how long it takes, and in how many bytes.

        Raises:
            HesseValueError: some blocks were not computed, or an entry is not finite.
            HesseMemoryError: there is not the memory for it.

        Example:
            >>> import torch
            >>> from hesse.layout import Layout
            >>> H = BlockHessian(Layout(("w",), ((2,),)), matrix=torch.tensor([[3.0, 0.0], [0.0,
            ...     -1.0]]))
            >>> values, vectors = H.eigh()
            >>> values
            tensor([-1.,  3.])
        """
        return self._eigen

    def eigvalsh(self) -> Float[Tensor, " P"]:
        """The eigenvalues in ascending order, computed once and kept; from `eigh` where that has
        run."""
        return self._eigenvalues

    @cached_property
    def _eigen(self) -> Eigen:
        return eigensolver.eigh(self._finite())

    @cached_property
    def _eigenvalues(self) -> Tensor:
        # Where the eigenvectors were asked for first, the values came with them.
        return (
            self._eigen.values
            if "_eigen" in self.__dict__
            else eigensolver.eigvalsh(self._finite())
        )

    def _finite(self) -> Tensor:
        """The whole matrix, checked: LAPACK's own word on a nan is about conditioning."""
        if not self.is_complete:
            self._raise_incomplete("the spectrum")
        matrix = self.dense()
        # The extremes carry any nan or inf along and, unlike isfinite, need no P² of their own.
        if matrix.numel() and not all(
            bool(extreme.isfinite()) for extreme in torch.aminmax(matrix)
        ):
            bad = [pair for pair, norm in self.norms.items() if not norm < float("inf")]
            raise HesseValueError(
                f"H has entries that are not finite, in the blocks {_listed(bad)}"
            )
        return matrix

    @property
    def tolerance(self) -> float:
        """P · eps · max|λ|: of an eigenvalue no larger than this the rounding of the eigenvalue
        solver decides."""
        return spectrum.zero_tolerance(self.eigvalsh())

    def inertia(self) -> Inertia:
        """How many eigenvalues are negative, undecided (|λ| ≤ P · eps · max|λ|) and positive."""
        return spectrum.inertia(self.eigvalsh())

    def condition_number(self) -> float:
        """max|λ| / min|λ|; infinite where rounding decides of the smallest."""
        return spectrum.condition_number(self.eigvalsh())

    @cached_property
    def norms(self) -> Mapping[Pair, float]:
        """The Frobenius norm of every block held."""
        return self.entries.norms()

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a safetensors file, with its layout and provenance, or, where the path ends
        in ``.zarr``, into a new store; `hesse.load` reads either back."""
        if names_store(require_path(path, "save")):
            save_store(self, path)
        else:
            storage.save(self, path)

    def plot(self, ax: "Axes | None" = None) -> "HeatMap":
        """Draw the heat map, with layer borders and names. Needs matplotlib (``pip install
        hesse[plot]``)."""
        from hesse.plot.heat_map import HeatMap

        return HeatMap.from_hessian(self).plot(ax)

    # Norms are computed once; printing a large Hessian again costs nothing.
    def __repr__(self) -> str:
        return "\n".join(
            [self.summary, tables.text(self), *textwrap.wrap(self.certified, tables.WIDTH)]
        )

    def _repr_html_(self) -> str:
        return tables.html(self)

    @property
    def summary(self) -> str:
        """One line: size, dtype, device, which blocks, bytes."""
        return tables.summary(self)

    def with_certificate(self, certificate: Certificate) -> "BlockHessian":
        """The same numbers, certified."""
        if certificate is not None:
            require_instance(certificate, Certificate, "certificate", "H.certificate")
        return BlockHessian.of(self.entries, self.provenance, certificate)

    @property
    def certified(self) -> str:
        """One line: what it was held against."""
        if self.certificate is not None:
            return f"certificate: {self.certificate}"
        return "not certified"

    def _raise_incomplete(self, what: str) -> NoReturn:
        missing = [
            pair
            for pair in combinations_with_replacement(self.layout.names, 2)
            if pair not in self.pairs
        ]
        raise HesseValueError(
            f"{what} needs blocks that were not computed: {_listed(missing)}; "
            "hesse.hessian(cost) without pairs= and block_diagonal= computes all of them"
        )


def _dtype(held: Tensor | Entries) -> str:
    return str(held.dtype).removeprefix("torch.")


def _listed(pairs: tuple[Pair, ...] | list[Pair]) -> str:
    """The first few pairs, and how many more."""
    more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    return ", ".join(f"({a!r}, {b!r})" for a, b in pairs[:4]) + more
