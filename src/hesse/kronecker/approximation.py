"""K-FAC of a cost as an object: what it is multiplied with, held against, and written to."""

from collections.abc import Sequence
from os import PathLike
from typing import final

import torch

from hesse.cost import Cost, require_cost
from hesse.display import Fact, facts
from hesse.errors import HesseValueError
from hesse.kronecker.comparison import Comparison, compared
from hesse.kronecker.operator import BlockwiseOperator
from hesse.kronecker.storage import Stored, load, save


@final
class KFAC(BlockwiseOperator):
    """K-FAC, EKFAC or FOOF of a cost, as an operator; made by `hesse.kfac`.

    ``K @ v`` and the algebra of operators are said at `LinearOperator`; ``K["0.weight"]`` is the
    block of a parameter as an operator, ``K.block("0.weight")`` as a matrix.

    Attributes:
        cost: the cost, with its curvature; ``None`` where it was read from a file.
        blocks: the blocks, each with its ``names``, ``left`` and ``right``.
        notes: what was not factored, and why.

    Examples:
        >>> import torch, hesse
        >>> X, y = torch.randn(8, 3), torch.ones(8).long()
        >>> layers = torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
        >>> cost = hesse.Cost(torch.nn.Sequential(*layers), "cross_entropy", (X, y))
        >>> print(hesse.kfac(cost, kind="ekfac"))
        KFAC(ekfac, expand, gauss_newton, P = 26, 2 blocks)
    """

    def __init__(self, stored: Stored, cost: Cost | None, device: torch.device) -> None:
        dtype = stored.blocks[0].dtype
        super().__init__(stored.layout, stored.blocks, stored.shift, dtype, device)
        self.cost, self.notes = cost, stored.notes
        self._words = stored.words

    @property
    def kind(self) -> str:
        """``"kfac"``, ``"ekfac"`` or ``"foof"``."""
        return self._words["kind"]

    @property
    def sharing(self) -> str:
        """``"expand"`` or ``"reduce"``."""
        return self._words["sharing"]

    def _dtype_of(self, name: str) -> torch.dtype:
        return self.dtype if self.cost is None else self.cost.parameters[name].dtype

    def compare(
        self,
        curvatures: str | Sequence[str] = ("gauss_newton", "hessian"),
        *,
        names: str | Sequence[str] | None = None,
        damping: float | None = None,
    ) -> Comparison:
        """How far each block K is from the exact one, C, of Gauss–Newton's matrix and of the
        Hessian: ‖K − C‖ / ‖C‖, the cosine between them, and the largest eigenvalue of
        (K + δ I)⁻¹ C, so many times the curvature of a direction is taken for too small.

        The exact blocks are computed as by `hesse.hessian`, and certified; they take their memory.
        A penalty is left out of both.

        Args:
            curvatures: what is exact: names of curvatures.
            names: the blocks of these parameters only, by name or pattern.
            damping: δ; by default a thousandth of a block's mean eigenvalue.

        Raises:
            HesseValueError: it was read from a file without a cost.
            HesseError: as for `hessian`.

        Examples:
            >>> import torch, hesse
            >>> X, y = torch.eye(3).repeat(2, 1).double(), torch.zeros(6, 2).double()
            >>> layers = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
            >>> cost = hesse.Cost(torch.nn.Sequential(*layers).double(), "half_sse", (X, y))
            >>> all(row.relative < 1e-12 for row in hesse.kfac(cost).compare("gauss_newton").rows)
            True
        """
        if self.cost is None:
            raise HesseValueError(
                "compare: this K-FAC was read from a file and knows no cost; give it with"
                " hesse.KFAC.load(path, cost)"
            )
        return compared(self, self.cost, curvatures, damping, names)

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a safetensors file, without its cost.

        Raises:
            HesseTypeError, HesseValueError: the path is none.
            HesseFileError: the file cannot be written.
        """
        save(path, Stored(self.layout, self.blocks, self.shift, self._words, self.notes))

    @staticmethod
    def load(path: str | PathLike[str], cost: Cost | None = None) -> "KFAC":
        """Read what `save` wrote.

        Args:
            path: of the file.
            cost: the cost that it is of, for its device, the dtypes of its parameters, and
                `compare`; by default it lies on the CPU and knows none.

        Raises:
            HesseTypeError, HesseValueError: the path is none, or the cost has other parameters.
            HesseFileError: there is no such file, or it is damaged.
        """
        stored = load(path)
        if cost is None:
            return KFAC(stored, None, torch.device("cpu"))
        require_cost(cost)
        if cost.layout != stored.layout or cost.dtype != stored.blocks[0].dtype:
            raise HesseValueError(
                f"cost: the file is of {len(stored.layout.names)} parameters in"
                f" {stored.blocks[0].dtype}, P = {stored.layout.size}, and not of this cost's"
            )
        moved = tuple(block.to(cost.device) for block in stored.blocks)
        return KFAC(stored._replace(blocks=moved), cost, cost.device)

    @property
    def _size(self) -> str:
        parts = [
            *self._words.values(),
            f"P = {self.layout.size}",
            f"{len(self.blocks)} block{'s' * (len(self.blocks) != 1)}",
            *([f"penalty {self.shift:g}"] if self.shift else []),
        ]
        return ", ".join(parts)

    def _parts_of_it(self) -> tuple[Fact, ...]:
        return facts(
            cost=None if self.cost is None else str(self.cost),
            blocks="\n".join(", ".join(block.names) for block in self.blocks),
            notes="\n".join(self.notes),
        )

    def _calls(self) -> tuple[str, ...]:
        compare = () if self.cost is None else ("K.compare()",)
        return ("K @ v", "K.inverse(damping)", "K.block(name)", *compare, "K.save(path)")
