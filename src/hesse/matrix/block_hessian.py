"""The Hessian as a value: one symmetric matrix, or some of its blocks, by parameter name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, final, overload

import numpy as np
import torch
from torch import Tensor

from hesse.certificates.certificate import Certificate
from hesse.display import Display, Displayed
from hesse.errors import (
    HesseTypeError,
    HesseValueError,
    require_instance,
    require_mapping,
    require_strided,
    require_word,
)
from hesse.layout import Layout
from hesse.matrix import eigensolver, saving, spectrum, tables
from hesse.matrix.by_name import BlocksByName, listed
from hesse.matrix.entries import Entries, InMemory, Pair
from hesse.matrix.spectrum import Eigen, Inertia
from hesse.process.undisturbed import undisturbed
from hesse.words.shapes import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hesse.plot.heat_map import HeatMap
    from hesse.plot.norm_map import NormMap


@final
@dataclass(frozen=True, eq=False, init=False, repr=False)
class BlockHessian(Displayed, BlocksByName):
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

    Examples:
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
        certificate  none: not certified
        next         H["w", "b"], H.dense(), H.eigh(), H.inertia(), H.norms, H.plot(),
                         H.save("h.safetensors")
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
        if matrix is not None:
            require_strided(matrix, "matrix")
        if not isinstance(blocks, Mapping | None) or not all(
            isinstance(pair, tuple) and len(pair) == 2 and isinstance(block, Tensor)
            for pair, block in (blocks or {}).items()
        ):
            raise HesseTypeError(
                "blocks: expected a dictionary {(a, b): Tensor} by two names of parameters, got"
                f" {type(blocks).__name__}"
            )
        blocks = dict(blocks or {})
        for block in blocks.values():
            require_strided(block, "blocks")
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
        if not isinstance(entries, Entries):
            raise HesseTypeError(
                "entries: expected H.entries of a Hessian, computed or loaded, got"
                f" {type(entries).__name__}"
            )
        require_mapping({} if provenance is None else provenance, "provenance", str, "text")
        if certificate is not None:
            require_instance(certificate, Certificate, "certificate", "H.certificate")
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

    @overload
    def __matmul__(self, v: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, v: Mapping[str, Tensor]) -> dict[str, Tensor]: ...
    @overload
    def __matmul__(self, v: np.ndarray) -> np.ndarray: ...
    @undisturbed()
    def __matmul__(self, v: Any) -> Any:
        """H v, for a flat vector (P,), a matrix (P, K), a dictionary by parameter name, or an array
        of NumPy's; the result is of the same kind.

        Where only the block diagonal is held, the product is with the block-diagonal matrix.

        Raises:
            HesseValueError: v has another size or dtype, or only some other blocks are held.
        """
        if isinstance(v, Mapping):
            return self.layout.unflatten(self @ self.layout.flatten(v))
        if isinstance(v, np.ndarray):
            if v.dtype.name != _dtype(self.entries):
                raise HesseTypeError(
                    f"H @ v: H is {_dtype(self.entries)} and v is {v.dtype}; pass"
                    f" v.astype({_dtype(self.entries)!r})"
                )
            return (self @ torch.tensor(v, device=self.device)).cpu().numpy()
        if not isinstance(v, Tensor):
            raise HesseTypeError(
                "H @ v: expected a tensor, a dictionary of tensors or a NumPy array, got"
                f" {type(v).__name__}"
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

    def __rmatmul__(self, u: Any) -> Any:
        """u H = (H uᵀ)ᵀ, for a vector (P,) or a matrix (K, P)."""
        return (self @ u.T).T if getattr(u, "ndim", 1) == 2 else self @ u

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """The whole matrix for NumPy's functions, ``np.abs(H)``, ``np.sum(H)``; a product is that
        by blocks, and arithmetic is refused as it is without NumPy."""
        if function is np.matmul and method == "__call__" and len(inputs) == 2 and not options:
            a, b = inputs
            return a.__matmul__(b) if isinstance(a, BlockHessian) else self.__rmatmul__(a)
        if method == "__call__" and function.nin == 2:
            self._refuse_arithmetic()
        inputs = tuple(np.asarray(x) if isinstance(x, BlockHessian) else x for x in inputs)
        return getattr(function, method)(*inputs, **options)

    def eigh(self) -> Eigen:
        """Eigenvalues in ascending order and eigenvectors as columns, H = V diag(λ) Vᵀ.

        Computed once and kept: another P² entries for as long as this object lives, and up to 3 P²
        more while LAPACK runs. `eigvalsh` keeps only P. Of more than 4,000 rows a terminal is told
        before how long it takes, and in how many bytes.

        Raises:
            HesseValueError: some blocks were not computed, or an entry is not finite.
            HesseMemoryError: there is not the memory for it.

        Examples:
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
            raise HesseValueError(f"H has entries that are not finite, in the blocks {listed(bad)}")
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
        """Write it to a file, whole or not at all.

        The name says the format: ``.safetensors`` (or no ending), with its layout, provenance and
        certificate, or a new store ``.zarr``, which `hesse.load` reads back; ``.npz``, each block
        under ``"a,b"``, and ``.csv``, a table of up to 1,000 rows, are for others to read.

        Raises:
            HesseTypeError, HesseValueError: the path is none, ends in another format, or the matrix
                is not symmetric.
            HesseFileError: the file cannot be written.

        Examples:
            >>> import tempfile, numpy, torch, hesse
            >>> H = BlockHessian(hesse.Layout(("w", "b"), ((2,), (1,))), matrix=torch.eye(3))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     H.save(f"{folder}/h.npz")
            ...     numpy.load(f"{folder}/h.npz")["w,b"].shape
            (2, 1)
        """
        saving.save(self, path)

    @overload
    def plot(
        self, ax: "Axes | None" = None, *, by: Literal["entry"] = "entry", **style: Any
    ) -> "HeatMap": ...
    @overload
    def plot(
        self, ax: "Axes | None" = None, *, by: Literal["parameter", "layer"], **style: Any
    ) -> "NormMap": ...
    def plot(self, ax: "Axes | None" = None, *, by: str = "entry", **style: Any) -> Any:
        """Draw the heat map of the entries, with layer borders and names, or of the norms of
        blocks. Needs matplotlib (``pip install 'hesse[plot]'``).

        Args:
            ax: where to draw, Matplotlib's; new axes by default.
            by: ``"entry"``, a `hesse.HeatMap`; ``"parameter"`` or ``"layer"``, a `hesse.NormMap`.
            **style: Matplotlib's keywords for an image, such as ``cmap="PuOr"``.

        Raises:
            HesseImportError: matplotlib is not installed.
            HesseTypeError, HesseValueError: no axes, or a keyword or a value that cannot be used.
        """
        from hesse.plot.heat_map import HeatMap
        from hesse.plot.norm_map import NormMap

        require_word(by, "by", ("entry", "parameter", "layer"))
        picture = HeatMap.from_hessian(self) if by == "entry" else NormMap.from_hessian(self, by)
        return picture.plot(ax, **style)

    # Norms are computed once; printing a large Hessian again costs nothing.
    def _display(self) -> Display:
        return tables.display(self)

    @property
    def summary(self) -> str:
        """One line: size, dtype, device, which blocks, bytes."""
        return f"BlockHessian: {tables.summary(self)}"

    def with_certificate(self, certificate: Certificate) -> "BlockHessian":
        """The same numbers, certified."""
        return BlockHessian.of(self.entries, self.provenance, certificate)


def _dtype(held: Tensor | Entries) -> str:
    return str(held.dtype).removeprefix("torch.")
