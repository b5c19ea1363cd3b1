"""Blocks of a symmetric matrix by the names of two parameters, read like a dictionary and like a
matrix."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError
from hesse.layout import Layout
from hesse.linear_operators.absent import NoArithmetic, absent_of_array, refuse_scipy
from hesse.matrix import frames
from hesse.matrix.entries import Entries, Pair
from hesse.matrix.indexing import ranges_of
from hesse.process.memory import require_free
from hesse.words.shapes import Float

if TYPE_CHECKING:
    import pandas
    import xarray

# What makes a pattern of a name.
_WILD = set("*?[")


class BlocksByName(NoArithmetic):
    """What is read of a Hessian: blocks by name, parts of them, the whole matrix, its diagonal.

    Attributes:
        layout: the parameters, in order.
        entries: the entries, wherever they are.
    """

    layout: Layout
    entries: Entries

    _no_number = (
        "H: a Hessian by blocks has products alone, H @ v; take the whole matrix, H.dense() or"
        " np.asarray(H), or an operator, hesse.as_operator(H)"
    )

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
        refuse_scipy("H")
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

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P), of the whole matrix, whichever blocks of it are held."""
        return self.layout.size, self.layout.size

    @property
    def T(self) -> Self:
        """H itself: it is symmetric."""
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole matrix for NumPy, and for what takes NumPy's arrays; read-only where it is not
        a copy.

        Raises:
            HesseValueError: some blocks were not computed.
        """
        matrix = self.dense().detach().cpu().numpy()
        matrix.flags.writeable = False
        return np.array(matrix, dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        """The whole matrix for PyTorch: ``torch.as_tensor(H)`` is ``H.dense()``."""
        return self.dense().detach().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.dense().__dlpack_device__()

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """The whole matrix for PyTorch's functions: ``torch.linalg.eigvalsh(H)``, ``torch.mv(H,
        v)``."""
        # A tensor's own operators, v @ H, are left to those of this class.
        if hasattr(function, "__objclass__"):
            return NotImplemented
        args, kwargs = tree_map(
            lambda part: part.dense() if isinstance(part, BlocksByName) else part,
            (tuple(args), dict(kwargs or {})),
        )
        return function(*args, **kwargs)

    if not TYPE_CHECKING:  # which is to see what is not there

        def __getattr__(self, name: str) -> NoReturn:
            raise absent_of_array(self, name, "H.dense()", "H.to_pandas()")

    def __iter__(self) -> Iterator[Pair]:
        """The pairs that are held."""
        return map(_Names, self.pairs)

    def __len__(self) -> int:
        """How many blocks are held; of rows there are ``H.shape[0]``."""
        return len(self.pairs)

    def __contains__(self, pair: object) -> bool:
        """Whether ``H[a, b]`` can be asked for, in either order."""
        if not isinstance(pair, tuple) or not all(isinstance(name, str) for name in pair):
            return False
        return pair in self.pairs or pair[::-1] in self.pairs

    def keys(self) -> tuple[Pair, ...]:
        """The pairs that are held, so that ``dict(H)`` has the blocks."""
        return self.pairs

    def get(self, pair: Any, default: Any = None) -> Any:
        """``H[a, b]``, or the default where that pair is not held."""
        if pair in self:
            return self[pair]
        return default

    def values(self) -> Iterator[Tensor]:
        """The blocks that are held, each when it comes to be its turn."""
        return (self[pair] for pair in self.pairs)

    def items(self) -> Iterator[tuple[Pair, Tensor]]:
        """Each pair that is held with its block."""
        return ((pair, self[pair]) for pair in self.pairs)

    def __getitem__(self, pair: Any) -> Float[Tensor, "..."]:
        """One block, of shape (*a.shape, *b.shape): a view, or read from the disk. ``H[b, a]`` is
        the transpose of ``H[a, b]``, and ``H[a, b, 0, 3:5]`` is ``H[a, b][0, 3:5]``, of which no
        more is read than these.

        Where a name is a pattern (``"2.*"``) or a list of names and patterns, the rows and columns
        of all that match, in layout order, as one matrix.

        Raises:
            HesseKeyError: an unknown name, a pattern that nothing matches, or a pair that was not
                computed.
            HesseValueError: an index that is neither a whole number nor a slice, or beyond the
                block.
        """
        if not (isinstance(pair, tuple) and len(pair) >= 2) or isinstance(pair[0], int | slice):
            raise HesseTypeError(
                f"H[...]: a block is named by two parameters, H['a', 'b']; got {pair!r:.60}; rows"
                " and columns by their numbers are those of H.dense()"
            )
        a, b, *index = pair
        layout = self.layout
        if not index and (self._are_several(a) or self._are_several(b)):
            return self._between(layout.matching(a), layout.matching(b))
        shapes = layout.shape(a), layout.shape(b)
        rows, columns, inner = ranges_of(shapes, tuple(index))
        return self._part(a, b, rows, columns).reshape(inner.shape)[inner.taken]

    def _are_several(self, names: Any) -> bool:
        """Whether it is no one name: a bracket is part of some."""
        return isinstance(names, list | tuple) or (
            isinstance(names, str) and names not in self.layout.offsets and bool(_WILD & set(names))
        )

    def _between(self, rows: Layout, columns: Layout) -> Tensor:
        return torch.cat(
            [torch.cat([self.flat(a, b) for b in columns.names], 1) for a in rows.names]
        )

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
            f"H[{a!r}, {b!r}] was not computed; those that were: {listed(self.pairs)}"
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

    def to_pandas(self) -> "pandas.DataFrame":
        """The whole matrix as a table, its rows and columns named by parameter and index. Needs
        pandas (``pip install "hesse[frames]"``).

        Raises:
            HesseValueError: some blocks were not computed.
            HesseImportError: pandas is not installed.

        Examples:
            >>> import torch, hesse
            >>> layout = hesse.Layout(("w", "b"), ((2,), ()))
            >>> hesse.BlockHessian(layout, matrix=torch.eye(3)).to_pandas()
            parameter          w         b
            index              0    1
            parameter index
            w         0      1.0  0.0  0.0
                      1      0.0  1.0  0.0
            b                0.0  0.0  1.0
        """
        return frames.data_frame(self)

    def to_xarray(self) -> "xarray.DataArray":
        """The whole matrix as an array with dimensions ``row`` and ``column``; the coordinates
        ``row_parameter``, ``row_index`` and those of the columns name the entries. Needs xarray
        (``pip install "hesse[frames]"``).

        Raises:
            HesseValueError: some blocks were not computed.
            HesseImportError: xarray is not installed.
        """
        return frames.data_array(self)

    def diagonal(self) -> dict[str, Tensor]:
        """∂²J/∂θ_i² by parameter name, each of its parameter's shape.

        Raises:
            HesseValueError: a parameter's own block was not computed.
        """
        names = self.layout.names
        missing = [(name, name) for name in names if (name, name) not in self.pairs]
        if missing:
            raise HesseValueError(
                f"diagonal(): not computed: {listed(missing)}; hesse.diagonal(cost) gives them all"
            )
        entries = {name: self.entries.diagonal(name) for name in names}
        return {name: entries[name].reshape(self.layout.shape(name)) for name in names}

    def _raise_incomplete(self, what: str) -> NoReturn:
        missing = [
            pair
            for pair in combinations_with_replacement(self.layout.names, 2)
            if pair not in self.pairs
        ]
        raise HesseValueError(
            f"{what} needs blocks that were not computed: {listed(missing)}; "
            "hesse.hessian(cost) without pairs= and block_diagonal= computes all of them"
        )


class _Names(tuple[str, str]):
    """A pair, which ``sum(H)`` would add to a number."""

    __slots__ = ()

    def __radd__(self, other: Any) -> Any:
        if isinstance(other, tuple):
            return other + tuple(self)
        raise HesseTypeError(
            "sum(H): H goes by the names of its blocks, which have no sum; that of the entries is"
            " H.dense().sum(), and that of some is H['a', 'b'].sum()"
        )


def listed(pairs: tuple[Pair, ...] | list[Pair]) -> str:
    """The first few pairs, and how many more."""
    more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    return ", ".join(f"({a!r}, {b!r})" for a, b in pairs[:4]) + more
