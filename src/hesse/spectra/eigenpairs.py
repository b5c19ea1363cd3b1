"""Some eigenvalues with their eigenvectors, and how good they are."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from torch import Tensor

from hesse.display import Display, Displayed, Table, facts
from hesse.display.text import table_lines
from hesse.errors import HesseValueError, require_integer
from hesse.layout import Layout
from hesse.spectra.rows import Rows
from hesse.words.shapes import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hesse.plot.eigenvectors import Eigenvectors


@final
@dataclass(frozen=True, eq=False, repr=False)
class Eigenpairs(Displayed):
    """A V = V diag(λ), to the residuals.

    Attributes:
        values: λ, (k,): the first that was asked for first. "largest" and "both" descend,
            "smallest" ascends, "magnitude" descends by size.
        residuals: ‖A v − λ v‖ of each, held against products that were taken for it.
        products: how many products it took, with those of the residuals.
        converged: whether all residuals are within the tolerance.
        how: by what they were found.
        layout: the names of the parts of the vectors.
        notes: what fell short, and why.
    """

    values: Float[Tensor, " k"]
    residuals: Float[Tensor, " k"]
    products: int
    converged: bool
    how: str
    layout: Layout
    notes: tuple[str, ...]
    # Their entries that are not zero in all vectors, and which these are.
    _vectors: Float[Tensor, "k S"]
    _rows: Rows | None

    @cached_property
    def vectors(self) -> Float[Tensor, "P k"]:
        """The eigenvectors, orthonormal, as columns."""
        return self._whole(slice(None)).T

    def _whole(self, places: slice) -> Float[Tensor, "K P"]:
        some = self._vectors[places]
        return some if self._rows is None else self._rows.laid(some)

    def vector(self, place: int) -> dict[str, Tensor]:
        """One of them by the names of its parts, counted from 0, or from the end with -1.

        Raises:
            HesseValueError: there is none at that place.
        """
        count = len(self._vectors)
        if require_integer(place, "place", -count) >= count:
            raise HesseValueError(f"place: expected less than {count}, got {place}")
        place %= count
        return self.layout.unflatten(self._whole(slice(place, place + 1))[0])

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        name: str | None = None,
        image: tuple[int, int] | None = None,
        **style: Any,
    ) -> "Eigenvectors":
        """Draw the vectors as images where the input is one: a row for each, in it an image for
        each unit of a parameter. Needs matplotlib (``pip install 'hesse[plot]'``).

        Args:
            ax: where to draw, Matplotlib's; new axes by default.
            name, image: which parameter, and the height and the width of an input, as for
                `hesse.Eigenvectors.from_eigenpairs`.
            **style: Matplotlib's keywords for an image, such as ``cmap="PuOr"``.

        Raises:
            HesseError: as for `hesse.Eigenvectors.from_eigenpairs`, or no axes, or a keyword or a
                value that cannot be used.
        """
        from hesse.plot.eigenvectors import Eigenvectors

        return Eigenvectors.from_eigenpairs(self, name, image).plot(ax, **style)

    def __iter__(self) -> Any:
        """``values, vectors = hesse.eigenpairs(...)``."""
        return iter((self.values, self.vectors))

    def __len__(self) -> int:
        return len(self.values)

    def __str__(self) -> str:
        taken = f"{self.products} product{'s' * (self.products != 1)}, " if self.products else ""
        return "\n".join(
            [
                f"{len(self)} eigenpair{'s' * (len(self) != 1)} of {self.layout.size:,}"
                f" ({taken}{self.how}{'' if self.converged else '; not converged'})",
                *table_lines(self._table),
                *self.notes,
            ]
        )

    def _display(self) -> Display:
        return Display(
            "Eigenpairs",
            f"{len(self)} of {self.layout.size:,}"
            + ("" if self.converged else ", not all within the tolerance"),
            facts(
                found=self.how,
                products=f"{self.products:,}" if self.products else None,
                notes="\n".join(self.notes),
            ),
            self._table,
            ("e.values", "e.vectors", "e.vector(0)", "e.plot()"),
        )

    @property
    def _table(self) -> Table:
        numbers = zip(self.values.tolist(), self.residuals.tolist(), strict=True)
        rows = ((f"{k}", f"{v:.6g}", f"{r:.1e}") for k, (v, r) in enumerate(numbers))
        return Table(("", "eigenvalue", "residual"), tuple(rows), ())
