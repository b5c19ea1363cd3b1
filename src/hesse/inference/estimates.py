"""A table of estimates with their errors, by parameter and entry."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from hesse.display import Display, Displayed, Table, counted, facts
from hesse.display.text import table_lines
from hesse.errors import HesseKeyError, nearest
from hesse.inference.definite import entry
from hesse.layout import Layout
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.frames import estimates_frame, labels
from hesse.words.shapes import Float

if TYPE_CHECKING:
    import pandas


class Estimates(NamedTuple):
    """Those of one parameter, arrays of its shape."""

    estimates: np.ndarray
    errors: np.ndarray
    statistics: np.ndarray
    p_values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@final
@dataclass(frozen=True, eq=False, repr=False)
class StandardErrors(Displayed, Mapping[str, Estimates]):
    """Estimates with their standard errors, made by `hesse.standard_errors`. As a mapping it has
    what belongs to a parameter, in its shape, by its name; ``print(...)`` shows all of it.

    Attributes:
        layout: the parameters, in order.
        estimates: θ̂, flat, in layout order, as all that follow.
        errors: the standard errors, the roots of the covariance's diagonal.
        statistics: estimate / error.
        p_values: of the hypothesis that the parameter is 0, two-sided.
        lower, upper: the ends of the intervals.
        covariance: the whole matrix, its blocks by name.
        kind: ``"hessian"`` or ``"sandwich"``.
        level: of the intervals.
        samples: how many there are.
        degrees: of Student's t; ``None`` where the normal distribution stands for it.
        dispersion: σ² of squares; ``None`` for other likelihoods.
        decrement: by how many standard errors a Newton step would move the estimates at most.
        notes: what is taken for granted.
    """

    layout: Layout
    estimates: Float[np.ndarray, " P"]
    errors: Float[np.ndarray, " P"]
    statistics: Float[np.ndarray, " P"]
    p_values: Float[np.ndarray, " P"]
    lower: Float[np.ndarray, " P"]
    upper: Float[np.ndarray, " P"]
    covariance: BlockHessian
    kind: str
    level: float
    samples: int
    degrees: int | None
    dispersion: float | None
    decrement: float
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """What there is of every entry, by its heading."""
        return {
            "estimate": self.estimates,
            "std. error": self.errors,
            "z" if self.degrees is None else "t": self.statistics,
            "p": self.p_values,
            f"{100 * self.level:g}% from": self.lower,
            "to": self.upper,
        }

    def __getitem__(self, name: str) -> Estimates:
        if name not in self.layout.offsets:
            raise HesseKeyError(
                f"no parameter is named {name!r}; the nearest known:"
                f" {nearest(str(name), list(self.layout.names))}"
            )
        part, shape = self.layout.slice(name), self.layout.shape(name)
        return Estimates(*(values[part].reshape(shape) for values in self.columns.values()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.names)

    def __len__(self) -> int:
        return len(self.layout.names)

    def to_pandas(self) -> "pandas.DataFrame":
        """The table, a row for each entry by parameter and index. Needs pandas (``pip install
        "hesse[frames]"``).

        Raises:
            HesseImportError: pandas is not installed.
        """
        return estimates_frame(self.layout, self.columns)

    def __str__(self) -> str:
        return "\n".join([*table_lines(self._table()), *self.notes])

    def _table(self) -> Table:
        rows = zip(*labels(self.layout), *self.columns.values(), strict=True)
        return Table(
            ("parameter", *self.columns),
            tuple((entry(name, index), *(f"{v:.4g}" for v in row)) for name, index, *row in rows),
            left=tuple(range(len(self.columns) + 1)),
        )

    def _display(self) -> Display:
        law = "normal" if self.degrees is None else f"Student's t, {self.degrees:,} degrees"
        how = "the inverse Hessian" if self.kind == "hessian" else "the sandwich of the Hessian"
        return Display(
            "StandardErrors",
            f"{counted(self.layout.size, 'parameter')}, {counted(self.samples, 'sample')}, from"
            f" {how}",
            facts(
                law=law,
                variance=None if self.dispersion is None else f"{self.dispersion:.4g}",
                at_the_minimum=f"to {self.decrement:.1g} standard errors",
                notes="\n".join(self.notes),
            ),
            self._table(),
            next=("e['name'].errors", "e.to_pandas()", "e.covariance"),
        )
