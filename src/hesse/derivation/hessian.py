"""The whole Hessian of a derivation: its blocks as one matrix, and as one function."""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy
import torch

from hesse.derivation.code.module import hessian_module
from hesse.derivation.formula import BlockFormula
from hesse.display import Display, Displayed, counted
from hesse.errors import HesseMemoryError, readable_bytes
from hesse.process.memory import available_bytes
from hesse.words import BackendName, ReadingName

if TYPE_CHECKING:
    from hesse.derivation.derivation import Derivation

_ASKED = 1 << 28  # bytes; whether less than that fits is left to the system


@dataclass(frozen=True, repr=False)
class DerivedHessian(Displayed):
    """H of all parameters, in the order of the derivation, each counted row by row.

    Made by `hesse.Derivation.hessian`.

    Attributes:
        derivation: whose blocks it is made of.
    """

    derivation: "Derivation"

    def __str__(self) -> str:
        return self.text()

    def _display(self) -> Display:
        from hesse.derivation.show import screen

        names = self.derivation.parameters
        return Display(
            "DerivedHessian",
            f"{counted(len(names) * (len(names) + 1) // 2, 'block')} of {', '.join(names)}",
            screen.results(self.derivation),
            next=("print(h)", "h.blocks()", "h.evaluate()", "h.python()"),
        )

    def blocks(self) -> tuple[BlockFormula, ...]:
        """Those on and above the diagonal, row by row; those below are their transposes."""
        names = self.derivation.parameters
        pairs = ((a, b) for k, a in enumerate(names) for b in names[k:])
        return tuple(self.derivation.block(*pair) for pair in pairs)

    def text(self, reading: ReadingName | str = "indices") -> str:
        """What each block comes to, without its lines; ``reading`` as in
        `hesse.Derivation.text`."""
        from hesse.derivation.show import text

        return text.results([block.block for block in self.blocks()], self.derivation, reading)

    def html(self) -> str:
        """The page of the derivation, which has all its blocks, as `hesse.Derivation.html`.

        Raises:
            HesseImportError: the extra ``html`` is not installed.
        """
        return self.derivation.html()

    def evaluate(self, **arrays: Any) -> Any:
        """H at given leaves, of shape (P, P), exactly symmetric.

        Args:
            **arrays: as of `hesse.Formula.evaluate`.

        Raises:
            HesseMemoryError: the matrix would not fit.

        Examples:
            >>> import numpy, hesse
            >>> d = hesse.derive("a*b**2", wrt=["a", "b"])
            >>> d.hessian().evaluate(a=2.0, b=3.0)
            array([[0., 6.],
                   [6., 4.]])
        """
        blocks = self.blocks()
        shapes: dict[str, tuple[int, ...]] = {}
        found = {}
        for block in blocks:
            array = block.evaluate(**arrays)
            axes = len(block.rows.indices)
            shapes[block.rows.name], shapes[block.columns.name] = (
                tuple(array.shape[:axes]),
                tuple(array.shape[axes:]),
            )
            found[block.rows.name, block.columns.name] = array
        ends, places = 0, {}
        for name in self.derivation.parameters:
            places[name] = slice(ends, ends := ends + prod(shapes[name]))
        first = next(iter(found.values()))
        _require_room(ends * ends * first.dtype.itemsize, ends)
        whole = (
            first.new_zeros(ends, ends)
            if isinstance(first, torch.Tensor)
            else numpy.zeros((ends, ends), first.dtype)
        )
        for (rows, columns), array in found.items():
            matrix = array.reshape(prod(shapes[rows]), -1)
            if rows == columns:
                # What is symmetric by symmetry alone is so up to rounding.
                matrix = (matrix + matrix.T) / 2
            whole[places[rows], places[columns]] = matrix
            whole[places[columns], places[rows]] = matrix.T
        return whole

    def python(self, backend: BackendName | str = "numpy", name: str = "hessian") -> str:
        """A standalone module: a function for each block, and one that puts them together.

        Args:
            backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
            name: of the function of the whole.

        Raises:
            HesseValueError: a block needs an operation of a model that has no formula.

        Examples:
            >>> import hesse, numpy
            >>> d = hesse.derive("a*b**2", wrt=["a", "b"])
            >>> space = {}
            >>> exec(d.hessian().python(), space)
            >>> space["hessian"](*numpy.array([2.0, 3.0])).tolist()
            [[0.0, 6.0], [6.0, 4.0]]
        """
        return hessian_module(self.blocks(), self.derivation.parameters, backend, name)


def _require_room(size: int, parameters: int) -> None:
    if size > _ASKED and size > (free := available_bytes(torch.device("cpu"))):
        raise HesseMemoryError(
            f"hessian: the matrix of {parameters:,} parameters takes {readable_bytes(size)}, and"
            f" {readable_bytes(free)} are free; a product H v is product(name)"
        )
